// SPDX-License-Identifier: GPL-2.0-or-later
//
// BAR 0, enable and reset.
#include <algorithm>

#include "device/device.h"

namespace godwit::device {
namespace {

constexpr std::uint64_t kRingMask = ~std::uint64_t{63};

std::uint64_t with_low(std::uint64_t value, std::uint32_t low) {
  return ((value & ~std::uint64_t{UINT32_MAX}) | low) & kRingMask;
}
std::uint64_t with_high(std::uint64_t value, std::uint32_t high) {
  return (value & UINT32_MAX) | std::uint64_t{high} << 32;
}

}  // namespace

std::uint64_t Device::register_read(std::uint64_t offset, unsigned size) {
  const bool word = size == 4 && offset % 4 == 0;
  const bool pair = size == 8 && offset % 8 == 0;
  if (offset >= GODWIT_BAR_REGS_SIZE || !(word || pair)) {
    bad_register(offset, size, false, 0);
    return 0;
  }
  const auto at = static_cast<std::uint32_t>(offset);
  const std::uint64_t low = read_word(at);
  return word ? low : low | std::uint64_t{read_word(at + 4)} << 32;
}

void Device::register_write(std::uint64_t offset, std::uint64_t value, unsigned size) {
  const bool word = size == 4 && offset % 4 == 0;
  const bool pair = size == 8 && offset % 8 == 0;
  if (offset >= GODWIT_BAR_REGS_SIZE || !(word || pair)) {
    bad_register(offset, size, true, value);
    return;
  }
  const auto at = static_cast<std::uint32_t>(offset);
  write_word(at, static_cast<std::uint32_t>(value));
  if (pair) write_word(at + 4, static_cast<std::uint32_t>(value >> 32));
}

std::uint32_t Device::read_word(std::uint32_t offset) {
  switch (offset) {
    case GODWIT_REG_ID:
      return GODWIT_ID_VALUE;
    case GODWIT_REG_VERSION:
      return GODWIT_ABI_MAJOR << 16 | GODWIT_ABI_MINOR;
    case GODWIT_REG_CONTROL:
      return enabled_ ? GODWIT_CONTROL_ENABLE_MASK : 0;
    case GODWIT_REG_STATUS:
      return (running() ? GODWIT_STATUS_ENABLED_MASK : 0) |
             (link_up_ ? GODWIT_STATUS_LINK_UP_MASK : 0) |
             (fatal_cause_ != GODWIT_FATAL_NONE ? GODWIT_STATUS_FATAL_MASK : 0);
    case GODWIT_REG_MAC_LO:
      return config_.mac[0] | config_.mac[1] << 8 | config_.mac[2] << 16 |
             static_cast<std::uint32_t>(config_.mac[3]) << 24;
    case GODWIT_REG_MAC_HI:
      return config_.mac[4] | config_.mac[5] << 8;
    case GODWIT_REG_FATAL_CAUSE:
      return fatal_cause_;
    case GODWIT_REG_DOORBELL_PAGES:
      return config_.doorbell_pages;
    case GODWIT_REG_CMD_SQ_LO:
      return static_cast<std::uint32_t>(cmd_sq_);
    case GODWIT_REG_CMD_SQ_HI:
      return static_cast<std::uint32_t>(cmd_sq_ >> 32);
    case GODWIT_REG_CMD_CQ_LO:
      return static_cast<std::uint32_t>(cmd_cq_);
    case GODWIT_REG_CMD_CQ_HI:
      return static_cast<std::uint32_t>(cmd_cq_ >> 32);
    case GODWIT_REG_CMD_LOG2_DEPTH:
      return cmd_log2_depth_;
    case GODWIT_REG_CMD_DOORBELL:
      return 0;
    case GODWIT_REG_CMD_INTERRUPT:
      return cmd_interrupt_ ? 1 : 0;
    case GODWIT_REG_VECTORS:
      return config_.vectors;
    case GODWIT_REG_SCRATCH:
      return scratch_;
    case GODWIT_REG_BAD_ACCESSES:
      return bad_accesses_;
    default:
      bad_register(offset, 4, false, 0);
      return 0;
  }
}

void Device::write_word(std::uint32_t offset, std::uint32_t value) {
  switch (offset) {
    case GODWIT_REG_CONTROL:
      write_control(value);
      return;
    // The rings are fixed while the device is enabled.
    case GODWIT_REG_CMD_SQ_LO:
      if (!enabled_) cmd_sq_ = with_low(cmd_sq_, value);
      return;
    case GODWIT_REG_CMD_SQ_HI:
      if (!enabled_) cmd_sq_ = with_high(cmd_sq_, value);
      return;
    case GODWIT_REG_CMD_CQ_LO:
      if (!enabled_) cmd_cq_ = with_low(cmd_cq_, value);
      return;
    case GODWIT_REG_CMD_CQ_HI:
      if (!enabled_) cmd_cq_ = with_high(cmd_cq_, value);
      return;
    case GODWIT_REG_CMD_LOG2_DEPTH:
      if (!enabled_ && value <= kMaxLog2CommandDepth) cmd_log2_depth_ = value;
      return;
    case GODWIT_REG_CMD_DOORBELL:
      if (!running()) return;
      cmd_producer_ = value;
      kick();
      return;
    case GODWIT_REG_CMD_INTERRUPT:
      cmd_interrupt_ = (value & 1) != 0;
      return;
    case GODWIT_REG_SCRATCH:
      scratch_ = value;
      return;
    case GODWIT_REG_ID:
    case GODWIT_REG_VERSION:
    case GODWIT_REG_STATUS:
    case GODWIT_REG_MAC_LO:
    case GODWIT_REG_MAC_HI:
    case GODWIT_REG_FATAL_CAUSE:
    case GODWIT_REG_DOORBELL_PAGES:
    case GODWIT_REG_VECTORS:
    case GODWIT_REG_BAD_ACCESSES:
      return;  // read-only
    default:
      bad_register(offset, 4, true, value);
      return;
  }
}

void Device::write_control(std::uint32_t value) {
  const bool enable = (value & GODWIT_CONTROL_ENABLE_MASK) != 0;
  if ((value & GODWIT_CONTROL_RESET_MASK) != 0 || (enabled_ && !enable)) {
    reset();
    return;
  }
  enabled_ = enable;
}

void Device::bad_register(std::uint64_t offset, unsigned size, bool is_write, std::uint64_t value) {
  if (bad_accesses_ != UINT32_MAX) ++bad_accesses_;
  trace(GODWIT_TRACE_BAD_REGISTER, offset, size, is_write ? 1 : 0, value);
}

// The device stops; only a reset helps. The driver learns of it by the register and, if that can
// still be written, by an event.
void Device::fatal(std::uint32_t cause) {
  if (fatal_cause_ != GODWIT_FATAL_NONE) return;
  trace(GODWIT_TRACE_FATAL, cause);
  if (cause != GODWIT_FATAL_EQ_DMA) {
    post_event(0, GODWIT_EQE_FATAL, 0, cause);
  }
  fatal_cause_ = cause;
  // The driver's handler of the control vector reads STATUS.
  interrupt(GODWIT_VECTOR_CONTROL);
}

// Random numbers go on: QPNs of before a reset are not given out again in the same order, so that
// late packets meet nobody.
void Device::reset() {
  trace(GODWIT_TRACE_RESET);
  clear_state();
}

void Device::clear_state() {
  enabled_ = false;
  kicked_ = false;
  fatal_cause_ = GODWIT_FATAL_NONE;
  cmd_sq_ = cmd_cq_ = 0;
  cmd_log2_depth_ = 0;
  cmd_interrupt_ = false;
  scratch_ = bad_accesses_ = 0;
  cmd_producer_ = cmd_consumer_ = 0;
  halves_.assign(config_.doorbell_pages, HalfDoorbell());

  events_due_ = port_event_due_ = false;
  listed_cqs_.clear();
  listed_qps_.clear();
  timers_.clear();
  ready_head_ = ready_tail_ = nullptr;
  qpns_.clear();
  qps_.clear();
  reservations_.clear();
  reservation_deadline_ns_ = GODWIT_NO_DEADLINE;
  tombstones_ = 0;
  cqs_.clear();
  pds_.clear();
  regions_ = 0;
  for (auto& eq : eqs_) eq.reset();
  std::fill(uctxs_.begin(), uctxs_.end(), Uctx());
  uctxs_[0].used = true;
  page_budget_.used = 0;
  std::fill(gids_.begin(), gids_.end(), transport::GidEntry());
  valid_gids_.clear();
  mac_filter_ = {};

  interrupts_ = 0;
  loopback_head_ = loopback_count_ = 0;
  wire_busy_until_ns_ = 0;
  eth_ = {};
  counters_.fill(0);
}

}  // namespace godwit::device
