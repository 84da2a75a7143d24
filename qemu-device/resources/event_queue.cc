// SPDX-License-Identifier: GPL-2.0-or-later
#include "resources/event_queue.h"

#include "wire/endian.h"

namespace godwit::resources {

using wire::le32;

EventQueue::Post EventQueue::post(Dma& dma, std::uint8_t type, std::uint8_t subtype,
                                  std::uint32_t about) {
  const std::uint32_t depth = std::uint32_t{1} << log2_depth;
  if (producer - consumer >= depth) {
    starved = true;
    return Post::kFull;
  }
  godwit_eqe entry = {};
  entry.type = type;
  entry.subtype = subtype;
  entry.number = le32(about);
  entry.phase = (producer >> log2_depth & 1) == 0 ? GODWIT_CQE_PHASE_MASK : 0;
  const std::uint64_t offset = std::uint64_t{producer & (depth - 1)} * sizeof(entry);
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(&entry);
  if (!buffer.write(dma, offset, bytes, 8) || !buffer.write(dma, offset + 8, bytes + 8, 8)) {
    return Post::kDma;
  }
  ++producer;
  return Post::kOk;
}

}  // namespace godwit::resources
