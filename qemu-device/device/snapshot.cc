// SPDX-License-Identifier: GPL-2.0-or-later
//
// The whole device as bytes.
#include "device/device.h"

namespace godwit::device {

std::size_t Device::save(std::uint64_t, std::span<std::uint8_t>) { return 0; }

const char* Device::load(std::uint64_t, std::span<const std::uint8_t>) {
  reset();
  return "saved by another version";
}

}  // namespace godwit::device
