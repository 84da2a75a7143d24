// SPDX-License-Identifier: GPL-2.0-or-later
//
// A move that fails, at each of its steps and in each way that the lab can bring about: the program
// is at home as if nothing had happened, or complete at the destination, and nothing else is left
// over.
#include <signal.h>
#include <unistd.h>

#include <filesystem>

#include "command.h"
#include "move.h"

namespace godwit::vm {
namespace {

constexpr int kKilled = 128 + SIGKILL;

struct Case {
  const char* name;
  std::vector<std::string> faults;
  int code;           // of godwit migrate
  std::string guest;  // where the program is afterwards, maybe after --recover
  std::string says;   // on stderr
  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }
};

// One connection for all cases: what one of them damages shows at the latest in the next one, and
// in the verdict at the end. Beside it a TCP connection of the same container, whose every line
// counts.
class Failures : public testing::TestWithParam<Case> {
 protected:
  static void SetUpTestSuite() {
    const Containers containers(the_lab());
    // It outlives the lab's daemon.
    must(kPeer,
         "setsid --fork socat -u TCP-LISTEN:7777,reuseaddr CREATE:/tmp/ticks < /dev/null > "
         "/dev/null 2>&1");
    wait_for_listener(kPeer, 7777);
    Containers(the_lab()).start(kPeer, "server",
                                {"godwit-verify", "--events", "--pause", "10", "--json", "-"});
    const std::string server = lab::container_ip(containers.find("server").number);
    wait_for_log("server", "waiting on port");
    Containers(the_lab()).start(
        kHome, "client",
        {"bash", "-c",
         "(n=0; while sleep 0.3; do echo $((n += 1)); done | socat -u - TCP:" + ip_of(kPeer) +
             ":7777) &\n"
             "exec godwit-verify --events --pause 10 --timeout 18 --qps 2 --window 16 --size 4096 "
             "--duration 0 --json - " +
             server});
    wait_until_it_transfers("client");
    for (const std::string& guest : kGuests) with_program_[guest] = remains(guest);
    // Between two of them there is no sleep to be seen; there mostly is.
    std::string& home = with_program_[kHome];
    for (int i = 0; i < 50 && home.find(" sleep") == std::string::npos; ++i) home = remains(kHome);
  }

  // Both ends say that all data was right, once and in order.
  static void TearDownTestSuite() {
    Containers containers(the_lab());
    try {
      const Container client = containers.find("client");
      must(client.guest, "pkill -INT -x godwit-verify");
      for (const char* name : {"client", "server"}) expect_good_at_end(name);
      // Every line of the TCP connection has come, once and in order.
      must(kPeer,
           "for i in $(seq 200); do pgrep -x socat > /dev/null || exit 0; sleep 0.1; done; exit 1");
      EXPECT_EQ(must(kPeer, "awk '$1 != NR' /tmp/ticks | head; rm /tmp/ticks"), "");
    } catch (const std::exception& error) {
      ADD_FAILURE() << error.what();
    }
    for (const Container& c : containers.list()) {
      (void)godwit({"container", "rm", c.name});
    }
    (void)shell(kPeer, "pkill -x socat");
  }

  // Where an earlier test has failed to bring it.
  void SetUp() override {
    if (Containers(the_lab()).find("client").guest != kHome)
      (void)godwit({"migrate", "client", kHome}, 300);
  }

