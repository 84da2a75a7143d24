// SPDX-License-Identifier: GPL-2.0-or-later
#include "transport/snapshot.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

#include "godwit_queue.h"
#include "transport/internal.h"
#include "wire/endian.h"
#include "wire/icrc.h"

namespace godwit::transport {
namespace {

using wire::from_le;
using wire::le16;
using wire::le32;
using wire::le64;
using wire::psn_distance;

std::uint64_t left_of(std::uint64_t deadline, std::uint64_t now) {
  if (deadline == kOff) return GODWIT_STATE_TIMER_OFF;
  return deadline > now ? deadline - now : 0;
}

// More than an hour left is nobody's timer.
constexpr std::uint64_t kLongestTimer = 9'000'000'000'000;

bool deadline_of(godwit_le64 left, std::uint64_t now, std::uint64_t* deadline) {
  if (from_le(left) == GODWIT_STATE_TIMER_OFF) {
    *deadline = kOff;
    return true;
  }
  if (from_le(left) > kLongestTimer) return false;
  *deadline = now + from_le(left);
  return true;
}

void put_place(const Place& place, godwit_place* to) {
  std::copy(place.gid.begin(), place.gid.end(), to->gid);
  std::copy(place.mac.begin(), place.mac.end(), to->mac);
}

Place get_place(const godwit_place& from) {
  Place place;
  std::copy_n(from.gid, 16, place.gid.begin());
  std::copy_n(from.mac, 6, place.mac.begin());
  return place;
}

bool reserved_zero(const godwit_qp_state& s) {
  unsigned any = from_le(s.reserved_req) | s.attr.reserved_58 | from_le(s.attr.reserved_70);
  for (const std::uint8_t byte : s.attr.av.reserved_108) any |= byte;
  for (const std::uint8_t byte : s.reserved_end) any |= byte;
  for (const std::uint8_t byte : s.own.reserved_b0) any |= byte;
  for (const godwit_place& place : s.places) any |= place.reserved_b0[0] | place.reserved_b0[1];
  for (const godwit_read_atomic_slot& slot : s.read_atomic) any |= slot.reserved_58;
  return any == 0;
}

bool is_psn(godwit_le32 value) { return from_le(value) <= wire::kPsnMask; }

void save_requester(const Qp& qp, std::uint64_t now, godwit_qp_state* s) {
  const Requester& req = qp.req;
  s->sq_consumer = le32(req.consumer);
  s->sq_producer = le32(req.producer);
  s->sq_first_psn = le32(req.first_psn);
  s->una_psn = le32(req.una);
  s->next_psn = le32(req.next);
  s->high_psn = le32(req.high);
  s->ssn = le32(req.ssn);
  s->credits = le32(0xffffffff);
  s->retries_left = req.retries_left;
  s->rnr_retries_left = req.rnr_retries_left;
  s->requester_flags = static_cast<std::uint8_t>(
      (req.rnr_deadline != kOff ? GODWIT_QP_STATE_REQUESTER_RNR_WAIT : 0) |
      (req.drained ? GODWIT_QP_STATE_REQUESTER_DRAINED : 0));
  s->error_cause = static_cast<std::uint8_t>(req.error);
  s->ack_timer_ns = le64(left_of(req.ack_deadline, now));
  s->rnr_timer_ns = le64(left_of(req.rnr_deadline, now));
  s->pause_timer_ns = le64(left_of(qp.mig.pause_deadline, now));
  s->resume_timer_ns = le64(left_of(qp.mig.resume_deadline, now));
}

void save_responder(const Qp& qp, godwit_qp_state* s) {
  const Responder& resp = qp.resp;
  // A NAK that has not left is not kept: the request comes again, and is judged again.
  const bool unsent_nak = resp.answer == Answer::kNak || resp.answer == Answer::kRnr;
  s->expected_psn = le32(resp.expected);
  s->msn = le32(resp.msn);
  s->rq_consumer = le32(resp.rq_consumer);
  s->message_opcode = resp.message_opcode;
  s->responder_flags = static_cast<std::uint8_t>(
      (resp.nak_sent && !unsent_nak ? GODWIT_QP_STATE_RESPONDER_NAK_SENT : 0) |
      (resp.recv_taken ? GODWIT_QP_STATE_RESPONDER_RECV_TAKEN : 0) |
      (resp.answer == Answer::kAck ? GODWIT_QP_STATE_RESPONDER_ACK_PENDING : 0) |
      (resp.comm_established ? GODWIT_QP_STATE_RESPONDER_COMM_EST : 0));
  s->read_atomic_head = 0;
  s->read_atomic_count = static_cast<std::uint8_t>(resp.slot_count);
  for (std::uint32_t i = 0; i < resp.slot_count; ++i) {
    const Slot& slot = resp.slots[(resp.slot_head + i) % kMaxSlots];
    godwit_read_atomic_slot& to = s->read_atomic[i];
    to.first_psn = le32(slot.first_psn);
    to.packets = le32(slot.packets);
    to.opcode = slot.opcode;
    to.in_progress = slot.in_progress ? 1 : 0;
    to.answered = slot.answered ? 1 : 0;
    to.rkey = le32(slot.rkey);
    to.va = le64(slot.va);
    to.length = le64(slot.length);
    to.original = le64(slot.original);
    to.msn = le32(slot.msn);
    to.next_psn = le32(slot.next_psn);
  }
  s->message_va = le64(resp.message_va);
  s->message_left = le64(resp.message_left);
  s->message_placed = le64(resp.message_placed);
  s->message_rkey = le32(resp.message_rkey);
  s->ack_psn = le32(resp.answer_psn);
  s->ack_delay_ns = le64(GODWIT_STATE_TIMER_OFF);
}

void save_migration(const Qp& qp, godwit_qp_state* s) {
  s->own_epoch = le32(qp.mig.own_epoch);
  s->peer_epoch = le32(qp.mig.peer_epoch);
  s->initial_sq_psn = le32(qp.attr.sq_psn);
  s->initial_rq_psn = le32(qp.attr.rq_psn);
  s->peer_extended = qp.mig.peer_extended ? 1 : 0;
  s->entered =
      static_cast<std::uint8_t>((qp.mig.entered_rtr ? 1 : 0) | (qp.mig.entered_rts ? 2 : 0));
  s->place_count = static_cast<std::uint8_t>(qp.mig.place_count);
  s->last_attempt = 0;
  s->resume_epoch = le32(qp.mig.resume_epoch);
  for (std::uint32_t i = 0; i < qp.mig.place_count; ++i) put_place(qp.mig.places[i], &s->places[i]);
}

// Null, or what is wrong. The attributes come first: the others go by them.
const char* load_attributes(Qp& qp, const godwit_qp_state& s) {
  // SQ Error is for UC and UD.
  if (s.attr.status > GODWIT_QP_STATUS_ERROR || s.attr.status == GODWIT_QP_STATUS_SQE) {
    return "unknown QP state";
  }
  qp.attr = get_attributes(s.attr);
  const QpAttributes& a = qp.attr;
  if (!reserved_zero(s)) return "reserved fields are not zero";
  if (a.timeout > 31 || a.retry_cnt > 7 || a.rnr_retry > 7 || a.min_rnr_timer > 31 ||
      a.max_rd_atomic > kMaxSlots || a.max_dest_rd_atomic > kMaxSlots || a.path_mtu > 5 ||
      (qp.connected() && a.path_mtu == 0) || a.pkey_index != 0 || a.dest_qpn > 0xffffff ||
      a.sq_psn > 0xffffff || a.rq_psn > 0xffffff || a.flow_label > 0xfffff) {
    return "QP attributes out of range";
  }
  qp.own = get_place(s.own);
  qp.own_ipv4 = is_ipv4(qp.own.gid);
  if (qp.connected() && is_ipv4(a.dgid) != qp.own_ipv4) return "GIDs of two kinds";
  return nullptr;
}

const char* load_requester(Qp& qp, std::uint64_t now, const godwit_qp_state& s) {
  Requester& req = qp.req;
  if (from_le(s.sq_consumer) > 0xffff || from_le(s.sq_producer) > 0xffff) {
    return "queue indices out of range";
  }
  req.consumer = static_cast<std::uint16_t>(from_le(s.sq_consumer));
  req.producer = static_cast<std::uint16_t>(from_le(s.sq_producer));
  const auto posted = static_cast<std::uint16_t>(req.producer - req.consumer);
  if (posted > 1U << qp.log2_sq_depth) return "more send WQEs than the queue holds";
  if (!is_psn(s.sq_first_psn) || !is_psn(s.una_psn) || !is_psn(s.next_psn) || !is_psn(s.high_psn)) {
    return "PSN out of range";
  }
  req.first_psn = from_le(s.sq_first_psn);
  req.una = from_le(s.una_psn);
  req.next = from_le(s.next_psn);
  req.high = from_le(s.high_psn);
  // In Error, and before RTS, nothing is under way: what was has been flushed.
  if (qp.attr.status != Status::kRts && qp.attr.status != Status::kSqd) {
    req.una = req.next = req.high = req.first_psn;
  }
  const std::uint32_t sent = psn_distance(req.high, req.first_psn);
  if (sent >= wire::kPsnWindow || psn_distance(req.una, req.first_psn) > sent ||
      psn_distance(req.next, req.una) > psn_distance(req.high, req.una)) {
    return "PSNs in a wrong order";
  }
  // In Error they are of WQEs that have been flushed, and nothing goes out any more.
  if (sent != 0 && posted == 0 && qp.attr.status != Status::kError) {
    return "packets in flight of no WQE";
  }
  req.ssn = from_le(s.ssn);
  req.retries_left = std::min<std::uint8_t>(s.retries_left, 7);
  req.rnr_retries_left = std::min<std::uint8_t>(s.rnr_retries_left, 7);
  req.drained = (s.requester_flags & GODWIT_QP_STATE_REQUESTER_DRAINED) != 0;
  if (s.error_cause > static_cast<std::uint8_t>(Fault::kCqOverflow)) return "unknown fault";
  req.error = static_cast<Fault>(s.error_cause);
  if (!deadline_of(s.ack_timer_ns, now, &req.ack_deadline) ||
      !deadline_of(s.rnr_timer_ns, now, &req.rnr_deadline) ||
      !deadline_of(s.pause_timer_ns, now, &qp.mig.pause_deadline) ||
      !deadline_of(s.resume_timer_ns, now, &qp.mig.resume_deadline)) {
    return "timer out of range";
  }
  if (!qp.connected()) {
    req.ack_deadline = req.rnr_deadline = kOff;
    qp.mig.pause_deadline = qp.mig.resume_deadline = kOff;
  }
  req.next = req.una;  // what is in flight goes again
  return nullptr;
}

const char* load_responder(Qp& qp, const godwit_qp_state& s) {
  Responder& resp = qp.resp;
  if (from_le(s.rq_consumer) > 0xffff) return "queue indices out of range";
  if (!is_psn(s.expected_psn) || !is_psn(s.msn) || !is_psn(s.ack_psn)) return "PSN out of range";
  resp.expected = from_le(s.expected_psn);
  resp.msn = from_le(s.msn);
  resp.rq_consumer = static_cast<std::uint16_t>(from_le(s.rq_consumer));
  resp.message_opcode = s.message_opcode;
  if (resp.message_opcode != 0xff) {
    const wire::OpcodeInfo& info = wire::kOpcodes[resp.message_opcode];
    const bool open =
        (info.message == wire::Message::kSend || info.message == wire::Message::kWrite) &&
        info.role == wire::Role::kRequest && !info.last;
    if (!open) return "message opcode out of range";
  }
  resp.nak_sent = (s.responder_flags & GODWIT_QP_STATE_RESPONDER_NAK_SENT) != 0;
  resp.recv_taken = (s.responder_flags & GODWIT_QP_STATE_RESPONDER_RECV_TAKEN) != 0;
  resp.comm_established = (s.responder_flags & GODWIT_QP_STATE_RESPONDER_COMM_EST) != 0;
  if ((s.responder_flags & GODWIT_QP_STATE_RESPONDER_ACK_PENDING) != 0) resp.answer = Answer::kAck;
  resp.message_va = from_le(s.message_va);
  resp.message_left = from_le(s.message_left);
  resp.message_placed = from_le(s.message_placed);
  resp.message_rkey = from_le(s.message_rkey);
  // A peer's WRITE may be longer than what we would send.
  if (resp.message_left > UINT32_MAX || resp.message_placed > UINT32_MAX) {
    return "message length out of range";
  }
  if (s.read_atomic_head != 0 || s.read_atomic_count > kMaxSlots ||
      s.read_atomic_count > qp.attr.max_dest_rd_atomic) {
    return "more READs and atomics than the QP allows";
  }
  resp.slot_count = s.read_atomic_count;
  for (std::uint32_t i = 0; i < resp.slot_count; ++i) {
    const godwit_read_atomic_slot& from = s.read_atomic[i];
    Slot& slot = resp.slots[i];
    slot.first_psn = from_le(from.first_psn);
    slot.packets = from_le(from.packets);
    slot.opcode = from.opcode;
    slot.in_progress = from.in_progress != 0;
    slot.answered = from.answered != 0;
    slot.rkey = from_le(from.rkey);
    slot.va = from_le(from.va);
    slot.length = from_le(from.length);
    slot.original = from_le(from.original);
    slot.msn = from_le(from.msn);
    slot.next_psn = from_le(from.next_psn);
    const bool read = slot.opcode == wire::kReadRequest;
    const bool atomic = slot.opcode == wire::kCompareSwap || slot.opcode == wire::kFetchAdd;
    const auto length = static_cast<std::uint32_t>(slot.length);
    if ((!read && !atomic) || slot.length > GODWIT_MAX_MESSAGE ||
        slot.packets != (atomic ? 1 : qp.packets(length)) || slot.first_psn > wire::kPsnMask ||
        slot.next_psn > wire::kPsnMask || slot.msn > wire::kPsnMask ||
        (slot.in_progress && psn_distance(slot.next_psn, slot.first_psn) >= slot.packets)) {
      return "READ or atomic out of range";
    }
  }
  return nullptr;
}

const char* load_migration(Qp& qp, std::uint64_t now, const godwit_qp_state& s) {
  Migration& mig = qp.mig;
  mig.own_epoch = from_le(s.own_epoch);
  mig.peer_epoch = from_le(s.peer_epoch);
  if (from_le(s.initial_sq_psn) != qp.attr.sq_psn || from_le(s.initial_rq_psn) != qp.attr.rq_psn) {
    return "initial PSNs differ";
  }
  mig.peer_extended = s.peer_extended != 0;
  mig.entered_rtr = (s.entered & 1) != 0;
  mig.entered_rts = (s.entered & 2) != 0;
  if ((qp.connected() && !mig.entered_rtr) ||
      (qp.connected() && qp.attr.status != Status::kRtr && !mig.entered_rts)) {
    return "QP state that was never entered";
  }
  if (s.place_count > kMaxPlaces) return "too many places";
  mig.place_count = s.place_count;
  for (std::uint32_t i = 0; i < mig.place_count; ++i) mig.places[i] = get_place(s.places[i]);
  mig.resume_epoch = from_le(s.resume_epoch);
  mig.paused = qp.connected() && (s.ext & GODWIT_QP_EXT_PAUSED_MASK) != 0;
  mig.resuming = qp.connected() && (s.ext & GODWIT_QP_EXT_RESUMING_MASK) != 0;
  mig.resume_interval = 100 * kMillisecond;
  mig.stopped = true;
  mig.stopped_at = now;
  mig.loaded = true;
  return nullptr;
}

}  // namespace

std::uint32_t state_crc(const void* state, std::size_t length) {
  const auto* bytes = static_cast<const std::uint8_t*>(state);
  constexpr std::size_t kAt = offsetof(godwit_state_header, crc32);
  static constexpr std::array<std::uint8_t, 4> kZero{};
  std::uint32_t crc = wire::crc32(~0U, {bytes, kAt});
  crc = wire::crc32(crc, kZero);
  return ~wire::crc32(crc, {bytes + kAt + 4, length - kAt - 4});
}

QpAttributes get_attributes(const godwit_qp_attr& from) {
  QpAttributes a;
  a.status = static_cast<Status>(from.status);
  a.cur_status = static_cast<Status>(from.cur_status);
  a.path_mtu = from.path_mtu;
  a.access = from.access;
  a.timeout = from.timeout;
  a.retry_cnt = from.retry_cnt;
  a.rnr_retry = from.rnr_retry;
  a.min_rnr_timer = from.min_rnr_timer;
  a.max_rd_atomic = from.max_rd_atomic;
  a.max_dest_rd_atomic = from.max_dest_rd_atomic;
  a.sqd_async_notify = from.sqd_async_notify != 0;
  a.pkey_index = from_le(from.pkey_index);
  a.qkey = from_le(from.qkey);
  a.dest_qpn = from_le(from.dest_qpn);
  a.sq_psn = from_le(from.sq_psn);
  a.rq_psn = from_le(from.rq_psn);
  std::copy_n(from.av.dgid, 16, a.dgid.begin());
  std::copy_n(from.av.dmac, 6, a.dmac.begin());
  a.sgid_index = from_le(from.av.sgid_index);
  a.flow_label = from_le(from.av.flow_label);
  a.udp_source_port = from_le(from.av.udp_source_port);
  a.traffic_class = from.av.traffic_class;
  a.hop_limit = from.av.hop_limit;
  a.service_level = from.av.service_level;
  return a;
}

void put_attributes(const QpAttributes& attr, godwit_qp_attr* to) {
  to->status = static_cast<std::uint8_t>(attr.status);
  to->cur_status = to->status;
  to->path_mtu = attr.path_mtu;
  to->access = attr.access;
  to->timeout = attr.timeout;
  to->retry_cnt = attr.retry_cnt;
  to->rnr_retry = attr.rnr_retry;
  to->min_rnr_timer = attr.min_rnr_timer;
  to->max_rd_atomic = attr.max_rd_atomic;
  to->max_dest_rd_atomic = attr.max_dest_rd_atomic;
  to->sqd_async_notify = attr.sqd_async_notify ? 1 : 0;
  to->pkey_index = le16(attr.pkey_index);
  to->qkey = le32(attr.qkey);
  to->dest_qpn = le32(attr.dest_qpn);
  to->sq_psn = le32(attr.sq_psn);
  to->rq_psn = le32(attr.rq_psn);
  std::copy(attr.dgid.begin(), attr.dgid.end(), to->av.dgid);
  std::copy(attr.dmac.begin(), attr.dmac.end(), to->av.dmac);
  to->av.sgid_index = le16(attr.sgid_index);
  to->av.flow_label = le32(attr.flow_label);
  to->av.udp_source_port = le16(attr.udp_source_port);
  to->av.traffic_class = attr.traffic_class;
  to->av.hop_limit = attr.hop_limit;
  to->av.service_level = attr.service_level;
}

void save_qp(const Qp& qp, std::uint64_t now_ns, godwit_qp_state* s) {
  const std::uint64_t now = qp.mig.stopped ? qp.mig.stopped_at : now_ns;
  std::memset(static_cast<void*>(s), 0, sizeof(*s));
  s->header = {le32(GODWIT_STATE_MAGIC), le16(GODWIT_STATE_VERSION), le16(GODWIT_STATE_QP),
               le32(sizeof(*s)), le32(0)};
  s->type = qp.type;
  s->log2_sq_depth = qp.log2_sq_depth;
  s->log2_rq_depth = qp.log2_rq_depth;
  s->ext = static_cast<std::uint8_t>((qp.mig.paused ? GODWIT_QP_EXT_PAUSED_MASK : 0U) |
                                     (qp.mig.resuming ? GODWIT_QP_EXT_RESUMING_MASK : 0U));
  s->qpn = le32(qp.qpn);
  put_attributes(qp.attr, &s->attr);
  put_place(qp.own, &s->own);
  save_requester(qp, now, s);
  save_responder(qp, s);
  save_migration(qp, s);
  s->tx_packets = le64(qp.stats.tx_packets);
  s->rx_packets = le64(qp.stats.rx_packets);
  s->tx_bytes = le64(qp.stats.tx_bytes);
  s->rx_bytes = le64(qp.stats.rx_bytes);
  s->retransmissions = le64(qp.stats.retransmissions);
  s->header.crc32 = le32(state_crc(s, sizeof(*s)));
}

const char* load_qp(Qp& target, std::uint64_t now, const godwit_qp_state& s) {
  if (from_le(s.header.magic) != GODWIT_STATE_MAGIC || from_le(s.header.type) != GODWIT_STATE_QP) {
    return "not the saved state of a QP";
  }
  if (from_le(s.header.version) != GODWIT_STATE_VERSION) return "saved by another version";
  if (from_le(s.header.length) != sizeof(s)) return "wrong length";
  if (from_le(s.header.crc32) != state_crc(&s, sizeof(s))) return "wrong check sum";
  if (s.type != target.type || s.log2_sq_depth != target.log2_sq_depth ||
      s.log2_rq_depth != target.log2_rq_depth || from_le(s.qpn) != target.qpn) {
    return "of another kind of QP than the one that it is loaded into";
  }

  Qp qp;
  qp.qpn = target.qpn;
  qp.type = target.type;
  qp.log2_sq_depth = target.log2_sq_depth;
  qp.log2_rq_depth = target.log2_rq_depth;
  const char* wrong = load_attributes(qp, s);
  if (wrong == nullptr) wrong = load_requester(qp, now, s);
  if (wrong == nullptr) wrong = load_responder(qp, s);
  if (wrong == nullptr) wrong = load_migration(qp, now, s);
  if (wrong != nullptr) return wrong;
  qp.stats = {from_le(s.tx_packets), from_le(s.rx_packets), from_le(s.tx_bytes),
              from_le(s.rx_bytes), from_le(s.retransmissions)};
  target = qp;
  return nullptr;
}

}  // namespace godwit::transport
