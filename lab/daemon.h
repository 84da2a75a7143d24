// SPDX-License-Identifier: GPL-2.0-or-later
//
// The process that owns a lab: its wire, its guests, and the socket by which
// commands reach them. When it ends, everything of the lab ends.
#ifndef GODWIT_LAB_DAEMON_H
#define GODWIT_LAB_DAEMON_H

#include <string>

namespace godwit::lab {

struct LabOptions {
  int guests = 2;
  bool virtio = false;       // a plain NIC beside, for Soft-RoCE
  std::string nic_options;   // properties of every NIC: "pause-limit=5000"
  int memory_mib = 1536;
};

// Runs until 'down' or SIGTERM. Returns the exit code.
int run_daemon(const std::string& folder, const LabOptions& options);

}  // namespace godwit::lab

#endif  // GODWIT_LAB_DAEMON_H
