// SPDX-License-Identifier: GPL-2.0-or-later
#include "wire/icrc.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace godwit::wire {
namespace {

constexpr std::size_t kSlices = 16;
using Tables = std::array<std::array<std::uint32_t, 256>, kSlices>;

constexpr Tables make_tables() {
  Tables tables{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xedb88320U : 0U);
    tables[0][i] = crc;
  }
  for (std::size_t slice = 1; slice < kSlices; ++slice) {
    for (std::size_t i = 0; i < 256; ++i) {
      const std::uint32_t before = tables[slice - 1][i];
      tables[slice][i] = (before >> 8) ^ tables[0][before & 0xff];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

}  // namespace

std::uint32_t crc32(std::uint32_t crc, std::span<const std::uint8_t> bytes) {
  const std::uint8_t* p = bytes.data();
  std::size_t left = bytes.size();
  static_assert(std::endian::native == std::endian::little);
  while (left >= kSlices) {
    std::array<std::uint32_t, 4> word;
    std::memcpy(word.data(), p, kSlices);
    word[0] ^= crc;
    crc = 0;
    for (std::size_t w = 0; w < 4; ++w) {
      for (std::size_t byte = 0; byte < 4; ++byte) {
        crc ^= kTables[kSlices - 1 - (w * 4 + byte)][(word[w] >> (8 * byte)) & 0xff];
      }
    }
    p += kSlices;
    left -= kSlices;
  }
  for (; left > 0; --left, ++p) crc = (crc >> 8) ^ kTables[0][(crc ^ *p) & 0xff];
  return crc;
}

std::uint32_t icrc(std::span<const std::uint8_t> packet, std::size_t ip_bytes) {
  // What routers may change counts as ones; eight bytes of ones stand for the
  // LRH that RoCE does not have.
  std::array<std::uint8_t, 8 + 40 + 8 + 12> head;
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
