// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the files of the transport share; not for others.
#ifndef GODWIT_TRANSPORT_INTERNAL_H
#define GODWIT_TRANSPORT_INTERNAL_H

#include <cstdint>

#include "godwit_counters.h"
#include "transport/qp.h"
#include "transport/transport.h"

namespace godwit::transport {

// One QP, its surroundings and the time: what every step needs.
struct Context {
  Qp& qp;
  Ports& ports;
  std::uint64_t now;

  void count(unsigned counter, std::uint64_t n = 1) const { ports.link.count(counter, n); }
};

inline constexpr std::uint64_t kMillisecond = 1'000'000;

// common.cc
[[nodiscard]] bool is_ipv4(const wire::Gid& gid);
[[nodiscard]] wire::Path path_to_peer(const Context& c);
[[nodiscard]] wire::Headers headers(const Context& c, std::uint8_t opcode, wire::Psn psn);
void transmit(const Context& c, wire::FrameBuilder& frame, std::uint32_t payload_bytes);

// requester.cc
void go_back(Qp& qp);
void restart_retries(Qp& qp);
void arm_ack_timer(const Context& c);
void on_response(const Context& c, const wire::Packet& packet);
[[nodiscard]] bool send_requests(const Context& c, unsigned* budget);
void on_ack_timeout(const Context& c);
[[nodiscard]] bool flush(const Context& c, unsigned* budget);
[[nodiscard]] bool flushed(const Context& c);
[[nodiscard]] inline bool outstanding(const Qp& qp) { return qp.req.una != qp.req.high; }
void leave_pause(const Context& c);

// responder.cc
void on_request(const Context& c, const wire::Packet& packet);
[[nodiscard]] bool send_responses(const Context& c, unsigned* budget);

// migration.cc
void on_nak_stopped(const Context& c, wire::Psn psn);
void on_extension(const Context& c, const wire::Packet& packet);
void answer_stopped(const Context& c, const wire::Packet& packet);
void on_resume_timer(const Context& c);
void on_pause_limit(const Context& c);

}  // namespace godwit::transport

#endif  // GODWIT_TRANSPORT_INTERNAL_H
