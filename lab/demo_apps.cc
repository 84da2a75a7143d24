// SPDX-License-Identifier: GPL-2.0-or-later
#include "demo_apps.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "error.h"
#include "interrupt.h"
#include "perftest.h"
#include "plan.h"

namespace godwit::lab {
namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

// perftest and the examples of libibverbs want the index of the GID, which differs from guest to
// guest and is known only when the address is there.
constexpr const char* kWithGid = R"sh(
option=$1; program=$2; shift 2
ip=$(ip -o -4 addr show dev eth0 | sed 's/.* inet \([0-9.]*\).*/\1/')
gid=$(printf '0000:0000:0000:0000:0000:ffff:%02x%02x:%02x%02x' $(echo $ip | tr . ' '))
for attempt in $(seq 100); do
  for index in $(seq 0 63); do
    [ "$(cat /sys/class/infiniband/godwit0/ports/1/gids/$index 2>/dev/null)" = "$gid" ] || continue
    exec $program -d godwit0 $option $index "$@"
  done
  sleep 0.05
done
echo "no GID $gid"
exit 1
)sh";

Argv with_gid(const std::string& option, Argv program) {
  Argv argv = {"sh", "-c", kWithGid, "sh", option};
  argv.insert(argv.end(), program.begin(), program.end());
  return argv;
}

constexpr const char* kVerifyJson = "/var/log/verify.json";

std::vector<DemoApp> make_apps() {
  using End = DemoApp::End;
  // -u and --timeout: the ACK timeout. With the usual one a peer gives up after half a second or
  // two; an overloaded host keeps guests from running for longer than that, moves or not.
  const Argv verify = {"godwit-verify", "--events", "--json", kVerifyJson};
  Argv verify_client = verify;
  verify_client.insert(verify_client.end(), {"--duration", "0", "--qps", "4", "--timeout", "18"});
  // The duration is longer than any demo. perftest ends it by its alarm, which is brought
  // forward when the moves are done.
  const Argv write_bw = with_gid("-x", {"ib_write_bw", "-D", "86400", "-u", "18"});
  const Argv send_bw = with_gid("-x", {"ib_send_bw", "-b", "-D", "86400", "-u", "18"});
  // -n and the count follow.
  const Argv pingpong = with_gid("-g", {"ibv_rc_pingpong", "-c", "-e"});
  return {
      {"verify", 18517, 4, verify, verify_client, false, false, End::kTerminate},
      {"write-bw", 18515, 1, write_bw, write_bw, false, true, End::kAlarm},
      {"send-bw", 18515, 1, send_bw, send_bw, true, true, End::kAlarm},
      {"pingpong", 18515, 1, pingpong, pingpong, false, false, End::kCount},
  };
}

}  // namespace

const char* name_of(Role role) { return role == Role::kClient ? "client" : "server"; }

const std::vector<DemoApp>& demo_apps() {
  static const std::vector<DemoApp> kApps = make_apps();
  return kApps;
}

const DemoApp& find_demo_app(const std::string& name) {
  std::string known;
  for (const DemoApp& app : demo_apps()) {
    if (app.name == name) return app;
    known += " " + app.name;
  }
  throw Error("no application " + name + "; there are:" + known);
}

DemoRun::DemoRun(const Lab& lab, const DemoApp& app, Role role, unsigned long count)
    : lab_(lab),
      containers_(lab),
      app_(app),
      role_(role),
      count_(count),
      mover_(app.name + "-" + name_of(role)),
      peer_(mover_ + "-peer") {}

DemoRun::~DemoRun() {
  for (const std::string& name : {mover_, peer_}) {
    try {
      containers_.remove(containers_.find(name));
    } catch (const Error&) {
      // It was never started, or all guests are gone.
    }
  }
}

Argv DemoRun::argv(Role role, const std::string& host) const {
  Argv argv = role == Role::kServer ? app_.server : app_.client;
  if (app_.end == DemoApp::End::kCount) argv.insert(argv.end(), {"-n", std::to_string(count_)});
  if (role == Role::kClient) argv.push_back(host);
  return argv;
}

void DemoRun::wait_until_listening(const Container& server) const {
  const std::string ready = "nsenter --net=/run/netns/" + server.name +
                            " ss -Hltn 'sport = :" + std::to_string(app_.port) + "' | grep -q .";
  const ExecResult result =
      lab_.shell(server.guest,
                 "for i in $(seq 600); do " + ready + " && exit 0; sleep 0.1; done; exit 1", 180);
  if (result.code != 0) {
    throw Error(server.name + " does not listen on port " + std::to_string(app_.port) + "\n" +
                containers_.logs(server));
  }
}

void DemoRun::start() {
  const bool mover_serves = role_ == Role::kServer;
  const Container server = containers_.start(
      mover_serves ? "home" : "peer", mover_serves ? mover_ : peer_, argv(Role::kServer, ""));
  wait_until_listening(server);
  containers_.start(mover_serves ? "peer" : "home", mover_serves ? peer_ : mover_,
                    argv(Role::kClient, container_ip(server.number)));
}

std::string DemoRun::ended() const {
  for (const std::string& name : {mover_, peer_}) {
    const Container c = containers_.find(name);
    if (!containers_.running(c))
      return name + " has ended early, with this log:\n" + containers_.logs(c);
  }
  return "";
}

