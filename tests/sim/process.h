// SPDX-License-Identifier: GPL-2.0-or-later
//
// A process with verbs objects that can be moved from one machine to another, and
// the traffic on its connections, each operation of which is checked: data, once,
// in order, and not a byte beside it.
#ifndef GODWIT_TESTS_SIM_PROCESS_H
#define GODWIT_TESTS_SIM_PROCESS_H

#include <cstdint>
#include <deque>
#include <functional>
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

inline constexpr std::uint32_t kSlot = 8192;  // bytes of a message's place in memory
inline constexpr std::uint32_t kMaxMessage = 7000;
inline constexpr std::uint32_t kLog2Depth = 4;
inline constexpr std::uint32_t kDepth = 1u << kLog2Depth;
inline constexpr std::uint32_t kConstantBytes = 16384;  // of the shared region, read by the peer

class Process;

// One operation of a fixed sequence.
struct Step {
  std::uint8_t opcode = 0;
  std::uint32_t length = 0;
  std::uint8_t flags = 0;  // GODWIT_WQE_*
};

struct Operation {
  std::uint8_t opcode = 0;
  bool signaled = false;
  std::uint16_t index = 0;
  std::uint32_t immediate = 0;
  std::uint32_t local_slot = 0;
  std::uint32_t remote = 0;        // offset in the peer's shared region
  std::uint64_t before = 0;        // atomic: what it has to find
  std::uint64_t after = 0;         // … and to leave
  std::vector<std::uint8_t> data;  // SEND, WRITE; what a READ has to bring
};

// What the peer's next receive completion has to be.
struct Expected {
  bool write_immediate = false;
  bool has_immediate = false;
  std::uint32_t immediate = 0;
  std::vector<std::uint8_t> data;  // SEND
  std::uint32_t length = 0;
};

enum class Stage : std::uint8_t { kReset, kInit, kRtr, kRts };

// One end of a connection.
struct Side {
  Process* process = nullptr;
  Side* peer = nullptr;
  unsigned number = 0;  // among the process's connections
  QueuePair qp;
  std::uint32_t psn = 0;
  Stage stage = Stage::kReset;
  bool draining = false;  // in SQD
  unsigned left = 0;      // operations still to post
  std::vector<Step> script;
  std::size_t scripted = 0;  // of the script, posted
  std::deque<Operation> outstanding;
  std::deque<Expected> expected;
  std::uint16_t recv_posted = 0;
  std::uint16_t recv_done = 0;
  std::uint64_t cell = 0;  // what the peer's atomic cell of this end holds, as far as completed
  std::uint64_t predicted = 0;  // … once all that is outstanding has been done
  std::uint32_t writes = 0;
  bool resumed_due = false;  // its RESUME is out: one event RESUMED has to come
  unsigned resumed_seen = 0;
};

class Process {
 public:
  Process(unsigned index, Rng* rng, Verdict* verdict);

  // Creates everything on this machine; the QPs stay in Reset.
  void create(Machine* machine, unsigned connections);
  // How the QPs are connected; `endpoint` is asked where the peer is when a QP goes to RTR.
  void plan(const test::ConnectOptions& options,
            std::function<test::Endpoint(const Side&)> endpoint);
  void connect_step(Side& side);            // one state further
  void step(bool connects_slowly = false);  // polls, posts
  bool done() const;
  bool frozen() const { return frozen_; }
  bool at_least(Stage stage) const;

  // Completions are polled for only after an event has announced them.
  void wait_for_events() { event_driven_ = true; }
  // QPs go to SQD and back at times.
  void drain_at_times() { drains_ = true; }
  // An event of the NIC that it runs on: true if it was for this process.
  bool on_completion_event(std::uint32_t event_number);
  bool on_qp_event(std::uint32_t qpn, std::uint8_t subtype);

  // A move, in the steps that the orchestrator, CRIU and the driver make of it.
  test::Result freeze();
  void freeze_memory();            // … and all events of before have been seen
  void thaw();                     // rollback
  void leave(std::uint64_t move);  // the source: processes gone, tombstones stay
  void restore(Machine* to, std::uint64_t move, std::uint32_t sgid_index);
  void abandon_restore();              // the destination gives up before RESUME
  void lose_restore(bool memory_too);  // the destination is no more
  void go(std::uint32_t attempt);
  bool resuming() const;
  void check_resumed_events();
  void destroy();
  // All is done: every byte is what it has to be, and no completion too many is there.
  void check_end();

  unsigned index() const { return index_; }
  Machine* machine() const { return machine_; }
  std::vector<std::unique_ptr<Side>>& sides() { return sides_; }
  const std::vector<std::unique_ptr<Side>>& sides() const { return sides_; }
  std::vector<std::uint32_t> qpns() const;
  std::string summary() const;

  std::uint32_t uctx() const { return index_ + 2; }

 private:
  struct Image {
    std::vector<std::vector<std::uint8_t>> qps;
    std::vector<std::vector<std::uint8_t>> cqs;
    std::vector<std::vector<std::uint8_t>> memory;  // in the order of buffers()
  };
  struct Waiting {
    bool waiting = false;
    bool notified = false;
  };

  std::vector<test::Buffer*> buffers();
  void check_still(const char* when);
  void destroy_objects(bool qps);
  void poll_queue(CompletionQueue& cq, Waiting& state);
  bool poll(CompletionQueue& cq);
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
  bool being_read(const Side& side, std::uint32_t offset) const;
  void expect_slot(const MemoryRegion& region, std::vector<std::uint8_t>& should,
                   std::uint32_t offset, std::span<const std::uint8_t> data, const char* what);
  void scribble(std::uint32_t offset, std::size_t length);
  void peek(std::uint32_t offset, std::vector<std::uint8_t>* bytes) const;
  void check(bool condition, const std::string& what);
  void must(const test::Result& result, const char* what);

  const unsigned index_;
  Rng* rng_;
  Verdict* verdict_;
  Machine* machine_ = nullptr;
  bool frozen_ = false;
  bool stopped_ = false;  // by STOP: nothing may change in memory
  bool event_driven_ = false;
  bool drains_ = false;
  test::ConnectOptions options_;
  std::function<test::Endpoint(const Side&)> endpoint_;
  std::vector<std::unique_ptr<Side>> sides_;
  CompletionQueue send_cq_;
  CompletionQueue recv_cq_;
  Waiting send_waiting_;
  Waiting recv_waiting_;
  MemoryRegion local_;   // send and receive slots
  MemoryRegion shared_;  // the peer writes, reads, and counts here
  // What has to be there, but for the slots that something is on its way to.
  std::vector<std::uint8_t> local_should_;
  std::vector<std::uint8_t> shared_should_;
  Image image_;
};

}  // namespace godwit::sim

#endif  // GODWIT_TESTS_SIM_PROCESS_H
