// SPDX-License-Identifier: GPL-2.0-or-later
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "wire/icrc.h"
#include "wire/packet.h"

namespace godwit::wire {
namespace {

std::vector<std::uint8_t> bytes(const char* hex) {
  std::vector<std::uint8_t> out;
  for (; hex[0] != 0 && hex[1] != 0; hex += 2) {
    const char pair[3] = {hex[0], hex[1], 0};
    out.push_back(static_cast<std::uint8_t>(strtoul(pair, nullptr, 16)));
  }
  return out;
}

// Made by scapy's RoCE layer: SEND only, 8 bytes, over IPv4.
constexpr const char* kScapyFrame =
    "525400670002525400670001080045000034000040004011261d0a4d00010a4d0002c00012b700200000"
    "0400ffff00abcdef80123456676f647769742121300e344c";

// The same with MigReq set, as we send it (IBTA 17.2.8); the ICRC is zlib's.
constexpr const char* kOwnFrame =
    "525400670002525400670001080045000034000040004011261d0a4d00010a4d0002c00012b700200000"
    "0440ffff00abcdef80123456676f64776974212118e23c01";

TEST(Packet, ReadsWhatScapyMade) {
  Packet packet;
  const auto frame = bytes(kScapyFrame);
  ASSERT_EQ(parse(frame, &packet), Parse::kOk);
  EXPECT_EQ(packet.h.opcode, kSendOnly);
  EXPECT_EQ(packet.h.dest_qpn, 0xabcdefU);
  EXPECT_EQ(packet.h.psn, 0x123456U);
  EXPECT_TRUE(packet.h.ack_request);
  EXPECT_FALSE(packet.h.extended);
  EXPECT_EQ(std::string(packet.payload.begin(), packet.payload.end()), "godwit!!");
}

TEST(Packet, BuildsWhatScapyMakesButMigrated) {
  Path path;
  path.ipv4 = true;
  path.sgid = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 77, 0, 1};
  path.dgid = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 77, 0, 2};
  path.smac = {0x52, 0x54, 0, 0x67, 0, 1};
  path.dmac = {0x52, 0x54, 0, 0x67, 0, 2};
  path.udp_source_port = 0xc000;
  Headers h;
  h.opcode = kSendOnly;
  h.dest_qpn = 0xabcdef;
  h.psn = 0x123456;
  h.ack_request = true;
  FrameBuilder builder(path, h, 8);
  const std::string text = "godwit!!";
  std::copy(text.begin(), text.end(), builder.payload().begin());
  const auto frame = builder.finish();
  EXPECT_EQ(std::vector<std::uint8_t>(frame.begin(), frame.end()), bytes(kOwnFrame));
}

TEST(Packet, EveryOpcodeSurvivesTheWire) {
  for (const bool ipv4 : {true, false}) {
    for (unsigned opcode = 0; opcode < 256; ++opcode) {
      const OpcodeInfo& info = kOpcodes[opcode];
      if (info.role == Role::kNone) continue;
      for (const std::size_t size : {0, 1, 2, 3, 4, 4095, 4096}) {
        if (!info.payload && size != 0) continue;
        Path path;
        path.ipv4 = ipv4;
        path.sgid = path.dgid = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4};
        if (!ipv4) path.sgid[0] = path.dgid[0] = 0xfd;
        Headers h;
        h.opcode = static_cast<std::uint8_t>(opcode);
        h.extended = true;
        h.solicited = true;
        h.dest_qpn = 0x10203;
        h.psn = 0xfffffe;
        h.va = 0x1122334455667788;
        h.rkey = 0xdeadbeef;
        h.length = 0x100;
        h.swap_add = 7;
        h.compare = 9;
        h.aeth = {kNakStopped, 0xabcdef};
        h.atomic_original = 0x8877665544332211;
        h.immediate_be = 0x01020304;
        h.mig.epoch = 5;
        h.mig.token = 0x0123456789abcdef;
        FrameBuilder builder(path, h, size);
        for (auto& byte : builder.payload()) byte = 0x5a;
        Packet packet;
        ASSERT_EQ(parse(builder.finish(), &packet), Parse::kOk) << opcode << " " << size;
        EXPECT_EQ(packet.h.opcode, opcode);
        EXPECT_EQ(packet.path.sgid, path.sgid);
        EXPECT_EQ(packet.payload.size(), size);
        EXPECT_TRUE(packet.h.extended);
        if (info.reth || info.atomic_eth) {
          EXPECT_EQ(packet.h.va, h.va);
        }
        if (info.aeth) {
          EXPECT_EQ(packet.h.aeth.msn, h.aeth.msn);
        }
        if (info.atomic_ack_eth) {
          EXPECT_EQ(packet.h.atomic_original, h.atomic_original);
        }
        if (info.immediate) {
          EXPECT_EQ(packet.h.immediate_be, h.immediate_be);
        }
        if (info.mig_eth) {
          EXPECT_EQ(packet.h.mig.token, h.mig.token);
        }
      }
    }
  }
}

