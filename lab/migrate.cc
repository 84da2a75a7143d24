// SPDX-License-Identifier: GPL-2.0-or-later
#include "migrate.h"

#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <future>
#include <memory>
#include <random>

#include "error.h"
#include "interrupt.h"
#include "plan.h"

namespace godwit::lab {
namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// 64 random bits, not zero, as 16 hex digits.
std::string random_id() {
  std::random_device random;
  std::uint64_t id = 0;
  while (id == 0) id = static_cast<std::uint64_t>(random()) << 32 | random();
  char text[17];
  snprintf(text, sizeof(text), "%016" PRIx64, id);
  return text;
}

// What CRIU wrote last, for the message of a failed step.
std::string tail_of_log(const Lab& lab, const std::string& guest, const std::string& log) {
  return lab.shell(guest, "grep -E 'Error|Warn.*godwit|godwit' " + log + " | tail -n 8").out +
         "log: " + guest + ":" + log;
}

class Move {
 public:
  Move(const Lab& lab, const std::string& name, const std::string& to,
       const std::function<void(const std::string&)>& progress)
      : lab_(lab), containers_(lab), c_(containers_.find(name)), to_(to), progress_(progress),
        folder_(Containers::folder(c_)), move_id_(random_id()) {
    report_.container = name;
    report_.from = c_.guest;
    report_.to = to;
  }

  MoveReport run() {
    step("preflight", [this] { preflight(); });
    try {
      step("prepare", [this] { prepare(); });
      if (interrupted()) throw Error("migrate " + c_.name + ": interrupted; it goes on at " + c_.guest);
      stop_ = Clock::now();
      step("checkpoint", [this] { checkpoint(); });
    } catch (...) {
      drop_destination();
      throw;
    }
    try {
      step("copy", [this] { copy(); });
      step("restore", [this] { restore(); });
      step("hand over", [this] { hand_over(); });
      step("go", [this] { go(); });
    } catch (const Error& error) {
      if (gone_) {
        throw Error(std::string(error.what()) + "\nIts connections were resumed at " + to_ +
                    " already: it is not taken back. What is left at " + c_.guest + " is in " + folder_);
      }
      roll_back(error.what());
      throw Error(std::string(error.what()) + "\nIt goes on at " + c_.guest + ".");
    }
    report_.stop_ms = ms_since(stop_);
    step("commit", [this] { commit(); });
    return report_;
  }

 private:
  template <typename F>
  void step(const std::string& name, F&& work) {
    progress_(name + " …");
    const auto start = Clock::now();
    try {
      work();
    } catch (const Error& error) {
      throw Error("migrate " + c_.name + ", step " + name + ": " + error.what());
    }
    const double ms = ms_since(start);
    report_.steps_ms.emplace_back(name, ms);
    progress_(name + ": " + std::to_string(static_cast<long>(ms)) + " ms");
  }

  // What can be refused while nothing has been touched.
  void preflight() {
    if (guest_index(to_) == 0) throw Error("no guest " + to_);
    if (to_ == c_.guest) throw Error("it is on " + to_ + " already");
    const std::string probe =
        "uname -r; sha256sum < /usr/lib/x86_64-linux-gnu/libibverbs/libgodwit-rdmav34.so; "
        "sha256sum < /usr/lib/criu/godwit_plugin.so; sha256sum < /sys/module/godwit/notes/.note.gnu.build-id; "
        "ip -o link show gw0 | grep -o 'mtu [0-9]*'";
    auto elsewhere = std::async(std::launch::async, [this, &probe] {
      return lab_.must(to_, "test ! -e " + folder_ + " || { echo " + folder_ +
                                " is in the way; exit 1; }\n" + probe +
                                "\nawk '/MemAvailable/ {print $2}' /proc/meminfo");
    });
    const std::string here = lab_.must(
        c_.guest, "runc state " + c_.name + " | grep -q '\"status\": \"running\"' || "
                  "{ echo it is not running on " + c_.guest + "; exit 1; }\n" + probe +
                  "\nfor p in $(runc ps -f json " + c_.name + " | tr '[],' '   '); do cat /proc/$p/status 2> /dev/null; done | "
                  "awk '/VmRSS/ {n += $2} END {print n + 0}'");
    const auto [versions, need_kib] = split_last_number(here);
    const auto [versions_there, free_kib] = split_last_number(elsewhere.get());
    if (versions != versions_there) {
      throw Error("the guests differ:\n" + versions + "and\n" + versions_there);
    }
    if (free_kib < 3 * need_kib + 65536) {
      throw Error(to_ + " has " + std::to_string(free_kib / 1024) + " MiB free, too little for " +
                  std::to_string(need_kib / 1024) + " MiB of memory, its image, and the copy");
    }
  }

