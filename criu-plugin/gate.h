// SPDX-License-Identifier: GPL-2.0-or-later
//
// The gate: between "everything is pinned and programmed" and the first RESUME, an
// orchestrator moves the address. It listens on the unix socket that the
// environment variable GODWIT_GATE names; without the variable there is no gate.
//
//	plugin -> orchestrator	ready <number of QPs>\n
//	orchestrator -> plugin	go\n  or  abort\n
//	plugin -> orchestrator	resumed\n  or  error <text>\n
//
// The wait is bounded: GODWIT_GATE_TIMEOUT seconds, 60 if unset.
#ifndef GODWIT_CRIU_GATE_H
#define GODWIT_CRIU_GATE_H

#include <string>

#include "uverbs.h"

namespace godwit::criu {

class Gate {
 public:
  // Empty, or a sentence that says why not.
  std::string open();
  std::string wait_for_go(unsigned qps);
  void report(const std::string& line);

 private:
  bool send_line(const std::string& line);
  Fd socket_;
};

}  // namespace godwit::criu

#endif  // GODWIT_CRIU_GATE_H
