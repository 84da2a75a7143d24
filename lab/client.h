// SPDX-License-Identifier: GPL-2.0-or-later
//
// A lab as commands and tests see it: start it, run things in its guests, stop it.
#ifndef GODWIT_LAB_CLIENT_H
#define GODWIT_LAB_CLIENT_H

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "daemon.h"
#include "error.h"
#include "frame.h"

namespace godwit::lab {

struct ExecResult {
  int code = -1;    // exit code; 128 + signal if killed
  std::string out;  // stdout, and stderr unless asked otherwise
};

// Nobody answers for the lab, or no longer.
class LabGone : public Error {
 public:
  using Error::Error;
};

using Argv = std::vector<std::string>;

// A command that runs in a guest. Its destructor kills it.
class Process {
 public:
  Process(const std::string& folder, const std::string& guest, const nlohmann::json& request,
          FrameType type = FrameType::kExec);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // Bytes for its stdin; "" is the end.
  void write(const std::string& bytes);
  void signal(int number);
  void resize(int rows, int columns);

  // One more frame of output or the exit; false: nothing within the time. Windows are kept.
  bool next(Frame* frame, double timeout_seconds);
  // Until the line (without its end) satisfies; throws at exit or after the time.
  std::string wait_for_line(const std::function<bool(const std::string&)>& want,
                            double timeout_seconds);
  // Until the end; throws after the time.
  ExecResult wait(double timeout_seconds);
  [[nodiscard]] bool ended() const { return ended_; }
  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] const std::string& output() const { return output_; }
  // The guest has said anything, if only that it lives.
  [[nodiscard]] bool answered() const { return answered_; }

 private:
  void send(FrameType type, const std::string& payload);
  void note_exit(const std::string& payload);

  std::string guest_;
  std::string what_;
  int fd_ = -1;
  bool answered_ = false;
  bool ended_ = false;
  int code_ = -1;
  std::string error_;
  std::string in_;
  std::string output_;
  std::size_t line_at_ = 0;
  std::uint32_t send_window_ = kFrameWindow;
};

class Lab {
 public:
  // The lab in `folder`; it need not be up.
  explicit Lab(std::string folder);

  [[nodiscard]] const std::string& folder() const { return folder_; }
  [[nodiscard]] bool is_up() const;

  // Starts the daemon and waits until all guests are ready; throws if one dies or 180 s pass.
  void up(const LabOptions& options, const std::function<void(const std::string&)>& progress);
  // If the daemon has died and guests live: starts it again, and waits until they answer. True: it
  // did.
  bool revive(const std::function<void(const std::string&)>& progress);
  void down();

  [[nodiscard]] nlohmann::json request(const nlohmann::json& request) const;
  [[nodiscard]] nlohmann::json status() const { return request({{"op", "status"}}); }

  std::unique_ptr<Process> start(const std::string& guest, const Argv& argv,
                                 const nlohmann::json& more = nlohmann::json::object()) const;
  ExecResult exec(const std::string& guest, const Argv& argv, double timeout_seconds = 60) const;
  // The same through sh -c.
  ExecResult shell(const std::string& guest, const std::string& script,
                   double timeout_seconds = 60) const;
  // Throws with the output unless it ends with 0. Returns the output.
  std::string must(const std::string& guest, const std::string& script,
                   double timeout_seconds = 60) const;

  void put(const std::string& guest, const std::string& path, const std::string& bytes,
           int mode = 0644) const;
  [[nodiscard]] std::string get(const std::string& guest, const std::string& path) const;

  // Frames on the wire of a guest's NIC, to a pcap file on the host.
  void capture_start(const std::string& guest, const std::string& file) const;
  void capture_stop(const std::string& guest) const;

 private:
  pid_t start_daemon(bool adopt) const;
  void wait_for_daemon(int pidfd) const;
  void claim_folder() const;
  void clear_folder() const;

  std::string folder_;
};

}  // namespace godwit::lab

#endif  // GODWIT_LAB_CLIENT_H
