// SPDX-License-Identifier: GPL-2.0-or-later
#include "meter.h"

#include <algorithm>

#include "counters.h"
#include "error.h"

namespace godwit::lab {
namespace {

double seconds(Meter::Clock::duration time) { return std::chrono::duration<double>(time).count(); }

// The count at a moment between two samples.
double bytes_at(const std::vector<Meter::Sample>& samples, Meter::Time at) {
  for (std::size_t i = 1; i < samples.size(); ++i) {
    const Meter::Sample &a = samples[i - 1], &b = samples[i];
    if (at > b.at) continue;
    const double share = at <= a.at ? 0 : seconds(at - a.at) / seconds(b.at - a.at);
    return static_cast<double>(a.bytes) + share * static_cast<double>(b.bytes - a.bytes);
  }
  return static_cast<double>(samples.back().bytes);
}

}  // namespace

Meter::Meter(const Lab& lab, std::string guest)
    : lab_(lab), guest_(std::move(guest)), thread_([this] { run(); }) {}

Meter::~Meter() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  thread_.join();
}

void Meter::run() {
  for (Time next = Clock::now();; next = std::max(next + kPeriod, Clock::now())) {
    std::this_thread::sleep_until(next);
    try {
      const Time asked = Clock::now();
      const Counters counters = read_counters(lab_, guest_);
      // The answer is of some moment between the question and now.
      const Time at = asked + (Clock::now() - asked) / 2;
      const std::lock_guard lock(mutex_);
      samples_.push_back(
          {at, counters[GODWIT_COUNTER_RX_RDMA_BYTES] + counters[GODWIT_COUNTER_TX_RDMA_BYTES]});
    } catch (const std::exception& error) {
      const std::lock_guard lock(mutex_);
      error_ = error.what();
    }
    const std::lock_guard lock(mutex_);
    if (ending_ || !error_.empty()) return;
  }
}

std::vector<Meter::Sample> Meter::samples(Time from, Time to) const {
  const std::lock_guard lock(mutex_);
  if (!error_.empty()) throw Error(error_);
  auto begin = std::partition_point(samples_.begin(), samples_.end(),
                                    [from](const Sample& s) { return s.at <= from; });
  auto end =
      std::partition_point(begin, samples_.end(), [to](const Sample& s) { return s.at < to; });
  if (begin != samples_.begin()) --begin;
  if (end != samples_.end()) ++end;
  return {begin, end};
}

double Meter::rate(Time from, Time to) const {
  const std::vector<Sample> all = samples(from, to);
  if (all.size() < 2) return 0;
  const double span = seconds(std::min(to, all.back().at) - std::max(from, all.front().at));
  return span <= 0 ? 0 : (bytes_at(all, to) - bytes_at(all, from)) / span / 1e6;
}

double Meter::silence_ms(Time from, Time to) const {
  const std::vector<Sample> all = samples(from, to);
  Clock::duration longest{};
  for (std::size_t i = 0, start = 0; i < all.size(); ++i) {
    if (all[i].bytes != all[start].bytes) start = i;
    longest = std::max(longest, all[i].at - all[start].at);
  }
  return seconds(longest) * 1e3;
}

}  // namespace godwit::lab
