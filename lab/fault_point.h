// SPDX-License-Identifier: GPL-2.0-or-later
//
// A failure that a test wants in a move: `godwit migrate --fail-at STEP[@MARK][:HOW]`,
// docs/spec/lab.md.
#ifndef GODWIT_LAB_FAULT_POINT_H
#define GODWIT_LAB_FAULT_POINT_H

#include <string>

namespace godwit::lab {

struct FaultPoint {
  std::string step;  // empty: none
  std::string mark;  // in steps that CRIU does: once its log has this text
  std::string how = "error";
};

// Throws Error if there is no such step, or nothing of that kind can happen in it.
[[nodiscard]] FaultPoint parse_fault_point(const std::string& text);

}  // namespace godwit::lab

#endif  // GODWIT_LAB_FAULT_POINT_H
