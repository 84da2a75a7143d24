// SPDX-License-Identifier: GPL-2.0-or-later
//
// Bandwidth of a guest's RDMA traffic, from its NIC's counters, sampled every 100 ms.
// Programs' own figures are not used: they time by the TSC, which a move changes.
#ifndef GODWIT_LAB_METER_H
#define GODWIT_LAB_METER_H

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "client.h"

namespace godwit::lab {

class Meter {
 public:
  using Clock = std::chrono::steady_clock;
  using Time = Clock::time_point;
  static constexpr std::chrono::milliseconds kPeriod{100};

  struct Sample {
    Time at;
    std::uint64_t bytes;  // RoCEv2 payload, both directions, since the NIC's reset
  };

  Meter(const Lab& lab, std::string guest);
  ~Meter();
  Meter(const Meter&) = delete;
  Meter& operator=(const Meter&) = delete;

  // Mean of MB (10^6 bytes) per second.
  [[nodiscard]] double rate(Time from, Time to) const;
  // Longest time between `from` and `to` in which no payload was counted.
  [[nodiscard]] double silence_ms(Time from, Time to) const;
  // Samples from the last one before `from` to the first one after `to`.
  [[nodiscard]] std::vector<Sample> samples(Time from, Time to) const;

 private:
  void run();

  const Lab& lab_;
  std::string guest_;
  mutable std::mutex mutex_;
  std::vector<Sample> samples_;
  std::string error_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace godwit::lab

#endif  // GODWIT_LAB_METER_H
