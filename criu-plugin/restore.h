// SPDX-License-Identifier: GPL-2.0-or-later
//
// The restore side of the plugin. begin_restore() runs in criu before it forks;
// restore_file() and update_mapping() in the tasks being restored;
// resume_task() in criu again, once per task, when their memory is final.
#ifndef GODWIT_CRIU_RESTORE_H
#define GODWIT_CRIU_RESTORE_H

#include <cstdint>

namespace godwit::criu {

int begin_restore();
int restore_file(int id);
int update_mapping(const char* path, std::uint64_t old_offset, std::uint64_t* new_offset,
                   int* plugin_fd);
int resume_task(int pid);
// At the end of a restore: nothing may run with a context that nobody has resumed.
void finish_restore(int ret);

}  // namespace godwit::criu

#endif  // GODWIT_CRIU_RESTORE_H
