// SPDX-License-Identifier: GPL-2.0-or-later
//
// Moves at every step: a fixed sequence of messages of all kinds runs without a fault; then again,
// once for each point at which a device can be stopped, with a move that begins exactly there; and
// again, with one frame lost of those that are sent around the move.
//
//   --case=n --trace   one of these only
#include <gtest/gtest.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <vector>

#include "sim/workers.h"
#include "sim/world.h"

namespace godwit::sim {
namespace {

constexpr std::uint64_t kNever = UINT64_MAX;
constexpr std::uint64_t kBound = 6 * kSecond;
constexpr std::uint8_t kSignaled = GODWIT_WQE_SIGNALED_MASK;
constexpr std::uint8_t kInline = GODWIT_WQE_INLINE_MASK;
constexpr std::uint8_t kFence = GODWIT_WQE_FENCE_MASK;

// With a path MTU of 256 bytes: messages of none, one and several packets.
const std::vector<Step>& script() {
  static const std::vector<Step> kScript = {
      {GODWIT_WR_SEND, 700, kSignaled},
      {GODWIT_WR_FETCH_ADD, 8, 0},
      {GODWIT_WR_WRITE, 600, 0},
      {GODWIT_WR_READ, 700, kSignaled},
      {GODWIT_WR_SEND_IMM, 300, 0},
      {GODWIT_WR_COMPARE_SWAP, 8, kSignaled},
      {GODWIT_WR_WRITE_IMM, 520, kSignaled},
      {GODWIT_WR_SEND, 64, kInline},
      {GODWIT_WR_READ, 200, 0},
      {GODWIT_WR_READ, 600, 0},
      {GODWIT_WR_FETCH_ADD, 8, kSignaled},
      {GODWIT_WR_SEND, 0, kSignaled | kFence},
      {GODWIT_WR_WRITE, 200, kInline},
      {GODWIT_WR_WRITE_IMM, 0, kSignaled},
      {GODWIT_WR_FETCH_ADD, 8, 0},
      {GODWIT_WR_SEND_IMM, 513, kSignaled},
  };
  return kScript;
}

enum class Who : std::uint8_t { kRequester, kResponder, kBoth };
// Of a move from STOP to RESUME: in no time, or with long waits between its steps, in which the
// peer's timers expire; of both ends, one of each.
enum class Pace : std::uint8_t { kAtOnce, kSlow, kMixed };

struct Case {
  bool fixed_address = true;
  Who who = Who::kRequester;
  Pace pace = Pace::kAtOnce;
  std::uint64_t entry = kNever;  // the move begins after this entry into a device
  bool with_losses = false;      // and then once more for each frame around the move
};

struct Course {
  std::uint64_t entries = 0;
  std::uint64_t frames = 0;
  std::uint64_t frames_before = 0;   // … before the move
  std::uint64_t frames_settled = 0;  // … until it was finished
};

class Attempt {
 public:
  Attempt(const Case& c, std::uint64_t lose, Totals* totals)
      : case_(c), totals_(totals), rng_(7), world_(setup(c), &rng_, totals) {
    Side& side = *world_.process(0).sides()[0];
    side.script = script();
    side.left = static_cast<unsigned>(script().size());
    totals->operations += side.left;
    world_.network().lose(lose);
    world_.on_entry = [this] { entered(); };
    world_.next_event = [this] { return std::min({time_[0], time_[1], settle_time_}); };
    if (case_.entry == kNever) return;
    for (unsigned i = 0; i < kProcesses; ++i) {
      if (moves(i)) world_.prepare(i, 2 + i);
    }
  }

  std::string run(Course* course) {
    std::string error = world_.run(kBound, [this] { return orchestrate(); });
    if (error.empty() && case_.entry != kNever && course_.entries < case_.entry) {
      error = "there is no such step";
    }
    course_.frames = world_.network().sent();
    *course = course_;
    ++totals_->cases;
    return error;
  }

 private:
  static Setup setup(const Case& c) {
    Setup setup;
    setup.fixed_address = c.fixed_address;
    setup.options.path_mtu = 1;
    setup.options.max_rd_atomic = 3;
    setup.tombstone_ttl_ms = 100;
    setup.event_driven[1] = true;
    setup.trace = g_options.trace;
    return setup;
  }
  bool moves(unsigned i) const {
    return case_.who == Who::kBoth || (case_.who == Who::kRequester) == (i == 0);
  }
  std::uint64_t wait(unsigned i) const {
    const bool slow = case_.pace == Pace::kSlow || (case_.pace == Pace::kMixed && i == 1);
    return slow ? 7 * kMillisecond : 0;
  }

  void entered() {
    if (busy_ || course_.entries++ != case_.entry) return;
    busy_ = true;
    course_.frames_before = world_.network().sent();
    for (unsigned i = 0; i < kProcesses; ++i) {
      if (moves(i)) world_.freeze(i);
    }
    for (unsigned i = 0; i < kProcesses; ++i) {
      if (moves(i)) go_on(i);
    }
    busy_ = false;
  }

