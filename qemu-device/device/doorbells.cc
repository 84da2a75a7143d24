// SPDX-License-Identifier: GPL-2.0-or-later
//
// BAR 2. A doorbell is noted where it belongs and worked on in run().
#include "device/device.h"

namespace godwit::device {

void Device::kick() {
  if (kicked_ || in_run_) return;
  kicked_ = true;
  ops_.kick(ops_.opaque);
}

void Device::doorbell_write(std::uint64_t offset, std::uint64_t value, unsigned size) {
  if (!running()) return;
  const std::uint64_t page = offset / GODWIT_DB_PAGE_SIZE;
  const auto at = static_cast<std::uint32_t>(offset % GODWIT_DB_PAGE_SIZE);
  const bool word = size == 4 && at % 4 == 0;
  const bool whole = size == 8 && at % 8 == 0;
  if (page >= halves_.size() || !(word || whole)) {
    count(GODWIT_COUNTER_BAD_DOORBELLS);
    trace(GODWIT_TRACE_BAD_DOORBELL, page, at, 0, value);
    return;
  }
  const auto page_number = static_cast<std::uint32_t>(page);
  HalfDoorbell& half = halves_[page_number];
  if (whole) {
    ring(page_number, at, static_cast<std::uint32_t>(value),
         static_cast<std::uint32_t>(value >> 32));
  } else if (at % 8 == 0) {
    half.offset = at;
    half.low = static_cast<std::uint32_t>(value);
  } else if (half.offset == at - 4) {
    half.offset = UINT32_MAX;
    ring(page_number, at - 4, half.low, static_cast<std::uint32_t>(value));
  } else {
    count(GODWIT_COUNTER_BAD_DOORBELLS);
    trace(GODWIT_TRACE_BAD_DOORBELL, page, at, 0, value);
  }
}

void Device::ring(std::uint32_t page, std::uint32_t offset, std::uint32_t number,
                  std::uint32_t value) {
  bool good = false;
  switch (offset) {
    case GODWIT_DB_SQ:
      good = ring_sq(page, number, value);
      break;
    case GODWIT_DB_RQ: {
      // The record is read when a packet needs it; only a flush is waiting for this.
      QueuePair* qp = find_qp(number);
      good = qp != nullptr && qp->uctx == page;
      if (good && qp->attr.status == transport::Status::kError) {
        schedule(*qp);
        kick();
      }
      break;
    }
    case GODWIT_DB_SRQ:
      break;
    case GODWIT_DB_CQ_ARM: {
      resources::CompletionQueue* cq = find_cq(page, number);
      good = cq != nullptr && cq->attached();
      if (!good) break;
      cq->arm((value & GODWIT_DB_CQ_ARM_SOLICITED_MASK) != 0, value & GODWIT_DB_CQ_ARM_INDEX_MASK);
      if (cq->event_pending) {
        list(*cq);
        kick();
      }
      break;
    }
    case GODWIT_DB_EQ:
    case GODWIT_DB_ETH_TX:
    case GODWIT_DB_ETH_RX:
    case GODWIT_DB_ETH_ARM:
      good = page == 0 && ring_page0(offset, number, value);
      break;
    default:
      break;
  }
  if (good) return;
  count(GODWIT_COUNTER_BAD_DOORBELLS);
  trace(GODWIT_TRACE_BAD_DOORBELL, page, offset, number, value);
}

bool Device::ring_sq(std::uint32_t page, std::uint32_t qpn, std::uint32_t value) {
  QueuePair* qp = find_qp(qpn);
  if (qp == nullptr || qp->uctx != page || !qp->attached()) return false;
  const auto producer = static_cast<std::uint16_t>(value);
  const auto posted = static_cast<std::uint16_t>(producer - qp->req.consumer);
  if (posted > qp->sq_depth()) return false;
  const auto noted = static_cast<std::uint16_t>(qp->sq_noted_producer - qp->req.consumer);
  if (!qp->sq_noted || posted > noted || noted > qp->sq_depth()) qp->sq_noted_producer = producer;
  qp->sq_noted = true;
  schedule(*qp);
  kick();
  return true;
}

bool Device::ring_page0(std::uint32_t offset, std::uint32_t number, std::uint32_t value) {
  if (offset == GODWIT_DB_EQ) {
    if (number >= eqs_.size() || eqs_[number] == nullptr) return false;
    resources::EventQueue& eq = *eqs_[number];
    if (!eq.set_consumer(value)) return false;
    if (eq.starved) {
      eq.starved = false;
      events_due_ = true;
      kick();
    }
    if (eq.take_interrupt()) {
      interrupt(eq.vector);
      kick();
    }
    return true;
  }
  if (!eth_.enabled) return false;
  if (offset == GODWIT_DB_ETH_TX) {
    if (value - eth_.tx_consumer > std::uint32_t{1} << eth_.log2_tx) return false;
    eth_.tx_producer = value;
    kick();
  } else if (offset == GODWIT_DB_ETH_RX) {
    if (value - eth_.rx_consumer > std::uint32_t{1} << eth_.log2_rx) return false;
    eth_.rx_producer = value;
  } else {
    // What was completed while nobody was told is told now: a driver may arm without looking again.
    if ((value & GODWIT_DB_ETH_ARM_TX_MASK) != 0) eth_.tx_armed = true;
    if ((value & GODWIT_DB_ETH_ARM_RX_MASK) != 0) eth_.rx_armed = true;
    if ((eth_.tx_armed && eth_.tx_unseen) || (eth_.rx_armed && eth_.rx_unseen)) {
      if (eth_.tx_unseen) eth_.tx_armed = eth_.tx_unseen = false;
      if (eth_.rx_unseen) eth_.rx_armed = eth_.rx_unseen = false;
      interrupt(GODWIT_VECTOR_ETH);
      kick();
    }
  }
  return true;
}

}  // namespace godwit::device
