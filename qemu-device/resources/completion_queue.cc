// SPDX-License-Identifier: GPL-2.0-or-later
#include "resources/completion_queue.h"

#include <algorithm>

#include "godwit_regs.h"
#include "wire/endian.h"

namespace godwit::resources {

using wire::from_le;

namespace {

constexpr std::uint32_t kIndexMask = GODWIT_DB_CQ_ARM_INDEX_MASK;
constexpr std::size_t kLast = 8;

}  // namespace

CompletionQueue::Push CompletionQueue::push(Dma& dma, godwit_cqe* entry, bool solicited_event) {
  if (failed) return Push::kOverflow;
  const std::uint32_t depth = std::uint32_t{1} << log2_depth;
  if (((producer - consumer) & kIndexMask) >= depth) {
    godwit_cq_record record;
    if (!buffer.read(dma, record_offset, &record.consumer, sizeof(record.consumer))) {
      return Push::kDma;
    }
    const std::uint32_t seen = from_le(record.consumer) & kIndexMask;
    if (((producer - seen) & kIndexMask) >= depth) return Push::kOverflow;
    consumer = seen;
  }

  entry->phase = (producer >> log2_depth & 1) == 0 ? GODWIT_CQE_PHASE_MASK : 0;
  const std::uint64_t offset = std::uint64_t{producer & (depth - 1)} * sizeof(*entry);
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(entry);
  if (!buffer.write(dma, offset, bytes, sizeof(*entry) - kLast) ||
      !buffer.write(dma, offset + sizeof(*entry) - kLast, bytes + sizeof(*entry) - kLast, kLast)) {
    return Push::kDma;
  }
  ++producer;
  if (producer - told > depth) told = producer - depth;
  if (solicited_event) solicited = producer;
  if (armed == GODWIT_CQ_ARMED_ANY || (armed == GODWIT_CQ_ARMED_SOLICITED && solicited_event)) {
    raise();
  }
  return Push::kOk;
}

void CompletionQueue::raise() {
  armed = GODWIT_CQ_NOT_ARMED;
  event_pending = true;
  told = producer;
}

void CompletionQueue::told_of_what_it_saw() {
  told = producer - ((producer - consumer) & kIndexMask);
}

void CompletionQueue::arm(bool solicited_only, std::uint32_t consumer_index) {
  const std::uint32_t unseen = (producer - consumer_index) & kIndexMask;
  if (unseen > std::uint32_t{1} << log2_depth) return;  // an index that cannot be
  consumer = consumer_index & kIndexMask;
  // "Any" is the stronger one and stays until its event (IBTA 11.4.2.2).
  if (!solicited_only || armed == GODWIT_CQ_ARMED_ANY) {
    armed = GODWIT_CQ_ARMED_ANY;
  } else {
    armed = GODWIT_CQ_ARMED_SOLICITED;
  }
  // Software that looks only once for each event must not be told twice of one entry.
  const std::uint32_t news = std::min(unseen, producer - told);
  const std::uint32_t to_solicited = (solicited - (producer - news)) & kIndexMask;
  const bool solicited_there = to_solicited != 0 && to_solicited <= news;
  if (news != 0 && (armed == GODWIT_CQ_ARMED_ANY || solicited_there)) raise();
}

}  // namespace godwit::resources