  void TearDown() override {
    for (const std::string& guest : kGuests) {
      std::string now;
      for (int i = 0; i < 20 && (now = remains(guest)) != with_program_[guest]; ++i)
        usleep(300'000);
      EXPECT_EQ(with_program_[guest], now) << guest << " is not as it was before the test";
    }
    EXPECT_FALSE(std::filesystem::exists(lab_folder() + "/moves/client"));
    EXPECT_TRUE(std::filesystem::is_empty(lab_folder() + "/share"));
  }

  // More lines of figures at either end, without an error, and more lines over TCP.
  static void expect_all_goes_on() {
    for (const char* name : {"client", "server"}) expect_more_in_log(name, ", 0 errors");
    EXPECT_NO_THROW(must(kPeer,
                         "n=$(wc -l < /tmp/ticks); for i in $(seq 200); do [ $(wc -l < /tmp/ticks) "
                         "-gt $((n + 1)) ] && "
                         "exit 0; sleep 0.1; done; tail -n 2 /tmp/ticks; exit 1"))
        << "TCP";
    EXPECT_EQ(must(kPeer, "awk '$1 != NR' /tmp/ticks | head -n 3"), "");
  }

  static std::map<std::string, std::string> with_program_;
};

std::map<std::string, std::string> Failures::with_program_;

TEST_P(Failures, LoseNothing) {
  const Case& c = GetParam();
  // With CRIU killed at its first fork runc waits for ever.
  const std::string name = c.name;
  const bool hangs = name.find("Hang") != std::string::npos || name == "RestoreKilledAtFork";
  Argv command = {"migrate", "client", kAway, "--step-timeout", hangs ? "20" : "120"};
  for (const std::string& fault : c.faults) command.insert(command.end(), {"--fail-at", fault});
  const HostResult result = godwit(command, 300);
  ASSERT_EQ(result.code, c.code) << result.err;
  EXPECT_NE(result.err.find(c.says), std::string::npos) << result.err;
  if (c.code == kKilled) {
    EXPECT_TRUE(std::filesystem::exists(lab_folder() + "/moves/client"));
    EXPECT_TRUE(fails_saying(godwit({"migrate", "client", kAway}),
                             "was not finished: godwit migrate --recover"));
  }
  if (name == "RuncForgets") {  // as when CRIU dies after it has resumed all
    must(kAway,
         "until [ -s /run/godwit/client.job.code ]; do sleep 0.1; done; rm -r /run/runc/client");
  }
  const bool daemon_killed =
      name.rfind("DaemonKilled", 0) == 0 && name != "DaemonKilledInPreflight";
  if (daemon_killed) {
    EXPECT_NE(result.err.find("The daemon of the lab has died. It is started again, and the move "
                              "ended at home or at away, by: "
                              "godwit migrate --recover client"),
              std::string::npos)
        << result.err;
  }
  if (c.code == kKilled || daemon_killed) {
    const HostResult recovered = godwit({"migrate", "--recover"}, 300);
    EXPECT_EQ(recovered.code, 0) << recovered.err;
    EXPECT_EQ(recovered.err.find("the daemon of the lab had died") != std::string::npos,
              daemon_killed)
        << recovered.err;
    EXPECT_EQ(recovered.out, std::string("client ") +
                                 (c.guest == kHome ? "goes on at " : "is complete at ") + c.guest +
                                 "\n");
  } else if (c.code == 1 && c.guest == kAway) {  // it is there, and something is still to be done
    EXPECT_EQ(godwit({"migrate", "--recover", "client"}, 300).out, "client is complete at away\n");
  } else if (c.guest == kHome && name.find("Preflight") == std::string::npos) {
    EXPECT_NE(result.err.find("It goes on at home."), std::string::npos) << result.err;
  }
  ASSERT_EQ(Containers(the_lab()).find("client").guest, c.guest) << result.err;
  expect_all_goes_on();
  if (c.guest == kHome) return;
  const HostResult back = godwit({"migrate", "client", kHome}, 300);
  EXPECT_EQ(back.code, 0) << back.err;
  expect_all_goes_on();
}

std::string name_of(const testing::TestParamInfo<Case>& info) { return info.param.name; }

// In each step, and of each kind, one or two; the others are those of make check-full.
INSTANTIATE_TEST_SUITE_P(
    At, Failures,
    testing::Values(
        Case{"DumpKilledAtPages", {"checkpoint@Dumping pages:kill"}, 1, kHome, "step checkpoint"},
        Case{"DumpKilledWhenComplete",
             {"checkpoint@Writing stats:kill"},
             1,
             kHome,
             "step checkpoint"},
        Case{"CopyDiskFull", {"copy:full"}, 1, kHome, "No space left on device"},
        Case{"CopyCorrupt", {"copy:corrupt"}, 1, kHome, "step copy"},
        Case{"RestoreError", {"restore:error"}, 1, kHome, "step restore"},
        Case{"GoRefused", {"go:error"}, 1, kHome, "the orchestrator gave up"},
        // What comes after go is quick: CRIU may be at its end before the signal comes.
        Case{"GoKilled", {"go@godwit: resumed:kill"}, 0, kAway, ""},
        Case{"CommandKilledInRestore", {"restore:command"}, kKilled, kHome, ""},
        Case{"RuncForgets", {"go@godwit: resumed:command"}, kKilled, kAway, ""},
        Case{"CommandKilledInCommit", {"commit:kill"}, kKilled, kAway, ""},
        Case{"CommandKilledInRollBack", {"copy:error", "roll-back:kill"}, kKilled, kHome, ""},
        Case{"DaemonKilledInRestore", {"restore:daemon"}, 1, kHome, "step restore"},
        Case{"DaemonKilledInGo", {"go@godwit: resumed:daemon"}, 1, kAway, "step"}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Full, Failures,
    testing::Values(
        Case{"PreflightError", {"preflight:error"}, 1, kHome, "step preflight"},
        Case{"PrepareError", {"prepare:error"}, 1, kHome, "step prepare"},
        Case{"DumpKilledAtFiles",
             {"checkpoint@Dumping opened files:kill"},
             1,
             kHome,
             "step checkpoint"},
        Case{"DumpKilledAtSeize", {"checkpoint@Seized task:kill"}, 1, kHome, "step checkpoint"},
        Case{"DumpKilledAtMappings",
             {"checkpoint@Collecting mappings:kill"},
             1,
             kHome,
             "step checkpoint"},
        Case{"DumpKilledAtCore", {"checkpoint@Dumping core:kill"}, 1, kHome, "step checkpoint"},
        Case{"DumpHang", {"checkpoint:hang"}, 1, kHome, "not done within 20 s"},
        Case{
            "DumpError", {"checkpoint:error"}, 1, kHome, "step checkpoint: runc checkpoint failed"},
        Case{"DumpDiskFull", {"checkpoint:full"}, 1, kHome, "No space left on device"},
        Case{"DumpKilledAtNetworkLock",
             {"checkpoint@Lock network:kill"},
             1,
             kHome,
             "step checkpoint"},
        Case{"CopyCut", {"copy:cut"}, 1, kHome, "step copy"},
        Case{"CopyError", {"copy:error"}, 1, kHome, "step copy"},
        Case{"CopyKilled", {"copy:kill"}, 1, kHome, "step copy"},
        Case{"CopyHang", {"copy:hang"}, 1, kHome, "not done within 20 s"},
        Case{"RestoreKilledAtFork",
             {"restore@Creating process using clone3:kill"},
             1,
             kHome,
             "step restore"},
        Case{"RestoreKilledAtDescriptors",
             {"restore@Receive fd for:kill"},
             1,
             kHome,
             "step restore"},
        Case{"RestoreKilledAtContext", {"restore@godwit: context:kill"}, 1, kHome, "step restore"},
        Case{"RestoreKilledAtMemory", {"restore:kill"}, 1, kHome, "step restore"},
        Case{"RestoreKilledAtPostRestore",
             {"restore@Running post-restore:kill"},
             1,
             kHome,
             "step restore"},
        Case{"RestoreHang", {"restore:hang"}, 1, kHome, "not done within 20 s"},
        Case{"RestoreKilledAtGate", {"restore@godwit: ready:kill"}, 1, kHome, "step"},
        Case{"HandOverHang", {"hand-over:hang"}, 1, kHome, "step go"},  // the gate times out
        Case{"HandOverError", {"hand-over:error"}, 1, kHome, "step hand-over"},
        Case{"GoKilledAtOnce", {"go:kill"}, 0, kAway, ""},
        Case{"GoKilledAtTheEnd", {"go@Restore finished:kill"}, 0, kAway, ""},
        Case{"GoHang", {"go:hang"}, 0, kAway, ""},
        Case{"CommitError", {"commit:error"}, 1, kAway, "It runs at away"},
        Case{"CommandKilledInPreflight", {"preflight:kill"}, kKilled, kHome, ""},
        Case{"CommandKilledInPrepare", {"prepare:kill"}, kKilled, kHome, ""},
        Case{"CommandKilledInCheckpoint", {"checkpoint:command"}, kKilled, kHome, ""},
        Case{"CommandKilledInCopy", {"copy:command"}, kKilled, kHome, ""},
        Case{"CommandKilledAtGate", {"restore@godwit: ready:command"}, kKilled, kHome, ""},
        Case{"CommandKilledInHandOver", {"hand-over:kill"}, kKilled, kHome, ""},
        Case{"CommandKilledInGoAtOnce", {"go:command"}, kKilled, kAway, ""},
        Case{"CommandKilledInGo", {"go@godwit: resumed:command"}, kKilled, kAway, ""},
        Case{"DaemonKilledInPreflight", {"preflight:daemon"}, 1, kHome, "step preflight"},
        Case{"DaemonKilledInPrepare", {"prepare:daemon"}, 1, kHome, "step prepare"},
        Case{"DaemonKilledInCheckpoint", {"checkpoint:daemon"}, 1, kHome, "step checkpoint"},
        Case{"DaemonKilledInCopy", {"copy:daemon"}, 1, kHome, "step copy"},
        Case{"DaemonKilledAtGate", {"restore@godwit: ready:daemon"}, 1, kHome, "step"},
        Case{"DaemonKilledInHandOver", {"hand-over:daemon"}, 1, kHome, "step hand-over"},
        Case{"DaemonKilledInGoAtOnce", {"go:daemon"}, 1, kAway, "step"},
        Case{"DaemonKilledInCommit", {"commit:daemon"}, 1, kAway, "step commit"},
        Case{"DaemonKilledInRollBack", {"copy:error", "roll-back:daemon"}, 1, kHome, "step copy"}),
    name_of);

// The destination's VM dies; home, or its peer, does not notice.
class GuestFails : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (getenv("GODWIT_TEST_LAB") != nullptr) GTEST_SKIP() << "this lab is to stay up";
    the_lab();
  }
  void TearDown() override {
    if (getenv("GODWIT_TEST_LAB") == nullptr) (void)godwit({"down"});
  }
};

TEST_P(GuestFails, WhileAContainerMovesThere) {
  const auto server = launch(kPeer, "exec godwit-verify --events --pause 10");
  wait_for_listener(kPeer, 18517);
  Containers containers(the_lab());
  const Container c = containers.start(kHome, "client",
                                       {"godwit-verify", "--events", "--pause", "10", "--qps", "2",
                                        "--window", "16", "--duration", "0", ip_of(kPeer)});
  wait_until_it_transfers("client");
  const HostResult result = godwit({"migrate", "client", kAway, "--fail-at", GetParam()}, 300);
  EXPECT_EQ(result.code, 1) << result.err;
  EXPECT_NE(result.err.find("It goes on at home."), std::string::npos) << result.err;
  const std::string before = containers.logs(c);
  sleep(4);
  EXPECT_GT(containers.logs(c).size(), before.size());
  // With one that has died the_lab() would be another.
  const Lab lab(lab_folder());
  EXPECT_EQ(lab.must(kHome, "godwit-cr list; ls -A /run/godwit"), "");
  lab.must(kHome, "pkill -INT -x godwit-verify");
  expect_good(server->wait(60));
}

INSTANTIATE_TEST_SUITE_P(FullAt, GuestFails,
                         testing::Values("checkpoint:guest", "copy:guest", "restore:guest",
                                         "hand-over:guest"),
                         [](const auto& info) {
                           std::string name = info.param;
                           name = name.substr(0, name.find(':'));
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace godwit::vm
