// SPDX-License-Identifier: GPL-2.0-or-later
//
// One call of run(): timers, commands, frames, then the QPs that have work, in
// turn. Each part is bounded; true means that something was left.
#include <algorithm>

#include "device/device.h"

namespace godwit::device {

void Device::schedule(QueuePair& qp) {
  if (qp.scheduled) return;
  qp.scheduled = true;
  qp.ready_next = nullptr;
  qp.ready_previous = ready_tail_;
  (ready_tail_ != nullptr ? ready_tail_->ready_next : ready_head_) = &qp;
  ready_tail_ = &qp;
}

void Device::unschedule(QueuePair& qp) {
  if (!qp.scheduled) return;
  qp.scheduled = false;
  (qp.ready_previous != nullptr ? qp.ready_previous->ready_next : ready_head_) = qp.ready_next;
  (qp.ready_next != nullptr ? qp.ready_next->ready_previous : ready_tail_) = qp.ready_previous;
  qp.ready_next = qp.ready_previous = nullptr;
}

void Device::touch(QueuePair& qp) {
  std::uint64_t deadline = std::min(transport::next_deadline(qp), qp.ttl_deadline_ns);
  // Receives posted to a QP in Error are flushed although no doorbell need be rung for them.
  if (qp.attr.status == transport::Status::kError && !qp.mig.stopped && qp.rq_depth() != 0 &&
      qp.attached()) {
    deadline = std::min(deadline, now_ns_ + kFlushPollNs);
  }
  timers_.set(qp, deadline);
}

void Device::run_timers() {
  for (unsigned n = 0; n < kTimersPerRun; ++n) {
    QueuePair* qp = timers_.top();
    if (qp == nullptr || qp->deadline_ns > now_ns_) break;
    if (qp->ttl_deadline_ns <= now_ns_) {
      expire_tombstone(*qp);
      continue;
    }
    transport::on_timer(*qp, ports_, now_ns_);
    touch(*qp);
    schedule(*qp);
  }
  if (reservation_deadline_ns_ <= now_ns_) expire_reservations();
}

// True: a QP has more to do now.
bool Device::run_qps(const Share& share) {
  for (unsigned n = 0; n < share.turns && ready_head_ != nullptr; ++n) {
    if (wire_busy()) return false;
    if (kLoopbackSlots - loopback_count_ < share.packets) return true;
    QueuePair& qp = *ready_head_;
    unschedule(qp);
    if (qp.sq_noted) {
      qp.sq_noted = false;
      if (!qp.mig.stopped) post_sq(qp, qp.sq_noted_producer);
    }
    const bool more = transport::run(qp, ports_, now_ns_, share.packets);
    touch(qp);
    if (more) schedule(qp);
  }
  return ready_head_ != nullptr && !wire_busy();
}

bool Device::run(std::uint64_t now_ns, const Share& share) {
  set_now(now_ns);
  kicked_ = false;
  if (!running()) {
    flush_interrupts();
    return false;
  }
  in_run_ = true;
  run_timers();
  bool more = run_commands();
  more |= run_transmit(share.descriptors);
  more |= run_loopback();
  more |= run_qps(share);
  more |= loopback_count_ != 0;
  const QueuePair* first = timers_.top();
  more |= first != nullptr && first->deadline_ns <= now_ns_;
  flush_events();
  flush_interrupts();
  more |= events_due_;
  in_run_ = false;
  return more && running();
}

std::uint64_t Device::next_deadline() const {
  if (!running()) return GODWIT_NO_DEADLINE;
  const QueuePair* first = timers_.top();
  return std::min({first != nullptr ? first->deadline_ns : GODWIT_NO_DEADLINE,
                   reservation_deadline_ns_,
                   wire_busy() ? wire_busy_until_ns_ : GODWIT_NO_DEADLINE});
}

}  // namespace godwit::device
