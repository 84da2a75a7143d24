// SPDX-License-Identifier: GPL-2.0-or-later
//
// The Ethernet function: descriptor rings, for everything that is not RDMA.
#include <algorithm>
#include <cstring>

#include "device/commands.h"
#include "wire/endian.h"

namespace godwit::device {
namespace {

using wire::from_le;
using wire::le32;
using wire::le64;

constexpr std::uint32_t kEthernetHeader = 14;
constexpr std::size_t kStatusWord = 8;  // offset of the 8 bytes that end with the status

struct StatusWord {
  godwit_le32 length;
  godwit_u8 flags;
  godwit_u8 reserved[2];
  godwit_u8 status;
};
static_assert(sizeof(StatusWord) == 8);
static_assert(offsetof(godwit_eth_desc, length) == kStatusWord);
static_assert(offsetof(godwit_eth_desc, status) == kStatusWord + offsetof(StatusWord, status));

}  // namespace

Reply Device::cmd_set_eth_rings(const std::uint8_t* params) {
  using In = godwit_cmd_set_eth_rings;
  const In in = copy<In>(params);
  const std::uint32_t enable = from_le(in.enable);
  const std::uint64_t tx = from_le(in.tx_ring);
  const std::uint64_t rx = from_le(in.rx_ring);
  if (enable > 1) return bad(offsetof(In, enable));
  if (from_le(in.reserved_30) != 0) return bad(offsetof(In, reserved_30));
  if (enable == 0) {
    if (in.log2_tx != 0 || in.log2_rx != 0 || tx != 0 || rx != 0) {
      return bad(offsetof(In, log2_tx));
    }
    eth_ = {};
    return {};
  }
  if (eth_.enabled) return bad_state();
  if (in.log2_tx < 4 || in.log2_tx > 12) return bad(offsetof(In, log2_tx));
  if (in.log2_rx < 4 || in.log2_rx > 12) return bad(offsetof(In, log2_rx));
  if (tx % 64 != 0) return bad(offsetof(In, tx_ring));
  if (rx % 64 != 0) return bad(offsetof(In, rx_ring));
  eth_ = {};
  eth_.enabled = true;
  eth_.log2_tx = in.log2_tx;
  eth_.log2_rx = in.log2_rx;
  eth_.tx_ring = tx;
  eth_.rx_ring = rx;
  return {};
}

Reply Device::cmd_set_eth_filter(const std::uint8_t* params) {
  using In = godwit_cmd_set_eth_filter;
  const In in = copy<In>(params);
  const std::uint32_t entries = from_le(in.count);
  const std::uint32_t flags = from_le(in.flags);
  if (entries > kMacFilters) return bad(offsetof(In, count));
  if ((flags & ~std::uint32_t{GODWIT_ETH_PROMISC_MASK | GODWIT_ETH_ALLMULTI_MASK}) != 0) {
    return bad(offsetof(In, flags));
  }
  std::array<std::array<std::uint8_t, 8>, kMacFilters> list;
  if (entries > 0 && !read(from_le(in.addr), list.data(), entries * sizeof(list[0]))) {
    return Reply::fail(GODWIT_CMD_STATUS_DMA_ERROR, offsetof(In, addr));
  }
  mac_filter_.flags = flags;
  mac_filter_.list.resize(entries);
  for (std::size_t i = 0; i < entries; ++i) {
    std::copy_n(list[i].begin(), 6, mac_filter_.list[i].begin());
  }
  return {};
}

// True: there is more.
bool Device::run_transmit(unsigned descriptors) {
  if (!eth_.enabled) return false;
  for (unsigned n = 0; n < descriptors && eth_.tx_consumer != eth_.tx_producer && !wire_busy();
       ++n) {
    transmit_descriptor();
  }
  if (eth_.tx_armed && eth_.tx_unseen) {
    eth_.tx_armed = eth_.tx_unseen = false;
    interrupt(GODWIT_VECTOR_ETH);
  }
  return eth_.tx_consumer != eth_.tx_producer && !wire_busy();
}

// A buffer is copied and given back at once; the frame leaves with its last one.
void Device::transmit_descriptor() {
  const std::uint32_t mask = (std::uint32_t{1} << eth_.log2_tx) - 1;
  const std::uint64_t at =
      eth_.tx_ring + std::uint64_t{eth_.tx_consumer & mask} * sizeof(godwit_eth_desc);
  ++eth_.tx_consumer;
  godwit_eth_desc desc;
  if (!read(at, &desc, sizeof(desc))) {
    count(GODWIT_COUNTER_ETH_TX_ERRORS);
    eth_.frame_bad = true;
    return;
  }
  const std::uint32_t length = from_le(desc.length);
  if (eth_.frame_bad || length == 0 || length > GODWIT_ETH_MAX_FRAME - eth_.gathered ||
      (desc.flags & ~GODWIT_ETH_TX_EOP_MASK) != 0 ||
      !read(from_le(desc.addr), eth_frame_.data() + eth_.gathered, length)) {
    eth_.frame_bad = true;
  } else {
    eth_.gathered += length;
  }
  if ((desc.flags & GODWIT_ETH_TX_EOP_MASK) != 0) {
    if (eth_.gathered < kEthernetHeader) eth_.frame_bad = true;
    if (!eth_.frame_bad) {
      count(GODWIT_COUNTER_ETH_TX_FRAMES);
      count(GODWIT_COUNTER_ETH_TX_BYTES, eth_.gathered);
      to_wire({eth_frame_.data(), eth_.gathered});
    }
  }
  StatusWord done = {};
  done.length = desc.length;
  done.status = GODWIT_ETH_DONE_MASK | (eth_.frame_bad ? GODWIT_ETH_TX_ERROR_MASK : 0);
  if (eth_.frame_bad) count(GODWIT_COUNTER_ETH_TX_ERRORS);
  if (write(at + kStatusWord, &done, sizeof(done))) eth_.tx_unseen = true;
  if ((desc.flags & GODWIT_ETH_TX_EOP_MASK) != 0) {
    eth_.gathered = 0;
    eth_.frame_bad = false;
  }
}

void Device::deliver(std::span<const std::uint8_t> frame) {
  const bool own = std::memcmp(frame.data(), config_.mac, 6) == 0;
  if (!own && !mac_filter_.passes(frame.data())) {
    count(GODWIT_COUNTER_ETH_RX_FILTERED);
    return;
  }
  if (!eth_.enabled || eth_.rx_consumer == eth_.rx_producer) {
    count(GODWIT_COUNTER_ETH_RX_NO_DESC);
    return;
  }
  const std::uint32_t mask = (std::uint32_t{1} << eth_.log2_rx) - 1;
  const std::uint64_t at =
      eth_.rx_ring + std::uint64_t{eth_.rx_consumer & mask} * sizeof(godwit_eth_desc);
  ++eth_.rx_consumer;
  godwit_eth_desc desc;
  if (!read(at, &desc, sizeof(desc))) return;
  const std::size_t length = std::min<std::size_t>(from_le(desc.length), frame.size());
  StatusWord done = {};
  done.length = le32(static_cast<std::uint32_t>(length));
  done.status = GODWIT_ETH_DONE_MASK | (length < frame.size() ? GODWIT_ETH_RX_ERROR_MASK : 0);
  if (!write(from_le(desc.addr), frame.data(), length)) {
    done.length = le32(0);
    done.status = GODWIT_ETH_DONE_MASK | GODWIT_ETH_RX_ERROR_MASK;
  } else {
    count(GODWIT_COUNTER_ETH_RX_FRAMES);
    count(GODWIT_COUNTER_ETH_RX_BYTES, length);
  }
  if (!write(at + kStatusWord, &done, sizeof(done))) return;
  eth_.rx_unseen = true;
  if (eth_.rx_armed) {
    eth_.rx_armed = eth_.rx_unseen = false;
    interrupt(GODWIT_VECTOR_ETH);
  }
}

}  // namespace godwit::device
