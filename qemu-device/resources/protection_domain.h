// SPDX-License-Identifier: GPL-2.0-or-later
//
// Protection domains and their memory regions. A key is looked up in the domain
// of the QP that uses it (docs/spec/migration.md, identifiers): two domains may
// have the same key for different regions.
#ifndef GODWIT_RESOURCES_PROTECTION_DOMAIN_H
#define GODWIT_RESOURCES_PROTECTION_DOMAIN_H

#include <cstdint>
#include <memory>

#include "resources/flat_map.h"
#include "resources/page_map.h"
#include "resources/random.h"

namespace godwit::resources {

struct MemoryRegion {
  std::uint32_t key = 0;  // L_Key and R_Key: index in 31:8, tag in 7:0
  std::uint32_t access = 0;
  std::uint64_t iova = 0;
  std::uint64_t length = 0;
  bool all_memory = false;  // addresses are bus addresses
  PageMap map;

  bool contains(std::uint64_t va, std::uint64_t bytes) const {
    if (all_memory) return va + bytes >= va;
    return va >= iova && va - iova <= length && bytes <= length - (va - iova);
  }
  // The range must be contained.
  [[nodiscard]] bool read(Dma& dma, std::uint64_t va, void* to, std::size_t bytes) const {
    return all_memory ? dma.read(va, to, bytes) : map.read(dma, va - iova, to, bytes);
  }
  [[nodiscard]] bool write(Dma& dma, std::uint64_t va, const void* from, std::size_t bytes) const {
    return all_memory ? dma.write(va, from, bytes) : map.write(dma, va - iova, from, bytes);
  }
};

struct ProtectionDomain {
  std::uint32_t number = 0;
  std::uint32_t uctx = 0;
  std::uint32_t qps = 0;
  std::uint64_t generation = 1;  // changes when a region goes: what was looked up is void
  FlatMap<std::unique_ptr<MemoryRegion>> regions;  // by index of the key

  MemoryRegion* find(std::uint32_t key) {
    std::unique_ptr<MemoryRegion>* region = regions.find(key >> 8);
    return region != nullptr && (*region)->key == key ? region->get() : nullptr;
  }
  bool taken(std::uint32_t key) const { return regions.find(key >> 8) != nullptr; }

  // A key that is not taken. Index 0 is not given out: many programs take key 0 for "none".
  std::uint32_t draw_key(Random& random) const {
    std::uint32_t key;
    do {
      key = static_cast<std::uint32_t>(random.next());
    } while (key >> 8 == 0 || taken(key));
    return key;
  }
};

}  // namespace godwit::resources

#endif  // GODWIT_RESOURCES_PROTECTION_DOMAIN_H
