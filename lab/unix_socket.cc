// SPDX-License-Identifier: GPL-2.0-or-later
#include "unix_socket.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "error.h"

namespace godwit::lab {

sockaddr_un unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    throw Error(path + ": longer than a socket's name may be; choose a shorter $GODWIT_LAB");
  }
  memcpy(address.sun_path, path.data(), path.size());
  return address;
}

int connect_unix(const std::string& path) {
  const sockaddr_un address = unix_address(path);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw_errno("socket");
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return fd;
  close(fd);
  return -1;
}

}  // namespace godwit::lab
