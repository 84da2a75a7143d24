// SPDX-License-Identifier: GPL-2.0-or-later
//
// Names, addresses and files of a lab: docs/spec/lab.md.
#ifndef GODWIT_LAB_PLAN_H
#define GODWIT_LAB_PLAN_H

#include <string>

namespace godwit::lab {

inline constexpr int kMaxGuests = 8;
inline constexpr int kMaxContainers = 99;
inline constexpr int kMtu = 4200;

[[nodiscard]] std::string guest_name(int index);         // 1 …
[[nodiscard]] int guest_index(const std::string& name);  // 0: no such name
[[nodiscard]] std::string guest_ip(int index);
[[nodiscard]] std::string nic_mac(int index);
[[nodiscard]] std::string virtio_mac(int index);
[[nodiscard]] std::string virtio_ip(int index);
[[nodiscard]] std::string container_ip(int number);
[[nodiscard]] std::string container_ip6(int number);
[[nodiscard]] std::string container_mac(int number);

// The lab's folder: $GODWIT_LAB or /tmp/godwit-<uid>/default.
[[nodiscard]] std::string lab_folder();

// Where the build is: beside the command's own program, or $GODWIT_BUILD.
[[nodiscard]] std::string build_folder();

}  // namespace godwit::lab

#endif  // GODWIT_LAB_PLAN_H
