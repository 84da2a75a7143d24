// SPDX-License-Identifier: GPL-2.0-or-later
#include "segment.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "error.h"
#include "qemu-device/segment/segment.h"

namespace godwit::lab {
namespace {

constexpr const char* kName = "godwit-wire";

}  // namespace

Segment::Segment(std::vector<std::string> ports, pid_t owner) : ports_(std::move(ports)) {
  if (ports_.size() > GODWIT_SEGMENT_PORTS) {
    throw Error("a wire has at most " + std::to_string(GODWIT_SEGMENT_PORTS) + " ports");
  }
  owner == 0 ? make() : find(owner);
  memory_ = mmap(nullptr, godwit_segment_size(), PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd_, 0);
  if (memory_ == MAP_FAILED) throw_errno("memory of the wire");
  if (owner == 0) godwit_segment_init(memory_);
  if (!godwit_segment_valid(memory_)) throw Error("the wire of this lab is of another build");
}

// Without close-on-exec, all of them: the QEMUs know them by number.
void Segment::make() {
  memory_fd_ = memfd_create(kName, 0);
  if (memory_fd_ < 0 || ftruncate(memory_fd_, static_cast<off_t>(godwit_segment_size())) != 0) {
    throw_errno("memory of the wire");
  }
  for (std::size_t i = 0; i < ports_.size(); ++i) {
    wakes_.push_back(eventfd(0, EFD_NONBLOCK));
    if (wakes_.back() < 0) throw_errno("eventfd");
  }
}

void Segment::find(pid_t owner) {
  const std::filesystem::path open_files = "/proc/" + std::to_string(owner) + "/fd";
  for (const auto& entry : std::filesystem::directory_iterator(open_files)) {
    std::error_code gone;
    const std::string file = std::filesystem::read_symlink(entry.path(), gone);
    if (file.rfind(std::string("/memfd:") + kName, 0) != 0) continue;
    memory_fd_ = open(entry.path().c_str(), O_RDWR | O_CLOEXEC);
    struct stat state {};
    if (memory_fd_ < 0 || fstat(memory_fd_, &state) != 0) throw_errno(entry.path());
    if (static_cast<std::size_t>(state.st_size) >= godwit_segment_size()) return;
    throw Error("the wire of this lab is of another build");
  }
  throw Error("process " + std::to_string(owner) + " has no wire");
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
