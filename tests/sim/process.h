// SPDX-License-Identifier: GPL-2.0-or-later
//
// A process with verbs objects that can be moved from one machine to another, and
// the traffic on its connections, each operation of which is checked: data, once,
// in order.
#ifndef GODWIT_TESTS_SIM_PROCESS_H
#define GODWIT_TESTS_SIM_PROCESS_H

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "sim/network.h"
#include "support/machine.h"

namespace godwit::sim {

using test::CompletionQueue;
using test::Gid;
using test::MemoryRegion;
using test::QueuePair;

// Everything that is wrong is said here, once; the simulation then ends.
struct Verdict {
  std::string error;
  bool ok() const { return error.empty(); }
  void fail(const std::string& what) {
    if (error.empty()) error = what;
  }
};

inline constexpr std::uint32_t kSlot = 8192;       // bytes of a message's place in memory
inline constexpr std::uint32_t kMaxMessage = 7000;
inline constexpr std::uint32_t kLog2Depth = 4;
inline constexpr std::uint32_t kDepth = 1u << kLog2Depth;

class Process;

struct Operation {
  std::uint8_t opcode = 0;
  bool signaled = false;
  std::uint16_t index = 0;
  std::uint32_t immediate = 0;
  std::uint32_t local_slot = 0;
  std::uint32_t remote_slot = 0;      // WRITE
  std::uint32_t remote_offset = 0;    // READ: in the peer's constant bytes
  std::uint64_t compare_add = 0;
  std::uint64_t swap = 0;
  std::vector<std::uint8_t> data;     // SEND, WRITE; length of a READ
};

// What the peer's next receive completion has to be.
struct Expected {
  bool write_immediate = false;
  bool has_immediate = false;
  std::uint32_t immediate = 0;
  std::vector<std::uint8_t> data;  // SEND
  std::uint32_t length = 0;
};

// One end of a connection.
struct Side {
  Process* process = nullptr;
  Side* peer = nullptr;
  unsigned number = 0;  // among the process's connections
  QueuePair qp;
  std::uint32_t psn = 0;
  unsigned left = 0;  // operations still to post
  std::deque<Operation> outstanding;
  std::deque<Expected> expected;
  std::uint16_t recv_posted = 0;
  std::uint16_t recv_done = 0;
  std::uint64_t cell = 0;  // what the peer's atomic cell of this end holds, as far as completed
  std::uint32_t writes = 0;
};

class Process {
 public:
  Process(unsigned index, Rng* rng, Verdict* verdict);

  // Creates everything on this machine; the QPs stay in Reset.
  void create(Machine* machine, unsigned connections, std::uint32_t sgid_index);
  void connect(unsigned connection, Side* peer, const test::ConnectOptions& options,
               const test::Endpoint& to);
  void step();  // polls, posts
  bool done() const;
  bool frozen() const { return frozen_; }

  // A move, in the steps that the orchestrator, CRIU and the driver make of it.
  void freeze();
  void thaw();  // rollback
  void dump();
  void leave(std::uint64_t move);  // the source: processes gone, tombstones stay
  void restore(Machine* to, std::uint64_t move, std::uint32_t sgid_index);
  void abandon_restore();          // the destination gives up before RESUME
  void go(std::uint32_t attempt);
  bool resuming() const;
  bool resumed_all() const { return !resuming(); }
  void destroy();

  unsigned index() const { return index_; }
  Machine* machine() const { return machine_; }
  std::vector<std::unique_ptr<Side>>& sides() { return sides_; }
  std::vector<std::uint32_t> qpns() const;
  std::string summary() const;

  std::uint32_t uctx() const { return index_ + 2; }

 private:
  struct Image {
    std::vector<std::vector<std::uint8_t>> qps;
    std::vector<std::vector<std::uint8_t>> cqs;
    std::vector<std::vector<std::uint8_t>> memory;  // in the order of buffers()
  };

  std::vector<test::Buffer*> buffers();
  void destroy_objects(bool qps);
  void poll(CompletionQueue& cq);
  void on_send(Side& side, const godwit_cqe& entry);
  void on_recv(Side& side, const godwit_cqe& entry);
  void finish(Side& side, const Operation& op);
  void post_receives(Side& side);
  void post_one(Side& side);
  std::vector<test::Sge> split(std::uint32_t offset, std::uint32_t length);
  std::uint32_t send_slot(const Side& side, std::uint16_t index) const;
  std::uint32_t recv_slot(const Side& side, std::uint16_t index) const;
  std::uint32_t write_slot(const Side& side, std::uint32_t n) const;
  std::uint32_t cell_offset(const Side& side) const;
  void peek(std::uint32_t offset, std::vector<std::uint8_t>* bytes) const;
  void check(bool condition, const std::string& what);
  void must(const test::Result& result, const char* what);

  const unsigned index_;
  Rng* rng_;
  Verdict* verdict_;
  Machine* machine_ = nullptr;
  bool frozen_ = false;
  unsigned connections_ = 0;
  std::vector<std::unique_ptr<Side>> sides_;
  CompletionQueue send_cq_;
  CompletionQueue recv_cq_;
  MemoryRegion local_;   // send and receive slots
  MemoryRegion shared_;  // the peer writes, reads, and counts here
  Image image_;
};

inline constexpr std::uint32_t kConstantBytes = 16384;  // of the shared region, read by the peer

}  // namespace godwit::sim

#endif  // GODWIT_TESTS_SIM_PROCESS_H
