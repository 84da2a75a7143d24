// SPDX-License-Identifier: GPL-2.0-or-later
#include "sim/process.h"

#include <algorithm>
#include <cstring>
#include <sstream>

namespace godwit::sim {
namespace {

constexpr std::uint32_t kWriteSlots = kDepth;
constexpr std::uint32_t kLocalSlots = 2 * kDepth;  // of one connection
constexpr std::uint32_t kCells = 64;
constexpr std::size_t kSharedBuffer = 1;  // in buffers()

bool is_send(std::uint8_t opcode) {
  return opcode == GODWIT_WR_SEND || opcode == GODWIT_WR_SEND_IMM;
}

}  // namespace

Process::Process(unsigned index, Rng* rng, Verdict* verdict)
    : index_(index), rng_(rng), verdict_(verdict) {}

void Process::check(bool condition, const std::string& what) {
  if (condition) return;
  std::ostringstream out;
  out << "process " << index_ << ": " << what;
  verdict_->fail(out.str());
}

void Process::must(const test::Result& result, const char* what) {
  if (result.ok()) return;
  std::ostringstream out;
  out << what << " failed: status " << result.status << ", detail " << result.detail;
  check(false, out.str());
}

std::vector<std::uint32_t> Process::qpns() const {
  std::vector<std::uint32_t> out;
  for (const auto& side : sides_) out.push_back(side->qp.qpn);
  return out;
}

std::string Process::summary() const {
  std::ostringstream out;
  out << "process " << index_ << (frozen_ ? " frozen" : "");
  for (const auto& side : sides_) {
    out << "; QP " << std::hex << side->qp.qpn << std::dec << ": " << side->left << " to post, "
        << side->outstanding.size() << " outstanding, " << side->expected.size()
        << " expected";
    if (machine_ == nullptr || frozen_) continue;
    const godwit_qp_info info = machine_->query_qp(side->qp.qpn);
    out << ", status " << int{info.attr.status} << " ext " << info.ext.raw << " sq_psn "
        << info.attr.sq_psn.raw << " rq_psn " << info.attr.rq_psn.raw << " sq_consumer "
        << info.sq_consumer.raw;
  }
  return out.str();
}

// ------------------------------------------------------------ memory

std::uint32_t Process::send_slot(const Side& side, std::uint16_t index) const {
  return (side.number * kLocalSlots + index % kDepth) * kSlot;
}

std::uint32_t Process::recv_slot(const Side& side, std::uint16_t index) const {
  return (side.number * kLocalSlots + kDepth + index % kDepth) * kSlot;
}

std::uint32_t Process::write_slot(const Side& side, std::uint32_t n) const {
  return kConstantBytes + kCells * 8 + (side.number * kWriteSlots + n % kWriteSlots) * kSlot;
}

std::uint32_t Process::cell_offset(const Side& side) const {
  return kConstantBytes + side.number * 8;
}

// A piece of the local region as one to three SGEs.
std::vector<test::Sge> Process::split(std::uint32_t offset, std::uint32_t length) {
  std::vector<test::Sge> sges;
  const unsigned pieces = static_cast<unsigned>(rng_->between(1, 3));
  for (unsigned i = 0; i < pieces && (length > 0 || i == 0); ++i) {
    const std::uint32_t now =
        i + 1 == pieces ? length : static_cast<std::uint32_t>(rng_->below(length + 1));
    sges.push_back({local_.iova + offset, now, local_.key});
    offset += now;
    length -= now;
  }
  return sges;
}

// The shared region, wherever it is: between two machines it is in the image.
void Process::peek(std::uint32_t offset, std::vector<std::uint8_t>* bytes) const {
  if (machine_ != nullptr) {
    shared_.buffer.read(offset, bytes->data(), bytes->size());
  } else {
    std::copy_n(image_.memory[kSharedBuffer].begin() + offset, bytes->size(), bytes->begin());
  }
}

// ------------------------------------------------------------ life

void Process::create(Machine* machine, unsigned connections, std::uint32_t) {
  machine_ = machine;
  connections_ = connections;
  must(machine->create_uctx(uctx()), "CREATE_UCTX");
  must(machine->create_pd(uctx(), index_ + 1), "CREATE_PD");
  send_cq_.uctx = recv_cq_.uctx = uctx();
  send_cq_.number = 7;
  recv_cq_.number = 0x123456;
  send_cq_.log2_depth = recv_cq_.log2_depth = 7;
  must(machine->create_cq(&send_cq_), "CREATE_CQ");
  must(machine->create_cq(&recv_cq_), "CREATE_CQ");
  machine->arm(recv_cq_);

  local_.pdn = shared_.pdn = index_ + 1;
  local_.access = GODWIT_ACCESS_LOCAL_WRITE;
  shared_.access = GODWIT_ACCESS_LOCAL_WRITE | GODWIT_ACCESS_REMOTE_WRITE |
                   GODWIT_ACCESS_REMOTE_READ | GODWIT_ACCESS_REMOTE_ATOMIC;
  local_.iova = 0x7f0000000000 + rng_->below(256) * 4096 + 40;
  shared_.iova = 0x7e0000000000 + rng_->below(256) * 4096 + 64;
  local_.buffer = test::make_buffer(machine->memory(), connections * kLocalSlots * kSlot, 40);
  shared_.buffer = test::make_buffer(
      machine->memory(),
      kConstantBytes + kCells * 8 + connections * kWriteSlots * kSlot, 64);
  for (std::uint32_t i = 0; i < kConstantBytes; i += 8) shared_.buffer.put(i, rng_->next());
  must(machine->register_region(&local_), "REG_MR");
  must(machine->register_region(&shared_), "REG_MR");

  for (unsigned i = 0; i < connections; ++i) {
    auto side = std::make_unique<Side>();
    side->process = this;
    side->number = i;
    side->qp.uctx = uctx();
    side->qp.pdn = index_ + 1;
    side->qp.send_cqn = send_cq_.number;
    side->qp.recv_cqn = recv_cq_.number;
    side->qp.log2_sq = side->qp.log2_rq = kLog2Depth;
    side->psn = rng_->chance(50) ? 0xffffff - static_cast<std::uint32_t>(rng_->below(40))
                                 : static_cast<std::uint32_t>(rng_->below(1 << 24));
    must(machine->create_qp(&side->qp), "CREATE_QP");
    sides_.push_back(std::move(side));
  }
}

void Process::connect(unsigned connection, Side* peer, const test::ConnectOptions& options,
                      const test::Endpoint& to) {
  Side& side = *sides_[connection];
  side.peer = peer;
  must(machine_->to_init(side.qp, options), "MODIFY_QP to Init");
  must(machine_->to_rtr(side.qp, options, to), "MODIFY_QP to RTR");
  must(machine_->to_rts(side.qp, options, side.psn), "MODIFY_QP to RTS");
}

bool Process::done() const {
  return std::all_of(sides_.begin(), sides_.end(), [](const auto& side) {
    return side->left == 0 && side->outstanding.empty() && side->expected.empty();
  });
}

void Process::step() {
  if (frozen_ || machine_ == nullptr) return;
  for (int i = 0; i < 2; ++i) {
    poll(send_cq_);
    poll(recv_cq_);
  }
  if (rng_->chance(30)) machine_->arm(recv_cq_, rng_->chance(50));
  for (auto& side : sides_) {
    post_receives(*side);
    const std::uint64_t burst = rng_->below(6);
    const std::uint16_t before = side->qp.sq_producer;
    for (std::uint64_t i = 0; i < burst && side->left > 0; ++i) {
      if (side->outstanding.size() >= kDepth) break;
      post_one(*side);
    }
    if (side->qp.sq_producer != before) machine_->ring_sq(side->qp);
  }
}

// ------------------------------------------------------------ traffic

void Process::post_receives(Side& side) {
  const std::uint64_t n = rng_->below(7);
  for (std::uint64_t i = 0; i < n; ++i) {
    if (static_cast<std::uint16_t>(side.recv_posted - side.recv_done) >= kDepth) return;
    side.qp.write_recv(split(recv_slot(side, side.recv_posted), kSlot));
    ++side.recv_posted;
  }
}

void Process::post_one(Side& side) {
  Operation op;
  test::SendWork work;
  static constexpr std::uint8_t kOpcodes[] = {
      GODWIT_WR_SEND, GODWIT_WR_SEND_IMM,     GODWIT_WR_WRITE,    GODWIT_WR_WRITE_IMM,
      GODWIT_WR_READ, GODWIT_WR_COMPARE_SWAP, GODWIT_WR_FETCH_ADD};
  op.opcode = kOpcodes[rng_->below(std::size(kOpcodes))];
  op.index = side.qp.sq_producer;
  --side.left;
  op.signaled = side.left == 0 || side.outstanding.size() == kDepth - 1 || rng_->chance(60);
  op.immediate = static_cast<std::uint32_t>(rng_->next());
  op.local_slot = send_slot(side, op.index);
  work.opcode = op.opcode;
  work.flags = (op.signaled ? GODWIT_WQE_SIGNALED_MASK : 0) |
               (rng_->chance(20) ? GODWIT_WQE_FENCE_MASK : 0) |
               (rng_->chance(20) ? GODWIT_WQE_SOLICITED_MASK : 0);
  std::uint32_t length = 0;
  if (rng_->chance(40)) {
    length = static_cast<std::uint32_t>(rng_->below(64));
  } else {
    length = static_cast<std::uint32_t>(rng_->below(kMaxMessage));
  }
  Process& other = *side.peer->process;
  switch (op.opcode) {
    case GODWIT_WR_SEND:
    case GODWIT_WR_SEND_IMM:
    case GODWIT_WR_WRITE:
    case GODWIT_WR_WRITE_IMM: {
      op.data.resize(length);
      for (std::uint8_t& byte : op.data) byte = static_cast<std::uint8_t>(rng_->next());
      work.immediate = op.immediate;
      if (!is_send(op.opcode)) {
        op.remote_slot = other.write_slot(*side.peer, side.writes++);
        work.remote_addr = other.shared_.iova + op.remote_slot;
        work.rkey = other.shared_.key;
      }
      if (length <= side.qp.max_inline && rng_->chance(50)) {
        work.flags |= GODWIT_WQE_INLINE_MASK;
        work.inline_data = op.data;
      } else {
        local_.buffer.write(op.local_slot, op.data.data(), op.data.size());
        work.sges = split(op.local_slot, length);
      }
      if (op.opcode != GODWIT_WR_WRITE) {
        Expected expected;
        expected.write_immediate = op.opcode == GODWIT_WR_WRITE_IMM;
        expected.has_immediate = op.opcode != GODWIT_WR_SEND;
        expected.immediate = op.immediate;
        expected.length = length;
        if (is_send(op.opcode)) expected.data = op.data;
        side.peer->expected.push_back(std::move(expected));
      }
      break;
    }
    case GODWIT_WR_READ:
      op.remote_offset = static_cast<std::uint32_t>(rng_->below(kConstantBytes - length));
      op.data = std::vector<std::uint8_t>(length);
      other.peek(op.remote_offset, &op.data);
      work.remote_addr = other.shared_.iova + op.remote_offset;
      work.rkey = other.shared_.key;
      work.sges = split(op.local_slot, length);
      break;
    default:
      work.remote_addr = other.shared_.iova + other.cell_offset(*side.peer);
      work.rkey = other.shared_.key;
      op.compare_add = rng_->below(4);
      op.swap = rng_->below(4);
      work.compare_add = op.compare_add;
      work.swap = op.swap;
      work.sges = {{local_.iova + op.local_slot, 8, local_.key}};
      break;
  }
  side.qp.write_send(work);
  side.outstanding.push_back(std::move(op));
}

void Process::poll(CompletionQueue& cq) {
  while (verdict_->ok()) {
    const std::optional<godwit_cqe> entry = cq.poll();
    if (!entry) return;
    const auto side = std::find_if(sides_.begin(), sides_.end(), [&](const auto& s) {
      return s->qp.qpn == entry->qpn.raw;
    });
    if (side == sides_.end()) {
      check(false, "completion of an unknown QP");
      return;
    }
    if (entry->status != GODWIT_CQE_SUCCESS) {
      std::ostringstream out;
      out << "completion with status " << int{entry->status} << ", fault "
          << int{entry->vendor_err} << ", opcode " << int{entry->opcode};
      check(false, out.str());
      return;
    }
    if ((entry->flags & GODWIT_CQE_RECV_MASK) != 0) {
      on_recv(**side, *entry);
    } else {
      on_send(**side, *entry);
    }
  }
}

void Process::on_send(Side& side, const godwit_cqe& entry) {
  while (!side.outstanding.empty()) {
    const Operation op = std::move(side.outstanding.front());
    side.outstanding.pop_front();
    const bool this_one = op.index == entry.wqe_index.raw;
    check(this_one || !op.signaled, "a signaled request was skipped");
    finish(side, op);
    if (!this_one) continue;
    check(op.signaled, "completion of a request that was not signaled");
    check(entry.opcode == op.opcode, "wrong opcode in a send completion");
    if (op.opcode == GODWIT_WR_READ) {
      check(entry.byte_len.raw == op.data.size(), "wrong length of a READ");
    }
    return;
  }
  check(false, "a send completion too many");
}

void Process::finish(Side& side, const Operation& op) {
  switch (op.opcode) {
    case GODWIT_WR_WRITE:
    case GODWIT_WR_WRITE_IMM: {
      std::vector<std::uint8_t> there(op.data.size());
      side.peer->process->peek(op.remote_slot, &there);
      check(there == op.data, "a WRITE is complete and its data is not there");
      break;
    }
    case GODWIT_WR_READ: {
      std::vector<std::uint8_t> here(op.data.size());
      local_.buffer.read(op.local_slot, here.data(), here.size());
      check(here == op.data, "a READ brought the wrong data");
      break;
    }
    case GODWIT_WR_COMPARE_SWAP:
      check(local_.buffer.get<std::uint64_t>(op.local_slot) == side.cell,
            "a compare-and-swap brought the wrong value");
      if (side.cell == op.compare_add) side.cell = op.swap;
      break;
    case GODWIT_WR_FETCH_ADD:
      check(local_.buffer.get<std::uint64_t>(op.local_slot) == side.cell,
            "a fetch-and-add brought the wrong value");
      side.cell += op.compare_add;
      break;
    default:
      break;
  }
}

void Process::on_recv(Side& side, const godwit_cqe& entry) {
  check(entry.wqe_index.raw == side.recv_done, "receives complete out of order");
  if (side.expected.empty()) {
    check(false, "a receive completion too many");
    return;
  }
  const Expected expected = std::move(side.expected.front());
  side.expected.pop_front();
  check(entry.opcode == (expected.write_immediate ? GODWIT_CQE_OP_RECV_WRITE_IMM
                                                  : GODWIT_CQE_OP_RECV),
        "wrong opcode in a receive completion");
  check(entry.byte_len.raw == expected.length, "wrong length of a message");
  const bool immediate = (entry.flags & GODWIT_CQE_IMM_MASK) != 0;
  check(immediate == expected.has_immediate, "immediate data where none was sent, or none");
  if (immediate) {
    check(entry.imm_or_invalidated.raw == expected.immediate, "wrong immediate data");
  }
  if (!expected.write_immediate) {
    std::vector<std::uint8_t> here(expected.data.size());
    local_.buffer.read(recv_slot(side, side.recv_done), here.data(), here.size());
    check(here == expected.data, "a message with the wrong data");
  }
  ++side.recv_done;
}

// ------------------------------------------------------------ moving

std::vector<test::Buffer*> Process::buffers() {
  std::vector<test::Buffer*> out = {&local_.buffer, &shared_.buffer, &send_cq_.buffer,
                                    &recv_cq_.buffer};
  for (auto& side : sides_) out.push_back(&side->qp.buffer);
  return out;
}

void Process::freeze() {
  must(machine_->scope(GODWIT_CMD_STOP, GODWIT_SCOPE_UCTX, uctx()), "STOP");
  frozen_ = true;
}

void Process::thaw() {
  must(machine_->scope(GODWIT_CMD_UNSTOP, GODWIT_SCOPE_UCTX, uctx()), "UNSTOP");
  frozen_ = false;
}

void Process::dump() {
  image_ = {};
  for (auto& side : sides_) {
    std::vector<std::uint8_t> state;
    must(machine_->save_object(GODWIT_STATE_QP, 0, side->qp.qpn, &state), "SAVE of a QP");
    image_.qps.push_back(std::move(state));
  }
  for (const CompletionQueue* cq : {&send_cq_, &recv_cq_}) {
    std::vector<std::uint8_t> state;
    must(machine_->save_object(GODWIT_STATE_CQ, uctx(), cq->number, &state), "SAVE of a CQ");
    image_.cqs.push_back(std::move(state));
  }
  for (const test::Buffer* buffer : buffers()) image_.memory.push_back(buffer->contents());
}

void Process::leave(std::uint64_t move) {
  for (auto& side : sides_) must(machine_->tombstone(side->qp.qpn, move), "TOMBSTONE");
  destroy_objects(false);
  // The memory goes to somebody else, who writes to it.
  for (test::Buffer* buffer : buffers()) {
    const std::vector<std::uint8_t> junk(buffer->length, 0xdb);
    buffer->write(0, junk.data(), junk.size());
    buffer->release();
  }
  machine_ = nullptr;
}

void Process::destroy_objects(bool qps) {
  if (qps) {
    for (auto& side : sides_) must(machine_->destroy_qp(side->qp.qpn), "DESTROY_QP");
  }
  must(machine_->deregister(local_), "DEREG_MR");
  must(machine_->deregister(shared_), "DEREG_MR");
  must(machine_->destroy_cq(send_cq_), "DESTROY_CQ");
  must(machine_->destroy_cq(recv_cq_), "DESTROY_CQ");
  must(machine_->destroy_pd(uctx(), index_ + 1), "DESTROY_PD");
  must(machine_->destroy_uctx(uctx()), "DESTROY_UCTX");
}

void Process::restore(Machine* to, std::uint64_t move, std::uint32_t sgid_index) {
  machine_ = to;
  must(to->create_uctx(uctx()), "CREATE_UCTX");
  must(to->create_pd(uctx(), index_ + 1), "CREATE_PD");
  const std::vector<test::Buffer*> all = buffers();
  for (std::size_t i = 0; i < all.size(); ++i) {
    *all[i] = test::make_buffer(to->memory(), image_.memory[i].size(), all[i]->first_offset);
    all[i]->write(0, image_.memory[i].data(), image_.memory[i].size());
  }
  must(to->register_region(&local_, true), "REG_MR with a key");
  must(to->register_region(&shared_, true), "REG_MR with a key");
  std::size_t n = 0;
  for (CompletionQueue* cq : {&send_cq_, &recv_cq_}) {
    must(to->create_cq(cq, true), "CREATE_CQ with RESTORE");
    must(to->load_object(GODWIT_STATE_CQ, uctx(), cq->number, image_.cqs[n++], 0),
         "LOAD of a CQ");
    must(to->attach(GODWIT_STATE_CQ, uctx(), cq->number, cq->buffer), "ATTACH of a CQ");
  }
  n = 0;
  for (auto& side : sides_) {
    must(to->create_qp(&side->qp, true, move), "CREATE_QP with RESTORE");
    must(to->load_object(GODWIT_STATE_QP, 0, side->qp.qpn, image_.qps[n++], sgid_index),
         "LOAD of a QP");
    must(to->attach(GODWIT_STATE_QP, 0, side->qp.qpn, side->qp.buffer), "ATTACH of a QP");
  }
}

void Process::abandon_restore() {
  destroy_objects(true);
  for (test::Buffer* buffer : buffers()) buffer->release();
  machine_ = nullptr;
}

void Process::go(std::uint32_t attempt) {
  must(machine_->resume(GODWIT_SCOPE_UCTX, uctx(), attempt), "RESUME");
  frozen_ = false;
}

bool Process::resuming() const {
  if (machine_ == nullptr || frozen_) return true;
  return std::any_of(sides_.begin(), sides_.end(), [this](const auto& side) {
    return (machine_->query_qp(side->qp.qpn).ext.raw & GODWIT_QP_EXT_RESUMING_MASK) != 0;
  });
}

void Process::destroy() { destroy_objects(true); }

}  // namespace godwit::sim
