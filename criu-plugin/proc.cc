// SPDX-License-Identifier: GPL-2.0-or-later
#include "proc.h"

#include <dirent.h>
#include <linux/kcmp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace godwit::criu {
namespace {

// The text behind `key` in /proc/PID/status.
std::string status_value(int pid, const char* key) {
  std::unique_ptr<FILE, int (*)(FILE*)> file(
      fopen(("/proc/" + std::to_string(pid) + "/status").c_str(), "re"), fclose);
  char line[256];
  while (file && fgets(line, sizeof(line), file.get()))
    if (std::strncmp(line, key, std::strlen(key)) == 0) return line + std::strlen(key);
  return {};
}

}  // namespace

std::vector<int> numbers_in(const std::string& path) {
  std::vector<int> numbers;
  std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(path.c_str()), closedir);
  while (dirent* entry = dir ? readdir(dir.get()) : nullptr)
    if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9')
      numbers.push_back(std::atoi(entry->d_name));
  return numbers;
}

std::string fd_path(int pid, int fd) {
  return "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(fd);
}

std::string link_of(const std::string& path) {
  char target[4096];
  ssize_t n = readlink(path.c_str(), target, sizeof(target));
  return n > 0 ? std::string(target, static_cast<std::size_t>(n)) : std::string();
}

int tracer_of(int pid) { return std::atoi(status_value(pid, "TracerPid:").c_str()); }

int inner_pid(int pid) {
  const std::string pids = status_value(pid, "NSpid:");  // from the outermost namespace inwards
  const std::size_t last = pids.find_last_of("\t ");
  return std::atoi(last == std::string::npos ? pids.c_str() : pids.c_str() + last + 1);
}

bool same_file(int pid, int fd, int own_fd) {
  return syscall(SYS_kcmp, getpid(), pid, KCMP_FILE, own_fd, fd) == 0;
}

}  // namespace godwit::criu
