// SPDX-License-Identifier: GPL-2.0-or-later
#include "lab_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "error.h"
#include "plan.h"

namespace godwit::lab {
namespace {

struct flock whole_file() {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return lock;
}

// 0: nobody.
pid_t holder(const std::string& file) {
  const int fd = open(file.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) return 0;
  if (fd < 0) throw_errno(file);
  struct flock lock = whole_file();
  const bool asked = fcntl(fd, F_GETLK, &lock) == 0;
  close(fd);
  if (!asked) throw_errno(file);
  return lock.l_type == F_UNLCK ? 0 : lock.l_pid;
}

}  // namespace

std::string pid_file(const std::string& folder, const std::string& name) {
  return folder + "/" + name + ".pid";
}

bool hold_pid_file(const char* file) {
  const int fd = open(file, O_RDWR | O_CREAT, 0600);  // stays open, and with it the lock, in QEMU
  struct flock lock = whole_file();
  return fd >= 0 && fcntl(fd, F_SETLK, &lock) == 0;
}

int open_holder(const std::string& folder, const std::string& name, pid_t* pid) {
  const std::string file = pid_file(folder, name);
  for (;;) {
    *pid = holder(file);
    if (*pid == 0) return -1;
    const int fd = open_process(*pid);
    // Only if it still is the holder the pidfd is that of the process.
    if (fd >= 0 && holder(file) == *pid) return fd;
    const int error = errno;
    if (fd >= 0) {
      close(fd);
    } else if (error != ESRCH) {
      errno = error;
      throw_errno("pidfd_open");
    }
  }
}

int open_process(pid_t pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }

void kill_process(int pidfd) { syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, nullptr, 0); }

bool wait_for_end(int pidfd, double seconds) {
  pollfd entry{pidfd, POLLIN, 0};
  int n;
  do {
    n = poll(&entry, 1, static_cast<int>(seconds * 1000));
  } while (n < 0 && errno == EINTR);
  return n > 0;
}

bool any_guest_lives(const std::string& folder) {
  for (int i = 1; i <= kMaxGuests; ++i) {
    if (holder(pid_file(folder, guest_name(i))) != 0) return true;
  }
  return false;
}

void kill_all(const std::string& folder) {
  std::vector<std::string> names = {kDaemonName};
  for (int i = 1; i <= kMaxGuests; ++i) names.push_back(guest_name(i));
  for (const std::string& name : names) {
    pid_t pid = 0;
    const int fd = open_holder(folder, name, &pid);
    if (fd < 0) continue;
    kill_process(fd);
    const bool ended = wait_for_end(fd, 10);
    close(fd);
    if (!ended) throw Error(name + ": process " + std::to_string(pid) + " does not end");
    waitpid(pid, nullptr, WNOHANG);
  }
}

}  // namespace godwit::lab
