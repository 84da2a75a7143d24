// SPDX-License-Identifier: GPL-2.0-or-later
//
// Work requests out of guest memory, completions into it. A WQE is read once per
// use, into a copy, and the copy is checked.
#include <algorithm>
#include <cstring>

#include "device/device.h"
#include "wire/endian.h"

namespace godwit::device {

using resources::CompletionQueue;
using transport::Fault;
using transport::Fetch;
using transport::Qp;
using transport::RecvRequest;
using transport::SendRequest;
using transport::WrOpcode;
using wire::from_le;
using wire::le32;
using wire::le64;

namespace {

struct OpcodeRow {
  std::uint8_t abi;
  WrOpcode opcode;
  bool remote;  // names remote memory
  bool atomic;
};
constexpr OpcodeRow kOpcodes[] = {
    {GODWIT_WR_SEND, WrOpcode::kSend, false, false},
    {GODWIT_WR_SEND_IMM, WrOpcode::kSendImm, false, false},
    {GODWIT_WR_WRITE, WrOpcode::kWrite, true, false},
    {GODWIT_WR_WRITE_IMM, WrOpcode::kWriteImm, true, false},
    {GODWIT_WR_READ, WrOpcode::kRead, true, false},
    {GODWIT_WR_COMPARE_SWAP, WrOpcode::kCompareSwap, true, true},
    {GODWIT_WR_FETCH_ADD, WrOpcode::kFetchAdd, true, true},
};

const OpcodeRow* opcode_row(std::uint8_t abi) {
  for (const OpcodeRow& row : kOpcodes) {
    if (row.abi == abi) return &row;
  }
  return nullptr;
}

std::uint8_t abi_opcode(WrOpcode opcode) {
  for (const OpcodeRow& row : kOpcodes) {
    if (row.opcode == opcode) return row.abi;
  }
  return GODWIT_WR_SEND;
}

// False: the sum does not fit a message.
bool decode_sges(const std::uint8_t* bytes, unsigned count, transport::Sge* sges,
                 std::uint32_t* length) {
  std::uint64_t sum = 0;
  for (unsigned i = 0; i < count; ++i) {
    godwit_sge in;
    std::memcpy(&in, bytes + i * sizeof(in), sizeof(in));
    sges[i].addr = from_le(in.addr);
    sges[i].length = from_le(in.length);
    sges[i].lkey = from_le(in.lkey);
    sum += sges[i].length;
  }
  *length = static_cast<std::uint32_t>(std::min<std::uint64_t>(sum, UINT32_MAX));
  return sum <= GODWIT_MAX_MESSAGE;
}

}  // namespace

bool Device::decode_send(const QueuePair& qp, const std::uint8_t* bytes, SendRequest* request) {
  godwit_send_wqe wqe;
  std::memcpy(&wqe, bytes, sizeof(wqe));
  const std::uint8_t* data = bytes + sizeof(wqe);
  constexpr unsigned kFlags = GODWIT_WQE_SIGNALED_MASK | GODWIT_WQE_SOLICITED_MASK |
                              GODWIT_WQE_FENCE_MASK | GODWIT_WQE_INLINE_MASK;
  const OpcodeRow* row = opcode_row(wqe.opcode);
  if (row == nullptr || (wqe.flags & ~kFlags) != 0 || wqe.reserved_18 != 0 ||
      from_le(wqe.reserved_60) != 0) {
    return false;
  }
  if (row->atomic && !config_.atomics) return false;
  request->opcode = row->opcode;
  request->signaled = qp.signal_all || (wqe.flags & GODWIT_WQE_SIGNALED_MASK) != 0;
  request->solicited = (wqe.flags & GODWIT_WQE_SOLICITED_MASK) != 0;
  request->fence = (wqe.flags & GODWIT_WQE_FENCE_MASK) != 0;
  request->inline_data = (wqe.flags & GODWIT_WQE_INLINE_MASK) != 0;
  request->immediate_be = wqe.imm_or_invalidate.raw;
  request->remote_addr = request->compare_add = request->swap = 0;
  request->rkey = 0;
  if (row->remote) {
    request->remote_addr = from_le(wqe.u.rdma.remote_addr);
    request->rkey = from_le(wqe.u.rdma.rkey);
    request->compare_add = from_le(wqe.u.rdma.compare_add);
    request->swap = from_le(wqe.u.rdma.swap);
  }
  if (request->inline_data) {
    const std::uint32_t length = from_le(wqe.inline_length);
    if (row->opcode == WrOpcode::kRead || row->atomic || wqe.num_sge != 0 ||
        length > qp.max_inline) {
      return false;
    }
    request->sge_count = 0;
    request->length = length;
    std::memcpy(request->inline_bytes.data(), data, length);
    return true;
  }
  if (wqe.num_sge > qp.max_send_sge || from_le(wqe.inline_length) != 0) return false;
  request->sge_count = wqe.num_sge;
  if (!decode_sges(data, wqe.num_sge, request->sge.data(), &request->length)) return false;
  if (row->atomic) {
    if (request->length < 8) return false;
    request->length = 8;
  }
  return true;
}

Fetch Device::fetch_send(Qp& base, std::uint16_t index, SendRequest* request) {
  auto& qp = static_cast<QueuePair&>(base);
  const std::uint16_t behind = qp.req.producer - index;
  if (behind == 0 || behind > qp.sq_depth()) return Fetch::kEmpty;
  const std::size_t stride = std::size_t{1} << qp.log2_sq_stride;
  const std::uint64_t at = qp.sq_offset + (index & (qp.sq_depth() - 1)) * stride;
  std::array<std::uint8_t, GODWIT_SEND_WQE_STRIDE_MAX> bytes;
  if (!qp.buffer.read(*this, at, bytes.data(), stride) || !decode_send(qp, bytes.data(), request)) {
    trace(GODWIT_TRACE_BAD_WQE, qp.qpn, index);
    return Fetch::kBad;
  }
  return Fetch::kOk;
}

Fetch Device::fetch_recv(Qp& base, std::uint16_t index, RecvRequest* request) {
  auto& qp = static_cast<QueuePair&>(base);
  const std::uint32_t depth = qp.rq_depth();
  if (depth == 0 || !qp.attached()) return Fetch::kEmpty;
  if (static_cast<std::uint16_t>(qp.rq_producer - index) == 0 ||
      static_cast<std::uint16_t>(qp.rq_producer - index) > depth) {
    godwit_le32 producer;
    if (!qp.buffer.read(*this, qp.record_offset + offsetof(godwit_qp_record, rq_producer),
                        &producer, sizeof(producer))) {
      return Fetch::kEmpty;
    }
    const auto seen = static_cast<std::uint16_t>(from_le(producer));
    const std::uint16_t ahead = seen - index;
    if (ahead > depth) {
      trace(GODWIT_TRACE_BAD_WQE, qp.qpn, index);
      return Fetch::kEmpty;  // an index that cannot be: as if nothing had been posted
    }
    qp.rq_producer = seen;
    if (ahead == 0) return Fetch::kEmpty;
  }
  const std::size_t stride = std::size_t{1} << qp.log2_rq_stride;
  const std::uint64_t at = qp.rq_offset + (index & (depth - 1)) * stride;
  std::array<std::uint8_t, GODWIT_RECV_WQE_STRIDE_MAX> bytes;
  godwit_recv_wqe wqe;
  if (!qp.buffer.read(*this, at, bytes.data(), stride)) return Fetch::kBad;
  std::memcpy(&wqe, bytes.data(), sizeof(wqe));
  if (wqe.num_sge > qp.max_recv_sge || !wire::all_zero(wqe.reserved_8, sizeof(wqe.reserved_8)) ||
      !decode_sges(bytes.data() + sizeof(wqe), wqe.num_sge, request->sge.data(),
                   &request->length)) {
    trace(GODWIT_TRACE_BAD_WQE, qp.qpn, index);
    return Fetch::kBad;
  }
  request->sge_count = wqe.num_sge;
  return Fetch::kOk;
}

bool Device::push_cqe(QueuePair& qp, CompletionQueue& cq, godwit_cqe* entry, bool solicited) {
  // A QP that ends because its CQ is broken still has to end.
  if (cq.failed && qp.attr.status == transport::Status::kError) return true;
  entry->qpn = le32(qp.qpn);
  entry->timestamp_ns = le64(now_ns_ + clock_offset_ns_);
  const bool error = entry->status != GODWIT_CQE_SUCCESS;
  if (error) {
    trace(GODWIT_TRACE_QP_ERROR, qp.qpn, entry->vendor_err, 0, entry->status);
  }
  switch (cq.push(*this, entry, solicited || error)) {
    case CompletionQueue::Push::kOk:
      if (cq.event_pending) list(cq);
      return true;
    case CompletionQueue::Push::kOverflow:
    case CompletionQueue::Push::kDma:
      fail_cq(cq);
      return false;
  }
  return false;
}

bool Device::complete_send(Qp& base, const transport::SendCompletion& completion) {
  auto& qp = static_cast<QueuePair&>(base);
  if (qp.send_cq == nullptr) return true;
  godwit_cqe entry = {};
  entry.wqe_index = le32(completion.wqe_index);
  entry.byte_len = le32(completion.byte_len);
  entry.opcode = abi_opcode(completion.opcode);
  entry.status = transport::completion_status(completion.fault);
  entry.vendor_err = static_cast<std::uint8_t>(completion.fault);
  return push_cqe(qp, *qp.send_cq, &entry, false);
}

bool Device::complete_recv(Qp& base, const transport::RecvCompletion& completion) {
  auto& qp = static_cast<QueuePair&>(base);
  if (qp.recv_cq == nullptr) return true;
  godwit_cqe entry = {};
  entry.wqe_index = le32(completion.wqe_index);
  entry.byte_len = le32(completion.byte_len);
  entry.opcode =
      completion.write_with_immediate ? GODWIT_CQE_OP_RECV_WRITE_IMM : GODWIT_CQE_OP_RECV;
  entry.flags = GODWIT_CQE_RECV_MASK;
  if (completion.has_immediate) {
    entry.flags |= GODWIT_CQE_IMM_MASK;
    entry.imm_or_invalidated.raw = completion.immediate_be;
  }
  entry.status = transport::completion_status(completion.fault);
  entry.vendor_err = static_cast<std::uint8_t>(completion.fault);
  return push_cqe(qp, *qp.recv_cq, &entry, completion.solicited);
}

bool Device::read_sq_producer(QueuePair& qp, std::uint16_t* producer) {
  godwit_le32 value;
  if (!qp.buffer.read(*this, qp.record_offset + offsetof(godwit_qp_record, sq_producer), &value,
                      sizeof(value))) {
    return false;
  }
  *producer = static_cast<std::uint16_t>(from_le(value));
  return true;
}

// An index behind the last one is of a doorbell that was overtaken.
void Device::post_sq(QueuePair& qp, std::uint16_t producer) {
  const auto posted = static_cast<std::uint16_t>(producer - qp.req.consumer);
  const auto known = static_cast<std::uint16_t>(qp.req.producer - qp.req.consumer);
  if (posted > qp.sq_depth() || posted < known) return;
  transport::on_send_posted(qp, producer);
}

}  // namespace godwit::device
