// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the handlers of commands share: taking parameters, and answering. `detail` is the offset of
// the field at fault.
#ifndef GODWIT_DEVICE_COMMANDS_H
#define GODWIT_DEVICE_COMMANDS_H

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "device/device.h"

namespace godwit::device {

template <typename T>
T copy(const std::uint8_t* params) {
  T in;
  std::memcpy(&in, params, sizeof(in));
  return in;
}

template <typename T>
Reply reply_with(const T& result) {
  Reply reply;
  static_assert(sizeof(result) <= sizeof(reply.result));
  std::memcpy(reply.result.data(), &result, sizeof(result));
  return reply;
}

inline Reply bad(std::size_t detail = 0) {
  return Reply::fail(GODWIT_CMD_STATUS_BAD_PARAMETER, detail);
}
inline Reply bad_state(std::size_t detail = 0) {
  return Reply::fail(GODWIT_CMD_STATUS_BAD_STATE, detail);
}
inline Reply not_found(std::size_t detail) {
  return Reply::fail(GODWIT_CMD_STATUS_NOT_FOUND, detail);
}

}  // namespace godwit::device

#endif  // GODWIT_DEVICE_COMMANDS_H
