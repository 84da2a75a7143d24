// SPDX-License-Identifier: GPL-2.0-or-later
#include "wire/packet.h"

#include <algorithm>
#include <cstring>

#include "wire/icrc.h"

namespace godwit::wire {
namespace {

constexpr std::size_t kEthBytes = 14;
constexpr std::size_t kUdpBytes = 8;
constexpr std::size_t kBthBytes = 12;
constexpr std::size_t kIcrcBytes = 4;
constexpr std::uint8_t kBthExtended = 0x40;
constexpr std::uint8_t kBthAckRequest = 0x80;
// MigReq: the path is the primary one. Some NICs refuse packets without it.
constexpr std::uint8_t kBthMigrated = 0x40;

constexpr Gid kIpv4Prefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0};

template <typename T>
T get(const std::uint8_t* p) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>((value << 8) | p[i]);
  return value;
}
std::uint32_t get24(const std::uint8_t* p) {
  return static_cast<std::uint32_t>(p[0]) << 16 | static_cast<std::uint32_t>(p[1]) << 8 | p[2];
}

template <typename T>
void put(std::uint8_t* p, T value) {
  for (std::size_t i = sizeof(T); i-- > 0;) {
    p[i] = static_cast<std::uint8_t>(value);
    value = static_cast<T>(value >> 4 >> 4);
  }
}
void put24(std::uint8_t* p, std::uint32_t value) {
  p[0] = static_cast<std::uint8_t>(value >> 16);
  p[1] = static_cast<std::uint8_t>(value >> 8);
  p[2] = static_cast<std::uint8_t>(value);
}

std::uint16_t ipv4_checksum(const std::uint8_t* ip) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < 20; i += 2) sum += get<std::uint16_t>(ip + i);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}

// What lies where in a frame that looks like RoCEv2.
struct Layout {
  bool ipv4 = false;
  std::size_t ip_bytes = 0;
  std::size_t udp_end = 0;  // of the IP packet, from the beginning of the frame
};

bool find_layout(std::span<const std::uint8_t> frame, Layout* layout) {
  if (frame.size() < kEthBytes + 20 + kUdpBytes) return false;
  const std::uint8_t* ip = frame.data() + kEthBytes;
  const std::uint16_t ether_type = get<std::uint16_t>(frame.data() + 12);
  if (ether_type == 0x0800) {
    // No options and no fragments: IBTA A17 forbids both for RoCEv2.
    if (ip[0] != 0x45 || ip[9] != 17 || (get<std::uint16_t>(ip + 6) & 0x3fff) != 0) return false;
    *layout = {true, 20, kEthBytes + get<std::uint16_t>(ip + 2)};
  } else if (ether_type == 0x86dd) {
    if (frame.size() < kEthBytes + 40 + kUdpBytes || ip[0] >> 4 != 6 || ip[6] != 17) return false;
    *layout = {false, 40, kEthBytes + 40U + get<std::uint16_t>(ip + 4)};
  } else {
    return false;
  }
  return get<std::uint16_t>(ip + layout->ip_bytes + 2) == kUdpPort;
}

Gid get_gid(const std::uint8_t* ip, bool ipv4, bool source) {
  Gid gid;
  if (ipv4) {
    gid = kIpv4Prefix;
    std::copy_n(ip + (source ? 12 : 16), 4, gid.begin() + 12);
  } else {
    std::copy_n(ip + (source ? 8 : 24), 16, gid.begin());
  }
  return gid;
}

Path get_path(std::span<const std::uint8_t> frame, const Layout& layout) {
  const std::uint8_t* ip = frame.data() + kEthBytes;
  Path path;
  path.ipv4 = layout.ipv4;
  std::copy_n(frame.begin(), 6, path.dmac.begin());
  std::copy_n(frame.begin() + 6, 6, path.smac.begin());
  path.sgid = get_gid(ip, layout.ipv4, true);
  path.dgid = get_gid(ip, layout.ipv4, false);
  path.udp_source_port = get<std::uint16_t>(ip + layout.ip_bytes);
  if (layout.ipv4) {
    path.traffic_class = ip[1];
    path.hop_limit = ip[8];
    path.flow_label = 0;
  } else {
    path.traffic_class = static_cast<std::uint8_t>(get<std::uint16_t>(ip) >> 4);
    path.hop_limit = ip[7];
    path.flow_label = get<std::uint32_t>(ip) & 0xfffff;
  }
  return path;
}

