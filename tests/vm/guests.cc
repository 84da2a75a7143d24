// SPDX-License-Identifier: GPL-2.0-or-later
#include "guests.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "error.h"
#include "perftest.h"
#include "plan.h"

extern char** environ;

namespace godwit::vm {
namespace {

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// As the lab was after boot, or after a test that has already been blamed.
std::map<std::string, std::string>& baselines() {
  static std::map<std::string, std::string> map;
  return map;
}

Lab& lab_object() {
  static Lab lab(lab_folder());
  return lab;
}

volatile sig_atomic_t daemon_pid = 0;

// The lab must not outlive the tests; it ends in order when its daemon is told to.
void on_signal(int number) {
  if (daemon_pid > 0) kill(daemon_pid, SIGTERM);
  _exit(128 + number);
}

bool all_ready(const nlohmann::json& status) {
  if (status["guests"].size() != std::size(kGuests) || !status.value("virtio", false)) return false;
  for (const auto& guest : status["guests"]) {
    if (guest["state"] != "ready") return false;
  }
  return true;
}

}  // namespace

std::string lab_folder() {
  // A lab that is up already makes the work on a test quick; it stays up.
  const char* given = getenv("GODWIT_TEST_LAB");
  if (given != nullptr && *given != 0) return given;
  return "/tmp/godwit-test-" + std::to_string(getpid());
}

const Lab& the_lab() {
  Lab& lab = lab_object();
  static bool known = false;
  // The guests of a lab whose daemon a test has killed go on; those that a killed test run has left
  // go.
  if (known) (void)lab.revive([](const std::string&) {});
  if (!lab.is_up()) {
    lab.down();
  } else {
    const auto status = lab.status();
    daemon_pid = status.value("pid", 0);
    if (all_ready(status)) {
      if (!known) {
        for (const std::string& guest : kGuests) baselines()[guest] = remains(guest);
        known = true;
      }
      return lab;
    }
    lab.down();
  }
  known = false;
  const auto start = Clock::now();
  std::printf("-- booting three guests; logs in %s/log\n", lab.folder().c_str());
  std::fflush(stdout);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) signal(number, on_signal);
  lab::LabOptions options;
  options.guests = static_cast<int>(std::size(kGuests));
  options.virtio = true;
  lab.up(options, [](const std::string&) {});
  daemon_pid = lab.status().value("pid", 0);
  std::printf("-- up after %.0f s\n", seconds_since(start));
  std::fflush(stdout);
  for (const std::string& guest : kGuests) baselines()[guest] = remains(guest);
  known = true;
  return lab;
}

void stop_lab() {
  if (getenv("GODWIT_TEST_LAB") == nullptr) lab_object().down();
  daemon_pid = 0;
}

std::string must(const std::string& guest, const std::string& script, double seconds) {
  return the_lab().must(guest, script, seconds);
}

ExecResult shell(const std::string& guest, const std::string& script, double seconds) {
  return the_lab().shell(guest, script, seconds);
}

std::unique_ptr<Process> launch(const std::string& guest, const std::string& script) {
  auto process = the_lab().start(guest, {"bash", "-c", script});
  process->write("");
  return process;
}

void wait_for_listener(const std::string& guest, int port) {
  must(guest, "for i in $(seq 300); do [ -n \"$(ss -Hltn sport = :" + std::to_string(port) +
                  ")\" ] && exit 0; sleep 0.1; done; echo nobody listens; exit 1");
}

std::string verbs_command(const std::string& program, const std::string& device, int gid, int port,
                          const std::string& options) {
  const bool pingpong = program.rfind("ibv_", 0) == 0;
  // -u 18: a second until a packet is sent again, for a host that is busy
  return program + (pingpong ? "" : " -F -u 18") + " -d " + device + (pingpong ? " -g " : " -x ") +
         std::to_string(gid) + " -p " + std::to_string(port) + " " + options;
}

void wait_for_figures(Process& verify, double seconds) {
  verify.wait_for_line(
      [](const std::string& line) { return line.find("op/s") != std::string::npos; }, seconds);
}

void set_cable(const std::string& guest, bool on) {
  const nlohmann::json reply = the_lab().request(
      {{"op", "qmp"},
       {"guest", guest},
       {"command", {{"execute", "set_link"}, {"arguments", {{"name", "nic"}, {"up", on}}}}}});
  if (!reply.at("answer").contains("return")) throw lab::Error(reply.dump());
}

std::string ip_of(const std::string& guest) { return lab::guest_ip(lab::guest_index(guest)); }

std::string ip6_of(const std::string& guest) {
  return "fd67::" + std::to_string(lab::guest_index(guest));
}

