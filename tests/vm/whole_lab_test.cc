// SPDX-License-Identifier: GPL-2.0-or-later
//
// The end of a guest, and of the lab; and the first lab of a newcomer.
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <regex>
#include <vector>

#include "command.h"
#include "guide.h"

namespace godwit::vm {
namespace {

namespace fs = std::filesystem;

// Registered like this, it comes after all others, which would have to boot another lab.
class WholeLab : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (getenv("GODWIT_TEST_LAB") != nullptr) GTEST_SKIP() << "this lab is to stay up";
    the_lab();
  }

  static Json of(const Json& status, const std::string& name) {
    for (const Json& guest : status["guests"]) {
      if (guest["name"] == name) return guest;
    }
    return {};
  }

  static std::vector<pid_t> processes_of(const Json& status) {
    std::vector<pid_t> pids = {status["pid"].get<pid_t>()};
    for (const Json& guest : status["guests"]) pids.push_back(guest["pid"].get<pid_t>());
    return pids;
  }

  static bool is_gone(pid_t pid) {
    for (int i = 0; i < 100 && the_process_lives(pid); ++i) usleep(100'000);
    return !the_process_lives(pid);
  }

  static std::vector<std::string> files_left() {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(lab_folder())) {
      // The mark says that the folder may be a lab again.
      if (entry.path().filename() != ".godwit-lab") names.push_back(entry.path().filename());
    }
    return names;
  }
};

TEST_P(WholeLab, GuestThatDiesIsReportedTheOthersGoOnAndNothingOutlivesIt) {
  const std::string victim = GetParam();
  const std::string other = victim == kHome ? kAway : kHome;
  const Json before = parsed(godwit({"--json", "status"}));
  const pid_t pid = of(before, victim)["pid"];
  const auto waiting = launch(victim, "exec sleep 500");
  ASSERT_GT(pid, 1);
  ASSERT_EQ(kill(pid, SIGKILL), 0);
  ASSERT_TRUE(is_gone(pid));
  // The command that was waiting for it is told at once.
  try {
    waiting->wait(30);
    ADD_FAILURE() << "it ended as if nothing had happened";
  } catch (const std::exception& error) {
    EXPECT_NE(std::string(error.what()).find("the guest has died; log: "), std::string::npos)
        << error.what();
  }
  const Json after = parsed(godwit({"--json", "status"}));
  for (const std::string& guest : kGuests) {
    EXPECT_EQ(of(after, guest)["state"], guest == victim ? "dead" : "ready") << guest;
  }
  EXPECT_TRUE(fails_saying(godwit({"run", victim, "--", "true"}), victim + " is not up; log: "));
  EXPECT_TRUE(fails_saying(godwit({"container", "start", victim, "x", "--", "true"}),
                           victim + " is not up"));
  EXPECT_TRUE(fails_saying(godwit({"capture", victim, lab_folder() + "/x.pcap", "--seconds", "1"}),
                           victim));
  EXPECT_EQ(godwit({"run", other, "--", "ping", "-q", "-c", "1", "-W", "5", ip_of(kPeer)}).code, 0);

  EXPECT_EQ(godwit({"down"}).code, 0);
  for (const pid_t process : processes_of(before)) EXPECT_TRUE(is_gone(process)) << process;
  EXPECT_EQ(files_left(), std::vector<std::string>{"log"});
  EXPECT_TRUE(fails_saying(godwit({"status"}), "no lab is up here"));
  EXPECT_EQ(godwit({"down"}).code, 0);  // nothing to do
}

INSTANTIATE_TEST_SUITE_P(Lab, WholeLab, testing::Values(kAway));

// The commands of docs/guide/first-migration.md, in one shell and in a lab of their own.
class FirstMigration : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    stop_lab();  // two at once are too much for small machines
    folder_ = "/tmp/godwit-guide-" + std::to_string(getpid());
  }

  void TearDown() override {
    run_on_host({lab::build_folder() + "/bin/godwit", "down"}, 60,
                {{"GODWIT_LAB", folder_ + "/lab"}});
    if (HasFailure()) {
      std::printf("-- logs of the guests: %s/lab/log\n", folder_.c_str());
    } else {
      fs::remove_all(folder_);
    }
  }

  // What was printed below a heading.
  std::string part(const std::string& section) const {
    const std::size_t at = output_.find("## " + section + "\n");
    if (at == std::string::npos) return "no section " + section + " in:\n" + output_;
    return output_.substr(at, output_.find("\n## ", at) - at);
  }

  std::string folder_, output_;
};

