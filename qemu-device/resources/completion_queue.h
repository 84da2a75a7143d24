// SPDX-License-Identifier: GPL-2.0-or-later
//
// Completion queues: a ring in guest memory with a phase bit, armed for one event
// at a time.
#ifndef GODWIT_RESOURCES_COMPLETION_QUEUE_H
#define GODWIT_RESOURCES_COMPLETION_QUEUE_H

#include <cstdint>

#include "godwit_queue.h"
#include "godwit_state.h"
#include "resources/page_map.h"

namespace godwit::resources {

struct CompletionQueue {
  enum class Push : std::uint8_t { kOk, kOverflow, kDma };

  std::uint32_t uctx = 0;
  std::uint32_t number = 0;
  std::uint32_t eqn = 0;
  std::uint32_t event_number = 0;
  std::uint32_t log2_depth = 0;
  std::uint32_t record_offset = 0;
  std::uint32_t qps = 0;  // send and receive sides that use it
  bool restore = false;   // created without a buffer
  bool loaded = false;
  PageMap buffer;

  std::uint32_t producer = 0;   // free running
  std::uint32_t consumer = 0;   // as last seen, 24 bits
  std::uint32_t solicited = 0;  // one past the last entry that was solicited or in error
  std::uint32_t told = 0;  // one past the last entry that an event was for; at most a depth behind
  std::uint8_t armed = GODWIT_CQ_NOT_ARMED;
  bool event_pending = false;  // COMP not yet in the EQ
  bool error_pending = false;  // CQ_ERROR not yet in the EQ
  bool failed = false;         // overflow or not writable
  bool qps_pending = false;    // its QPs are still to be put into Error
  bool listed = false;         // in the device's list of queues with something pending

  bool attached() const { return !buffer.empty(); }

  // The entry's phase is filled in. The last 8 bytes become visible after all others.
  [[nodiscard]] Push push(Dma& dma, godwit_cqe* entry, bool solicited_event);

  // CQ_ARM. An entry that software has not seen, by its own word, and was not told of, is an event
  // at once.
  void arm(bool solicited_only, std::uint32_t consumer_index);

  // After a load it is not known what software was told of: rather an event too many.
  void told_of_what_it_saw();

 private:
  void raise();
};

}  // namespace godwit::resources

#endif  // GODWIT_RESOURCES_COMPLETION_QUEUE_H