std::string gid_of(const std::string& address) {
  unsigned char bytes[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (inet_pton(AF_INET, address.c_str(), bytes + 12) != 1 &&
      inet_pton(AF_INET6, address.c_str(), bytes) != 1) {
    throw lab::Error(address + " is no address");
  }
  std::string text;
  char part[8];
  for (int i = 0; i < 16; i += 2) {
    snprintf(part, sizeof(part), "%s%02x%02x", i != 0 ? ":" : "", bytes[i], bytes[i + 1]);
    text += part;
  }
  return text;
}

int gid_index(const std::string& guest, const std::string& device, const std::string& address) {
  return std::stoi(must(guest, "cd /sys/class/infiniband/" + device + "/ports/1\n" +
                                   "for i in {0..63}; do read gid < gids/$i || break\n"
                                   "  [ $gid = " +
                                   gid_of(address) +
                                   " ] || continue\n"
                                   "  [ \"$(cat gid_attrs/types/$i)\" = 'RoCE v2' ] || continue\n"
                                   "  echo $i; exit 0; done\n"
                                   "echo no GID " +
                                   address + " on " + device + "; cat gids/?; exit 1"));
}

namespace {

Talk talk_once(const Side& server, const Side& client, int port, double seconds) {
  const auto serving = launch(server.guest, server.command);
  Talk result;
  try {
    wait_for_listener(server.guest, port);
    result.client = shell(client.guest, client.command, seconds);
    result.server = serving->wait(result.client.code == 0 ? seconds : 5);
  } catch (const std::exception& error) {
    throw lab::Error(std::string(error.what()) + "\nserver, " + server.guest + ": " +
                     server.command + "\n" + serving->output() + "\nclient, " + client.guest +
                     ": " + client.command + "\n" + result.client.out);
  }
  return result;
}

}  // namespace

Talk talk(const Side& server, const Side& client, int port, double seconds) {
  for (int attempt = 1;; ++attempt) {
    Talk result = talk_once(server, client, port, seconds);
    if (attempt == 3 || !lab::perftest_lost_its_clock(result.server.out + result.client.out))
      return result;
    std::printf("-- perftest could not measure its clock: once more\n");
  }
}

testing::AssertionResult good(const Talk& talk) {
  // ibv_rc_pingpong -c tells of wrong bytes, and ends with 0 all the same.
  const bool wrong_bytes =
      (talk.server.out + talk.client.out).find("invalid data") != std::string::npos;
  if (talk.server.code == 0 && talk.client.code == 0 && !wrong_bytes)
    return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << "server: exit code " << talk.server.code << "\n"
         << talk.server.out << "\nclient: exit code " << talk.client.code << "\n"
         << talk.client.out;
}

int fresh_port() {
  static int port = 20000;
  return port++;
}

HostResult run_on_host(const Argv& argv, double seconds,
                       const std::map<std::string, std::string>& env) {
  int out[2], err[2];
  if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) lab::throw_errno("pipe");
  std::vector<std::string> variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text(*entry);
    if (env.count(text.substr(0, text.find('='))) == 0) variables.push_back(text);
  }
  for (const auto& [name, value] : env) variables.push_back(name + "=" + value);
  std::vector<char*> arguments, environment;
  for (const std::string& arg : argv) arguments.push_back(const_cast<char*>(arg.c_str()));
  for (const std::string& entry : variables)
    environment.push_back(const_cast<char*>(entry.c_str()));
  arguments.push_back(nullptr);
  environment.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  posix_spawn_file_actions_adddup2(&actions, err[1], 2);
  pid_t pid = -1;
  const int error =
      posix_spawnp(&pid, arguments[0], &actions, nullptr, arguments.data(), environment.data());
  posix_spawn_file_actions_destroy(&actions);
  close(out[1]);
  close(err[1]);
  HostResult result;
  if (error != 0) throw lab::Error(argv[0] + " cannot be started");
  const auto start = Clock::now();
  bool late = false;
  for (int open = 2; open > 0;) {
    pollfd entries[2] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
    if (!late && seconds_since(start) > seconds) {
      late = true;
      kill(pid, SIGKILL);
    }
    // What it started may hold the pipes for longer than it lives.
    if (late && seconds_since(start) > seconds + 5) break;
    if (poll(entries, 2, 200) <= 0) continue;
    for (int i = 0; i < 2; ++i) {
      if (entries[i].revents == 0) continue;
      char buffer[65536];
      const ssize_t n = read(entries[i].fd, buffer, sizeof(buffer));
      if (n > 0) {
        (i == 0 ? result.out : result.err).append(buffer, static_cast<std::size_t>(n));
      } else {
        close(entries[i].fd);
        (i == 0 ? out : err)[0] = -1;
        --open;
      }
    }
  }
  for (const int fd : {out[0], err[0]}) {
    if (fd >= 0) close(fd);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  if (late) throw lab::Error(argv[0] + ": not done in time\n" + result.out + result.err);
  result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

bool the_process_lives(int pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  return std::getline(stat, text) && text.find(") Z ") == std::string::npos;
}

std::string remains(const std::string& guest) {
  // Few processes: each costs tens of milliseconds in an emulated guest.
  static const char kScript[] = R"(
shopt -s nullglob dotglob
echo "RDMA objects:"; rdma resource show godwit0 | sed 's/^[0-9]*: //'  # a driver loaded anew counts on
echo "tombstones:"; godwit-cr list
echo "containers:" /run/runc/* /var/lib/containers/*
echo "network namespaces:" /run/netns/*
echo "links:"; for link in /sys/class/net/*; do echo " ${link##*/}"; done
echo "mounts:"; while read _ where _; do
  case $where in /mnt/share|/run/netns) ;; *) echo " $where";; esac; done < /proc/mounts | sort
