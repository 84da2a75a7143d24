// SPDX-License-Identifier: GPL-2.0-or-later
//
// A container's move from guest to guest: the steps of docs/spec/checkpoint.md.
#ifndef GODWIT_LAB_MIGRATE_H
#define GODWIT_LAB_MIGRATE_H

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "client.h"
#include "container.h"

namespace godwit::lab {

struct MoveReport {
  std::string container;
  std::string from;
  std::string to;
  std::vector<std::pair<std::string, double>> steps_ms;  // in order
  double stop_ms = 0;        // from the order to checkpoint until the application runs again
  unsigned qps = 0;          // that were resumed
  std::uint64_t image_bytes = 0;
};

// `progress`: the step that begins. Throws Error: which step failed, why, and where the log is;
// the application then runs at home, if it could be kept there.
MoveReport migrate(const Lab& lab, const std::string& container, const std::string& to,
                   const std::function<void(const std::string&)>& progress);

[[nodiscard]] nlohmann::json to_json(const MoveReport& report);

}  // namespace godwit::lab

#endif  // GODWIT_LAB_MIGRATE_H
