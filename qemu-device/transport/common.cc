// SPDX-License-Identifier: GPL-2.0-or-later
//
// Building and sending packets of a QP.
#include <algorithm>
#include <array>

#include "transport/internal.h"

namespace godwit::transport {

// ::ffff:a.b.c.d
bool is_ipv4(const wire::Gid& gid) {
  static constexpr std::array<std::uint8_t, 12> kPrefix = {0, 0, 0, 0, 0,    0,
                                                           0, 0, 0, 0, 0xff, 0xff};
  return std::equal(kPrefix.begin(), kPrefix.end(), gid.begin());
}

wire::Path path_to_peer(const Context& c) {
  const QpAttributes& attr = c.qp.attr;
  wire::Path path;
  path.ipv4 = c.qp.own_ipv4;
  path.sgid = c.qp.own.gid;
  path.smac = c.qp.own.mac;
  path.dgid = attr.dgid;
  path.dmac = attr.dmac;
  path.udp_source_port = attr.udp_source_port;
  path.traffic_class = attr.traffic_class;
  path.hop_limit = attr.hop_limit;
  path.flow_label = attr.flow_label;
  return path;
}

wire::Headers headers(const Context& c, std::uint8_t opcode, wire::Psn psn) {
  wire::Headers h;
  h.opcode = opcode;
  h.extended = c.ports.config.migration;
  h.dest_qpn = c.qp.attr.dest_qpn;
  h.psn = psn;
  return h;
}

void transmit(const Context& c, wire::FrameBuilder& frame, std::uint32_t payload_bytes) {
  ++c.qp.stats.tx_packets;
  c.qp.stats.tx_bytes += payload_bytes;
  c.count(GODWIT_COUNTER_TX_RDMA_PACKETS);
  c.count(GODWIT_COUNTER_TX_RDMA_BYTES, payload_bytes);
  c.ports.link.send_frame(frame.finish());
}

}  // namespace godwit::transport
