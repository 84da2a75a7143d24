// SPDX-License-Identifier: GPL-2.0-or-later
//
// godwit_plugin.so: CRIU's hooks, and nothing else. No exception may leave them.
#include <sys/stat.h>

#include <cerrno>
#include <exception>

#include "criu_api.h"
#include "dump.h"
#include "restore.h"
#include "uverbs.h"

namespace {

template <typename Function>
int guarded(Function function) {
  try {
    return function();
  } catch (const std::exception& error) {
    godwit_error("%s", error.what());
  } catch (...) {
    godwit_error("unknown error");
  }
  return -EIO;
}

int on_init(int stage) {
  return guarded(
      [&] { return stage == CR_PLUGIN_STAGE__RESTORE ? godwit::criu::begin_restore() : 0; });
}

void on_exit(int stage, int ret) {
  guarded([&] {
    if (stage == CR_PLUGIN_STAGE__DUMP) godwit::criu::finish_dump(ret);
    if (stage == CR_PLUGIN_STAGE__RESTORE) godwit::criu::finish_restore(ret);
    return 0;
  });
}

int on_dump_file(int fd, int id) {
  return guarded([&] { return godwit::criu::dump_file(fd, id); });
}

int on_restore_file(int id) {
  return guarded([&] { return godwit::criu::restore_file(id); });
}

// The descriptor is a fresh one: only the node can be judged. The context that the mapping belongs
// to is found at restore, by the offset.
int on_device_mapping(int, const struct stat* st) {
  return guarded([&] { return godwit::criu::godwit_device_of(*st).empty() ? -ENOTSUP : 0; });
}

int on_update_mapping(const char* path, const uint64_t, const uint64_t old_offset,
                      uint64_t* new_offset, int* plugin_fd) {
  return guarded([&] {
    std::uint64_t offset = 0;
    int ret = godwit::criu::update_mapping(path, old_offset, &offset, plugin_fd);
    *new_offset = offset;
    return ret;
  });
}

int on_resume_late(int pid) {
  return guarded([&] { return godwit::criu::resume_task(pid); });
}

}  // namespace

extern "C" {
__attribute__((visibility("default"))) cr_plugin_desc_t CR_PLUGIN_DESC = {
    .name = "godwit",
    .init = on_init,
    .exit = on_exit,
    .version = CRIU_PLUGIN_VERSION,
    .max_hooks = CR_PLUGIN_HOOK__MAX,
    .hooks =
        {
            nullptr,  // DUMP_UNIX_SK
            nullptr,  // RESTORE_UNIX_SK
            reinterpret_cast<void*>(on_dump_file),
            reinterpret_cast<void*>(on_restore_file),
            nullptr,  // DUMP_EXT_MOUNT
            nullptr,  // RESTORE_EXT_MOUNT
            nullptr,  // DUMP_EXT_LINK
            reinterpret_cast<void*>(on_device_mapping),
            reinterpret_cast<void*>(on_update_mapping),
            reinterpret_cast<void*>(on_resume_late),
        },
};
}
static_assert(CR_PLUGIN_HOOK__DUMP_EXT_FILE == 2 && CR_PLUGIN_HOOK__RESTORE_EXT_FILE == 3 &&
              CR_PLUGIN_HOOK__HANDLE_DEVICE_VMA == 7 && CR_PLUGIN_HOOK__UPDATE_VMA_MAP == 8 &&
              CR_PLUGIN_HOOK__RESUME_DEVICES_LATE == 9);
