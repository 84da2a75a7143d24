// SPDX-License-Identifier: GPL-2.0-or-later
//
// The Ethernet segment in shared memory.
#include "segment/segment.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace godwit::test {
namespace {

using Bytes = std::vector<std::uint8_t>;

class SegmentTest : public testing::Test {
 protected:
  SegmentTest()
      : memory_(mmap(nullptr, godwit_segment_size(), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
    godwit_segment_init(memory_);
    for (unsigned port = 0; port < 3; ++port) godwit_segment_open(memory_, port);
  }
  ~SegmentTest() override { munmap(memory_, godwit_segment_size()); }

  static Bytes frame(std::uint8_t to, std::uint8_t from, std::size_t length = 64,
                     std::uint8_t fill = 0) {
    Bytes bytes(length, fill);
    std::fill_n(bytes.begin(), 12, std::uint8_t{0});
    bytes[5] = to;
    bytes[11] = from;
    return bytes;
  }

  std::uint32_t route(unsigned from, const Bytes& f) {
    return godwit_segment_route(memory_, from, f.data(), f.size());
  }
  godwit_segment_sent send(unsigned from, unsigned to, const Bytes& f, bool last_try = false) {
    return godwit_segment_send(memory_, from, to, f.data(), f.size(), last_try, &wake_);
  }
  // The next frame from a port; empty: none.
  Bytes receive(unsigned port, unsigned from) {
    std::size_t length = 0;
    const std::uint8_t* data = godwit_segment_peek(memory_, port, from, &length);
    if (data == nullptr) return {};
    Bytes copy(data, data + length);
    wake_ = godwit_segment_pop(memory_, port, from);
    return copy;
  }
  // Until the ring is full; how many went in.
  unsigned fill(unsigned from, unsigned to, const Bytes& f) {
    unsigned sent = 0;
    while (send(from, to, f) == GODWIT_SEGMENT_SENT) ++sent;
    return sent;
  }
  godwit_segment_counts counts(unsigned port) const {
    godwit_segment_counts all;
    godwit_segment_counts_of(memory_, port, &all);
    return all;
  }

  void* memory_;
  bool wake_ = false;
};

TEST_F(SegmentTest, MemoryOfAnotherKindIsNone) {
  EXPECT_TRUE(godwit_segment_valid(memory_));
  static_cast<std::uint8_t*>(memory_)[4] ^= 1;
  EXPECT_FALSE(godwit_segment_valid(memory_));
}

TEST_F(SegmentTest, LearnsAndFloods) {
  EXPECT_EQ(route(0, frame(2, 1)), 0b110U);  // not known: to all others
  EXPECT_EQ(route(1, frame(1, 2)), 0b001U);
  EXPECT_EQ(route(0, frame(2, 1)), 0b010U);
  EXPECT_EQ(route(2, frame(2, 1)), 0b010U);  // it has moved
  EXPECT_EQ(route(1, frame(1, 2)), 0b100U);
  EXPECT_EQ(route(2, frame(1, 9)), 0U);  // not back to where it came from
  Bytes broadcast = frame(0xff, 1);
  std::fill_n(broadcast.begin(), 6, std::uint8_t{0xff});
  EXPECT_EQ(route(0, broadcast), 0b110U);
  EXPECT_EQ(route(0, Bytes(13)), 0U);
  EXPECT_EQ(route(0, Bytes(GODWIT_SEGMENT_MAX_FRAME + 1)), 0U);
}

TEST_F(SegmentTest, MoreAddressesThanItCanLearnAreFlooded) {
  Bytes many = frame(0, 0);
  for (unsigned i = 0; i < 20000; ++i) {
    std::memcpy(many.data() + 7, &i, sizeof(i));
    many[6] = 2;
    ASSERT_NE(route(0, many), 0U);
  }
  EXPECT_EQ(route(1, frame(1, 2)), 0b101U);
  ASSERT_EQ(route(0, frame(2, 1)) & 0b010U, 0b010U);
}

TEST_F(SegmentTest, FramesOfAllLengthsComeInOrderAcrossTheRingsEnd) {
  std::mt19937 random(7);
  std::size_t in = 0, out = 0;
  std::vector<Bytes> waiting;
  for (int step = 0; step < 20000; ++step) {
    if (random() % 2 == 0) {
      const std::size_t length = 14 + random() % (random() % 20 == 0 ? 65523 : 5000);
      Bytes f = frame(2, 1, length, static_cast<std::uint8_t>(in));
      if (send(0, 1, f) == GODWIT_SEGMENT_SENT) {
        ++in;
        waiting.push_back(std::move(f));
      }
    } else if (!waiting.empty()) {
      ASSERT_EQ(receive(1, 0), waiting.front());
      waiting.erase(waiting.begin());
      ++out;
    } else {
      ASSERT_TRUE(receive(1, 0).empty());
    }
  }
  EXPECT_GT(out, 5000U);
  EXPECT_EQ(counts(1).sent, in);
  EXPECT_EQ(counts(1).dropped, 0U);
}

TEST_F(SegmentTest, AFullRingTellsWhenThereIsRoom) {
  const Bytes f = frame(2, 1, 4096);
  const unsigned all = fill(0, 1, f);
  EXPECT_GT(all, 200U);
  std::uint32_t frames = 0, room = 0;
  godwit_segment_take(memory_, 0, &frames, &room);
  ASSERT_TRUE(godwit_segment_sleep(memory_, 0));
  unsigned taken = 0;
  do {
    ASSERT_FALSE(receive(1, 0).empty());
    ++taken;
  } while (!wake_ && taken < all);
  EXPECT_GE(taken, all / 2);  // not for every frame
  EXPECT_LT(taken, all);
  godwit_segment_take(memory_, 0, &frames, &room);
  EXPECT_EQ(room, 0b010U);
  EXPECT_EQ(send(0, 1, f), GODWIT_SEGMENT_SENT);
  EXPECT_EQ(counts(1).dropped, 0U);
  fill(0, 1, f);
  EXPECT_EQ(send(0, 1, f, true), GODWIT_SEGMENT_FULL);
  EXPECT_EQ(counts(1).dropped, 1U);
}

TEST_F(SegmentTest, OnlyWhoSleepsIsWoken) {
  const Bytes f = frame(2, 1);
  std::uint32_t frames = 0, room = 0;
  ASSERT_EQ(send(0, 1, f), GODWIT_SEGMENT_SENT);
  EXPECT_FALSE(wake_);                             // awake since it opened
  EXPECT_FALSE(godwit_segment_sleep(memory_, 1));  // there is something
  godwit_segment_take(memory_, 1, &frames, &room);
  EXPECT_EQ(frames, 0b001U);
  EXPECT_TRUE(godwit_segment_sleep(memory_, 1));
  ASSERT_EQ(send(2, 1, f), GODWIT_SEGMENT_SENT);
  EXPECT_TRUE(wake_);
  ASSERT_EQ(send(2, 1, f), GODWIT_SEGMENT_SENT);
  EXPECT_FALSE(wake_);  // once
}

TEST_F(SegmentTest, AClosedPortGetsNothingAndAnOpenedOneNothingOld) {
  const Bytes f = frame(2, 1);
  ASSERT_EQ(send(0, 1, f), GODWIT_SEGMENT_SENT);
  godwit_segment_close(memory_, 1);
  EXPECT_EQ(send(0, 1, f), GODWIT_SEGMENT_CLOSED);
  EXPECT_EQ(counts(1).dropped, 1U);
  EXPECT_EQ(route(0, frame(9, 1)), 0b100U);
  godwit_segment_open(memory_, 1);
  EXPECT_TRUE(receive(1, 0).empty());
  ASSERT_EQ(send(0, 1, f), GODWIT_SEGMENT_SENT);
  EXPECT_EQ(receive(1, 0), f);
}

// What another process writes may lose frames; it must not lead outside.
TEST_F(SegmentTest, NonsenseInTheMemoryIsSurvived) {
  std::mt19937 random(11);
  auto* bytes = static_cast<std::uint8_t*>(memory_);
  const std::size_t end = godwit_segment_size();
  // Of all that the three ports touch, what is not the contents of frames.
  std::vector<std::size_t> touched;
  fill(0, 1, frame(2, 1, 60));
  for (std::size_t at = 0; at < end; at += 8) {
    if (at % 4096 == 0) {
      unsigned char resident = 0;
      mincore(bytes + at, 4096, &resident);
      if ((resident & 1) == 0) {
        at += 4096 - 8;
        continue;
      }
    }
    std::uint64_t word;
    std::memcpy(&word, bytes + at, 8);
    if (word != 0) touched.push_back(at);
  }
  ASSERT_GT(touched.size(), 1000U);
  for (int round = 0; round < 20000; ++round) {
    const std::size_t at = touched[random() % std::min<std::size_t>(touched.size(), 4096)];
    const std::uint64_t value = random() % 2 != 0 ? random() : ~std::uint64_t{0} - random() % 64;
    std::memcpy(bytes + at, &value, 8);
    for (unsigned port = 0; port < 3; ++port) {
      for (unsigned from = 0; from < 3; ++from) {
        if (port == from) continue;
        const Bytes got = receive(port, from);
        ASSERT_LE(got.size(), std::size_t{GODWIT_SEGMENT_MAX_FRAME});
        send(from, port, frame(1, 2, 14 + random() % 3000));
      }
      const std::uint32_t to = route(port, frame(1, 2));
      ASSERT_EQ(to >> GODWIT_SEGMENT_PORTS, 0U);
      ASSERT_EQ(to & (1U << port), 0U);
    }
  }
}

// Two processes of one port each, here threads: nothing is lost, and no wake is.
TEST_F(SegmentTest, NothingIsLostBetweenTwo) {
  constexpr unsigned kFrames = 200000;
  std::atomic<unsigned> woken[2] = {0, 0};
  const auto wait = [&](unsigned port) {
    while (woken[port].load() == 0) std::this_thread::yield();
    woken[port].store(0);
  };
  unsigned received = 0;
  std::thread consumer([&] {
    while (received < kFrames) {
      std::uint32_t frames = 0, room = 0;
      godwit_segment_take(memory_, 1, &frames, &room);
      std::size_t length = 0;
      const std::uint8_t* data = nullptr;
      while ((data = godwit_segment_peek(memory_, 1, 0, &length)) != nullptr) {
        unsigned number;
        std::memcpy(&number, data + 14, sizeof(number));
        if (number != received || length != 18 + received % 4000) std::abort();
        ++received;
        if (godwit_segment_pop(memory_, 1, 0)) woken[0].store(1);
      }
      if (received < kFrames && godwit_segment_sleep(memory_, 1)) wait(1);
    }
  });
  Bytes f;
  for (unsigned n = 0; n < kFrames; ++n) {
    f.assign(18 + n % 4000, 0);
    std::memcpy(f.data() + 14, &n, sizeof(n));
    while (send(0, 1, f) != GODWIT_SEGMENT_SENT) {
      std::uint32_t frames = 0, room = 0;
      do {
        godwit_segment_take(memory_, 0, &frames, &room);
        if (room == 0 && godwit_segment_sleep(memory_, 0)) wait(0);
      } while (room == 0);
    }
    if (wake_) woken[1].store(1);
  }
  consumer.join();
  EXPECT_EQ(received, kFrames);
  EXPECT_EQ(counts(1).dropped, 0U);
}

}  // namespace
}  // namespace godwit::test
