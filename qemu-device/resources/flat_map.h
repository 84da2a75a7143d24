// SPDX-License-Identifier: GPL-2.0-or-later
//
// A hash table for small integer keys (QPNs, CQ numbers, memory keys): one array,
// linear probing, no allocation but when it grows, which only commands cause.
#ifndef GODWIT_RESOURCES_FLAT_MAP_H
#define GODWIT_RESOURCES_FLAT_MAP_H

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace godwit::resources {

template <typename Value>
class FlatMap {
 public:
  FlatMap() : slots_(kInitial) {}

  Value* find(std::uint64_t key) {
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t i = home(key);; i = (i + 1) & mask) {
      if (slots_[i].key == key) return &slots_[i].value;
      if (slots_[i].key == kEmpty) return nullptr;
    }
  }
  const Value* find(std::uint64_t key) const { return const_cast<FlatMap*>(this)->find(key); }

  // The key must not be there yet, nor be all ones.
  Value& insert(std::uint64_t key, Value value) {
    if ((count_ + 1) * 2 > slots_.size()) grow();
    ++count_;
    return place(key, std::move(value));
  }

  void erase(std::uint64_t key) {
    const std::size_t mask = slots_.size() - 1;
    std::size_t hole = home(key);
    while (slots_[hole].key != key) {
      if (slots_[hole].key == kEmpty) return;
      hole = (hole + 1) & mask;
    }
    --count_;
    // Entries behind the hole move up unless that would put them before their home.
    for (std::size_t next = (hole + 1) & mask; slots_[next].key != kEmpty;
         next = (next + 1) & mask) {
      const std::size_t distance_home = (next - home(slots_[next].key)) & mask;
      const std::size_t distance_hole = (next - hole) & mask;
      if (distance_home < distance_hole) continue;
      slots_[hole] = std::move(slots_[next]);
      hole = next;
    }
    slots_[hole].key = kEmpty;
    slots_[hole].value = Value();
  }

  void clear() {
    slots_.clear();
    slots_.resize(kInitial);
    count_ = 0;
  }

  std::size_t size() const { return count_; }

  // The table must not change meanwhile.
  template <typename Visitor>
  void for_each(Visitor&& visit) {
    for (Slot& slot : slots_) {
      if (slot.key != kEmpty) visit(slot.key, slot.value);
    }
  }

 private:
  static constexpr std::uint64_t kEmpty = UINT64_MAX;
  static constexpr std::size_t kInitial = 16;

  struct Slot {
    std::uint64_t key = kEmpty;
    Value value{};
  };

  std::size_t home(std::uint64_t key) const {
    return (key * 0x9e3779b97f4a7c15ULL >> 32) & (slots_.size() - 1);
  }

  Value& place(std::uint64_t key, Value value) {
    const std::size_t mask = slots_.size() - 1;
    std::size_t i = home(key);
    while (slots_[i].key != kEmpty) i = (i + 1) & mask;
    slots_[i].key = key;
    slots_[i].value = std::move(value);
    return slots_[i].value;
  }

  void grow() {
    std::vector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    for (Slot& slot : old) {
      if (slot.key != kEmpty) place(slot.key, std::move(slot.value));
    }
  }

  std::vector<Slot> slots_;
  std::size_t count_ = 0;
};

}  // namespace godwit::resources

#endif  // GODWIT_RESOURCES_FLAT_MAP_H
