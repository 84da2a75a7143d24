// SPDX-License-Identifier: GPL-2.0-or-later
//
// The process that owns a lab: its guests, their wire, and the socket by which commands reach them.
// When it ends in order, everything of the lab ends. If it is killed, its guests and the wire go
// on, until another daemon adopts them.
#ifndef GODWIT_LAB_DAEMON_H
#define GODWIT_LAB_DAEMON_H

#include <string>

namespace godwit::lab {

struct LabOptions {
  int guests = 2;
  bool virtio = false;      // a plain NIC beside, for Soft-RoCE
  std::string nic_options;  // properties of every NIC: "pause-limit=5000"
  int memory_mib = 1536;
};

// In the lab's folder, for its daemon and for the one that comes after it.
void save_options(const std::string& folder, const LabOptions& options);

// With the saved options. Runs until 'down' or SIGTERM. Returns the exit code.
int run_daemon(const std::string& folder, bool adopt);

}  // namespace godwit::lab

#endif  // GODWIT_LAB_DAEMON_H
