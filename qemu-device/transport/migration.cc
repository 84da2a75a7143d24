// SPDX-License-Identifier: GPL-2.0-or-later
//
// Stop, pause, resume: docs/spec/migration.md.
#include <algorithm>
#include <cstddef>
#include <limits>

#include "transport/internal.h"
#include "transport/token.h"

namespace godwit::transport {
namespace {

using wire::psn_distance;

constexpr std::uint64_t kResumeFirst = 100 * kMillisecond;
constexpr std::uint64_t kResumeLongest = 1000 * kMillisecond;
constexpr std::uint64_t kSecond = 1000 * kMillisecond;
constexpr std::uint32_t kBadTokensPerSecond = 16;

// The token of a RESUME of this QP, or of the RESUME_ACK that it waits for.
std::uint64_t own_token(const Qp& qp, TokenType type, std::uint8_t flags) {
  TokenInput input;
  input.type = type;
  input.flags = flags;
  input.mover_qpn = qp.qpn;
  input.peer_qpn = qp.attr.dest_qpn;
  input.initial_psn = (flags & wire::kMigRtr) != 0 ? qp.attr.rq_psn : qp.attr.sq_psn;
  input.epoch = qp.mig.resume_epoch;
  input.mover_gid = qp.own.gid;
  return token(input);
}

std::uint8_t resume_flags(const Qp& qp) { return qp.mig.entered_rts ? 0 : wire::kMigRtr; }

void send_resume_to(const Context& c, const wire::Path& path, std::uint32_t qpn,
                    std::uint8_t flags) {
  Qp& qp = c.qp;
  wire::Headers h = headers(c, wire::kResume, qp.req.una);
  h.dest_qpn = qpn;
  h.ack_request = true;
  h.aeth = {wire::kSyndromeAck, qp.resp.msn};
  h.mig.flags = flags;
  h.mig.epoch = qp.mig.resume_epoch;
  h.mig.token = own_token(qp, TokenType::kResume, flags);
  wire::FrameBuilder frame(path, h, 0);
  c.count(GODWIT_COUNTER_TX_RESUME);
  transmit(c, frame, 0);
}

// To the peer; and with HOME to every other place that this QP has been at since a RESUME was
// acknowledged, if it can be reached from the present GID. A tombstone may be of before RTS, so
// that it knows the receive PSN only.
void send_resume(const Context& c) {
  const Qp& qp = c.qp;
  wire::Path path = path_to_peer(c);
  send_resume_to(c, path, qp.attr.dest_qpn, resume_flags(qp));
  for (std::uint32_t i = 0; i < qp.mig.place_count; ++i) {
    const Place& place = qp.mig.places[i];
    if (place.gid == qp.own.gid || is_ipv4(place.gid) != qp.own_ipv4) continue;
    path.dgid = place.gid;
    path.dmac = place.mac;
    send_resume_to(c, path, qp.qpn, wire::kMigRtr | wire::kMigHome);
  }
}

// To the new address, which the AV has already. Of a REDIRECT too: as if its RESUME had come
// itself.
void send_resume_ack(const Context& c, const wire::MigEth& mig, std::uint32_t initial_psn) {
  Qp& qp = c.qp;
  TokenInput input;
  input.type = TokenType::kResumeAck;
  input.flags = mig.flags & wire::kMigRtr;
  input.mover_qpn = qp.attr.dest_qpn;
  input.peer_qpn = qp.qpn;
  input.initial_psn = initial_psn;
  input.epoch = mig.epoch;
  input.mover_gid = qp.attr.dgid;
  wire::Headers h = headers(c, wire::kResumeAck, qp.resp.expected);
  h.aeth = {wire::kSyndromeAck, qp.resp.msn};
  h.mig.flags = input.flags;
  h.mig.epoch = mig.epoch;
  h.mig.token = token(input);
  wire::FrameBuilder frame(path_to_peer(c), h, 0);
  c.count(GODWIT_COUNTER_TX_RESUME_ACK);
  transmit(c, frame, 0);
}

// The wait that an RNR NAK asked for goes on.
void back_to_una(const Context& c) {
  const std::uint64_t rnr = c.qp.req.rnr_deadline;
  restart_retries(c.qp);
  go_back(c.qp);
  c.qp.req.rnr_deadline = rnr;
  if (outstanding(c.qp) && rnr == kOff) arm_ack_timer(c);
}

void move_address(const Context& c, const wire::Gid& gid, const wire::Mac& mac) {
  Qp& qp = c.qp;
  qp.attr.dgid = gid;
  qp.attr.dmac = mac;
  qp.mig.paused = false;
  qp.mig.pause_deadline = kOff;
  back_to_una(c);
  // What was told to the old address may not have arrived.
  if (qp.mig.resuming) send_resume_to(c, path_to_peer(c), qp.attr.dest_qpn, resume_flags(qp));
}

// Too many wrong tokens lately: nothing is looked at for a while.
bool rate_limited(const Context& c) {
  Migration& mig = c.qp.mig;
  if (c.now - mig.bad_token_window >= kSecond) {
    mig.bad_token_window = c.now;
    mig.bad_tokens = 0;
  }
  if (mig.bad_tokens <= kBadTokensPerSecond) return false;
  c.count(GODWIT_COUNTER_RESUME_RATE_LIMITED);
  return true;
}

bool token_good(const Context& c, const TokenInput& input, std::uint64_t got) {
  if (token(input) == got) return true;
  // Those beyond the limit are followed by a second of silence.
  if (++c.qp.mig.bad_tokens > kBadTokensPerSecond) c.qp.mig.bad_token_window = c.now;
  c.count(GODWIT_COUNTER_RESUME_BAD_TOKEN);
  return false;
}

// The token of a RESUME of the peer that has come from, or names, this place. False, and counted,
// if it is wrong or cannot be known.
bool peer_token_good(const Context& c, const wire::MigEth& mig, const wire::Redirect& place,
                     std::uint32_t* initial_psn) {
  const Qp& qp = c.qp;
  const bool rtr = (mig.flags & wire::kMigRtr) != 0;
  if (rtr && !qp.mig.entered_rts) {
    // Its receive PSN is our send PSN, which is not known yet: it will ask again.
    c.count(GODWIT_COUNTER_RESUME_BAD_TOKEN);
    return false;
  }
  *initial_psn = rtr ? qp.attr.sq_psn : qp.attr.rq_psn;
  TokenInput input;
  input.flags = mig.flags;
  input.mover_qpn = qp.attr.dest_qpn;
  input.peer_qpn = qp.qpn;
  input.initial_psn = *initial_psn;
  input.epoch = mig.epoch;
  input.mover_gid = place.gid;
  input.mover_mac = place.mac;
  return token_good(c, input, mig.token);
}

// Somewhere a packet can be sent to. A MAC of zero would have to be resolved: not in this version.
bool can_be_reached(const Qp& qp, const wire::Redirect& place) {
  constexpr std::uint8_t kGroup = 1;
  const bool no_mac =
      std::all_of(place.mac.begin(), place.mac.end(), [](auto b) { return b == 0; });
  const std::size_t from = qp.own_ipv4 ? 12 : 0;
  const bool no_gid =
      std::all_of(place.gid.begin() + from, place.gid.end(), [](auto b) { return b == 0; });
  const bool multicast = qp.own_ipv4 ? place.gid[12] >= 224 : place.gid[0] == 0xff;
  return is_ipv4(place.gid) == qp.own_ipv4 && !no_mac && (place.mac[0] & kGroup) == 0 && !no_gid &&
         !multicast;
}

void on_resume(const Context& c, const wire::Packet& packet) {
  Qp& qp = c.qp;
  const wire::MigEth& mig = packet.h.mig;
  wire::Redirect place{packet.path.sgid, packet.path.smac};
  c.count(GODWIT_COUNTER_RX_RESUME);
  if (!packet.has_mig_eth) {
    // MigrOS's own RESUME: no token, no epoch; only where the user asks for it.
    if (!c.ports.config.bare_resume) {
      c.count(GODWIT_COUNTER_RESUME_BAD_VERSION);
      return;
    }
    c.count(GODWIT_COUNTER_RESUME_ACCEPTED);
    move_address(c, place.gid, place.mac);
    return;
  }
  const bool redirect = (mig.flags & wire::kMigRedirect) != 0;
  if (redirect) c.count(GODWIT_COUNTER_RX_REDIRECT);
  // HOME is for tombstones.
  constexpr std::uint8_t kFlags = wire::kMigRtr | wire::kMigRedirect;
  if (mig.version != wire::kMigVersion || (mig.flags & ~kFlags) != 0 || mig.reserved != 0 ||
      (redirect ? !wire::get_redirect(packet.payload, &place) : !packet.payload.empty())) {
    c.count(GODWIT_COUNTER_RESUME_BAD_VERSION);
    return;
  }
  if (packet.path.ipv4 != qp.own_ipv4 || (redirect && !can_be_reached(qp, place))) {
    c.count(GODWIT_COUNTER_RESUME_BAD_ADDRESS);
    return;
  }
  std::uint32_t initial_psn = 0;
  if (rate_limited(c) || !peer_token_good(c, mig, place, &initial_psn)) return;
  if (mig.epoch < qp.mig.peer_epoch ||
      (mig.epoch == qp.mig.peer_epoch && place.gid != qp.attr.dgid)) {
    c.count(GODWIT_COUNTER_RESUME_STALE_EPOCH);
    return;
  }
  qp.mig.peer_extended = true;
  if (mig.epoch == qp.mig.peer_epoch) {
    send_resume_ack(c, mig, initial_psn);
    return;
  }
  qp.mig.peer_epoch = mig.epoch;
  c.count(GODWIT_COUNTER_RESUME_ACCEPTED);
  move_address(c, place.gid, place.mac);
  send_resume_ack(c, mig, initial_psn);
}

// A RESUME with HOME: this tombstone's QP tells where it is now.
void on_home(const Context& c, const wire::Packet& packet) {
  Qp& qp = c.qp;
  const wire::MigEth& mig = packet.h.mig;
  const wire::Redirect place{packet.path.sgid, packet.path.smac};
  c.count(GODWIT_COUNTER_RX_RESUME);
  if (mig.version != wire::kMigVersion || mig.reserved != 0 || !packet.payload.empty() ||
      mig.flags != (wire::kMigHome | wire::kMigRtr)) {
    c.count(GODWIT_COUNTER_RESUME_BAD_VERSION);
    return;
  }
  if (packet.path.ipv4 != qp.own_ipv4 || !can_be_reached(qp, place)) {
    c.count(GODWIT_COUNTER_RESUME_BAD_ADDRESS);
    return;
  }
  if (rate_limited(c)) return;
  TokenInput input;
  input.flags = mig.flags;
  input.mover_qpn = qp.qpn;
  input.peer_qpn = qp.attr.dest_qpn;
  input.initial_psn = qp.attr.rq_psn;
  input.epoch = mig.epoch;
  input.mover_gid = place.gid;
  if (!token_good(c, input, mig.token)) return;
  if (mig.epoch <= std::max(qp.mig.own_epoch, qp.mig.successor_epoch)) {
    if (mig.epoch < qp.mig.successor_epoch || !qp.mig.redirects) {
      c.count(GODWIT_COUNTER_RESUME_STALE_EPOCH);
    }
    return;
  }
  qp.mig.redirects = true;
  qp.mig.successor_epoch = mig.epoch;
  qp.mig.successor = {place.gid, place.mac};
}

// What a tombstone that knows its successor answers. `packet` is a request or a RESUME of the peer.
void send_redirect(const Context& c, const wire::Packet& packet) {
  Qp& qp = c.qp;
  const wire::Redirect successor{qp.mig.successor.gid, qp.mig.successor.mac};
  TokenInput input;
  input.flags = wire::kMigRedirect | resume_flags(qp);
  input.mover_qpn = qp.qpn;
  input.peer_qpn = qp.attr.dest_qpn;
  input.initial_psn = qp.mig.entered_rts ? qp.attr.sq_psn : qp.attr.rq_psn;
  input.epoch = qp.mig.successor_epoch;
  input.mover_gid = successor.gid;
  input.mover_mac = successor.mac;
  wire::Headers h = headers(c, wire::kResume, qp.resp.expected);
  h.ack_request = true;
  h.aeth = {wire::kSyndromeAck, qp.resp.msn};
  h.mig.flags = input.flags;
  h.mig.epoch = input.epoch;
  h.mig.token = token(input);
  wire::Path path = path_to_peer(c);
  path.dgid = packet.path.sgid;
  path.dmac = packet.path.smac;
  wire::FrameBuilder frame(path, h, wire::kRedirectBytes);
  wire::put_redirect(successor, frame.payload());
  c.count(GODWIT_COUNTER_TX_REDIRECT);
  ++qp.mig.answered;
  transmit(c, frame, 0);
}

void on_resume_ack(const Context& c, const wire::Packet& packet) {
  Qp& qp = c.qp;
  const wire::MigEth& mig = packet.h.mig;
  c.count(GODWIT_COUNTER_RX_RESUME_ACK);
  const bool expected = packet.has_mig_eth && mig.version == wire::kMigVersion &&
                        packet.payload.empty() && qp.mig.resuming &&
                        mig.epoch == qp.mig.resume_epoch && mig.flags == resume_flags(qp) &&
                        mig.token == own_token(qp, TokenType::kResumeAck, mig.flags);
  if (!expected) {
    c.count(GODWIT_COUNTER_RESUME_ACK_UNEXPECTED);
    return;
  }
  qp.mig.resuming = false;
  qp.mig.resume_deadline = kOff;
  qp.mig.place_count = 0;
  back_to_una(c);
  c.ports.queues.event(qp, QpEvent::kResumed);
}

std::uint64_t shifted(std::uint64_t deadline, std::uint64_t by) {
  return deadline == kOff ? kOff : deadline + by;
}

}  // namespace

void on_nak_stopped(const Context& c, wire::Psn psn) {
  Qp& qp = c.qp;
  c.count(GODWIT_COUNTER_RX_NAK_STOPPED);
  // una <= psn <= highest sent + 1, and something to wait for.
  if (!c.ports.config.migration || !outstanding(qp) || qp.mig.resuming ||
      psn_distance(psn, qp.req.una) > psn_distance(qp.req.high, qp.req.una)) {
    c.count(GODWIT_COUNTER_NAK_STOPPED_IGNORED);
    return;
  }
  const bool first = !qp.mig.paused;
  qp.mig.paused = true;
  qp.req.rnr_deadline = kOff;
  if (c.ports.config.pause_limit_ns != 0) {
    qp.mig.pause_deadline = c.now + c.ports.config.pause_limit_ns;
  }
  if (first) {
    go_back(qp);
    arm_ack_timer(c);
    c.ports.queues.event(qp, QpEvent::kStatusChanged);
  }
}

void on_extension(const Context& c, const wire::Packet& packet) {
  if (!c.ports.config.migration) {
    c.count(GODWIT_COUNTER_RX_NO_QP);
    return;
  }
  if (packet.h.opcode == wire::kResume) {
    on_resume(c, packet);
  } else {
    on_resume_ack(c, packet);
  }
}

void answer_stopped(const Context& c, const wire::Packet& packet) {
  Qp& qp = c.qp;
  const wire::MigEth& mig = packet.h.mig;
  const bool resume = packet.h.opcode == wire::kResume;
  const bool with_mig = resume && packet.has_mig_eth;
  // Its own successor tells a tombstone where it is, and gets no answer.
  if (with_mig && (mig.flags & wire::kMigHome) != 0 && qp.mig.tombstone && qp.connected()) {
    on_home(c, packet);
    return;
  }
  // Answered: requests and RESUMEs of the peer, but no response, no HOME and no REDIRECT; and only
  // to a NIC with the extension: to a stock one the syndrome would be fatal, it meets silence and
  // its own retries.
  const bool of_tombstone = with_mig && (mig.flags & (wire::kMigHome | wire::kMigRedirect)) != 0;
  if ((packet.info().role != wire::Role::kRequest && !resume) || of_tombstone ||
      !packet.h.extended || !qp.connected()) {
    c.count(GODWIT_COUNTER_STOPPED_DROPS);
    return;
  }
  if (qp.mig.redirects) {
    // A request has come from the peer's address; a RESUME has to prove whose it is.
    std::uint32_t initial_psn = 0;
    if (resume && (!with_mig || rate_limited(c) ||
                   !peer_token_good(c, mig, {packet.path.sgid, {}}, &initial_psn))) {
      c.count(GODWIT_COUNTER_STOPPED_DROPS);
      return;
    }
    send_redirect(c, packet);
    return;
  }
  wire::Headers h = headers(c, wire::kAcknowledge, qp.resp.expected);
  h.aeth = {wire::kNakStopped, qp.resp.msn};
  wire::Path path = path_to_peer(c);
  path.dgid = packet.path.sgid;
  path.dmac = packet.path.smac;
  wire::FrameBuilder frame(path, h, 0);
  c.count(GODWIT_COUNTER_TX_NAK_STOPPED);
  if (qp.mig.tombstone) ++qp.mig.answered;
  transmit(c, frame, 0);
}

void on_resume_timer(const Context& c) {
  Qp& qp = c.qp;
  send_resume(c);
  qp.mig.resume_interval = std::min(qp.mig.resume_interval * 2, kResumeLongest);
  qp.mig.resume_deadline = c.now + qp.mig.resume_interval;
}

void on_pause_limit(const Context& c) {
  Qp& qp = c.qp;
  qp.mig.pause_deadline = kOff;
  if (!qp.mig.paused || !outstanding(qp)) return;
  c.count(GODWIT_COUNTER_PAUSE_LIMIT_EXCEEDED);
  enter_error(qp, c.ports, c.now, Fault::kPauseLimit);
}

StopResult stop(Qp& qp, Ports& ports, std::uint64_t now_ns) {
  Context c{qp, ports, now_ns};
  if (qp.mig.stopped) return StopResult::kOk;
  // The NAK that ends the connection is on its way, and its receive WQE complete: no way back.
  if (qp.resp.fatal != Fault::kNone) return StopResult::kFlushFirst;
  if (qp.attr.status == Status::kError) {
    if (!qp.mig.stop_wanted) {
      qp.mig.stop_wanted = true;
      qp.mig.stop_sq = qp.req.consumer;
      qp.mig.stop_rq = qp.resp.rq_consumer;
    }
    if (!flushed(c)) return StopResult::kFlushFirst;
    qp.mig.stop_wanted = false;
  }
  if (qp.mig.resuming && qp.mig.place_count == kMaxPlaces) return StopResult::kTooManyPlaces;
  qp.mig.stopped = true;
  qp.mig.stopped_at = now_ns;
  ports.queues.event(qp, QpEvent::kStatusChanged);
  return StopResult::kOk;
}

void unstop(Qp& qp, Ports& ports, std::uint64_t now_ns) {
  Context c{qp, ports, now_ns};
  if (!qp.mig.stopped || qp.mig.tombstone) return;
  qp.mig.stopped = false;
  const std::uint64_t slept = now_ns - qp.mig.stopped_at;
  qp.req.ack_deadline = shifted(qp.req.ack_deadline, slept);
  qp.req.rnr_deadline = shifted(qp.req.rnr_deadline, slept);
  qp.mig.pause_deadline = shifted(qp.mig.pause_deadline, slept);
  qp.mig.resume_deadline = shifted(qp.mig.resume_deadline, slept);
  const std::uint64_t rnr = qp.req.rnr_deadline;
  go_back(qp);
  qp.req.rnr_deadline = rnr;
  if (outstanding(qp) && rnr == kOff && qp.req.ack_deadline == kOff) arm_ack_timer(c);
  ports.queues.event(qp, QpEvent::kStatusChanged);
}

ResumeResult resume(Qp& qp, Ports& ports, std::uint64_t now_ns, std::uint32_t attempt, bool local) {
  Context c{qp, ports, now_ns};
  if (!qp.mig.stopped || !qp.mig.loaded) return ResumeResult::kBadState;
  if (attempt == 0 || attempt <= qp.mig.last_attempt) return ResumeResult::kBadAttempt;
  if (qp.mig.own_epoch > std::numeric_limits<std::uint32_t>::max() - attempt) {
    return ResumeResult::kEpochExhausted;
  }
  qp.mig.last_attempt = attempt;
  qp.mig.loaded = false;
  unstop(qp, ports, now_ns);
  if (!qp.connected()) return ResumeResult::kOk;
  qp.mig.own_epoch += attempt;
  qp.mig.resuming = false;
  qp.mig.resume_deadline = kOff;
  back_to_una(c);
  if (local || (!qp.mig.peer_extended && !ports.config.resume_unknown)) return ResumeResult::kOk;
  qp.mig.resuming = true;
  qp.mig.resume_epoch = qp.mig.own_epoch;
  qp.req.ack_deadline = kOff;
  qp.mig.resume_interval = qp.attr.timeout == 0 ? kResumeFirst
                                                : std::clamp(std::uint64_t{4096} << qp.attr.timeout,
                                                             4 * kMillisecond, kResumeFirst);
  send_resume(c);
  qp.mig.resume_deadline = now_ns + qp.mig.resume_interval;
  ports.queues.event(qp, QpEvent::kStatusChanged);
  return ResumeResult::kOk;
}

void make_tombstone(Qp& qp) {
  qp.mig.tombstone = true;
  qp.req.inflight_count = 0;
  qp.req.ack_deadline = qp.req.rnr_deadline = kOff;
  qp.mig.pause_deadline = qp.mig.resume_deadline = kOff;
  for (Slot& slot : qp.resp.slots) slot.in_progress = false;
  qp.resp.answer = Answer::kNone;
  // The wrong tokens of its life are not its own.
  qp.mig.bad_tokens = 0;
}

}  // namespace godwit::transport
