// SPDX-License-Identifier: GPL-2.0-or-later
//
// CRC-32 of Ethernet, and the invariant CRC of RoCEv2 (IBTA A17.3.3).
#ifndef GODWIT_WIRE_ICRC_H
#define GODWIT_WIRE_ICRC_H

#include <cstdint>
#include <span>

namespace godwit::wire {

// Running value; begin with ~0, end with ~.
[[nodiscard]] std::uint32_t crc32(std::uint32_t crc, std::span<const std::uint8_t> bytes);

// `packet` from the IP header to the last byte before the ICRC. `ip_bytes`: 20 or 40.
[[nodiscard]] std::uint32_t icrc(std::span<const std::uint8_t> packet, std::size_t ip_bytes);

}  // namespace godwit::wire

#endif  // GODWIT_WIRE_ICRC_H
