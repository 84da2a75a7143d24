// SPDX-License-Identifier: GPL-2.0-or-later
//
// A QEMU's monitor: one connection, any number of commands on their way, nothing waits.
#ifndef GODWIT_LAB_QMP_H
#define GODWIT_LAB_QMP_H

#include <glib.h>

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

namespace godwit::lab {

class Qmp {
 public:
  // {"return": …} or {"error": {"desc": …}}
  using Done = std::function<void(const nlohmann::json& answer)>;

  Qmp() = default;
  ~Qmp() { disconnect("the monitor is closed"); }
  Qmp(const Qmp&) = delete;
  Qmp& operator=(const Qmp&) = delete;

  // False: QEMU does not listen there yet.
  [[nodiscard]] bool connect(const std::string& path);
  // `done` is called once, now if there is no connection.
  void execute(nlohmann::json command, Done done);
  // What has not been answered ends with `why` as its error.
  void disconnect(const std::string& why);

 private:
  static gboolean on_io(gint fd, GIOCondition condition, gpointer data);
  void watch();
  void write_some();
  void take_lines();

  int fd_ = -1;
  guint source_ = 0;
  bool writing_ = false;
  std::string in_;
  std::string out_;
  std::uint64_t next_id_ = 1;
  std::map<std::uint64_t, Done> waiting_;
};

}  // namespace godwit::lab

#endif  // GODWIT_LAB_QMP_H
