// SPDX-License-Identifier: GPL-2.0-or-later
//
// Guest memory by key, in the QP's protection domain.
#include <algorithm>
#include <cstring>

#include "device/device.h"

namespace godwit::device {

using resources::MemoryRegion;
using transport::Fault;
using transport::Qp;
using transport::Sge;

MemoryRegion* Device::find_region(QueuePair& qp, std::uint32_t key) {
  if (qp.pd == nullptr) return nullptr;
  if (qp.cached_region != nullptr && qp.cached_key == key &&
      qp.cached_generation == qp.pd->generation) {
    return qp.cached_region;
  }
  MemoryRegion* region = qp.pd->find(key);
  if (region != nullptr) {
    qp.cached_key = key;
    qp.cached_generation = qp.pd->generation;
    qp.cached_region = region;
  }
  return region;
}

// Visits the pieces of [offset, offset + bytes) of the SGEs: first all are checked, then all are
// touched.
template <typename Visitor>
Fault Device::for_each_piece(QueuePair& qp, std::span<const Sge> sges, std::uint32_t offset,
                             std::size_t bytes, std::uint32_t access, Visitor&& visit) {
  for (const bool touch : {false, true}) {
    std::uint64_t skip = offset;
    std::size_t left = bytes;
    for (const Sge& sge : sges) {
      if (left == 0) break;
      if (skip >= sge.length) {
        skip -= sge.length;
        continue;
      }
      const std::uint64_t va = sge.addr + skip;
      const std::size_t now = std::min<std::uint64_t>(left, sge.length - skip);
      MemoryRegion* region = find_region(qp, sge.lkey);
      if (region == nullptr || va < sge.addr || !region->contains(va, now) ||
          (region->access & access) != access) {
        return Fault::kLocalProtection;
      }
      if (touch && !visit(*region, va, bytes - left, now)) return Fault::kLocalDma;
      left -= now;
      skip = 0;
    }
    if (left != 0) return Fault::kLocalLength;
  }
  return Fault::kNone;
}

Fault Device::gather(Qp& qp, std::span<const Sge> sges, std::uint32_t offset,
                     std::span<std::uint8_t> to) {
  return for_each_piece(static_cast<QueuePair&>(qp), sges, offset, to.size(), 0,
                        [&](MemoryRegion& region, std::uint64_t va, std::size_t at, std::size_t n) {
                          return region.read(*this, va, to.data() + at, n);
                        });
}

Fault Device::scatter(Qp& qp, std::span<const Sge> sges, std::uint32_t offset,
                      std::span<const std::uint8_t> from) {
  return for_each_piece(static_cast<QueuePair&>(qp), sges, offset, from.size(),
                        GODWIT_ACCESS_LOCAL_WRITE,
                        [&](MemoryRegion& region, std::uint64_t va, std::size_t at, std::size_t n) {
                          return region.write(*this, va, from.data() + at, n);
                        });
}

Fault Device::check_remote(Qp& base, std::uint32_t rkey, std::uint64_t va, std::uint64_t length,
                           Access access) {
  auto& qp = static_cast<QueuePair&>(base);
  std::uint32_t right = 0;
  switch (access) {
    case Access::kRemoteRead:
      right = GODWIT_ACCESS_REMOTE_READ;
      break;
    case Access::kRemoteWrite:
      right = GODWIT_ACCESS_REMOTE_WRITE;
      break;
    case Access::kRemoteAtomic:
      if (!config_.atomics) return Fault::kInvalidRequest;
      right = GODWIT_ACCESS_REMOTE_ATOMIC;
      break;
  }
  // A QP that does not take such requests at all (IBTA 9.7.4.1.5); the NAK is the same.
  if ((qp.attr.access & right) == 0) {
    return access == Access::kRemoteAtomic ? Fault::kInvalidRequest : Fault::kRemoteAccessDenied;
  }
  if (length == 0) return Fault::kNone;
  const MemoryRegion* region = find_region(qp, rkey);
  if (region == nullptr || (region->access & right) == 0 || !region->contains(va, length)) {
    return Fault::kRemoteAccessDenied;
  }
  return Fault::kNone;
}

Fault Device::read_remote(Qp& base, std::uint32_t rkey, std::uint64_t va,
                          std::span<std::uint8_t> to) {
  const Fault fault = check_remote(base, rkey, va, to.size(), Access::kRemoteRead);
  if (fault != Fault::kNone || to.empty()) return fault;
  const MemoryRegion* region = find_region(static_cast<QueuePair&>(base), rkey);
  return region->read(*this, va, to.data(), to.size()) ? Fault::kNone
                                                       : Fault::kResponderOperational;
}

Fault Device::write_remote(Qp& base, std::uint32_t rkey, std::uint64_t va,
                           std::span<const std::uint8_t> from) {
  const Fault fault = check_remote(base, rkey, va, from.size(), Access::kRemoteWrite);
  if (fault != Fault::kNone || from.empty()) return fault;
  const MemoryRegion* region = find_region(static_cast<QueuePair&>(base), rkey);
  return region->write(*this, va, from.data(), from.size()) ? Fault::kNone
                                                            : Fault::kResponderOperational;
}

// The guest sees an atomic as one aligned 8-byte write; no other QP of this NIC comes in between,
// for the device does one thing at a time.
Fault Device::atomic_remote(Qp& base, std::uint32_t rkey, std::uint64_t va, transport::AtomicOp op,
                            std::uint64_t compare_add, std::uint64_t swap,
                            std::uint64_t* original) {
  if (va % 8 != 0) return Fault::kInvalidRequest;
  const Fault fault = check_remote(base, rkey, va, 8, Access::kRemoteAtomic);
  if (fault != Fault::kNone) return fault;
  const MemoryRegion* region = find_region(static_cast<QueuePair&>(base), rkey);
  std::uint64_t value = 0;
  if (!region->read(*this, va, &value, sizeof(value))) return Fault::kResponderOperational;
  *original = value;
  switch (op) {
    case transport::AtomicOp::kCompareSwap:
      if (value != compare_add) return Fault::kNone;
      value = swap;
      break;
    case transport::AtomicOp::kFetchAdd:
      value += compare_add;
      break;
  }
  return region->write(*this, va, &value, sizeof(value)) ? Fault::kNone
                                                         : Fault::kResponderOperational;
}

}  // namespace godwit::device