// Signals those processes that have a handler for it: the shell beside the program has none, nor
// has a perftest server to which only WRITEs come.
void DemoRun::tell_to_end(const std::string& name) const {
  const bool alarm = app_.end == DemoApp::End::kAlarm;
  // perftest's alarm rings three times: sampling begins, sampling ends, the end.
  const std::string script = std::string("name=") + name + " signal=" + (alarm ? "14" : "15") +
                             " times=" + (alarm ? "40" : "1") + R"sh(
for i in $(seq $times); do
  found=
  for p in $(runc ps -f json $name 2>/dev/null | tr '[],' '   '); do
    caught=$(sed -n 's/^SigCgt:\t//p' /proc/$p/status 2>/dev/null)
    [ -n "$caught" ] && (( 16#$caught >> (signal - 1) & 1 )) || continue
    kill -$signal $p && found=1
  done
  [ -n "$found" ] || break
  sleep 0.25
done)sh";
  lab_.must(containers_.find(name).guest, script, 180);
}

void DemoRun::finish() {
  if (app_.end != DemoApp::End::kCount) {
    std::thread other([this] {
      try {
        if (app_.end == DemoApp::End::kAlarm) tell_to_end(peer_);
      } catch (const Error&) {
        // It then does not end, which is found below.
      }
    });
    try {
      tell_to_end(mover_);
    } catch (...) {
      other.join();
      throw;
    }
    other.join();
  }
  const auto deadline = Clock::now() + std::chrono::seconds(300);
  for (const std::string& name : {mover_, peer_}) {
    while (!containers_.exit_code(containers_.find(name))) {
      if (interrupted()) throw Error("interrupted");
      if (Clock::now() > deadline) {
        throw Error(name + " does not end\n" + containers_.logs(containers_.find(name)));
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
    }
  }
}

// Exit codes are not all: perftest's is 0 after some errors too.
void DemoRun::judge_end(const std::string& who, int code, const std::string& log,
                        Result* result) const {
  std::vector<const char*> signs = {"Failed status", "nvalid data"};
  if (result->note.empty()) signs.insert(signs.end(), {"rror", "nable to", "ouldn't"});
  if (code < 0) {
    result->faults.push_back(who + " has no exit code");
  } else if (code > 1 || (code != 0 && result->note.empty())) {  // 1 is what the note explains
    result->faults.push_back(who + ": exit code " + std::to_string(code));
  }
  for (const char* sign : signs) {
    const std::size_t at = log.find(sign);
    if (at == std::string::npos || app_.end == DemoApp::End::kTerminate) continue;
    const std::size_t start = log.rfind('\n', at) + 1;
    result->faults.push_back(who + " says: " + log.substr(start, log.find('\n', at) - start));
    break;
  }
  if (app_.end == DemoApp::End::kCount) {
    const std::string wanted = std::to_string(count_) + " iters in";
    if (log.find(wanted) == std::string::npos)
      result->faults.push_back(who + " does not say: " + wanted);
    result->data[who] = {{"iterations", count_}, {"checked", "-c: the bytes of the last message"}};
  }
}

void DemoRun::judge_data(const std::string& who, const Container& c, Result* result) const {
  const Json json =
      Json::parse(lab_.get(c.guest, Containers::folder(c) + "/root" + kVerifyJson), nullptr, false);
  if (!json.is_object()) {
    result->faults.push_back(who + " wrote no result");
    return;
  }
  result->data[who] = json;
  if (json.value("verdict", "") != "good")
    result->faults.push_back(who + ": verdict " + json.value("verdict", "?"));
  if (json.value("errors", -1) != 0) result->faults.push_back(who + " found errors in the data");
  if (json.value("checked", 0ULL) == 0) result->faults.push_back(who + " checked nothing");
}

DemoRun::Result DemoRun::judge() const {
  Result result;
  result.data = Json::object();
  const auto read = [&](const std::string& who, const std::string& name, int* code,
                        std::string* log) {
    try {
      const Container c = containers_.find(name);
      *log = containers_.logs(c);
      *code = containers_.exit_code(c).value_or(-1);
      if (app_.end == DemoApp::End::kTerminate) judge_data(who, c, &result);
    } catch (const Error& error) {
      result.faults.push_back(who + ": " + error.what());
    }
  };
  read("mover", mover_, &result.mover_code, &result.mover_log);
  read("peer", peer_, &result.peer_code, &result.peer_log);
  if (perftest_lost_its_clock(result.mover_log + result.peer_log)) {
    result.note =
        "perftest could not measure the processor's clock for its report, as on a busy machine: "
        "its exit code tells nothing of the transfer";
    result.data["note"] = result.note;
  }
  judge_end("mover", result.mover_code, result.mover_log, &result);
  judge_end("peer", result.peer_code, result.peer_log, &result);
  return result;
}

double measure_pingpong(const Lab& lab) {
  const std::string program = "ibv_rc_pingpong -c -e -d godwit0 -n 2000 -g ";
  const auto gid_of = [&lab](const std::string& guest, int index) {
    char gid[64];
    snprintf(gid, sizeof(gid), "0000:0000:0000:0000:0000:ffff:0a4d:%04x",
             static_cast<unsigned>(index));
    const std::string found =
        lab.must(guest, "cd /sys/class/infiniband/godwit0/ports/1/gids && grep -lx " +
                            std::string(gid) + " * | head -n 1");
    return found.substr(0, found.find('\n'));
  };
  const auto server = lab.start("peer", {"bash", "-c", "exec " + program + gid_of("peer", 3)});
  lab.must("peer",
           "for i in $(seq 100); do ss -Hltn 'sport = :18515' | grep -q . && exit 0; sleep 0.1; "
           "done; exit 1");
  const std::string out = lab.must("home", program + gid_of("home", 1) + " " + guest_ip(3), 120);
  server->wait(60);
  const std::size_t at = out.find("iters in ");
  const double seconds = at == std::string::npos ? 0 : std::strtod(out.c_str() + at + 9, nullptr);
  if (seconds <= 0) throw Error("ibv_rc_pingpong between home and peer:\n" + out);
  return 2000 / seconds;
}

}  // namespace godwit::lab
