// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the demo found out about each move, for people and as build/demo/report.json.
#ifndef GODWIT_LAB_DEMO_REPORT_H
#define GODWIT_LAB_DEMO_REPORT_H

#include <ostream>
#include <string>
#include <vector>

#include "counters.h"
#include "migrate.h"

namespace godwit::lab {

struct DemoMove {
  std::string app, role;  // of the container that moves
  MoveReport move;
  // MB/s of payload at the peer's NIC, both directions
  double before = 0, during = 0, after = 0;
  double silence_ms = 0;      // in which the peer's NIC saw no payload
  std::vector<double> curve;  // MB/s in each sample's period, from before to after
  Counters counted{};         // by all NICs, from before to after
  int mover_code = -1, peer_code = -1;
  nlohmann::json data;  // what the program itself checked
  std::vector<std::string> captures;
  std::vector<std::string> faults;  // empty: everything was verified
};

// Completions in error, flushed ones apart, at all NICs.
[[nodiscard]] std::uint64_t completion_errors(const Counters& counted);
// "name: n" for each counter that a healthy run leaves at 0.
[[nodiscard]] std::vector<std::string> bad_counters(const Counters& counted);

[[nodiscard]] nlohmann::json to_json(const DemoMove& move);
[[nodiscard]] nlohmann::json report_of(const std::vector<DemoMove>& moves, bool good);

void print_move(std::ostream& out, const DemoMove& move);
void print_table(std::ostream& out, const std::vector<DemoMove>& moves, bool good);

}  // namespace godwit::lab

#endif  // GODWIT_LAB_DEMO_REPORT_H
