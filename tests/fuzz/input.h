// SPDX-License-Identifier: GPL-2.0-or-later
//
// The bytes of a fuzzer's input as a program: values are taken from it one after the other.
#ifndef GODWIT_TESTS_FUZZ_INPUT_H
#define GODWIT_TESTS_FUZZ_INPUT_H

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

namespace godwit::fuzz {

// What holds whatever the input is. If not, the fuzzer keeps the input.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : left_(data, size) {}

  bool empty() const { return left_.empty(); }

  // Zeros when there is nothing left.
  std::uint8_t byte() {
    if (left_.empty()) return 0;
    const std::uint8_t value = left_.front();
    left_ = left_.subspan(1);
    return value;
  }
  std::uint16_t half() { return static_cast<std::uint16_t>(take(2)); }
  std::uint32_t word() { return static_cast<std::uint32_t>(take(4)); }
  std::uint64_t quad() { return take(8); }
  std::uint32_t below(std::uint32_t n) { return (n <= 256 ? byte() : half()) % n; }
  bool chance() { return (byte() & 1) != 0; }

  // At most n, and at most what is left.
  std::span<const std::uint8_t> bytes(std::size_t n) {
    const auto taken = left_.first(std::min(n, left_.size()));
    left_ = left_.subspan(taken.size());
    return taken;
  }

  // A number: small, or near a power of two or the end, or any.
  std::uint64_t number() {
    const std::uint8_t kind = byte();
    switch (kind & 7) {
      case 0:
      case 1:
        return kind >> 3;
      case 2:
        return byte();
      case 3:
        return half();
      case 4:
        return word();
      case 5:
        return (std::uint64_t{1} << (byte() & 63)) - 1 + (kind >> 3) % 3;
      case 6:
        return UINT64_MAX - (kind >> 3);
      default:
        return quad();
    }
  }

 private:
  std::uint64_t take(unsigned n) {
    std::uint64_t value = 0;
    for (unsigned i = 0; i < n; ++i) value |= std::uint64_t{byte()} << (8 * i);
    return value;
  }

  std::span<const std::uint8_t> left_;
};

}  // namespace godwit::fuzz

#endif  // GODWIT_TESTS_FUZZ_INPUT_H
