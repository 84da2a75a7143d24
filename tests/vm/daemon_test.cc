// SPDX-License-Identifier: GPL-2.0-or-later
//
// The lab's daemon is killed: its guests go on, the next command starts another one, and that has
// them all.
#include <signal.h>

#include <filesystem>
#include <future>

#include "command.h"
#include "move.h"

namespace godwit::vm {
namespace {

namespace fs = std::filesystem;

constexpr const char* kStartedAgain =
    "the daemon of the lab had died: started again, the guests go on";

void kill_daemon(const Json& status) {
  const pid_t pid = status.at("pid");
  ASSERT_GT(pid, 1);
  ASSERT_EQ(kill(pid, SIGKILL), 0);
  for (int i = 0; i < 1000 && the_process_lives(pid); ++i) usleep(20'000);
  ASSERT_FALSE(the_process_lives(pid));
}

std::vector<pid_t> guests_of(const Json& status) {
  std::vector<pid_t> pids;
  for (const Json& guest : status.at("guests")) pids.push_back(guest.at("pid"));
  return pids;
}

class Daemon : public Move {};

TEST_F(Daemon, IsKilledWhileAllIsBusy) {
  const Container server = start(kPeer, "server", {"godwit-verify", "--events", "--pause", "10"});
  wait_for_log("server", "waiting on port");
  start(kHome, "client",
        {"godwit-verify", "--events", "--pause", "10", "--timeout", "18", "--duration", "0",
         lab::container_ip(server.number)});
  wait_until_it_transfers("client");
  // Bytes that would be no frame's length, and more than any buffer takes, in both directions.
  const auto out = the_lab().start(kAway, {"bash", "-c", "yes $'\\xff\\xff\\xff\\xff'"});
  const auto in =
      the_lab().start(kAway, {"bash", "-c", "cat > /tmp/in; echo all of it >> /tmp/in"});
  lab::Frame frame;
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(out->next(&frame, 30));
  in->write(std::string(200'000, '\xff'));
  const Json before = the_lab().status();
  kill_daemon(before);
  EXPECT_THROW(while (out->next(&frame, 30)) continue, lab::LabGone);
  EXPECT_THROW((void)Lab(lab_folder()).status(), lab::LabGone);

  const HostResult first = godwit({"run", kAway, "--", "echo", "here"});
  EXPECT_EQ(first.out, "here\n") << first.err;
  EXPECT_EQ(first.err, std::string(kStartedAgain) + "\n");
  const Json after = the_lab().status();
  EXPECT_NE(after["pid"], before["pid"]);
  EXPECT_EQ(guests_of(after), guests_of(before));
  for (const Json& guest : after["guests"]) EXPECT_EQ(guest["state"], "ready") << guest["name"];
  // What ran in the old streams is gone, and its input has not ended in order.
  EXPECT_NO_THROW(
      must(kAway,
           "for i in $(seq 100); do pgrep -x 'yes|cat' > /dev/null || break; sleep 0.1; done\n"
           "! pgrep -x 'yes|cat' && ! grep -q 'all of it' /tmp/in && [ -z \"$(tr -d '\\377' < "
           "/tmp/in)\" ]; "
           "code=$?; rm /tmp/in; exit $code"));
  // Connections, containers, monitors and captures are as before.
  expect_it_still_transfers("client");
  for (const char* name : {"client", "server"}) {
    EXPECT_TRUE(Containers(the_lab()).running(Containers(the_lab()).find(name))) << name;
  }
  const Json answer = the_lab().request(
      {{"op", "qmp"}, {"guest", kPeer}, {"command", {{"execute", "query-status"}}}});
  EXPECT_EQ(answer["answer"]["return"]["status"], "running") << answer.dump();
  const fs::path file = fs::path(lab_folder()) / "wire.pcap";
  EXPECT_EQ(godwit({"capture", kHome, file, "--seconds", "1"}).code, 0);
  EXPECT_GT(fs::file_size(file), 10'000u);
  fs::remove(file);
  must(kHome, "pkill -INT -x godwit-verify");
  for (const char* name : {"client", "server"}) expect_good_at_end(name);
}

TEST_F(Daemon, NoticesThatAnAgentWasStartedAnew) {
  EXPECT_TRUE(fails_saying(godwit({"run", kAway, "--", "pkill", "-9", "godwit-agent"}),
                           "the guest's agent was started anew"));
  for (int i = 0; i < 100 && godwit({"run", kAway, "--", "true"}).code != 0; ++i) usleep(100'000);
  EXPECT_EQ(godwit({"run", kAway, "--", "echo", "here"}).out, "here\n");
}

// A capture that the old daemon's command had begun is not in the way of the next one.
TEST_F(Daemon, EndsTheCapturesOfAnother) {
  const fs::path file = fs::path(lab_folder()) / "wire.pcap";
  the_lab().capture_start(kHome, file);
  kill_daemon(the_lab().status());
  const HostResult capture = godwit({"capture", kHome, file, "--seconds", "1"});
  EXPECT_EQ(capture.code, 0) << capture.err;
  fs::remove(file);
}

// A lab of its own, of one guest.
TEST_F(Daemon, OfALabIsOneAndDownEndsAllWithoutIt) {
  const std::string folder = lab_folder() + "-one";
  const auto one = [&folder](Argv args) {
    args.insert(args.begin(), lab::build_folder() + "/bin/godwit");
    return run_on_host(args, 240, {{"GODWIT_LAB", folder}});
  };
  ASSERT_EQ(one({"up", "1", "--memory", "768"}).code, 0);
  const Json first = parsed(one({"--json", "status"}));
  const pid_t guest = guests_of(first).at(0);

  kill_daemon(first);
  EXPECT_TRUE(fails_saying(one({"up", "2"}),
                           "a lab is up already in " + folder + ", though its daemon has died"));
  auto other = std::async(std::launch::async, [&one] { return one({"--json", "status"}); });
  const Json second = parsed(one({"--json", "status"}));
  EXPECT_EQ(parsed(other.get())["pid"], second["pid"]);
  EXPECT_EQ(second["guests"][0]["state"], "ready");

  kill_daemon(second);
  const HostResult up = one({"up"});
  EXPECT_EQ(up.code, 0) << up.err;
  EXPECT_EQ(up.err, std::string(kStartedAgain) + "\n");
  const Json third = parsed(one({"--json", "status"}));
  EXPECT_EQ(guests_of(third).at(0), guest);

  kill_daemon(third);
  EXPECT_EQ(one({"down"}).code, 0);
  EXPECT_FALSE(the_process_lives(guest));
  std::vector<std::string> left;
  for (const auto& entry : fs::directory_iterator(folder)) left.push_back(entry.path().filename());
  std::sort(left.begin(), left.end());
  EXPECT_EQ(left, (std::vector<std::string>{".godwit-lab", "log"}));
  EXPECT_TRUE(fails_saying(one({"status"}), "no lab is up here"));
  fs::remove_all(folder);
}

}  // namespace
}  // namespace godwit::vm
