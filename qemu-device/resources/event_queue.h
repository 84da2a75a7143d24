// SPDX-License-Identifier: GPL-2.0-or-later
//
// Event queues: a ring in guest memory with a phase bit and an MSI-X vector.
#ifndef GODWIT_RESOURCES_EVENT_QUEUE_H
#define GODWIT_RESOURCES_EVENT_QUEUE_H

#include <cstdint>

#include "godwit_queue.h"
#include "resources/page_map.h"

namespace godwit::resources {

struct EventQueue {
  enum class Post : std::uint8_t { kOk, kFull, kDma };

  std::uint32_t number = 0;
  std::uint32_t vector = 0;
  std::uint32_t log2_depth = 0;
  std::uint32_t cqs = 0;  // that use it
  PageMap buffer;

  std::uint32_t producer = 0;  // free running
  std::uint32_t consumer = 0;
  bool armed = false;
  bool starved = false;  // something waits for room

  [[nodiscard]] Post post(Dma& dma, std::uint8_t type, std::uint8_t subtype, std::uint32_t about);

  // The doorbell. False: an index that cannot be.
  [[nodiscard]] bool set_consumer(std::uint32_t index) {
    if (producer - index > std::uint32_t{1} << log2_depth) return false;
    consumer = index;
    armed = true;
    return true;
  }
  // True once, if it is armed and not empty: an interrupt is due.
  bool take_interrupt() {
    if (!armed || producer == consumer) return false;
    armed = false;
    return true;
  }
};

}  // namespace godwit::resources

#endif  // GODWIT_RESOURCES_EVENT_QUEUE_H
