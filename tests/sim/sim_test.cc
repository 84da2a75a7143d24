// SPDX-License-Identifier: GPL-2.0-or-later
//
// Whole devices on a lossy switch, in virtual time: two processes talk over RC
// connections and are moved about. Each seed is another history.
//
//   GODWIT_SIM_SEEDS=n or --seeds=n   how many (1000)
//   GODWIT_SIM_SEED=n  or --seed=n    that one only
//   --trace                           prints what the devices do
#include <gtest/gtest.h>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "godwit_counters.h"
#include "sim/network.h"
#include "sim/process.h"

namespace godwit::sim {
namespace {

constexpr std::uint64_t kMicrosecond = 1000;
constexpr std::uint64_t kMillisecond = 1000 * kMicrosecond;
constexpr std::uint64_t kSecond = 1000 * kMillisecond;
constexpr unsigned kMachines = 3;

std::uint64_t g_seeds = 1000;
std::uint64_t g_first_seed = 1;
bool g_trace = false;
std::string g_program = "sim";

// What the seeds did together, so that a simulator that does nothing is noticed.
struct Totals {
  std::uint64_t operations = 0;
  std::uint64_t moves = 0;
  std::uint64_t returns = 0;    // restored at home
  std::uint64_t rollbacks = 0;  // UNSTOP
  std::uint64_t abandoned = 0;
  std::uint64_t snapshots = 0;
  std::uint64_t counters[GODWIT_COUNTER_COUNT] = {};
};
Totals g_totals;

constexpr const char* kTraceNames[GODWIT_TRACE_COUNT] = {
    "command",  "bad register", "bad doorbell", "bad wqe",   "dma error", "qp status", "qp error",
    "rx drop",  "packet rx",    "packet tx",    "migration", "fatal",     "reset"};

class Simulation {
 public:
  explicit Simulation(std::uint64_t seed);
  std::string run();  // empty, or what went wrong

 private:
  // What the orchestrator is doing with one process.
  enum class Phase { kIdle, kFrozen, kGone, kRestored, kResuming };
  struct Move {
    Phase phase = Phase::kIdle;
    std::uint64_t next_time = 0;
    unsigned from = 0;
    unsigned to = 0;
    std::uint64_t id = 0;
    std::uint32_t attempt = 0;
  };

  void address(unsigned process, unsigned machine);
  std::uint32_t sgid(unsigned process) const {
    return fixed_address_ ? 10 + process : std::uint32_t{0};
  }
  Mac mac_of(unsigned process, unsigned machine) const {
    return fixed_address_ ? Mac{2, 0, 0, 1, 0, static_cast<std::uint8_t>(process)}
                          : Mac{2, 0, 0, 0, 0, static_cast<std::uint8_t>(machine)};
  }
  Gid gid_of(unsigned process, unsigned machine) const {
    if (ipv6_) {
      Gid gid{};
      gid[0] = 0xfd;
      gid[15] = static_cast<std::uint8_t>(fixed_address_ ? 100 + process : 1 + machine);
      return gid;
    }
    return fixed_address_ ? test::ipv4_gid(10, 77, 1, static_cast<std::uint8_t>(1 + process))
                          : test::ipv4_gid(10, 77, 0, static_cast<std::uint8_t>(1 + machine));
  }
  void set_up();
  void orchestrate(unsigned process);
  bool may_move(unsigned process) const;
  void snapshot();
  void run_machines();
  void advance();
  bool finished() const;
  void tear_down();

