// SPDX-License-Identifier: GPL-2.0-or-later
//
// The processes of a lab: QEMUs, which outlive a daemon that is killed, and the daemon. For as long
// as one lives it holds a lock on FOLDER/NAME.pid; NAME is the guest's, or "daemon". The lock tells
// its pid, and cannot be another process's that got the same number.
#ifndef GODWIT_LAB_LAB_PROCESS_H
#define GODWIT_LAB_LAB_PROCESS_H

#include <sys/types.h>

#include <string>

namespace godwit::lab {

inline constexpr const char* kDaemonName = "daemon";

[[nodiscard]] std::string pid_file(const std::string& folder, const std::string& name);

// By the process itself, also before exec. False: another one lives.
[[nodiscard]] bool hold_pid_file(const char* file);

// A pidfd of who holds it, close-on-exec; -1: nobody.
[[nodiscard]] int open_holder(const std::string& folder, const std::string& name, pid_t* pid);

// Of any process; -1 with errno if there is none. <sys/pidfd.h> of glibc 2.36 cannot be used from
// C++.
[[nodiscard]] int open_process(pid_t pid);
void kill_process(int pidfd);

// False: it has not ended within the time.
[[nodiscard]] bool wait_for_end(int pidfd, double seconds);

[[nodiscard]] bool any_guest_lives(const std::string& folder);

// The daemon, and then the guests; returns when they have ended.
void kill_all(const std::string& folder);

}  // namespace godwit::lab

#endif  // GODWIT_LAB_LAB_PROCESS_H
