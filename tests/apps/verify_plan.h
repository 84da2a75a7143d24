// SPDX-License-Identifier: GPL-2.0-or-later
//
// What godwit-verify does, operation by operation. Both sides compute it from
// the operation's number, so that a receiver knows what must come next and a
// sender what must come back.
#ifndef GODWIT_TESTS_APPS_VERIFY_PLAN_H
#define GODWIT_TESTS_APPS_VERIFY_PLAN_H

#include "support.h"

namespace godwit::apps {

enum class Kind : std::uint8_t {
  kSend,
  kSendImm,
  kSendInline,
  kSendFenced,  // forwards what the READ before it has brought
  kWrite,
  kWriteInline,
  kWriteImm,
  kRead,  // back what was written last
  kFetchAdd,
  kFetchAddShared,
  kCompareSwap,
};
constexpr unsigned kKinds = 11;
constexpr const char* kKindNames[kKinds] = {
    "send",      "send_imm", "send_inline", "send_fenced",      "write",       "write_inline",
    "write_imm", "read",     "fetch_add",   "fetch_add_shared", "compare_swap"};

constexpr std::uint32_t kGroup = 8;  // every group begins with a WRITE, ends with READ, fenced SEND
constexpr std::uint32_t kMaxInline = 64;

// Operation n of one QP in one direction
class Plan {
 public:
  Plan() = default;
  Plan(std::uint64_t seed, std::uint32_t max_length) : seed_(mix(seed)), max_length_(max_length) {}

  Kind kind(std::uint64_t n) const {
    const std::uint64_t place = n % kGroup;
    if (place == 0) return Kind::kWrite;
    if (place == kGroup - 2) return Kind::kRead;
    if (place == kGroup - 1) return Kind::kSendFenced;
    constexpr Kind kAny[] = {Kind::kSend,       Kind::kSendImm,     Kind::kSendInline,
                             Kind::kWrite,      Kind::kWriteInline, Kind::kWriteImm,
                             Kind::kRead,       Kind::kFetchAdd,    Kind::kFetchAddShared,
                             Kind::kCompareSwap};
    return kAny[hash(n, 1) % std::size(kAny)];
  }

  std::uint32_t length(std::uint64_t n) const {
    switch (kind(n)) {
      case Kind::kSendInline:
      case Kind::kWriteInline:
        return 1 + static_cast<std::uint32_t>(hash(n, 2) % kMaxInline);
      case Kind::kSend:
      case Kind::kSendImm:
      case Kind::kWrite:
      case Kind::kWriteImm:
        return 1 + static_cast<std::uint32_t>(hash(n, 2) % max_length_);
      case Kind::kRead:
        return length(source(n));
      case Kind::kSendFenced:
        return length(n - 1);
      case Kind::kFetchAdd:
      case Kind::kFetchAddShared:
      case Kind::kCompareSwap:
        return 8;
    }
    return 0;
  }

  // What the data of operation n looks like
  std::uint64_t pattern(std::uint64_t n) const {
    switch (kind(n)) {
      case Kind::kRead:
        return pattern(source(n));
      case Kind::kSendFenced:
        return pattern(n - 1);
      default:
        return hash(n, 3);
    }
  }

  // READ: the operation whose WRITE it reads back; there is one at the group's begin
  std::uint64_t source(std::uint64_t n) const {
    do --n;
    while (!writes(n));
    return n;
  }

  bool writes(std::uint64_t n) const {
    const Kind k = kind(n);
    return k == Kind::kWrite || k == Kind::kWriteInline || k == Kind::kWriteImm;
  }
  bool sends(std::uint64_t n) const {
    const Kind k = kind(n);
    return k == Kind::kSend || k == Kind::kSendImm || k == Kind::kSendInline ||
           k == Kind::kSendFenced;
  }
  // It takes a receive work request at the peer, which so hears of it.
  bool is_heard(std::uint64_t n) const { return sends(n) || kind(n) == Kind::kWriteImm; }
  bool returns_data(std::uint64_t n) const {
    const Kind k = kind(n);
    return k == Kind::kRead || k == Kind::kFetchAdd || k == Kind::kFetchAddShared ||
           k == Kind::kCompareSwap;
  }
  bool is_signaled(std::uint64_t n) const { return returns_data(n) || n % 4 == 3; }

  std::uint64_t addend(std::uint64_t n) const { return hash(n, 4) | 1; }
  std::uint64_t swap_value(std::uint64_t n) const { return hash(n, 5); }
  // Some compare-and-swaps are meant not to match.
  bool swap_matches(std::uint64_t n) const { return hash(n, 6) % 4 != 0; }

 private:
  std::uint64_t hash(std::uint64_t n, std::uint64_t what) const {
    return mix(seed_ ^ mix(n * 8 + what));
  }

  std::uint64_t seed_ = 0;
  std::uint32_t max_length_ = 1;
};

}  // namespace godwit::apps

#endif  // GODWIT_TESTS_APPS_VERIFY_PLAN_H
