// SPDX-License-Identifier: GPL-2.0-or-later
//
// Whole devices on a lossy switch, in virtual time: two processes talk over RC
// connections and are moved about at random. Each seed is another history.
//
//   GODWIT_SIM_SEEDS=n or --seeds=n   how many (10,000)
//   GODWIT_SIM_FIRST=n or --first=n   from which on (1)
//   GODWIT_SIM_SEED=n  or --seed=n    that one only
//   --trace                           prints what the devices do
//   --workers=n                       processes (one for each CPU)
//   --progress                        a line every ten seconds
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "sim/workers.h"
#include "sim/world.h"

// Freed memory is kept long enough to notice its use, but not so long that every simulation needs
// fresh pages.
extern "C" const char* __asan_default_options() { return "quarantine_size_mb=8"; }

namespace godwit::sim {

Options g_options;

namespace {

// With loss something may take a few of the longest intervals, which are of a second.
constexpr std::uint64_t kBoundQuiet = 6 * kSecond;
constexpr std::uint64_t kBoundLossy = 40 * kSecond;

class History {
 public:
  History(std::uint64_t seed, Totals* totals);
  std::string run();

 private:
  static Setup draw(Rng& rng, std::uint64_t seed);
  bool orchestrate();
  void orchestrate(unsigned process);
  unsigned other_machine(unsigned than) {
    return (than + 1 + static_cast<unsigned>(rng_.below(kMachines - 1))) % kMachines;
  }

