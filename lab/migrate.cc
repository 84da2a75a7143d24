// SPDX-License-Identifier: GPL-2.0-or-later
#include "migrate.h"

#include <chrono>
#include <future>
#include <sstream>

#include "error.h"
#include "plan.h"

namespace godwit::lab {
namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
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
        folder_(Containers::folder(c_)) {
    report_.container = name;
    report_.from = c_.guest;
    report_.to = to;
  }

  MoveReport run() {
    step("preflight", [this] { preflight(); });
    // The destination's network is made while the dump runs: muted, so that nothing notices.
    auto prepared = std::async(std::launch::async, [this] { prepare(); });
    stop_ = Clock::now();
    try {
      step("checkpoint", [this] { checkpoint(); });
    } catch (...) {
      prepared.wait();
      drop_destination();
      throw;
    }
    step("copy", [this] { copy(); });
    try {
      step("prepare", [&prepared] { prepared.get(); });
      step("restore", [this] { restore(); });
    } catch (const Error& error) {
      roll_back(error.what());
      throw;
    }
    report_.stop_ms = ms_since(stop_);
    step("commit", [this] { commit(); });
    return report_;
  }

 private:
  template <typename F>
  void step(const std::string& name, F&& work) {
    progress_(name);
    const auto start = Clock::now();
    try {
      work();
    } catch (const Error& error) {
      throw Error("migrate " + c_.name + ", step " + name + ": " + error.what());
    }
    report_.steps_ms.emplace_back(name, ms_since(start));
  }

  void preflight() {
    if (guest_index(to_) == 0) throw Error("no guest " + to_);
    if (to_ == c_.guest) throw Error("it is on " + to_ + " already");
    if (!containers_.running(c_)) throw Error("it is not running on " + c_.guest + "; godwit container logs " + c_.name);
    const std::string probe =
        "uname -r; sha256sum < /usr/lib/x86_64-linux-gnu/libibverbs/libgodwit-rdmav34.so; "
        "sha256sum < /usr/lib/criu/godwit_plugin.so; cat /sys/module/godwit/srcversion; "
        "ip -o link show gw0 | grep -o 'mtu [0-9]*'";
    const std::string here = lab_.must(c_.guest, probe);
    const std::string there = lab_.must(to_, probe);
    if (here != there) throw Error("the guests differ:\n" + here + "and\n" + there);
    lab_.must(to_, "test ! -e " + folder_ + " || { echo " + folder_ + " is in the way; exit 1; }");
    const long need_kib = std::stol(
        lab_.must(c_.guest, "awk '/VmRSS/ {n += $2} END {print n + 0}' $(for p in $(runc ps -f json " +
                                c_.name + " | tr -d '[],'); do echo /proc/$p/status; done)"));
    const long free_kib = std::stol(lab_.must(to_, "awk '/MemAvailable/ {print $2}' /proc/meminfo"));
    if (free_kib < 3 * need_kib + 65536) {
      throw Error(to_ + " has " + std::to_string(free_kib / 1024) + " MiB free, too little for " +
                  std::to_string(need_kib / 1024) + " MiB of memory, its image, and the copy");
    }
  }

  void prepare() {
    lab_.must(to_, "mkdir -p " + folder_ + "/upper " + folder_ + "/image /run/godwit; mount-share");
    containers_.make_network(c_, to_, true);
  }

  void drop_destination() {
    (void)lab_.shell(to_, "runc delete --force " + c_.name + " 2>/dev/null; ip netns del " + c_.name +
                              " 2>/dev/null; umount " + folder_ + "/root 2>/dev/null; rm -rf " + folder_);
  }

  void checkpoint() {
    const auto result = lab_.shell(
        c_.guest, "cd " + folder_ + " && rm -rf image && mkdir image && runc checkpoint --tcp-established "
                  "--image-path image --work-path image " + c_.name + " 2>&1", 300);
    if (result.code != 0) {
      throw Error("runc checkpoint failed; the application goes on at " + c_.guest + "\n" +
                  result.out + tail_of_log(lab_, c_.guest, folder_ + "/image/dump.log"));
    }
    const std::string id = lab_.shell(c_.guest, "test -e " + folder_ + "/image/godwit.img && godwit-cr move-id " +
                                                    folder_ + "/image").out;
    move_id_ = id.substr(0, id.find('\n'));
  }

  void copy() {
    const std::string tar = "/mnt/share/" + c_.name + ".tar";
    const std::string size = lab_.must(
        c_.guest, "set -e; mount-share; cd " + folder_ + "; tar --sparse -cf " + tar +
                      " config.json image upper; stat -c %s " + tar, 300);
    report_.image_bytes = std::stoull(size);
    lab_.must(to_, "set -e; mkdir -p " + folder_ + "; mount-share; cd " + folder_ + "; tar --sparse -xf " + tar +
                       "; rm " + tar, 300);
  }

