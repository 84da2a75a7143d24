// SPDX-License-Identifier: GPL-2.0-or-later
#include "glue/qtest.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>

#include "godwit_regs.h"

namespace godwit::test {
namespace {

constexpr int kTimeoutMs = 20'000;

std::string hex(std::uint64_t value) {
  char text[32];
  std::snprintf(text, sizeof(text), "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

const char* letter(unsigned size) {
  switch (size) {
    case 1:
      return "b";
    case 2:
      return "w";
    case 4:
      return "l";
    default:
      return "q";
  }
}

}  // namespace

Qtest::Qtest(const std::vector<std::string>& more) {
  // Debian's QEMU has no qtest accelerator: the CPU runs CLI, HLT, and a jump back to it.
  const int firmware = memfd_create("firmware", 0);
  std::string bytes(65536, '\x90');
  bytes.replace(0xfff0, 4, "\xfa\xf4\xeb\xfd");
  if (firmware < 0 ||
      ::write(firmware, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
    throw std::runtime_error("memfd_create");
  }
  int qtest[2], qmp[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, qtest) != 0 ||
      socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, qmp) != 0) {
    throw std::runtime_error("socketpair");
  }
  const std::string nic = std::filesystem::canonical("/proc/self/exe").parent_path().parent_path() /
                          "lib/godwit-nic.so";
  std::vector<std::string> args = {"qemu-system-x86_64",
                                   "-M",
                                   "q35",
                                   "-m",
                                   "64",
                                   "-nodefaults",
                                   "-display",
                                   "none",
                                   "-accel",
                                   "tcg",
                                   "-bios",
                                   "/proc/self/fd/" + std::to_string(firmware),
                                   "-qtest-log",
                                   "/dev/null",
                                   "-chardev",
                                   "socket,id=qtest,fd=" + std::to_string(qtest[1]),
                                   "-qtest",
                                   "chardev:qtest",
                                   "-chardev",
                                   "socket,id=qmp,fd=" + std::to_string(qmp[1]),
                                   "-mon",
                                   "chardev=qmp,mode=control"};
  bool has_nic = false;
  for (const std::string& arg : more) has_nic = has_nic || arg.rfind("godwit", 0) == 0;
  if (!has_nic) {
    args.insert(args.end(), {"-netdev", "hubport,id=n0,hubid=0", "-device",
                             "godwit,netdev=n0,id=nic,addr=4,seed=1,mac=52:54:00:67:00:01"});
  }
  args.insert(args.end(), more.begin(), more.end());
  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  argv.push_back(nullptr);
  pid_ = fork();
  if (pid_ == 0) {
    fcntl(qtest[1], F_SETFD, 0);
    fcntl(qmp[1], F_SETFD, 0);
    setenv("LD_PRELOAD", nic.c_str(), 1);
    setenv("MALLOC_PERTURB_", "165", 1);  // what is used after its end is no pointer
    execvp(argv[0], argv.data());
    _exit(127);
  }
  close(firmware);
  close(qtest[1]);
  close(qmp[1]);
  qtest_ = qtest[0];
  qmp_ = qmp[0];
  line(qmp_, &qmp_rest_);  // greeting
  this->qmp("{\"execute\":\"qmp_capabilities\"}");
}

Qtest::~Qtest() {
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  close(qtest_);
  close(qmp_);
}

bool Qtest::alive() {
  siginfo_t info = {};
  return waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == 0;
}

int Qtest::exit_code() {
  siginfo_t info = {};
  waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT);
  return info.si_code == CLD_EXITED ? info.si_status : -1;
}

std::string Qtest::line(int fd, std::string* rest) {
  for (;;) {
    const std::size_t end = rest->find('\n');
    if (end != std::string::npos) {
      const std::string found = rest->substr(0, end);
      rest->erase(0, end + 1);
      return found;
    }
    pollfd ready = {fd, POLLIN, 0};
    if (poll(&ready, 1, kTimeoutMs) != 1) throw std::runtime_error("QEMU does not answer");
    char bytes[4096];
    const ssize_t n = ::read(fd, bytes, sizeof(bytes));
    if (n <= 0) throw std::runtime_error("QEMU has ended");
    rest->append(bytes, static_cast<std::size_t>(n));
  }
}

std::uint64_t Qtest::ask(const std::string& command) {
  const std::string text = command + "\n";
  if (send(qtest_, text.data(), text.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(text.size())) {
    throw std::runtime_error("QEMU has ended");
  }
  std::string answer;
  do answer = line(qtest_, &qtest_rest_);
  while (answer.rfind("IRQ", 0) == 0);
  if (answer.rfind("OK", 0) != 0) throw std::runtime_error(command + ": " + answer);
  return answer.size() > 3 ? std::strtoull(answer.c_str() + 3, nullptr, 0) : 0;
}

void Qtest::write(std::uint64_t addr, std::uint64_t value, unsigned size) {
  ask(std::string("write") + letter(size) + " " + hex(addr) + " " + hex(value));
}

std::uint64_t Qtest::read(std::uint64_t addr, unsigned size) {
  return ask(std::string("read") + letter(size) + " " + hex(addr));
}

std::uint32_t Qtest::config_read(unsigned offset) {
  ask("outl 0xcf8 " + hex(function_ | (offset & ~3u)));
  return static_cast<std::uint32_t>(ask("inl 0xcfc"));
}

void Qtest::config_write(unsigned offset, std::uint32_t value) {
  ask("outl 0xcf8 " + hex(function_ | (offset & ~3u)));
  ask("outl 0xcfc " + hex(value));
}

unsigned Qtest::find_capability(unsigned id) {
  unsigned at = config_read(0x34) & 0xfc;
  for (unsigned i = 0; at != 0 && i < 48; ++i) {
    const std::uint32_t header = config_read(at);
    if ((header & 0xff) == id) return at;
    at = header >> 8 & 0xfc;
  }
  return 0;
}

std::string Qtest::qmp(const std::string& command) {
  const std::string text = command + "\n";
  if (send(qmp_, text.data(), text.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(text.size())) {
    throw std::runtime_error("QEMU has ended");
  }
  std::string answer;
  do answer = line(qmp_, &qmp_rest_);
  while (answer.find("\"event\"") != std::string::npos);
  return answer;
}

void Qtest::map_bars() {
  config_write(0x10 + 4 * GODWIT_BAR_REGS, kRegisters);
  config_write(0x10 + 4 * GODWIT_BAR_DOORBELLS, kDoorbells);
  config_write(0x14 + 4 * GODWIT_BAR_DOORBELLS, 0);
  config_write(0x10 + 4 * GODWIT_BAR_MSIX, kMsix);
  config_write(0x04, 0x6);
}

}  // namespace godwit::test
