// SPDX-License-Identifier: GPL-2.0-or-later
//
// Event queues and interrupts. An event that finds no room waits at its object;
// one interrupt stands for everything that one entry of the device has written.
#include "device/device.h"

namespace godwit::device {

using resources::CompletionQueue;
using resources::EventQueue;

Device::Posted Device::post_event(std::uint32_t eqn, std::uint8_t type, std::uint8_t subtype,
                                  std::uint32_t number) {
  if (!running() || eqn >= eqs_.size() || eqs_[eqn] == nullptr) return Posted::kYes;  // nobody asks
  EventQueue& eq = *eqs_[eqn];
  switch (eq.post(*this, type, subtype, number)) {
    case EventQueue::Post::kOk:
      if (eq.take_interrupt()) interrupt(eq.vector);
      return Posted::kYes;
    case EventQueue::Post::kFull:
      return Posted::kNoRoom;
    case EventQueue::Post::kDma:
      fatal(GODWIT_FATAL_EQ_DMA);
      return Posted::kYes;
  }
  return Posted::kYes;
}

void Device::list(CompletionQueue& cq) {
  events_due_ = true;
  if (cq.listed) return;
  cq.listed = true;
  listed_cqs_.push_back(&cq);
}

void Device::list_event(QueuePair& qp, unsigned subtype) {
  qp.pending_events |= 1U << subtype;
  events_due_ = true;
  if (qp.event_listed) return;
  qp.event_listed = true;
  listed_qps_.push_back(&qp);
}

void Device::set_link(bool up) {
  if (up == link_up_) return;
  link_up_ = up;
  if (!running()) return;
  port_event_due_ = events_due_ = true;
  kick();
}

void Device::wire_ready() {
  if (wire_busy_until_ns_ == 0) return;
  wire_busy_until_ns_ = 0;
  kick();
}

// Everything that waits, as far as there is room. What finds none is tried again when the driver
// has moved its consumer index.
void Device::flush_events() {
  if (!events_due_ || !running()) return;
  events_due_ = false;
  if (port_event_due_) {
    const std::uint8_t subtype = link_up_ ? GODWIT_EQE_PORT_ACTIVE : GODWIT_EQE_PORT_DOWN;
    port_event_due_ = post_event(0, GODWIT_EQE_PORT, subtype, 1) == Posted::kNoRoom;
  }
  for (std::size_t i = 0; i < listed_cqs_.size();) {
    CompletionQueue& cq = *listed_cqs_[i];
    if (!flush_cq(cq)) {
      ++i;
      continue;
    }
    cq.listed = false;
    listed_cqs_[i] = listed_cqs_.back();
    listed_cqs_.pop_back();
  }
  for (std::size_t i = 0; i < listed_qps_.size();) {
    QueuePair& qp = *listed_qps_[i];
    if (!flush_qp_events(qp)) {
      ++i;
      continue;
    }
    qp.event_listed = false;
    listed_qps_[i] = listed_qps_.back();
    listed_qps_.pop_back();
  }
}

bool Device::flush_cq(CompletionQueue& cq) {
  if (cq.qps_pending) {
    cq.qps_pending = false;
    fail_qps_of(cq);
  }
  if (cq.error_pending) {
    if (post_event(0, GODWIT_EQE_CQ_ERROR, 0, cq.event_number) == Posted::kNoRoom) return false;
    cq.error_pending = false;
  }
  if (cq.event_pending) {
    if (!cq.attached()) return true;  // ATTACH lists it again
    if (post_event(cq.eqn, GODWIT_EQE_COMP, 0, cq.event_number) == Posted::kNoRoom) return false;
    cq.event_pending = false;
  }
  return true;
}

bool Device::flush_qp_events(QueuePair& qp) {
  for (std::uint8_t subtype = GODWIT_EQE_QP_FATAL; subtype <= GODWIT_EQE_QP_RESUMED; ++subtype) {
    const std::uint32_t bit = 1U << subtype;
    if ((qp.pending_events & bit) == 0) continue;
    if (post_event(0, GODWIT_EQE_QP, subtype, qp.qpn) == Posted::kNoRoom) return false;
    qp.pending_events &= ~bit;
  }
  return true;
}

void Device::fail_cq(CompletionQueue& cq) {
  if (!cq.failed) {
    cq.failed = cq.error_pending = true;
    count(GODWIT_COUNTER_CQ_OVERFLOWS);
  }
  // Also of a CQ that was broken before: the QP at hand had been stopped then.
  cq.qps_pending = true;
  list(cq);
}

void Device::fail_qps_of(CompletionQueue& cq) {
  for (const auto& qp : qps_) {
    if (qp->send_cq != &cq && qp->recv_cq != &cq) continue;
    if (qp->mig.stopped || qp->restore) continue;  // it touches nothing; its next completion fails
    transport::enter_error(*qp, ports_, now_ns_, transport::Fault::kCqOverflow);
    touch(*qp);
  }
}

void Device::flush_interrupts() {
  while (interrupts_ != 0) {
    const unsigned vector = static_cast<unsigned>(__builtin_ctzll(interrupts_));
    interrupts_ &= interrupts_ - 1;
    ops_.raise_interrupt(ops_.opaque, vector);
  }
}

void Device::event(transport::Qp& qp, transport::QpEvent event) {
  using transport::QpEvent;
  auto& pair = static_cast<QueuePair&>(qp);
  switch (event) {
    case QpEvent::kFatal:
      return list_event(pair, GODWIT_EQE_QP_FATAL);
    case QpEvent::kRequestError:
      return list_event(pair, GODWIT_EQE_QP_REQUEST_ERROR);
    case QpEvent::kAccessError:
      return list_event(pair, GODWIT_EQE_QP_ACCESS_ERROR);
    case QpEvent::kCommEstablished:
      return list_event(pair, GODWIT_EQE_QP_COMM_EST);
    case QpEvent::kSqDrained:
      return list_event(pair, GODWIT_EQE_QP_SQ_DRAINED);
    case QpEvent::kLastWqe:
      return list_event(pair, GODWIT_EQE_QP_LAST_WQE);
    case QpEvent::kPathMigrated:
      return list_event(pair, GODWIT_EQE_QP_PATH_MIG);
    case QpEvent::kResumed:
      return list_event(pair, GODWIT_EQE_QP_RESUMED);
    case QpEvent::kStatusChanged:
      trace(GODWIT_TRACE_QP_STATUS, qp.qpn, 0, static_cast<std::uint64_t>(qp.attr.status),
            (qp.mig.stopped ? GODWIT_QP_EXT_STOPPED_MASK : 0) |
                (qp.mig.paused ? GODWIT_QP_EXT_PAUSED_MASK : 0) |
                (qp.mig.resuming ? GODWIT_QP_EXT_RESUMING_MASK : 0));
      return;
  }
}

}  // namespace godwit::device
