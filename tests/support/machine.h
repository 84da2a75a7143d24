// SPDX-License-Identifier: GPL-2.0-or-later
//
// A guest with one NIC and a driver for it, over the core's C interface: what the
// kernel driver and the provider do, as plainly as possible.
#ifndef GODWIT_TESTS_SUPPORT_MACHINE_H
#define GODWIT_TESTS_SUPPORT_MACHINE_H

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "godwit_cmd.h"
#include "godwit_device.h"
#include "godwit_queue.h"
#include "godwit_regs.h"
#include "godwit_state.h"
#include "support/guest_memory.h"

namespace godwit::test {

using Frame = std::vector<std::uint8_t>;
using Gid = std::array<std::uint8_t, 16>;
using Mac = std::array<std::uint8_t, 6>;

struct Result {
  std::uint16_t status = 0xffff;
  std::uint32_t detail = 0;
  std::array<std::uint8_t, 40> bytes{};

  bool ok() const { return status == GODWIT_CMD_STATUS_OK; }
  std::uint32_t number() const;  // key, QPN or count
};

struct CompletionQueue {
  std::uint32_t uctx = 0;
  std::uint32_t number = 0;
  std::uint32_t log2_depth = 0;
  std::uint32_t record_offset = 0;
  std::uint32_t event_number = 0;
  std::uint32_t consumer = 0;
  Buffer buffer;

  // The next entry, if there is one; the consumer index moves and is published.
  std::optional<godwit_cqe> poll();
};

struct MemoryRegion {
  std::uint32_t pdn = 0;
  std::uint32_t key = 0;
  std::uint32_t access = 0;
  std::uint64_t iova = 0;
  Buffer buffer;
};

struct Sge {
  std::uint64_t addr = 0;
  std::uint32_t length = 0;
  std::uint32_t lkey = 0;
};

struct SendWork {
  std::uint8_t opcode = GODWIT_WR_SEND;
  std::uint8_t flags = GODWIT_WQE_SIGNALED_MASK;
  std::uint32_t immediate = 0;
  std::uint64_t remote_addr = 0;
  std::uint32_t rkey = 0;
  std::uint64_t compare_add = 0;
  std::uint64_t swap = 0;
  std::vector<Sge> sges;
  std::vector<std::uint8_t> inline_data;
};

struct QueuePair {
  std::uint32_t qpn = 0;
  std::uint32_t uctx = 0;
  std::uint32_t pdn = 0;
  std::uint32_t send_cqn = 0;
  std::uint32_t recv_cqn = 0;
  std::uint32_t log2_sq = 0;
  std::uint32_t log2_rq = 0;
  std::uint32_t log2_stride = 9;
  std::uint32_t max_inline = 256;
  std::uint32_t rq_offset = 0;
  std::uint32_t record_offset = 0;
  std::uint16_t sq_producer = 0;
  std::uint16_t rq_producer = 0;
  Buffer buffer;

  void write_send(const SendWork& work);  // and the record; no doorbell
  void write_recv(const std::vector<Sge>& sges);
};

// What both ends of a connection have to know.
struct Endpoint {
  Gid gid{};
  Mac mac{};
  std::uint32_t qpn = 0;
  std::uint32_t psn = 0;
};

struct ConnectOptions {
  std::uint8_t path_mtu = 3;  // 1024
  std::uint8_t timeout = 10;  // 4 ms
  std::uint8_t retry_cnt = 7;
  std::uint8_t rnr_retry = 7;
  std::uint8_t min_rnr_timer = 1;
  std::uint8_t max_rd_atomic = 16;
  std::uint8_t max_dest_rd_atomic = 16;
  std::uint8_t access =
      GODWIT_ACCESS_REMOTE_WRITE | GODWIT_ACCESS_REMOTE_READ | GODWIT_ACCESS_REMOTE_ATOMIC;
  std::uint16_t sgid_index = 0;
};

Gid ipv4_gid(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d);

godwit_device_config small_config(std::uint8_t index);

class Machine {
 public:
  // The clock may be shared by several machines.
  explicit Machine(const godwit_device_config& config, std::uint64_t* clock = nullptr,
                   std::size_t pages = 4096);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  godwit_device* device() const { return device_; }
  GuestMemory& memory() { return memory_; }
  std::uint64_t now() const { return *clock_; }

