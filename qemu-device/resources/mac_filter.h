// SPDX-License-Identifier: GPL-2.0-or-later
//
// Which frames the Ethernet function takes.
#ifndef GODWIT_RESOURCES_MAC_FILTER_H
#define GODWIT_RESOURCES_MAC_FILTER_H

#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "godwit_cmd.h"

namespace godwit::resources {

using Mac = std::array<std::uint8_t, 6>;

struct MacFilter {
  std::uint32_t flags = 0;  // GODWIT_ETH_*_MASK
  std::vector<Mac> list;

  bool passes(const std::uint8_t* destination) const {
    static constexpr Mac kBroadcast = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    if ((flags & GODWIT_ETH_PROMISC_MASK) != 0) return true;
    if ((destination[0] & 1) != 0 && (flags & GODWIT_ETH_ALLMULTI_MASK) != 0) return true;
    if (std::memcmp(destination, kBroadcast.data(), 6) == 0) return true;
    for (const Mac& mac : list) {
      if (std::memcmp(destination, mac.data(), 6) == 0) return true;
    }
    return false;
  }
};

}  // namespace godwit::resources

#endif  // GODWIT_RESOURCES_MAC_FILTER_H
