// SPDX-License-Identifier: GPL-2.0-or-later
//
// What /proc tells about other processes.
#ifndef GODWIT_CRIU_PROC_H
#define GODWIT_CRIU_PROC_H

#include <string>
#include <vector>

namespace godwit::criu {

// Names of entries that are numbers: processes, descriptors.
std::vector<int> numbers_in(const std::string& path);
std::string fd_path(int pid, int fd);
std::string link_of(const std::string& path);
// Who traces it; 0: nobody, or it is gone.
int tracer_of(int pid);
// Its number in its own pid namespace; 0: it is gone.
int inner_pid(int pid);
// Do descriptor `fd` of `pid` and our own one lead to one open file?
bool same_file(int pid, int fd, int own_fd);

}  // namespace godwit::criu

#endif  // GODWIT_CRIU_PROC_H
