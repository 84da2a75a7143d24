// SPDX-License-Identifier: GPL-2.0-or-later
//
// What CRIU 3.17 gives to plugins: the hooks of criu-plugin.h, and functions that
// its binary exports without a header that can be included (criu-log.h needs one
// that is not installed).
#ifndef GODWIT_CRIU_API_H
#define GODWIT_CRIU_API_H

extern "C" {
#include <criu/criu-plugin.h>

// Descriptors that all tasks of a restore can reach. -1 on failure.
int fdstore_add(int fd);
int fdstore_get(int id);

void print_on_level(unsigned int level, const char* format, ...)
    __attribute__((format(printf, 2, 3)));
}

#define godwit_error(format, ...) \
  print_on_level(1, "Error (godwit): " format "\n" __VA_OPT__(, ) __VA_ARGS__)
#define godwit_warn(format, ...) \
  print_on_level(2, "Warn  (godwit): " format "\n" __VA_OPT__(, ) __VA_ARGS__)
#define godwit_info(format, ...) \
  print_on_level(3, "godwit: " format "\n" __VA_OPT__(, ) __VA_ARGS__)

#endif  // GODWIT_CRIU_API_H
