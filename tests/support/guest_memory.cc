// SPDX-License-Identifier: GPL-2.0-or-later
#include "support/guest_memory.h"

#include <algorithm>
#include <random>

#include "godwit_queue.h"

namespace godwit::test {

GuestMemory::GuestMemory(std::size_t pages, std::uint64_t seed)
    : size_(pages * kPage), bytes_(static_cast<std::uint8_t*>(std::calloc(pages, kPage))) {
  if (bytes_ == nullptr) __builtin_trap();
  // The first eighth is for contiguous pieces.
  const std::size_t first = pages / 8;
  contiguous_end_ = kBase;
  for (std::size_t i = first; i < pages; ++i) free_.push_back(kBase + i * kPage);
  std::mt19937_64 random(seed);
  std::shuffle(free_.begin(), free_.end(), random);
}

std::uint64_t GuestMemory::page() {
  if (free_.empty()) __builtin_trap();
  const std::uint64_t addr = free_.back();
  free_.pop_back();
  std::memset(bytes_.get() + (addr - kBase), 0, kPage);
  return addr;
}

std::uint64_t GuestMemory::contiguous(std::size_t length) {
  const std::uint64_t addr = contiguous_end_;
  contiguous_end_ += (length + kPage - 1) / kPage * kPage;
  if (contiguous_end_ - kBase > size_ / 8) __builtin_trap();
  std::memset(bytes_.get() + (addr - kBase), 0, length);
  return addr;
}

void Buffer::read(std::uint64_t offset, void* to, std::size_t n) const {
  auto* out = static_cast<std::uint8_t*>(to);
  while (n > 0) {
    const std::uint64_t addr = at(offset);
    const std::size_t now =
        std::min<std::uint64_t>(n, GuestMemory::kPage - addr % GuestMemory::kPage);
    if (!memory->read(addr, out, now)) __builtin_trap();
    out += now;
    offset += now;
    n -= now;
  }
}

void Buffer::write(std::uint64_t offset, const void* from, std::size_t n) const {
  const auto* in = static_cast<const std::uint8_t*>(from);
  while (n > 0) {
    const std::uint64_t addr = at(offset);
    const std::size_t now =
        std::min<std::uint64_t>(n, GuestMemory::kPage - addr % GuestMemory::kPage);
    if (!memory->write(addr, in, now)) __builtin_trap();
    in += now;
    offset += now;
    n -= now;
  }
}

std::vector<std::uint8_t> Buffer::contents() const {
  std::vector<std::uint8_t> bytes(length);
  read(0, bytes.data(), bytes.size());
  return bytes;
}

void Buffer::release() {
  for (const std::uint64_t page : pages) memory->free_page(page);
  pages.clear();
}

Buffer make_buffer(GuestMemory& memory, std::uint64_t length, std::uint32_t first_offset) {
  Buffer buffer;
  buffer.memory = &memory;
  buffer.first_offset = first_offset;
  buffer.length = length;
  const std::uint64_t pages = (first_offset + length + GuestMemory::kPage - 1) / GuestMemory::kPage;
  for (std::uint64_t i = 0; i < pages; ++i) buffer.pages.push_back(memory.page());
  return buffer;
}

std::vector<std::uint64_t> make_page_list(GuestMemory& memory,
                                          const std::vector<std::uint64_t>& pages) {
  std::vector<std::uint64_t> lists;
  for (std::size_t i = 0; i < pages.size(); i += GODWIT_LIST_PAGE_ENTRIES) {
    lists.push_back(memory.page());
  }
  for (std::size_t i = 0; i < pages.size(); ++i) {
    const std::uint64_t list = lists[i / GODWIT_LIST_PAGE_ENTRIES];
    memory.put<std::uint64_t>(list + 8 + i % GODWIT_LIST_PAGE_ENTRIES * 8, pages[i]);
  }
  for (std::size_t i = 0; i + 1 < lists.size(); ++i) {
    memory.put<std::uint64_t>(lists[i], lists[i + 1]);
  }
  return lists;
}

}  // namespace godwit::test
