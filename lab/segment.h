// SPDX-License-Identifier: GPL-2.0-or-later
//
// The wire: an Ethernet segment in shared memory (qemu-device/segment), of which
// each NIC of each guest is a port. The frames go from QEMU to QEMU; this process
// only makes the segment, and hands it on to the QEMUs that it starts.
#ifndef GODWIT_LAB_SEGMENT_H
#define GODWIT_LAB_SEGMENT_H

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace godwit::lab {

class Segment {
 public:
  // With `owner`: the one that this QEMU has, which another process has made.
  explicit Segment(std::vector<std::string> ports, pid_t owner = 0);
  ~Segment();
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  // What QEMU's -device is given for a port, without the id. The QEMU inherits the
  // file descriptors that it names. Not of one that was made by another process.
  [[nodiscard]] std::string device(const std::string& port) const;

  // Its QEMU has ended: what is sent to it is dropped at once.
  void close_port(const std::string& port);

  struct Statistics {
    std::string name;
    std::uint64_t received = 0;  // frames, from the NIC
    std::uint64_t sent = 0;      // to the NIC
    std::uint64_t dropped = 0;   // instead
  };
  [[nodiscard]] std::vector<Statistics> statistics() const;

 private:
  void make();
  void find(pid_t owner);
  [[nodiscard]] unsigned number(const std::string& port) const;

  std::vector<std::string> ports_;
  int memory_fd_ = -1;
  void* memory_ = nullptr;
  std::vector<int> wakes_;
};

}  // namespace godwit::lab

#endif  // GODWIT_LAB_SEGMENT_H
