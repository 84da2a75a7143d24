// SPDX-License-Identifier: GPL-2.0-or-later
#include "switch.h"

#include <glib-unix.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "error.h"
#include "unix_socket.h"

namespace godwit::lab {
namespace {

// Bytes for one port: more than a QP's READs may have under way, 16 of 1 MiB.
constexpr std::size_t kMaxQueued = 64 << 20;
constexpr std::size_t kMaxFrame = 65536;
constexpr std::size_t kMaxLearned = 4096;
constexpr int kBatch = 64;

}  // namespace

Switch::~Switch() {
  for (auto& port : ports_) {
    if (port->read_source != 0) g_source_remove(port->read_source);
    if (port->write_source != 0) g_source_remove(port->write_source);
    close(port->fd);
    unlink(port->own_path.c_str());
    unlink(port->guest_path.c_str());
  }
}

std::string Switch::add_port(const std::string& name) {
  auto port = std::make_unique<Port>();
  port->owner = this;
  port->counts.name = name;
  port->own_path = folder_ + "/wire-" + name;
  port->guest_path = folder_ + "/nic-" + name;
  unlink(port->own_path.c_str());
  unlink(port->guest_path.c_str());
  port->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (port->fd < 0) throw_errno("socket");
  const int buffer = 4 << 20;
  setsockopt(port->fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
  const sockaddr_un address = unix_address(port->own_path);
  if (bind(port->fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    throw_errno(port->own_path);
  }
  port->read_source = g_unix_fd_add(port->fd, G_IO_IN, on_readable, port.get());
  std::string netdev = "dgram,local.type=unix,local.path=" + port->guest_path +
                       ",remote.type=unix,remote.path=" + port->own_path;
  ports_.push_back(std::move(port));
  return netdev;
}

std::vector<Switch::Statistics> Switch::statistics() const {
  std::vector<Statistics> all;
  for (const auto& port : ports_) all.push_back(port->counts);
  return all;
}

gboolean Switch::on_readable(gint fd, GIOCondition, gpointer data) {
  Port& port = *static_cast<Port*>(data);
  char frame[kMaxFrame];
  for (int i = 0; i < kBatch; ++i) {
    const ssize_t n = recv(fd, frame, sizeof(frame), 0);
    if (n < 0) break;
    if (n < 14) continue;
    port.owner->forward(port, {frame, static_cast<std::size_t>(n)});
  }
  return G_SOURCE_CONTINUE;
}

void Switch::forward(Port& from, std::string_view frame) {
  ++from.counts.received;
  Mac source, destination;
  memcpy(destination.data(), frame.data(), 6);
  memcpy(source.data(), frame.data() + 6, 6);
  if ((source[0] & 1) == 0) {
    if (learned_.size() >= kMaxLearned) learned_.clear();
    learned_[source] = &from;
  }
  if ((destination[0] & 1) == 0) {
    const auto found = learned_.find(destination);
    if (found != learned_.end()) {
      if (found->second != &from) send(*found->second, frame);
      return;
    }
  }
  for (auto& port : ports_) {
    if (port.get() != &from) send(*port, frame);
  }
}

// True: it is on its way, or lost with the guest.
bool Switch::try_send(Port& to, std::string_view frame, bool* gone) {
  *gone = false;
  if (!to.connected) {
    const sockaddr_un address = unix_address(to.guest_path);
    if (connect(to.fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
      *gone = true;
      return true;
    }
    to.connected = true;
  }
  if (::send(to.fd, frame.data(), frame.size(), MSG_NOSIGNAL) >= 0) return true;
  if (errno == EAGAIN || errno == ENOBUFS) return false;
  to.connected = false;  // the guest has gone; maybe it comes back
  *gone = true;
  return true;
}

void Switch::send(Port& to, std::string_view frame) {
  bool gone = false;
  if (to.queue.empty() && try_send(to, frame, &gone)) {
    gone ? ++to.counts.dropped : ++to.counts.sent;
    return;
  }
  if (to.queued_bytes + frame.size() > kMaxQueued) {
    ++to.counts.dropped;
    return;
  }
  to.queue.emplace_back(frame);
  to.queued_bytes += frame.size();
  if (to.write_source == 0) to.write_source = g_unix_fd_add(to.fd, G_IO_OUT, on_writable, &to);
}

gboolean Switch::on_writable(gint, GIOCondition, gpointer data) {
  Port& port = *static_cast<Port*>(data);
  for (int i = 0; i < kBatch && !port.queue.empty(); ++i) {
    bool gone = false;
    if (!try_send(port, port.queue.front(), &gone)) return G_SOURCE_CONTINUE;
    gone ? ++port.counts.dropped : ++port.counts.sent;
    port.queued_bytes -= port.queue.front().size();
    port.queue.pop_front();
  }
  if (!port.queue.empty()) return G_SOURCE_CONTINUE;
  port.write_source = 0;
  return G_SOURCE_REMOVE;
}

}  // namespace godwit::lab
