// SPDX-License-Identifier: GPL-2.0-or-later
//
// The state of a queue pair: plain data, changed only by the functions of
// transport.h. What of it outlives a move is in abi/godwit_state.h.
#ifndef GODWIT_TRANSPORT_QP_H
#define GODWIT_TRANSPORT_QP_H

#include <array>
#include <cstdint>

#include "godwit_queue.h"
#include "transport/ports.h"
#include "wire/packet.h"

namespace godwit::transport {

inline constexpr std::uint64_t kOff = UINT64_MAX;  // a deadline that is not set

// IBTA 10.3.1; values of IBV_QPS_*.
enum class Status : std::uint8_t { kReset, kInit, kRtr, kRts, kSqd, kSqe, kError };

// Values of GODWIT_QP_ATTR_*; what MODIFY_QP changes.
struct QpAttributes {
  Status status = Status::kReset;
  Status cur_status = Status::kReset;
  std::uint8_t path_mtu = 0;  // 1 … 5: 128 << path_mtu bytes
  std::uint8_t access = 0;    // GODWIT_ACCESS_REMOTE_*
  std::uint8_t timeout = 0;
  std::uint8_t retry_cnt = 0;
  std::uint8_t rnr_retry = 0;
  std::uint8_t min_rnr_timer = 0;
  std::uint8_t max_rd_atomic = 0;
  std::uint8_t max_dest_rd_atomic = 0;
  bool sqd_async_notify = false;
  std::uint16_t pkey_index = 0;
  std::uint32_t qkey = 0;
  std::uint32_t dest_qpn = 0;
  std::uint32_t sq_psn = 0;
  std::uint32_t rq_psn = 0;
  // address vector
  wire::Gid dgid{};
  wire::Mac dmac{};
  std::uint16_t sgid_index = 0;
  std::uint32_t flow_label = 0;
  std::uint16_t udp_source_port = 0;
  std::uint8_t traffic_class = 0;
  std::uint8_t hop_limit = 0;
  std::uint8_t service_level = 0;
};

struct Place {
  wire::Gid gid{};
  wire::Mac mac{};
  friend bool operator==(const Place&, const Place&) = default;
};

// Packets in flight, READ responses not counted: small enough for the socket
// buffers of the emulated wire.
inline constexpr std::uint32_t kWindow = 128;
// WQEs begun and not complete.
inline constexpr std::uint32_t kMaxInflight = 128;

// What was sent for a WQE; the WQE itself may be changed by the guest meanwhile.
struct Inflight {
  wire::Psn first_psn = 0;
  std::uint32_t packets = 0;
  std::uint32_t length = 0;
  WrOpcode opcode = WrOpcode::kSend;
  bool signaled = false;
};

struct CachedSend {
  bool valid = false;
  std::uint16_t index = 0;
  SendRequest request;
};

struct Requester {
  // The authoritative position; all else is made anew from it.
  std::uint16_t consumer = 0;  // oldest unfinished WQE
  std::uint16_t producer = 0;  // as last seen
  wire::Psn first_psn = 0;     // of WQE `consumer`
  wire::Psn una = 0;           // oldest unacknowledged
  wire::Psn next = 0;          // next to send
  wire::Psn high = 0;          // one past the highest ever sent
  std::uint32_t ssn = 0;
  std::uint8_t retries_left = 0;
  std::uint8_t rnr_retries_left = 0;
  bool drained = false;        // SQD: all is acknowledged, event given
  bool flushing = false;       // Error: the failed WQE is complete
  bool recovering = false;     // gone back for a gap; no second time before progress
  Fault error = Fault::kNone;  // of the first failed WQE
  std::uint64_t ack_deadline = kOff;
  std::uint64_t rnr_deadline = kOff;

