// SPDX-License-Identifier: GPL-2.0-or-later
//
// Makes a capture of a move small: a NIC under load fills hundreds of megabytes with
// data packets that say nothing. What stays is what is of interest in a move.
#ifndef GODWIT_LAB_TRIM_H
#define GODWIT_LAB_TRIM_H

#include <cstdint>
#include <string>

namespace godwit::lab {

struct TrimResult {
  std::uint64_t frames = 0;  // in the capture
  std::uint64_t kept = 0;
  std::uint64_t migration = 0;  // of these NAK_STOPPED, RESUME, RESUME_ACK
};

// From pcap to pcap. Kept: each packet of the migration protocol, those around it
// (16 on either side), the first and the last 200, and all that is not RoCEv2
// (ARP, the control connection), up to 50,000 frames in all.
TrimResult trim_capture(const std::string& from, const std::string& to);

}  // namespace godwit::lab

#endif  // GODWIT_LAB_TRIM_H
