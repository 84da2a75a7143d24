// SPDX-License-Identifier: GPL-2.0-or-later
//
// A stopped QP to and from abi/godwit_state.h; of those, attributes are in commands as well.
#ifndef GODWIT_TRANSPORT_SNAPSHOT_H
#define GODWIT_TRANSPORT_SNAPSHOT_H

#include <cstdint>

#include "godwit_state.h"
#include "transport/qp.h"

namespace godwit::transport {

// As they are: nothing is checked.
[[nodiscard]] QpAttributes get_attributes(const godwit_qp_attr& from);
void put_attributes(const QpAttributes& attr, godwit_qp_attr* to);

// Fills everything, the header's check sum included. `now_ns` is used if the QP is not
// stopped (a snapshot of the whole device).
void save_qp(const Qp& qp, std::uint64_t now_ns, godwit_qp_state* state);

// `state` is hostile: null, or a sentence that says what is wrong; the QP is then unchanged.
// Type, depths and QPN must be those of `qp`. Timers run from `now_ns`. The QP is left
// stopped and loaded; whether its GID is at attr.sgid_index is the device's to check.
[[nodiscard]] const char* load_qp(Qp& qp, std::uint64_t now_ns, const godwit_qp_state& state);

// Check sum of a saved state of `length` bytes, its crc32 field taken as zero.
[[nodiscard]] std::uint32_t state_crc(const void* state, std::size_t length);

}  // namespace godwit::transport

#endif  // GODWIT_TRANSPORT_SNAPSHOT_H
