// SPDX-License-Identifier: GPL-2.0-or-later
#include "migrate.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <future>
#include <memory>
#include <random>
#include <sstream>
#include <thread>

#include "error.h"
#include "interrupt.h"
#include "move_journal.h"
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

MoveState new_state(const Container& c, const std::string& to) {
  MoveState state;
  state.container = c.name;
  state.from = c.guest;
  state.to = to;
  state.move_id = random_id();
  state.step = "preflight";
  return state;
}

// How far a restore has got in a guest.
enum class Restored {
  kNothing,  // nothing of it has been on the wire: it can be thrown away
  kRuns,     // it has been resumed, and lives, or has ended by itself
  kLost,     // it has been resumed, and has died
};

class Move {
 public:
  // Of one that begins, or the rest of one that was cut off: the journal knows.
  Move(const Lab& lab, const Container& container, MoveJournal& journal,
       const MoveProgress& progress, const MoveOptions& options)
      : lab_(lab),
        containers_(lab),
        c_(container),
        progress_(progress),
        options_(options),
        folder_(Containers::folder(c_)),
        journal_(journal),
        move_(journal_.state) {
    c_.guest = move_.from;  // the list may say the destination already
    report_.container = move_.container;
    report_.from = move_.from;
    report_.to = move_.to;
  }

  MoveReport run() {
    try {
      return run_steps();
    } catch (const Error& error) {
      if (lab_.is_up() || journal_.ended()) throw;
      throw Error(std::string(error.what()) +
                  "\nThe daemon of the lab has died. It is started again, and the move ended at " +
                  move_.from + " or at " + move_.to + ", by: godwit migrate --recover " + c_.name);
    }
  }

  void forget() {
    clean_destination();
    if (containers_.guest_is_ready(move_.from))
      (void)lab_.shell(move_.from, "godwit-cr drop --move " + move_.move_id);
    journal_.end();
  }

  RecoverReport recover() {
    const std::string before = move_.step;
    progress_("cut off in step " + before);
    const bool gone = before == "go" || before == "commit";
    if (!gone && !containers_.guest_is_ready(move_.from)) {
      clean_destination();
      journal_.end();
      throw Error(move_.from + " has died, and " + c_.name + " with it" + left_);
    }
    if (before == "preflight" || before == "prepare") {
      clean_destination();
      (void)lab_.shell(move_.from, "rm -rf " + folder_ + "/plan");
    } else if (before == "checkpoint") {
      (void)job_wait(move_.from);
      if (goes_on_at_home() || containers_.exit_code(c_)) {
        clean_destination();
      } else {
        note_verbs();
        roll_back();
      }
    } else if (before == "roll-back") {
      switch (settle(move_.from)) {
        case Restored::kNothing:
          roll_back();
          break;
        case Restored::kRuns:
          (void)lab_.shell(move_.from, "rm -rf --one-file-system " + folder_ + "/image");
          clean_destination();
          break;
        case Restored::kLost:
          clean_destination();
          journal_.end();
          throw_lost("", move_.from);
      }
    } else if (before == "commit") {
      commit();
      journal_.end();
      return {c_.name, move_.to, true};
    } else if (before == "go") {
      const Restored found = settle(move_.to);
      if (found == Restored::kNothing) {
        roll_back();
      } else {
        commit();
        journal_.end();
        if (found == Restored::kLost) throw_lost("", move_.to);
        return {c_.name, move_.to, true};
      }
    } else {
      // Its connection at the gate is gone: the restore there ends by itself, and sends nothing.
      roll_back();
    }
    journal_.end();
    return {c_.name, move_.from, false};
  }

 private:
  MoveReport run_steps() {
    try {
      step("preflight", [this] { preflight(); });
    } catch (...) {
      journal_.end();
      throw;
    }
    try {
      step("prepare", [this] { prepare(); });
      if (interrupted()) throw Error("migrate " + c_.name + ": interrupted");
      stop_ = Clock::now();
      step("checkpoint", [this] { checkpoint(); });
    } catch (const Error& error) {
      give_up_before_copy(error.what());
    }
    try {
      step("copy", [this] { copy(); });
      step("restore", [this] { restore(); });
      step("hand-over", [this] { hand_over(); });
    } catch (const Error& error) {
      give_up(error.what());
    }
    try {
      step("go", [this] { go(); });
    } catch (const Error& error) {
      settle_go(error.what());
    }
    report_.stop_ms = ms_since(stop_);
    try {
      step("commit", [this] { commit(); });
    } catch (const Error& error) {
      if (!lab_.is_up()) throw;
      throw Error(std::string(error.what()) + "\nIt runs at " + move_.to +
                  ". What is left of the move is ended by: godwit migrate --recover " + c_.name);
    }
    journal_.end();
    return report_;
  }

