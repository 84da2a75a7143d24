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

bool Process::at_least(Stage stage) const {
  return std::all_of(sides_.begin(), sides_.end(),
                     [stage](const auto& side) { return side->stage >= stage; });
}

std::string Process::summary() const {
  std::ostringstream out;
  out << "process " << index_ << (frozen_ ? " frozen" : "");
  for (const auto& side : sides_) {
    out << "; QP " << std::hex << side->qp.qpn << std::dec << ": stage "
        << static_cast<int>(side->stage) << ", " << side->left << " to post, "
        << side->outstanding.size() << " outstanding, " << side->expected.size() << " expected";
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
    constexpr std::size_t kShared = 1;  // in buffers()
    std::copy_n(image_.memory[kShared].begin() + offset, bytes->size(), bytes->begin());
  }
}

// The slot holds `data`, and behind it what it held before. From now on this is what it has to
// hold.
void Process::expect_slot(const MemoryRegion& region, std::vector<std::uint8_t>& should,
                          std::uint32_t offset, std::span<const std::uint8_t> data,
                          const char* what) {
  std::copy(data.begin(), data.end(), should.begin() + offset);
  std::vector<std::uint8_t> here(kSlot);
  if (&region == &shared_) {
    peek(offset, &here);
  } else {
    region.buffer.read(offset, here.data(), here.size());
  }
  if (std::memcmp(here.data(), should.data() + offset, kSlot) == 0) return;
  const std::size_t at = static_cast<std::size_t>(
      std::mismatch(here.begin(), here.end(), should.begin() + offset).first - here.begin());
  std::ostringstream out;
  out << what << ": " << (at < data.size() ? "wrong data" : "bytes beside it were touched")
      << ", from byte " << at << " of " << data.size() << " at " << offset;
  check(false, out.str());
}

// The owner of memory that was written to may change it; a WRITE that is done twice undoes that.
void Process::scribble(std::uint32_t offset, std::size_t length) {
  if (machine_ == nullptr || frozen_ || length == 0) return;
  const std::span<std::uint8_t> should(shared_should_.data() + offset, length);
  rng_->fill(should);
  shared_.buffer.write(offset, should.data(), should.size());
}

bool Process::being_read(const Side& side, std::uint32_t offset) const {
  return std::any_of(side.outstanding.begin(), side.outstanding.end(), [&](const Operation& op) {
    return op.opcode == GODWIT_WR_READ && op.remote == offset;
  });
}

// ------------------------------------------------------------ life

