// SPDX-License-Identifier: GPL-2.0-or-later
//
// Machines, a switch, two processes that talk to each other, and what an
// orchestrator can do to them; all in virtual time.
#ifndef GODWIT_TESTS_SIM_WORLD_H
#define GODWIT_TESTS_SIM_WORLD_H

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "godwit_counters.h"
#include "sim/network.h"
#include "sim/process.h"

namespace godwit::sim {

inline constexpr std::uint64_t kMicrosecond = 1000;
inline constexpr std::uint64_t kMillisecond = 1000 * kMicrosecond;
inline constexpr std::uint64_t kSecond = 1000 * kMillisecond;
inline constexpr unsigned kMachines = 4;
inline constexpr unsigned kProcesses = 2;

// What was done, so that a simulator that does nothing is noticed. Nothing but numbers: those of
// several workers are added.
struct Totals {
  std::uint64_t operations = 0;
  std::uint64_t moves = 0;
  std::uint64_t returns = 0;      // restored at home
  std::uint64_t rollbacks = 0;    // UNSTOP
  std::uint64_t abandoned = 0;    // restores given up before RESUME
  std::uint64_t deaths = 0;       // machines
  std::uint64_t both = 0;         // moves that began while the other end was on the move
  std::uint64_t unfinished = 0;   // moves that began before the last one was acknowledged
  std::uint64_t refused = 0;      // STOP: too many places
  std::uint64_t early_drops = 0;  // tombstones
  std::uint64_t in_rtr = 0;       // moves of a QP that has not entered RTS
  std::uint64_t snapshots = 0;
  std::uint64_t cases = 0;
  std::uint64_t counters[GODWIT_COUNTER_COUNT] = {};
};

struct Setup {
  std::uint64_t seed = 1;
  bool fixed_address = true;  // a process takes its GID and MAC along
  bool ipv6 = false;
  bool together = false;         // both processes begin on one machine
  bool connects_slowly = false;  // QPs go through Init and RTR while others run
  unsigned connections = 1;
  NetworkFaults faults;
  test::ConnectOptions options;
  std::uint32_t tombstone_ttl_ms = 1000;
  bool event_driven[kProcesses] = {};
  bool drains = false;  // QPs go to SQD and back
  bool trace = false;
};

class World {
 public:
  World(const Setup& setup, Rng* rng, Totals* totals);

  // Runs until all is done, nothing moves, and `orchestrate` says that it has no more to do. What
  // went wrong, or an empty string.
  std::string run(std::uint64_t bound_ns, const std::function<bool()>& orchestrate);

  // Called whenever a device has been entered: between two of these it can be stopped.
  std::function<void()> on_entry;
  // When the time shall not pass by; asked before each advance.
  std::function<std::uint64_t()> next_event;

  enum class Phase { kRunning, kFrozen, kGone, kRestored };
  Phase phase(unsigned process) const { return moves_[process].phase; }
  unsigned where(unsigned process) const { return where_[process]; }
  unsigned home(unsigned process) const { return moves_[process].from; }
  unsigned destination(unsigned process) const { return moves_[process].to; }
  bool settled(unsigned process) const { return moves_[process].open.empty(); }

  // A move of one process, step by step.
  void prepare(unsigned process, unsigned to);  // reserves
  bool freeze(unsigned process);                // false: refused for now, nothing is changed
  void thaw(unsigned process);
  void leave(unsigned process);
  void restore(unsigned process, unsigned target);
  void abandon(unsigned process);
  bool may_die(unsigned machine) const;
  void die(unsigned machine, bool replaced);
  void go(unsigned process);
  // Whether the RESUMEs of all its moves are acknowledged; then they are committed, or their
  // tombstones dropped.
  bool settle(unsigned process, bool drop);
  void drop_early(unsigned process);
  bool may_move(unsigned process) const;

  Process& process(unsigned i) { return *processes_[i]; }
  const Process& process(unsigned i) const { return *processes_[i]; }
  Network& network() { return network_; }
  std::uint64_t now() const { return clock_; }
  Verdict& verdict() { return verdict_; }
  void snapshot(unsigned machine);  // a VM is saved and loaded; nobody may notice

 private:
  struct Move {
    Phase phase = Phase::kRunning;
    unsigned from = 0;
    unsigned to = 0;
    std::uint64_t id = 0;
    std::uint32_t attempt = 0;
    std::vector<std::uint64_t> open;  // moves whose tombstones stand
    std::vector<unsigned> homes;      // … and where
  };

  void boot(unsigned machine);
  void address(unsigned process, unsigned machine);
  std::uint32_t sgid(unsigned process) const {
    return setup_.fixed_address ? 10 + process : std::uint32_t{0};
  }
  Mac mac_of(unsigned process, unsigned machine) const;
  Gid gid_of(unsigned process, unsigned machine) const;
  void dispatch(unsigned machine);
  void run_machines();
  void advance();
  void add_counters(Machine& machine);
  void tear_down();
  void entered() {
    if (on_entry) on_entry();
  }

  const Setup setup_;
  Rng* rng_;
  Totals* totals_;
  Verdict verdict_;
  std::uint64_t clock_ = kSecond;
  Network network_;
  std::vector<std::unique_ptr<Machine>> machines_;
  std::vector<std::unique_ptr<Process>> processes_;
  std::array<unsigned, kProcesses> where_ = {0, 1};
  std::array<Move, kProcesses> moves_;
  std::array<std::uint64_t, kProcesses> next_step_ = {};
  std::uint64_t next_move_id_ = 1;
  std::uint64_t disturbed_ = 0;  // when something was last done to them
};

}  // namespace godwit::sim

#endif  // GODWIT_TESTS_SIM_WORLD_H
