// SPDX-License-Identifier: GPL-2.0-or-later
#include "resources/page_map.h"

#include <algorithm>
#include <utility>

#include "wire/endian.h"

namespace godwit::resources {

using wire::from_le;

WalkResult PageMap::check(const PageBudget& budget, const PageListRequest& request) const {
  if (request.page_shift < GODWIT_PAGE_SHIFT_MIN || request.page_shift > GODWIT_PAGE_SHIFT_MAX) {
    return WalkResult::kBadShift;
  }
  if (request.first_offset >> request.page_shift != 0) return WalkResult::kBadOffset;
  const std::uint64_t covered = std::uint64_t{request.page_count} << request.page_shift;
  if (request.length == 0 || covered < request.first_offset ||
      covered - request.first_offset < request.length) {
    return WalkResult::kBadCount;
  }
  if (request.page_count > budget.limit - std::min(budget.used, budget.limit)) {
    return WalkResult::kNoResources;
  }
  return WalkResult::kOk;
}

void PageMap::set(PageBudget& budget, const PageListRequest& request,
                  std::vector<std::uint64_t> pages) {
  budget.used += pages.size();
  pages_ = std::move(pages);
  shift_ = request.page_shift;
  first_offset_ = request.first_offset;
  length_ = request.length;
}

WalkResult PageMap::walk(Dma& dma, PageBudget& budget, const PageListRequest& request) {
  const WalkResult checked = check(budget, request);
  if (checked != WalkResult::kOk) return checked;
  const std::uint64_t page_mask = (std::uint64_t{1} << request.page_shift) - 1;

  std::vector<std::uint64_t> pages;
  std::uint64_t list = request.list;
  godwit_list_page page;
  while (pages.size() < request.page_count) {
    if (list == 0) return WalkResult::kBadCount;
    if (list % GODWIT_LIST_PAGE_SIZE != 0) return WalkResult::kBadAddress;
    const std::size_t entries =
        std::min<std::size_t>(request.page_count - pages.size(), GODWIT_LIST_PAGE_ENTRIES);
    if (!dma.read(list, &page, sizeof(page.next) + entries * sizeof(page.page[0]))) {
      return WalkResult::kDma;
    }
    for (std::size_t i = 0; i < entries; ++i) {
      const std::uint64_t address = from_le(page.page[i]);
      if ((address & page_mask) != 0) return WalkResult::kBadAddress;
      pages.push_back(address);
    }
    list = from_le(page.next);
  }
  set(budget, request, std::move(pages));
  return WalkResult::kOk;
}

WalkResult PageMap::adopt(PageBudget& budget, const PageListRequest& request,
                          std::vector<std::uint64_t> pages) {
  const WalkResult checked = check(budget, request);
  if (checked != WalkResult::kOk) return checked;
  if (pages.size() != request.page_count) return WalkResult::kBadCount;
  const std::uint64_t page_mask = (std::uint64_t{1} << request.page_shift) - 1;
  for (const std::uint64_t address : pages) {
    if ((address & page_mask) != 0) return WalkResult::kBadAddress;
  }
  set(budget, request, std::move(pages));
  return WalkResult::kOk;
}

void PageMap::release(PageBudget& budget) {
  budget.used -= std::min<std::uint64_t>(budget.used, pages_.size());
  pages_ = {};
  length_ = 0;
}

bool PageMap::read(Dma& dma, std::uint64_t offset, void* to, std::size_t length) const {
  if (!contains(offset, length)) return false;
  auto* out = static_cast<std::uint8_t*>(to);
  while (length > 0) {
    std::uint64_t run = 0;
    const std::uint64_t address = translate(offset, &run);
    const std::size_t now = std::min<std::uint64_t>(run, length);
    if (!dma.read(address, out, now)) return false;
    out += now;
    offset += now;
    length -= now;
  }
  return true;
}

bool PageMap::write(Dma& dma, std::uint64_t offset, const void* from, std::size_t length) const {
  if (!contains(offset, length)) return false;
  const auto* in = static_cast<const std::uint8_t*>(from);
  while (length > 0) {
    std::uint64_t run = 0;
    const std::uint64_t address = translate(offset, &run);
    const std::size_t now = std::min<std::uint64_t>(run, length);
    if (!dma.write(address, in, now)) return false;
    in += now;
    offset += now;
    length -= now;
  }
  return true;
}

}  // namespace godwit::resources
