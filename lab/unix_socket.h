// SPDX-License-Identifier: GPL-2.0-or-later
#ifndef GODWIT_LAB_UNIX_SOCKET_H
#define GODWIT_LAB_UNIX_SOCKET_H

#include <sys/un.h>

#include <string>

namespace godwit::lab {

// Throws Error if the path is longer than a socket's name may be.
[[nodiscard]] sockaddr_un unix_address(const std::string& path);

// A connected stream socket, close-on-exec; -1 if nobody listens there.
[[nodiscard]] int connect_unix(const std::string& path);

}  // namespace godwit::lab

#endif  // GODWIT_LAB_UNIX_SOCKET_H