  static std::pair<std::string, long> split_last_number(const std::string& text) {
    const std::size_t end = text.find_last_not_of('\n');
    const std::size_t at = text.rfind('\n', end) + 1;
    return {text.substr(0, at), std::stol(text.substr(at))};
  }

  // The destination's address, muted, so that nobody notices it; and whether its NIC can take what
  // the application has. Its QPNs are kept free from here on.
  void prepare() {
    const std::string plan = folder_ + "/plan";
    auto network = std::async(std::launch::async, [this, &plan] {
      lab_.must(to_, "mkdir -p " + folder_ + "/upper " + folder_ + "/image " + plan +
                         " /run/godwit; mount-share");
      containers_.make_network(c_, to_, true);
    });
    lab_.must(c_.guest, "mkdir -p " + plan + " && godwit-cr plan --move " + move_id_ + " --pid " +
                            Containers::pid_of(c_.name) + " " + plan);
    const std::string image = lab_.get(c_.guest, plan + "/godwit.img");
    lab_.must(c_.guest, "rm -r " + plan);
    network.get();
    lab_.put(to_, plan + "/godwit.img", image);
    // The kernel enters the address into the NIC's GID table a little later.
    lab_.must(to_, "for i in 1 2 3 4 5 6 7 8 9 10; do\n"
                   "  why=$(godwit-cr check " + plan + " --reserve 600 2>&1) && { rm -r " + plan +
                       "; exit 0; }\n"
                   "  case $why in *'is not on this NIC'*) sleep 0.2 ;; *) break ;; esac\n"
                   "done\necho \"$why\"\nexit 1");
  }

  // A piece of shell, in either guest.
  [[nodiscard]] std::string runc_restore() const {
    return "cd " + folder_ + " && runc restore -d --tcp-established --image-path image --work-path image " +
           c_.name + " < /dev/null > runc.log 2>&1 || { cat runc.log; exit 1; }";
  }

  [[nodiscard]] std::string gate_path() const { return "/run/godwit/" + c_.name + ".gate"; }

  void drop_destination() {
    (void)lab_.shell(to_, Containers::wipe(c_) + " " + gate_path() + "; godwit-cr drop --move " + move_id_);
  }

  void checkpoint() {
    const auto result = lab_.shell(
        c_.guest, "cd " + folder_ + " && rm -rf image && mkdir image && GODWIT_MOVE=" + move_id_ +
                  " runc checkpoint --tcp-established --image-path image --work-path image " +
                  c_.name + " 2>&1", 300);
    if (result.code != 0) {
      const bool alive = containers_.running(c_);
      throw Error("runc checkpoint failed; the application " + std::string(alive ? "goes on" : "has ended") +
                  " at " + c_.guest + "\n" + result.out + tail_of_log(lab_, c_.guest, folder_ + "/image/dump.log"));
    }
    verbs_ = lab_.shell(c_.guest, "test -e " + folder_ + "/image/godwit.img").code == 0;
  }

  void copy() {
    const std::string tar = "/mnt/share/" + c_.name + ".tar";
    const std::string options = " --sparse --xattrs --xattrs-include='trusted.overlay.*' ";
    const std::string size = lab_.must(
        c_.guest, "set -e; mount-share; cd " + folder_ + "; tar" + options + "-cf " + tar +
                      " config.json image upper; stat -c %s " + tar, 300);
    report_.image_bytes = std::stoull(size);
    lab_.must(to_, "set -e; cd " + folder_ + "; tar" + options + "-xf " + tar + "; rm " + tar, 300);
  }

  // Until everything at the destination is programmed, and nothing of it has been on the wire.
  void restore() {
    containers_.make_root(c_, to_);
    gate_ = lab_.start(to_, {"socat", "-", "UNIX-LISTEN:" + gate_path() + ",unlink-early"});
    lab_.must(to_, "for i in $(seq 100); do [ -S " + gate_path() + " ] && exit 0; sleep 0.05; done; exit 1");
    const auto begun = Clock::now();
    nlohmann::json env = {{"env",
                           {{"GODWIT_GATE", gate_path()},
                            {"GODWIT_ATTEMPT", std::to_string(attempt_)},
                            {"GODWIT_GATE_TIMEOUT", "120"}}}};
    runc_ = lab_.start(to_, {"bash", "-c", runc_restore()}, env);
    if (!verbs_) {
      const ExecResult result = runc_->wait(180);
      if (result.code != 0) fail_restore(result.out);
      return;
    }
    // Either the gate speaks, or runc fails.
    for (std::string ready; ready.empty();) {
      Frame frame;
      if (runc_->next(&frame, 0.01) && runc_->ended()) fail_restore(runc_->wait(1).out);
      try {
        ready = gate_->wait_for_line([](const std::string& l) { return l.rfind("ready", 0) == 0; }, 0.05);
        report_.qps = static_cast<unsigned>(std::stoul(ready.substr(6)));
      } catch (const Error&) {
        if (gate_->ended()) fail_restore("the gate closed: " + gate_->output());
        if (ms_since(begun) > 180000) fail_restore("not ready after 180 s");
      }
    }
  }