echo "processes:"; for f in /proc/[0-9]*/comm; do
  { read name < $f; } 2> /dev/null || continue
  case $name in ib_send_*|ib_write_*|ib_read_*|ib_atomic_*|ibv_*|godwit-verify|godwit-objects|godwit-quiet|criu|runc|socat|iperf3|python3|sleep|tail) echo " $name";; esac
done | sort
echo "cgroups:"; for group in /sys/fs/cgroup/*/; do  # podman keeps its parent
  case $group in */libpod_parent/) ;; *) echo " $group";; esac; done
echo "files:" /tmp/* /run/godwit/* /mnt/share/*
echo "kernel:"; dmesg | grep -E 'WARNING:|BUG:|Oops|refcount_t|Call Trace|godwit 0000.*timed out'
true)";
  return lab_object().must(guest, kScript);
}

void GuestTest::SetUp() {
  started_ = Clock::now();
  the_lab();
}

void GuestTest::TearDown() {
  Lab& lab = lab_object();
  bool answers = true;
  for (const std::string& guest : kGuests) {
    try {
      // What a program that ends gives back is gone a little later.
      std::string now;
      for (int i = 0; i < 20 && (now = remains(guest)) != baselines()[guest]; ++i) usleep(500'000);
      EXPECT_EQ(baselines()[guest], now) << guest << " is not as it was before the test";
      baselines()[guest] = now;
    } catch (const std::exception& error) {
      ADD_FAILURE() << guest << ": " << error.what();
      answers = false;
    }
  }
  if (!HasFailure()) return;
  std::printf("-- logs of the guests: %s/log\n", lab.folder().c_str());
  for (const std::string& guest : kGuests) {
    try {
      std::printf(
          "-- kernel's log of %s during the test\n%s", guest.c_str(),
          lab.shell(guest,
                    "now=$(cut -d. -f1 /proc/uptime); dmesg | tr -d '[]' | awk -v since=$((now - " +
                        std::to_string(static_cast<int>(seconds_since(started_)) + 1) +
                        ")) '$1 >= since' | tail -n 30")
              .out.c_str());
    } catch (const std::exception& error) {
      std::printf("-- %s: %s\n", guest.c_str(), error.what());
    }
  }
  if (!answers) lab.down();  // the next test has a new one
}

}  // namespace godwit::vm

namespace {

// One line a test, when it ends: what a reader of the log wants to follow.
class Progress : public testing::EmptyTestEventListener {
  void OnTestEnd(const testing::TestInfo& info) override {
    const auto& result = *info.result();
    std::printf("   %6.1f s  %s.%s%s\n", static_cast<double>(result.elapsed_time()) / 1000,
                info.test_suite_name(), info.name(),
                result.Skipped()  ? " (skipped)"
                : result.Passed() ? ""
                                  : " FAILED");
    std::fflush(stdout);
  }
};

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  testing::UnitTest::GetInstance()->listeners().Append(new Progress);
  setvbuf(stdout, nullptr, _IOLBF, 0);
  const int result = RUN_ALL_TESTS();
  godwit::vm::stop_lab();
  // After a failure the logs are wanted.
  std::error_code ignored;
  if (result == 0 && getenv("GODWIT_TEST_LAB") == nullptr) {
    std::filesystem::remove_all(godwit::vm::lab_folder(), ignored);
  }
  return result;
}
