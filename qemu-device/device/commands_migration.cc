// SPDX-License-Identifier: GPL-2.0-or-later
//
// Commands of the migration extension: docs/spec/migration.md. What can fail is
// done before anything is changed.
#include <algorithm>
#include <cstring>

#include "device/commands.h"
#include "transport/snapshot.h"
#include "wire/endian.h"

namespace godwit::device {

using resources::CompletionQueue;
using transport::Status;
using wire::from_le;
using wire::le32;
using wire::le64;

namespace {

constexpr std::uint64_t kMillisecond = 1'000'000;

Reply counted(std::uint32_t n) {
  godwit_result_count result = {};
  result.count = le32(n);
  return reply_with(result);
}

}  // namespace

Reply Device::scope_qps(std::uint32_t scope, std::uint32_t number, std::vector<QueuePair*>* found) {
  if (scope == GODWIT_SCOPE_QP) {
    QueuePair* qp = find_qp(number);
    if (qp == nullptr) return not_found(offsetof(godwit_cmd_scope, number));
    found->push_back(qp);
    return {};
  }
  if (scope != GODWIT_SCOPE_UCTX) return bad(offsetof(godwit_cmd_scope, scope));
  if (!uctx_exists(number)) return not_found(offsetof(godwit_cmd_scope, number));
  for (const auto& qp : qps_) {
    if (!qp->mig.tombstone && qp->uctx == number) found->push_back(qp.get());
  }
  return {};
}

// Not finished before the flush of those QPs that are in Error; the others are stopped at once.
Reply Device::cmd_stop(const std::uint8_t* params) {
  const auto in = copy<godwit_cmd_scope>(params);
  std::vector<QueuePair*> qps;
  const Reply found = scope_qps(from_le(in.scope), from_le(in.number), &qps);
  if (!found.ok()) return found;
  std::vector<QueuePair*> stopped_now;
  bool flushing = false;
  for (QueuePair* qp : qps) {
    if (qp->mig.stopped || qp->restore) continue;
    if (qp->sq_noted) {
      qp->sq_noted = false;
      post_sq(*qp, qp->sq_noted_producer);
    }
    switch (transport::stop(*qp, ports_, now_ns_)) {
      case transport::StopResult::kOk:
        trace(GODWIT_TRACE_MIGRATION, qp->qpn, GODWIT_CMD_STOP, qp->mig.own_epoch);
        stopped_now.push_back(qp);
        unschedule(*qp);
        break;
      case transport::StopResult::kFlushFirst:
        flushing = true;
        schedule(*qp);
        break;
      case transport::StopResult::kTooManyPlaces:
        for (QueuePair* done : stopped_now) {
          transport::unstop(*done, ports_, now_ns_);
          touch(*done);
          schedule(*done);
        }
        return Reply::fail(GODWIT_CMD_STATUS_BUSY);
    }
    touch(*qp);
  }
  if (flushing) {
    Reply reply;
    reply.again = true;
    return reply;
  }
  // What they have written is told before the command completes.
  flush_events();
  return {};
}

Reply Device::cmd_unstop(const std::uint8_t* params) {
  const auto in = copy<godwit_cmd_scope>(params);
  std::vector<QueuePair*> qps;
  const Reply found = scope_qps(from_le(in.scope), from_le(in.number), &qps);
  if (!found.ok()) return found;
  if (from_le(in.scope) == GODWIT_SCOPE_QP && qps[0]->restore) return bad_state();
  for (QueuePair* qp : qps) {
    if (!qp->mig.stopped || qp->restore) continue;
    transport::unstop(*qp, ports_, now_ns_);
    trace(GODWIT_TRACE_MIGRATION, qp->qpn, GODWIT_CMD_UNSTOP, qp->mig.own_epoch);
    // Doorbells that were rung meanwhile were for a stopped QP.
    std::uint16_t producer = 0;
    if (read_sq_producer(*qp, &producer)) post_sq(*qp, producer);
    touch(*qp);
    schedule(*qp);
  }
  return {};
}

Reply Device::cmd_save(const std::uint8_t* params) {
  using In = godwit_cmd_state;
  const In in = copy<In>(params);
  const std::uint64_t addr = from_le(in.addr);
  const std::uint32_t type = from_le(in.type);
  if (addr % 64 != 0) return bad(offsetof(In, addr));
  if (from_le(in.reserved_e0) != 0) return bad(offsetof(In, reserved_e0));
  if (from_le(in.sgid_index) != 0) return bad(offsetof(In, sgid_index));
  union {
    godwit_qp_state qp;
    godwit_cq_state cq;
  } state;
  std::uint32_t bytes = 0;
  if (type == GODWIT_STATE_QP) {
    const QueuePair* qp = find_qp(from_le(in.number));
    if (qp == nullptr) return not_found(offsetof(In, number));
    if (!qp->mig.stopped || qp->restore) return bad_state();
    transport::save_qp(*qp, now_ns_, &state.qp);
    bytes = sizeof(state.qp);
  } else if (type == GODWIT_STATE_CQ) {
    const CompletionQueue* cq = find_cq(from_le(in.uctx), from_le(in.number));
    if (cq == nullptr) return not_found(offsetof(In, number));
    if (!cq->attached()) return bad_state();
    std::memset(static_cast<void*>(&state.cq), 0, sizeof(state.cq));
    bytes = sizeof(state.cq);
    state.cq.header.magic = le32(GODWIT_STATE_MAGIC);
    state.cq.header.version = wire::le16(GODWIT_STATE_VERSION);
    state.cq.header.type = wire::le16(GODWIT_STATE_CQ);
    state.cq.header.length = le32(bytes);
    state.cq.log2_depth = le32(cq->log2_depth);
    state.cq.producer = le32(cq->producer);
    state.cq.consumer = le32(cq->consumer);
    state.cq.armed = cq->armed;
    state.cq.event_pending = cq->event_pending ? 1 : 0;
    state.cq.overflowed = cq->failed ? 1 : 0;
    state.cq.header.crc32 = le32(transport::state_crc(&state.cq, bytes));
  } else if (type == GODWIT_STATE_SRQ) {
    return Reply::fail(GODWIT_CMD_STATUS_NOT_SUPPORTED, offsetof(In, type));
  } else {
    return bad(offsetof(In, type));
  }
  if (from_le(in.length) < bytes) return bad(offsetof(In, length));
  if (!write(addr, &state, bytes)) {
    return Reply::fail(GODWIT_CMD_STATUS_DMA_ERROR, offsetof(In, addr));
  }
  return counted(bytes);
}

Reply Device::cmd_load(const std::uint8_t* params) {
  using In = godwit_cmd_state;
  const In in = copy<In>(params);
  if (from_le(in.addr) % 64 != 0) return bad(offsetof(In, addr));
  if (from_le(in.reserved_e0) != 0) return bad(offsetof(In, reserved_e0));
  switch (from_le(in.type)) {
    case GODWIT_STATE_QP:
      return load_qp(in);
    case GODWIT_STATE_CQ:
      return load_cq(in);
    case GODWIT_STATE_SRQ:
      return Reply::fail(GODWIT_CMD_STATUS_NOT_SUPPORTED, offsetof(In, type));
    default:
      return bad(offsetof(In, type));
  }
}

Reply Device::load_qp(const godwit_cmd_state& in) {
  using In = godwit_cmd_state;
  const Reply refused = Reply::fail(GODWIT_CMD_STATUS_BAD_IMAGE);
  const std::uint32_t sgid_index = from_le(in.sgid_index);
  QueuePair* qp = find_qp(from_le(in.number));
  if (qp == nullptr) return not_found(offsetof(In, number));
  if (!qp->restore || !qp->mig.unloaded) return bad_state();
  godwit_qp_state state;
  if (from_le(in.length) != sizeof(state)) return refused;
  if (!read(from_le(in.addr), &state, sizeof(state))) {
    return Reply::fail(GODWIT_CMD_STATUS_DMA_ERROR, offsetof(In, addr));
  }
  transport::Qp loaded;
  loaded.qpn = qp->qpn;
  loaded.type = qp->type;
  loaded.log2_sq_depth = qp->log2_sq_depth;
  loaded.log2_rq_depth = qp->log2_rq_depth;
  if (transport::load_qp(loaded, now_ns_, state) != nullptr) return refused;
  // The tombstone that it is to replace must be of the same connection. One that was made before
  // RTS has no send PSN yet.
  const QueuePair* tombstone = qpns_.find(qp->qpn)->tombstone;
  if (tombstone != nullptr &&
      (tombstone->attr.dest_qpn != loaded.attr.dest_qpn ||
       (tombstone->mig.entered_rts && tombstone->attr.sq_psn != loaded.attr.sq_psn) ||
       tombstone->attr.rq_psn != loaded.attr.rq_psn)) {
    return refused;
  }
  if (loaded.attr.max_rd_atomic > config_.max_rd_atomic ||
      loaded.attr.max_dest_rd_atomic > config_.max_rd_atomic) {
    return refused;
  }
  if (loaded.connected()) {
    const transport::GidEntry* entry =
        sgid_index <= UINT16_MAX ? gid(static_cast<std::uint16_t>(sgid_index)) : nullptr;
    if (entry == nullptr || entry->ipv4 != loaded.own_ipv4) return bad(offsetof(In, sgid_index));
    const transport::Place old = loaded.own;
    loaded.attr.sgid_index = static_cast<std::uint16_t>(sgid_index);
    loaded.own = {entry->gid, entry->mac};
    if (old.gid != loaded.own.gid && loaded.mig.place_count < transport::kMaxPlaces) {
      auto* const end = loaded.mig.places.begin() + loaded.mig.place_count;
      const bool known = std::any_of(loaded.mig.places.begin(), end,
                                     [&](const transport::Place& p) { return p.gid == old.gid; });
      if (!known) loaded.mig.places[loaded.mig.place_count++] = old;
    }
    // Its own old address is where it finds itself, or its neighbour in the image, no longer.
    qp->loopback = loaded.attr.dgid == old.gid;
  }
  static_cast<transport::Qp&>(*qp) = loaded;
  trace(GODWIT_TRACE_MIGRATION, qp->qpn, GODWIT_CMD_LOAD, qp->mig.own_epoch);
  touch(*qp);
  return {};
}

Reply Device::load_cq(const godwit_cmd_state& in) {
  using In = godwit_cmd_state;
  const Reply refused = Reply::fail(GODWIT_CMD_STATUS_BAD_IMAGE);
  CompletionQueue* cq = find_cq(from_le(in.uctx), from_le(in.number));
  if (cq == nullptr) return not_found(offsetof(In, number));
  if (!cq->restore || cq->loaded) return bad_state();
  godwit_cq_state state;
  if (from_le(in.length) != sizeof(state)) return refused;
  if (!read(from_le(in.addr), &state, sizeof(state))) {
    return Reply::fail(GODWIT_CMD_STATUS_DMA_ERROR, offsetof(In, addr));
  }
  const std::uint32_t unseen =
      (from_le(state.producer) - from_le(state.consumer)) & GODWIT_DB_CQ_ARM_INDEX_MASK;
  if (from_le(state.header.magic) != GODWIT_STATE_MAGIC ||
      from_le(state.header.version) != GODWIT_STATE_VERSION ||
      from_le(state.header.type) != GODWIT_STATE_CQ ||
      from_le(state.header.length) != sizeof(state) ||
      from_le(state.header.crc32) != transport::state_crc(&state, sizeof(state)) ||
      from_le(state.log2_depth) != cq->log2_depth || unseen > 1u << cq->log2_depth ||
      state.armed > GODWIT_CQ_ARMED_SOLICITED || state.event_pending > 1 || state.overflowed > 1 ||
      state.reserved_f8 != 0 || !wire::all_zero(state.reserved_end, sizeof(state.reserved_end))) {
    return refused;
  }
  cq->producer = from_le(state.producer);
  cq->consumer = from_le(state.consumer) & GODWIT_DB_CQ_ARM_INDEX_MASK;
  cq->solicited = cq->producer;  // not known any more: rather an event too many
  cq->told_of_what_it_saw();
  cq->armed = state.armed;
  cq->event_pending = state.event_pending != 0;
  cq->failed = state.overflowed != 0;
  cq->loaded = true;
  if (cq->event_pending) list(*cq);
  return {};
}

Reply Device::cmd_attach(const std::uint8_t* params) {
  using In = godwit_cmd_attach;
  const In in = copy<In>(params);
  if (from_le(in.reserved_60) != 0) return bad(offsetof(In, reserved_60));
  switch (from_le(in.type)) {
    case GODWIT_STATE_QP:
      return attach_qp(in);
    case GODWIT_STATE_CQ:
      return attach_cq(in);
    case GODWIT_STATE_SRQ:
      return Reply::fail(GODWIT_CMD_STATUS_NOT_SUPPORTED, offsetof(In, type));
    default:
      return bad(offsetof(In, type));
  }
}

Reply Device::attach_qp(const godwit_cmd_attach& in) {
  using In = godwit_cmd_attach;
  QueuePair* qp = find_qp(from_le(in.number));
  if (qp == nullptr) return not_found(offsetof(In, number));
  if (!qp->restore || qp->attached()) return bad_state();
  if (from_le(in.buffer.length) < qp->buffer_end()) return bad(offsetof(In, buffer.length));
  return walk_buffer(qp->buffer, in.buffer, offsetof(In, buffer));
}

Reply Device::attach_cq(const godwit_cmd_attach& in) {
  using In = godwit_cmd_attach;
  CompletionQueue* cq = find_cq(from_le(in.uctx), from_le(in.number));
  if (cq == nullptr) return not_found(offsetof(In, number));
  if (!cq->restore || cq->attached()) return bad_state();
  const std::uint64_t end = std::uint64_t{cq->record_offset} + sizeof(godwit_cq_record);
  if (from_le(in.buffer.length) < end) return bad(offsetof(In, buffer.length));
  const Reply walked = walk_buffer(cq->buffer, in.buffer, offsetof(In, buffer));
  if (walked.ok() && cq->event_pending) list(*cq);
  return walked;
}

Reply Device::check_resume(QueuePair& qp) {
  if (qp.mig.unloaded || !qp.mig.loaded || !qp.attached()) return bad_state();
  if (!qp.send_cq->attached() || !qp.recv_cq->attached()) return bad_state();
  std::uint16_t producer = 0;
  if (!read_sq_producer(qp, &producer)) return Reply::fail(GODWIT_CMD_STATUS_DMA_ERROR);
  if (static_cast<std::uint16_t>(producer - qp.req.consumer) > qp.sq_depth()) {
    return Reply::fail(GODWIT_CMD_STATUS_BAD_IMAGE);
  }
  return {};
}

Reply Device::resume_one(QueuePair& qp, std::uint32_t attempt, bool local) {
  using In = godwit_cmd_resume;
  std::uint16_t producer = 0;
  const bool known = read_sq_producer(qp, &producer);
  const transport::QpAttributes before = qp.attr;
  if (local && qp.loopback && qp.connected()) {
    qp.attr.dgid = qp.own.gid;
    qp.attr.dmac = qp.own.mac;
  }
  switch (transport::resume(qp, ports_, now_ns_, attempt, local)) {
    case transport::ResumeResult::kOk:
      break;
    case transport::ResumeResult::kBadState:
      qp.attr = before;
      return bad_state();
    case transport::ResumeResult::kBadAttempt:
    case transport::ResumeResult::kEpochExhausted:
      qp.attr = before;
      return Reply::fail(GODWIT_CMD_STATUS_BAD_EPOCH, offsetof(In, attempt));
  }
  qp.restore = false;
  QpnEntry* entry = qpns_.find(qp.qpn);
  if (entry->tombstone != nullptr) destroy_tombstone(entry->tombstone);
  reservations_.erase(qp.qpn);
  if (known) post_sq(qp, producer);
  trace(GODWIT_TRACE_MIGRATION, qp.qpn, GODWIT_CMD_RESUME, qp.mig.own_epoch);
  touch(qp);
  schedule(qp);
  return {};
}

Reply Device::cmd_resume(const std::uint8_t* params) {
  using In = godwit_cmd_resume;
  const In in = copy<In>(params);
  const std::uint32_t flags = from_le(in.flags);
  const std::uint32_t attempt = from_le(in.attempt);
  if ((flags & ~std::uint32_t{GODWIT_RESUME_LOCAL_MASK}) != 0) return bad(offsetof(In, flags));
  if (attempt == 0) return Reply::fail(GODWIT_CMD_STATUS_BAD_EPOCH, offsetof(In, attempt));
  std::vector<QueuePair*> qps;
  const Reply found = scope_qps(from_le(in.scope), from_le(in.number), &qps);
  if (!found.ok()) return found;
  if (from_le(in.scope) == GODWIT_SCOPE_QP) {
    if (!qps[0]->restore) return bad_state();
  } else {
    std::erase_if(qps, [](const QueuePair* qp) { return !qp->restore; });
  }
  for (QueuePair* qp : qps) {
    const Reply checked = check_resume(*qp);
    if (!checked.ok()) return checked;
    if (qp->connected() && qp->mig.own_epoch > UINT32_MAX - attempt) {
      return Reply::fail(GODWIT_CMD_STATUS_BAD_EPOCH, offsetof(In, attempt));
    }
  }
  for (QueuePair* qp : qps) {
    const Reply resumed = resume_one(*qp, attempt, (flags & GODWIT_RESUME_LOCAL_MASK) != 0);
    if (!resumed.ok()) return resumed;
  }
  return {};
}

Reply Device::cmd_tombstone(const std::uint8_t* params) {
  using In = godwit_cmd_tombstone;
  const In in = copy<In>(params);
  if (from_le(in.reserved_20) != 0) return bad(offsetof(In, reserved_20));
  QueuePair* qp = find_qp(from_le(in.qpn));
  if (qp == nullptr) return not_found(offsetof(In, qpn));
  if (!qp->mig.stopped || qp->restore) return bad_state();
  if (tombstones_ >= config_.max_tombstones) return Reply::fail(GODWIT_CMD_STATUS_NO_RESOURCES);
  unlink(*qp);
  leave_resources(*qp);
  transport::make_tombstone(*qp);
  qp->move = from_le(in.move);
  QpnEntry* entry = qpns_.find(qp->qpn);
  entry->tombstone = qp;
  entry->qp = nullptr;
  ++tombstones_;
  trace(GODWIT_TRACE_MIGRATION, qp->qpn, GODWIT_CMD_TOMBSTONE, qp->mig.own_epoch);
  touch(*qp);
  return {};
}

// A move that left nothing here is committed, or dropped, all the same: the orchestrator asks every
// NIC.
Reply Device::cmd_commit(const std::uint8_t* params) {
  const std::uint64_t move = from_le(copy<godwit_cmd_move>(params).move);
  for (const auto& qp : qps_) {
    if (!qp->mig.tombstone || qp->move != move) continue;
    if (qp->ttl_deadline_ns != GODWIT_NO_DEADLINE) continue;
    qp->ttl_deadline_ns = now_ns_ + config_.tombstone_ttl_ms * kMillisecond;
    touch(*qp);
  }
  return {};
}

Reply Device::cmd_drop(const std::uint8_t* params) {
  const std::uint64_t move = from_le(copy<godwit_cmd_move>(params).move);
  std::vector<QueuePair*> gone;
  for (const auto& qp : qps_) {
    if (qp->mig.tombstone && qp->move == move) gone.push_back(qp.get());
  }
  for (QueuePair* qp : gone) destroy_tombstone(qp);
  std::vector<std::uint64_t> freed;
  reservations_.for_each([&](std::uint64_t qpn, const Reservation& reservation) {
    if (reservation.move == move) freed.push_back(qpn);
  });
  for (const std::uint64_t qpn : freed) reservations_.erase(qpn);
  return {};
}

Reply Device::cmd_reserve_qpns(const std::uint8_t* params) {
  using In = godwit_cmd_reserve;
  const In in = copy<In>(params);
  const std::uint32_t entries = from_le(in.count);
  const std::uint64_t move = from_le(in.move);
  if (entries > kMaxReservationsPerCommand) return bad(offsetof(In, count));
  if (move == 0) return bad(offsetof(In, move));
  if (from_le(in.addr) % 64 != 0) return bad(offsetof(In, addr));
  if (reservations_.size() + entries > kMaxReservations) {
    return Reply::fail(GODWIT_CMD_STATUS_NO_RESOURCES);
  }
  std::array<godwit_le32, kMaxReservationsPerCommand> list;
  if (entries > 0 && !read(from_le(in.addr), list.data(), entries * sizeof(list[0]))) {
    return Reply::fail(GODWIT_CMD_STATUS_DMA_ERROR, offsetof(In, addr));
  }
  for (std::uint32_t i = 0; i < entries; ++i) {
    const std::uint32_t qpn = from_le(list[i]);
    const std::size_t detail = i * sizeof(list[0]);
    if (qpn < 2 || qpn >= kNumberMask) return bad(detail);
    // A tombstone may be there: it is what the restored QP replaces.
    const Reservation* reservation = reservations_.find(qpn);
    if (find_qp(qpn) != nullptr || (reservation != nullptr && reservation->move != move)) {
      return Reply::fail(GODWIT_CMD_STATUS_EXISTS, detail);
    }
  }
  const std::uint64_t deadline = now_ns_ + from_le(in.ttl_ms) * kMillisecond;
  for (std::uint32_t i = 0; i < entries; ++i) {
    const std::uint32_t qpn = from_le(list[i]);
    Reservation* reservation = reservations_.find(qpn);
    if (reservation == nullptr) reservation = &reservations_.insert(qpn, Reservation());
    *reservation = {move, deadline};
  }
  if (entries > 0) reservation_deadline_ns_ = std::min(reservation_deadline_ns_, deadline);
  return {};
}

Reply Device::cmd_query_tombstones(const std::uint8_t* params) {
  using In = godwit_cmd_mailbox;
  const In in = copy<In>(params);
  if (from_le(in.addr) % 64 != 0) return bad(offsetof(In, addr));
  if (from_le(in.reserved_60) != 0) return bad(offsetof(In, reserved_60));
  const std::size_t room = from_le(in.length) / sizeof(godwit_tombstone_info);
  std::vector<godwit_tombstone_info> list;
  for (const auto& qp : qps_) {
    if (!qp->mig.tombstone) continue;
    godwit_tombstone_info info = {};
    info.move = le64(qp->move);
    info.qpn = le32(qp->qpn);
    info.dest_qpn = le32(qp->attr.dest_qpn);
    info.ttl_ms = le32(UINT32_MAX);
    if (qp->ttl_deadline_ns != GODWIT_NO_DEADLINE) {
      const std::uint64_t left = qp->ttl_deadline_ns > now_ns_ ? qp->ttl_deadline_ns - now_ns_ : 0;
      info.ttl_ms = le32(
          static_cast<std::uint32_t>(std::min<std::uint64_t>(left / kMillisecond, UINT32_MAX - 1)));
    }
    info.answered = le32(qp->mig.answered);
    list.push_back(info);
  }
  const std::size_t given = std::min(room, list.size());
  if (given > 0 && !write(from_le(in.addr), list.data(), given * sizeof(list[0]))) {
    return Reply::fail(GODWIT_CMD_STATUS_DMA_ERROR, offsetof(In, addr));
  }
  // All there are: more than fitted means that the caller should ask with more room.
  return counted(static_cast<std::uint32_t>(list.size()));
}

void Device::expire_tombstone(QueuePair& tombstone) {
  count(GODWIT_COUNTER_TOMBSTONES_EXPIRED);
  destroy_tombstone(&tombstone);
}

void Device::expire_reservations() {
  std::vector<std::uint64_t> freed;
  std::uint64_t next = GODWIT_NO_DEADLINE;
  reservations_.for_each([&](std::uint64_t qpn, const Reservation& reservation) {
    if (reservation.deadline_ns <= now_ns_) {
      freed.push_back(qpn);
    } else {
      next = std::min(next, reservation.deadline_ns);
    }
  });
  for (const std::uint64_t qpn : freed) reservations_.erase(qpn);
  reservation_deadline_ns_ = next;
}

}  // namespace godwit::device
