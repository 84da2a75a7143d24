// SPDX-License-Identifier: GPL-2.0-or-later
//
// A switch with seeded loss, duplication and delay: frames overtake each other.
#ifndef GODWIT_TESTS_SIM_NETWORK_H
#define GODWIT_TESTS_SIM_NETWORK_H

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <queue>
#include <span>
#include <vector>

#include "support/machine.h"

namespace godwit::sim {

using test::Frame;
using test::Mac;
using test::Machine;

// SplitMix64 (Steele, Lea, Flood 2014).
class Rng {
 public:
  explicit Rng(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // 0 … n - 1
  std::uint64_t below(std::uint64_t n) { return next() % n; }
  std::uint64_t between(std::uint64_t low, std::uint64_t high) {
    return low + below(high - low + 1);
  }
  bool chance(unsigned percent) { return below(100) < percent; }
  void fill(std::span<std::uint8_t> bytes) {
    while (!bytes.empty()) {
      const std::uint64_t word = next();
      const std::size_t n = bytes.size() < 8 ? bytes.size() : 8;
      std::memcpy(bytes.data(), &word, n);
      bytes = bytes.subspan(n);
    }
  }

 private:
  std::uint64_t state_;
};

struct NetworkFaults {
  unsigned loss_per_mille = 0;
  unsigned duplicate_per_mille = 0;
  std::uint64_t delay_ns = 1000;
  std::uint64_t jitter_ns = 0;
  // A few come much later, when all that they were about may be over.
  unsigned late_per_mille = 0;
  std::uint64_t late_ns = 0;
  // A second copy of a RESUME or RESUME_ACK comes late.
  unsigned ghost_percent = 0;
  // After so many frames the sender is held back for a while, as by flow control.
  unsigned busy_per_mille = 0;
};

class Network {
 public:
  Network(Rng* rng, std::uint64_t* clock) : rng_(rng), clock_(clock) {}

  void set_faults(const NetworkFaults& faults) { faults_ = faults; }
  // Where frames to this MAC go.
  void learn(const Mac& mac, Machine* machine) { ports_[mac] = machine; }

  void send(const Frame& frame) {
    const std::uint64_t number = sent_++;
    if (number == lose_) return;
    if (faults_.loss_per_mille != 0 && rng_->below(1000) < faults_.loss_per_mille) return;
    enqueue(frame);
    if (faults_.ghost_percent != 0 && of_a_move(frame) && rng_->chance(faults_.ghost_percent)) {
      queue_.push({*clock_ + faults_.delay_ns + rng_->below(faults_.late_ns), order_++, frame});
    }
    if (faults_.duplicate_per_mille != 0 && rng_->below(1000) < faults_.duplicate_per_mille) {
      enqueue(frame);
    }
  }

  // After a frame: must its sender wait? Then it is told when not any more.
  bool busy(Machine* sender) {
    for (const auto& [machine, until] : held_) {
      if (machine == sender) return true;
    }
    if (faults_.busy_per_mille == 0 || rng_->below(1000) >= faults_.busy_per_mille) return false;
    held_.emplace_back(sender, *clock_ + 1 + rng_->below(faults_.delay_ns + faults_.jitter_ns));
    return true;
  }

  // Exactly this one, counted from 0, is lost.
  void lose(std::uint64_t number) { lose_ = number; }
  std::uint64_t sent() const { return sent_; }

  std::uint64_t next_time() const {
    std::uint64_t next = queue_.empty() ? UINT64_MAX : queue_.top().time;
    for (const auto& [machine, until] : held_) next = std::min(next, until);
    return next;
  }

  // One frame that is due, or one sender that may go on.
  void deliver() {
    for (auto held = held_.begin(); held != held_.end(); ++held) {
      if (held->second > *clock_) continue;
      Machine* sender = held->first;
      held_.erase(held);
      sender->wire_ready();
      return;
    }
    // It leaves the queue with the next statement.
    const Frame frame = std::move(const_cast<InFlight&>(queue_.top()).frame);
    queue_.pop();
    Mac mac;
    std::copy_n(frame.begin(), 6, mac.begin());
    const auto port = ports_.find(mac);
    if (port != ports_.end()) port->second->receive(frame);
  }

 private:
  struct InFlight {
    std::uint64_t time;
    std::uint64_t order;
    Frame frame;
    bool operator<(const InFlight& other) const {
      return time != other.time ? time > other.time : order > other.order;
    }
  };

  static bool of_a_move(const Frame& frame) {
    const std::size_t bth = 14 + (frame[12] == 0x08 ? 20 : 40) + 8;
    return frame.size() > bth && (frame[bth] == 0x18 || frame[bth] == 0x19);
  }

  void enqueue(const Frame& frame) {
    const std::uint64_t jitter = faults_.jitter_ns == 0 ? 0 : rng_->below(faults_.jitter_ns);
    const bool late = faults_.late_per_mille != 0 && rng_->below(1000) < faults_.late_per_mille;
    const std::uint64_t lateness = late ? rng_->below(faults_.late_ns) : 0;
    queue_.push({*clock_ + faults_.delay_ns + jitter + lateness, order_++, frame});
  }

  Rng* rng_;
  std::uint64_t* clock_;
  NetworkFaults faults_;
  std::map<Mac, Machine*> ports_;
  std::priority_queue<InFlight> queue_;
  std::vector<std::pair<Machine*, std::uint64_t>> held_;
  std::uint64_t order_ = 0;
  std::uint64_t sent_ = 0;
  std::uint64_t lose_ = UINT64_MAX;
};

}  // namespace godwit::sim

#endif  // GODWIT_TESTS_SIM_NETWORK_H
