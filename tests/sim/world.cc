// SPDX-License-Identifier: GPL-2.0-or-later
#include "sim/world.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <sstream>

namespace godwit::sim {
namespace {

constexpr const char* kTraceNames[GODWIT_TRACE_COUNT] = {
    "command", "bad register", "bad doorbell", "bad wqe",   "dma error", "qp status", "qp error",
    "rx drop", "packet rx",    "packet tx",    "migration", "fatal",     "reset"};

// None of these may ever count: nothing that is sent here is wrong.
constexpr unsigned kDamage[] = {GODWIT_COUNTER_DMA_ERRORS,
                                GODWIT_COUNTER_BAD_WQES,
                                GODWIT_COUNTER_BAD_DOORBELLS,
                                GODWIT_COUNTER_CQ_OVERFLOWS,
                                GODWIT_COUNTER_RX_MALFORMED,
                                GODWIT_COUNTER_RX_ICRC_ENCAPSULATED,
                                GODWIT_COUNTER_RX_BAD_PKEY,
                                GODWIT_COUNTER_REQ_CQE_ERROR,
                                GODWIT_COUNTER_RESP_CQE_ERROR,
                                GODWIT_COUNTER_REQ_TRANSPORT_RETRIES_EXCEEDED,
                                GODWIT_COUNTER_PAUSE_LIMIT_EXCEEDED,
                                GODWIT_COUNTER_REQ_RNR_RETRIES_EXCEEDED,
                                GODWIT_COUNTER_RESP_REMOTE_ACCESS_ERRORS,
                                GODWIT_COUNTER_RESP_INVALID_REQUEST,
                                GODWIT_COUNTER_RESP_LOCAL_LENGTH_ERROR,
                                GODWIT_COUNTER_RESUME_BAD_ADDRESS,
                                GODWIT_COUNTER_RESUME_RATE_LIMITED};

}  // namespace

Mac World::mac_of(unsigned process, unsigned machine) const {
  return setup_.fixed_address ? Mac{2, 0, 0, 1, 0, static_cast<std::uint8_t>(process)}
                              : Mac{2, 0, 0, 0, 0, static_cast<std::uint8_t>(machine)};
}

Gid World::gid_of(unsigned process, unsigned machine) const {
  if (setup_.ipv6) {
    Gid gid{};
    gid[0] = 0xfd;
    gid[15] = static_cast<std::uint8_t>(setup_.fixed_address ? 100 + process : 1 + machine);
    return gid;
  }
  return setup_.fixed_address ? test::ipv4_gid(10, 77, 1, static_cast<std::uint8_t>(1 + process))
                              : test::ipv4_gid(10, 77, 0, static_cast<std::uint8_t>(1 + machine));
}

// Puts the address that the process speaks from into the machine's table.
void World::address(unsigned process, unsigned machine) {
  const test::Result result = machines_[machine]->set_gid(sgid(process), gid_of(process, machine),
                                                          mac_of(process, machine));
  if (!result.ok()) verdict_.fail("SET_GID failed");
}

void World::boot(unsigned i) {
  machines_[i]->start();
  if (!setup_.fixed_address) {
    address(0, i);
    network_.learn(mac_of(0, i), machines_[i].get());
  }
}

World::World(const Setup& setup, Rng* rng, Totals* totals)
    : setup_(setup), rng_(rng), totals_(totals), network_(rng, &clock_) {
  network_.set_faults(setup.faults);
  machines_.resize(kMachines);
  for (unsigned i = 0; i < kMachines; ++i) {
    godwit_device_config config = test::small_config(static_cast<std::uint8_t>(i + 1));
    config.seed = rng_->next();
    config.tombstone_ttl_ms = setup.tombstone_ttl_ms;
    // With a new address, an end that never heard its peer must speak all the same.
    config.resume_unknown = !setup.fixed_address;
    machines_[i] = std::make_unique<Machine>(config, &clock_, 1024);
    machines_[i]->on_frame = [this](const Frame& frame) { network_.send(frame); };
    machines_[i]->wire_busy = [this, machine = machines_[i].get()] {
      return network_.busy(machine);
    };
    if (setup.trace) {
      machines_[i]->on_trace = [this, i](godwit_trace_event event, const auto& v) {
        std::printf("%12.6f machine %u %-12s %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 "\n",
                    static_cast<double>(clock_) / 1e9, i, kTraceNames[event], v[0], v[1], v[2],
                    v[3]);
      };
    }
    boot(i);
  }
  if (setup.together) where_[1] = 0;
  for (unsigned i = 0; i < kProcesses; ++i) {
    processes_.push_back(std::make_unique<Process>(i, rng, &verdict_));
    if (setup.event_driven[i]) processes_[i]->wait_for_events();
    if (setup.drains) processes_[i]->drain_at_times();
    if (setup.fixed_address) {
      address(i, where_[i]);
      network_.learn(mac_of(i, 0), machines_[where_[i]].get());
    }
    processes_[i]->create(machines_[where_[i]].get(), setup.connections);
  }
  for (unsigned i = 0; i < kProcesses; ++i) {
    for (unsigned c = 0; c < setup.connections; ++c) {
      processes_[i]->sides()[c]->peer = processes_[1 - i]->sides()[c].get();
    }
    test::ConnectOptions options = setup.options;
    options.sgid_index = static_cast<std::uint16_t>(sgid(i));
    processes_[i]->plan(options, [this](const Side& peer) {
      const unsigned p = peer.process->index();
      return test::Endpoint{gid_of(p, where_[p]), mac_of(p, where_[p]), peer.qp.qpn, peer.psn};
    });
  }
  if (setup.connects_slowly) return;
  for (int step = 0; step < 3; ++step) {
    for (auto& process : processes_) {
      for (auto& side : process->sides()) process->connect_step(*side);
    }
  }
}

// ------------------------------------------------------------ moving

// An end that has no address yet cannot tell of a new one: it must have been told where its peer
// is.
bool World::may_move(unsigned i) const {
  return setup_.fixed_address || processes_[i]->at_least(Stage::kRtr);
}

void World::prepare(unsigned i, unsigned to) {
  Move& move = moves_[i];
  move.from = where_[i];
  move.to = to;
  move.id = next_move_id_++;
  if (!machines_[to]->reserve(processes_[i]->qpns(), 600000, move.id).ok()) {
    verdict_.fail("RESERVE_QPNS failed");
  }
}

bool World::freeze(unsigned i) {
  Move& move = moves_[i];
  disturbed_ = clock_;
  if (!processes_[i]->freeze().ok()) {
    machines_[move.to]->move_command(GODWIT_CMD_DROP, move.id);
    ++totals_->refused;
    return false;
  }
  dispatch(where_[i]);
  processes_[i]->freeze_memory();
  move.phase = Phase::kFrozen;
  move.attempt = 0;
  if (moves_[1 - i].phase != Phase::kRunning) ++totals_->both;
  if (!move.open.empty()) ++totals_->unfinished;
  if (!processes_[i]->at_least(Stage::kRts)) ++totals_->in_rtr;
  return true;
}

void World::thaw(unsigned i) {
  Move& move = moves_[i];
  disturbed_ = clock_;
  dispatch(where_[i]);
  processes_[i]->thaw();
  machines_[move.to]->move_command(GODWIT_CMD_DROP, move.id);
  move.phase = Phase::kRunning;
  ++totals_->rollbacks;
}

void World::leave(unsigned i) {
  Move& move = moves_[i];
  disturbed_ = clock_;
  dispatch(where_[i]);
  processes_[i]->leave(move.id);
  move.open.push_back(move.id);
  move.homes.push_back(move.from);
  move.phase = Phase::kGone;
}

void World::restore(unsigned i, unsigned target) {
  disturbed_ = clock_;
  if (setup_.fixed_address) address(i, target);
  processes_[i]->restore(machines_[target].get(), moves_[i].id, sgid(i));
  where_[i] = target;
  ++moves_[i].attempt;
  moves_[i].phase = Phase::kRestored;
}

void World::abandon(unsigned i) {
  disturbed_ = clock_;
  dispatch(where_[i]);
  processes_[i]->abandon_restore();
  if (setup_.fixed_address && where_[i] != moves_[i].from && rng_->chance(50)) {
    machines_[where_[i]]->clear_gid(sgid(i));
  }
  where_[i] = moves_[i].from;
  moves_[i].phase = Phase::kGone;
  ++totals_->abandoned;
}

// No process runs there, and no tombstone that is still needed.
bool World::may_die(unsigned machine) const {
  for (unsigned i = 0; i < kProcesses; ++i) {
    const Move& move = moves_[i];
    if (where_[i] == machine && move.phase != Phase::kRestored) return false;
    if (move.phase != Phase::kRunning && move.from == machine) return false;
    if (std::find(move.homes.begin(), move.homes.end(), machine) != move.homes.end()) return false;
  }
  return true;
}

void World::die(unsigned machine, bool replaced) {
  disturbed_ = clock_;
  for (unsigned i = 0; i < kProcesses; ++i) {
    if (moves_[i].phase != Phase::kRestored || where_[i] != machine) continue;
    processes_[i]->lose_restore(replaced);
    where_[i] = moves_[i].from;
    moves_[i].phase = Phase::kGone;
  }
  add_counters(*machines_[machine]);
  if (replaced) {
    machines_[machine]->replace();
  } else {
    godwit_device_reset(machines_[machine]->device());
  }
  boot(machine);
  ++totals_->deaths;
  // What had been reserved there is gone; that it is free is the orchestrator's to see again.
  for (unsigned i = 0; i < kProcesses; ++i) {
    const Move& move = moves_[i];
    if (move.phase == Phase::kRunning || move.to != machine) continue;
    if (!machines_[machine]->reserve(processes_[i]->qpns(), 600000, move.id).ok()) {
      verdict_.fail("RESERVE_QPNS failed");
    }
  }
}

void World::go(unsigned i) {
  Move& move = moves_[i];
  disturbed_ = clock_;
  if (setup_.fixed_address) {
    network_.learn(mac_of(i, 0), machines_[where_[i]].get());
    for (unsigned m = 0; m < kMachines; ++m) {
      if (m != where_[i]) machines_[m]->clear_gid(sgid(i));
    }
  }
  processes_[i]->go(move.attempt);
  ++(where_[i] == move.from ? totals_->returns : totals_->moves);
  if (where_[i] != move.to) machines_[move.to]->move_command(GODWIT_CMD_DROP, move.id);
  move.phase = Phase::kRunning;
}

bool World::settle(unsigned i, bool drop) {
  Move& move = moves_[i];
  if (move.open.empty()) return true;
  if (move.phase != Phase::kRunning || processes_[i]->resuming()) return false;
  dispatch(where_[i]);
  processes_[i]->check_resumed_events();
  if (drop) ++totals_->early_drops;
  for (const std::uint64_t id : move.open) {
    for (auto& machine : machines_) {
      if (!machine->move_command(drop ? GODWIT_CMD_DROP : GODWIT_CMD_COMMIT, id).ok()) {
        verdict_.fail("COMMIT or DROP failed");
      }
    }
  }
  move.open.clear();
  move.homes.clear();
  return true;
}

// Where a process takes its address along, nobody needs the tombstone once that has been handed
// over.
void World::drop_early(unsigned i) {
  if (!setup_.fixed_address || moves_[i].open.empty()) return;
  for (auto& machine : machines_) machine->move_command(GODWIT_CMD_DROP, moves_[i].open.back());
  ++totals_->early_drops;
}

void World::snapshot(unsigned i) {
  ++totals_->snapshots;
  if (const char* wrong = machines_[i]->load(machines_[i]->save())) {
    verdict_.fail(std::string("a saved device cannot be loaded: ") + wrong);
  }
}

// ------------------------------------------------------------ running

// What the driver does with the event queues.
void World::dispatch(unsigned i) {
  const auto there = [&](unsigned p) { return processes_[p]->machine() == machines_[i].get(); };
  for (const godwit_eqe& event : machines_[i]->events(1)) {
    bool taken = false;
    for (unsigned p = 0; p < kProcesses && event.type == GODWIT_EQE_COMP; ++p) {
      taken |= there(p) && processes_[p]->on_completion_event(event.number.raw);
    }
    if (!taken) verdict_.fail("a completion event for nobody");
  }
  for (const godwit_eqe& event : machines_[i]->events(0)) {
    bool taken = event.type == GODWIT_EQE_PORT;
    for (unsigned p = 0; p < kProcesses && event.type == GODWIT_EQE_QP; ++p) {
      taken |= there(p) && processes_[p]->on_qp_event(event.number.raw, event.subtype);
    }
    if (!taken) verdict_.fail("an event for nobody: type " + std::to_string(event.type));
  }
}

void World::run_machines() {
  bool again = true;
  for (unsigned round = 0; again; ++round) {
    again = false;
    for (unsigned i = 0; i < kMachines; ++i) {
      Machine& machine = *machines_[i];
      if (machine.take_interrupts()) dispatch(i);
      if (!machine.kicked() && machine.next_deadline() > clock_) continue;
      // As after a doorbell: a little at first.
      if (rng_->chance(30)) {
        machine.run_briefly();
        entered();
        again = true;
        continue;
      }
      for (unsigned turn = 0; !machine.run(1); ++turn) {
        if (turn == 20000) verdict_.fail("a device does not come to rest");
        entered();
        if (!verdict_.ok()) return;
      }
      entered();
      again = true;
    }
    if (round > 1000) verdict_.fail("the devices do not come to rest");
    if (!verdict_.ok()) return;
  }
}

void World::advance() {
  std::uint64_t next = std::min(network_.next_time(), next_event ? next_event() : UINT64_MAX);
  for (auto& machine : machines_) next = std::min(next, machine->next_deadline());
  for (const std::uint64_t time : next_step_) next = std::min(next, time);
  clock_ = std::max(clock_ + 1, next);
  while (network_.next_time() <= clock_) {
    network_.deliver();
    entered();
  }
}

std::string World::run(std::uint64_t bound_ns, const std::function<bool()>& orchestrate) {
  disturbed_ = clock_;
  for (;;) {
    bool finished = true;
    for (unsigned i = 0; i < kProcesses; ++i) {
      if (next_step_[i] <= clock_) {
        processes_[i]->step(setup_.connects_slowly);
        next_step_[i] = clock_ + rng_->below(500 * kMicrosecond) + 1;
        entered();
      }
      finished =
          finished && processes_[i]->done() && moves_[i].phase == Phase::kRunning && settled(i);
    }
    const bool more = orchestrate();
    if (finished && !more) break;
    run_machines();
    advance();
    if (verdict_.ok() && clock_ > disturbed_ + bound_ns) {
      std::ostringstream out;
      out << "no end";
      for (const auto& process : processes_) out << "\n  " << process->summary();
      verdict_.fail(out.str());
    }
    if (!verdict_.ok()) return verdict_.error;
  }
  tear_down();
  return verdict_.error;
}

void World::add_counters(Machine& machine) {
  for (unsigned c = 0; c < GODWIT_COUNTER_COUNT; ++c) {
    totals_->counters[c] += godwit_device_counter(machine.device(), c);
  }
  for (const unsigned counter : kDamage) {
    if (godwit_device_counter(machine.device(), counter) != 0) {
      verdict_.fail("counter " + std::to_string(counter) + " is not zero");
    }
  }
  if ((machine.reg(GODWIT_REG_STATUS) & GODWIT_STATUS_FATAL_MASK) != 0) verdict_.fail("fatal");
}

// What is late comes, tombstones expire; then all is as it has to be, can be destroyed, and nothing
// is left.
void World::tear_down() {
  network_.set_faults({});
  for (int i = 0; i < 4; ++i) {
    clock_ += 3 * kSecond;
    while (network_.next_time() <= clock_) network_.deliver();
    run_machines();
  }
  for (unsigned i = 0; i < kMachines; ++i) dispatch(i);
  for (auto& process : processes_) process->check_end();
  for (auto& process : processes_) process->destroy();
  for (auto& machine : machines_) {
    const test::Result left = machine->command(
        GODWIT_CMD_QUERY_TOMBSTONES, godwit_cmd_mailbox{{machine->mailbox()}, {4096}, {0}});
    if (!left.ok() || left.number() != 0) verdict_.fail("tombstones are left");
    add_counters(*machine);
  }
}

}  // namespace godwit::sim
