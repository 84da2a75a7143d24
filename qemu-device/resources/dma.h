// SPDX-License-Identifier: GPL-2.0-or-later
//
// Guest memory by bus address. The implementation counts and traces failures.
#ifndef GODWIT_RESOURCES_DMA_H
#define GODWIT_RESOURCES_DMA_H

#include <cstddef>
#include <cstdint>

namespace godwit::resources {

class Dma {
 public:
  virtual ~Dma() = default;
  [[nodiscard]] virtual bool read(std::uint64_t addr, void* to, std::size_t length) = 0;
  [[nodiscard]] virtual bool write(std::uint64_t addr, const void* from, std::size_t length) = 0;
};

}  // namespace godwit::resources

#endif  // GODWIT_RESOURCES_DMA_H
