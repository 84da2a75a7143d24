// SPDX-License-Identifier: GPL-2.0-or-later
//
// The transport's entry points: one function per event that a QP can meet. The
// device owns the QPs and calls these; all state is in `Qp` (transport/qp.h).
#ifndef GODWIT_TRANSPORT_TRANSPORT_H
#define GODWIT_TRANSPORT_TRANSPORT_H

#include <cstdint>

#include "transport/ports.h"
#include "transport/qp.h"
#include "wire/packet.h"

namespace godwit::transport {

// MODIFY_QP: checks the transition (IBTA 10.3.1, ib_modify_qp_is_ok) and every attribute, then
// changes all or nothing.
enum class ModifyResult : std::uint8_t { kOk, kBadState, kBadParameter };
[[nodiscard]] ModifyResult modify_qp(Qp& qp, Ports& ports, std::uint64_t now_ns,
                                     const QpAttributes& attributes, std::uint32_t mask);

// New send WQEs may be there: `producer` as the doorbell or the record said, already checked
// against the queue's depth.
void on_send_posted(Qp& qp, std::uint16_t producer);

// A packet for this QP: ICRC, opcode, lengths and pad are good; the destination QPN is its.
void on_packet(Qp& qp, Ports& ports, std::uint64_t now_ns, const wire::Packet& packet);

// Sends what may be sent, completes, flushes; at most `budget` packets or completions. True if
// there is more to do now.
[[nodiscard]] bool run(Qp& qp, Ports& ports, std::uint64_t now_ns, unsigned budget);

// The QP is about to go, or to answer no more: what it has completed is acknowledged first. Else a
// peer whose last message was taken would learn of it only that nobody answers.
void acknowledge_now(Qp& qp, Ports& ports, std::uint64_t now_ns);

// Timers that have expired.
void on_timer(Qp& qp, Ports& ports, std::uint64_t now_ns);
[[nodiscard]] std::uint64_t next_deadline(const Qp& qp);  // kOff: none

// The device found its CQ or queue memory broken, or the driver asks for it.
void enter_error(Qp& qp, Ports& ports, std::uint64_t now_ns, Fault fault);

// Migration, docs/spec/migration.md. STOP of a QP in Error first flushes (bounded: by run()).
enum class StopResult : std::uint8_t { kOk, kFlushFirst, kTooManyPlaces };
[[nodiscard]] StopResult stop(Qp& qp, Ports& ports, std::uint64_t now_ns);
void unstop(Qp& qp, Ports& ports, std::uint64_t now_ns);
enum class ResumeResult : std::uint8_t { kOk, kBadState, kBadAttempt, kEpochExhausted };
// `local`: both ends are in one image; starts without RESUME.
[[nodiscard]] ResumeResult resume(Qp& qp, Ports& ports, std::uint64_t now_ns, std::uint32_t attempt,
                                  bool local);
// Forgets queues and memory; from now on only NAK_STOPPED is answered.
void make_tombstone(Qp& qp);

}  // namespace godwit::transport

#endif  // GODWIT_TRANSPORT_TRANSPORT_H
