// SPDX-License-Identifier: GPL-2.0-or-later
//
// The requester: work requests to packets, responses to completions (IBTA 9.7, 9.9.2).
//
// Its position is a PSN and a WQE index; a WQE is read from the ring whenever it
// is sent again. What was sent is remembered in `inflight`, so that a guest that
// changes a WQE later hurts itself alone.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "transport/internal.h"

namespace godwit::transport {
namespace {

using wire::psn_add;
using wire::psn_before;
using wire::psn_distance;
using wire::psn_in;

constexpr std::uint64_t kProbeInterval = 100 * kMillisecond;
// An emulated peer may be off its CPU for a while: shorter timeouts are taken as this.
constexpr std::uint64_t kShortestTimeout = 4 * kMillisecond;
// How often a long message asks for an acknowledgement.
constexpr std::uint32_t kAckEvery = kWindow / 4;

bool is_read_or_atomic(WrOpcode opcode) {
  return opcode == WrOpcode::kRead || opcode == WrOpcode::kCompareSwap ||
         opcode == WrOpcode::kFetchAdd;
}

Inflight& at(Requester& req, std::uint32_t offset) {
  return req.inflight[(req.inflight_head + offset) % kMaxInflight];
}

wire::Psn end_psn(Requester& req) {
  if (req.inflight_count == 0) return req.first_psn;
  const Inflight& last = at(req, req.inflight_count - 1);
  return psn_add(last.first_psn, last.packets);
}

// Reads WQE consumer + offset into the cache. kOk, or the local fault of the WQE.
Fault fetch(const Context& c, std::uint32_t offset, CachedSend* cache) {
  const auto index = static_cast<std::uint16_t>(c.qp.req.consumer + offset);
  if (cache->valid && cache->index == index) return Fault::kNone;
  cache->valid = false;
  if (c.ports.queues.fetch_send(c.qp, index, &cache->request) != Fetch::kOk) {
    return Fault::kLocalQpOperation;
  }
  const SendRequest& r = cache->request;
  if (is_read_or_atomic(r.opcode) && c.qp.attr.max_rd_atomic == 0) return Fault::kLocalQpOperation;
  if (offset < c.qp.req.inflight_count) {
    const Inflight& sent = at(c.qp.req, offset);
    if (sent.opcode != r.opcode || sent.length != r.length) return Fault::kLocalQpOperation;
  }
  cache->valid = true;
  cache->index = index;
  return Fault::kNone;
}

bool posted(const Requester& req, std::uint32_t offset) {
  return static_cast<std::uint16_t>(req.producer - req.consumer) > offset;
}

// Makes sure that WQE consumer + offset is known, one at a time.
Fault learn(const Context& c, std::uint32_t offset, CachedSend* cache) {
  Requester& req = c.qp.req;
  const Fault fault = fetch(c, offset, cache);
  if (fault != Fault::kNone || offset < req.inflight_count) return fault;
  const SendRequest& r = cache->request;
  Inflight entry;
  entry.first_psn = end_psn(req);
  entry.packets = c.qp.packets(r.length);
  entry.length = r.length;
  entry.opcode = r.opcode;
  entry.signaled = r.signaled;
  // The oldest unacknowledged packet is of the oldest WQE. After a restore it is the guest's queue
  // that says how long that is, and it may say anything.
  if (offset == 0 && psn_distance(req.una, entry.first_psn) >= entry.packets) {
    return Fault::kLocalQpOperation;
  }
  at(req, req.inflight_count++) = entry;
  return Fault::kNone;
}

std::uint32_t reads_outstanding(Requester& req, std::uint32_t before) {
  std::uint32_t n = 0;
  for (std::uint32_t i = 0; i < before; ++i) n += is_read_or_atomic(at(req, i).opcode) ? 1 : 0;
  return n;
}

void count_fault(const Context& c, Fault fault) {
  if (fault == Fault::kRetryExceeded) c.count(GODWIT_COUNTER_REQ_TRANSPORT_RETRIES_EXCEEDED);
  if (fault == Fault::kRnrRetryExceeded) c.count(GODWIT_COUNTER_REQ_RNR_RETRIES_EXCEEDED);
  if (fault == Fault::kRemoteInvalidRequest) c.count(GODWIT_COUNTER_REQ_REMOTE_INVALID_REQUEST);
  if (fault == Fault::kRemoteAccess) c.count(GODWIT_COUNTER_REQ_REMOTE_ACCESS_ERRORS);
  if (fault == Fault::kRemoteOperational) c.count(GODWIT_COUNTER_REQ_REMOTE_OPERATIONAL);
}

// The oldest WQE is done: completes and forgets it. False: the CQ broke.
bool retire(const Context& c) {
  Requester& req = c.qp.req;
  const Inflight done = at(req, 0);
  const std::uint16_t index = req.consumer;
  req.inflight_head = (req.inflight_head + 1) % kMaxInflight;
  --req.inflight_count;
  ++req.consumer;
  req.first_psn = psn_add(done.first_psn, done.packets);
  if (req.current > 0) --req.current;
  req.receiving.valid = false;
  if (!done.signaled) return true;
  SendCompletion completion;
  completion.wqe_index = index;
  completion.opcode = done.opcode;
  completion.byte_len = done.length;
  return c.ports.queues.complete_send(c.qp, completion);
}

// The oldest packet has arrived: so much for what was waited for on its account.
void made_progress(Requester& req) {
  req.recovering = false;
  req.rnr_deadline = kOff;
}

// Everything before `psn` is acknowledged, but for READs and atomics, whose
// response is their acknowledgement. False: one of those was skipped.
bool acknowledge_before(const Context& c, wire::Psn psn) {
  Requester& req = c.qp.req;
  while (psn_before(req.una, psn)) {
    CachedSend scratch;
    if (req.inflight_count == 0) {
      // After a restore: what was sent before it is learnt again.
      scratch.valid = false;
      const Fault fault = posted(req, 0) ? learn(c, 0, &scratch) : Fault::kBadResponse;
      if (fault != Fault::kNone) {
        enter_error(c.qp, c.ports, c.now, fault);
        return true;
      }
    }
    const Inflight& oldest = at(req, 0);
    if (is_read_or_atomic(oldest.opcode)) return false;
    const wire::Psn end = psn_add(oldest.first_psn, oldest.packets);
    if (psn_before(psn, end)) {
      req.una = psn;
    } else {
      req.una = end;
      if (!retire(c)) return true;
    }
    made_progress(req);
  }
  return true;
}

void after_progress(const Context& c) {
  Requester& req = c.qp.req;
  restart_retries(c.qp);
  if (psn_before(req.next, req.una)) {
    req.next = req.una;
    req.current = 0;
  }
  if (outstanding(c.qp) && req.rnr_deadline == kOff) {
    arm_ack_timer(c);
  } else {
    req.ack_deadline = kOff;
  }
}

void retry(const Context& c, Fault fault) {
  Requester& req = c.qp.req;
  if (req.retries_left == 0) {
    enter_error(c.qp, c.ports, c.now, fault);
    return;
  }
  --req.retries_left;
  go_back(c.qp);
  arm_ack_timer(c);
}

// A response skipped a READ or atomic: its own was lost. Costs a retry like a NAK, or a peer that
// answers everything but this READ would be asked for ever.
void implied_nak(const Context& c) {
  c.count(GODWIT_COUNTER_IMPLIED_NAK_SEQ_ERR);
  if (c.qp.req.recovering) return;
  retry(c, Fault::kRetryExceeded);
  c.qp.req.recovering = true;
}

std::uint64_t rnr_delay(std::uint8_t code) {
  // IBTA table 46, in units of 10 us.
  static constexpr std::array<std::uint32_t, 32> kDelay = {
      65536, 1,    2,    3,    4,    6,     8,     12,    16,    24,   32,
      48,    64,   96,   128,  192,  256,   384,   512,   768,   1024, 1536,
      2048,  3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768, 49152};
  return std::uint64_t{kDelay[code & 31]} * 10'000;
}

void on_ack(const Context& c, const wire::Packet& packet) {
  Qp& qp = c.qp;
  Requester& req = qp.req;
  const wire::Psn psn = packet.h.psn;
  const std::uint8_t syndrome = packet.h.aeth.syndrome;
  if (syndrome == wire::kNakStopped) {
    on_nak_stopped(c, psn);
    return;
  }
  if (!psn_in(psn, req.una, req.high)) return;  // a ghost of an earlier request
  leave_pause(c);
  const std::uint8_t kind = syndrome >> 5;  // 0: ACK, 1: RNR NAK, 3: NAK
  const wire::Psn before = req.una;
  const bool whole = acknowledge_before(c, kind == 0 ? psn_add(psn, 1) : psn);
  if (qp.attr.status == Status::kError) return;
  if (req.una != before) after_progress(c);
  if (!whole) {
    implied_nak(c);
    return;
  }
  if (kind == 0) return;
  if (kind == 1) {
    c.count(GODWIT_COUNTER_RNR_NAK_RETRY_ERR);
    if (req.rnr_deadline != kOff) return;  // a copy
    if (req.rnr_retries_left == 0) {
      enter_error(qp, c.ports, c.now, Fault::kRnrRetryExceeded);
      return;
    }
    if (qp.attr.rnr_retry != 7) --req.rnr_retries_left;
    req.retries_left = qp.attr.retry_cnt;
    go_back(qp);
    req.ack_deadline = kOff;
    req.rnr_deadline = c.now + rnr_delay(syndrome & 0x1f);
    return;
  }
  if (kind != 3) return;  // reserved
  switch (syndrome) {
    case wire::kNakSequence:
      c.count(GODWIT_COUNTER_PACKET_SEQ_ERR);
      // A copy of one that was answered already; if the answer was lost, the ack timer is there.
      // Nor does a late one end the wait that an RNR NAK asked for.
      if (req.recovering || req.rnr_deadline != kOff) return;
      retry(c, Fault::kRetryExceeded);
      req.recovering = true;
      return;
    case wire::kNakInvalidRequest:
      enter_error(qp, c.ports, c.now, Fault::kRemoteInvalidRequest);
      return;
    case wire::kNakRemoteAccess:
      enter_error(qp, c.ports, c.now, Fault::kRemoteAccess);
      return;
    case wire::kNakRemoteOperational:
      enter_error(qp, c.ports, c.now, Fault::kRemoteOperational);
      return;
    default:
      return;  // reserved
  }
}

void on_data(const Context& c, const wire::Packet& packet) {
  Qp& qp = c.qp;
  Requester& req = qp.req;
  const wire::Psn psn = packet.h.psn;
  if (!psn_in(psn, req.una, req.high)) return;
  leave_pause(c);
  const wire::Psn before = req.una;
  const bool whole = acknowledge_before(c, psn);
  if (qp.attr.status == Status::kError) return;
  if (req.una != before) after_progress(c);
  if (!whole) {
    // A response for something later: the one in between was lost.
    implied_nak(c);
    return;
  }
  if (!posted(req, 0)) return;
  Fault fault = learn(c, 0, &req.receiving);
  if (fault != Fault::kNone) {
    enter_error(qp, c.ports, c.now, fault);
    return;
  }
  const Inflight& oldest = at(req, 0);
  const SendRequest& request = req.receiving.request;
  const bool atomic = packet.h.opcode == wire::kAtomicAcknowledge;
  if (!is_read_or_atomic(oldest.opcode) || atomic == (oldest.opcode == WrOpcode::kRead)) {
    enter_error(qp, c.ports, c.now, Fault::kBadResponse);
    return;
  }
  std::array<std::uint8_t, 8> original;
  std::span<const std::uint8_t> data = packet.payload;
  std::uint32_t offset = 0;
  if (atomic) {
    std::memcpy(original.data(), &packet.h.atomic_original, 8);
    data = original;
  } else {
    offset = psn_distance(psn, oldest.first_psn) * qp.mtu();
    if (data.size() != std::min(qp.mtu(), oldest.length - offset)) {
      enter_error(qp, c.ports, c.now, Fault::kBadResponse);
      return;
    }
  }
  fault = c.ports.memory.scatter(qp, {request.sge.data(), request.sge_count}, offset, data);
  if (fault != Fault::kNone) {
    enter_error(qp, c.ports, c.now, fault);
    return;
  }
  req.una = psn_add(psn, 1);
  made_progress(req);
  if (psn_distance(req.una, oldest.first_psn) == oldest.packets && !retire(c)) return;
  after_progress(c);
}

// Sends the packet `next` of the WQE at hand. READs and atomics take all their PSNs at once.
Fault send_one(const Context& c, const SendRequest& r, const Inflight& w, bool probe) {
  Qp& qp = c.qp;
  Requester& req = qp.req;
  const std::uint32_t mtu = qp.mtu();
  const std::uint32_t done = psn_distance(req.next, w.first_psn);
  const std::uint32_t offset = done * mtu;
  wire::Headers h = headers(c, 0, req.next);
  std::uint32_t bytes = 0;
  std::uint32_t advance = 1;
  switch (r.opcode) {
    case WrOpcode::kRead:
      h.opcode = wire::kReadRequest;
      h.va = r.remote_addr + offset;
      h.rkey = r.rkey;
      h.length = r.length - offset;
      h.ack_request = true;
      advance = w.packets - done;
      break;
    case WrOpcode::kCompareSwap:
    case WrOpcode::kFetchAdd:
      h.opcode = r.opcode == WrOpcode::kCompareSwap ? wire::kCompareSwap : wire::kFetchAdd;
      h.va = r.remote_addr;
      h.rkey = r.rkey;
      h.swap_add = r.opcode == WrOpcode::kCompareSwap ? r.swap : r.compare_add;
      h.compare = r.opcode == WrOpcode::kCompareSwap ? r.compare_add : 0;
      h.ack_request = true;
      break;
    case WrOpcode::kSend:
    case WrOpcode::kSendImm:
    case WrOpcode::kWrite:
    case WrOpcode::kWriteImm: {
      const bool write = r.opcode == WrOpcode::kWrite || r.opcode == WrOpcode::kWriteImm;
      const bool imm = r.opcode == WrOpcode::kSendImm || r.opcode == WrOpcode::kWriteImm;
      const bool first = done == 0;
      const bool last = done + 1 == w.packets;
      bytes = std::min(mtu, r.length - offset);
      const std::uint8_t base = write ? wire::kWriteFirst : wire::kSendFirst;
      // FIRST, MIDDLE, LAST, LAST_IMM, ONLY, ONLY_IMM stand in this order in both groups.
      unsigned position = 0;
      if (first && last) {
        position = imm ? 5 : 4;
      } else if (last) {
        position = imm ? 3 : 2;
      } else if (!first) {
        position = 1;
      }
      h.opcode = static_cast<std::uint8_t>(base + position);
      h.va = r.remote_addr;
      h.rkey = r.rkey;
      h.length = r.length;
      h.immediate_be = r.immediate_be;
      h.solicited = last && r.solicited && (!write || imm);
      h.ack_request = last || probe || done % kAckEvery == kAckEvery - 1 ||
                      psn_distance(req.next, req.una) + 1 >= kWindow;
      break;
    }
  }
  wire::FrameBuilder frame(path_to_peer(c), h, bytes);
  if (bytes > 0) {
    if (r.inline_data) {
      std::memcpy(frame.payload().data(), r.inline_bytes.data() + offset, bytes);
    } else {
      const Fault fault =
          c.ports.memory.gather(qp, {r.sge.data(), r.sge_count}, offset, frame.payload());
      if (fault != Fault::kNone) return fault;
    }
  }
  transmit(c, frame, bytes);
  if (psn_before(req.next, req.high)) {
    c.count(GODWIT_COUNTER_RETRANSMISSIONS);
    ++qp.stats.retransmissions;
  }
  const wire::Psn after = psn_add(req.next, advance);
  if (!probe) req.next = after;
  if (psn_before(req.high, after)) req.high = after;
  return Fault::kNone;
}

// Whether the packet at `next` may go now.
bool may_send(const Context& c) {
  Qp& qp = c.qp;
  Requester& req = qp.req;
  const Inflight& w = at(req, req.current);
  const bool begun = psn_before(w.first_psn, req.high);  // sent before, in part at least
  if (qp.attr.status == Status::kSqd && !begun) return false;
  const SendRequest& r = req.sending.request;
  if (is_read_or_atomic(w.opcode)) {
    if (reads_outstanding(req, req.current) >= qp.attr.max_rd_atomic) return false;
    // PSNs in flight stay below half of the circle.
    if (psn_distance(req.next, req.una) + w.packets >= wire::kPsnWindow / 2) return false;
  } else if (psn_distance(req.next, req.una) >= kWindow) {
    // READs ahead may cover more than the window: what follows waits for them.
    return false;
  }
  if (r.fence && req.next == w.first_psn && reads_outstanding(req, req.current) > 0) return false;
  return true;
}

}  // namespace

void go_back(Qp& qp) {
  Requester& req = qp.req;
  req.next = req.una;
  req.current = 0;
  req.recovering = false;
  req.rnr_deadline = kOff;
}

void restart_retries(Qp& qp) {
  qp.req.retries_left = qp.attr.retry_cnt;
  qp.req.rnr_retries_left = qp.attr.rnr_retry;
}

void arm_ack_timer(const Context& c) {
  const std::uint8_t timeout = c.qp.attr.timeout;
  if (timeout == 0) {
    c.qp.req.ack_deadline = c.qp.mig.paused ? c.now + kProbeInterval : kOff;
    return;
  }
  c.qp.req.ack_deadline = c.now + std::max(kShortestTimeout, std::uint64_t{4096} << (timeout & 31));
}

void leave_pause(const Context& c) {
  if (!c.qp.mig.paused) return;
  c.qp.mig.paused = false;
  c.qp.mig.pause_deadline = kOff;
  restart_retries(c.qp);
  go_back(c.qp);
  arm_ack_timer(c);
  c.ports.queues.event(c.qp, QpEvent::kStatusChanged);
}

void on_response(const Context& c, const wire::Packet& packet) {
  if (c.qp.attr.status != Status::kRts && c.qp.attr.status != Status::kSqd) return;
  if (packet.h.opcode == wire::kAcknowledge) {
    on_ack(c, packet);
  } else {
    on_data(c, packet);
  }
}

bool send_requests(const Context& c, unsigned* budget) {
  Qp& qp = c.qp;
  Requester& req = qp.req;
  if (qp.mig.paused || qp.mig.resuming || req.rnr_deadline != kOff) return false;
  for (;;) {
    if (qp.attr.status != Status::kRts && qp.attr.status != Status::kSqd) return true;
    // To the WQE that `next` is in.
    while (req.current < req.inflight_count) {
      const Inflight& w = at(req, req.current);
      if (psn_distance(req.next, w.first_psn) < w.packets) break;
      ++req.current;
    }
    if (!posted(req, req.current)) break;
    if (req.current >= kMaxInflight - 1) break;
    if (qp.attr.status == Status::kSqd && req.current >= req.inflight_count &&
        !psn_before(end_psn(req), req.high)) {
      break;
    }
    if (*budget == 0) return true;
    const Fault bad = learn(c, req.current, &req.sending);
    if (bad != Fault::kNone) {
      // What was posted before it ends first.
      if (req.current > 0) break;
      c.count(GODWIT_COUNTER_BAD_WQES);
      enter_error(qp, c.ports, c.now, bad);
      return true;
    }
    if (!may_send(c)) break;
    const Inflight w = at(req, req.current);
    const Fault fault = send_one(c, req.sending.request, w, false);
    if (fault != Fault::kNone) {
      if (req.current > 0) {
        // The fault is this WQE's: those before it may still complete.
        break;
      }
      enter_error(qp, c.ports, c.now, fault);
      return true;
    }
    if (req.ack_deadline == kOff) arm_ack_timer(c);
    --*budget;
  }
  if (qp.attr.status == Status::kSqd && !req.drained && !outstanding(qp)) {
    req.drained = true;
    if (qp.attr.sqd_async_notify) c.ports.queues.event(qp, QpEvent::kSqDrained);
  }
  return false;
}

void on_ack_timeout(const Context& c) {
  Qp& qp = c.qp;
  Requester& req = qp.req;
  req.ack_deadline = kOff;
  if (!outstanding(qp) && !qp.mig.paused) return;
  if (qp.mig.paused) {
    // One packet, whether it was sent before or not, and no retry spent.
    go_back(qp);
    arm_ack_timer(c);
    if (!posted(req, 0)) return;
    const Fault fault = learn(c, 0, &req.sending);
    if (fault != Fault::kNone) {
      enter_error(qp, c.ports, c.now, fault);
      return;
    }
    c.count(GODWIT_COUNTER_PROBES);
    const Inflight w = at(req, 0);
    const Fault sent = send_one(c, req.sending.request, w, true);
    if (sent != Fault::kNone) enter_error(qp, c.ports, c.now, sent);
    return;
  }
  if (qp.mig.resuming) return;
  c.count(GODWIT_COUNTER_LOCAL_ACK_TIMEOUT_ERR);
  retry(c, Fault::kRetryExceeded);
}

void enter_error(Qp& qp, Ports& ports, std::uint64_t now_ns, Fault fault) {
  Context c{qp, ports, now_ns};
  if (qp.attr.status == Status::kError || qp.attr.status == Status::kReset) return;
  const bool sender = qp.attr.status == Status::kRts || qp.attr.status == Status::kSqd;
  qp.attr.status = Status::kError;
  Requester& req = qp.req;
  req.ack_deadline = req.rnr_deadline = kOff;
  qp.mig.paused = qp.mig.resuming = false;
  qp.mig.pause_deadline = qp.mig.resume_deadline = kOff;
  qp.resp.answer = Answer::kNone;
  qp.resp.fatal = Fault::kNone;  // its NAK does not go out any more, and STOP must not wait for it
  for (Slot& slot : qp.resp.slots) slot.in_progress = false;
  count_fault(c, fault);
  ports.queues.event(qp, QpEvent::kStatusChanged);

  const bool local = fault == Fault::kNone || fault == Fault::kFlushed;
  const bool of_responder = fault == Fault::kInvalidRequest ||
                            fault == Fault::kRemoteAccessDenied ||
                            fault == Fault::kResponderOperational ||
                            fault == Fault::kReceiveTooShort || fault == Fault::kReceiveProtection;
  if (fault == Fault::kCqOverflow) {
    ports.queues.event(qp, QpEvent::kFatal);
  } else if (of_responder) {
    ports.queues.event(
        qp, fault == Fault::kRemoteAccessDenied ? QpEvent::kAccessError : QpEvent::kRequestError);
  } else if (!local && sender) {
    req.error = fault;  // completes the oldest WQE, at the first step of the flush
  }
}

// Whether all that had been posted when STOP came has been flushed. An application that goes on
// posting does not keep STOP, and with it the command queue, from its end.
bool flushed(const Context& c) {
  const Qp& qp = c.qp;
  const auto sends = static_cast<std::uint16_t>(qp.req.consumer - qp.mig.stop_sq);
  if (posted(qp.req, 0) && sends < 1U << qp.log2_sq_depth) return false;
  if (!qp.has_rq()) return true;
  const auto receives = static_cast<std::uint16_t>(qp.resp.rq_consumer - qp.mig.stop_rq);
  RecvRequest recv;
  return receives >= 1U << qp.log2_rq_depth ||
         c.ports.queues.fetch_recv(c.qp, qp.resp.rq_consumer, &recv) == Fetch::kEmpty;
}

bool flush(const Context& c, unsigned* budget) {
  Qp& qp = c.qp;
  Requester& req = qp.req;
  // Half for each queue, so that neither waits for the other to be empty.
  unsigned sends = qp.has_rq() ? *budget / 2 : *budget;
  bool more = false;
  while (posted(req, 0)) {
    more = sends == 0;
    if (more) break;
    --sends;
    --*budget;
    SendCompletion completion;
    completion.wqe_index = req.consumer;
    completion.fault = req.error != Fault::kNone ? req.error : Fault::kFlushed;
    req.error = Fault::kNone;
    SendRequest request;
    if (c.ports.queues.fetch_send(qp, req.consumer, &request) == Fetch::kOk) {
      completion.opcode = request.opcode;
    }
    req.inflight_count = 0;
    req.current = 0;
    ++req.consumer;
    c.count(GODWIT_COUNTER_REQ_CQE_ERROR);
    if (completion.fault == Fault::kFlushed) c.count(GODWIT_COUNTER_REQ_CQE_FLUSH_ERROR);
    if (!c.ports.queues.complete_send(qp, completion)) return true;
  }
  while (qp.has_rq()) {
    RecvRequest request;
    if (c.ports.queues.fetch_recv(qp, qp.resp.rq_consumer, &request) == Fetch::kEmpty) break;
    if (*budget == 0) return true;
    --*budget;
    RecvCompletion completion;
    completion.wqe_index = qp.resp.rq_consumer++;
    completion.fault = Fault::kFlushed;
    qp.resp.recv_taken = qp.resp.recv_cached = false;
    c.count(GODWIT_COUNTER_RESP_CQE_ERROR);
    c.count(GODWIT_COUNTER_RESP_CQE_FLUSH_ERROR);
    if (!c.ports.queues.complete_recv(qp, completion)) return true;
  }
  return more;
}

}  // namespace godwit::transport