// All that may stand between BTH and payload. Returns its end.
const std::uint8_t* get_extended_headers(const std::uint8_t* p, const OpcodeInfo& info,
                                         bool mig_eth, Headers* h) {
  if (info.reth) {
    h->va = get<std::uint64_t>(p);
    h->rkey = get<std::uint32_t>(p + 8);
    h->length = get<std::uint32_t>(p + 12);
    p += 16;
  }
  if (info.atomic_eth) {
    h->va = get<std::uint64_t>(p);
    h->rkey = get<std::uint32_t>(p + 8);
    h->swap_add = get<std::uint64_t>(p + 12);
    h->compare = get<std::uint64_t>(p + 20);
    p += 28;
  }
  if (info.aeth) {
    h->aeth.syndrome = p[0];
    h->aeth.msn = get24(p + 1);
    p += 4;
  }
  if (info.atomic_ack_eth) {
    h->atomic_original = get<std::uint64_t>(p);
    p += 8;
  }
  if (info.immediate) {
    std::memcpy(&h->immediate_be, p, 4);
    p += 4;
  }
  if (mig_eth) {
    h->mig.version = p[0];
    h->mig.flags = p[1];
    h->mig.reserved = get<std::uint16_t>(p + 2);
    h->mig.epoch = get<std::uint32_t>(p + 4);
    h->mig.token = get<std::uint64_t>(p + 8);
    p += 16;
  }
  return p;
}

}  // namespace

void put_redirect(const Redirect& redirect, std::span<std::uint8_t> bytes) {
  std::copy(redirect.gid.begin(), redirect.gid.end(), bytes.begin());
  std::copy(redirect.mac.begin(), redirect.mac.end(), bytes.begin() + 16);
  std::fill_n(bytes.begin() + 22, 2, std::uint8_t{0});
}

bool get_redirect(std::span<const std::uint8_t> bytes, Redirect* redirect) {
  if (bytes.size() != kRedirectBytes || bytes[22] != 0 || bytes[23] != 0) return false;
  std::copy_n(bytes.begin(), 16, redirect->gid.begin());
  std::copy_n(bytes.begin() + 16, 6, redirect->mac.begin());
  return true;
}

bool roce_destination(std::span<const std::uint8_t> frame, Gid* dgid) {
  Layout layout;
  if (!find_layout(frame, &layout)) return false;
  *dgid = get_gid(frame.data() + kEthBytes, layout.ipv4, false);
  return true;
}

Parse parse(std::span<const std::uint8_t> frame, Packet* packet) {
  Layout layout;
  if (!find_layout(frame, &layout)) return Parse::kNotRoce;
  const std::size_t bth_offset = kEthBytes + layout.ip_bytes + kUdpBytes;
  if (layout.udp_end > frame.size() || layout.udp_end < bth_offset + kBthBytes + kIcrcBytes) {
    return Parse::kMalformed;
  }
  const std::uint8_t* udp = frame.data() + kEthBytes + layout.ip_bytes;
  if (get<std::uint16_t>(udp + 4) != layout.udp_end - kEthBytes - layout.ip_bytes) {
    return Parse::kMalformed;
  }
  const std::uint8_t* icrc_bytes = frame.data() + layout.udp_end - kIcrcBytes;
  const std::uint32_t want =
      icrc(frame.subspan(kEthBytes, layout.udp_end - kEthBytes - kIcrcBytes), layout.ip_bytes);
  std::uint32_t got;
  std::memcpy(&got, icrc_bytes, sizeof(got));  // little-endian on the wire
  if (got != want) return Parse::kBadIcrc;
  packet->path = get_path(frame, layout);

  const std::uint8_t* bth = frame.data() + bth_offset;
  Headers& h = packet->h;
  h = Headers{};
  h.opcode = bth[0];
  h.solicited = (bth[1] & 0x80) != 0;
  const std::size_t pad = (bth[1] >> 4) & 3;
  if ((bth[1] & 0x0f) != 0) return Parse::kMalformed;  // transport header version
  h.pkey = get<std::uint16_t>(bth + 2);
  h.dest_qpn = get24(bth + 5);
  h.ack_request = (bth[8] & kBthAckRequest) != 0;
  h.extended = (bth[8] & kBthExtended) != 0;
  h.psn = get24(bth + 9);

  const OpcodeInfo& info = kOpcodes[h.opcode];
  if (info.role == Role::kNone) return Parse::kMalformed;
  const std::uint8_t* p = bth + kBthBytes;
  std::size_t left = static_cast<std::size_t>(icrc_bytes - p);
  packet->has_mig_eth = info.mig_eth;
  if (info.role == Role::kExtension && left == 4) {
    packet->has_mig_eth = false;
  } else if (left < info.header_bytes()) {
    return Parse::kMalformed;
  }
  const std::uint8_t* const payload = get_extended_headers(p, info, packet->has_mig_eth, &h);
  left -= static_cast<std::size_t>(payload - p);
  if (left < pad) return Parse::kMalformed;
  left -= pad;
  if (left > kMaxPayload) return Parse::kMalformed;
  if (!info.payload && info.role != Role::kExtension && left != 0) return Parse::kMalformed;
  packet->payload = {payload, left};
  return Parse::kOk;
}

Summary summary(std::span<const std::uint8_t> frame) {
  Layout layout;
  if (!find_layout(frame, &layout)) return {};
  const std::uint8_t* bth = frame.data() + kEthBytes + layout.ip_bytes + kUdpBytes;
  Summary out;
  out.opcode = bth[0];
  out.dest_qpn = get24(bth + 5);
  out.psn = get24(bth + 9);
  const auto begin = static_cast<std::size_t>(bth + kBthBytes - frame.data());
  out.payload_bytes = layout.udp_end - begin - kOpcodes[out.opcode].header_bytes() - kIcrcBytes -
                      ((bth[1] >> 4) & 3);
  return out;
}

