// SPDX-License-Identifier: GPL-2.0-or-later
//
// The programs of the demo: how each is started, told to end, and judged.
#ifndef GODWIT_LAB_DEMO_APPS_H
#define GODWIT_LAB_DEMO_APPS_H

#include <string>
#include <vector>

#include "client.h"
#include "container.h"

namespace godwit::lab {

enum class Role { kClient, kServer };
[[nodiscard]] const char* name_of(Role role);

struct DemoApp {
  std::string name;
  int port;      // of the server
  unsigned qps;  // of either side
  Argv server;
  Argv client;  // the server's address comes after it
  // In which role of the mover its peer is sure to have requests under way when the device stops.
  // The processes are frozen before that, so that who waits for their answers falls silent.
  bool asked_as_client;
  bool asked_as_server;
  enum class End { kTerminate, kAlarm, kCount } end;
};

[[nodiscard]] const std::vector<DemoApp>& demo_apps();
[[nodiscard]] const DemoApp& find_demo_app(const std::string& name);  // throws

// Both sides of one program in their containers.
class DemoRun {
 public:
  // `mover` starts on home, in this role, its peer on the guest peer.
  DemoRun(const Lab& lab, const DemoApp& app, Role role, unsigned long count);
  ~DemoRun();
  DemoRun(const DemoRun&) = delete;
  DemoRun& operator=(const DemoRun&) = delete;

  void start();
  // "": both run; else which one has ended and its log.
  [[nodiscard]] std::string ended() const;
  // Tells them to end, and waits until both have.
  void finish();

  struct Result {
    int mover_code = -1, peer_code = -1;
    nlohmann::json data;              // what the program itself checked
    std::vector<std::string> faults;  // empty: all is well
    std::string note;                 // what looks like a fault and is none
    std::string mover_log, peer_log;
  };
  [[nodiscard]] Result judge() const;

  [[nodiscard]] const std::string& mover() const { return mover_; }

 private:
  [[nodiscard]] Argv argv(Role role, const std::string& host) const;
  void wait_until_listening(const Container& server) const;
  void tell_to_end(const std::string& container) const;
  void judge_end(const std::string& who, int code, const std::string& log, Result* result) const;
  void judge_data(const std::string& who, const Container& container, Result* result) const;

  const Lab& lab_;
  mutable Containers containers_;
  const DemoApp& app_;
  Role role_;
  unsigned long count_;
  std::string mover_, peer_;
};

// Iterations per second of ibv_rc_pingpong between two guests, to size its count.
[[nodiscard]] double measure_pingpong(const Lab& lab);

}  // namespace godwit::lab

#endif  // GODWIT_LAB_DEMO_APPS_H
