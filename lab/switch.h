// SPDX-License-Identifier: GPL-2.0-or-later
//
// The wire: a learning switch between the guests' NICs, on unix datagram sockets.
// It needs no privileges. It never blocks: a port that does not take its frames
// gets a bounded queue, and then drops, counted.
#ifndef GODWIT_LAB_SWITCH_H
#define GODWIT_LAB_SWITCH_H

#include <glib.h>

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace godwit::lab {

class Switch {
 public:
  // Sockets are made in `folder`.
  explicit Switch(std::string folder) : folder_(std::move(folder)) {}
  ~Switch();
  Switch(const Switch&) = delete;
  Switch& operator=(const Switch&) = delete;

  // Makes a port; the value of QEMU's -netdev for it, without the id.
  std::string add_port(const std::string& name);

  struct Statistics {
    std::string name;
    std::uint64_t received = 0;
    std::uint64_t sent = 0;
    std::uint64_t dropped = 0;
  };
  [[nodiscard]] std::vector<Statistics> statistics() const;

 private:
  struct Port {
    Switch* owner = nullptr;
    Statistics counts;
    std::string own_path;
    std::string guest_path;
    int fd = -1;
    guint read_source = 0;
    guint write_source = 0;
    bool connected = false;
    std::deque<std::string> queue;
    std::size_t queued_bytes = 0;
  };
  using Mac = std::array<char, 6>;

  static gboolean on_readable(gint fd, GIOCondition condition, gpointer data);
  static gboolean on_writable(gint fd, GIOCondition condition, gpointer data);
  void forward(Port& from, std::string_view frame);
  void send(Port& to, std::string_view frame);
  [[nodiscard]] static bool try_send(Port& to, std::string_view frame, bool* gone);

  std::string folder_;
  std::vector<std::unique_ptr<Port>> ports_;
  std::map<Mac, Port*> learned_;
};

}  // namespace godwit::lab

#endif  // GODWIT_LAB_SWITCH_H
