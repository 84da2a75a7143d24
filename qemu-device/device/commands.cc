// SPDX-License-Identifier: GPL-2.0-or-later
//
// The command ring: one row per command. A command is read once, into a copy.
#include <cstring>

#include "device/commands.h"
#include "wire/endian.h"

namespace godwit::device {

using wire::all_zero;
using wire::from_le;
using wire::le16;
using wire::le32;
using wire::le64;

struct Device::CommandRow {
  std::uint8_t opcode;
  std::uint8_t params_bytes;  // what follows in `params` must be zero
  bool migration;             // part of the extension
  Handler handler;
};

const Device::CommandRow* Device::command_row(std::uint8_t opcode) {
  static constexpr CommandRow kRows[] = {
      {GODWIT_CMD_NOP, 0, false, &Device::cmd_nop},
      {GODWIT_CMD_QUERY_DEVICE, sizeof(godwit_cmd_mailbox), false, &Device::cmd_query_device},
      {GODWIT_CMD_CREATE_EQ, sizeof(godwit_cmd_create_eq), false, &Device::cmd_create_eq},
      {GODWIT_CMD_DESTROY_EQ, sizeof(godwit_cmd_number), false, &Device::cmd_destroy_eq},
      {GODWIT_CMD_CREATE_UCTX, sizeof(godwit_cmd_number), false, &Device::cmd_create_uctx},
      {GODWIT_CMD_DESTROY_UCTX, sizeof(godwit_cmd_number), false, &Device::cmd_destroy_uctx},
      {GODWIT_CMD_SET_GID, sizeof(godwit_cmd_set_gid), false, &Device::cmd_set_gid},
      {GODWIT_CMD_QUERY_COUNTERS, sizeof(godwit_cmd_mailbox), false, &Device::cmd_query_counters},
      {GODWIT_CMD_CREATE_PD, sizeof(godwit_cmd_object), false, &Device::cmd_create_pd},
      {GODWIT_CMD_DESTROY_PD, sizeof(godwit_cmd_object), false, &Device::cmd_destroy_pd},
      {GODWIT_CMD_REG_MR, sizeof(godwit_cmd_reg_mr), false, &Device::cmd_reg_mr},
      {GODWIT_CMD_DEREG_MR, sizeof(godwit_cmd_dereg_mr), false, &Device::cmd_dereg_mr},
      {GODWIT_CMD_CREATE_CQ, sizeof(godwit_cmd_create_cq), false, &Device::cmd_create_cq},
      {GODWIT_CMD_DESTROY_CQ, sizeof(godwit_cmd_object), false, &Device::cmd_destroy_cq},
      {GODWIT_CMD_CREATE_QP, sizeof(godwit_cmd_mailbox), false, &Device::cmd_create_qp},
      {GODWIT_CMD_MODIFY_QP, sizeof(godwit_cmd_mailbox), false, &Device::cmd_modify_qp},
      {GODWIT_CMD_QUERY_QP, sizeof(godwit_cmd_qp_mailbox), false, &Device::cmd_query_qp},
      {GODWIT_CMD_DESTROY_QP, sizeof(godwit_cmd_number), false, &Device::cmd_destroy_qp},
      {GODWIT_CMD_SET_ETH_RINGS, sizeof(godwit_cmd_set_eth_rings), false,
       &Device::cmd_set_eth_rings},
      {GODWIT_CMD_SET_ETH_FILTER, sizeof(godwit_cmd_set_eth_filter), false,
       &Device::cmd_set_eth_filter},
      {GODWIT_CMD_STOP, sizeof(godwit_cmd_scope), true, &Device::cmd_stop},
      {GODWIT_CMD_UNSTOP, sizeof(godwit_cmd_scope), true, &Device::cmd_unstop},
      {GODWIT_CMD_SAVE, sizeof(godwit_cmd_state), true, &Device::cmd_save},
      {GODWIT_CMD_LOAD, sizeof(godwit_cmd_state), true, &Device::cmd_load},
      {GODWIT_CMD_ATTACH, sizeof(godwit_cmd_attach), true, &Device::cmd_attach},
      {GODWIT_CMD_RESUME, sizeof(godwit_cmd_resume), true, &Device::cmd_resume},
      {GODWIT_CMD_TOMBSTONE, sizeof(godwit_cmd_tombstone), true, &Device::cmd_tombstone},
      {GODWIT_CMD_COMMIT, sizeof(godwit_cmd_move), true, &Device::cmd_commit},
      {GODWIT_CMD_DROP, sizeof(godwit_cmd_move), true, &Device::cmd_drop},
      {GODWIT_CMD_RESERVE_QPNS, sizeof(godwit_cmd_reserve), true, &Device::cmd_reserve_qpns},
      {GODWIT_CMD_QUERY_TOMBSTONES, sizeof(godwit_cmd_mailbox), true,
       &Device::cmd_query_tombstones},
      {GODWIT_CMD_CREATE_SRQ, 0, false, nullptr},
      {GODWIT_CMD_DESTROY_SRQ, 0, false, nullptr},
      {GODWIT_CMD_MODIFY_SRQ, 0, false, nullptr},
  };
  for (const CommandRow& row : kRows) {
    if (row.opcode == opcode) return &row;
  }
  return nullptr;
}

// True: there is more to do now.
bool Device::run_commands() {
  if (!running()) return false;
  const std::uint32_t depth = std::uint32_t{1} << cmd_log2_depth_;
  if (cmd_producer_ - cmd_consumer_ > depth) {
    fatal(GODWIT_FATAL_CMD_RING);
    return false;
  }
  const std::uint32_t before = cmd_consumer_;
  for (unsigned n = 0; n < kCommandsPerRun && cmd_consumer_ != cmd_producer_; ++n) {
    if (!run_command()) break;
  }
  if (cmd_consumer_ != before && cmd_interrupt_) interrupt(GODWIT_VECTOR_CONTROL);
  return running() && cmd_consumer_ != cmd_producer_;
}

// False: not finished, or the device has stopped.
bool Device::run_command() {
  const std::uint32_t mask = (std::uint32_t{1} << cmd_log2_depth_) - 1;
  const std::uint64_t slot = std::uint64_t{cmd_consumer_ & mask};
  godwit_cmd command;
  if (!read(cmd_sq_ + slot * sizeof(command), &command, sizeof(command))) {
    fatal(GODWIT_FATAL_CMD_DMA);
    return false;
  }
  const Reply reply = execute(command);
  if (reply.again) return false;

  godwit_cmd_completion completion = {};
  completion.id = command.id;
  completion.status = le16(reply.status);
  completion.detail = le32(reply.detail);
  std::memcpy(completion.result, reply.result.data(), sizeof(completion.result));
  completion.phase = (cmd_consumer_ >> cmd_log2_depth_ & 1) == 0 ? GODWIT_CQE_PHASE_MASK : 0;
  const std::uint64_t at = cmd_cq_ + slot * sizeof(completion);
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(&completion);
  constexpr std::size_t kFirst = sizeof(completion) - 8;
  if (!write(at, bytes, kFirst) || !write(at + kFirst, bytes + kFirst, 8)) {
    fatal(GODWIT_FATAL_CMD_DMA);
    return false;
  }
  ++cmd_consumer_;
  trace(GODWIT_TRACE_COMMAND, command.opcode, from_le(command.id), reply.status, reply.detail);
  return running();
}

Reply Device::execute(const godwit_cmd& command) {
  const CommandRow* row = command_row(command.opcode);
  if (row == nullptr) return Reply::fail(GODWIT_CMD_STATUS_BAD_OPCODE);
  if (row->handler == nullptr || (row->migration && !config_.migration)) {
    return Reply::fail(GODWIT_CMD_STATUS_NOT_SUPPORTED);
  }
  if (command.reserved_8 != 0 || from_le(command.reserved_20) != 0) return bad();
  if (!all_zero(command.params + row->params_bytes, sizeof(command.params) - row->params_bytes)) {
    return bad(row->params_bytes);
  }
  return (this->*row->handler)(command.params);
}

Reply Device::cmd_nop(const std::uint8_t*) { return {}; }

Reply Device::read_mailbox(const godwit_cmd_mailbox& mailbox, void* to, std::size_t length) {
  using In = godwit_cmd_mailbox;
  if (from_le(mailbox.addr) % 64 != 0) return bad(offsetof(In, addr));
  if (from_le(mailbox.length) < length) return bad(offsetof(In, length));
  if (from_le(mailbox.reserved_60) != 0) return bad(offsetof(In, reserved_60));
  if (!read(from_le(mailbox.addr), to, length)) {
    return Reply::fail(GODWIT_CMD_STATUS_DMA_ERROR);
  }
  return {};
}

Reply Device::write_mailbox(const godwit_cmd_mailbox& mailbox, const void* from,
                            std::size_t length) {
  using In = godwit_cmd_mailbox;
  if (from_le(mailbox.addr) % 64 != 0) return bad(offsetof(In, addr));
  if (from_le(mailbox.reserved_60) != 0) return bad(offsetof(In, reserved_60));
  if (from_le(mailbox.length) < length) return bad(offsetof(In, length));
  if (!write(from_le(mailbox.addr), from, length)) {
    return Reply::fail(GODWIT_CMD_STATUS_DMA_ERROR, offsetof(In, addr));
  }
  return {};
}

Reply Device::cmd_query_device(const std::uint8_t* params) {
  const auto mailbox = copy<godwit_cmd_mailbox>(params);
  godwit_device_caps caps = {};
  caps.flags = le64(GODWIT_CAP_RC | (config_.migration ? GODWIT_CAP_MIGRATION : 0) |
                    (config_.atomics ? GODWIT_CAP_ATOMICS : 0));
  caps.max_mr_size = le64(std::uint64_t{config_.max_mr_pages} << GODWIT_PAGE_SHIFT_MIN);
  caps.clock_hz = le64(1'000'000'000);
  caps.state_version = le32(GODWIT_STATE_VERSION);
  caps.max_uctx = le32(config_.doorbell_pages);
  caps.max_pd = le32(config_.max_pd);
  caps.max_mr = le32(config_.max_mr);
  caps.max_cq = le32(config_.max_cq);
  caps.max_qp = le32(config_.max_qp);
  caps.max_eq = le32(static_cast<std::uint32_t>(eqs_.size()));
  caps.max_qp_wr = le32(config_.max_qp_wr);
  caps.log2_max_cqe = le32(config_.log2_max_cqe);
  caps.max_send_sge = le32(GODWIT_MAX_SGE);
  caps.max_recv_sge = le32(GODWIT_MAX_SGE);
  caps.max_inline = le32(GODWIT_MAX_INLINE);
  caps.max_rd_atomic = le32(config_.max_rd_atomic);
  caps.max_message = le32(GODWIT_MAX_MESSAGE);
  caps.gid_entries = le32(kGidEntries);
  caps.mac_filters = le32(kMacFilters);
  caps.max_mtu = le32(5);
  caps.pause_limit_ms = le32(config_.pause_limit_ms);
  caps.tombstone_ttl_ms = le32(config_.tombstone_ttl_ms);
  caps.max_tombstones = le32(config_.max_tombstones);
  caps.max_reservations = le32(kMaxReservations);
  return write_mailbox(mailbox, &caps, sizeof(caps));
}

Reply Device::cmd_query_counters(const std::uint8_t* params) {
  const auto mailbox = copy<godwit_cmd_mailbox>(params);
  std::array<godwit_le64, GODWIT_COUNTER_COUNT> values;
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = le64(counters_[i]);
  return write_mailbox(mailbox, values.data(), sizeof(values));
}

}  // namespace godwit::device