  template <typename F>
  void step(const std::string& name, F&& work) {
    move_.step = name;
    journal_.save();
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

  // ---------------------------------------------------------------- failures that tests want

  [[nodiscard]] const FaultPoint* fault(const std::string& how = "") const {
    for (const FaultPoint& f : options_.faults) {
      if (f.step == move_.step && (how.empty() || f.how == how)) return &f;
    }
    return nullptr;
  }

  void do_fault(const std::string& how) const {
    if (how == "guest") {
      (void)lab_.request({{"op", "kill"}, {"guest", move_.to}});
      while (containers_.guest_is_ready(move_.to)) usleep(1'000);
    } else if (how == "daemon") {
      ::kill(lab_.status().at("pid").get<pid_t>(), SIGKILL);
      while (lab_.is_up()) usleep(1'000);
    } else if (how == "command" || how == "kill") {
      ::kill(getpid(), SIGKILL);
    } else if (how == "hang") {
      std::this_thread::sleep_for(std::chrono::duration<double>(options_.step_seconds));
      throw Error("not done within " + std::to_string(static_cast<int>(options_.step_seconds)) +
                  " s");
    } else {
      throw Error("it was to fail here (--fail-at)");
    }
  }

  // In the middle of a step that this command does itself.
  void fail_here_if_wanted() const {
    if (const FaultPoint* f = fault()) do_fault(f->how);
  }

  // In a step that CRIU does: looks for the mark in its log and kills or stops CRIU, or says
  // "seen".
  void watch_criu(const std::string& guest, const std::string& log) {
    const FaultPoint* f = fault();
    if (f == nullptr || f->how == "error" || f->how == "full") return;
    const std::string act = f->how == "kill"   ? "kill -9 $criu"
                            : f->how == "hang" ? "kill -STOP $criu"
                                               : "";
    // CRIU is runc's child, which puts it into the container's cgroup for a restore; those that it
    // restores have its name for a while.
    const std::string find =
        "until [ -n \"${criu:-}\" ]; do for p in $(cat {$job," + Containers::cgroup(c_) +
        "}/cgroup.procs 2> /dev/null); do\n"
        "  { read name < /proc/$p/comm; read _ _ _ parent _ < /proc/$p/stat; read above < "
        "/proc/$parent/comm; } 2> /dev/null\n"
        "  [ \"$name\" = criu ] && [ \"$above\" = runc ] && { criu=$p; break; }\ndone; done\n";
    watcher_ = lab_.start(
        guest,
        {"bash", "-c",
         "job=$(godwit-job cgroup " + c_.name + ") log=" + folder_ + "/image/" + log +
             "\nuntil [ -e $log ]; do sleep 0.01; done\n" + (act.empty() ? "" : find) +
             "echo armed\ngrep -q -m1 -F \"$1\" < <(tail -n +1 -F $log 2> /dev/null) || exit 1\n" +
             act + "\necho seen\n",
         "watch", f->mark});
  }

  bool watcher_says(const std::string& word, double seconds) {
    try {
      watcher_->wait_for_line([&word](const std::string& line) { return line == word; }, seconds);
      return true;
    } catch (const LabGone&) {
      throw;
    } catch (const Error&) {
      return false;
    }
  }

  void poll_watcher() {
    if (!watcher_ || !watcher_says("seen", 0.01)) return;
    watcher_.reset();
    for (const char* how : {"command", "daemon", "guest"}) {
      if (fault()->how == how) do_fault(how);
    }
  }

  // A test that asked for a failure wants to know that there was none. What has been killed or
  // stopped may have ended its step before the watcher said so.
  void end_watch() {
    for (int i = 0; i < 10 && watcher_; ++i) {
      usleep(20'000);
      poll_watcher();
    }
    if (watcher_) report_.warning += "--fail-at " + move_.step + ": its mark did not come; ";
    watcher_.reset();
  }

  // ---------------------------------------------------------------- jobs

  std::unique_ptr<Process> job(const std::string& guest, const std::string& script,
                               const nlohmann::json& env = nlohmann::json::object()) const {
    return lab_.start(guest, {"godwit-job", "run", c_.name, "bash", "-c", script}, {{"env", env}});
  }

  // Until it ends. Throws after the time that a step has.
  ExecResult job_end(Process& job) {
    const auto begun = Clock::now();
    std::string output;
    while (!job.ended()) {
      Frame frame;
      if (job.next(&frame, 0.05) && frame.type == FrameType::kStdout) output += frame.payload;
      poll_watcher();
      check_time(begun);
    }
    end_watch();
    ExecResult result = job.wait(1);
    result.out = output;
    return result;
  }

  void check_time(Clock::time_point begun) const {
    if (ms_since(begun) > options_.step_seconds * 1000) {
      throw Error("not done within " + std::to_string(static_cast<int>(options_.step_seconds)) +
                  " s");
    }
  }

  // What became of one whose starter is gone; one that does not end is killed.
  int job_wait(const std::string& guest) const {
    try {
      return lab_.exec(guest, {"godwit-job", "wait", c_.name}, options_.step_seconds).code;
    } catch (const Error&) {
      return -1;
    }
  }

  // What CRIU wrote last, for the message of a failed step; all of it is kept beside the lab's
  // logs.
  [[nodiscard]] std::string tail_of_log(const std::string& guest, const std::string& log) const {
    const std::string file = folder_ + "/image/" + log;
    const std::string kept = lab_.folder() + "/log/" + c_.name + "." + log;
    try {
      std::ofstream(kept, std::ios::binary) << lab_.get(guest, file);
      return lab_.shell(guest, "grep -E 'Error|Warn  .godwit|[)] godwit:' " + file + " | tail -n 8")
                 .out +
             "log: " + kept;
    } catch (const Error& error) {
      return error.what();
    }
  }

  // ---------------------------------------------------------------- the steps

  // What can be refused while nothing has been touched.
  void preflight() {
    if (guest_index(move_.to) == 0) throw Error("no guest " + move_.to);
    if (move_.to == c_.guest) throw Error("it is on " + move_.to + " already");
    fail_here_if_wanted();
    const std::string probe =
        "uname -r; sha256sum < /usr/lib/x86_64-linux-gnu/libibverbs/libgodwit-rdmav34.so; "
        "sha256sum < /usr/lib/criu/godwit_plugin.so; sha256sum < "
        "/sys/module/godwit/notes/.note.gnu.build-id; "
        "head -qc 96 /dev/vda /dev/vdb | sha256sum; "  // the file systems below the container's
                                                       // root
        "ip -o link show gw0 | grep -o 'mtu [0-9]*'";
    auto elsewhere = std::async(std::launch::async, [this, &probe] {
      return lab_.must(move_.to,
                       "test ! -e " + folder_ + " || { echo " + folder_ +
                           " is in the way; exit 1; }\n" + probe +
                           "\nawk '/MemAvailable/ {print $2}' /proc/meminfo\n"
                           "df -k --output=avail /var/lib/containers | tail -n 1",
                       options_.step_seconds);
    });
    const std::string here =
        lab_.must(c_.guest,
                  Containers::runs(c_.name) + " || { echo it is not running on " + c_.guest +
                      "; exit 1; }\n" + probe + "\nfor p in $(runc ps -f json " + c_.name +
                      " | tr '[],' '   '); do cat /proc/$p/status 2> /dev/null; done | "
                      "awk '/VmRSS/ {n += $2} END {print n + 0}'\n"
                      "du -sk " +
                      folder_ + "/upper | cut -f1",
                  options_.step_seconds);
    const auto [here_rest, layer_kib] = split_last_number(here);
    const auto [versions, need_kib] = split_last_number(here_rest);
    const auto [there_rest, disk_kib] = split_last_number(elsewhere.get());
    const auto [versions_there, free_kib] = split_last_number(there_rest);
    if (versions != versions_there) {
      throw Error("the guests differ:\n" + versions + "and\n" + versions_there);
    }
    if (free_kib < 3 * need_kib + 65536) {
      throw Error(move_.to + " has " + std::to_string(free_kib / 1024) +
                  " MiB free, too little for " + std::to_string(need_kib / 1024) +
                  " MiB of memory, its image, and the copy");
    }
    if (disk_kib < need_kib + 2 * layer_kib + 16384) {
      throw Error(move_.to + " has " + std::to_string(disk_kib / 1024) +
                  " MiB of disk free, too little for an image of " +
                  std::to_string(need_kib / 1024) + " MiB and a writable layer of " +
                  std::to_string(layer_kib / 1024) + " MiB");
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
    // CRIU finds out what the kernel can do, for seconds, when it first runs: not while all stand
    // still.
    const std::string warm_up = "[ -e /run/criu.kdat ] || criu check > /dev/null 2>&1 || true\n";
    auto network = std::async(std::launch::async, [this, &plan, &warm_up] {
      lab_.must(move_.to,
                "mkdir -p " + folder_ + "/upper " + folder_ + "/image " + plan +
                    " /run/godwit; mount-share\n" + warm_up,
                options_.step_seconds);
      containers_.make_network(c_, move_.to, true);
    });
    lab_.must(c_.guest,
              warm_up + "mkdir -p " + plan + " && godwit-cr plan --move " + move_.move_id +
                  " --pid " + Containers::pid_of(c_.name) + " " + plan,
              options_.step_seconds);
    const std::string image = lab_.get(c_.guest, plan + "/godwit.img");
    lab_.must(c_.guest, "rm -r " + plan);
    network.get();
    fail_here_if_wanted();
    lab_.put(move_.to, plan + "/godwit.img", image);
    const std::string any_index = options_.any_gid_index ? " --any-gid-index" : "";
    // The kernel enters the address into the NIC's GID table a little later.
    const ExecResult checked =
        lab_.shell(move_.to,
                   "for i in 1 2 3 4 5 6 7 8 9 10; do\n"
                   "  why=$(godwit-cr check " +
                       plan + any_index + " --reserve 600 2>&1) && { rm -r " + plan +
                       "; echo \"$why\"; exit 0; }\n"
                       "  case $why in *'is not on this NIC'*) sleep 0.2 ;; *) break ;; esac\n"
                       "done\necho \"$why\"\nexit 1");
    if (checked.code != 0) throw Error(move_.to + ": " + checked.out);
    if (checked.out.find("warning") != std::string::npos) report_.warning += checked.out;
  }

  void checkpoint() {
    std::string before, criu_fault;
    if (fault("full") != nullptr) before = "mount -t tmpfs -o size=1m full image && ";
    if (fault("error") != nullptr) criu_fault = "CRIU_FAULT=3 ";  // CRIU's own: writing pages fails
    watch_criu(c_.guest, "dump.log");
    const auto dump = job(c_.guest, "cd " + folder_ + " && rm -rf image && mkdir image && " +
                                        before + criu_fault + "GODWIT_MOVE=" + move_.move_id +
                                        " runc checkpoint --tcp-established "
                                        "--image-path image --work-path image " +
                                        c_.name);
    const ExecResult result = job_end(*dump);
    if (result.code != 0) {
      throw Error("runc checkpoint failed\n" + result.out + tail_of_log(c_.guest, "dump.log"));
    }
    note_verbs();
  }

  void note_verbs() {
    move_.verbs = lab_.shell(c_.guest, "test -e " + folder_ + "/image/godwit.img").code == 0;
  }

  [[nodiscard]] std::string archive() const { return "/mnt/share/" + c_.name + ".tar"; }

  // Not compressed: the processor of a guest is slower than the share. Large records: each is a
  // request to the share. The digest is not there for those who mean harm, who could change the
  // guest as well.
  void copy() {
    const std::string tar =
        "tar --sparse --xattrs --xattrs-include='trusted.overlay.*' --blocking-factor=512 ";
    std::string during, after, there;
    if (fault("kill") != nullptr) during = "kill -9 $tar; ";
    if (fault("hang") != nullptr) during = "kill -STOP $tar; ";
    if (fault("cut") != nullptr) after = "truncate -s $(($(stat -c %s $to) / 2)) $to\n";
    if (fault("corrupt") != nullptr) {
      after =
          "printf 'not what was here' | dd of=$to bs=1 seek=$(($(stat -c %s $to) / 2)) "
          "conv=notrunc status=none\n";
    }
    if (fault("full") != nullptr) there = "mount -t tmpfs -o size=1m full " + folder_ + "/image\n";
    std::istringstream sent(lab_.must(c_.guest,
                                      "set -e; mount-share; cd " + folder_ + "; to=" + archive() +
                                          "\n" + tar +
                                          "-cf $to config.json image upper & tar=$!; " + during +
                                          "wait $tar\nstat -c %s $to; md5sum < $to\n" + after,
                                      options_.step_seconds));
    std::string digest;
    sent >> report_.image_bytes >> digest;
    for (const char* how : {"error", "command", "daemon", "guest"}) {
      if (fault(how) != nullptr) do_fault(how);
    }
    lab_.must(move_.to,
              "set -e; cd " + folder_ + "\n" + there + "echo '" + digest + "  " + archive() +
                  "' | md5sum -c --status || { echo the archive is not what was sent; exit 1; }\n" +
                  tar + "-xf " + archive() + "\nrm " + archive(),
              options_.step_seconds);
  }

  // A piece of shell, in either guest.
  [[nodiscard]] std::string runc_restore() const {
    return "cd " + folder_ +
           " && runc restore -d --tcp-established --image-path image --work-path image " + c_.name +
           " < /dev/null > runc.log 2>&1 || { cat runc.log; exit 1; }";
  }

  [[nodiscard]] std::string gate_path() const { return "/run/godwit/" + c_.name + ".gate"; }
  // runc throws its own away if CRIU dies, also when the container runs already.
  [[nodiscard]] std::string runc_state() const { return "/run/runc/" + c_.name + "/state.json"; }
  [[nodiscard]] std::string kept_state() const { return "/run/godwit/" + c_.name + ".state"; }
  // What the move has left at the destination beside the container itself.
  [[nodiscard]] std::string clean_up_after_restore() const {
    return "rm -f " + gate_path() + " " + kept_state() + "; godwit-cr drop --move " + move_.move_id;
  }

  // Until everything at the destination is programmed, and nothing of it has been on the wire.
  void restore() {
    containers_.make_root(c_, move_.to);
    gate_ = lab_.start(move_.to, {"socat", "-", "UNIX-LISTEN:" + gate_path() + ",unlink-early"});
    lab_.must(move_.to, "for i in $(seq 100); do [ -S " + gate_path() +
                            " ] && exit 0; sleep 0.05; done; exit 1");
    const auto begun = Clock::now();
    nlohmann::json env = {
        {"GODWIT_GATE", gate_path()},
        {"GODWIT_ATTEMPT", std::to_string(move_.attempt)},
        {"GODWIT_GATE_TIMEOUT", std::to_string(static_cast<int>(options_.step_seconds))}};
    if (fault("error") != nullptr)
      env["CRIU_FAULT"] = "6";  // CRIU's own: fails when all is restored
    watch_criu(move_.to, "restore.log");
    runc_ = job(move_.to, runc_restore(), env);
    if (!move_.verbs) {
      const ExecResult result = job_end(*runc_);
      if (result.code != 0) fail_restore(result.out);
      return;
    }
    // Either the gate speaks, or runc fails.
    std::string output;
    for (std::string ready; ready.empty();) {
      Frame frame;
      if (runc_->next(&frame, 0.01) && frame.type == FrameType::kStdout) output += frame.payload;
      if (runc_->ended()) fail_restore(output);
      poll_watcher();
      try {
        ready = gate_->wait_for_line([](const std::string& l) { return l.rfind("ready", 0) == 0; },
                                     0.05);
        report_.qps = static_cast<unsigned>(std::stoul(ready.substr(6)));
      } catch (const LabGone&) {
        throw;
      } catch (const Error&) {
        check_time(begun);  // a gate that has closed is told by runc's end
      }
    }
    end_watch();
  }

  [[noreturn]] void fail_restore(const std::string& why) const {
    throw Error(why + "\n" + tail_of_log(move_.to, "restore.log"));
  }

  // Make before break: the address speaks here before it is gone there. Only the announcement
  // leaves: what TCP were to send or to acknowledge now could not be taken back.
  void hand_over() {
    lab_.must(move_.to,
              "set -e\nns=" + c_.name + "\ncp " + runc_state() + " " + kept_state() + "\n" +
                  Containers::kLetArpOut + announce(),
              options_.step_seconds);
    if (const FaultPoint* f = fault(); f != nullptr && f->how != "hang") do_fault(f->how);
    // Without home the move can still go on: then nobody speaks there any more.
    if (containers_.guest_is_ready(c_.guest))
      lab_.must(c_.guest, "ip -n " + c_.name + " link del eth0", options_.step_seconds);
    if (fault("hang") != nullptr) {  // until the gate has waited long enough
      std::this_thread::sleep_for(std::chrono::duration<double>(options_.step_seconds + 1));
    }
    // The last moment in which it is known that nobody was told to go.
    if (!containers_.guest_is_ready(move_.to)) throw Error(move_.to + " is not up any more");
  }

  // Nobody waits for the end of it.
  [[nodiscard]] std::string announce() const {
    return "ip netns exec $ns arping -q -U -c 2 -I eth0 " + container_ip(c_.number) +
           " > /dev/null 2>&1 < /dev/null &\n";
  }

  // The point of no return.
  void go() {
    if (move_.verbs) {
      watch_criu(move_.to, "restore.log");
      if (watcher_) (void)watcher_says("armed", 10);  // what follows is quick
      gate_->write(fault("error") != nullptr ? "abort\n" : "go\n");
      const auto begun = Clock::now();
      for (std::string said; said.empty();) {
        poll_watcher();
        check_time(begun);
        try {
          said = gate_->wait_for_line(
              [](const std::string& l) {
                return l.rfind("resumed", 0) == 0 || l.rfind("error", 0) == 0;
              },
              0.05);
        } catch (const LabGone&) {
          throw;
        } catch (const Error&) {
          if (gate_->ended()) fail_restore("the gate closed");
        }
        if (!said.empty() && said.rfind("resumed", 0) != 0) fail_restore(said);
      }
    } else {
      fail_here_if_wanted();
    }
    unmute(move_.to);
    if (move_.verbs) {
      const ExecResult result = job_end(*runc_);
      if (result.code != 0) fail_restore(result.out);
    }
    gate_.reset();
    runc_.reset();
  }

  void unmute(const std::string& guest) const {
    lab_.must(guest, "ns=" + c_.name + "\n" + Containers::kUnmute, options_.step_seconds);
  }

  void commit() {
    move_.step = "commit";
    journal_.save();
    containers_.relocate(c_.name, move_.to);
    fail_here_if_wanted();
    bool acknowledged = false;
    if (containers_.guest_is_ready(move_.to)) {
      if (move_.verbs) {
        acknowledged =
            lab_.shell(move_.to, "godwit-cr status --wait 10 --pid " + Containers::pid_of(c_.name))
                .code == 0;
      }
      lab_.must(move_.to,
                "godwit-job kill " + c_.name + "; " +
                    Containers::unmount_below(folder_ + "/image") + "; rm -rf --one-file-system " +
                    folder_ + "/image; " + clean_up_after_restore(),
                options_.step_seconds);
    }
    // Acknowledged everywhere: nobody will ask at home again. Else its tombstones stay for their
    // time.
    if (containers_.guest_is_ready(move_.from)) {
      lab_.must(move_.from,
                std::string("godwit-cr ") + (acknowledged ? "drop" : "commit") + " --move " +
                    move_.move_id + "; " + Containers::wipe(c_),
                options_.step_seconds);
    }
    remove_archive();
  }

  // ---------------------------------------------------------------- the ways back

  void remove_archive() const {
    std::error_code ignored;
    std::filesystem::remove(lab_.folder() + "/share/" + c_.name + ".tar", ignored);
  }

  // All of it goes, whatever state it is in. A guest that has died has nothing left.
  void clean_destination() {
    gate_.reset();
    runc_.reset();
    watcher_.reset();
    remove_archive();
    if (!containers_.guest_is_ready(move_.to)) return;
    try {
      lab_.must(move_.to, Containers::wipe(c_) + "\n" + clean_up_after_restore(),
                options_.step_seconds);
    } catch (const Error& error) {
      if (!lab_.is_up()) throw;
      left_ = std::string("\nWhat is left there: ") + error.what();
    }
  }

  // After a checkpoint that did not succeed, or may not have: takes away what a killed CRIU leaves.
  // True: the application was let go, and runs.
  bool goes_on_at_home() const {
    const std::string name = c_.name;
    return lab_.shell(c_.guest,
                      "godwit-job kill " + name +
                          "\n"
                          "freeze=" +
                          Containers::cgroup(c_) +
                          "/cgroup.freeze; [ ! -e $freeze ] || echo 0 > $freeze\n"
                          "umount -l " +
                          folder_ + "/image 2> /dev/null; " +
                          Containers::unmount_below(folder_ + "/image") + "\n" +
                          Containers::runs(name) +
                          " || exit 1\n"
                          "ns=" +
                          name + "\n" + kUnlockNetwork + "godwit-cr mend --pid " +
                          Containers::pid_of(name) +
                          "\n"
                          "rm -rf --one-file-system " +
                          folder_ + "/image; true",
                      options_.step_seconds)
               .code == 0;
  }

  // CRIU's firewall rules of a dump: a second restore would add them again, and take only one set
  // away.
  static constexpr const char* kUnlockNetwork =
      "for t in iptables ip6tables; do for h in INPUT OUTPUT; do ip netns exec $ns $t -D $h -j "
      "CRIU; "
      "done; ip netns exec $ns $t -F CRIU; ip netns exec $ns $t -X CRIU; done 2> /dev/null\n";

  // In preflight, prepare and checkpoint. Here and below: without the daemon nothing can be done,
  // or known, and the journal stays.
  [[noreturn]] void give_up_before_copy(const std::string& why) {
    if (!lab_.is_up()) throw Error(why);
    clean_destination();
    if (!containers_.guest_is_ready(c_.guest)) give_up_all(why);
    (void)lab_.shell(c_.guest, "rm -rf " + folder_ + "/plan");
    if (move_.step != "checkpoint" || goes_on_at_home()) {
      journal_.end();
      throw Error(why + "\nIt goes on at " + c_.guest + "." + left_);
    }
    // The processes are gone: either the dump was complete, or the program has ended by itself.
    if (containers_.exit_code(c_)) {
      journal_.end();
      throw Error(why + "\nThe program has ended by itself at " + c_.guest + "." + left_);
    }
    note_verbs();
    give_up(why);
  }

  [[noreturn]] void give_up_all(const std::string& why) {
    clean_destination();
    journal_.end();
    throw Error(why + "\n" + c_.guest + " has died, and " + c_.name + " with it." + left_);
  }

  // Rolls back, if it can be done.
  [[noreturn]] void give_up(const std::string& why) {
    if (!lab_.is_up()) throw Error(why);
    if (!containers_.guest_is_ready(c_.guest)) give_up_all(why);
    try {
      roll_back();
    } catch (const Error& error) {
      throw Error(why + "\nand it could not be restored at " + c_.guest + ": " + error.what() +
                  left_ +
                  (lab_.is_up() ? "\nTo try again: godwit migrate --recover " + c_.name : ""));
    }
    journal_.end();
    throw Error(why + "\nIt goes on at " + c_.guest + "." + left_);
  }

  [[noreturn]] static void throw_lost(const std::string& why, const std::string& guest) {
    throw Error(why + "\nIts connections were resumed at " + guest + ", and it has died there.");
  }

  // The gate was told to go, and then something went wrong.
  void settle_go(const std::string& why) {
    if (!lab_.is_up()) throw Error(why);
    gate_.reset();
    runc_.reset();
    watcher_.reset();
    switch (settle(move_.to)) {
      case Restored::kNothing:
        give_up(why);
      case Restored::kRuns:
        report_.warning = why;
        return;
      case Restored::kLost:
        commit();
        journal_.end();
        throw_lost(why, move_.to);
    }
  }

  // How far the restore in a guest has got; what can be brought to its end there is. Its job has
  // the time of a step to end by itself.
  Restored settle(const std::string& guest) const {
    if (!containers_.guest_is_ready(guest))
      return guest == move_.to ? Restored::kLost : Restored::kNothing;
    (void)job_wait(guest);
    // Kills runc and CRIU if they are still there: what they have resumed goes on by itself then.
    const std::string log = folder_ + "/image/restore.log";
    const std::string sent = move_.verbs ? "grep -q 'godwit: resumed' " + log +
                                               " || { grep -q 'godwit: go' " + log +
                                               " && ! grep -q 'cannot resume' " + log + "; }"
                                         : Containers::runs(c_.name);
    const ExecResult found =
        lab_.shell(guest,
                   "godwit-job kill " + c_.name +
                       "\n"
                       "for p in $(cat " +
                       Containers::cgroup(c_) +
                       "/cgroup.procs 2> /dev/null); do\n"
                       "  [ \"$(cat /proc/$p/comm)\" != criu ] || kill -9 $p\ndone\n"
                       "if ! { " +
                       sent +
                       "; }; then echo nothing; exit; fi\n"
                       "[ ! -s " +
                       Containers::exit_code_file(c_) +
                       " ] || { echo runs; exit; }\n"  // to its own end
                       "read pid < " +
                       Containers::cgroup(c_) + "/cgroup.procs || { echo lost; exit; }\n" +
                       "[ -e " + runc_state() + " ] || [ ! -e " + kept_state() +
                       " ] || install -D -m 600 " + kept_state() + " " + runc_state() + "\n" +
                       (move_.verbs ? "godwit-cr resume --attempt " +
                                          std::to_string(move_.attempt) + " --pid $pid || exit 1\n"
                                    : "") +
                       "godwit-cr mend --pid $pid\nns=" + c_.name + "\n" + Containers::kUnmute +
                       announce() + "echo runs\n",
                   options_.step_seconds);
    if (found.out.find("nothing") != std::string::npos) return Restored::kNothing;
    if (found.out.find("lost") != std::string::npos) return Restored::kLost;
    if (found.out.find("runs") == std::string::npos) throw Error(guest + ": " + found.out);
    return Restored::kRuns;
  }

  // After a failed hand-over the frames of the peers go to the destination, and what answers there
  // is about to go: first of all they must reach the tombstones here again.
  void take_address_back() const {
    const bool linked =
        lab_.shell(c_.guest, "ip -n " + c_.name + " link show eth0 > /dev/null 2>&1").code == 0;
    if (!linked) containers_.make_network(c_, c_.guest, true);
    lab_.must(c_.guest,
              "ns=" + c_.name + "\n" + Containers::kMute + Containers::kLetArpOut + announce(),
              options_.step_seconds);
  }

  // The checkpoint is complete and its processes are gone: home's own copy goes on there. What an
  // earlier attempt has left goes, but not the image. Muted, while CRIU's lock of the dump is off
  // and the sockets are not there yet.
  void roll_back() {
    progress_("roll back to " + c_.guest);
    move_.step = "roll-back";
    ++move_.attempt;
    journal_.save();
    take_address_back();
    clean_destination();
    lab_.must(c_.guest,
              "ns=" + c_.name + "\ngodwit-job kill $ns; " + Containers::kill_tasks(c_) + "\n" +
                  Containers::unmount_below(folder_ + "/image") +
                  "\n"
                  "[ -e " +
                  folder_ +
                  "/image/inventory.img ] || { echo there is no complete checkpoint; exit 1; }\n" +
                  kUnlockNetwork + "true",
              options_.step_seconds);
    fail_here_if_wanted();
    const auto restored = job(
        c_.guest, "export GODWIT_ATTEMPT=" + std::to_string(move_.attempt) + "\n" + runc_restore());
    const ExecResult result = job_end(*restored);
    if (result.code != 0) throw Error(result.out + "\n" + tail_of_log(c_.guest, "restore.log"));
    lab_.must(c_.guest,
              "ns=" + c_.name + "\ngodwit-job kill $ns\n" + Containers::kUnmute + announce() +
                  "rm -rf --one-file-system " + folder_ + "/image",
              options_.step_seconds);
  }

  const Lab& lab_;
  Containers containers_;
  Container c_;
  const MoveProgress& progress_;
  const MoveOptions& options_;
  std::string folder_;
  MoveJournal& journal_;
  MoveState& move_;
  std::unique_ptr<Process> gate_;
  std::unique_ptr<Process> runc_;
  std::unique_ptr<Process> watcher_;
  std::string left_;  // at the destination, if it could not be cleaned
  Clock::time_point stop_;
  MoveReport report_;
};

}  // namespace

MoveReport migrate(const Lab& lab, const std::string& container, const std::string& to,
                   const MoveProgress& progress, const MoveOptions& options) {
  const Container c = Containers(lab).find(container);
  MoveJournal journal(lab.folder(), new_state(c, to));
  return Move(lab, c, journal, progress, options).run();
}

RecoverReport recover(const Lab& lab, const std::string& container, const MoveProgress& progress,
                      const MoveOptions& options) {
  const Container c = Containers(lab).find(container);
  MoveJournal journal(lab.folder(), container);
  return Move(lab, c, journal, progress, options).recover();
}

void forget_move(const Lab& lab, const std::string& container) {
  const std::vector<std::string> all = MoveJournal::unfinished(lab.folder());
  if (std::find(all.begin(), all.end(), container) == all.end()) return;
  const Container c = Containers(lab).find(container);
  MoveJournal journal(lab.folder(), container);
  Move(lab, c, journal, [](const std::string&) {}, {}).forget();
}

nlohmann::json to_json(const MoveReport& report) {
  nlohmann::json steps = nlohmann::json::object();
  for (const auto& [name, ms] : report.steps_ms) steps[name] = ms;
  return {{"container", report.container},
          {"from", report.from},
          {"to", report.to},
          {"steps_ms", steps},
          {"stop_ms", report.stop_ms},
          {"qps", report.qps},
          {"image_bytes", report.image_bytes},
          {"warning", report.warning}};
}

nlohmann::json to_json(const RecoverReport& report) {
  return {{"container", report.container}, {"guest", report.guest}, {"moved", report.moved}};
}

}  // namespace godwit::lab