  std::array<Inflight, kMaxInflight> inflight{};  // ring, from `consumer` on
  std::uint32_t inflight_head = 0;
  std::uint32_t inflight_count = 0;
  std::uint32_t current = 0;  // offset from `consumer` of the WQE that `next` is in
  CachedSend sending;
  CachedSend receiving;  // the READ or atomic whose response is awaited
};

inline constexpr std::size_t kMaxSlots = 16;

// A READ or atomic that may be asked again.
struct Slot {
  wire::Psn first_psn = 0;
  std::uint32_t packets = 0;
  std::uint8_t opcode = 0;
  bool in_progress = false;  // its response is still to be sent, from next_psn on
  bool answered = false;     // all of it has been sent once
  std::uint32_t rkey = 0;
  std::uint64_t va = 0;
  std::uint64_t length = 0;
  std::uint64_t original = 0;
  std::uint32_t msn = 0;
  wire::Psn next_psn = 0;
};

enum class Answer : std::uint8_t { kNone, kAck, kRnr, kNak };

struct Responder {
  wire::Psn expected = 0;
  std::uint32_t msn = 0;
  std::uint16_t rq_consumer = 0;
  std::uint8_t message_opcode = 0xff;  // of the message's last packet; 0xff: between messages
  bool nak_sent = false;               // until the expected packet comes
  bool recv_taken = false;
  bool comm_established = false;
  std::uint64_t message_va = 0;
  std::uint64_t message_left = 0;
  std::uint64_t message_placed = 0;
  std::uint32_t message_rkey = 0;
  RecvRequest recv;  // valid while recv_cached
  bool recv_cached = false;

  // Goes out when all responses before it have.
  Answer answer = Answer::kNone;
  std::uint8_t syndrome = 0;   // kRnr, kNak
  wire::Psn answer_psn = 0;    // kRnr, kNak
  Fault fatal = Fault::kNone;  // Error follows the NAK

  std::array<Slot, kMaxSlots> slots{};  // ring
  std::uint32_t slot_head = 0;
  std::uint32_t slot_count = 0;
};

inline constexpr std::size_t kMaxPlaces = 4;

struct Migration {
  bool stopped = false;
  bool paused = false;
  bool resuming = false;
  bool tombstone = false;
  bool unloaded = false;  // created for a restore, no state yet
  bool loaded = false;    // has a state, not resumed
  bool peer_extended = false;
  bool entered_rtr = false;
  bool entered_rts = false;
  std::uint32_t own_epoch = 0;
  std::uint32_t peer_epoch = 0;
  std::uint32_t resume_epoch = 0;
  std::uint32_t last_attempt = 0;
  std::uint64_t stopped_at = 0;
  std::uint64_t pause_deadline = kOff;
  std::uint64_t resume_deadline = kOff;
  std::uint64_t resume_interval = 0;
  // wrong tokens in this second
  std::uint64_t bad_token_window = 0;
  std::uint32_t bad_tokens = 0;
  std::array<Place, kMaxPlaces> places{};
  std::uint32_t place_count = 0;
  // tombstone: answers sent, and where the QP is now, once it has told
  std::uint32_t answered = 0;
  bool redirects = false;
  std::uint32_t successor_epoch = 0;
  Place successor{};
  // STOP of a QP in Error waits for the flush of what was posted by then
  bool stop_wanted = false;
  std::uint16_t stop_sq = 0;
  std::uint16_t stop_rq = 0;
};

struct QpStatistics {
  std::uint64_t tx_packets = 0;
  std::uint64_t rx_packets = 0;
  std::uint64_t tx_bytes = 0;
  std::uint64_t rx_bytes = 0;
  std::uint64_t retransmissions = 0;
};

struct Qp {
  std::uint32_t qpn = 0;
  std::uint8_t type = 0;  // GODWIT_QP_TYPE_*
  std::uint8_t log2_sq_depth = 0;
  std::uint8_t log2_rq_depth = 0;  // GODWIT_NO_RQ: none
  QpAttributes attr;
  Place own;  // the GID and MAC that it speaks from; set at RTR and at RESUME
  bool own_ipv4 = false;
  Requester req;
  Responder resp;
  Migration mig;
  QpStatistics stats;

  [[nodiscard]] std::uint32_t mtu() const { return 128U << attr.path_mtu; }
  // Packets of so many bytes of payload.
  [[nodiscard]] std::uint32_t packets(std::uint32_t length) const {
    return length == 0 ? 1 : (length - 1) / mtu() + 1;
  }
  [[nodiscard]] bool has_rq() const { return log2_rq_depth != GODWIT_NO_RQ; }
  // It has a peer, whose packets it takes.
  [[nodiscard]] bool connected() const {
    return attr.status >= Status::kRtr && attr.status <= Status::kSqe;
  }
};

}  // namespace godwit::transport

#endif  // GODWIT_TRANSPORT_QP_H
