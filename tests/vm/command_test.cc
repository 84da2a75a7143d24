// SPDX-License-Identifier: GPL-2.0-or-later
//
// The godwit command as users and scripts see it.
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <vector>

#include "command.h"
#include "error.h"
#include "fault_point.h"

namespace godwit::vm {
namespace {

namespace fs = std::filesystem;

class Command : public GuestTest {};

TEST_F(Command, RunGivesOutputAndExitCodeOfTheCommand) {
  const HostResult result =
      godwit({"run", kHome, "--", "sh", "-c", "echo out; echo err >&2; exit 7"});
  EXPECT_EQ(result.code, 7);
  EXPECT_EQ(result.out, "out\n");
  EXPECT_EQ(result.err, "err\n");
  EXPECT_EQ(godwit({"run", kHome, "--", "sh", "-c", "kill -9 $$"}).code, 128 + 9);
  const Json json =
      Json::parse(godwit({"--json", "run", kHome, "--", "sh", "-c", "echo out; exit 3"}).out);
  EXPECT_EQ(json["code"], 3);
  EXPECT_EQ(json["stdout"], "out\n");
  EXPECT_TRUE(fails_saying(godwit({"run", kHome, "--", "no-such-program"}), "no-such-program"));
}

// What is typed into the shell meanwhile is not its input, and does not stop it.
TEST_F(Command, RunInTheBackgroundLeavesTheTerminalAlone) {
  const char* script = R"sh((
sleep 1; echo "$GODWIT run home -- sh -c 'sleep 3; echo said' &"
sleep 1; echo 'echo typed'
sleep 1; echo 'echo stopped: $(jobs -s | grep -c .); [ -n "$(jobs -s)" ] || wait; exit'
for i in $(seq 90); do sleep 0.5; echo; done 2> /dev/null) | script -qec 'bash --norc --noprofile -i' /dev/null)sh";
  const HostResult result = run_on_host({"bash", "-c", script}, 60,
                                        {{"GODWIT_LAB", lab_folder()},
                                         {"GODWIT", lab::build_folder() + "/bin/godwit"},
                                         {"TERM", "dumb"}});
  EXPECT_NE(result.out.find("stopped: 0"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("said"), std::string::npos) << result.out;
}

TEST_F(Command, StatusAsJsonNamesGuestsAndWire) {
  const Json status = parsed(godwit({"--json", "status"}));
  ASSERT_EQ(status["guests"].size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    const Json& guest = status["guests"][i];
    EXPECT_EQ(guest["name"], kGuests[i]);
    EXPECT_EQ(guest["state"], "ready");
    EXPECT_EQ(guest["ip"], ip_of(kGuests[i]));
    EXPECT_TRUE(fs::exists(guest["log"].get<std::string>()));
  }
  EXPECT_EQ(status["ports"].size(), 6u);  // NIC and plain NIC of each
  EXPECT_EQ(status["containers"], Json::array());
}

TEST_F(Command, CopiesAreTheSameByteForByte) {
  const fs::path here = fs::path(lab_folder()) / "copy";
  std::string bytes(3 << 20, '\0');
  unsigned value = 1;
  for (char& byte : bytes) byte = static_cast<char>((value = value * 1664525 + 1013904223) >> 24);
  std::ofstream(here, std::ios::binary) << bytes;
  fs::permissions(here, fs::perms::owner_all);
  EXPECT_EQ(godwit({"cp", here, "home:/tmp/copy"}).code, 0);
  EXPECT_EQ(must(kHome, "stat -c %a /tmp/copy"), "700\n");
  EXPECT_EQ(godwit({"cp", "home:/tmp/copy", here.string() + ".back"}).code, 0);
  std::ifstream in(here.string() + ".back", std::ios::binary);
  std::stringstream back;
  back << in.rdbuf();
  EXPECT_TRUE(back.str() == bytes);
  EXPECT_TRUE(
      fails_saying(godwit({"cp", "home:/no/such/file", here.string() + ".none"}), "/no/such/file"));
  EXPECT_FALSE(fs::exists(here.string() + ".none"));
  EXPECT_TRUE(fails_saying(godwit({"cp", here.string() + ".none", "home:/tmp/x"}), ".none"));
  EXPECT_TRUE(fails_saying(godwit({"cp", lab_folder(), "home:/tmp/x"}), "is a folder"));
  EXPECT_TRUE(fails_saying(godwit({"cp", "home:/tmp/copy", "/dev/full"}), "No space left"));
  must(kHome, "rm /tmp/copy");
  fs::remove(here);
  fs::remove(here.string() + ".back");
}

TEST_F(Command, ContainersLiveAsTheirVerbsSay) {
  const Json started = parsed(godwit(
      {"--json", "container", "start", kAway, "box", "--", "sh", "-c", "hostname; sleep 1000"}));
  EXPECT_EQ(started["guest"], kAway);
  const Json list = parsed(godwit({"--json", "container", "list"}));
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0]["name"], "box");
  EXPECT_EQ(list[0]["ip"], started["ip"]);
  EXPECT_EQ(list[0]["running"], true);
  EXPECT_EQ(parsed(godwit({"--json", "status"}))["containers"][0]["name"], "box");
  EXPECT_EQ(godwit({"container", "logs", "box"}).out, "box\n");
  EXPECT_TRUE(fails_saying(godwit({"container", "start", kHome, "box", "--", "true"}),
                           "box is there already"));
  // Its address answers on the wire.
  EXPECT_EQ(godwit({"run", kHome, "--", "ping", "-q", "-c", "1", "-W", "5", started["ip"]}).code,
            0);
  EXPECT_EQ(godwit({"container", "rm", "box"}).code, 0);
  EXPECT_EQ(parsed(godwit({"--json", "container", "list"})), Json::array());
  EXPECT_TRUE(fails_saying(godwit({"container", "rm", "box"}), "no container box"));
}

