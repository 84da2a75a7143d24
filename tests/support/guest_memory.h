// SPDX-License-Identifier: GPL-2.0-or-later
//
// The memory of a simulated guest: bytes at bus addresses, handed out in pages in
// no particular order, so that nothing works only because it is contiguous.
#ifndef GODWIT_TESTS_SUPPORT_GUEST_MEMORY_H
#define GODWIT_TESTS_SUPPORT_GUEST_MEMORY_H

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

namespace godwit::test {

class GuestMemory {
 public:
  static constexpr std::uint64_t kBase = 0x100000;  // bus address of the first byte
  static constexpr std::uint64_t kPage = 4096;

  explicit GuestMemory(std::size_t pages, std::uint64_t seed = 1);

  bool contains(std::uint64_t addr, std::size_t length) const {
    return addr >= kBase && addr - kBase <= size_ && length <= size_ - (addr - kBase);
  }
  bool read(std::uint64_t addr, void* to, std::size_t length) const {
    if (!contains(addr, length)) return false;
    std::memcpy(to, bytes_.get() + (addr - kBase), length);
    return true;
  }
  bool write(std::uint64_t addr, const void* from, std::size_t length) {
    if (!contains(addr, length)) return false;
    std::memcpy(bytes_.get() + (addr - kBase), from, length);
    return true;
  }
  template <typename T>
  T get(std::uint64_t addr) const {
    T value{};
    if (!read(addr, &value, sizeof(value))) __builtin_trap();
    return value;
  }
  template <typename T>
  void put(std::uint64_t addr, const T& value) {
    if (!write(addr, &value, sizeof(value))) __builtin_trap();
  }

  // One zeroed page. Traps when memory is used up: the test asked for too little.
  std::uint64_t page();
  // Zeroed, physically contiguous.
  std::uint64_t contiguous(std::size_t length);
  void free_page(std::uint64_t addr) { free_.push_back(addr); }

 private:
  struct Free {
    void operator()(std::uint8_t* bytes) const { std::free(bytes); }
  };

  std::size_t size_;
  std::unique_ptr<std::uint8_t[], Free> bytes_;  // of calloc: what is not used costs nothing
  std::vector<std::uint64_t> free_;
  std::uint64_t contiguous_end_;
};

// A piece of a process's memory: contiguous for it, scattered in the guest.
struct Buffer {
  GuestMemory* memory = nullptr;
  std::vector<std::uint64_t> pages;
  std::uint32_t first_offset = 0;
  std::uint64_t length = 0;

  std::uint64_t at(std::uint64_t offset) const {
    const std::uint64_t position = offset + first_offset;
    return pages.at(position / GuestMemory::kPage) + position % GuestMemory::kPage;
  }
  void read(std::uint64_t offset, void* to, std::size_t n) const;
  void write(std::uint64_t offset, const void* from, std::size_t n) const;
  template <typename T>
  T get(std::uint64_t offset) const {
    T value{};
    read(offset, &value, sizeof(value));
    return value;
  }
  template <typename T>
  void put(std::uint64_t offset, const T& value) const {
    write(offset, &value, sizeof(value));
  }
  std::vector<std::uint8_t> contents() const;
  void release();
};

Buffer make_buffer(GuestMemory& memory, std::uint64_t length, std::uint32_t first_offset = 0);

// The page list of a buffer, as the device takes it. The list's own pages are freed by the caller.
std::vector<std::uint64_t> make_page_list(GuestMemory& memory,
                                          const std::vector<std::uint64_t>& pages);

}  // namespace godwit::test

#endif  // GODWIT_TESTS_SUPPORT_GUEST_MEMORY_H
