// SPDX-License-Identifier: GPL-2.0-or-later
//
// `godwit demo`: containers move between guests and back while they transfer, and
// everything that can be verified is.
#ifndef GODWIT_LAB_DEMO_H
#define GODWIT_LAB_DEMO_H

#include <string>
#include <vector>

namespace godwit::lab {

struct DemoOptions {
  std::string folder;              // of its lab
  std::string output;              // report.json, captures, logs of the programs
  std::vector<std::string> apps;   // empty: all
  std::vector<std::string> roles;  // "client", "server"; empty: both
  int moves = 2;                   // of each program in each role: away, home, away, …
  bool json = false;               // the report on stdout
};

// True if everything was verified. Throws if it could not run, or was interrupted.
bool run_demo(const DemoOptions& options);

}  // namespace godwit::lab

#endif  // GODWIT_LAB_DEMO_H