TEST_F(Command, CaptureWritesWhatIsOnTheWire) {
  const fs::path file = fs::path(lab_folder()) / "wire.pcap";
  const auto ping = launch(kHome, "exec ping -q -i 0.2 -c 20 " + ip_of(kPeer));
  const HostResult result = godwit({"capture", kHome, file, "--seconds", "2"});
  EXPECT_EQ(result.code, 0) << result.err;
  ping->wait(30);
  const HostResult shown = run_on_host({"tshark", "-r", file, "-Y", "icmp"}, 60);
  EXPECT_NE(shown.out.find("Echo (ping) reply"), std::string::npos) << shown.out << shown.err;
  fs::remove(file);
}

// Soft-RoCE where it is asked for, once; gone when it is not wanted any more.
TEST_F(Command, RxeMakesSoftRoceAndTakesItAway) {
  const Json made = parsed(godwit({"--json", "rxe", kPeer}));
  EXPECT_EQ(made["netdev"], "vn0");
  EXPECT_EQ(made["ip"], lab::virtio_ip(lab::guest_index(kPeer)));
  EXPECT_EQ(made["gid_index"], gid_index(kPeer, made["device"], made["ip"]));
  EXPECT_NE(
      must(kPeer, "rdma link show").find(made["device"].get<std::string>() + "/1 state ACTIVE"),
      std::string::npos);
  const HostResult again = godwit({"rxe", kPeer});
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(again.out, made["device"].get<std::string>() + " on peer's vn0, 10.77.2.3, GID index " +
                           std::to_string(made["gid_index"].get<int>()) + "\n");
  EXPECT_EQ(must(kPeer, "rdma link show | grep -c vn0"), "1\n");
  // A device by another name is as good.
  must(kPeer, "rdma link del " + made["device"].get<std::string>() +
                  "; rdma link add soft type rxe netdev vn0");
  EXPECT_EQ(parsed(godwit({"--json", "rxe", kPeer}))["device"], "soft");
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(parsed(godwit({"--json", "rxe", kPeer, "--off"}))["device"], Json());
    EXPECT_EQ(must(kPeer, "rdma link show | grep vn0; lsmod | grep rdma_rxe; true"), "");
  }
  EXPECT_TRUE(fails_saying(godwit({"rxe", "nowhere"}), "no guest nowhere"));
  // As if the kernel had no such module.
  must(kPeer,
       "mkdir -p /run/modprobe.d; echo 'install rdma_rxe /bin/false' > /run/modprobe.d/rxe.conf");
  EXPECT_TRUE(fails_saying(godwit({"rxe", kPeer}), "rdma_rxe"));
  must(kPeer, "rm /run/modprobe.d/rxe.conf");
}

