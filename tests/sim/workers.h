// SPDX-License-Identifier: GPL-2.0-or-later
//
// Many independent simulations, on all CPUs: one process for each CPU.
#ifndef GODWIT_TESTS_SIM_WORKERS_H
#define GODWIT_TESTS_SIM_WORKERS_H

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "sim/world.h"

namespace godwit::sim {

struct Failure {
  std::uint64_t item = 0;
  std::string text;
};

struct Outcome {
  Totals totals;
  std::uint64_t done = 0;
  std::vector<Failure> failures;  // no more are looked for after a few
  bool interrupted = false;
};

// `simulate` is called for each item in [first, first + count), in one of `workers` processes, and
// says what is wrong. With `progress`, a line every ten seconds; SIGINT ends it early.
Outcome run_all(std::uint64_t first, std::uint64_t count, unsigned workers, bool progress,
                const std::function<std::string(std::uint64_t item, Totals* totals)>& simulate);

// What the command line said.
struct Options {
  std::uint64_t seeds = 10000;
  std::uint64_t first = 1;
  std::uint64_t only_seed = 0;
  std::uint64_t only_case = 0;
  unsigned workers = 1;
  bool trace = false;
  bool progress = false;
  std::string program = "sim";
};
extern Options g_options;

}  // namespace godwit::sim

#endif  // GODWIT_TESTS_SIM_WORKERS_H