TEST_P(FirstMigration, ByTheGuide) {
  std::string script = "set -e -o pipefail\ncd " GODWIT_SOURCE "\n";
  std::string section;
  for (const GuideBlock& block : guide_blocks(GetParam() + ".md")) {
    if (block.section != section) script += "echo '## " + block.section + "'\n";
    section = block.section;
    script += block.script;
  }
  fs::create_directories(folder_);
  const HostResult result = run_on_host({"bash", "-c", "exec 2>&1; " + script}, 600,
                                        {{"GODWIT_LAB", folder_ + "/lab"}, {"TMPDIR", folder_}});
  output_ = result.out;
  ASSERT_EQ(result.code, 0) << output_ << result.err;

  EXPECT_NE(part("Three VMs").find("state ACTIVE"), std::string::npos) << part("Three VMs");
  std::smatch before;
  const std::string connected = part("A connection");
  ASSERT_TRUE(
      std::regex_search(connected, before, std::regex("lqpn (\\d+) rqpn (\\d+) type RC state RTS")))
      << connected;
  EXPECT_TRUE(std::regex_search(part("Move"), std::regex("stopped for +\\d+ ms, 1 QPs")))
      << part("Move");

  // NAK_STOPPED by the container, all with the PSN that it expects; its RESUME; the answer.
  std::istringstream packets(part("What was on the wire"));
  std::string line, kinds, waiting;
  while (std::getline(packets, line) && line.find("Unknown OpCode") == std::string::npos) {
    std::smatch packet;
    if (!std::regex_match(line, packet,
                          std::regex("[\\d.]+\t([\\d.]+)\t([\\d.]+)\t(\\d+)\t(\\d*)\t(\\d+)")))
      continue;
    const std::string what = packet[3].str() + " " + packet[4].str();
    if (what == "17 101") {
      EXPECT_EQ(packet[1], "10.77.1.1") << line;
      if (waiting.empty()) waiting = packet[5];
      EXPECT_EQ(packet[5], waiting) << line;
      if (kinds.empty()) kinds = "NAK_STOPPED";
    } else if (what == "25 ") {
      EXPECT_EQ(packet[1], "10.77.1.1") << line;
      kinds += " RESUME";
    } else if (what == "24 ") {
      EXPECT_EQ(packet[1], "10.77.0.3") << line;
      kinds += " RESUME_ACK";
    } else {
      ADD_FAILURE() << line;
    }
  }
  const std::regex order("NAK_STOPPED RESUME( RESUME)* RESUME_ACK( RESUME| RESUME_ACK)*");
  EXPECT_TRUE(std::regex_match(kinds, order)) << kinds << "\n" << part("What was on the wire");
  EXPECT_NE(part("What was on the wire").find("RC RDMA Write Only"), std::string::npos);

  const std::string counted = part("What the NICs have counted");
  const std::regex counters(
      "\nhome\n[^]* tx_nak_stopped: [1-9][^]*\naway\n[^]* tx_resume: [1-9][^]*\npeer\n");
  EXPECT_TRUE(std::regex_search(counted, counters)) << counted;
  EXPECT_NE(counted.find(" resume_accepted: 1\n"), std::string::npos) << counted;
  EXPECT_NE(counted.find("lqpn " + before[2].str() + " rqpn " + before[1].str() + " "),
            std::string::npos)
      << counted;
  EXPECT_NE(counted.find("drv_own_epoch 1 "), std::string::npos) << counted;
  EXPECT_NE(part("The end").find("ended, exit code 0"), std::string::npos) << part("The end");
}

INSTANTIATE_TEST_SUITE_P(Guide, FirstMigration, testing::Values("first-migration"));

}  // namespace
}  // namespace godwit::vm
