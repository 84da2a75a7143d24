// SPDX-License-Identifier: GPL-2.0-or-later
//
// The endian-typed integers of abi/ to host integers and back.
#ifndef GODWIT_WIRE_ENDIAN_H
#define GODWIT_WIRE_ENDIAN_H

#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "godwit_types.h"

namespace godwit::wire {

template <typename T>
constexpr T swap_if_big(T value) {
  if constexpr (std::endian::native == std::endian::little) {
    return value;
  } else {
    T swapped = 0;
    for (unsigned i = 0; i < sizeof(T); ++i) {
      swapped = static_cast<T>(swapped << 8 | (value >> (8 * i) & 0xff));
    }
    return swapped;
  }
}

constexpr std::uint16_t from_le(godwit_le16 value) { return swap_if_big(value.raw); }
constexpr std::uint32_t from_le(godwit_le32 value) { return swap_if_big(value.raw); }
constexpr std::uint64_t from_le(godwit_le64 value) { return swap_if_big(value.raw); }
constexpr godwit_le16 le16(std::uint16_t value) { return {swap_if_big(value)}; }
constexpr godwit_le32 le32(std::uint32_t value) { return {swap_if_big(value)}; }
constexpr godwit_le64 le64(std::uint64_t value) { return {swap_if_big(value)}; }

// True if every byte is zero: reserved fields must be.
inline bool all_zero(const void* bytes, std::size_t length) {
  const auto* p = static_cast<const std::uint8_t*>(bytes);
  std::uint8_t any = 0;
  for (std::size_t i = 0; i < length; ++i) any |= p[i];
  return any == 0;
}

}  // namespace godwit::wire

#endif  // GODWIT_WIRE_ENDIAN_H