void Process::create(Machine* machine, unsigned connections) {
  machine_ = machine;
  must(machine->create_uctx(uctx()), "CREATE_UCTX");
  must(machine->create_pd(uctx(), index_ + 1), "CREATE_PD");
  send_cq_.uctx = recv_cq_.uctx = uctx();
  send_cq_.number = 7;
  recv_cq_.number = 0x123456;
  send_cq_.log2_depth = recv_cq_.log2_depth = 7;
  must(machine->create_cq(&send_cq_), "CREATE_CQ");
  must(machine->create_cq(&recv_cq_), "CREATE_CQ");

  local_.pdn = shared_.pdn = index_ + 1;
  local_.access = GODWIT_ACCESS_LOCAL_WRITE;
  shared_.access = GODWIT_ACCESS_LOCAL_WRITE | GODWIT_ACCESS_REMOTE_WRITE |
                   GODWIT_ACCESS_REMOTE_READ | GODWIT_ACCESS_REMOTE_ATOMIC;
  local_.iova = 0x7f0000000000 + rng_->below(256) * 4096 + 40;
  shared_.iova = 0x7e0000000000 + rng_->below(256) * 4096 + 64;
  local_should_.resize(std::size_t{connections} * kLocalSlots * kSlot);
  shared_should_.resize(kConstantBytes + kCells * 8 +
                        std::size_t{connections} * kWriteSlots * kSlot);
  rng_->fill(std::span(shared_should_).first(kConstantBytes));
  std::fill(local_should_.begin(), local_should_.end(), std::uint8_t{0x5a});
  std::fill(shared_should_.begin() + kConstantBytes + kCells * 8, shared_should_.end(),
            std::uint8_t{0xa5});
  local_.buffer = test::make_buffer(machine->memory(), local_should_.size(), 40);
  shared_.buffer = test::make_buffer(machine->memory(), shared_should_.size(), 64);
  local_.buffer.write(0, local_should_.data(), local_should_.size());
  shared_.buffer.write(0, shared_should_.data(), shared_should_.size());
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

void Process::plan(const test::ConnectOptions& options,
                   std::function<test::Endpoint(const Side&)> endpoint) {
  options_ = options;
  endpoint_ = std::move(endpoint);
}

void Process::connect_step(Side& side) {
  switch (side.stage) {
    case Stage::kReset:
      must(machine_->to_init(side.qp, options_), "MODIFY_QP to Init");
      side.stage = Stage::kInit;
      return;
    case Stage::kInit:
      must(machine_->to_rtr(side.qp, options_, endpoint_(*side.peer)), "MODIFY_QP to RTR");
      side.stage = Stage::kRtr;
      return;
    case Stage::kRtr:
      must(machine_->to_rts(side.qp, options_, side.psn), "MODIFY_QP to RTS");
      side.stage = Stage::kRts;
      return;
    case Stage::kRts:
      return;
  }
}

bool Process::done() const {
  return std::all_of(sides_.begin(), sides_.end(), [](const auto& side) {
    return side->stage == Stage::kRts && !side->draining && side->left == 0 &&
           side->outstanding.empty() && side->expected.empty();
  });
}

void Process::step(bool connects_slowly) {
  if (frozen_ || machine_ == nullptr) return;
  poll_queue(send_cq_, send_waiting_);
  poll_queue(recv_cq_, recv_waiting_);
  if (!event_driven_ && rng_->chance(30)) machine_->arm(recv_cq_, rng_->chance(50));
  for (auto& side : sides_) {
    if (side->stage != Stage::kRts && (!connects_slowly || rng_->chance(10))) {
      connect_step(*side);
    }
    if (side->stage == Stage::kReset) continue;
    post_receives(*side);
    // Whoever sends knows that the other end is ready to receive.
    if (side->stage != Stage::kRts || side->peer->stage < Stage::kRtr) continue;
    if (drains_ && rng_->chance(side->draining ? 20 : 1)) {
      side->draining = !side->draining;
      must(machine_->set_status(side->qp.qpn,
                                side->draining ? GODWIT_QP_STATUS_SQD : GODWIT_QP_STATUS_RTS),
           "MODIFY_QP between RTS and SQD");
    }
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
    const std::uint32_t offset = recv_slot(side, side.recv_posted);
    expect_slot(local_, local_should_, offset, {}, "a receive buffer that is not posted");
    side.qp.write_recv(split(offset, kSlot));
    ++side.recv_posted;
  }
}

void Process::post_one(Side& side) {
  Operation op;
  test::SendWork work;
  static constexpr std::uint8_t kOpcodes[] = {
      GODWIT_WR_SEND, GODWIT_WR_SEND_IMM,     GODWIT_WR_WRITE,    GODWIT_WR_WRITE_IMM,
      GODWIT_WR_READ, GODWIT_WR_COMPARE_SWAP, GODWIT_WR_FETCH_ADD};
  --side.left;
  std::uint32_t length = 0;
  if (side.scripted < side.script.size()) {
    const Step& step = side.script[side.scripted++];
    op.opcode = step.opcode;
    op.signaled = side.left == 0 || (step.flags & GODWIT_WQE_SIGNALED_MASK) != 0;
    length = step.length;
    work.flags = step.flags | (op.signaled ? GODWIT_WQE_SIGNALED_MASK : 0);
  } else {
    op.opcode = kOpcodes[rng_->below(std::size(kOpcodes))];
    op.signaled = side.left == 0 || side.outstanding.size() == kDepth - 1 || rng_->chance(60);
    length = static_cast<std::uint32_t>(rng_->below(rng_->chance(50) ? 64 : kMaxMessage));
    work.flags = (op.signaled ? GODWIT_WQE_SIGNALED_MASK : 0) |
                 (rng_->chance(20) ? GODWIT_WQE_FENCE_MASK : 0) |
                 (rng_->chance(20) ? GODWIT_WQE_SOLICITED_MASK : 0) |
                 (rng_->chance(50) ? GODWIT_WQE_INLINE_MASK : 0);
  }
  op.index = side.qp.sq_producer;
  op.immediate = static_cast<std::uint32_t>(rng_->next());
  op.local_slot = send_slot(side, op.index);
  work.opcode = op.opcode;
  expect_slot(local_, local_should_, op.local_slot, {}, "a send buffer that is not in use");
  const bool inlined = (work.flags & GODWIT_WQE_INLINE_MASK) != 0 && length <= side.qp.max_inline;
  work.flags &= static_cast<std::uint8_t>(~GODWIT_WQE_INLINE_MASK);
  Process& other = *side.peer->process;
  switch (op.opcode) {
    case GODWIT_WR_SEND:
    case GODWIT_WR_SEND_IMM:
    case GODWIT_WR_WRITE:
    case GODWIT_WR_WRITE_IMM: {
      op.data.resize(length);
      rng_->fill(op.data);
      work.immediate = op.immediate;
      if (!is_send(op.opcode)) {
        op.remote = other.write_slot(*side.peer, side.writes++);
        other.expect_slot(other.shared_, other.shared_should_, op.remote, {},
                          "memory that no WRITE is on its way to");
        work.remote_addr = other.shared_.iova + op.remote;
        work.rkey = other.shared_.key;
      }
      if (inlined) {
        work.flags |= GODWIT_WQE_INLINE_MASK;
        work.inline_data = op.data;
      } else {
        local_.buffer.write(op.local_slot, op.data.data(), op.data.size());
        std::copy(op.data.begin(), op.data.end(), local_should_.begin() + op.local_slot);
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
    case GODWIT_WR_READ: {
      // What never changes, or what the last WRITE before it has left.
      const auto last =
          std::find_if(side.outstanding.rbegin(), side.outstanding.rend(), [](const Operation& o) {
            return o.opcode == GODWIT_WR_WRITE || o.opcode == GODWIT_WR_WRITE_IMM;
          });
      if (last != side.outstanding.rend() && rng_->chance(50)) {
        length = std::min<std::uint32_t>(length, static_cast<std::uint32_t>(last->data.size()));
        op.remote = last->remote;
        op.data.assign(last->data.begin(), last->data.begin() + length);
      } else {
        op.remote = static_cast<std::uint32_t>(rng_->below(kConstantBytes - length));
        op.data.assign(other.shared_should_.begin() + op.remote,
                       other.shared_should_.begin() + op.remote + length);
      }
      work.remote_addr = other.shared_.iova + op.remote;
      work.rkey = other.shared_.key;
      work.sges = split(op.local_slot, length);
      break;
    }
    default:
      work.remote_addr = other.shared_.iova + other.cell_offset(*side.peer);
      work.rkey = other.shared_.key;
      op.before = op.after = side.predicted;
      if (op.opcode == GODWIT_WR_FETCH_ADD) {
        work.compare_add = rng_->next() | 1;  // never 0: twice is not the same as once
        op.after += work.compare_add;
      } else {
        work.compare_add = rng_->chance(60) ? op.before : rng_->next();
        work.swap = rng_->next();
        if (work.compare_add == op.before) op.after = work.swap;
      }
      side.predicted = op.after;
      op.data.resize(8);
      std::memcpy(op.data.data(), &op.before, 8);
      work.sges = {{local_.iova + op.local_slot, 8, local_.key}};
      break;
  }
  side.qp.write_send(work);
  side.outstanding.push_back(std::move(op));
}

// As an application does with a completion channel: arm, look once more, then wait.
void Process::poll_queue(CompletionQueue& cq, Waiting& state) {
  if (!event_driven_) {
    poll(cq);
    return;
  }
  if (state.waiting && !state.notified) return;
  state = {};
  while (poll(cq)) {
  }
  machine_->arm(cq);
  while (poll(cq)) {
  }
  state.waiting = true;
}

bool Process::on_completion_event(std::uint32_t event_number) {
  for (const auto& [cq, state] :
       {std::pair(&send_cq_, &send_waiting_), std::pair(&recv_cq_, &recv_waiting_)}) {
    if (cq->event_number != event_number) continue;
    check(!stopped_, "an event after STOP");
    state->notified = true;
    return true;
  }
  return false;
}

bool Process::on_qp_event(std::uint32_t qpn, std::uint8_t subtype) {
  for (auto& side : sides_) {
    if (side->qp.qpn != qpn) continue;
    check(!stopped_, "an event of a QP after STOP");
    if (subtype == GODWIT_EQE_QP_RESUMED) {
      check(++side->resumed_seen == 1, "a second event RESUMED");
    } else {
      check(subtype == GODWIT_EQE_QP_COMM_EST,
            "an event of a QP that says " + std::to_string(subtype));
    }
    return true;
  }
  return false;
}

// Whether there was something.
bool Process::poll(CompletionQueue& cq) {
  bool any = false;
  while (verdict_->ok()) {
    const std::optional<godwit_cqe> entry = cq.poll();
    if (!entry) return any;
    any = true;
    const auto side = std::find_if(sides_.begin(), sides_.end(),
                                   [&](const auto& s) { return s->qp.qpn == entry->qpn.raw; });
    if (side == sides_.end()) {
      check(false, "completion of an unknown QP");
      return false;
    }
    if (entry->status != GODWIT_CQE_SUCCESS) {
      std::ostringstream out;
      out << "completion with status " << int{entry->status} << ", fault " << int{entry->vendor_err}
          << ", opcode " << int{entry->opcode};
      check(false, out.str());
      return false;
    }
    if ((entry->flags & GODWIT_CQE_RECV_MASK) != 0) {
      on_recv(**side, *entry);
    } else {
      on_send(**side, *entry);
    }
  }
  return false;
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
      Process& other = *side.peer->process;
      other.expect_slot(other.shared_, other.shared_should_, op.remote, op.data,
                        "a WRITE that is complete");
      if (rng_->chance(50) && !being_read(side, op.remote)) {
        other.scribble(op.remote, op.data.size());
      }
      expect_slot(local_, local_should_, op.local_slot, {}, "the source of a WRITE");
      break;
    }
    case GODWIT_WR_READ:
      expect_slot(local_, local_should_, op.local_slot, op.data, "what a READ brought");
      break;
    case GODWIT_WR_COMPARE_SWAP:
    case GODWIT_WR_FETCH_ADD:
      expect_slot(local_, local_should_, op.local_slot, op.data, "what an atomic brought");
      side.cell = op.after;
      break;
    default:
      expect_slot(local_, local_should_, op.local_slot, {}, "the source of a SEND");
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
  check(entry.opcode ==
            (expected.write_immediate ? GODWIT_CQE_OP_RECV_WRITE_IMM : GODWIT_CQE_OP_RECV),
        "wrong opcode in a receive completion");
  check(entry.byte_len.raw == expected.length, "wrong length of a message");
  const bool immediate = (entry.flags & GODWIT_CQE_IMM_MASK) != 0;
  check(immediate == expected.has_immediate, "immediate data where none was sent, or none");
  if (immediate) {
    check(entry.imm_or_invalidated.raw == expected.immediate, "wrong immediate data");
  }
  // Of a WRITE with immediate nothing goes into the receive buffer.
  const std::uint32_t slot = recv_slot(side, side.recv_done);
  expect_slot(local_, local_should_, slot, expected.data, "a message");
  ++side.recv_done;
}

// ------------------------------------------------------------ moving

std::vector<test::Buffer*> Process::buffers() {
  std::vector<test::Buffer*> out = {&local_.buffer, &shared_.buffer, &send_cq_.buffer,
                                    &recv_cq_.buffer};
  for (auto& side : sides_) out.push_back(&side->qp.buffer);
  return out;
}

// BUSY if a QP has been at too many places; then it runs on.
test::Result Process::freeze() {
  const test::Result result = machine_->scope(GODWIT_CMD_STOP, GODWIT_SCOPE_UCTX, uctx());
  if (result.status == GODWIT_CMD_STATUS_BUSY) return result;
  must(result, "STOP");
  frozen_ = true;
  return result;
}

// From here on nothing may change, and no event may come; all that there were have been given out.
void Process::freeze_memory() {
  stopped_ = true;
  image_ = {};
  for (const test::Buffer* buffer : buffers()) image_.memory.push_back(buffer->contents());
}

void Process::check_still(const char* when) {
  std::size_t n = 0;
  for (const test::Buffer* buffer : buffers()) {
    check(buffer->contents() == image_.memory[n],
          std::string("memory changed between STOP and ") + when + ", buffer " + std::to_string(n));
    ++n;
  }
  stopped_ = false;
}

void Process::thaw() {
  check_still("UNSTOP");
  must(machine_->scope(GODWIT_CMD_UNSTOP, GODWIT_SCOPE_UCTX, uctx()), "UNSTOP");
  frozen_ = false;
}

void Process::leave(std::uint64_t move) {
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
  for (auto& side : sides_) {
    if (side->stage == Stage::kRtr || side->stage == Stage::kRts) {
      must(machine_->tombstone(side->qp.qpn, move), "TOMBSTONE");
    } else {
      must(machine_->destroy_qp(side->qp.qpn), "DESTROY_QP");
    }
  }
  check_still("its end");
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
    must(to->load_object(GODWIT_STATE_CQ, uctx(), cq->number, image_.cqs[n++], 0), "LOAD of a CQ");
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

void Process::lose_restore(bool memory_too) {
  for (test::Buffer* buffer : buffers()) {
    if (memory_too) {
      buffer->pages.clear();
    } else {
      buffer->release();
    }
  }
  machine_ = nullptr;
}

void Process::go(std::uint32_t attempt) {
  must(machine_->resume(GODWIT_SCOPE_UCTX, uctx(), attempt), "RESUME");
  frozen_ = false;
  for (auto& side : sides_) side->resumed_seen = 0;
  for (auto& side : sides_) {
    // May be over already, if the peer is on the same machine.
    side->resumed_due =
        (machine_->query_qp(side->qp.qpn).ext.raw & GODWIT_QP_EXT_RESUMING_MASK) != 0;
  }
}

// None of the QPs is Resuming any more: that has been told.
void Process::check_resumed_events() {
  for (const auto& side : sides_) {
    check(!side->resumed_due || side->resumed_seen == 1,
          "a QP has resumed, and no event has told it");
  }
}

bool Process::resuming() const {
  if (machine_ == nullptr || frozen_) return true;
  return std::any_of(sides_.begin(), sides_.end(), [this](const auto& side) {
    return (machine_->query_qp(side->qp.qpn).ext.raw & GODWIT_QP_EXT_RESUMING_MASK) != 0;
  });
}

void Process::destroy() { destroy_objects(true); }

void Process::check_end() {
  for (CompletionQueue* cq : {&send_cq_, &recv_cq_}) {
    check(!poll(*cq), "a completion after the last one");
  }
  for (const auto& side : sides_) {
    const std::uint64_t cell = side->peer->cell;
    check(side->cell == side->predicted, "an atomic was not done");
    std::memcpy(shared_should_.data() + cell_offset(*side), &cell, sizeof(cell));
    const auto taken = static_cast<std::uint16_t>(side->recv_done);
    check(machine_->query_qp(side->qp.qpn).rq_consumer.raw == taken,
          "receive WQEs were used that nothing came into");
  }
  check(local_.buffer.contents() == local_should_, "memory beside the messages was touched");
  check(shared_.buffer.contents() == shared_should_,
        "the shared memory is not what the operations leave");
}

}  // namespace godwit::sim
