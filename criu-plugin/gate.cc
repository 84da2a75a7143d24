// SPDX-License-Identifier: GPL-2.0-or-later
#include "gate.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace godwit::criu {
namespace {

long now_ms() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

long timeout_ms() {
  const char* text = getenv("GODWIT_GATE_TIMEOUT");
  long seconds = text ? strtol(text, nullptr, 10) : 0;
  return (seconds > 0 && seconds < 86400 ? seconds : 60) * 1000;
}

}  // namespace

std::string Gate::open() {
  const char* path = getenv("GODWIT_GATE");
  if (!path || !*path) return {};
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (strlen(path) >= sizeof(address.sun_path)) return "GODWIT_GATE: path too long";
  memcpy(address.sun_path, path, strlen(path));
  socket_.reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket_.valid() ||
      connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)))
    return std::string("GODWIT_GATE ") + path + ": " + strerror(errno);
  return {};
}

bool Gate::send_line(const std::string& line) {
  std::string text = line + "\n";
  return send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL) ==
         static_cast<ssize_t>(text.size());
}

std::string Gate::wait_for_go(unsigned qps) {
  if (!socket_.valid()) return {};
  if (!send_line("ready " + std::to_string(qps))) return "gate: the orchestrator has gone";
  std::string line;
  const long deadline = now_ms() + timeout_ms();
  while (line.find('\n') == std::string::npos) {
    long left = deadline - now_ms();
    if (left <= 0) return "gate: no answer in time";
    pollfd entry = {.fd = socket_.get(), .events = POLLIN, .revents = 0};
    int n = poll(&entry, 1, static_cast<int>(left));
    if (n < 0 && errno != EINTR) return "gate: poll failed";
    if (n <= 0) continue;
    char c;
    if (read(socket_.get(), &c, 1) != 1) return "gate: the orchestrator has gone";
    line += c;
    if (line.size() > 64) return "gate: bad answer";
  }
  if (line == "go\n") return {};
  return line == "abort\n" ? "gate: the orchestrator gave up" : "gate: bad answer";
}

void Gate::report(const std::string& line) {
  if (socket_.valid()) send_line(line);
  socket_.reset();
}

}  // namespace godwit::criu
