// SPDX-License-Identifier: GPL-2.0-or-later
//
// Commands for event queues, user contexts, GIDs, protection domains, memory
// regions and completion queues.
#include <algorithm>
#include <cstring>

#include "device/commands.h"
#include "wire/endian.h"

namespace godwit::device {

using resources::CompletionQueue;
using resources::EventQueue;
using resources::MemoryRegion;
using resources::PageListRequest;
using resources::ProtectionDomain;
using resources::WalkResult;
using wire::from_le;
using wire::le32;

namespace {

std::uint64_t cq_key(std::uint32_t uctx, std::uint32_t number) {
  return std::uint64_t{uctx} << 32 | number;
}

struct ListOffsets {
  std::size_t list, page_count, page_shift, first_offset;
};

Reply walk_reply(WalkResult result, const ListOffsets& at) {
  switch (result) {
    case WalkResult::kOk:
      return {};
    case WalkResult::kBadShift:
      return bad(at.page_shift);
    case WalkResult::kBadOffset:
      return bad(at.first_offset);
    case WalkResult::kBadCount:
      return bad(at.page_count);
    case WalkResult::kBadAddress:
      return bad(at.list);
    case WalkResult::kNoResources:
      return Reply::fail(GODWIT_CMD_STATUS_NO_RESOURCES, at.page_count);
    case WalkResult::kDma:
      return Reply::fail(GODWIT_CMD_STATUS_DMA_ERROR, at.list);
  }
  return Reply::fail(GODWIT_CMD_STATUS_DMA_ERROR, at.list);
}

}  // namespace

CompletionQueue* Device::find_cq(std::uint32_t uctx, std::uint32_t number) {
  auto* found = cqs_.find(cq_key(uctx, number));
  return found == nullptr ? nullptr : found->get();
}

ProtectionDomain* Device::find_pd(std::uint32_t number) {
  auto* found = pds_.find(number);
  return found == nullptr ? nullptr : found->get();
}

// Queues: entries and records lie at multiples of 64, so that none crosses a page.
Reply Device::walk_buffer(resources::PageMap& map, const godwit_buffer& buffer,
                          std::size_t detail) {
  PageListRequest request;
  request.list = from_le(buffer.list);
  request.page_count = from_le(buffer.page_count);
  request.page_shift = from_le(buffer.page_shift);
  request.first_offset = from_le(buffer.first_offset);
  request.length = from_le(buffer.length);
  if (request.first_offset % 64 != 0) return bad(detail + offsetof(godwit_buffer, first_offset));
  const ListOffsets at = {
      detail + offsetof(godwit_buffer, list), detail + offsetof(godwit_buffer, page_count),
      detail + offsetof(godwit_buffer, page_shift), detail + offsetof(godwit_buffer, first_offset)};
  return walk_reply(map.walk(*this, page_budget_, request), at);
}

Reply Device::cmd_create_eq(const std::uint8_t* params) {
  using In = godwit_cmd_create_eq;
  const In in = copy<In>(params);
  const std::uint32_t eqn = from_le(in.eqn);
  const std::uint32_t vector = from_le(in.vector);
  const std::uint32_t log2_depth = from_le(in.log2_depth);
  if (eqn >= eqs_.size()) return bad(offsetof(In, eqn));
  if (vector >= config_.vectors) return bad(offsetof(In, vector));
  if (log2_depth < 4 || log2_depth > 16) return bad(offsetof(In, log2_depth));
  if (from_le(in.reserved_60) != 0) return bad(offsetof(In, reserved_60));
  if (from_le(in.buffer.length) < sizeof(godwit_eqe) << log2_depth) {
    return bad(offsetof(In, buffer.length));
  }
  if (eqs_[eqn] != nullptr) return Reply::fail(GODWIT_CMD_STATUS_EXISTS, offsetof(In, eqn));
  auto eq = std::make_unique<EventQueue>();
  const Reply walked = walk_buffer(eq->buffer, in.buffer, offsetof(In, buffer));
  if (!walked.ok()) return walked;
  eq->number = eqn;
  eq->vector = vector;
  eq->log2_depth = log2_depth;
  eqs_[eqn] = std::move(eq);
  return {};
}

Reply Device::cmd_destroy_eq(const std::uint8_t* params) {
  using In = godwit_cmd_number;
  const In in = copy<In>(params);
  const std::uint32_t eqn = from_le(in.number);
  if (from_le(in.reserved_20) != 0) return bad(offsetof(In, reserved_20));
  if (eqn >= eqs_.size() || eqs_[eqn] == nullptr) return not_found(offsetof(In, number));
  if (eqs_[eqn]->cqs != 0) return Reply::fail(GODWIT_CMD_STATUS_IN_USE);
  eqs_[eqn]->buffer.release(page_budget_);
  eqs_[eqn].reset();
  return {};
}

Reply Device::cmd_create_uctx(const std::uint8_t* params) {
  using In = godwit_cmd_number;
  const In in = copy<In>(params);
  const std::uint32_t number = from_le(in.number);
  if (from_le(in.reserved_20) != 0) return bad(offsetof(In, reserved_20));
  if (number == 0 || number >= uctxs_.size()) return bad(offsetof(In, number));
  if (uctxs_[number].used) return Reply::fail(GODWIT_CMD_STATUS_EXISTS, offsetof(In, number));
  uctxs_[number] = {};
  uctxs_[number].used = true;
  halves_[number] = {};
  return {};
}

Reply Device::cmd_destroy_uctx(const std::uint8_t* params) {
  using In = godwit_cmd_number;
  const In in = copy<In>(params);
  const std::uint32_t number = from_le(in.number);
  if (from_le(in.reserved_20) != 0) return bad(offsetof(In, reserved_20));
  if (number == 0) return bad(offsetof(In, number));
  if (!uctx_exists(number)) return not_found(offsetof(In, number));
  if (uctxs_[number].objects != 0) return Reply::fail(GODWIT_CMD_STATUS_IN_USE);
  uctxs_[number] = {};
  return {};
}

Reply Device::cmd_set_gid(const std::uint8_t* params) {
  using In = godwit_cmd_set_gid;
  const In in = copy<In>(params);
  const std::uint32_t index = from_le(in.index);
  constexpr unsigned kKnown = GODWIT_GID_VALID_MASK | GODWIT_GID_IPV4_MASK | GODWIT_GID_VLAN_MASK;
  static constexpr std::array<std::uint8_t, 12> kMapped = {0, 0, 0, 0, 0,    0,
                                                           0, 0, 0, 0, 0xff, 0xff};
  if (index >= kGidEntries) return bad(offsetof(In, index));
  if ((in.flags & ~kKnown) != 0) return bad(offsetof(In, flags));
  if ((in.flags & GODWIT_GID_VLAN_MASK) != 0) {
    return Reply::fail(GODWIT_CMD_STATUS_NOT_SUPPORTED, offsetof(In, flags));
  }
  if (in.reserved_28 != 0) return bad(offsetof(In, reserved_28));
  if (from_le(in.reserved_70) != 0) return bad(offsetof(In, reserved_70));
  const bool mapped = std::equal(kMapped.begin(), kMapped.end(), in.gid);
  if ((in.flags & GODWIT_GID_VALID_MASK) != 0 &&
      mapped != ((in.flags & GODWIT_GID_IPV4_MASK) != 0)) {
    return bad(offsetof(In, gid));
  }
  transport::GidEntry entry;
  if ((in.flags & GODWIT_GID_VALID_MASK) != 0) {
    entry.valid = true;
    entry.ipv4 = mapped;
    std::copy_n(in.gid, 16, entry.gid.begin());
    std::copy_n(in.mac, 6, entry.mac.begin());
  }
  gids_[index] = entry;
  rebuild_gids();
  return {};
}

void Device::rebuild_gids() {
  valid_gids_.clear();
  for (std::size_t i = 0; i < gids_.size(); ++i) {
    if (gids_[i].valid) valid_gids_.push_back(static_cast<std::uint16_t>(i));
  }
}

Reply Device::cmd_create_pd(const std::uint8_t* params) {
  using In = godwit_cmd_object;
  const In in = copy<In>(params);
  const std::uint32_t number = from_le(in.number);
  const std::uint32_t uctx = from_le(in.uctx);
  if (!uctx_exists(uctx)) return not_found(offsetof(In, uctx));
  if (number > kNumberMask) return bad(offsetof(In, number));
  if (find_pd(number) != nullptr) {
    return Reply::fail(GODWIT_CMD_STATUS_EXISTS, offsetof(In, number));
  }
  if (pds_.size() >= config_.max_pd) return Reply::fail(GODWIT_CMD_STATUS_NO_RESOURCES);
  auto pd = std::make_unique<ProtectionDomain>();
  pd->number = number;
  pd->uctx = uctx;
  pds_.insert(number, std::move(pd));
  ++uctxs_[uctx].objects;
  return {};
}

Reply Device::cmd_destroy_pd(const std::uint8_t* params) {
  using In = godwit_cmd_object;
  const In in = copy<In>(params);
  const std::uint32_t number = from_le(in.number);
  ProtectionDomain* pd = find_pd(number);
  if (pd == nullptr || pd->uctx != from_le(in.uctx)) return not_found(offsetof(In, number));
  if (pd->qps != 0 || pd->regions.size() != 0) return Reply::fail(GODWIT_CMD_STATUS_IN_USE);
  --uctxs_[pd->uctx].objects;
  pds_.erase(number);
  return {};
}

Reply Device::cmd_reg_mr(const std::uint8_t* params) {
  using In = godwit_cmd_reg_mr;
  const In in = copy<In>(params);
  constexpr std::uint32_t kAccess = GODWIT_ACCESS_LOCAL_WRITE | GODWIT_ACCESS_REMOTE_WRITE |
                                    GODWIT_ACCESS_REMOTE_READ | GODWIT_ACCESS_REMOTE_ATOMIC |
                                    GODWIT_ACCESS_MW_BIND | GODWIT_ACCESS_ZERO_BASED;
  constexpr std::uint32_t kNeedsLocal = GODWIT_ACCESS_REMOTE_WRITE | GODWIT_ACCESS_REMOTE_ATOMIC;
  const std::uint32_t access = from_le(in.access);
  const std::uint32_t flags = from_le(in.flags);
  const std::uint32_t key = from_le(in.key);
  if ((access & ~kAccess) != 0) return bad(offsetof(In, access));
  if ((access & kNeedsLocal) != 0 && (access & GODWIT_ACCESS_LOCAL_WRITE) == 0) {
    return bad(offsetof(In, access));
  }
  if ((flags & ~std::uint32_t{GODWIT_REG_MR_KEY_MASK | GODWIT_REG_MR_ALL_MEMORY_MASK}) != 0) {
    return bad(offsetof(In, flags));
  }
  const bool all_memory = (flags & GODWIT_REG_MR_ALL_MEMORY_MASK) != 0;
  const bool wants_key = (flags & GODWIT_REG_MR_KEY_MASK) != 0;
  if (!wants_key && key != 0) return bad(offsetof(In, key));
  if (!wire::all_zero(in.reserved_168, sizeof(in.reserved_168))) {
    return bad(offsetof(In, reserved_168));
  }
  if (from_le(in.reserved_1a0) != 0) return bad(offsetof(In, reserved_1a0));
  ProtectionDomain* pd = find_pd(from_le(in.pdn));
  if (pd == nullptr) return not_found(offsetof(In, pdn));
  if (all_memory && pd->uctx != 0) return bad(offsetof(In, flags));
  if (wants_key && pd->taken(key)) {
    return Reply::fail(GODWIT_CMD_STATUS_EXISTS, offsetof(In, key));
  }
  if (regions_ >= config_.max_mr) return Reply::fail(GODWIT_CMD_STATUS_NO_RESOURCES);

  auto region = std::make_unique<MemoryRegion>();
  region->access = access;
  region->iova = from_le(in.iova);
  region->length = from_le(in.length);
  region->all_memory = all_memory;
  if (all_memory) {
    if (from_le(in.list) != 0 || from_le(in.page_count) != 0) return bad(offsetof(In, list));
  } else {
    if (region->iova + region->length < region->iova) return bad(offsetof(In, length));
    PageListRequest request;
    request.list = from_le(in.list);
    request.page_count = from_le(in.page_count);
    request.page_shift = in.page_shift;
    request.first_offset = from_le(in.first_offset);
    request.length = region->length;
    const ListOffsets at = {offsetof(In, list), offsetof(In, page_count), offsetof(In, page_shift),
                            offsetof(In, first_offset)};
    const Reply walked = walk_reply(region->map.walk(*this, page_budget_, request), at);
    if (!walked.ok()) return walked;
  }
  const std::uint32_t given = wants_key ? key : pd->draw_key(random_);
  region->key = given;
  pd->regions.insert(given >> 8, std::move(region));
  ++regions_;
  godwit_result_key result = {};
  result.key = le32(given);
  return reply_with(result);
}

Reply Device::cmd_dereg_mr(const std::uint8_t* params) {
  using In = godwit_cmd_dereg_mr;
  const In in = copy<In>(params);
  ProtectionDomain* pd = find_pd(from_le(in.pdn));
  if (pd == nullptr) return not_found(offsetof(In, pdn));
  MemoryRegion* region = pd->find(from_le(in.key));
  if (region == nullptr) return not_found(offsetof(In, key));
  region->map.release(page_budget_);
  pd->regions.erase(region->key >> 8);
  ++pd->generation;
  --regions_;
  return {};
}

Reply Device::cmd_create_cq(const std::uint8_t* params) {
  using In = godwit_cmd_create_cq;
  const In in = copy<In>(params);
  const std::uint32_t uctx = from_le(in.uctx);
  const std::uint32_t number = from_le(in.cqn);
  const std::uint32_t eqn = from_le(in.eqn);
  const std::uint32_t log2_depth = from_le(in.log2_depth);
  const std::uint32_t flags = from_le(in.flags);
  const std::uint32_t record_offset = from_le(in.record_offset);
  if (!uctx_exists(uctx)) return not_found(offsetof(In, uctx));
  if (number > kNumberMask) return bad(offsetof(In, cqn));
  if (eqn >= eqs_.size() || eqs_[eqn] == nullptr) return not_found(offsetof(In, eqn));
  if (log2_depth > config_.log2_max_cqe) return bad(offsetof(In, log2_depth));
  if ((flags & ~std::uint32_t{GODWIT_CREATE_RESTORE_MASK}) != 0) return bad(offsetof(In, flags));
  if (from_le(in.reserved_e0) != 0) return bad(offsetof(In, reserved_e0));
  const bool restore = (flags & GODWIT_CREATE_RESTORE_MASK) != 0;
  if (restore && !config_.migration) {
    return Reply::fail(GODWIT_CMD_STATUS_NOT_SUPPORTED, offsetof(In, flags));
  }
  const std::uint64_t length = from_le(in.buffer.length);
  const std::uint64_t entries_bytes = std::uint64_t{sizeof(godwit_cqe)} << log2_depth;
  if (record_offset % 64 != 0 || record_offset < entries_bytes) {
    return bad(offsetof(In, record_offset));
  }
  if (restore) {
    if (from_le(in.buffer.list) != 0 || from_le(in.buffer.page_count) != 0) {
      return bad(offsetof(In, buffer));
    }
  } else if (length < std::uint64_t{record_offset} + sizeof(godwit_cq_record)) {
    return bad(offsetof(In, buffer.length));
  }
  if (find_cq(uctx, number) != nullptr) {
    return Reply::fail(GODWIT_CMD_STATUS_EXISTS, offsetof(In, cqn));
  }
  if (cqs_.size() >= config_.max_cq) return Reply::fail(GODWIT_CMD_STATUS_NO_RESOURCES);
  auto cq = std::make_unique<CompletionQueue>();
  if (!restore) {
    const Reply walked = walk_buffer(cq->buffer, in.buffer, offsetof(In, buffer));
    if (!walked.ok()) return walked;
  }
  cq->uctx = uctx;
  cq->number = number;
  cq->eqn = eqn;
  cq->event_number = from_le(in.event_number);
  cq->log2_depth = log2_depth;
  cq->record_offset = record_offset;
  cq->restore = restore;
  cqs_.insert(cq_key(uctx, number), std::move(cq));
  listed_cqs_.reserve(cqs_.size());
  ++uctxs_[uctx].objects;
  ++eqs_[eqn]->cqs;
  return {};
}

Reply Device::cmd_destroy_cq(const std::uint8_t* params) {
  using In = godwit_cmd_object;
  const In in = copy<In>(params);
  CompletionQueue* cq = find_cq(from_le(in.uctx), from_le(in.number));
  if (cq == nullptr) return not_found(offsetof(In, number));
  if (cq->qps != 0) return Reply::fail(GODWIT_CMD_STATUS_IN_USE);
  if (cq->listed) std::erase(listed_cqs_, cq);
  cq->buffer.release(page_budget_);
  --uctxs_[cq->uctx].objects;
  --eqs_[cq->eqn]->cqs;
  cqs_.erase(cq_key(cq->uctx, cq->number));
  return {};
}

}  // namespace godwit::device
