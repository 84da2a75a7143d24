// SPDX-License-Identifier: GPL-2.0-or-later
//
// RoCEv2 frames: bytes to headers and back. No state.
#ifndef GODWIT_WIRE_PACKET_H
#define GODWIT_WIRE_PACKET_H

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "wire/opcode.h"
#include "wire/psn.h"

namespace godwit::wire {

using Gid = std::array<std::uint8_t, 16>;
using Mac = std::array<std::uint8_t, 6>;

inline constexpr std::uint16_t kUdpPort = 4791;
inline constexpr std::uint16_t kDefaultPkey = 0xffff;
inline constexpr std::size_t kMaxPayload = 4096;
// Ethernet, IPv6, UDP, BTH, the longest extension (MigETH and a redirect), payload, ICRC.
inline constexpr std::size_t kMaxFrame = 14 + 40 + 8 + 12 + 48 + kMaxPayload + 4;

// Where a packet comes from and goes to.
struct Path {
  bool ipv4 = false;
  Gid sgid{};
  Gid dgid{};
  Mac smac{};
  Mac dmac{};
  std::uint16_t udp_source_port = 0;
  std::uint8_t traffic_class = 0;
  std::uint8_t hop_limit = 64;
  std::uint32_t flow_label = 0;
};

// AETH syndromes (IBTA 9.7.5.1.1); kNakStopped is MigrOS's.
inline constexpr std::uint8_t kSyndromeAck = 0x1f;  // no end-to-end credits
inline constexpr std::uint8_t kSyndromeRnr = 0x20;  // | timer code
inline constexpr std::uint8_t kNakSequence = 0x60;
inline constexpr std::uint8_t kNakInvalidRequest = 0x61;
inline constexpr std::uint8_t kNakRemoteAccess = 0x62;
inline constexpr std::uint8_t kNakRemoteOperational = 0x63;
inline constexpr std::uint8_t kNakStopped = 0x65;

struct Aeth {
  std::uint8_t syndrome = 0;
  std::uint32_t msn = 0;
};

inline constexpr std::uint8_t kMigVersion = 1;
inline constexpr std::uint8_t kMigRedirect = 0x01;
inline constexpr std::uint8_t kMigHome = 0x02;
inline constexpr std::uint8_t kMigRtr = 0x04;
struct MigEth {
  std::uint8_t version = kMigVersion;
  std::uint8_t flags = 0;
  std::uint16_t reserved = 0;
  std::uint32_t epoch = 0;
  std::uint64_t token = 0;
};

// Behind the MigETH of a REDIRECT: where the mover is now.
inline constexpr std::size_t kRedirectBytes = 24;
struct Redirect {
  Gid gid{};
  Mac mac{};
};
void put_redirect(const Redirect& redirect, std::span<std::uint8_t> bytes);
// False if it is not one: length, reserved bytes.
[[nodiscard]] bool get_redirect(std::span<const std::uint8_t> bytes, Redirect* redirect);

struct Headers {
  std::uint8_t opcode = 0;
  bool solicited = false;
  bool ack_request = false;
  bool extended = false;  // the sender knows the migration extension
  std::uint16_t pkey = kDefaultPkey;
  std::uint32_t dest_qpn = 0;
  Psn psn = 0;
  // as the opcode says
  std::uint64_t va = 0;  // RETH, AtomicETH
  std::uint32_t rkey = 0;
  std::uint32_t length = 0;  // RETH
  std::uint64_t swap_add = 0;
  std::uint64_t compare = 0;
  Aeth aeth;
  std::uint64_t atomic_original = 0;
  std::uint32_t immediate_be = 0;
  MigEth mig;
};

struct Packet {
  Path path;
  Headers h;
  bool has_mig_eth = true;                // a MigrOS RESUME has none
  std::span<const std::uint8_t> payload;  // in the frame, without pad

  [[nodiscard]] const OpcodeInfo& info() const { return kOpcodes[h.opcode]; }
};

enum class Parse : std::uint8_t {
  kOk,
  kNotRoce,    // some other frame
  kMalformed,  // lengths, pad, version, unknown opcode
  kBadIcrc,
};
[[nodiscard]] Parse parse(std::span<const std::uint8_t> frame, Packet* packet);

// Only the destination: false if the frame is not RoCEv2.
[[nodiscard]] bool roce_destination(std::span<const std::uint8_t> frame, Gid* dgid);

// What a log says about a frame that FrameBuilder has made.
struct Summary {
  std::uint8_t opcode = 0;
  std::uint32_t dest_qpn = 0;
  Psn psn = 0;
  std::size_t payload_bytes = 0;
};
[[nodiscard]] Summary summary(std::span<const std::uint8_t> frame);

// Builds one frame in place: headers first, then the payload is filled in by the
// caller, then finish().
class FrameBuilder {
 public:
  FrameBuilder(const Path& path, const Headers& headers, std::size_t payload_bytes);
  [[nodiscard]] std::span<std::uint8_t> payload() {
    return {frame_.data() + payload_offset_, payload_bytes_};
  }
  [[nodiscard]] std::span<const std::uint8_t> finish();

 private:
  std::array<std::uint8_t, kMaxFrame> frame_;
  std::size_t ip_bytes_;
  std::size_t payload_offset_;
  std::size_t payload_bytes_;
};

}  // namespace godwit::wire

#endif  // GODWIT_WIRE_PACKET_H
