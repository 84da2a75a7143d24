// SPDX-License-Identifier: GPL-2.0-or-later
//
// The C interface, construction, and the way to the host.
#include "device/device.h"

#include <new>

namespace godwit::device {
namespace {

constexpr std::uint64_t kMillisecond = 1'000'000;

transport::TransportConfig transport_config(const godwit_device_config& config) {
  transport::TransportConfig out;
  out.migration = config.migration;
  out.resume_unknown = config.resume_unknown;
  out.bare_resume = config.bare_resume;
  out.pause_limit_ns = config.pause_limit_ms * kMillisecond;
  out.max_rd_atomic = config.max_rd_atomic;
  return out;
}

}  // namespace

Device::Device(const godwit_device_config& config, const godwit_host_ops& ops)
    : config_(config),
      ops_(ops),
      transport_config_(transport_config(config)),
      ports_{*this, *this, *this, transport_config_},
      eqs_(config.vectors),
      uctxs_(config.doorbell_pages),
      gids_(kGidEntries),
      loopback_(std::make_unique_for_overwrite<std::uint8_t[]>(kLoopbackSlots * wire::kMaxFrame)),
      eth_frame_(GODWIT_ETH_MAX_FRAME) {
  page_budget_.limit = config.max_mr_pages;
  random_.state = config.seed;
  // Two devices with one seed (a lab) shall not draw the same QPNs.
  for (const std::uint8_t byte : config.mac) random_.state = random_.next() ^ byte;
  timers_.reserve(config.max_qp + config.max_tombstones);
  valid_gids_.reserve(kGidEntries);
  clear_state();
}

Device::~Device() = default;

bool Device::read(std::uint64_t addr, void* to, std::size_t length) {
  if (ops_.dma_read(ops_.opaque, addr, to, length) == 0) return true;
  count(GODWIT_COUNTER_DMA_ERRORS);
  trace(GODWIT_TRACE_DMA_ERROR, addr, length, 0);
  return false;
}

bool Device::write(std::uint64_t addr, const void* from, std::size_t length) {
  if (ops_.dma_write(ops_.opaque, addr, from, length) == 0) return true;
  count(GODWIT_COUNTER_DMA_ERRORS);
  trace(GODWIT_TRACE_DMA_ERROR, addr, length, 1);
  return false;
}

}  // namespace godwit::device

struct godwit_device {
  godwit_device(const godwit_device_config& config, const godwit_host_ops& ops)
      : machine(config, ops) {}
  godwit::device::Device machine;
};

extern "C" {

void godwit_device_default_config(godwit_device_config* config) {
  static constexpr std::uint8_t kMac[6] = {0x52, 0x54, 0x00, 0x67, 0x00, 0x01};
  *config = {};
  for (unsigned i = 0; i < sizeof(kMac); ++i) config->mac[i] = kMac[i];
  config->vectors = 10;
  config->doorbell_pages = 512;
  config->max_pd = 4096;
  config->max_mr = 65536;
  config->max_cq = 8192;
  config->max_qp = 8192;
  config->max_qp_wr = 16384;
  config->log2_max_cqe = 20;
  config->max_rd_atomic = 16;
  config->max_mr_pages = 4u << 20;
  config->max_tombstones = 4096;
  config->seed = 1;
  config->pause_limit_ms = 60'000;
  config->tombstone_ttl_ms = 60'000;
  config->migration = true;
  config->atomics = true;
}

const char* godwit_device_check_config(const godwit_device_config* config) {
  const auto power_of_two = [](std::uint32_t n) { return n != 0 && (n & (n - 1)) == 0; };
  if ((config->mac[0] & 1) != 0) return "the MAC address is a multicast address";
  if (config->vectors < 3 || config->vectors > 64) return "vectors must be 3 to 64";
  if (!power_of_two(config->doorbell_pages) || config->doorbell_pages < 2 ||
      config->doorbell_pages > 4096) {
    return "doorbell-pages must be a power of two from 2 to 4096";
  }
  if (config->max_pd == 0 || config->max_pd > 1u << 20) return "max-pd must be 1 to 1048576";
  if (config->max_mr == 0 || config->max_mr > 1u << 22) return "max-mr must be 1 to 4194304";
  if (config->max_cq == 0 || config->max_cq > 1u << 20) return "max-cq must be 1 to 1048576";
  if (config->max_qp == 0 || config->max_qp > 1u << 20) return "max-qp must be 1 to 1048576";
  if (!power_of_two(config->max_qp_wr) || config->max_qp_wr > 32768) {
    return "max-qp-wr must be a power of two, at most 32768";
  }
  if (config->log2_max_cqe > 22) return "log2-max-cqe must be at most 22";
  if (config->max_rd_atomic < 1 || config->max_rd_atomic > GODWIT_STATE_MAX_RD_ATOMIC) {
    return "max-rd-atomic must be 1 to 16";
  }
  if (config->max_mr_pages == 0 || config->max_mr_pages > 1u << 28) {
    return "max-mr-pages must be 1 to 268435456";
  }
  if (config->max_tombstones > 1u << 20) return "max-tombstones must be at most 1048576";
  return nullptr;
}

godwit_device* godwit_device_new(const godwit_device_config* config, const godwit_host_ops* ops) {
  if (godwit_device_check_config(config) != nullptr) return nullptr;
  return new (std::nothrow) godwit_device(*config, *ops);
}

void godwit_device_free(godwit_device* device) { delete device; }

void godwit_device_reset(godwit_device* device) { device->machine.reset(); }

std::uint64_t godwit_device_register_read(godwit_device* device, std::uint64_t offset,
                                          unsigned size) {
  return device->machine.register_read(offset, size);
}

void godwit_device_register_write(godwit_device* device, std::uint64_t offset, std::uint64_t value,
                                  unsigned size) {
  device->machine.register_write(offset, value, size);
}

void godwit_device_doorbell_write(godwit_device* device, std::uint64_t offset, std::uint64_t value,
                                  unsigned size) {
  device->machine.doorbell_write(offset, value, size);
}

void godwit_device_receive_frame(godwit_device* device, std::uint64_t now_ns,
                                 const std::uint8_t* frame, std::size_t length) {
  device->machine.receive_frame(now_ns, {frame, length});
}

void godwit_device_set_link(godwit_device* device, bool up) { device->machine.set_link(up); }

void godwit_device_wire_ready(godwit_device* device) { device->machine.wire_ready(); }

bool godwit_device_run(godwit_device* device, std::uint64_t now_ns) {
  return device->machine.run(now_ns, godwit::device::kWholeShare);
}

bool godwit_device_run_briefly(godwit_device* device, std::uint64_t now_ns) {
  return device->machine.run(now_ns, godwit::device::kBriefShare);
}

std::uint64_t godwit_device_next_deadline(const godwit_device* device) {
  return device->machine.next_deadline();
}

std::size_t godwit_device_save(godwit_device* device, std::uint64_t now_ns, void* buffer,
                               std::size_t room) {
  return device->machine.save(now_ns, {static_cast<std::uint8_t*>(buffer), room});
}

const char* godwit_device_load(godwit_device* device, std::uint64_t now_ns, const void* buffer,
                               std::size_t length) {
  return device->machine.load(now_ns, {static_cast<const std::uint8_t*>(buffer), length});
}

std::uint64_t godwit_device_counter(const godwit_device* device, unsigned index) {
  return device->machine.counter(index);
}

}  // extern "C"