  // As many steps as are due now.
  void go_on(unsigned i) {
    for (;;) {
      if (time_[i] == kNever) time_[i] = world_.now() + wait(i);
      if (time_[i] > world_.now()) return;
      time_[i] = kNever;
      switch (world_.phase(i)) {
        case World::Phase::kFrozen:
          world_.leave(i);
          break;
        case World::Phase::kGone:
          world_.restore(i, world_.destination(i));
          break;
        case World::Phase::kRestored:
          world_.go(i);
          settle_time_ = world_.now();
          return;
        case World::Phase::kRunning:
          return;
      }
    }
  }

  bool orchestrate() {
    busy_ = true;
    bool more = false;
    for (unsigned i = 0; i < kProcesses; ++i) {
      if (world_.phase(i) != World::Phase::kRunning) go_on(i);
      if (!world_.settled(i) && settle_time_ <= world_.now()) world_.settle(i, false);
      more |= world_.phase(i) != World::Phase::kRunning || !world_.settled(i);
    }
    if (settle_time_ <= world_.now()) {
      settle_time_ = more ? world_.now() + kMillisecond / 4 : kNever;
      if (!more) course_.frames_settled = world_.network().sent();
    }
    busy_ = false;
    return more;
  }

  const Case case_;
  Totals* totals_;
  Rng rng_;
  World world_;
  Course course_;
  bool busy_ = false;
  std::uint64_t time_[kProcesses] = {kNever, kNever};
  std::uint64_t settle_time_ = kNever;
};

std::string simulate(const Case& c, Totals* totals) {
  Course course;
  std::string error = Attempt(c, kNever, totals).run(&course);
  if (!error.empty() || !c.with_losses) return error;
  // What was on its way when the move began, all that was said because of it, and some more.
  const std::uint64_t first =
      course.frames_before - std::min<std::uint64_t>(course.frames_before, 6);
  const std::uint64_t last = std::min(course.frames, course.frames_settled + 6);
  for (std::uint64_t frame = first; frame < last; ++frame) {
    Course with_loss;
    error = Attempt(c, frame, totals).run(&with_loss);
    if (!error.empty()) return "without frame " + std::to_string(frame) + ": " + error;
  }
  return "";
}

TEST(Steps, MoveAtEveryOne) {
  if (g_options.only_seed != 0) GTEST_SKIP();
  Totals totals;
  Course undisturbed;
  const std::string error = Attempt({}, kNever, &totals).run(&undisturbed);
  ASSERT_EQ(error, "");
  ASSERT_GE(undisturbed.frames, script().size() * 2);
  std::vector<Case> cases;
  for (const bool with_losses : {false, true}) {
    for (const bool fixed : {true, false}) {
      for (const Who who : {Who::kRequester, Who::kResponder, Who::kBoth}) {
        for (const Pace pace : {Pace::kAtOnce, Pace::kSlow, Pace::kMixed}) {
          if (pace == Pace::kMixed && who != Who::kBoth) continue;
          const std::uint64_t stride = with_losses ? 11 : 1;
          for (std::uint64_t entry = 0; entry < undisturbed.entries; entry += stride) {
            cases.push_back({fixed, who, pace, entry, with_losses});
          }
        }
      }
    }
  }
  Outcome outcome;
  const auto one = [&cases](std::uint64_t number, Totals* t) {
    return simulate(cases[number - 1], t);
  };
  if (g_options.only_case != 0) {
    ASSERT_LE(g_options.only_case, cases.size());
    const std::string wrong = one(g_options.only_case, &outcome.totals);
    if (!wrong.empty()) outcome.failures.push_back({g_options.only_case, wrong});
  } else {
    outcome = run_all(1, cases.size(), g_options.workers, false, one);
    EXPECT_EQ(outcome.done, cases.size());
  }
  std::sort(outcome.failures.begin(), outcome.failures.end(),
            [](const Failure& a, const Failure& b) { return a.item < b.item; });
  for (const Failure& failure : outcome.failures) {
    const Case& c = cases[failure.item - 1];
    ADD_FAILURE() << "case " << failure.item << " (" << (c.fixed_address ? "same" : "new")
                  << " address, "
                  << (c.who == Who::kBoth        ? "both ends"
                      : c.who == Who::kRequester ? "requester"
                                                 : "responder")
                  << ", pace " << static_cast<int>(c.pace) << ", entry " << c.entry
                  << "): " << failure.text << "\nreplay: " << g_options.program
                  << " --gtest_filter=Steps.* --case=" << failure.item << " --trace";
  }
  std::printf("%" PRIu64 " entries and %" PRIu64 " frames without a move; %zu cases, %" PRIu64
              " runs, %" PRIu64 " moves, %" PRIu64 " with the other end on the move\n",
              undisturbed.entries, undisturbed.frames, cases.size(), outcome.totals.cases,
              outcome.totals.moves, outcome.totals.both);
}

}  // namespace
}  // namespace godwit::sim