  void restore() {
    containers_.make_root(c_, to_);
    const std::string gate_path = "/run/godwit/" + c_.name + ".gate";
    // The plugin says when all is programmed, and waits for the address to be here.
    const auto gate = lab_.start(to_, {"socat", "-", "UNIX-LISTEN:" + gate_path + ",unlink-early"});
    lab_.must(to_, "for i in $(seq 100); do [ -S " + gate_path + " ] && exit 0; sleep 0.05; done; exit 1");
    const auto begun = Clock::now();
    nlohmann::json env = {{"env",
                           {{"GODWIT_GATE", gate_path},
                            {"GODWIT_ATTEMPT", std::to_string(attempt_)},
                            {"GODWIT_GATE_TIMEOUT", "120"}}}};
    const auto runc = lab_.start(
        to_,
        {"bash", "-c",
         "cd " + folder_ + " && runc restore -d --tcp-established --image-path image --work-path image " +
             c_.name + " < /dev/null > runc.log 2>&1 || { cat runc.log; exit 1; }"},
        env);
    const bool verbs = !move_id_.empty();
    if (verbs) {
      // Either the gate speaks, or runc fails.
      for (;;) {
        Frame frame;
        if (runc->next(&frame, 0.02) && runc->ended()) {
          fail_restore(runc->wait(1).out);
        }
        try {
          ready_ = gate->wait_for_line([](const std::string& l) { return l.rfind("ready", 0) == 0; }, 0.1);
          break;
        } catch (const Error&) {
          if (gate->ended()) fail_restore("the gate closed: " + gate->output());
          if (ms_since(begun) > 180000) fail_restore("not ready after 180 s");
        }
      }
      report_.qps = static_cast<unsigned>(std::stoul(ready_.substr(6)));
    } else {
      const ExecResult result = runc->wait(180);
      if (result.code != 0) fail_restore(result.out);
    }
    report_.steps_ms.emplace_back("restore until ready", ms_since(begun));
    const auto handover = Clock::now();
    hand_over();
    report_.steps_ms.emplace_back("hand over", ms_since(handover));
    if (!verbs) return;
    const auto go = Clock::now();
    gate->write("go\n");
    const std::string said = gate->wait_for_line(
        [](const std::string& l) { return l.rfind("resumed", 0) == 0 || l.rfind("error", 0) == 0; }, 60);
    if (said.rfind("resumed", 0) != 0) fail_restore(said);
    report_.steps_ms.emplace_back("go", ms_since(go));
    const ExecResult result = runc->wait(120);
    if (result.code != 0) fail_restore(result.out);
  }

  [[noreturn]] void fail_restore(const std::string& why) {
    throw Error(why + "\n" + tail_of_log(lab_, to_, folder_ + "/image/restore.log"));
  }

  // Make before break: the address speaks here before it is gone there.
  void hand_over() {
    lab_.must(to_, "set -e\nns=" + c_.name + "\ntc -n $ns qdisc del dev eth0 clsact\n" +
                       "ip netns exec $ns arping -q -U -c 1 -I eth0 " + container_ip(c_.number) + " || true\n" +
                       "ip netns exec $ns ping -6 -q -c 1 -W 1 -I " + container_ip6(c_.number) +
                       " ff02::1%eth0 > /dev/null 2>&1 || true\n");
    lab_.must(c_.guest, "ip -n " + c_.name + " link del eth0");
    handed_over_ = true;
  }

  void commit() {
    const std::string home = c_.guest;
    containers_.relocate(c_.name, to_);
    Container there = c_;
    there.guest = to_;
    if (!move_id_.empty()) {
      const int pid = containers_.pid(there);
      const auto waited = lab_.shell(to_, "godwit-cr status --pid " + std::to_string(pid) + " --wait 10", 30);
      // Acknowledged everywhere: nobody will ask at home again. Else they stay for their time.
      const char* verb = waited.code == 0 ? "drop" : "commit";
      lab_.must(home, std::string("godwit-cr ") + verb + " --move " + move_id_);
    }
    lab_.must(home, "runc delete --force " + c_.name + " 2>/dev/null; ip netns del " + c_.name +
                        " 2>/dev/null; umount " + folder_ + "/root; rm -rf " + folder_);
    lab_.must(to_, "rm -rf " + folder_ + "/image");
  }

  // The checkpoint is complete and its processes are gone: home's own copy goes on there.
  void roll_back(const std::string& why) {
    progress_("roll back to " + c_.guest);
    drop_destination();
    try {
      if (handed_over_) containers_.make_network(c_, c_.guest, false);
      std::string script = "cd " + folder_ + "\nns=" + c_.name +
                           "\nfor t in iptables ip6tables; do for h in INPUT OUTPUT; do ip netns exec $ns $t -D $h -j CRIU; done; "
                           "ip netns exec $ns $t -F CRIU; ip netns exec $ns $t -X CRIU; done 2>/dev/null\n"
                           "GODWIT_ATTEMPT=" + std::to_string(attempt_ + 1) +
                           " runc restore -d --tcp-established --image-path image --work-path image " + c_.name +
                           " < /dev/null > runc.log 2>&1 || { cat runc.log; exit 1; }\n";
      lab_.must(c_.guest, script, 180);
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
  std::string ready_;
  unsigned attempt_ = 1;
  bool handed_over_ = false;
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