// Needs no lab: what is wrong with an option is told first.
TEST(FailAt, TheDocumentHasTheFailuresThatThereAre) {
  const auto known = [](const std::string& fault) {
    try {
      (void)lab::parse_fault_point(fault);
      return std::string();
    } catch (const lab::Error& error) {
      const std::string text = error.what();
      return text.substr(text.find("there are ") + 10);
    }
  };
  const auto words = [](const std::string& text, const char* pattern) {
    std::set<std::string> found;
    const std::regex word(pattern);
    for (auto it = std::sregex_iterator(text.begin(), text.end(), word);
         it != std::sregex_iterator(); ++it) {
      found.insert((*it)[1]);
    }
    return found;
  };
  std::map<std::string, std::set<std::string>> documented, real;
  std::ifstream document(GODWIT_SOURCE "/docs/spec/lab.md");
  std::vector<std::string> hows;
  for (std::string line; std::getline(document, line);) {
    std::vector<std::string> cells;
    std::istringstream row(line);
    for (std::string cell; std::getline(row, cell, '|');) cells.push_back(cell);
    if (cells.size() < 7) continue;
    if (line.rfind("| step | MARK |", 0) == 0) hows = cells;
    if (hows.empty() || line.rfind("| `", 0) != 0) continue;
    std::set<std::string> happens = words(cells[6], "`([a-z]+)`");
    for (std::size_t i = 3; i < 6; ++i) {
      if (cells[i].find_first_not_of(' ') != std::string::npos)
        happens.merge(words(hows[i], "`([a-z]+)`"));
    }
    for (const std::string& step : words(cells[1], "`([a-z-]+)`")) documented[step] = happens;
    if (line.rfind("| `roll-back`", 0) == 0) break;
  }
  for (const std::string& step : words(known("none"), "([a-z-]+)")) {
    real[step] = words(known(step + ":none"), "([a-z]+)");
  }
  EXPECT_EQ(documented, real);
}

// What it writes is not read, cannot be written, or is no UTF-8; what it reads is closed.
TEST_F(Command, OutputAndInputMayBeMissing) {
  const auto host = [](const std::string& script) {
    return run_on_host(
        {"bash", "-c", script}, 60,
        {{"GODWIT_LAB", lab_folder()}, {"GODWIT", lab::build_folder() + "/bin/godwit"}});
  };
  const HostResult unread = host("$GODWIT run home -- yes | head -n 1; echo ${PIPESTATUS[0]}");
  EXPECT_EQ(unread.out, "y\n141\n");
  EXPECT_EQ(unread.err, "");
  must(kHome,
       "for i in $(seq 50); do pgrep -x yes > /dev/null || exit 0; read -t 0.1 < <(:); done; exit "
       "1");
  EXPECT_TRUE(fails_saying(host("$GODWIT run home -- echo > /dev/full"), "No space left"));
  EXPECT_TRUE(fails_saying(host("$GODWIT --json status > /dev/full"), "No space left"));
  EXPECT_TRUE(fails_saying(host("$GODWIT --help > /dev/full"), "No space left"));
  EXPECT_EQ(host("$GODWIT run home -- cat <&-").code, 0);
  EXPECT_EQ(host("$GODWIT run home -- cat <&- >&-").code, 0);
  const Json json = parsed(godwit({"--json", "run", kHome, "--", "printf", "a\\377b"}));
  EXPECT_EQ(json["stdout"], "a\uFFFDb");
  EXPECT_TRUE(fails_saying(godwit({"run", kHome, "--", "echo", "\xff"}), "UTF-8"));
  const HostResult failed = godwit({"--json", "cp", "home:/\xff", "x"});
  EXPECT_EQ(failed.code, 1);
  EXPECT_TRUE(Json::parse(failed.out).contains("error"));
}

// Wrong usage: exit code 2, and one line that says what.
TEST_F(Command, WrongUsageIsTold) {
  const Argv wrong[] = {{},
                        {"no-such-command"},
                        {"up", "--no-such-option"},
                        {"up", "two"},
                        {"up", "3", "4"},
                        {"status", "more"},
                        {"run"},
                        {"run", kHome},
                        {"run", kHome, "--"},
                        {"cp", "one"},
                        {"cp", "home:/a", "away:/b"},
                        {"container"},
                        {"container", "no-such-verb", "x"},
                        {"container", "start", kHome},
                        {"migrate", "x"},
                        {"rxe"},
                        {"rxe", kPeer, "on"},
                        {"capture", kHome},
                        {"down", "now"},
                        {"up", "--memory"},
                        {"up", "--nic"},
                        {"run", "--no-such-option"},
                        {"shell", "--no-such-option"},
                        {"container", "start", kHome, "x", "--"},
                        {"container", "logs"},
                        {"container", "rm", "--no-such-option"},
                        {"migrate", "x", kAway, "--fail-at"},
                        {"migrate", "x", kAway, "--step-timeout", "0"},
                        {"rxe", "--no-such-option"},
                        {"capture", kHome, "file", "--seconds", "-1"},
                        {"demo", "--app="},
                        {"demo", "--role", "none"}};
  for (const Argv& args : wrong) {
    std::string line;
    for (const std::string& arg : args) line += " " + arg;
    const HostResult result = godwit(args);
    EXPECT_EQ(result.code, 2) << "godwit" << line << "\n" << result.out << result.err;
    EXPECT_EQ(result.out, "") << "godwit" << line;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << "godwit" << line << "\n"
                                                                         << result.err;
  }
}