TEST(Packet, RedirectNamesAPlace) {
  const Redirect place = {{0xfd, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
                          {2, 0, 0, 0, 0, 9}};
  Headers h;
  h.opcode = kResume;
  h.mig.flags = kMigRedirect;
  FrameBuilder frame({}, h, kRedirectBytes);
  put_redirect(place, frame.payload());
  Packet packet;
  ASSERT_EQ(parse(frame.finish(), &packet), Parse::kOk);
  EXPECT_EQ(packet.h.mig.flags, kMigRedirect);
  Redirect got;
  ASSERT_TRUE(get_redirect(packet.payload, &got));
  EXPECT_EQ(got.gid, place.gid);
  EXPECT_EQ(got.mac, place.mac);
  EXPECT_FALSE(get_redirect(packet.payload.first(23), &got));
  EXPECT_FALSE(get_redirect({}, &got));
  frame.payload()[22] = 1;
  EXPECT_FALSE(get_redirect(packet.payload, &got));
}

TEST(Packet, AnyFlippedBitIsNoticedOrInvariant) {
  const auto good = bytes(kScapyFrame);
  // From the BTH on, without its FECN/BECN byte, everything is under the ICRC.
  for (std::size_t at = 42; at < good.size(); ++at) {
    if (at == 42 + 4) continue;
    for (int bit = 0; bit < 8; ++bit) {
      auto frame = good;
      frame[at] ^= static_cast<std::uint8_t>(1 << bit);
      Packet packet;
      EXPECT_NE(parse(frame, &packet), Parse::kOk) << at;
    }
  }
}

TEST(Packet, AnyBytesAreSafe) {
  std::mt19937 random(1);
  const auto good = bytes(kScapyFrame);
  for (int i = 0; i < 100000; ++i) {
    auto frame = good;
    frame.resize(random() % (good.size() + 1));
    for (unsigned n = random() % 4; n > 0 && !frame.empty(); --n) {
      frame[random() % frame.size()] = static_cast<std::uint8_t>(random());
    }
    // Exactly as long as the frame, so that the sanitizer sees a byte too far.
    const std::vector<std::uint8_t> tight(frame);
    Packet packet;
    (void)parse(tight, &packet);
  }
}

TEST(Icrc, CheckValueOfCrc32) {
  const std::string digits = "123456789";
  EXPECT_EQ(~crc32(~0U, {reinterpret_cast<const std::uint8_t*>(digits.data()), 9}), 0xcbf43926U);
  std::vector<std::uint8_t> many(1000);
  for (std::size_t i = 0; i < many.size(); ++i) many[i] = static_cast<std::uint8_t>(i * 7);
  std::uint32_t one = ~0U;
  for (const auto& byte : many) one = crc32(one, {&byte, 1});
  EXPECT_EQ(crc32(~0U, many), one);
}

TEST(Psn, Circle) {
  EXPECT_TRUE(psn_before(0xffffff, 0));
  EXPECT_FALSE(psn_before(0, 0xffffff));
  EXPECT_TRUE(psn_in(0, 0xfffffe, 2));
  EXPECT_FALSE(psn_in(2, 0xfffffe, 2));
}

}  // namespace
}  // namespace godwit::wire
