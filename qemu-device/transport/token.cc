// SPDX-License-Identifier: GPL-2.0-or-later
#include "transport/token.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace godwit::transport {
namespace {

struct State {
  std::uint64_t v0, v1, v2, v3;

  void round() {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  }
};

std::uint64_t little(const std::uint8_t* p, std::size_t n) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < n; ++i) value |= std::uint64_t{p[i]} << (8 * i);
  return value;
}

void big(std::uint8_t* p, std::uint32_t value) {
  for (int i = 0; i < 4; ++i) p[i] = static_cast<std::uint8_t>(value >> (24 - 8 * i));
}

}  // namespace

std::uint64_t siphash(const SipKey& key, std::span<const std::uint8_t> message) {
  const std::uint64_t k0 = little(key.data(), 8);
  const std::uint64_t k1 = little(key.data() + 8, 8);
  State s{k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261,
          k1 ^ 0x7465646279746573};
  const std::size_t whole = message.size() / 8 * 8;
  for (std::size_t i = 0; i < whole; i += 8) {
    const std::uint64_t m = little(message.data() + i, 8);
    s.v3 ^= m;
    s.round();
    s.round();
    s.v0 ^= m;
  }
  const std::uint64_t last = little(message.data() + whole, message.size() - whole) |
                             std::uint64_t{message.size() & 0xff} << 56;
  s.v3 ^= last;
  s.round();
  s.round();
  s.v0 ^= last;
  s.v2 ^= 0xff;
  for (int i = 0; i < 4; ++i) s.round();
  return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

std::uint64_t token(const TokenInput& input) {
  SipKey key{};
  big(key.data(), input.mover_qpn);
  big(key.data() + 4, input.peer_qpn);
  big(key.data() + 8, input.initial_psn);
  // Of a REDIRECT the MAC is in the packet, not of the packet: it is signed as well.
  const bool redirect = (input.flags & wire::kMigRedirect) != 0;
  std::array<std::uint8_t, 40> message{};
  message[0] = static_cast<std::uint8_t>(input.type);
  message[1] = input.flags;
  big(message.data() + 4, input.mover_qpn);
  big(message.data() + 8, input.peer_qpn);
  big(message.data() + 12, input.epoch);
  std::copy(input.mover_gid.begin(), input.mover_gid.end(), message.begin() + 16);
  std::copy(input.mover_mac.begin(), input.mover_mac.end(), message.begin() + 32);
  return siphash(key, {message.data(), redirect ? message.size() : std::size_t{32}});
}

}  // namespace godwit::transport
