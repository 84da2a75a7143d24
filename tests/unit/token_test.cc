// SPDX-License-Identifier: GPL-2.0-or-later
//
// The test vectors of docs/spec/migration.md: another implementation must come to the same tokens.
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "transport/token.h"

namespace godwit::transport {
namespace {

wire::Gid ipv4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d) {
  return {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d};
}

TokenInput first() {
  TokenInput input;
  input.mover_qpn = 0x123456;
  input.peer_qpn = 0xabcdef;
  input.initial_psn = 0x000102;
  input.epoch = 1;
  input.mover_gid = ipv4(10, 77, 1, 1);
  return input;
}

TEST(TokenVectors, Resume) { EXPECT_EQ(token(first()), 0xb0aecc8129de6c74U); }

TEST(TokenVectors, ResumeAck) {
  TokenInput input = first();
  input.type = TokenType::kResumeAck;
  EXPECT_EQ(token(input), 0xaaf3f13ebbcd44ecU);
}

TEST(TokenVectors, FromRtr) {
  TokenInput input = first();
  input.flags = wire::kMigRtr;
  input.initial_psn = 0xfffffe;
  EXPECT_EQ(token(input), 0x6e2722643627c193U);
}

TEST(TokenVectors, OtherDirection) {
  TokenInput input = first();
  std::swap(input.mover_qpn, input.peer_qpn);
  EXPECT_EQ(token(input), 0xeede877308bcb5e0U);
}

TEST(TokenVectors, Ipv6AndLastEpoch) {
  TokenInput input = first();
  input.epoch = 0xffffffff;
  input.mover_gid = {0xfd, 0x67, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1};
  EXPECT_EQ(token(input), 0xa96c08344e179fb2U);
}

// The MAC of a REDIRECT is signed too.
TEST(TokenVectors, Redirect) {
  TokenInput input = first();
  input.flags = wire::kMigRedirect;
  input.epoch = 2;
  input.mover_gid = ipv4(10, 77, 1, 3);
  input.mover_mac = {0x52, 0x54, 0x00, 0x67, 0x01, 0x03};
  EXPECT_EQ(token(input), 0xe4d16c07f814bc24U);
  input.mover_mac[5] = 4;
  EXPECT_NE(token(input), 0xe4d16c07f814bc24U);
  input.flags = 0;
  const std::uint64_t of_resume = token(input);
  input.mover_mac = {};
  EXPECT_EQ(token(input), of_resume);
}

// The example frame there, byte by byte.
TEST(TokenVectors, ResumeAsAFrame) {
  wire::Path path;
  path.ipv4 = true;
  path.smac = {0x52, 0x54, 0x00, 0x67, 0x01, 0x01};
  path.dmac = {0x52, 0x54, 0x00, 0x67, 0x01, 0x02};
  path.sgid = ipv4(10, 77, 1, 1);
  path.dgid = ipv4(10, 77, 1, 2);
  path.udp_source_port = 0xc000;
  path.hop_limit = 64;
  wire::Headers h;
  h.opcode = wire::kResume;
  h.dest_qpn = 0xabcdef;
  h.psn = 0x000110;
  h.ack_request = h.extended = true;
  h.aeth = {wire::kSyndromeAck, 7};
  h.mig.epoch = 1;
  h.mig.token = token(first());
  const std::vector<std::uint8_t> want = {
      0x52, 0x54, 0x00, 0x67, 0x01, 0x02, 0x52, 0x54, 0x00, 0x67, 0x01, 0x01, 0x08,
      0x00, 0x45, 0x00, 0x00, 0x40, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x24, 0x11,
      0x0a, 0x4d, 0x01, 0x01, 0x0a, 0x4d, 0x01, 0x02, 0xc0, 0x00, 0x12, 0xb7, 0x00,
      0x2c, 0x00, 0x00, 0x19, 0x40, 0xff, 0xff, 0x00, 0xab, 0xcd, 0xef, 0xc0, 0x00,
      0x01, 0x10, 0x1f, 0x00, 0x00, 0x07, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
      0x01, 0xb0, 0xae, 0xcc, 0x81, 0x29, 0xde, 0x6c, 0x74, 0x14, 0x4c, 0x41, 0xd5};
  wire::FrameBuilder builder(path, h, 0);
  const auto made = builder.finish();
  EXPECT_EQ(std::vector<std::uint8_t>(made.begin(), made.end()), want);
}

}  // namespace
}  // namespace godwit::transport
