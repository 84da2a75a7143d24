// SPDX-License-Identifier: GPL-2.0-or-later
//
// The responder: requests to memory, receive completions and responses (IBTA 9.7.4, 9.7.5).
//
// Each request goes down a ladder of checks; only its last rung changes state.
// Responses leave in the order of their PSNs: those of READs and atomics from the
// slots, then one acknowledgement of everything before `expected`, or a NAK.
#include <algorithm>
#include <cstring>

#include "godwit_queue.h"
#include "transport/internal.h"

namespace godwit::transport {
namespace {

using wire::psn_add;
using wire::psn_before;
using wire::psn_distance;

Slot& slot_at(Responder& resp, std::uint32_t i) {
  return resp.slots[(resp.slot_head + i) % kMaxSlots];
}

void want_ack(Responder& resp) {
  if (resp.answer == Answer::kNone) resp.answer = Answer::kAck;
}

void want_nak(const Context& c, std::uint8_t syndrome, Fault fatal) {
  Responder& resp = c.qp.resp;
  resp.answer = (syndrome & 0xe0) == wire::kSyndromeRnr ? Answer::kRnr : Answer::kNak;
  resp.syndrome = syndrome;
  resp.answer_psn = resp.expected;
  resp.fatal = fatal;
  resp.nak_sent = true;
}

// The fault of a request that ends the connection.
void refuse(const Context& c, Fault fault) {
  switch (fault) {
    case Fault::kRemoteAccessDenied:
      c.count(GODWIT_COUNTER_RESP_REMOTE_ACCESS_ERRORS);
      want_nak(c, wire::kNakRemoteAccess, fault);
      return;
    case Fault::kInvalidRequest:
      c.count(GODWIT_COUNTER_RESP_INVALID_REQUEST);
      want_nak(c, wire::kNakInvalidRequest, fault);
      return;
    case Fault::kReceiveTooShort:
      c.count(GODWIT_COUNTER_RESP_LOCAL_LENGTH_ERROR);
      want_nak(c, wire::kNakInvalidRequest, fault);
      return;
    default:
      want_nak(c, wire::kNakRemoteOperational, fault);
      return;
  }
}

// A receive WQE whose message failed completes with the reason.
void fail_receive(const Context& c, Fault fault) {
  Responder& resp = c.qp.resp;
  RecvCompletion completion;
  completion.wqe_index = resp.rq_consumer++;
  completion.fault = fault;
  resp.recv_taken = resp.recv_cached = false;
  c.count(GODWIT_COUNTER_RESP_CQE_ERROR);
  if (c.ports.queues.complete_recv(c.qp, completion)) refuse(c, fault);
}

// The receive WQE of the message at hand. False: the answer has been given.
bool take_receive(const Context& c) {
  Qp& qp = c.qp;
  Responder& resp = qp.resp;
  if (resp.recv_cached) return true;
  if (!qp.has_rq()) {
    refuse(c, Fault::kInvalidRequest);
    return false;
  }
  switch (c.ports.queues.fetch_recv(qp, resp.rq_consumer, &resp.recv)) {
    case Fetch::kOk:
      resp.recv_cached = true;
      return true;
    case Fetch::kEmpty:
      want_nak(c, static_cast<std::uint8_t>(wire::kSyndromeRnr | (qp.attr.min_rnr_timer & 31)),
               Fault::kNone);
      return false;
    case Fetch::kBad:
      fail_receive(c, Fault::kReceiveProtection);
      return false;
  }
  return false;
}

void accept(const Context& c, std::uint32_t psns) {
  c.qp.resp.expected = psn_add(c.qp.resp.expected, psns);
  c.qp.resp.nak_sent = false;
}

// Lengths and the order of opcodes (IBTA 9.7.4.1.2 and .4).
bool in_sequence(const Qp& qp, const wire::Packet& packet) {
  const wire::OpcodeInfo& info = packet.info();
  const std::uint8_t before = qp.resp.message_opcode;
  if (info.first != (before == 0xff)) return false;
  if (!info.first && wire::kOpcodes[before].message != info.message) return false;
  if (!info.payload) return true;
  const std::size_t bytes = packet.payload.size();
  if (!info.last) return bytes == qp.mtu();
  if (!info.first) return bytes > 0 && bytes <= qp.mtu();
  return bytes <= qp.mtu();
}

void end_message(const Context& c) {
  Responder& resp = c.qp.resp;
  resp.message_opcode = 0xff;
  resp.message_left = resp.message_placed = 0;
  resp.msn = (resp.msn + 1) & wire::kPsnMask;
}

// The last packet of the message is placed. False: the QP has failed.
bool complete_receive(const Context& c, const wire::Packet& packet) {
  Responder& resp = c.qp.resp;
  const wire::OpcodeInfo& info = packet.info();
  RecvCompletion completion;
  completion.wqe_index = resp.rq_consumer;
  completion.write_with_immediate = info.message == wire::Message::kWrite;
  completion.has_immediate = info.immediate;
  completion.immediate_be = packet.h.immediate_be;
  completion.solicited = packet.h.solicited;
  completion.byte_len = static_cast<std::uint32_t>(resp.message_placed);
  if (!c.ports.queues.complete_recv(c.qp, completion)) return false;
  ++resp.rq_consumer;
  resp.recv_taken = resp.recv_cached = false;
  return true;
}

void on_send(const Context& c, const wire::Packet& packet) {
  Qp& qp = c.qp;
  Responder& resp = qp.resp;
  const wire::OpcodeInfo& info = packet.info();
  if (!take_receive(c)) return;
  if (resp.message_placed + packet.payload.size() > resp.recv.length) {
    fail_receive(c, Fault::kReceiveTooShort);
    return;
  }
  const Fault fault =
      c.ports.memory.scatter(qp, {resp.recv.sge.data(), resp.recv.sge_count},
                             static_cast<std::uint32_t>(resp.message_placed), packet.payload);
  if (fault != Fault::kNone) {
    fail_receive(c, Fault::kReceiveProtection);
    return;
  }
  resp.recv_taken = true;
  resp.message_placed += packet.payload.size();
  resp.message_opcode = packet.h.opcode;
  if (info.last) {
    if (!complete_receive(c, packet)) return;
    end_message(c);
  }
  accept(c, 1);
  if (packet.h.ack_request) want_ack(resp);
}

void on_write(const Context& c, const wire::Packet& packet) {
  Qp& qp = c.qp;
  Responder& resp = qp.resp;
  const wire::OpcodeInfo& info = packet.info();
  std::uint64_t va = resp.message_va;
  std::uint64_t left = resp.message_left;
  std::uint64_t placed = resp.message_placed;
  std::uint32_t rkey = resp.message_rkey;
  if (info.first) {
    va = packet.h.va;
    left = packet.h.length;
    rkey = packet.h.rkey;
    placed = 0;
    const Fault fault =
        c.ports.memory.check_remote(qp, rkey, va, left, Memory::Access::kRemoteWrite);
    if (fault != Fault::kNone) {
      refuse(c, Fault::kRemoteAccessDenied);
      return;
    }
  }
  const std::size_t bytes = packet.payload.size();
  if (bytes > left || (info.last && bytes != left) || (!info.last && bytes == left)) {
    refuse(c, Fault::kInvalidRequest);
    return;
  }
  if (info.immediate && !take_receive(c)) return;
  if (bytes > 0 && c.ports.memory.write_remote(qp, rkey, va, packet.payload) != Fault::kNone) {
    refuse(c, Fault::kRemoteAccessDenied);
    return;
  }
  resp.message_va = va + bytes;
  resp.message_left = left - bytes;
  resp.message_placed = placed + bytes;
  resp.message_rkey = rkey;
  resp.message_opcode = packet.h.opcode;
  if (info.last) {
    if (info.immediate && !complete_receive(c, packet)) return;
    end_message(c);
  }
  accept(c, 1);
  if (packet.h.ack_request) want_ack(resp);
}

// A slot for a new READ or atomic: the oldest goes when there are as many as promised.
Slot* new_slot(Qp& qp) {
  Responder& resp = qp.resp;
  const std::uint32_t room = std::min<std::uint32_t>(qp.attr.max_dest_rd_atomic, kMaxSlots);
  if (room == 0) return nullptr;
  while (resp.slot_count >= room) {
    // Who asks for more than promised has not had the answer to its oldest yet. One that has been
    // answered may be in progress again for a duplicate that came late: nobody waits for it.
    const Slot& oldest = slot_at(resp, 0);
    if (oldest.in_progress && !oldest.answered) return nullptr;
    resp.slot_head = (resp.slot_head + 1) % kMaxSlots;
    --resp.slot_count;
  }
  Slot* slot = &slot_at(resp, resp.slot_count++);
  *slot = Slot{};
  return slot;
}

void on_read(const Context& c, const wire::Packet& packet) {
  Qp& qp = c.qp;
  const wire::Headers& h = packet.h;
  if (h.length > GODWIT_MAX_MESSAGE) {
    refuse(c, Fault::kInvalidRequest);
    return;
  }
  if (c.ports.memory.check_remote(qp, h.rkey, h.va, h.length, Memory::Access::kRemoteRead) !=
      Fault::kNone) {
    refuse(c, Fault::kRemoteAccessDenied);
    return;
  }
  Slot* slot = new_slot(qp);
  if (slot == nullptr) {
    refuse(c, Fault::kInvalidRequest);
    return;
  }
  end_message(c);
  slot->first_psn = slot->next_psn = h.psn;
  slot->packets = qp.packets(h.length);
  slot->opcode = h.opcode;
  slot->in_progress = true;
  slot->rkey = h.rkey;
  slot->va = h.va;
  slot->length = h.length;
  slot->msn = qp.resp.msn;
  accept(c, slot->packets);
  // The response acknowledges what came before it.
  if (qp.resp.answer == Answer::kAck) qp.resp.answer = Answer::kNone;
}

void on_atomic(const Context& c, const wire::Packet& packet) {
  Qp& qp = c.qp;
  const wire::Headers& h = packet.h;
  if ((h.va & 7) != 0) {
    refuse(c, Fault::kInvalidRequest);
    return;
  }
  if (c.ports.memory.check_remote(qp, h.rkey, h.va, 8, Memory::Access::kRemoteAtomic) !=
      Fault::kNone) {
    refuse(c, Fault::kRemoteAccessDenied);
    return;
  }
  Slot* slot = new_slot(qp);
  if (slot == nullptr) {
    refuse(c, Fault::kInvalidRequest);
    return;
  }
  const bool swap = h.opcode == wire::kCompareSwap;
  std::uint64_t original = 0;
  if (c.ports.memory.atomic_remote(
          qp, h.rkey, h.va, swap ? AtomicOp::kCompareSwap : AtomicOp::kFetchAdd,
          swap ? h.compare : h.swap_add, h.swap_add, &original) != Fault::kNone) {
    --qp.resp.slot_count;
    refuse(c, Fault::kRemoteAccessDenied);
    return;
  }
  end_message(c);
  slot->first_psn = slot->next_psn = h.psn;
  slot->packets = 1;
  slot->opcode = h.opcode;
  slot->in_progress = true;
  slot->rkey = h.rkey;
  slot->va = h.va;
  slot->length = 8;
  slot->original = original;
  slot->msn = qp.resp.msn;
  accept(c, 1);
  if (qp.resp.answer == Answer::kAck) qp.resp.answer = Answer::kNone;
}

// Seen before: acknowledged again, or answered again from its slot.
void on_duplicate(const Context& c, const wire::Packet& packet) {
  Qp& qp = c.qp;
  Responder& resp = qp.resp;
  const wire::Headers& h = packet.h;
  const wire::OpcodeInfo& info = packet.info();
  c.count(GODWIT_COUNTER_DUPLICATE_REQUEST);
  if (info.message == wire::Message::kSend || info.message == wire::Message::kWrite) {
    want_ack(resp);
    return;
  }
  for (std::uint32_t i = 0; i < resp.slot_count; ++i) {
    Slot& slot = slot_at(resp, i);
    const std::uint32_t done = psn_distance(h.psn, slot.first_psn);
    if (done >= slot.packets) continue;
    if (info.message == wire::Message::kAtomic) {
      if (slot.opcode == h.opcode) {
        slot.in_progress = true;
        slot.next_psn = slot.first_psn;
      }
      return;
    }
    // It may ask for the rest of a READ only, and for no more than it asked before.
    const std::uint64_t offset = std::uint64_t{done} * qp.mtu();
    if (slot.opcode != wire::kReadRequest || h.rkey != slot.rkey || h.va != slot.va + offset ||
        h.length > slot.length - offset) {
      return;
    }
    if (!slot.in_progress || psn_before(h.psn, slot.next_psn)) slot.next_psn = h.psn;
    slot.in_progress = true;
    return;
  }
}

bool send_slot_packet(const Context& c, Slot& slot) {
  Qp& qp = c.qp;
  wire::Headers h = headers(c, wire::kAtomicAcknowledge, slot.next_psn);
  h.aeth = {wire::kSyndromeAck, slot.msn};
  if (slot.opcode != wire::kReadRequest) {
    h.atomic_original = slot.original;
    wire::FrameBuilder frame(path_to_peer(c), h, 0);
    transmit(c, frame, 0);
    slot.in_progress = false;
    slot.answered = true;
    return true;
  }
  const std::uint32_t done = psn_distance(slot.next_psn, slot.first_psn);
  const std::uint64_t offset = std::uint64_t{done} * qp.mtu();
  const auto bytes =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(qp.mtu(), slot.length - offset));
  const bool first = done == 0;
  const bool last = done + 1 == slot.packets;
  h.opcode = first ? (last ? wire::kReadResponseOnly : wire::kReadResponseFirst)
                   : (last ? wire::kReadResponseLast : wire::kReadResponseMiddle);
  wire::FrameBuilder frame(path_to_peer(c), h, bytes);
  if (bytes > 0 && c.ports.memory.read_remote(qp, slot.rkey, slot.va + offset, frame.payload()) !=
                       Fault::kNone) {
    // The region has gone since the request was checked.
    slot.in_progress = false;
    c.count(GODWIT_COUNTER_RESP_REMOTE_ACCESS_ERRORS);
    want_nak(c, wire::kNakRemoteAccess, Fault::kRemoteAccessDenied);
    qp.resp.answer_psn = slot.next_psn;
    for (std::uint32_t i = 0; i < qp.resp.slot_count; ++i) slot_at(qp.resp, i).in_progress = false;
    return false;
  }
  transmit(c, frame, bytes);
  slot.next_psn = psn_add(slot.next_psn, 1);
  if (last) {
    slot.in_progress = false;
    slot.answered = true;
  }
  return true;
}

void send_answer(const Context& c) {
  Qp& qp = c.qp;
  Responder& resp = qp.resp;
  const bool ack = resp.answer == Answer::kAck;
  wire::Headers h =
      headers(c, wire::kAcknowledge, ack ? (resp.expected - 1) & wire::kPsnMask : resp.answer_psn);
  h.aeth = {ack ? wire::kSyndromeAck : resp.syndrome, resp.msn};
  c.count(ack                           ? GODWIT_COUNTER_RC_ACKS_SENT
          : resp.answer == Answer::kRnr ? GODWIT_COUNTER_RC_RNR_NAKS_SENT
                                        : GODWIT_COUNTER_RC_NAKS_SENT);
  resp.answer = Answer::kNone;
  wire::FrameBuilder frame(path_to_peer(c), h, 0);
  transmit(c, frame, 0);
  if (resp.fatal != Fault::kNone) {
    const Fault fault = resp.fatal;
    resp.fatal = Fault::kNone;
    enter_error(qp, c.ports, c.now, fault);
  }
}

}  // namespace

