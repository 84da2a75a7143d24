// SPDX-License-Identifier: GPL-2.0-or-later
//
// Who may move a QP: SipHash-2-4 over what a RESUME says, keyed with what both
// ends know (docs/spec/migration.md).
#ifndef GODWIT_TRANSPORT_TOKEN_H
#define GODWIT_TRANSPORT_TOKEN_H

#include <array>
#include <cstdint>
#include <span>

#include "wire/packet.h"

namespace godwit::transport {

using SipKey = std::array<std::uint8_t, 16>;

// Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012.
[[nodiscard]] std::uint64_t siphash(const SipKey& key, std::span<const std::uint8_t> message);

enum class TokenType : std::uint8_t { kResume = 1, kResumeAck = 2 };

struct TokenInput {
  TokenType type = TokenType::kResume;
  std::uint8_t flags = 0;  // of the RESUME
  std::uint32_t mover_qpn = 0;
  std::uint32_t peer_qpn = 0;
  std::uint32_t initial_psn = 0;  // mover's send PSN, or its receive PSN with flag RTR
  std::uint32_t epoch = 0;
  wire::Gid mover_gid{};
  wire::Mac mover_mac{};  // of a REDIRECT only
};

[[nodiscard]] std::uint64_t token(const TokenInput& input);

}  // namespace godwit::transport

#endif  // GODWIT_TRANSPORT_TOKEN_H
