// SPDX-License-Identifier: GPL-2.0-or-later
#include "qmp.h"

#include <glib-unix.h>
#include <sys/socket.h>
#include <unistd.h>

#include "unix_socket.h"

namespace godwit::lab {

using Json = nlohmann::json;

bool Qmp::connect(const std::string& path) {
  if (fd_ >= 0) return true;
  fd_ = connect_unix(path);
  if (fd_ < 0) return false;
  g_unix_set_fd_nonblocking(fd_, TRUE, nullptr);
  out_ = "{\"execute\": \"qmp_capabilities\"}\n";
  write_some();
  if (source_ == 0) watch();
  return true;
}

void Qmp::execute(Json command, Done done) {
  if (fd_ < 0) {
    done(Json{{"error", {{"desc", "QEMU's monitor is not there"}}}});
    return;
  }
  const std::uint64_t id = next_id_++;
  command["id"] = id;
  waiting_[id] = std::move(done);
  out_ += command.dump() + "\n";
  write_some();
}

void Qmp::disconnect(const std::string& why) {
  if (source_ != 0) g_source_remove(source_);
  source_ = 0;
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
  in_.clear();
  out_.clear();
  auto waiting = std::move(waiting_);
  waiting_.clear();
  for (auto& [id, done] : waiting) done(Json{{"error", {{"desc", why}}}});
}

void Qmp::watch() {
  if (source_ != 0) g_source_remove(source_);
  writing_ = !out_.empty();
  source_ = g_unix_fd_add(
      fd_, static_cast<GIOCondition>(G_IO_IN | G_IO_HUP | (writing_ ? G_IO_OUT : 0)), on_io, this);
}

gboolean Qmp::on_io(gint fd, GIOCondition, gpointer data) {
  Qmp& qmp = *static_cast<Qmp*>(data);
  const guint source = qmp.source_;
  char buffer[65536];
  ssize_t n;
  while ((n = read(fd, buffer, sizeof(buffer))) > 0) {
    qmp.in_.append(buffer, static_cast<std::size_t>(n));
  }
  if (n == 0) {
    qmp.source_ = 0;
    qmp.disconnect("QEMU has ended");
    return G_SOURCE_REMOVE;
  }
  qmp.take_lines();
  qmp.write_some();
  return qmp.source_ == source ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

void Qmp::take_lines() {
  for (std::size_t end; (end = in_.find('\n')) != std::string::npos;) {
    const Json answer = Json::parse(in_.substr(0, end), nullptr, false);
    in_.erase(0, end + 1);
    if (!answer.is_object() || !answer.contains("id")) continue;  // greeting, events
    const auto found = waiting_.find(answer["id"].get<std::uint64_t>());
    if (found == waiting_.end()) continue;
    const Done done = std::move(found->second);
    waiting_.erase(found);
    done(answer);
  }
}

void Qmp::write_some() {
  while (!out_.empty()) {
    const ssize_t n = send(fd_, out_.data(), out_.size(), MSG_NOSIGNAL);
    if (n <= 0) break;
    out_.erase(0, static_cast<std::size_t>(n));
  }
  if (writing_ != !out_.empty()) watch();
}

}  // namespace godwit::lab