  // The point of no return.
  void go() {
    if (!verbs_) return;
    gone_ = true;
    gate_->write("go\n");
    const std::string said = gate_->wait_for_line(
        [](const std::string& l) { return l.rfind("resumed", 0) == 0 || l.rfind("error", 0) == 0; }, 60);
    if (said.rfind("resumed", 0) != 0) fail_restore(said);
    const ExecResult result = runc_->wait(120);
    if (result.code != 0) fail_restore(result.out);
    gate_.reset();
    runc_.reset();
  }

  [[noreturn]] void fail_restore(const std::string& why) {
    throw Error(why + "\n" + tail_of_log(lab_, to_, folder_ + "/image/restore.log"));
  }

  // Make before break: the address speaks here before it is gone there. Nobody waits for the
  // announcements to end.
  void hand_over() {
    handed_over_ = true;
    lab_.must(to_, "set -e\nns=" + c_.name + "\n" + Containers::kUnmute +
                       "ip netns exec $ns arping -q -U -c 2 -I eth0 " + container_ip(c_.number) +
                       " > /dev/null 2>&1 < /dev/null &\n" +
                       "ip netns exec $ns ping -6 -q -c 1 -W 1 -I " + container_ip6(c_.number) +
                       " ff02::1%eth0 > /dev/null 2>&1 < /dev/null &\n");
    lab_.must(c_.guest, "ip -n " + c_.name + " link del eth0");
  }

  void commit() {
    containers_.relocate(c_.name, to_);
    bool acknowledged = false;
    if (verbs_) {
      acknowledged = lab_.shell(to_, "godwit-cr status --wait 10 --pid " + Containers::pid_of(c_.name)).code == 0;
    }
    auto there = std::async(std::launch::async, [this] {
      lab_.must(to_, "rm -rf " + folder_ + "/image " + gate_path() + "; godwit-cr drop --move " + move_id_);
    });
    // Acknowledged everywhere: nobody will ask at home again. Else its tombstones stay for their time.
    lab_.must(c_.guest, std::string("godwit-cr ") + (acknowledged ? "drop" : "commit") + " --move " + move_id_ +
                            "; " + Containers::wipe(c_));
    there.get();
  }

  // The checkpoint is complete and its processes are gone: home's own copy goes on there.
  void roll_back(const std::string& why) {
    progress_("roll back to " + c_.guest);
    gate_.reset();
    runc_.reset();
    drop_destination();
    try {
      if (handed_over_) containers_.make_network(c_, c_.guest, false);
      // Muted, while CRIU's lock of the dump is off and the sockets are not there yet.
      lab_.must(c_.guest,
                "ns=" + c_.name + "\n" + Containers::kMute +
                    "for t in iptables ip6tables; do for h in INPUT OUTPUT; do ip netns exec $ns $t -D $h -j CRIU; "
                    "done; ip netns exec $ns $t -F CRIU; ip netns exec $ns $t -X CRIU; done 2>/dev/null\n"
                    "export GODWIT_ATTEMPT=" + std::to_string(attempt_ + 1) + "\n" + runc_restore() +
                    "\n" + Containers::kUnmute, 180);
    } catch (const Error& error) {
      throw Error(why + "\nand it could not be restored at " + c_.guest + ": " + error.what());
    }
  }

  const Lab& lab_;
  Containers containers_;
  Container c_;
  std::string to_;
  std::function<void(const std::string&)> progress_;
  std::string folder_;
  std::string move_id_;
  unsigned attempt_ = 1;
  bool verbs_ = false;  // the application has verbs objects
  std::unique_ptr<Process> gate_;
  std::unique_ptr<Process> runc_;
  bool handed_over_ = false;
  bool gone_ = false;
  Clock::time_point stop_;
  MoveReport report_;
};

}  // namespace

MoveReport migrate(const Lab& lab, const std::string& container, const std::string& to,
                   const std::function<void(const std::string&)>& progress) {
  return Move(lab, container, to, progress).run();
}

nlohmann::json to_json(const MoveReport& report) {
  nlohmann::json steps = nlohmann::json::object();
  for (const auto& [name, ms] : report.steps_ms) steps[name] = ms;
  return {{"container", report.container}, {"from", report.from},       {"to", report.to},
          {"steps_ms", steps},             {"stop_ms", report.stop_ms}, {"qps", report.qps},
          {"image_bytes", report.image_bytes}};
}

}  // namespace godwit::lab
