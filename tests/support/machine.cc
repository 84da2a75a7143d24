// SPDX-License-Identifier: GPL-2.0-or-later
#include "support/machine.h"

#include <algorithm>
#include <cstddef>

namespace godwit::test {
namespace {

void must(bool condition) {
  if (!condition) __builtin_trap();
}

}  // namespace

std::uint32_t Result::number() const {
  std::uint32_t value;
  std::memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

Gid ipv4_gid(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d) {
  return {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d};
}

godwit_device_config small_config(std::uint8_t index) {
  godwit_device_config config = {};
  godwit_device_default_config(&config);
  config.mac[5] = index;
  config.doorbell_pages = 16;
  config.max_pd = 16;
  config.max_mr = 64;
  config.max_cq = 32;
  config.max_qp = 32;
  config.max_qp_wr = 256;
  config.log2_max_cqe = 10;
  config.max_mr_pages = 4096;
  config.max_tombstones = 32;
  config.seed = index;
  return config;
}

std::optional<godwit_cqe> CompletionQueue::poll() {
  const std::uint32_t depth = 1u << log2_depth;
  const std::uint64_t offset = std::uint64_t{consumer & (depth - 1)} * sizeof(godwit_cqe);
  const auto entry = buffer.get<godwit_cqe>(offset);
  const std::uint8_t phase = (consumer >> log2_depth & 1) == 0 ? GODWIT_CQE_PHASE_MASK : 0;
  if ((entry.phase & GODWIT_CQE_PHASE_MASK) != phase) return std::nullopt;
  ++consumer;
  buffer.put<std::uint32_t>(record_offset, consumer & GODWIT_DB_CQ_ARM_INDEX_MASK);
  return entry;
}

void QueuePair::write_send(const SendWork& work) {
  const std::uint32_t depth = 1u << log2_sq;
  const std::uint64_t at = std::uint64_t{sq_producer & (depth - 1)} << log2_stride;
  godwit_send_wqe wqe = {};
  wqe.opcode = work.opcode;
  wqe.flags = work.flags;
  wqe.num_sge = static_cast<std::uint8_t>(work.sges.size());
  wqe.imm_or_invalidate.raw = work.immediate;
  wqe.u.rdma.remote_addr = {work.remote_addr};
  wqe.u.rdma.rkey = {work.rkey};
  wqe.u.rdma.compare_add = {work.compare_add};
  wqe.u.rdma.swap = {work.swap};
  if ((work.flags & GODWIT_WQE_INLINE_MASK) != 0) {
    wqe.inline_length = {static_cast<std::uint32_t>(work.inline_data.size())};
    buffer.write(at + sizeof(wqe), work.inline_data.data(), work.inline_data.size());
  }
  buffer.put(at, wqe);
  for (std::size_t i = 0; i < work.sges.size(); ++i) {
    const godwit_sge sge = {{work.sges[i].addr}, {work.sges[i].length}, {work.sges[i].lkey}};
    buffer.put(at + sizeof(wqe) + i * sizeof(sge), sge);
  }
  ++sq_producer;
  buffer.put<std::uint32_t>(record_offset + offsetof(godwit_qp_record, sq_producer), sq_producer);
}

void QueuePair::write_recv(const std::vector<Sge>& sges) {
  const std::uint32_t depth = 1u << log2_rq;
  const std::uint64_t at = rq_offset + (std::uint64_t{rq_producer & (depth - 1)} << log2_stride);
  godwit_recv_wqe wqe = {};
  wqe.num_sge = static_cast<std::uint8_t>(sges.size());
  buffer.put(at, wqe);
  for (std::size_t i = 0; i < sges.size(); ++i) {
    const godwit_sge sge = {{sges[i].addr}, {sges[i].length}, {sges[i].lkey}};
    buffer.put(at + sizeof(wqe) + i * sizeof(sge), sge);
  }
  ++rq_producer;
  buffer.put<std::uint32_t>(record_offset + offsetof(godwit_qp_record, rq_producer), rq_producer);
}

godwit_host_ops Machine::host_ops(Machine* machine) {
  godwit_host_ops ops = {};
  ops.opaque = machine;
  ops.dma_read = [](void* opaque, std::uint64_t addr, void* buffer, std::size_t length) {
    auto* m = static_cast<Machine*>(opaque);
    if (addr + length > m->dma_refused_from) return -1;
    if (!m->memory_.read(addr, buffer, length)) return -1;
    if (m->after_dma_read) m->after_dma_read(addr, length);
    return 0;
  };
  ops.dma_write = [](void* opaque, std::uint64_t addr, const void* buffer, std::size_t length) {
    auto* m = static_cast<Machine*>(opaque);
    if (addr + length > m->dma_refused_from) return -1;
    if (m->on_dma_write) m->on_dma_write(addr, length);
    return m->memory_.write(addr, buffer, length) ? 0 : -1;
  };
  ops.send_frame = [](void* opaque, const std::uint8_t* frame, std::size_t length) {
    auto* m = static_cast<Machine*>(opaque);
    Frame copy(frame, frame + length);
    if (m->on_frame) {
      m->on_frame(copy);
    } else {
      m->sent.push_back(std::move(copy));
    }
    return !m->wire_busy || !m->wire_busy();
  };
  ops.raise_interrupt = [](void* opaque, unsigned vector) {
    auto* m = static_cast<Machine*>(opaque);
    ++m->interrupts.at(vector);
    m->interrupted_ = true;
  };
  ops.kick = [](void* opaque) { static_cast<Machine*>(opaque)->kicked_ = true; };
  ops.trace = [](void* opaque, godwit_trace_event event, std::uint64_t a, std::uint64_t b,
                 std::uint64_t c, std::uint64_t d) {
    auto* m = static_cast<Machine*>(opaque);
    if (m->on_trace) m->on_trace(event, {a, b, c, d});
  };
  return ops;
}

Machine::Machine(const godwit_device_config& config, std::uint64_t* clock, std::size_t pages)
    : config_(config),
      clock_(clock != nullptr ? clock : &own_clock_),
      pages_(pages),
      memory_(pages, config.seed) {
  const godwit_host_ops ops = host_ops(this);
  device_ = godwit_device_new(&config, &ops);
  must(device_ != nullptr);
}

Machine::~Machine() { godwit_device_free(device_); }

std::vector<std::uint8_t> Machine::save() const {
  std::vector<std::uint8_t> state(godwit_device_save(device_, now(), nullptr, 0));
  must(godwit_device_save(device_, now(), state.data(), state.size()) == state.size());
  return state;
}

const char* Machine::load(const std::vector<std::uint8_t>& state) {
  godwit_device_free(device_);
  const godwit_host_ops ops = host_ops(this);
  device_ = godwit_device_new(&config_, &ops);
  must(device_ != nullptr);
  kicked_ = true;
  return godwit_device_load(device_, now(), state.data(), state.size());
}

void Machine::replace() {
  godwit_device_free(device_);
  const godwit_host_ops ops = host_ops(this);
  device_ = godwit_device_new(&config_, &ops);
  must(device_ != nullptr);
  memory_ = GuestMemory(pages_, config_.seed);
  cmd_sq_ = cmd_cq_ = mailbox_ = 0;
  list_pages_.clear();
  eqs_ = {};
  kicked_ = interrupted_ = false;
}

void Machine::enable(std::uint32_t log2_depth) {
  if (cmd_sq_ == 0) {
    cmd_sq_ = memory_.contiguous(64u << 8);
    cmd_cq_ = memory_.contiguous(64u << 8);
    mailbox_ = memory_.contiguous(kMailboxBytes);
  }
  const std::vector<std::uint8_t> zero(64u << log2_depth);
  memory_.write(cmd_cq_, zero.data(), zero.size());
  cmd_log2_depth_ = log2_depth;
  cmd_producer_ = 0;
  set_reg(GODWIT_REG_CMD_SQ_LO, static_cast<std::uint32_t>(cmd_sq_));
  set_reg(GODWIT_REG_CMD_SQ_HI, static_cast<std::uint32_t>(cmd_sq_ >> 32));
  set_reg(GODWIT_REG_CMD_CQ_LO, static_cast<std::uint32_t>(cmd_cq_));
  set_reg(GODWIT_REG_CMD_CQ_HI, static_cast<std::uint32_t>(cmd_cq_ >> 32));
  set_reg(GODWIT_REG_CMD_LOG2_DEPTH, log2_depth);
  set_reg(GODWIT_REG_CONTROL, GODWIT_CONTROL_ENABLE_MASK);
}

void Machine::start(std::uint32_t log2_async, std::uint32_t log2_completions) {
  enable();
  must(create_eq(0, GODWIT_VECTOR_CONTROL, log2_async).ok());
  must(create_eq(1, GODWIT_VECTOR_FIRST_COMP, log2_completions).ok());
  must(create_uctx(1).ok());
}

bool Machine::run(unsigned limit) {
  for (unsigned i = 0; i < limit; ++i) {
    kicked_ = false;
    if (!godwit_device_run(device_, now()) && !kicked_) return true;
  }
  return false;
}

void Machine::run_briefly() {
  kicked_ = false;
  if (godwit_device_run_briefly(device_, now())) kicked_ = true;
}

Result Machine::command_bytes(std::uint8_t opcode, const void* params, std::size_t length) {
  godwit_cmd command = {};
  command.opcode = opcode;
  const auto id = static_cast<std::uint16_t>(cmd_producer_ * 7 + 1);
  command.id = {id};
  must(length <= sizeof(command.params));
  if (length > 0) std::memcpy(command.params, params, length);
  const std::uint32_t mask = (1u << cmd_log2_depth_) - 1;
  const std::uint64_t slot = cmd_producer_ & mask;
  const std::uint8_t phase = (cmd_producer_ >> cmd_log2_depth_ & 1) == 0 ? 1 : 0;
  memory_.put(cmd_sq_ + slot * sizeof(command), command);
  ++cmd_producer_;
  set_reg(GODWIT_REG_CMD_DOORBELL, cmd_producer_);
  Result result;
  for (unsigned i = 0; i < 100000; ++i) {
    kicked_ = false;
    godwit_device_run(device_, now());
    const auto completion =
        memory_.get<godwit_cmd_completion>(cmd_cq_ + slot * sizeof(godwit_cmd_completion));
    if ((completion.phase & 1) != phase) {
      if ((reg(GODWIT_REG_STATUS) & GODWIT_STATUS_ENABLED_MASK) == 0) return result;
      continue;
    }
    must(completion.id.raw == id);
    result.status = completion.status.raw;
    result.detail = completion.detail.raw;
    std::memcpy(result.bytes.data(), completion.result, sizeof(completion.result));
    break;
  }
  for (const std::uint64_t page : list_pages_) memory_.free_page(page);
  list_pages_.clear();
  return result;
}

godwit_buffer Machine::describe(const Buffer& buffer) {
  const std::vector<std::uint64_t> lists = make_page_list(memory_, buffer.pages);
  list_pages_.insert(list_pages_.end(), lists.begin(), lists.end());
  godwit_buffer out = {};
  out.list = {lists.empty() ? 0 : lists[0]};
  out.page_count = {static_cast<std::uint32_t>(buffer.pages.size())};
  out.page_shift = {12};
  out.first_offset = {buffer.first_offset};
  out.length = {static_cast<std::uint32_t>(buffer.length)};
  return out;
}

Result Machine::create_eq(std::uint32_t eqn, std::uint32_t vector, std::uint32_t log2_depth) {
  EventQueue eq;
  eq.log2_depth = log2_depth;
  eq.buffer = make_buffer(memory_, sizeof(godwit_eqe) << log2_depth);
  godwit_cmd_create_eq in = {};
  in.eqn = {eqn};
  in.vector = {vector};
  in.log2_depth = {log2_depth};
  in.buffer = describe(eq.buffer);
  const Result result = command(GODWIT_CMD_CREATE_EQ, in);
  if (result.ok()) {
    eqs_.at(eqn) = eq;
    doorbell(0, GODWIT_DB_EQ, eqn, 0);
  }
  return result;
}

std::vector<godwit_eqe> Machine::events(std::uint32_t eqn) {
  EventQueue& eq = eqs_.at(eqn);
  std::vector<godwit_eqe> out;
  for (;;) {
    const std::uint32_t depth = 1u << eq.log2_depth;
    const auto entry =
        eq.buffer.get<godwit_eqe>(std::uint64_t{eq.consumer & (depth - 1)} * sizeof(godwit_eqe));
    const std::uint8_t phase = (eq.consumer >> eq.log2_depth & 1) == 0 ? 1 : 0;
    if ((entry.phase & 1) != phase) break;
    ++eq.consumer;
    out.push_back(entry);
  }
  doorbell(0, GODWIT_DB_EQ, eqn, eq.consumer);
  return out;
}

Result Machine::create_uctx(std::uint32_t number) {
  return command(GODWIT_CMD_CREATE_UCTX, godwit_cmd_number{{number}, {0}});
}

Result Machine::destroy_uctx(std::uint32_t number) {
  return command(GODWIT_CMD_DESTROY_UCTX, godwit_cmd_number{{number}, {0}});
}

Result Machine::set_gid(std::uint32_t index, const Gid& gid, const Mac& mac) {
  godwit_cmd_set_gid in = {};
  in.index = {index};
  const bool ipv4 = gid[10] == 0xff && gid[11] == 0xff &&
                    std::all_of(gid.begin(), gid.begin() + 10, [](auto b) { return b == 0; });
  in.flags = GODWIT_GID_VALID_MASK | (ipv4 ? GODWIT_GID_IPV4_MASK : 0);
  std::copy(mac.begin(), mac.end(), in.mac);
  std::copy(gid.begin(), gid.end(), in.gid);
  return command(GODWIT_CMD_SET_GID, in);
}

Result Machine::clear_gid(std::uint32_t index) {
  godwit_cmd_set_gid in = {};
  in.index = {index};
  return command(GODWIT_CMD_SET_GID, in);
}

Result Machine::create_pd(std::uint32_t uctx, std::uint32_t number) {
  return command(GODWIT_CMD_CREATE_PD, godwit_cmd_object{{uctx}, {number}});
}

Result Machine::destroy_pd(std::uint32_t uctx, std::uint32_t number) {
  return command(GODWIT_CMD_DESTROY_PD, godwit_cmd_object{{uctx}, {number}});
}

Result Machine::register_region(MemoryRegion* region, bool with_key) {
  const godwit_buffer buffer = describe(region->buffer);
  godwit_cmd_reg_mr in = {};
  in.pdn = {region->pdn};
  in.access = {region->access};
  if (with_key) {
    in.flags = {GODWIT_REG_MR_KEY_MASK};
    in.key = {region->key};
  }
  in.iova = {region->iova};
  in.length = {region->buffer.length};
  in.list = buffer.list;
  in.page_count = buffer.page_count;
  in.page_shift = 12;
  in.first_offset = {region->buffer.first_offset};
  const Result result = command(GODWIT_CMD_REG_MR, in);
  if (result.ok()) region->key = result.number();
  return result;
}

Result Machine::deregister(const MemoryRegion& region) {
  return command(GODWIT_CMD_DEREG_MR, godwit_cmd_dereg_mr{{region.pdn}, {region.key}});
}

Result Machine::create_cq(CompletionQueue* cq, bool restore) {
  cq->record_offset = sizeof(godwit_cqe) << cq->log2_depth;
  if (cq->buffer.pages.empty()) {
    cq->buffer = make_buffer(memory_, cq->record_offset + sizeof(godwit_cq_record));
  }
  cq->event_number = next_event_number_++;
  godwit_cmd_create_cq in = {};
  in.uctx = {cq->uctx};
  in.cqn = {cq->number};
  in.eqn = {1};
  in.event_number = {cq->event_number};
  in.log2_depth = {cq->log2_depth};
  in.record_offset = {cq->record_offset};
  if (restore) {
    in.flags = {GODWIT_CREATE_RESTORE_MASK};
  } else {
    in.buffer = describe(cq->buffer);
  }
  return command(GODWIT_CMD_CREATE_CQ, in);
}

Result Machine::destroy_cq(const CompletionQueue& cq) {
  return command(GODWIT_CMD_DESTROY_CQ, godwit_cmd_object{{cq.uctx}, {cq.number}});
}

Result Machine::create_qp(QueuePair* qp, bool restore, std::uint64_t move) {
  const std::uint32_t sq_bytes = 1u << (qp->log2_sq + qp->log2_stride);
  const std::uint32_t rq_bytes = 1u << (qp->log2_rq + qp->log2_stride);
  qp->rq_offset = sq_bytes;
  qp->record_offset = sq_bytes + rq_bytes;
  if (qp->buffer.pages.empty()) {
    qp->buffer = make_buffer(memory_, qp->record_offset + sizeof(godwit_qp_record));
  }
  godwit_create_qp in = {};
  in.uctx = {qp->uctx};
  in.pdn = {qp->pdn};
  in.send_cqn = {qp->send_cqn};
  in.recv_cqn = {qp->recv_cqn};
  in.rq_offset = {qp->rq_offset};
  in.record_offset = {qp->record_offset};
  in.type = GODWIT_QP_TYPE_RC;
  in.log2_sq_depth = static_cast<std::uint8_t>(qp->log2_sq);
  in.log2_rq_depth = static_cast<std::uint8_t>(qp->log2_rq);
  in.log2_sq_stride = static_cast<std::uint8_t>(qp->log2_stride);
  in.log2_rq_stride = static_cast<std::uint8_t>(qp->log2_stride);
  const std::uint32_t stride = 1u << qp->log2_stride;
  const std::size_t sges = (stride - sizeof(godwit_send_wqe)) / sizeof(godwit_sge);
  in.max_send_sge = in.max_recv_sge = static_cast<std::uint8_t>(std::min<std::size_t>(sges, 16));
  in.max_inline = {std::min<std::uint32_t>(qp->max_inline, stride - sizeof(godwit_send_wqe))};
  if (restore) {
    in.flags = {GODWIT_CREATE_RESTORE_MASK | GODWIT_CREATE_QPN_MASK};
    in.qpn = {qp->qpn};
    in.move = {move};
  } else {
    in.buffer = describe(qp->buffer);
    if (qp->qpn != 0) {
      in.flags = {GODWIT_CREATE_QPN_MASK};
      in.qpn = {qp->qpn};
    }
  }
  memory_.put(mailbox_, in);
  const Result result =
      command(GODWIT_CMD_CREATE_QP, godwit_cmd_mailbox{{mailbox_}, {sizeof(in)}, {0}});
  if (result.ok()) qp->qpn = result.number();
  return result;
}

Result Machine::destroy_qp(std::uint32_t qpn) {
  return command(GODWIT_CMD_DESTROY_QP, godwit_cmd_number{{qpn}, {0}});
}

Result Machine::modify(const godwit_modify_qp& in) {
  memory_.put(mailbox_, in);
  return command(GODWIT_CMD_MODIFY_QP, godwit_cmd_mailbox{{mailbox_}, {sizeof(in)}, {0}});
}

Result Machine::to_init(const QueuePair& qp, const ConnectOptions& options) {
  godwit_modify_qp in = {};
  in.qpn = {qp.qpn};
  in.mask = {GODWIT_QP_ATTR_STATUS | GODWIT_QP_ATTR_ACCESS | GODWIT_QP_ATTR_PKEY_INDEX};
  in.attr.status = GODWIT_QP_STATUS_INIT;
  in.attr.access = options.access;
  return modify(in);
}

Result Machine::to_rtr(const QueuePair& qp, const ConnectOptions& options, const Endpoint& peer) {
  godwit_modify_qp in = {};
  in.qpn = {qp.qpn};
  in.mask = {GODWIT_QP_ATTR_STATUS | GODWIT_QP_ATTR_AV | GODWIT_QP_ATTR_PATH_MTU |
             GODWIT_QP_ATTR_DEST_QPN | GODWIT_QP_ATTR_RQ_PSN | GODWIT_QP_ATTR_MAX_DEST_RD_ATOMIC |
             GODWIT_QP_ATTR_MIN_RNR_TIMER};
  in.attr.status = GODWIT_QP_STATUS_RTR;
  in.attr.path_mtu = options.path_mtu;
  in.attr.min_rnr_timer = options.min_rnr_timer;
  in.attr.max_dest_rd_atomic = options.max_dest_rd_atomic;
  in.attr.dest_qpn = {peer.qpn};
  in.attr.rq_psn = {peer.psn};
  std::copy(peer.gid.begin(), peer.gid.end(), in.attr.av.dgid);
  std::copy(peer.mac.begin(), peer.mac.end(), in.attr.av.dmac);
  in.attr.av.sgid_index = {options.sgid_index};
  in.attr.av.udp_source_port = {0xc123};
  in.attr.av.hop_limit = 64;
  return modify(in);
}

Result Machine::to_rts(const QueuePair& qp, const ConnectOptions& options, std::uint32_t own_psn) {
  godwit_modify_qp in = {};
  in.qpn = {qp.qpn};
  in.mask = {GODWIT_QP_ATTR_STATUS | GODWIT_QP_ATTR_TIMEOUT | GODWIT_QP_ATTR_RETRY_CNT |
             GODWIT_QP_ATTR_RNR_RETRY | GODWIT_QP_ATTR_SQ_PSN | GODWIT_QP_ATTR_MAX_RD_ATOMIC};
  in.attr.status = GODWIT_QP_STATUS_RTS;
  in.attr.timeout = options.timeout;
  in.attr.retry_cnt = options.retry_cnt;
  in.attr.rnr_retry = options.rnr_retry;
  in.attr.max_rd_atomic = options.max_rd_atomic;
  in.attr.sq_psn = {own_psn};
  return modify(in);
}

Result Machine::set_status(std::uint32_t qpn, std::uint8_t status) {
  godwit_modify_qp in = {};
  in.qpn = {qpn};
  in.mask = {GODWIT_QP_ATTR_STATUS};
  in.attr.status = status;
  return modify(in);
}

godwit_qp_info Machine::query_qp(std::uint32_t qpn) {
  must(command(GODWIT_CMD_QUERY_QP,
               godwit_cmd_qp_mailbox{{mailbox_}, {sizeof(godwit_qp_info)}, {qpn}})
           .ok());
  return memory_.get<godwit_qp_info>(mailbox_);
}

godwit_device_caps Machine::query_device() {
  must(command(GODWIT_CMD_QUERY_DEVICE,
               godwit_cmd_mailbox{{mailbox_}, {sizeof(godwit_device_caps)}, {0}})
           .ok());
  return memory_.get<godwit_device_caps>(mailbox_);
}

Result Machine::scope(std::uint8_t opcode, std::uint32_t scope, std::uint32_t number) {
  return command(opcode, godwit_cmd_scope{{scope}, {number}});
}

Result Machine::save_object(std::uint32_t type, std::uint32_t uctx, std::uint32_t number,
                            std::vector<std::uint8_t>* state) {
  godwit_cmd_state in = {};
  in.addr = {mailbox_};
  in.length = {kMailboxBytes};
  in.type = {type};
  in.uctx = {uctx};
  in.number = {number};
  const Result result = command(GODWIT_CMD_SAVE, in);
  if (result.ok()) {
    state->resize(result.number());
    memory_.read(mailbox_, state->data(), state->size());
  }
  return result;
}

Result Machine::load_object(std::uint32_t type, std::uint32_t uctx, std::uint32_t number,
                            const std::vector<std::uint8_t>& state, std::uint32_t sgid_index) {
  must(state.size() <= kMailboxBytes);
  memory_.write(mailbox_, state.data(), state.size());
  godwit_cmd_state in = {};
  in.addr = {mailbox_};
  in.length = {static_cast<std::uint32_t>(state.size())};
  in.type = {type};
  in.uctx = {uctx};
  in.number = {number};
  in.sgid_index = {sgid_index};
  return command(GODWIT_CMD_LOAD, in);
}

Result Machine::attach(std::uint32_t type, std::uint32_t uctx, std::uint32_t number,
                       const Buffer& buffer) {
  godwit_cmd_attach in = {};
  in.type = {type};
  in.uctx = {uctx};
  in.number = {number};
  in.buffer = describe(buffer);
  return command(GODWIT_CMD_ATTACH, in);
}

Result Machine::resume(std::uint32_t scope, std::uint32_t number, std::uint32_t attempt,
                       std::uint32_t flags) {
  return command(GODWIT_CMD_RESUME, godwit_cmd_resume{{scope}, {number}, {attempt}, {flags}});
}

Result Machine::tombstone(std::uint32_t qpn, std::uint64_t move) {
  return command(GODWIT_CMD_TOMBSTONE, godwit_cmd_tombstone{{qpn}, {0}, {move}});
}

Result Machine::move_command(std::uint8_t opcode, std::uint64_t move) {
  return command(opcode, godwit_cmd_move{{move}});
}

Result Machine::reserve(const std::vector<std::uint32_t>& qpns, std::uint32_t ttl_ms,
                        std::uint64_t move) {
  must(qpns.size() * 4 <= kMailboxBytes);
  memory_.write(mailbox_, qpns.data(), qpns.size() * 4);
  return command(
      GODWIT_CMD_RESERVE_QPNS,
      godwit_cmd_reserve{{mailbox_}, {static_cast<std::uint32_t>(qpns.size())}, {ttl_ms}, {move}});
}

}  // namespace godwit::test
