// SPDX-License-Identifier: GPL-2.0-or-later
//
// The end of a guest, and of the lab.
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "command.h"

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

  // Gone, and not only a zombie.
  static bool is_gone(pid_t pid) {
    for (int i = 0; i < 100; ++i) {
      std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
      std::string text;
      if (!std::getline(stat, text) || text.find(") Z ") != std::string::npos) return true;
      usleep(100'000);
    }
    return false;
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
    EXPECT_NE(std::string(error.what()).find("the guest has died; log: "), std::string::npos) << error.what();
  }
  const Json after = parsed(godwit({"--json", "status"}));
  for (const std::string& guest : kGuests) {
    EXPECT_EQ(of(after, guest)["state"], guest == victim ? "dead" : "ready") << guest;
  }
  EXPECT_TRUE(fails_saying(godwit({"run", victim, "--", "true"}), victim + " is not up; log: "));
  EXPECT_TRUE(fails_saying(godwit({"container", "start", victim, "x", "--", "true"}), victim + " is not up"));
  EXPECT_TRUE(fails_saying(godwit({"capture", victim, lab_folder() + "/x.pcap", "--seconds", "1"}), victim));
  EXPECT_EQ(godwit({"run", other, "--", "ping", "-q", "-c", "1", "-W", "5", ip_of(kPeer)}).code, 0);

  EXPECT_EQ(godwit({"down"}).code, 0);
  for (const pid_t process : processes_of(before)) EXPECT_TRUE(is_gone(process)) << process;
  EXPECT_EQ(files_left(), std::vector<std::string>{"log"});
  EXPECT_TRUE(fails_saying(godwit({"status"}), "no lab is up here"));
  EXPECT_EQ(godwit({"down"}).code, 0);  // nothing to do
}

INSTANTIATE_TEST_SUITE_P(Lab, WholeLab, testing::Values(kAway));

}  // namespace
}  // namespace godwit::vm
