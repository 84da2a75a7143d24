// SPDX-License-Identifier: GPL-2.0-or-later
#include "plan.h"

#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "error.h"

namespace godwit::lab {

void throw_errno(const std::string& what) { throw Error(what + ": " + strerror(errno)); }

std::string guest_name(int index) {
  static const char* const kNames[] = {"home", "away", "peer"};
  return index <= 3 ? kNames[index - 1] : "guest" + std::to_string(index);
}

int guest_index(const std::string& name) {
  for (int i = 1; i <= kMaxGuests; ++i) {
    if (guest_name(i) == name) return i;
  }
  return 0;
}

namespace {
std::string mac(const char* prefix, int last) {
  char text[32];
  snprintf(text, sizeof(text), "%s:%02x", prefix, static_cast<unsigned>(last));
  return text;
}
}  // namespace

std::string guest_ip(int index) { return "10.77.0." + std::to_string(index); }
std::string nic_mac(int index) { return mac("52:54:00:67:00", index); }
std::string virtio_mac(int index) { return mac("52:54:00:68:00", index); }
std::string virtio_ip(int index) { return "10.77.2." + std::to_string(index); }
std::string container_ip(int number) { return "10.77.1." + std::to_string(number); }
std::string container_ip6(int number) {
  char text[32];
  snprintf(text, sizeof(text), "fd67::1:%x", static_cast<unsigned>(number));
  return text;
}
std::string container_mac(int number) { return mac("52:54:00:67:01", number); }

std::string lab_folder() {
  const char* folder = getenv("GODWIT_LAB");
  if (folder != nullptr && *folder != 0) return std::filesystem::absolute(folder).string();
  return "/tmp/godwit-" + std::to_string(getuid()) + "/default";
}

std::string build_folder() {
  const char* folder = getenv("GODWIT_BUILD");
  if (folder != nullptr && *folder != 0) return folder;
  char self[PATH_MAX];
  const ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
  if (n < 0) throw_errno("/proc/self/exe");
  self[n] = 0;
  // build/bin/godwit, build/tests/vm
  std::string path(self);
  for (int i = 0; i < 2; ++i) path.erase(path.rfind('/'));
  return path;
}

}  // namespace godwit::lab
