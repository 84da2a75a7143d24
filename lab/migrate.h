// SPDX-License-Identifier: GPL-2.0-or-later
//
// A container's move from guest to guest, a transaction: the steps of docs/spec/checkpoint.md.
#ifndef GODWIT_LAB_MIGRATE_H
#define GODWIT_LAB_MIGRATE_H

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "client.h"
#include "container.h"
#include "fault_point.h"

namespace godwit::lab {

struct MoveReport {
  std::string container;
  std::string from;
  std::string to;
  std::vector<std::pair<std::string, double>> steps_ms;  // in order
  double stop_ms = 0;  // from the order to checkpoint until the application runs again
  unsigned qps = 0;    // that were resumed
  std::uint64_t image_bytes = 0;
  std::string warning;  // it is there, but not all went as it should; empty: it did
};

struct MoveOptions {
  double step_seconds = 180;   // a step that takes longer has failed
  bool any_gid_index = false;  // the container's GIDs may be elsewhere in the destination's table
  std::vector<FaultPoint> faults;  // for tests
};

using MoveProgress = std::function<void(const std::string&)>;  // the step that begins, or has ended

// Throws Error: which step failed, why, and where the log is; the application then runs at home, or
// the message says why not.
MoveReport migrate(const Lab& lab, const std::string& container, const std::string& to,
                   const MoveProgress& progress, const MoveOptions& options = {});

struct RecoverReport {
  std::string container;
  std::string guest;   // where it is now
  bool moved = false;  // it is at the destination of the move that was cut off
};

// Ends a move whose command is gone, one way or the other. Throws Error if it cannot, or if nothing
// of that container is unfinished.
RecoverReport recover(const Lab& lab, const std::string& container, const MoveProgress& progress,
                      const MoveOptions& options = {});

// Before the container is removed: what an unfinished move of it has left at the destination goes.
void forget_move(const Lab& lab, const std::string& container);

[[nodiscard]] nlohmann::json to_json(const MoveReport& report);
[[nodiscard]] nlohmann::json to_json(const RecoverReport& report);

}  // namespace godwit::lab

#endif  // GODWIT_LAB_MIGRATE_H
