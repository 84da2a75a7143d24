// SPDX-License-Identifier: GPL-2.0-or-later
//
// Everything that can go wrong with a work request or a packet, and the one
// table that says what follows: AETH syndrome, completion status, QP state
// (IBTA 9.9, docs/spec/transport.md).
#ifndef GODWIT_TRANSPORT_FAULT_H
#define GODWIT_TRANSPORT_FAULT_H

#include <cstdint>

namespace godwit::transport {

enum class Fault : std::uint8_t {
  kNone = 0,
  // requester, local
  kLocalQpOperation,  // malformed WQE, opcode not possible on this QP
  kLocalLength,       // message too long; receive buffer too short
  kLocalProtection,   // L_Key, bounds, rights of an SGE
  kLocalDma,          // guest memory not reachable
  // requester, by the peer's NAK or silence
  kRemoteInvalidRequest,
  kRemoteAccess,
  kRemoteOperational,
  kRetryExceeded,
  kRnrRetryExceeded,
  kPauseLimit,  // completes as retry exceeded
  kBadResponse,
  // responder
  kInvalidRequest,      // answered with NAK invalid request
  kRemoteAccessDenied,  // answered with NAK remote access error
  kResponderOperational,
  kReceiveTooShort,    // recv completes with local length error, NAK invalid request
  kReceiveProtection,  // recv SGE: local protection error, NAK remote operational error
  // both
  kFlushed,
  kCqOverflow,
};

// Status of the completion: a value of GODWIT_CQE_* (abi/godwit_queue.h).
[[nodiscard]] std::uint8_t completion_status(Fault fault);

}  // namespace godwit::transport

#endif  // GODWIT_TRANSPORT_FAULT_H
