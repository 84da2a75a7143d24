// SPDX-License-Identifier: GPL-2.0-or-later
//
// One VM: QEMU with the NIC preloaded, its agent's port, and QMP. QEMU outlives a daemon that is
// killed; the next daemon adopts it.
#ifndef GODWIT_LAB_GUEST_H
#define GODWIT_LAB_GUEST_H

#include <gio/gio.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "frame.h"
#include "qmp.h"

namespace godwit::lab {

struct GuestOptions {
  int index = 1;
  std::string folder;       // of the lab
  std::string build;        // build folder: lib/, image/
  std::string nic_port;     // -device that is the NIC's port, without the id
  std::string virtio_port;  // "": no such NIC
  std::string nic_options;  // more properties of the NIC: ",migration=off"
  int memory_mib = 1536;
  bool adopt = false;  // it runs already, or has died unseen
};

class Guest {
 public:
  // Starts QEMU, or adopts it. `on_change` when it becomes ready or ends.
  Guest(const GuestOptions& options, std::function<void(Guest&)> on_change);
  ~Guest();
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;

  enum class State { kBooting, kReady, kDead };
  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] int index() const { return options_.index; }
  [[nodiscard]] GPid pid() const { return pid_; }
  [[nodiscard]] std::string log_file() const;
  [[nodiscard]] double ready_seconds() const { return ready_seconds_; }

  // A stream of the agent for one client: what the guest sends goes to `receive`.
  using Receive = std::function<void(FrameType, const std::string&)>;
  std::uint32_t open_stream(Receive receive);
  void send(std::uint32_t stream, FrameType type, const std::string& payload);
  void close_stream(std::uint32_t stream);  // kills what still runs in it

  void qmp(nlohmann::json command, Qmp::Done done);

  void kill();
  // Ends QEMU, and starts one that goes on with what QMP's `migrate` has saved: "exec:cat FILE".
  // Only the daemon that made the wire can hand it on.
  void restart(const std::string& incoming);

 private:
  static gboolean on_exit(gint fd, GIOCondition condition, gpointer data);
  static gboolean on_agent_io(gint fd, GIOCondition condition, gpointer data);
  static gboolean on_retry(gpointer data);
  void watch_process();
  void start(const std::string& incoming = "");
  void end_streams(const std::string& why);
  void connect_agent();
  void disconnect_agent();
  void begin_anew();
  void watch_agent();
  void take_frames();
  void write_agent();
  void send_frame(std::uint32_t stream, FrameType type, const std::string& payload);

  GuestOptions options_;
  std::string name_;
  std::function<void(Guest&)> on_change_;
  State state_ = State::kBooting;
  GPid pid_ = 0;
  int pidfd_ = -1;
  guint exit_source_ = 0;
  guint retry_source_ = 0;
  bool was_saved_ = false;    // QEMU is not the one that it was booted in
  guint patience_ms_ = 1000;  // for the answer to a SYNC
  int agent_ = -1;
  guint agent_source_ = 0;
  bool agent_writing_ = false;
  std::string nonce_;    // of the last SYNC
  bool synced_ = false;  // it was answered: from_agent_ begins with a frame
  std::string from_agent_;
  std::string to_agent_;
  std::map<std::uint32_t, Receive> streams_;
  std::uint32_t next_stream_ = 1;
  Qmp qmp_;
  gint64 started_ = 0;
  double ready_seconds_ = 0;
};

}  // namespace godwit::lab

#endif  // GODWIT_LAB_GUEST_H