FrameBuilder::FrameBuilder(const Path& path, const Headers& h, std::size_t payload_bytes)
    : ip_bytes_(path.ipv4 ? 20 : 40), payload_bytes_(payload_bytes) {
  const OpcodeInfo& info = kOpcodes[h.opcode];
  const std::size_t pad = (4 - payload_bytes % 4) % 4;
  const std::size_t udp_bytes =
      kUdpBytes + kBthBytes + info.header_bytes() + payload_bytes + pad + kIcrcBytes;
  std::uint8_t* p = frame_.data();
  std::copy(path.dmac.begin(), path.dmac.end(), p);
  std::copy(path.smac.begin(), path.smac.end(), p + 6);
  put<std::uint16_t>(p + 12, path.ipv4 ? 0x0800 : 0x86dd);
  p += kEthBytes;
  if (path.ipv4) {
    p[0] = 0x45;
    p[1] = path.traffic_class;
    put<std::uint16_t>(p + 2, static_cast<std::uint16_t>(20 + udp_bytes));
    put<std::uint16_t>(p + 4, 0);
    put<std::uint16_t>(p + 6, 0x4000);  // do not fragment
    p[8] = path.hop_limit;
    p[9] = 17;
    put<std::uint16_t>(p + 10, 0);
    std::copy_n(path.sgid.begin() + 12, 4, p + 12);
    std::copy_n(path.dgid.begin() + 12, 4, p + 16);
    put<std::uint16_t>(p + 10, ipv4_checksum(p));
  } else {
    put<std::uint32_t>(p, 0x60000000U | static_cast<std::uint32_t>(path.traffic_class) << 20 |
                              (path.flow_label & 0xfffff));
    put<std::uint16_t>(p + 4, static_cast<std::uint16_t>(udp_bytes));
    p[6] = 17;
    p[7] = path.hop_limit;
    std::copy(path.sgid.begin(), path.sgid.end(), p + 8);
    std::copy(path.dgid.begin(), path.dgid.end(), p + 24);
  }
  p += ip_bytes_;
  put<std::uint16_t>(p, path.udp_source_port);
  put<std::uint16_t>(p + 2, kUdpPort);
  put<std::uint16_t>(p + 4, static_cast<std::uint16_t>(udp_bytes));
  put<std::uint16_t>(p + 6, 0);
  p += kUdpBytes;
  p[0] = h.opcode;
  p[1] = static_cast<std::uint8_t>((h.solicited ? 0x80U : 0U) | kBthMigrated | (pad << 4));
  put<std::uint16_t>(p + 2, h.pkey);
  p[4] = 0;
  put24(p + 5, h.dest_qpn);
  p[8] = static_cast<std::uint8_t>((h.ack_request ? kBthAckRequest : 0U) |
                                   (h.extended ? kBthExtended : 0U));
  put24(p + 9, h.psn);
  p += kBthBytes;
  if (info.reth) {
    put<std::uint64_t>(p, h.va);
    put<std::uint32_t>(p + 8, h.rkey);
    put<std::uint32_t>(p + 12, h.length);
    p += 16;
  }
  if (info.atomic_eth) {
    put<std::uint64_t>(p, h.va);
    put<std::uint32_t>(p + 8, h.rkey);
    put<std::uint64_t>(p + 12, h.swap_add);
    put<std::uint64_t>(p + 20, h.compare);
    p += 28;
  }
  if (info.aeth) {
    p[0] = h.aeth.syndrome;
    put24(p + 1, h.aeth.msn);
    p += 4;
  }
  if (info.atomic_ack_eth) {
    put<std::uint64_t>(p, h.atomic_original);
    p += 8;
  }
  if (info.immediate) {
    std::memcpy(p, &h.immediate_be, 4);
    p += 4;
  }
  if (info.mig_eth) {
    p[0] = h.mig.version;
    p[1] = h.mig.flags;
    put<std::uint16_t>(p + 2, 0);
    put<std::uint32_t>(p + 4, h.mig.epoch);
    put<std::uint64_t>(p + 8, h.mig.token);
    p += 16;
  }
  payload_offset_ = static_cast<std::size_t>(p - frame_.data());
  std::fill_n(p + payload_bytes, pad, std::uint8_t{0});
}

std::span<const std::uint8_t> FrameBuilder::finish() {
  std::size_t end = payload_offset_ + (payload_bytes_ + 3) / 4 * 4;
  const std::uint32_t crc = icrc({frame_.data() + kEthBytes, end - kEthBytes}, ip_bytes_);
  std::memcpy(frame_.data() + end, &crc, 4);
  end += kIcrcBytes;
  for (; end < 60; ++end) frame_[end] = 0;  // the shortest Ethernet frame
  return {frame_.data(), end};
}

}  // namespace godwit::wire
