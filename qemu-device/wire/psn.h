// SPDX-License-Identifier: GPL-2.0-or-later
//
// Packet sequence numbers: 24 bits, compared on a circle (IBTA 9.7.3).
#ifndef GODWIT_WIRE_PSN_H
#define GODWIT_WIRE_PSN_H

#include <cstdint>

namespace godwit::wire {

using Psn = std::uint32_t;  // always masked

inline constexpr Psn kPsnMask = 0xffffff;
inline constexpr std::uint32_t kPsnWindow = 0x800000;  // half of the circle

[[nodiscard]] constexpr Psn psn_add(Psn psn, std::uint32_t n) { return (psn + n) & kPsnMask; }

// How far `a` is beyond `b`, going forward.
[[nodiscard]] constexpr std::uint32_t psn_distance(Psn a, Psn b) { return (a - b) & kPsnMask; }

[[nodiscard]] constexpr bool psn_before(Psn a, Psn b) { return psn_distance(a, b) >= kPsnWindow; }

// from <= psn < to, on the circle.
[[nodiscard]] constexpr bool psn_in(Psn psn, Psn from, Psn to) {
  return psn_distance(psn, from) < psn_distance(to, from);
}

}  // namespace godwit::wire

#endif  // GODWIT_WIRE_PSN_H