void on_request(const Context& c, const wire::Packet& packet) {
  Qp& qp = c.qp;
  Responder& resp = qp.resp;
  if (resp.fatal != Fault::kNone) return;  // the NAK that ends it is on its way
  if (!resp.comm_established && qp.attr.status == Status::kRtr) {
    resp.comm_established = true;
    c.ports.queues.event(qp, QpEvent::kCommEstablished);
  }
  if (packet.h.psn != resp.expected) {
    if (psn_before(packet.h.psn, resp.expected)) {
      on_duplicate(c, packet);
      return;
    }
    c.count(GODWIT_COUNTER_OUT_OF_SEQUENCE);
    if (!resp.nak_sent) want_nak(c, wire::kNakSequence, Fault::kNone);
    return;
  }
  if (resp.answer == Answer::kNak && resp.syndrome == wire::kNakSequence) {
    resp.answer = Answer::kNone;  // it has come after all
  }
  if (!in_sequence(qp, packet)) {
    refuse(c, Fault::kInvalidRequest);
    return;
  }
  const wire::Message message = packet.info().message;
  if (message == wire::Message::kSend) {
    on_send(c, packet);
  } else if (message == wire::Message::kWrite) {
    on_write(c, packet);
  } else if (message == wire::Message::kRead) {
    on_read(c, packet);
  } else {
    on_atomic(c, packet);
  }
}

bool send_responses(const Context& c, unsigned* budget) {
  Responder& resp = c.qp.resp;
  for (std::uint32_t i = 0; i < resp.slot_count; ++i) {
    Slot& slot = slot_at(resp, i);
    while (slot.in_progress) {
      if (*budget == 0) return true;
      --*budget;
      if (!send_slot_packet(c, slot)) break;
    }
  }
  if (resp.answer != Answer::kNone) {
    if (*budget == 0) return true;
    --*budget;
    send_answer(c);
  }
  return false;
}

void acknowledge_now(Qp& qp, Ports& ports, std::uint64_t now_ns) {
  if (qp.mig.stopped || qp.resp.answer != Answer::kAck || !qp.connected()) return;
  // It acknowledges all that was before it, and responses that are still to be sent are before it.
  for (std::uint32_t i = 0; i < qp.resp.slot_count; ++i) {
    if (slot_at(qp.resp, i).in_progress) return;
  }
  send_answer({qp, ports, now_ns});
}

}  // namespace godwit::transport
