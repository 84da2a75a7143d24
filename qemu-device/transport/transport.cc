// SPDX-License-Identifier: GPL-2.0-or-later
//
// The entry points: classify, dispatch, timers.
#include "transport/transport.h"

#include <algorithm>

#include "transport/internal.h"

namespace godwit::transport {

void on_send_posted(Qp& qp, std::uint16_t producer) {
  qp.req.producer = producer;
  if (qp.attr.status == Status::kRts) qp.req.drained = false;
}

void on_packet(Qp& qp, Ports& ports, std::uint64_t now_ns, const wire::Packet& packet) {
  Context c{qp, ports, now_ns};
  if (!qp.connected() || qp.mig.unloaded) {
    c.count(GODWIT_COUNTER_RX_NO_QP);
    return;
  }
  if ((packet.h.pkey & 0x7fff) != (wire::kDefaultPkey & 0x7fff)) {
    c.count(GODWIT_COUNTER_RX_BAD_PKEY);
    return;
  }
  // The path, but for RESUME, which says what the path shall be.
  const bool extension = packet.info().role == wire::Role::kExtension;
  if (packet.path.dgid != qp.own.gid || (!extension && packet.path.sgid != qp.attr.dgid)) {
    c.count(GODWIT_COUNTER_RX_BAD_ADDRESS);
    return;
  }
  ++qp.stats.rx_packets;
  qp.stats.rx_bytes += packet.payload.size();
  if (qp.mig.stopped) {
    answer_stopped(c, packet);
    return;
  }
  switch (packet.info().role) {
    case wire::Role::kExtension:
      on_extension(c, packet);
      return;
    case wire::Role::kRequest:
      if (packet.h.extended && wire::psn_distance(packet.h.psn, qp.resp.expected) < 0x1000) {
        qp.mig.peer_extended = true;
      }
      on_request(c, packet);
      return;
    case wire::Role::kResponse:
      if (packet.h.extended && wire::psn_in(packet.h.psn, qp.req.una, qp.req.high)) {
        qp.mig.peer_extended = true;
      }
      on_response(c, packet);
      return;
    case wire::Role::kNone:
      return;
  }
}

bool run(Qp& qp, Ports& ports, std::uint64_t now_ns, unsigned budget) {
  Context c{qp, ports, now_ns};
  if (qp.mig.stopped) return false;
  switch (qp.attr.status) {
    case Status::kReset:
    case Status::kInit:
      return false;
    case Status::kError:
      return flush(c, &budget);
    case Status::kRtr:
      return send_responses(c, &budget);
    case Status::kRts:
    case Status::kSqd:
    case Status::kSqe:
      break;
  }
  bool more = send_responses(c, &budget);
  if (qp.attr.status == Status::kError) return true;
  more |= send_requests(c, &budget);
  return more;
}

void on_timer(Qp& qp, Ports& ports, std::uint64_t now_ns) {
  Context c{qp, ports, now_ns};
  if (qp.mig.stopped) return;
  if (qp.mig.pause_deadline <= now_ns) on_pause_limit(c);
  if (qp.mig.resume_deadline <= now_ns) on_resume_timer(c);
  if (qp.req.rnr_deadline <= now_ns) {
    qp.req.rnr_deadline = kOff;
    if (outstanding(qp)) arm_ack_timer(c);
  }
  if (qp.req.ack_deadline <= now_ns) on_ack_timeout(c);
}

std::uint64_t next_deadline(const Qp& qp) {
  if (qp.mig.stopped) return kOff;
  return std::min(std::min(qp.req.ack_deadline, qp.req.rnr_deadline),
                  std::min(qp.mig.pause_deadline, qp.mig.resume_deadline));
}

}  // namespace godwit::transport
