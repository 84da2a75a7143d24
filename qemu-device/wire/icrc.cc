// SPDX-License-Identifier: GPL-2.0-or-later
#include "wire/icrc.h"

#include <libdeflate.h>

#include <algorithm>
#include <array>

namespace godwit::wire {

// The library inverts before and after, as zlib does; the ICRC is made of two pieces.
std::uint32_t crc32(std::uint32_t crc, std::span<const std::uint8_t> bytes) {
  if (bytes.empty()) return crc;  // a null pointer would mean something else
  return ~libdeflate_crc32(~crc, bytes.data(), bytes.size());
}

std::uint32_t icrc(std::span<const std::uint8_t> packet, std::size_t ip_bytes) {
  // What routers may change counts as ones; eight bytes of ones stand for the
  // LRH that RoCE does not have.
  std::array<std::uint8_t, 8 + 40 + 8 + 12> head{};
  const std::size_t head_bytes = ip_bytes + 8 + 12;
  std::fill_n(head.begin(), 8, std::uint8_t{0xff});
  std::copy_n(packet.begin(), head_bytes, head.begin() + 8);
  std::uint8_t* ip = head.data() + 8;
  if (ip_bytes == 20) {
    ip[1] = 0xff;            // TOS
    ip[8] = 0xff;            // TTL
    ip[10] = ip[11] = 0xff;  // header checksum
  } else {
    ip[0] |= 0x0f;  // traffic class, flow label
    ip[1] = ip[2] = ip[3] = 0xff;
    ip[7] = 0xff;  // hop limit
  }
  ip[ip_bytes + 6] = ip[ip_bytes + 7] = 0xff;  // UDP checksum
  ip[ip_bytes + 8 + 4] = 0xff;                 // BTH: FECN, BECN, reserved
  std::uint32_t crc = crc32(~0U, {head.data(), 8 + head_bytes});
  return ~crc32(crc, packet.subspan(head_bytes));
}

}  // namespace godwit::wire
