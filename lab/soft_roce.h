// SPDX-License-Identifier: GPL-2.0-or-later
//
// Soft-RoCE on the plain virtio NIC of a guest: a peer that is not ours.
#ifndef GODWIT_LAB_SOFT_ROCE_H
#define GODWIT_LAB_SOFT_ROCE_H

#include <string>

#include "client.h"

namespace godwit::lab {

struct SoftRoce {
  std::string device;  // RDMA device
  std::string netdev;
  std::string ip;
  std::string gid;  // of that address
  int gid_index = -1;
};

// Makes it, or finds what has been made; its port is active, and the GID is there.
SoftRoce soft_roce_on(const Lab& lab, const std::string& guest);
// Takes it away, the kernel's module too if nobody else uses it.
void soft_roce_off(const Lab& lab, const std::string& guest);

}  // namespace godwit::lab

#endif  // GODWIT_LAB_SOFT_ROCE_H
