// SPDX-License-Identifier: GPL-2.0-or-later
//
// Random numbers from a seed (splitmix64): QPNs and keys.
#ifndef GODWIT_RESOURCES_RANDOM_H
#define GODWIT_RESOURCES_RANDOM_H

#include <cstdint>

namespace godwit::resources {

struct Random {
  std::uint64_t state = 0;

  std::uint64_t next() {
    state += 0x9e3779b97f4a7c15ULL;
    std::uint64_t z = state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
  }
};

}  // namespace godwit::resources

#endif  // GODWIT_RESOURCES_RANDOM_H
