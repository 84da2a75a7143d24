// SPDX-License-Identifier: GPL-2.0-or-later
//
// The TCP connection beside the queue pairs: lines of text. It may be idle for
// minutes and has no time limit of its own once both sides have met.
#ifndef GODWIT_TESTS_APPS_CONTROL_H
#define GODWIT_TESTS_APPS_CONTROL_H

#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support.h"

namespace godwit::apps {

class Control {
 public:
  enum class Got { kLine, kNothing, kClosed };

  explicit Control(int fd) : fd_(fd) {
    const int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  }
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;
  ~Control() { close(fd_); }

  int fd() const { return fd_; }

  void send(const std::string& line) {
    const std::string text = line + "\n";
    for (std::size_t at = 0; at < text.size();) {
      const ssize_t n = ::send(fd_, text.data() + at, text.size() - at, MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return;  // the reader will notice
      at += static_cast<std::size_t>(n);
    }
  }

  // One line if there is one; never waits.
  Got poll_line(std::string* line) {
    for (;;) {
      const std::size_t end = buffer_.find('\n');
      if (end != std::string::npos) {
        *line = buffer_.substr(0, end);
        buffer_.erase(0, end + 1);
        return Got::kLine;
      }
      char bytes[4096];
      const ssize_t n = recv(fd_, bytes, sizeof(bytes), MSG_DONTWAIT);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Got::kNothing;
      if (n <= 0 || buffer_.size() > kMaxLine) return Got::kClosed;
      buffer_.append(bytes, static_cast<std::size_t>(n));
    }
  }

  // Waits as long as it takes.
  std::string line() {
    std::string text;
    for (;;) {
      switch (poll_line(&text)) {
        case Got::kLine:
          return text;
        case Got::kClosed:
          die("the peer has closed the control connection");
        case Got::kNothing:
          break;
      }
      pollfd wait = {fd_, POLLIN, 0};
      if (poll(&wait, 1, -1) < 0 && errno != EINTR) die("poll: %s", std::strerror(errno));
    }
  }

  // This end's address, as a GID would hold it
  Address own_address() const {
    sockaddr_storage address = {};
    socklen_t length = sizeof(address);
    unsigned char bytes[16];
    if (getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &length) != 0 ||
        !to_gid_bytes(reinterpret_cast<sockaddr*>(&address), bytes)) {
      die("the control connection has no IP address");
    }
    return Address(bytes, bytes + 16);
  }

 private:
  static constexpr std::size_t kMaxLine = 1 << 20;

  int fd_;
  std::string buffer_;
};

inline addrinfo* resolve(const char* host, const std::string& port, int flags) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* list = nullptr;
  const int error = getaddrinfo(host, port.c_str(), &hints, &list);
  if (error != 0) die("%s port %s: %s", host ? host : "*", port.c_str(), gai_strerror(error));
  return list;
}

inline int listen_once(const std::string& port, int backlog = 1) {
  addrinfo* list = resolve(nullptr, port, AI_PASSIVE);
  // An IPv6 socket takes IPv4 too.
  for (const int family : {AF_INET6, AF_INET}) {
    for (const addrinfo* i = list; i != nullptr; i = i->ai_next) {
      if (i->ai_family != family) continue;
      const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (fd < 0) continue;
      const int on = 1, off = 0;
      setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
      if (family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
      if (bind(fd, i->ai_addr, i->ai_addrlen) == 0 && listen(fd, backlog) == 0) {
        freeaddrinfo(list);
        return fd;
      }
      close(fd);
    }
  }
  die("cannot listen on port %s: %s", port.c_str(), std::strerror(errno));
}

// A server may come up later than its client.
inline int connect_to(const std::string& host, const std::string& port, unsigned patience_s) {
  const std::uint64_t end = now_ns() + patience_s * 1'000'000'000ull;
  addrinfo* list = resolve(host.c_str(), port, 0);
  for (;;) {
    int error = ECONNREFUSED;
    for (const addrinfo* i = list; i != nullptr; i = i->ai_next) {
      const int fd = socket(i->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (fd < 0) continue;
      if (connect(fd, i->ai_addr, i->ai_addrlen) == 0) {
        freeaddrinfo(list);
        return fd;
      }
      error = errno;
      close(fd);
    }
    if (now_ns() >= end) die("%s port %s: %s", host.c_str(), port.c_str(), std::strerror(error));
    usleep(200'000);
  }
}

}  // namespace godwit::apps

#endif  // GODWIT_TESTS_APPS_CONTROL_H
