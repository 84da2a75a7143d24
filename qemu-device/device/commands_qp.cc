// SPDX-License-Identifier: GPL-2.0-or-later
//
// Commands for QPs, and who has which QPN.
#include <cstring>
#include <vector>

#include "device/commands.h"
#include "transport/snapshot.h"
#include "wire/endian.h"

namespace godwit::device {

using resources::CompletionQueue;
using resources::ProtectionDomain;
using transport::Status;
using wire::from_le;
using wire::le32;
using wire::le64;

namespace {

// Whether a queue, or the record, lies in the buffer.
bool inside(std::uint32_t offset, std::uint64_t bytes, std::uint64_t length) {
  return offset % 64 == 0 && bytes <= length && offset <= length - bytes;
}

}  // namespace

QueuePair* Device::find_qp(std::uint32_t qpn) {
  QpnEntry* entry = qpns_.find(qpn);
  return entry == nullptr ? nullptr : entry->qp;
}

// A restored QP that has not been resumed is silent as long as its tombstone answers.
QueuePair* Device::packet_qp(std::uint32_t qpn) {
  QpnEntry* entry = qpns_.find(qpn);
  if (entry == nullptr) return nullptr;
  return entry->tombstone != nullptr ? entry->tombstone : entry->qp;
}

std::uint32_t Device::draw_qpn() {
  std::uint32_t qpn;
  do {
    qpn = static_cast<std::uint32_t>(random_.next()) & kNumberMask;
  } while (qpn < kFirstQpn || qpn > kLastQpn || qpns_.find(qpn) != nullptr ||
           reservations_.find(qpn) != nullptr);
  return qpn;
}

// Everything that needs no other object.
Reply Device::check_create_qp(const godwit_create_qp& in) {
  using In = godwit_create_qp;
  const std::uint32_t flags = from_le(in.flags);
  constexpr std::uint32_t kFlags = GODWIT_CREATE_RESTORE_MASK | GODWIT_CREATE_QPN_MASK;
  if ((flags & GODWIT_CREATE_SRQ_MASK) != 0) {
    return Reply::fail(GODWIT_CMD_STATUS_NOT_SUPPORTED, offsetof(In, flags));
  }
  if ((flags & ~kFlags) != 0) return bad(offsetof(In, flags));
  const bool restore = (flags & GODWIT_CREATE_RESTORE_MASK) != 0;
  if (restore && !config_.migration) {
    return Reply::fail(GODWIT_CMD_STATUS_NOT_SUPPORTED, offsetof(In, flags));
  }
  if (in.type == GODWIT_QP_TYPE_UC || in.type == GODWIT_QP_TYPE_UD) {
    return Reply::fail(GODWIT_CMD_STATUS_NOT_SUPPORTED, offsetof(In, type));
  }
  if (in.type != GODWIT_QP_TYPE_RC) return bad(offsetof(In, type));
  if (from_le(in.srqn) != 0) return bad(offsetof(In, srqn));
  if (from_le(in.reserved_1a0) != 0) return bad(offsetof(In, reserved_1a0));
  if (in.signal_all > 1) return bad(offsetof(In, signal_all));
  if (in.log2_sq_depth > 15 || 1u << in.log2_sq_depth > config_.max_qp_wr) {
    return bad(offsetof(In, log2_sq_depth));
  }
  if (in.log2_sq_stride < 6 || in.log2_sq_stride > 9) return bad(offsetof(In, log2_sq_stride));
  const std::uint32_t sq_stride = 1u << in.log2_sq_stride;
  if (in.max_send_sge > GODWIT_MAX_SGE ||
      sizeof(godwit_send_wqe) + in.max_send_sge * sizeof(godwit_sge) > sq_stride) {
    return bad(offsetof(In, max_send_sge));
  }
  if (from_le(in.max_inline) > sq_stride - sizeof(godwit_send_wqe)) {
    return bad(offsetof(In, max_inline));
  }
  const bool has_rq = in.log2_rq_depth != GODWIT_NO_RQ;
  std::uint64_t rq_bytes = 0;
  if (has_rq) {
    if (in.log2_rq_depth > 15 || 1u << in.log2_rq_depth > config_.max_qp_wr) {
      return bad(offsetof(In, log2_rq_depth));
    }
    if (in.log2_rq_stride < 5 || in.log2_rq_stride > 9) return bad(offsetof(In, log2_rq_stride));
    if (in.max_recv_sge > GODWIT_MAX_SGE ||
        sizeof(godwit_recv_wqe) + in.max_recv_sge * sizeof(godwit_sge) > 1u << in.log2_rq_stride) {
      return bad(offsetof(In, max_recv_sge));
    }
    rq_bytes = std::uint64_t{1} << (in.log2_rq_depth + in.log2_rq_stride);
  }
  if (restore) {
    if (from_le(in.buffer.list) != 0 || from_le(in.buffer.page_count) != 0) {
      return bad(offsetof(In, buffer));
    }
  }
  // With RESTORE the buffer comes with ATTACH; where the queues lie in it is known already.
  const std::uint64_t length = restore ? UINT32_MAX : from_le(in.buffer.length);
  const std::uint64_t sq_bytes = std::uint64_t{1} << (in.log2_sq_depth + in.log2_sq_stride);
  if (!inside(from_le(in.sq_offset), sq_bytes, length)) return bad(offsetof(In, sq_offset));
  if (has_rq && !inside(from_le(in.rq_offset), rq_bytes, length)) {
    return bad(offsetof(In, rq_offset));
  }
  if (!inside(from_le(in.record_offset), sizeof(godwit_qp_record), length)) {
    return bad(offsetof(In, record_offset));
  }
  if (from_le(in.move) != 0 && (flags & kFlags) != kFlags) return bad(offsetof(In, move));
  if ((flags & GODWIT_CREATE_QPN_MASK) == 0 && from_le(in.qpn) != 0) return bad(offsetof(In, qpn));
  return {};
}

Reply Device::check_qpn(const godwit_create_qp& in, std::uint32_t* qpn) {
  using In = godwit_create_qp;
  if ((from_le(in.flags) & GODWIT_CREATE_QPN_MASK) == 0) {
    *qpn = draw_qpn();
    return {};
  }
  *qpn = from_le(in.qpn);
  if (*qpn < kFirstQpn || *qpn > kLastQpn) return bad(offsetof(In, qpn));
  const Reply taken = Reply::fail(GODWIT_CMD_STATUS_EXISTS, offsetof(In, qpn));
  const std::uint64_t move = from_le(in.move);
  const Reservation* reservation = reservations_.find(*qpn);
  const bool reserved_for_it = reservation != nullptr && move != 0 && reservation->move == move;
  if (reservation != nullptr && !reserved_for_it) return taken;
  const QpnEntry* entry = qpns_.find(*qpn);
  if (entry == nullptr) return {};
  if (entry->qp != nullptr) return taken;
  const bool own_tombstone = move != 0 && entry->tombstone->move == move;
  return reserved_for_it || own_tombstone ? Reply() : taken;
}

Reply Device::cmd_create_qp(const std::uint8_t* params) {
  using In = godwit_create_qp;
  In in;
  const Reply got = read_mailbox(copy<godwit_cmd_mailbox>(params), &in, sizeof(in));
  if (!got.ok()) return got;
  const Reply checked = check_create_qp(in);
  if (!checked.ok()) return checked;
  const std::uint32_t uctx = from_le(in.uctx);
  if (!uctx_exists(uctx)) return not_found(offsetof(In, uctx));
  ProtectionDomain* pd = find_pd(from_le(in.pdn));
  if (pd == nullptr || pd->uctx != uctx) return not_found(offsetof(In, pdn));
  CompletionQueue* send_cq = find_cq(uctx, from_le(in.send_cqn));
  if (send_cq == nullptr) return not_found(offsetof(In, send_cqn));
  CompletionQueue* recv_cq = find_cq(uctx, from_le(in.recv_cqn));
  if (recv_cq == nullptr) return not_found(offsetof(In, recv_cqn));
  if (qps_.size() - tombstones_ >= config_.max_qp) {
    return Reply::fail(GODWIT_CMD_STATUS_NO_RESOURCES);
  }
  std::uint32_t qpn = 0;
  const Reply numbered = check_qpn(in, &qpn);
  if (!numbered.ok()) return numbered;

  auto owner = std::make_unique<QueuePair>();
  QueuePair& qp = *owner;
  qp.restore = (from_le(in.flags) & GODWIT_CREATE_RESTORE_MASK) != 0;
  if (!qp.restore) {
    const Reply walked = walk_buffer(qp.buffer, in.buffer, offsetof(In, buffer));
    if (!walked.ok()) return walked;
  }
  qp.qpn = qpn;
  qp.type = in.type;
  qp.log2_sq_depth = in.log2_sq_depth;
  qp.log2_rq_depth = in.log2_rq_depth;
  qp.mig.unloaded = qp.restore;
  qp.uctx = uctx;
  qp.pd = pd;
  qp.send_cq = send_cq;
  qp.recv_cq = recv_cq;
  qp.sq_offset = from_le(in.sq_offset);
  qp.rq_offset = from_le(in.rq_offset);
  qp.record_offset = from_le(in.record_offset);
  qp.log2_sq_stride = in.log2_sq_stride;
  qp.log2_rq_stride = in.log2_rq_stride;
  qp.max_send_sge = in.max_send_sge;
  qp.max_recv_sge = in.max_recv_sge;
  qp.signal_all = in.signal_all != 0;
  qp.max_inline = from_le(in.max_inline);
  ++pd->qps;
  ++send_cq->qps;
  ++recv_cq->qps;
  ++uctxs_[uctx].objects;
  QpnEntry* entry = qpns_.find(qpn);
  if (entry == nullptr) entry = &qpns_.insert(qpn, QpnEntry());
  entry->qp = &qp;
  qp.table_index = qps_.size();
  qps_.push_back(std::move(owner));
  listed_qps_.reserve(qps_.size());

  godwit_result_qpn result = {};
  result.qpn = le32(qpn);
  return reply_with(result);
}

Reply Device::cmd_modify_qp(const std::uint8_t* params) {
  using In = godwit_modify_qp;
  constexpr std::uint32_t kMask = (GODWIT_QP_ATTR_CUR_STATUS << 1) - 1;
  In in;
  const Reply got = read_mailbox(copy<godwit_cmd_mailbox>(params), &in, sizeof(in));
  if (!got.ok()) return got;
  const std::uint32_t mask = from_le(in.mask);
  if ((mask & ~kMask) != 0) return bad(offsetof(In, mask));
  if (in.attr.status > GODWIT_QP_STATUS_ERROR) return bad(offsetof(In, attr.status));
  if (in.attr.cur_status > GODWIT_QP_STATUS_ERROR) return bad(offsetof(In, attr.cur_status));
  if (in.attr.sqd_async_notify > 1) return bad(offsetof(In, attr.sqd_async_notify));
  if (in.attr.reserved_58 != 0) return bad(offsetof(In, attr.reserved_58));
  if (from_le(in.attr.reserved_70) != 0) return bad(offsetof(In, attr.reserved_70));
  if (!wire::all_zero(in.attr.av.reserved_108, sizeof(in.attr.av.reserved_108))) {
    return bad(offsetof(In, attr.av.reserved_108));
  }
  QueuePair* qp = find_qp(from_le(in.qpn));
  if (qp == nullptr) return not_found(offsetof(In, qpn));
  const Status before = qp->attr.status;
  switch (transport::modify_qp(*qp, ports_, now_ns_, transport::get_attributes(in.attr), mask)) {
    case transport::ModifyResult::kOk:
      break;
    case transport::ModifyResult::kBadState:
      return bad_state(offsetof(In, attr.status));
    case transport::ModifyResult::kBadParameter:
      return bad(offsetof(In, attr));
  }
  trace(GODWIT_TRACE_QP_STATUS, qp->qpn, static_cast<std::uint64_t>(before),
        static_cast<std::uint64_t>(qp->attr.status), 0);
  if (qp->attr.status == Status::kReset) {
    qp->rq_producer = 0;
    qp->sq_noted = false;
    qp->pending_events = 0;
    unschedule(*qp);
  } else {
    schedule(*qp);
  }
  touch(*qp);
  return {};
}

Reply Device::cmd_query_qp(const std::uint8_t* params) {
  using In = godwit_cmd_qp_mailbox;
  const In in = copy<In>(params);
  const std::uint32_t qpn = from_le(in.qpn);
  QpnEntry* entry = qpns_.find(qpn);
  if (entry == nullptr) return not_found(offsetof(In, qpn));
  const QueuePair& qp = entry->qp != nullptr ? *entry->qp : *entry->tombstone;
  godwit_qp_info info = {};
  transport::put_attributes(qp.attr, &info.attr);
  info.attr.sq_psn = le32(qp.req.next);
  info.attr.rq_psn = le32(qp.resp.expected);
  info.ext = le32((qp.mig.stopped ? GODWIT_QP_EXT_STOPPED_MASK : 0) |
                  (qp.mig.paused ? GODWIT_QP_EXT_PAUSED_MASK : 0) |
                  (qp.mig.resuming ? GODWIT_QP_EXT_RESUMING_MASK : 0) |
                  (qp.mig.tombstone ? GODWIT_QP_EXT_TOMBSTONE_MASK : 0) |
                  (qp.restore ? GODWIT_QP_EXT_UNLOADED_MASK : 0));
  info.own_epoch = le32(qp.mig.own_epoch);
  info.peer_epoch = le32(qp.mig.peer_epoch);
  info.sq_draining = qp.attr.status == Status::kSqd && !qp.req.drained ? 1 : 0;
  info.peer_extended = qp.mig.peer_extended ? 1 : 0;
  info.sq_consumer = le32(qp.req.consumer);
  info.rq_consumer = le32(qp.resp.rq_consumer);
  info.tx_packets = le64(qp.stats.tx_packets);
  info.rx_packets = le64(qp.stats.rx_packets);
  info.tx_bytes = le64(qp.stats.tx_bytes);
  info.rx_bytes = le64(qp.stats.rx_bytes);
  info.retransmissions = le64(qp.stats.retransmissions);
  if (from_le(in.addr) % 64 != 0) return bad(offsetof(In, addr));
  if (from_le(in.length) < sizeof(info)) return bad(offsetof(In, length));
  if (!write(from_le(in.addr), &info, sizeof(info))) {
    return Reply::fail(GODWIT_CMD_STATUS_DMA_ERROR, offsetof(In, addr));
  }
  return {};
}

Reply Device::cmd_destroy_qp(const std::uint8_t* params) {
  using In = godwit_cmd_number;
  const In in = copy<In>(params);
  if (from_le(in.reserved_20) != 0) return bad(offsetof(In, reserved_20));
  QpnEntry* entry = qpns_.find(from_le(in.number));
  if (entry == nullptr) return not_found(offsetof(In, number));
  // A restore that failed leaves the tombstone that it would have replaced.
  if (entry->qp != nullptr) {
    transport::acknowledge_now(*entry->qp, ports_, now_ns_);
    destroy(entry->qp);
  } else {
    destroy_tombstone(entry->tombstone);
  }
  return {};
}

// Off all lists of things to do.
void Device::unlink(QueuePair& qp) {
  unschedule(qp);
  timers_.set(qp, GODWIT_NO_DEADLINE);
  if (qp.event_listed) {
    std::erase(listed_qps_, &qp);
    qp.event_listed = false;
  }
  qp.pending_events = 0;
}

void Device::leave_resources(QueuePair& qp) {
  qp.buffer.release(page_budget_);
  --qp.pd->qps;
  --qp.send_cq->qps;
  --qp.recv_cq->qps;
  --uctxs_[qp.uctx].objects;
  qp.pd = nullptr;
  qp.send_cq = qp.recv_cq = nullptr;
  qp.cached_region = nullptr;
}

void Device::destroy(QueuePair* qp) {
  unlink(*qp);
  if (qp->pd != nullptr) leave_resources(*qp);
  QpnEntry* entry = qpns_.find(qp->qpn);
  (entry->qp == qp ? entry->qp : entry->tombstone) = nullptr;
  if (entry->qp == nullptr && entry->tombstone == nullptr) qpns_.erase(qp->qpn);
  const std::size_t index = qp->table_index;
  qps_[index].swap(qps_.back());
  qps_[index]->table_index = index;
  qps_.pop_back();
}

void Device::destroy_tombstone(QueuePair* tombstone) {
  --tombstones_;
  destroy(tombstone);
}

}  // namespace godwit::device
