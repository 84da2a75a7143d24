// SPDX-License-Identifier: GPL-2.0-or-later
//
// The counters of a guest's NIC, read over QMP: the guest is not asked, and need not answer.
#ifndef GODWIT_LAB_COUNTERS_H
#define GODWIT_LAB_COUNTERS_H

#include <array>
#include <cstdint>
#include <string>

#include "abi/godwit_counters.h"
#include "client.h"

namespace godwit::lab {

// Indexed by GODWIT_COUNTER_*.
using Counters = std::array<std::uint64_t, GODWIT_COUNTER_COUNT>;

[[nodiscard]] Counters read_counters(const Lab& lab, const std::string& guest);
// Over the NICs of all guests.
[[nodiscard]] Counters sum_counters(const Lab& lab, int guests);
[[nodiscard]] Counters difference(const Counters& after, const Counters& before);

}  // namespace godwit::lab

#endif  // GODWIT_LAB_COUNTERS_H