  Rng rng_;
  Verdict verdict_;
  std::uint64_t clock_ = kSecond;
  Network network_;
  std::vector<std::unique_ptr<Machine>> machines_;
  std::vector<std::unique_ptr<Process>> processes_;
  std::vector<unsigned> where_ = {0, 1};
  Move moves_[2];
  unsigned moves_left_ = 0;
  std::uint64_t next_move_id_ = 1;
  std::uint64_t next_step_[2] = {0, 0};
  bool fixed_address_ = false;
  bool ipv6_ = false;
};

Simulation::Simulation(std::uint64_t seed) : rng_(seed), network_(&rng_, &clock_) {
  fixed_address_ = rng_.chance(50);
  ipv6_ = rng_.chance(30);
  moves_left_ = static_cast<unsigned>(rng_.below(5));
}

// Puts the address that the process speaks from into the machine's table.
void Simulation::address(unsigned process, unsigned machine) {
  const test::Result result = machines_[machine]->set_gid(
      sgid(process), gid_of(process, machine), mac_of(process, machine));
  if (!result.ok()) verdict_.fail("SET_GID failed");
}

void Simulation::set_up() {
  NetworkFaults faults;
  if (rng_.chance(80)) {
    faults.loss_per_mille = static_cast<unsigned>(rng_.below(40));
    faults.duplicate_per_mille = static_cast<unsigned>(rng_.below(40));
    faults.jitter_ns = rng_.chance(50) ? rng_.below(50 * kMicrosecond) : rng_.below(kMillisecond);
  }
  network_.set_faults(faults);
  for (unsigned i = 0; i < kMachines; ++i) {
    godwit_device_config config = test::small_config(static_cast<std::uint8_t>(i + 1));
    config.seed = rng_.next();
    config.tombstone_ttl_ms = static_cast<std::uint32_t>(rng_.between(20, 2000));
    // With a new address, an end that never heard its peer must speak all the same.
    config.resume_unknown = !fixed_address_;
    machines_.push_back(std::make_unique<Machine>(config, &clock_, 1024));
    machines_[i]->on_frame = [this](const Frame& frame) { network_.send(frame); };
    if (g_trace) {
      machines_[i]->on_trace = [this, i](godwit_trace_event event, const auto& v) {
        std::printf("%12.6f machine %u %-12s %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 "\n",
                    static_cast<double>(clock_) / 1e9, i, kTraceNames[event], v[0], v[1], v[2],
                    v[3]);
      };
    }
    machines_[i]->start();
  }
  if (rng_.chance(25)) where_[1] = 0;  // both on one machine
  if (!fixed_address_) {
    for (unsigned i = 0; i < kMachines; ++i) {
      address(0, i);
      network_.learn(mac_of(0, i), machines_[i].get());
    }
  }
  const auto connections = static_cast<unsigned>(rng_.between(1, 2));
  for (unsigned i = 0; i < 2; ++i) {
    processes_.push_back(std::make_unique<Process>(i, &rng_, &verdict_));
    if (fixed_address_) {
      address(i, where_[i]);
      network_.learn(mac_of(i, 0), machines_[where_[i]].get());
    }
    processes_[i]->create(machines_[where_[i]].get(), connections, sgid(i));
  }
  test::ConnectOptions options;
  options.path_mtu = static_cast<std::uint8_t>(rng_.between(1, 5));
  options.timeout = static_cast<std::uint8_t>(rng_.between(8, 12));
  options.max_rd_atomic = static_cast<std::uint8_t>(rng_.between(1, 16));
  for (unsigned c = 0; c < connections; ++c) {
    for (unsigned i = 0; i < 2; ++i) {
      Side& peer = *processes_[1 - i]->sides()[c];
      options.sgid_index = static_cast<std::uint16_t>(sgid(i));
      processes_[i]->connect(c, &peer, options,
                             {gid_of(1 - i, where_[1 - i]), mac_of(1 - i, where_[1 - i]),
                              peer.qp.qpn, peer.psn});
      processes_[i]->sides()[c]->left = static_cast<unsigned>(rng_.between(10, 50));
      g_totals.operations += processes_[i]->sides()[c]->left;
    }
  }
  for (unsigned i = 0; i < 2; ++i) {
    moves_[i].next_time = clock_ + rng_.below(20 * kMillisecond);
  }
}

// With new addresses, one end can only find the other while that one stays.
bool Simulation::may_move(unsigned process) const {
  if (fixed_address_) return !processes_[process]->resuming();
  return moves_[1 - process].phase == Phase::kIdle && !processes_[process]->resuming() &&
         !processes_[1 - process]->resuming();
}

void Simulation::orchestrate(unsigned i) {
  Move& move = moves_[i];
  Process& process = *processes_[i];
  if (move.next_time > clock_) return;
  move.next_time = clock_ + rng_.below(15 * kMillisecond);
  switch (move.phase) {
    case Phase::kIdle: {
      if (moves_left_ == 0 || process.done() || !may_move(i)) return;
      --moves_left_;
      move.from = where_[i];
      move.to = (move.from + 1 + static_cast<unsigned>(rng_.below(2))) % kMachines;
      move.id = next_move_id_++;
      move.attempt = 0;
      if (!machines_[move.to]->reserve(process.qpns(), 600000, move.id).ok()) {
        verdict_.fail("RESERVE_QPNS failed");
      }
      process.freeze();
      move.phase = Phase::kFrozen;
      return;
    }
    case Phase::kFrozen:
      if (rng_.chance(20)) {
        process.thaw();
        ++g_totals.rollbacks;
        machines_[move.to]->move_command(GODWIT_CMD_DROP, move.id);
        move.phase = Phase::kIdle;
        return;
      }
      process.dump();
      process.leave(move.id);
      move.phase = Phase::kGone;
      return;
    case Phase::kGone: {
      // At the destination, or back at home; a restore may be given up before RESUME.
      const unsigned target = rng_.chance(80) ? move.to : move.from;
      if (fixed_address_) address(i, target);
      process.restore(machines_[target].get(), move.id, sgid(i));
      ++move.attempt;
      if (rng_.chance(20)) {
        process.abandon_restore();
        ++g_totals.abandoned;
        return;
      }
      where_[i] = target;
      move.phase = Phase::kRestored;
      return;
    }
    case Phase::kRestored:
      if (fixed_address_) {
        network_.learn(mac_of(i, 0), machines_[where_[i]].get());
        for (unsigned m = 0; m < kMachines; ++m) {
          if (m != where_[i]) machines_[m]->clear_gid(sgid(i));
        }
      }
      process.go(move.attempt);
      ++(where_[i] == move.from ? g_totals.returns : g_totals.moves);
      move.phase = Phase::kResuming;
      return;
    case Phase::kResuming:
      if (process.resuming()) return;
      for (auto& machine : machines_) {
        if (!machine->move_command(GODWIT_CMD_COMMIT, move.id).ok()) {
          verdict_.fail("COMMIT failed");
        }
      }
      if (where_[i] != move.to) machines_[move.to]->move_command(GODWIT_CMD_DROP, move.id);
      move.phase = Phase::kIdle;
      return;
  }
}

// A VM is saved and loaded now and then; nobody may notice.
void Simulation::snapshot() {
  for (auto& machine : machines_) {
    if (rng_.below(2000) != 0) continue;
    ++g_totals.snapshots;
    if (const char* wrong = machine->load(machine->save())) {
      verdict_.fail(std::string("a saved device cannot be loaded: ") + wrong);
    }
  }
}

void Simulation::run_machines() {
  bool again = true;
  for (unsigned round = 0; again; ++round) {
    again = false;
    for (auto& machine : machines_) {
      if (!machine->kicked() && machine->next_deadline() > clock_) continue;
      if (!machine->run(20000)) verdict_.fail("a device does not come to rest");
      again = true;
    }
    if (round > 1000) {
      verdict_.fail("the devices do not come to rest");
      return;
    }
  }
}

void Simulation::advance() {
  std::uint64_t next = network_.next_time();
  for (auto& machine : machines_) next = std::min(next, machine->next_deadline());
  for (unsigned i = 0; i < 2; ++i) {
    next = std::min(next, next_step_[i]);
    if (moves_[i].phase != Phase::kIdle || moves_left_ > 0) {
      next = std::min(next, moves_[i].next_time);
    }
  }
  clock_ = std::max(clock_ + 1, next);
  while (network_.next_time() <= clock_) network_.deliver();
}

bool Simulation::finished() const {
  for (unsigned i = 0; i < 2; ++i) {
    if (!processes_[i]->done() || moves_[i].phase != Phase::kIdle) return false;
  }
  return true;
}

// Everything can be destroyed, and nothing is left.
void Simulation::tear_down() {
  clock_ += 10 * kSecond;
  run_machines();
  for (auto& process : processes_) process->destroy();
  for (auto& machine : machines_) {
    for (unsigned c = 0; c < GODWIT_COUNTER_COUNT; ++c) {
      g_totals.counters[c] += godwit_device_counter(machine->device(), c);
    }
    const test::Result left = machine->command(
        GODWIT_CMD_QUERY_TOMBSTONES, godwit_cmd_mailbox{{machine->mailbox()}, {4096}, {0}});
    if (!left.ok() || left.number() != 0) verdict_.fail("tombstones are left");
    if (machine->reg(GODWIT_REG_STATUS) & GODWIT_STATUS_FATAL_MASK) verdict_.fail("fatal");
    for (const unsigned counter : {GODWIT_COUNTER_DMA_ERRORS, GODWIT_COUNTER_BAD_WQES,
                                   GODWIT_COUNTER_CQ_OVERFLOWS, GODWIT_COUNTER_RX_MALFORMED,
                                   GODWIT_COUNTER_RX_ICRC_ENCAPSULATED}) {
      if (godwit_device_counter(machine->device(), counter) != 0) {
        verdict_.fail("counter " + std::to_string(counter) + " is not zero");
      }
    }
  }
}

std::string Simulation::run() {
  set_up();
  const std::uint64_t limit = clock_ + 120 * kSecond;
  while (verdict_.ok() && !finished()) {
    for (unsigned i = 0; i < 2; ++i) {
      if (next_step_[i] <= clock_) {
        processes_[i]->step();
        next_step_[i] = clock_ + rng_.below(500 * kMicrosecond) + 1;
      }
      orchestrate(i);
    }
    snapshot();
    run_machines();
    advance();
    if (clock_ > limit) {
      std::ostringstream out;
      out << "no end";
      for (const auto& process : processes_) out << "\n  " << process->summary();
      verdict_.fail(out.str());
    }
  }
  if (verdict_.ok()) tear_down();
  return verdict_.error;
}

TEST(Simulation, Seeds) {
  unsigned failed = 0;
  for (std::uint64_t n = 0; n < g_seeds && failed < 5; ++n) {
    const std::uint64_t seed = g_first_seed + n;
    Simulation simulation(seed);
    const std::string error = simulation.run();
    if (error.empty()) continue;
    ++failed;
    ADD_FAILURE() << "seed " << seed << ": " << error << "\nreplay: GODWIT_SIM_SEED=" << seed << " "
                  << g_program;
  }
  const auto total = [](unsigned counter) { return g_totals.counters[counter]; };
  std::printf("%" PRIu64 " seeds: %" PRIu64 " operations, %" PRIu64 " moves, %" PRIu64
              " restores at home, %" PRIu64 " rollbacks, %" PRIu64 " abandoned restores, %" PRIu64
              " VM snapshots; %" PRIu64
              " packets, %" PRIu64 " sent again, %" PRIu64 " duplicates, %" PRIu64
              " out of sequence, %" PRIu64 " NAK_STOPPED, %" PRIu64 " RESUME accepted, %" PRIu64
              " probes; causes: %" PRIu64 " NAKs, %" PRIu64 " RNR NAKs, %" PRIu64 " implied, %" PRIu64
              " timeouts\n",
              g_seeds, g_totals.operations, g_totals.moves, g_totals.returns, g_totals.rollbacks,
              g_totals.abandoned, g_totals.snapshots, total(GODWIT_COUNTER_TX_RDMA_PACKETS),
              total(GODWIT_COUNTER_RETRANSMISSIONS), total(GODWIT_COUNTER_DUPLICATE_REQUEST),
              total(GODWIT_COUNTER_OUT_OF_SEQUENCE), total(GODWIT_COUNTER_TX_NAK_STOPPED),
              total(GODWIT_COUNTER_RESUME_ACCEPTED), total(GODWIT_COUNTER_PROBES),
              total(GODWIT_COUNTER_PACKET_SEQ_ERR), total(GODWIT_COUNTER_RNR_NAK_RETRY_ERR),
              total(GODWIT_COUNTER_IMPLIED_NAK_SEQ_ERR),
              total(GODWIT_COUNTER_LOCAL_ACK_TIMEOUT_ERR));
  if (g_seeds < 50) return;
  EXPECT_GT(g_totals.moves, g_seeds / 4);
  EXPECT_GT(g_totals.returns, 0u);
  EXPECT_GT(g_totals.rollbacks, 0u);
  EXPECT_GT(g_totals.abandoned, 0u);
  EXPECT_GT(g_totals.snapshots, 0u);
  for (const unsigned counter :
       {GODWIT_COUNTER_RETRANSMISSIONS, GODWIT_COUNTER_DUPLICATE_REQUEST,
        GODWIT_COUNTER_OUT_OF_SEQUENCE, GODWIT_COUNTER_RNR_NAK_RETRY_ERR,
        GODWIT_COUNTER_TX_NAK_STOPPED, GODWIT_COUNTER_RESUME_ACCEPTED, GODWIT_COUNTER_PROBES,
        GODWIT_COUNTER_TOMBSTONES_EXPIRED}) {
    EXPECT_GT(total(counter), 0u) << "counter " << counter;
  }
}

}  // namespace
}  // namespace godwit::sim

int main(int argc, char** argv) {
  using namespace godwit::sim;
  testing::InitGoogleTest(&argc, argv);
  g_program = argv[0];
  if (const char* seeds = std::getenv("GODWIT_SIM_SEEDS")) g_seeds = std::strtoull(seeds, nullptr, 0);
  const char* only = std::getenv("GODWIT_SIM_SEED");
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "--seeds=", 8) == 0) g_seeds = std::strtoull(argv[i] + 8, nullptr, 0);
    if (std::strncmp(argv[i], "--seed=", 7) == 0) only = argv[i] + 7;
    if (std::strcmp(argv[i], "--trace") == 0) g_trace = true;
  }
  if (only != nullptr) {
    g_first_seed = std::strtoull(only, nullptr, 0);
    g_seeds = 1;
  }
  return RUN_ALL_TESTS();
}