  // Register access and the command queue.
  std::uint32_t reg(std::uint32_t offset) {
    return static_cast<std::uint32_t>(godwit_device_register_read(device_, offset, 4));
  }
  void set_reg(std::uint32_t offset, std::uint32_t value) {
    godwit_device_register_write(device_, offset, value, 4);
  }
  void doorbell(std::uint32_t page, std::uint32_t offset, std::uint32_t number,
                std::uint32_t value) {
    godwit_device_doorbell_write(device_, std::uint64_t{page} * GODWIT_DB_PAGE_SIZE + offset,
                                 std::uint64_t{value} << 32 | number, 8);
  }
  void enable(std::uint32_t log2_depth = 4);
  // Also event queues 0 (asynchronous) and 1 (completions), and user context 1.
  void start(std::uint32_t log2_async = 8, std::uint32_t log2_completions = 10);
  Result command_bytes(std::uint8_t opcode, const void* params, std::size_t length);
  template <typename T>
  Result command(std::uint8_t opcode, const T& params) {
    return command_bytes(opcode, &params, sizeof(params));
  }
  Result command(std::uint8_t opcode) { return command_bytes(opcode, nullptr, 0); }

  // Lets the device work until it has nothing to do at this time. False: it did not come to an end.
  bool run(unsigned limit = 100000);
  // What remains is a kick.
  void run_briefly();
  bool kicked() const { return kicked_; }

  // The device as bytes, and another one made of them: what a VM snapshot does. Null, or what is
  // wrong with the bytes.
  std::vector<std::uint8_t> save() const;
  const char* load(const std::vector<std::uint8_t>& state);
  // The VM has died, and a new one has been started in its place: nothing is left.
  void replace();
  std::uint64_t next_deadline() const { return godwit_device_next_deadline(device_); }
  void wire_ready() { godwit_device_wire_ready(device_); }
  void receive(const Frame& frame) {
    godwit_device_receive_frame(device_, now(), frame.data(), frame.size());
  }

  std::function<bool()> wire_busy;             // asked after each frame; else it never is
  std::function<void(const Frame&)> on_frame;  // else they are kept here:
  std::deque<Frame> sent;
  std::function<void(godwit_trace_event, const std::array<std::uint64_t, 4>&)> on_trace;
  std::array<unsigned, 64> interrupts{};
  // Whether there was any since the last time.
  bool take_interrupts() { return std::exchange(interrupted_, false); }
  std::uint64_t dma_refused_from = UINT64_MAX;  // bus addresses from here on fail
  // Who looks at what the device does with memory: before it writes, and after it has read. The
  // second one may change what was read, as another CPU would.
  std::function<void(std::uint64_t addr, std::size_t length)> on_dma_write;
  std::function<void(std::uint64_t addr, std::size_t length)> after_dma_read;

  // Objects. Those that cannot fail here trap.
  godwit_buffer describe(const Buffer& buffer);
  Result create_eq(std::uint32_t eqn, std::uint32_t vector, std::uint32_t log2_depth);
  Result create_uctx(std::uint32_t number);
  Result destroy_uctx(std::uint32_t number);
  Result set_gid(std::uint32_t index, const Gid& gid, const Mac& mac);
  Result clear_gid(std::uint32_t index);
  Result create_pd(std::uint32_t uctx, std::uint32_t number);
  Result destroy_pd(std::uint32_t uctx, std::uint32_t number);
  Result register_region(MemoryRegion* region, bool with_key = false);
  Result deregister(const MemoryRegion& region);
  Result create_cq(CompletionQueue* cq, bool restore = false);
  Result destroy_cq(const CompletionQueue& cq);
  Result create_qp(QueuePair* qp, bool restore = false, std::uint64_t move = 0);
  Result destroy_qp(std::uint32_t qpn);
  Result modify(const godwit_modify_qp& in);
  Result to_init(const QueuePair& qp, const ConnectOptions& options);
  Result to_rtr(const QueuePair& qp, const ConnectOptions& options, const Endpoint& peer);
  Result to_rts(const QueuePair& qp, const ConnectOptions& options, std::uint32_t own_psn);
  Result set_status(std::uint32_t qpn, std::uint8_t status);
  godwit_qp_info query_qp(std::uint32_t qpn);
  godwit_device_caps query_device();

