// SPDX-License-Identifier: GPL-2.0-or-later
#include "segment.h"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "error.h"
#include "qemu-device/segment/segment.h"

namespace godwit::lab {

// Without close-on-exec, all of them: the QEMUs know them by number.
Segment::Segment(std::vector<std::string> ports) : ports_(std::move(ports)) {
  if (ports_.size() > GODWIT_SEGMENT_PORTS) {
    throw Error("a wire has at most " + std::to_string(GODWIT_SEGMENT_PORTS) + " ports");
  }
  memory_fd_ = memfd_create("godwit-wire", 0);
  if (memory_fd_ < 0 || ftruncate(memory_fd_, static_cast<off_t>(godwit_segment_size())) != 0) {
    throw_errno("memory of the wire");
  }
  memory_ = mmap(nullptr, godwit_segment_size(), PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd_, 0);
  if (memory_ == MAP_FAILED) throw_errno("memory of the wire");
  godwit_segment_init(memory_);
  for (std::size_t i = 0; i < ports_.size(); ++i) {
    wakes_.push_back(eventfd(0, EFD_NONBLOCK));
    if (wakes_.back() < 0) throw_errno("eventfd");
  }
}

Segment::~Segment() {
  munmap(memory_, godwit_segment_size());
  close(memory_fd_);
  for (const int fd : wakes_) close(fd);
}

unsigned Segment::number(const std::string& port) const {
  return static_cast<unsigned>(std::find(ports_.begin(), ports_.end(), port) - ports_.begin());
}

std::string Segment::device(const std::string& port) const {
  std::string text = "godwit-port,port=" + std::to_string(number(port)) +
                     ",memory=" + std::to_string(memory_fd_) + ",wakes=";
  for (const int fd : wakes_) text += std::to_string(fd) + ":";
  text.pop_back();
  return text;
}

void Segment::close_port(const std::string& port) {
  if (number(port) < ports_.size()) godwit_segment_close(memory_, number(port));
}

std::vector<Segment::Statistics> Segment::statistics() const {
  std::vector<Statistics> all;
  for (unsigned i = 0; i < ports_.size(); ++i) {
    godwit_segment_counts counts;
    godwit_segment_counts_of(memory_, i, &counts);
    all.push_back({ports_[i], counts.received, counts.sent, counts.dropped});
  }
  return all;
}

}  // namespace godwit::lab
