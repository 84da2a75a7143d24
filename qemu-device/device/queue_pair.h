// SPDX-License-Identifier: GPL-2.0-or-later
//
// A QP as the device sees it: the transport's state, and where its queues,
// completions and keys are. A tombstone is one without any of those.
#ifndef GODWIT_DEVICE_QUEUE_PAIR_H
#define GODWIT_DEVICE_QUEUE_PAIR_H

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "resources/completion_queue.h"
#include "resources/page_map.h"
#include "resources/protection_domain.h"
#include "transport/qp.h"

namespace godwit::device {

struct QueuePair : transport::Qp {
  std::uint32_t uctx = 0;
  resources::ProtectionDomain* pd = nullptr;
  resources::CompletionQueue* send_cq = nullptr;
  resources::CompletionQueue* recv_cq = nullptr;

  resources::PageMap buffer;
  std::uint32_t sq_offset = 0;
  std::uint32_t rq_offset = 0;
  std::uint32_t record_offset = 0;
  std::uint8_t log2_sq_stride = 0;
  std::uint8_t log2_rq_stride = 0;
  std::uint8_t max_send_sge = 0;
  std::uint8_t max_recv_sge = 0;
  bool signal_all = false;
  std::uint32_t max_inline = 0;
  bool restore = false;   // created without a buffer, not resumed yet
  bool loopback = false;  // its peer's address was its own when it was saved

  std::uint16_t rq_producer = 0;  // as last read from the record
  bool sq_noted = false;          // a doorbell that run() has not seen
  std::uint16_t sq_noted_producer = 0;

  // The region used last: nearly always the next one as well.
  std::uint32_t cached_key = 0;
  std::uint64_t cached_generation = 0;
  resources::MemoryRegion* cached_region = nullptr;

  std::uint32_t pending_events = 0;  // bit per GODWIT_EQE_QP_*
  bool event_listed = false;

  bool scheduled = false;
  QueuePair* ready_next = nullptr;
  QueuePair* ready_previous = nullptr;

  std::uint64_t deadline_ns = UINT64_MAX;
  std::size_t heap_index = SIZE_MAX;  // SIZE_MAX: not in the heap
  std::size_t table_index = 0;

  // tombstone
  std::uint64_t move = 0;
  std::uint64_t ttl_deadline_ns = UINT64_MAX;

  // How long the buffer must be: send queue, receive queue, record.
  std::uint64_t buffer_end() const {
    const std::uint64_t sq = sq_offset + (std::uint64_t{1} << (log2_sq_depth + log2_sq_stride));
    const std::uint64_t rq =
        rq_depth() == 0 ? 0 : rq_offset + (std::uint64_t{1} << (log2_rq_depth + log2_rq_stride));
    const std::uint64_t record = std::uint64_t{record_offset} + sizeof(godwit_qp_record);
    return std::max({sq, rq, record});
  }
  bool attached() const { return !buffer.empty(); }
  std::uint32_t sq_depth() const { return std::uint32_t{1} << log2_sq_depth; }
  std::uint32_t rq_depth() const { return has_rq() ? std::uint32_t{1} << log2_rq_depth : 0; }
};

}  // namespace godwit::device

#endif  // GODWIT_DEVICE_QUEUE_PAIR_H
