// SPDX-License-Identifier: GPL-2.0-or-later
//
// What one must know of Debian's perftest.
#ifndef GODWIT_LAB_PERFTEST_H
#define GODWIT_LAB_PERFTEST_H

#include <string>

namespace godwit::lab {

// When it has transferred everything, perftest measures the frequency of the processor, and gives
// up if other work came in between: it ends with 1 and without figures, and its peer complains of
// the connection. The transfer was good all the same.
[[nodiscard]] inline bool perftest_lost_its_clock(const std::string& output) {
  return output.find("Can't produce a report") != std::string::npos;
}

}  // namespace godwit::lab

#endif  // GODWIT_LAB_PERFTEST_H
