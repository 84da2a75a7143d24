// SPDX-License-Identifier: GPL-2.0-or-later
//
// Frames in and out: to a QP, to the Ethernet function, or back into this NIC.
#include <cstring>

#include "device/device.h"

namespace godwit::device {
namespace {

constexpr std::size_t kEthernetHeader = 14;

}  // namespace

// Addressed to one of our GIDs, at the MAC that has it.
bool Device::is_local(std::span<const std::uint8_t> frame, const wire::Gid& dgid) const {
  for (const std::uint16_t index : valid_gids_) {
    const transport::GidEntry& entry = gids_[index];
    if (entry.gid == dgid && std::memcmp(entry.mac.data(), frame.data(), 6) == 0) return true;
  }
  return false;
}

const transport::GidEntry* Device::gid(std::uint16_t index) const {
  return index < gids_.size() && gids_[index].valid ? &gids_[index] : nullptr;
}

void Device::receive_frame(std::uint64_t now_ns, std::span<const std::uint8_t> frame) {
  set_now(now_ns);
  if (!running()) return;
  if (frame.size() < kEthernetHeader) {
    count(GODWIT_COUNTER_RX_MALFORMED);
    return;
  }
  wire::Gid dgid;
  if (wire::roce_destination(frame, &dgid) && is_local(frame, dgid)) {
    wire::Packet packet;
    switch (wire::parse(frame, &packet)) {
      case wire::Parse::kOk:
        receive_packet(packet);
        break;
      case wire::Parse::kNotRoce:
        deliver(frame);
        break;
      case wire::Parse::kMalformed:
        count(GODWIT_COUNTER_RX_MALFORMED);
        break;
      case wire::Parse::kBadIcrc:
        count(GODWIT_COUNTER_RX_ICRC_ENCAPSULATED);
        break;
    }
  } else {
    deliver(frame);
  }
  flush_events();
  flush_interrupts();
}

void Device::receive_packet(const wire::Packet& packet) {
  count(GODWIT_COUNTER_RX_RDMA_PACKETS);
  count(GODWIT_COUNTER_RX_RDMA_BYTES, packet.payload.size());
  QueuePair* qp = packet_qp(packet.h.dest_qpn);
  if (qp == nullptr) {
    count(GODWIT_COUNTER_RX_NO_QP);
    trace(GODWIT_TRACE_RX_DROP, packet.h.dest_qpn, packet.h.opcode, GODWIT_COUNTER_RX_NO_QP,
          packet.h.psn);
    return;
  }
  trace(GODWIT_TRACE_PACKET_RX, packet.h.dest_qpn, packet.h.opcode, packet.h.psn,
        packet.payload.size());
  transport::on_packet(*qp, ports_, now_ns_, packet);
  touch(*qp);
  schedule(*qp);
  kick();
}

// While a container moves here, its address is ours already and its QPs are still elsewhere: what a
// QP of this NIC sends to them goes there.
bool Device::has_live_qp(std::uint32_t qpn) {
  const QueuePair* qp = packet_qp(qpn);
  return qp != nullptr && qp->attr.status != transport::Status::kReset;
}

void Device::send_frame(std::span<const std::uint8_t> frame) {
  const wire::Summary packet = wire::summary(frame);
  trace(GODWIT_TRACE_PACKET_TX, packet.dest_qpn, packet.opcode, packet.psn, packet.payload_bytes);
  wire::Gid dgid;
  if (wire::roce_destination(frame, &dgid) && is_local(frame, dgid) &&
      has_live_qp(packet.dest_qpn)) {
    // Full only if a QP sent more than its turn allows: lost, as on a wire.
    if (loopback_count_ == kLoopbackSlots || frame.size() > wire::kMaxFrame) return;
    const std::size_t slot = (loopback_head_ + loopback_count_++) % kLoopbackSlots;
    std::memcpy(loopback_.get() + slot * wire::kMaxFrame, frame.data(), frame.size());
    loopback_length_[slot] = static_cast<std::uint16_t>(frame.size());
    return;
  }
  to_wire(frame);
}

void Device::to_wire(std::span<const std::uint8_t> frame) {
  if (!link_up_) return;
  if (!ops_.send_frame(ops_.opaque, frame.data(), frame.size())) {
    wire_busy_until_ns_ = now_ns_ + kWireBusyNs;
  }
}

// What was there at the beginning of this call; what it causes waits for the next one.
bool Device::run_loopback() {
  for (std::size_t n = loopback_count_; n > 0; --n) {
    const std::size_t slot = loopback_head_;
    loopback_head_ = (loopback_head_ + 1) % kLoopbackSlots;
    --loopback_count_;
    wire::Packet packet;
    const std::span<const std::uint8_t> frame(loopback_.get() + slot * wire::kMaxFrame,
                                              loopback_length_[slot]);
    if (wire::parse(frame, &packet) == wire::Parse::kOk) receive_packet(packet);
  }
  return loopback_count_ != 0;
}

}  // namespace godwit::device