  Totals* totals_;
  Rng rng_;
  const Setup setup_;
  World world_;
  const std::uint64_t pace_;  // of the orchestrator
  unsigned moves_left_;
  const bool quiet_end_;
  bool quiet_ = false;
  std::uint64_t next_time_[kProcesses];
};

Setup History::draw(Rng& rng, std::uint64_t seed) {
  Setup setup;
  setup.seed = seed;
  setup.trace = g_options.trace;
  setup.fixed_address = rng.chance(50);
  setup.ipv6 = rng.chance(30);
  setup.together = rng.chance(25);
  setup.connects_slowly = rng.chance(25);
  setup.connections = static_cast<unsigned>(rng.between(1, 2));
  setup.drains = rng.chance(30);
  for (bool& driven : setup.event_driven) driven = rng.chance(50);
  if (rng.chance(80)) {
    NetworkFaults& faults = setup.faults;
    faults.loss_per_mille = static_cast<unsigned>(rng.below(40));
    faults.duplicate_per_mille = static_cast<unsigned>(rng.below(40));
    faults.late_per_mille = rng.chance(50) ? static_cast<unsigned>(rng.below(10)) : 0;
    faults.ghost_percent = rng.chance(50) ? 20 : 0;
    faults.busy_per_mille = rng.chance(50) ? static_cast<unsigned>(rng.below(100)) : 0;
    faults.late_ns =
        std::array{5 * kMillisecond, 50 * kMillisecond, 500 * kMillisecond}[rng.below(3)];
    faults.jitter_ns = rng.chance(50) ? rng.below(50 * kMicrosecond) : rng.below(kMillisecond);
  }
  setup.options.path_mtu = static_cast<std::uint8_t>(rng.between(1, 5));
  setup.options.timeout = static_cast<std::uint8_t>(rng.between(8, 12));
  setup.options.max_rd_atomic = static_cast<std::uint8_t>(rng.between(1, 16));
  setup.tombstone_ttl_ms = static_cast<std::uint32_t>(rng.between(20, 2000));
  return setup;
}

History::History(std::uint64_t seed, Totals* totals)
    : totals_(totals),
      rng_(seed),
      setup_(draw(rng_, seed)),
      world_(setup_, &rng_, totals),
      pace_(std::array{300 * kMicrosecond, 2 * kMillisecond, 15 * kMillisecond}[rng_.below(3)]),
      moves_left_(static_cast<unsigned>(rng_.below(7))),
      quiet_end_(rng_.chance(50)) {
  for (unsigned i = 0; i < kProcesses; ++i) {
    next_time_[i] = world_.now() + rng_.below(pace_);
    for (auto& side : world_.process(i).sides()) {
      side->left = static_cast<unsigned>(rng_.between(10, 50));
      totals->operations += side->left;
    }
  }
  world_.next_event = [this] {
    std::uint64_t next = UINT64_MAX;
    for (unsigned i = 0; i < kProcesses; ++i) {
      const bool idle = world_.phase(i) == World::Phase::kRunning && world_.settled(i);
      if (!idle || moves_left_ > 0) next = std::min(next, next_time_[i]);
    }
    return next;
  };
}

void History::orchestrate(unsigned i) {
  if (next_time_[i] > world_.now()) return;
  next_time_[i] = world_.now() + 1 + rng_.below(pace_);
  switch (world_.phase(i)) {
    case World::Phase::kRunning: {
      // One that is not finished may go again.
      const bool settled = world_.settle(i, rng_.chance(30));
      if (!settled && rng_.chance(60)) return;
      if (moves_left_ == 0 || !world_.may_move(i)) return;
      // A process that does nothing is moved as well, but not always.
      if (world_.process(i).done() && !rng_.chance(10)) {
        if (world_.process(1 - i).done()) moves_left_ = 0;
        return;
      }
      --moves_left_;
      world_.prepare(i, other_machine(world_.where(i)));
      world_.freeze(i);
      return;
    }
    case World::Phase::kFrozen:
      if (rng_.chance(20)) {
        world_.thaw(i);
      } else {
        world_.leave(i);
      }
      return;
    case World::Phase::kGone:
      // At the destination, or back at home.
      world_.restore(i, rng_.chance(80) ? world_.destination(i) : world_.home(i));
      return;
    case World::Phase::kRestored:
      // It may be given up before RESUME, or its machine may die.
      if (rng_.chance(20)) {
        world_.abandon(i);
      } else if (rng_.chance(10) && world_.may_die(world_.where(i))) {
        world_.die(world_.where(i), rng_.chance(50));
      } else {
        world_.go(i);
        if (rng_.chance(30)) world_.drop_early(i);
      }
      return;
  }
}

bool History::orchestrate() {
  bool more = moves_left_ > 0;
  for (unsigned i = 0; i < kProcesses; ++i) {
    orchestrate(i);
    more |= world_.phase(i) != World::Phase::kRunning || !world_.settled(i);
  }
  for (unsigned m = 0; m < kMachines; ++m) {
    if (rng_.below(2000) == 0) world_.snapshot(m);
  }
  if (!more && quiet_end_ && !quiet_) {
    // From here on nothing has an excuse.
    quiet_ = true;
    world_.network().set_faults({});
  }
  return more;
}

std::string History::run() {
  const bool lossless = setup_.faults.loss_per_mille == 0;
  const std::string error = world_.run(lossless || quiet_end_ ? kBoundQuiet : kBoundLossy,
                                       [this] { return orchestrate(); });
  ++totals_->cases;
  return error;
}

TEST(Simulation, Seeds) {
  const std::uint64_t first = g_options.only_seed != 0 ? g_options.only_seed : g_options.first;
  const std::uint64_t seeds = g_options.only_seed != 0 ? 1 : g_options.seeds;
  if (g_options.only_case != 0) GTEST_SKIP();
  const auto simulate = [](std::uint64_t seed, Totals* totals) {
    return History(seed, totals).run();
  };
  Outcome outcome;
  if (g_options.only_seed != 0) {
    // In this process, for a debugger.
    const std::string error = simulate(first, &outcome.totals);
    if (!error.empty()) outcome.failures.push_back({first, error});
    outcome.done = 1;
  } else {
    outcome = run_all(first, seeds, g_options.workers, g_options.progress, simulate);
  }
  std::sort(outcome.failures.begin(), outcome.failures.end(),
            [](const Failure& a, const Failure& b) { return a.item < b.item; });
  for (const Failure& failure : outcome.failures) {
    ADD_FAILURE() << "seed " << failure.item << ": " << failure.text
                  << "\nreplay: " << g_options.program << " --seed=" << failure.item << " --trace";
  }
  const Totals& t = outcome.totals;
  const auto total = [&t](unsigned counter) { return t.counters[counter]; };
  std::printf("%" PRIu64 " seeds%s: %" PRIu64 " operations, %" PRIu64 " moves (%" PRIu64
              " with the other end on the move, %" PRIu64
              " before the last one was finished, %" PRIu64 " before RTS), %" PRIu64
              " restores at home, %" PRIu64 " rollbacks, %" PRIu64 " abandoned restores, %" PRIu64
              " machines died, %" PRIu64 " STOPs refused, %" PRIu64 " early drops, %" PRIu64
              " VM snapshots; %" PRIu64 " packets, %" PRIu64 " sent again, %" PRIu64
              " duplicates, %" PRIu64 " out of sequence, %" PRIu64 " NAK_STOPPED, %" PRIu64
              " RESUME accepted, %" PRIu64 " REDIRECT, %" PRIu64 " probes; causes: %" PRIu64
              " NAKs, %" PRIu64 " RNR NAKs, %" PRIu64 " implied, %" PRIu64 " timeouts\n",
              outcome.done, outcome.interrupted ? ", interrupted" : "", t.operations, t.moves,
              t.both, t.unfinished, t.in_rtr, t.returns, t.rollbacks, t.abandoned, t.deaths,
              t.refused, t.early_drops, t.snapshots, total(GODWIT_COUNTER_TX_RDMA_PACKETS),
              total(GODWIT_COUNTER_RETRANSMISSIONS), total(GODWIT_COUNTER_DUPLICATE_REQUEST),
              total(GODWIT_COUNTER_OUT_OF_SEQUENCE), total(GODWIT_COUNTER_TX_NAK_STOPPED),
              total(GODWIT_COUNTER_RESUME_ACCEPTED), total(GODWIT_COUNTER_TX_REDIRECT),
              total(GODWIT_COUNTER_PROBES), total(GODWIT_COUNTER_PACKET_SEQ_ERR),
              total(GODWIT_COUNTER_RNR_NAK_RETRY_ERR), total(GODWIT_COUNTER_IMPLIED_NAK_SEQ_ERR),
              total(GODWIT_COUNTER_LOCAL_ACK_TIMEOUT_ERR));
  if (outcome.done < 2000) return;
  EXPECT_GT(t.moves, outcome.done);
  for (const std::uint64_t n : {t.both, t.unfinished, t.in_rtr, t.returns, t.rollbacks, t.abandoned,
                                t.deaths, t.early_drops, t.snapshots}) {
    EXPECT_GT(n, 0u);
  }
  for (const unsigned counter :
       {GODWIT_COUNTER_RETRANSMISSIONS, GODWIT_COUNTER_DUPLICATE_REQUEST,
        GODWIT_COUNTER_OUT_OF_SEQUENCE, GODWIT_COUNTER_RNR_NAK_RETRY_ERR,
        GODWIT_COUNTER_TX_NAK_STOPPED, GODWIT_COUNTER_RESUME_ACCEPTED, GODWIT_COUNTER_PROBES,
        GODWIT_COUNTER_TOMBSTONES_EXPIRED, GODWIT_COUNTER_RESUME_STALE_EPOCH,
        GODWIT_COUNTER_RX_REDIRECT, GODWIT_COUNTER_RESUME_ACK_UNEXPECTED,
        GODWIT_COUNTER_NAK_STOPPED_IGNORED}) {
    EXPECT_GT(total(counter), 0u) << "counter " << counter;
  }
}

}  // namespace
}  // namespace godwit::sim

int main(int argc, char** argv) {
  using godwit::sim::g_options;
  testing::InitGoogleTest(&argc, argv);
  g_options.program = argv[0];
  g_options.workers = std::thread::hardware_concurrency();
  const auto number = [](const char* text) { return std::strtoull(text, nullptr, 0); };
  if (const char* seeds = std::getenv("GODWIT_SIM_SEEDS")) g_options.seeds = number(seeds);
  if (const char* first = std::getenv("GODWIT_SIM_FIRST")) g_options.first = number(first);
  if (const char* seed = std::getenv("GODWIT_SIM_SEED")) g_options.only_seed = number(seed);
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const std::size_t equals = argument.find('=');
    const std::string name = argument.substr(0, equals);
    const char* value = equals == std::string::npos ? "" : argv[i] + equals + 1;
    if (name == "--seeds") g_options.seeds = number(value);
    if (name == "--first") g_options.first = number(value);
    if (name == "--seed") g_options.only_seed = number(value);
    if (name == "--case") g_options.only_case = number(value);
    if (name == "--workers") g_options.workers = static_cast<unsigned>(number(value));
    if (name == "--trace") g_options.trace = true;
    if (name == "--progress") g_options.progress = true;
  }
  return RUN_ALL_TESTS();
}