TEST_F(Command, HelpIsThereForAll) {
  const HostResult all = godwit({"--help"});
  EXPECT_EQ(all.code, 0);
  for (const char* command :
       {"up", "status", "run", "shell", "cp", "container", "migrate", "rxe", "capture", "down"}) {
    const HostResult help = godwit({command, "--help"});
    EXPECT_EQ(help.code, 0) << command;
    EXPECT_NE(help.out.find(std::string("Usage: godwit [--json] ") + command), std::string::npos)
        << help.out;
    EXPECT_NE(all.out.find(std::string("  ") + command), std::string::npos) << all.out;
  }
}

TEST_F(Command, UnknownGuestsAndLabsAreTold) {
  EXPECT_TRUE(fails_saying(godwit({"run", "nowhere", "--", "true"}), "no guest nowhere"));
  EXPECT_TRUE(fails_saying(godwit({"container", "start", "nowhere", "x", "--", "true"}),
                           "no guest nowhere"));
  EXPECT_TRUE(fails_saying(godwit({"migrate", "nobody", kAway}), "no container nobody"));
  EXPECT_TRUE(fails_saying(godwit({"up", "3"}), "a lab is up already"));
  const HostResult nothing_up = run_on_host({lab::build_folder() + "/bin/godwit", "status"}, 30,
                                            {{"GODWIT_LAB", lab_folder() + "/no-such-lab"}});
  EXPECT_TRUE(fails_saying(nothing_up, "no lab is up here"));
  const auto up_in = [](const std::string& folder, const std::string& accel) {
    return run_on_host({lab::build_folder() + "/bin/godwit", "up", "1"}, 30,
                       {{"GODWIT_LAB", folder}, {"GODWIT_ACCEL", accel}});
  };
  EXPECT_TRUE(fails_saying(up_in("/etc", "tcg"), "choose another $GODWIT_LAB"));
  EXPECT_TRUE(fails_saying(up_in("/etc/passwd", "tcg"), "choose another $GODWIT_LAB"));
  EXPECT_TRUE(fails_saying(up_in("/proc/lab", "tcg"), "choose another $GODWIT_LAB"));
  EXPECT_TRUE(
      fails_saying(up_in("/tmp/" + std::string(90, 'x'), "tcg"), "choose a shorter $GODWIT_LAB"));
  EXPECT_FALSE(fs::exists("/tmp/" + std::string(90, 'x')));
  EXPECT_TRUE(fails_saying(up_in(lab_folder() + "/other", "none"), "there are kvm and tcg"));
}

// A VM that hangs is named; not only what was to be done in it.
TEST_F(Command, AStoppedGuestIsTold) {
  const pid_t pid = the_lab().status()["guests"][0]["pid"];
  kill(pid, SIGSTOP);
  try {
    (void)the_lab().exec(kHome, {"true"}, 3);
    ADD_FAILURE() << "a stopped guest answers";
  } catch (const lab::Error& error) {
    EXPECT_NE(std::string(error.what()).find("home does not answer"), std::string::npos)
        << error.what();
  }
  kill(pid, SIGCONT);
}

TEST_F(Command, InterruptedCommandsLeaveNothingRunning) {
  // In the guest, `sleep` must go with the command that was waiting for it.
  const auto start = Clock::now();
  const HostResult result =
      run_on_host({"timeout", "-s", "INT", "3", lab::build_folder() + "/bin/godwit", "run", kHome,
                   "--", "sleep", "500"},
                  30, {{"GODWIT_LAB", lab_folder()}});
  EXPECT_NE(result.code, 0);
  EXPECT_LT(std::chrono::duration<double>(Clock::now() - start).count(), 20);
  EXPECT_NO_THROW(must(kHome,
                       "for i in $(seq 50); do pgrep -x sleep > /dev/null || exit 0; read -t 0.1 < "
                       "<(:); done; exit 1"));
}

}  // namespace
}  // namespace godwit::vm
