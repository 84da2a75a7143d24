// SPDX-License-Identifier: GPL-2.0-or-later
//
// A piece of guest memory given as a page list: walked and copied once, then an
// array lookup per access. What the guest does to the list afterwards is nothing
// to us.
#ifndef GODWIT_RESOURCES_PAGE_MAP_H
#define GODWIT_RESOURCES_PAGE_MAP_H

#include <cstddef>
#include <cstdint>
#include <vector>

#include "godwit_queue.h"
#include "resources/dma.h"

namespace godwit::resources {

enum class WalkResult : std::uint8_t {
  kOk,
  kBadShift,
  kBadOffset,    // first_offset beyond the first page
  kBadCount,     // too few pages for the length, or list pages end early
  kBadAddress,   // list page or page not aligned
  kNoResources,  // page budget
  kDma,
};

// Pages that all buffers and regions of a device may have together.
struct PageBudget {
  std::uint64_t limit = 0;
  std::uint64_t used = 0;
};

struct PageListRequest {
  std::uint64_t list = 0;
  std::uint32_t page_count = 0;
  std::uint32_t page_shift = 0;
  std::uint32_t first_offset = 0;
  std::uint64_t length = 0;
};

class PageMap {
 public:
  PageMap() = default;

  // Fills an empty map.
  [[nodiscard]] WalkResult walk(Dma& dma, PageBudget& budget, const PageListRequest& request);
  void release(PageBudget& budget);

  // For save and load of a device. `pages` are checked as by walk().
  [[nodiscard]] WalkResult adopt(PageBudget& budget, const PageListRequest& request,
                                 std::vector<std::uint64_t> pages);
  const std::vector<std::uint64_t>& pages() const { return pages_; }
  std::uint32_t shift() const { return shift_; }
  std::uint32_t first_offset() const { return first_offset_; }
  std::uint64_t length() const { return length_; }
  bool empty() const { return pages_.empty(); }

  bool contains(std::uint64_t offset, std::uint64_t length) const {
    return offset <= length_ && length <= length_ - offset;
  }

  // Bus address of a byte, and how many bytes follow it in its page. The offset must be below
  // length().
  std::uint64_t translate(std::uint64_t offset, std::uint64_t* run) const {
    const std::uint64_t position = offset + first_offset_;
    const std::uint64_t mask = (std::uint64_t{1} << shift_) - 1;
    *run = mask + 1 - (position & mask);
    return pages_[position >> shift_] + (position & mask);
  }

  // False: outside, or not accessible.
  [[nodiscard]] bool read(Dma& dma, std::uint64_t offset, void* to, std::size_t length) const;
  [[nodiscard]] bool write(Dma& dma, std::uint64_t offset, const void* from,
                           std::size_t length) const;

 private:
  [[nodiscard]] WalkResult check(const PageBudget& budget, const PageListRequest& request) const;
  void set(PageBudget& budget, const PageListRequest& request, std::vector<std::uint64_t> pages);

  std::vector<std::uint64_t> pages_;
  std::uint32_t shift_ = GODWIT_PAGE_SHIFT_MIN;
  std::uint32_t first_offset_ = 0;
  std::uint64_t length_ = 0;
};

}  // namespace godwit::resources

#endif  // GODWIT_RESOURCES_PAGE_MAP_H