  void ring_sq(const QueuePair& qp) { doorbell(qp.uctx, GODWIT_DB_SQ, qp.qpn, qp.sq_producer); }
  void arm(const CompletionQueue& cq, bool solicited = false) {
    doorbell(cq.uctx, GODWIT_DB_CQ_ARM, cq.number,
             (cq.consumer & GODWIT_DB_CQ_ARM_INDEX_MASK) |
                 (solicited ? GODWIT_DB_CQ_ARM_SOLICITED_MASK : 0));
  }

  // Migration.
  Result scope(std::uint8_t opcode, std::uint32_t scope, std::uint32_t number);
  Result save_object(std::uint32_t type, std::uint32_t uctx, std::uint32_t number,
                     std::vector<std::uint8_t>* state);
  Result load_object(std::uint32_t type, std::uint32_t uctx, std::uint32_t number,
                     const std::vector<std::uint8_t>& state, std::uint32_t sgid_index);
  Result attach(std::uint32_t type, std::uint32_t uctx, std::uint32_t number, const Buffer& buffer);
  Result resume(std::uint32_t scope, std::uint32_t number, std::uint32_t attempt,
                std::uint32_t flags = 0);
  Result tombstone(std::uint32_t qpn, std::uint64_t move);
  Result move_command(std::uint8_t opcode, std::uint64_t move);
  Result reserve(const std::vector<std::uint32_t>& qpns, std::uint32_t ttl_ms, std::uint64_t move);

  // Events of an EQ that were not taken yet; the consumer index moves and the EQ is armed.
  std::vector<godwit_eqe> events(std::uint32_t eqn);

  // Mailbox memory for one command at a time.
  std::uint64_t mailbox() const { return mailbox_; }
  static constexpr std::size_t kMailboxBytes = 16384;

  // Where else the device writes for the driver.
  std::uint64_t command_completions() const { return cmd_cq_; }
  std::uint32_t command_producer() const { return cmd_producer_; }
  std::size_t command_completion_bytes() const { return std::size_t{64} << cmd_log2_depth_; }
  const Buffer& event_buffer(std::uint32_t eqn) const { return eqs_.at(eqn).buffer; }

 private:
  struct EventQueue {
    Buffer buffer;
    std::uint32_t log2_depth = 0;
    std::uint32_t consumer = 0;
  };

  static godwit_host_ops host_ops(Machine* machine);

  const godwit_device_config config_;
  std::uint64_t own_clock_ = 0;
  std::uint64_t* clock_;
  const std::size_t pages_;
  GuestMemory memory_;
  godwit_device* device_ = nullptr;
  bool kicked_ = false;
  bool interrupted_ = false;
  std::uint64_t cmd_sq_ = 0;
  std::uint64_t cmd_cq_ = 0;
  std::uint32_t cmd_log2_depth_ = 0;
  std::uint32_t cmd_producer_ = 0;
  std::uint64_t mailbox_ = 0;
  std::vector<std::uint64_t> list_pages_;
  std::array<EventQueue, 64> eqs_;
  std::uint32_t next_event_number_ = 1;
};

}  // namespace godwit::test

#endif  // GODWIT_TESTS_SUPPORT_MACHINE_H
