// SPDX-License-Identifier: GPL-2.0-or-later
//
// The machine: registers, doorbells, command queue, event queues, Ethernet
// function, and the glue between QPs and guest memory. What a QP does is
// transport/'s business; what a key or a ring is, resources/'s.
//
// MMIO entries take notes; run() does the work, bounded per call. Two objects
// are never worked on at the same time, so plain members suffice.
#ifndef GODWIT_DEVICE_DEVICE_H
#define GODWIT_DEVICE_DEVICE_H

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "device/queue_pair.h"
#include "device/timer_heap.h"
#include "godwit_cmd.h"
#include "godwit_counters.h"
#include "godwit_device.h"
#include "godwit_queue.h"
#include "godwit_regs.h"
#include "godwit_state.h"
#include "resources/completion_queue.h"
#include "resources/dma.h"
#include "resources/event_queue.h"
#include "resources/flat_map.h"
#include "resources/mac_filter.h"
#include "resources/page_map.h"
#include "resources/protection_domain.h"
#include "resources/random.h"
#include "transport/ports.h"
#include "transport/transport.h"
#include "wire/packet.h"

namespace godwit::device {

inline constexpr std::uint32_t kGidEntries = 256;
inline constexpr std::uint32_t kMacFilters = 256;
inline constexpr std::uint32_t kMaxReservations = 4096;
inline constexpr std::uint32_t kMaxReservationsPerCommand = 1024;
inline constexpr std::uint32_t kNumberMask = 0xffffff;  // PDs, CQs, QPs
inline constexpr std::uint32_t kFirstQpn = 2;           // 0 and 1 are the port's own
inline constexpr std::uint32_t kLastQpn = 0xfffffe;
inline constexpr std::uint32_t kMaxLog2CommandDepth = 8;

// Work per call of run().
inline constexpr unsigned kCommandsPerRun = 32;
inline constexpr unsigned kTimersPerRun = 256;
struct Share {
  unsigned descriptors;  // of frames to be sent
  unsigned turns;        // of QPs
  unsigned packets;      // in each turn
};
inline constexpr Share kWholeShare{128, 64, 32};
// About as much work as it is to wake another thread.
inline constexpr Share kBriefShare{4, 1, 4};

// How often the receive queue of a QP in Error is looked at.
inline constexpr std::uint64_t kFlushPollNs = 20'000'000;
// A wire that stays busy longer gets frames again, and keeps or drops them: else one that is stuck
// would stop all queue pairs without an error.
inline constexpr std::uint64_t kWireBusyNs = 100'000'000;

// Frames from a QP of this NIC to another one. A turn of a QP is only given while all that it may
// send finds room, so nothing is dropped here.
inline constexpr std::size_t kLoopbackSlots = 256;

// What a command answers.
struct Reply {
  std::uint16_t status = GODWIT_CMD_STATUS_OK;
  std::uint32_t detail = 0;
  bool again = false;  // not finished: try again in the next run
  std::array<std::uint8_t, sizeof(godwit_cmd_completion::result)> result{};

  static Reply fail(std::uint16_t status, std::size_t detail = 0) {
    Reply reply;
    reply.status = status;
    reply.detail = static_cast<std::uint32_t>(detail);
    return reply;
  }
  bool ok() const { return status == GODWIT_CMD_STATUS_OK; }
};

class Device final : public resources::Dma,
                     public transport::WorkQueues,
                     public transport::Memory,
                     public transport::Link {
 public:
  Device(const godwit_device_config& config, const godwit_host_ops& ops);
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  ~Device() override;

  // godwit_device.h
  void reset();
  std::uint64_t register_read(std::uint64_t offset, unsigned size);
  void register_write(std::uint64_t offset, std::uint64_t value, unsigned size);
  void doorbell_write(std::uint64_t offset, std::uint64_t value, unsigned size);
  void receive_frame(std::uint64_t now_ns, std::span<const std::uint8_t> frame);
  void set_link(bool up);
  void wire_ready();
  bool run(std::uint64_t now_ns, const Share& share);
  std::uint64_t next_deadline() const;
  std::size_t save(std::uint64_t now_ns, std::span<std::uint8_t> room);
  const char* load(std::uint64_t now_ns, std::span<const std::uint8_t> bytes);
  std::uint64_t counter(unsigned index) const {
    return index < counters_.size() ? counters_[index] : 0;
  }

  // resources::Dma
  bool read(std::uint64_t addr, void* to, std::size_t length) override;
  bool write(std::uint64_t addr, const void* from, std::size_t length) override;

  // transport::WorkQueues
  transport::Fetch fetch_send(transport::Qp& qp, std::uint16_t index,
                              transport::SendRequest* request) override;
  transport::Fetch fetch_recv(transport::Qp& qp, std::uint16_t index,
                              transport::RecvRequest* request) override;
  bool complete_send(transport::Qp& qp, const transport::SendCompletion& completion) override;
  bool complete_recv(transport::Qp& qp, const transport::RecvCompletion& completion) override;
  void event(transport::Qp& qp, transport::QpEvent event) override;

  // transport::Memory
  transport::Fault gather(transport::Qp& qp, std::span<const transport::Sge> sges,
                          std::uint32_t offset, std::span<std::uint8_t> to) override;
  transport::Fault scatter(transport::Qp& qp, std::span<const transport::Sge> sges,
                           std::uint32_t offset, std::span<const std::uint8_t> from) override;
  transport::Fault check_remote(transport::Qp& qp, std::uint32_t rkey, std::uint64_t va,
                                std::uint64_t length, Access access) override;
  transport::Fault read_remote(transport::Qp& qp, std::uint32_t rkey, std::uint64_t va,
                               std::span<std::uint8_t> to) override;
  transport::Fault write_remote(transport::Qp& qp, std::uint32_t rkey, std::uint64_t va,
                                std::span<const std::uint8_t> from) override;
  transport::Fault atomic_remote(transport::Qp& qp, std::uint32_t rkey, std::uint64_t va,
                                 transport::AtomicOp op, std::uint64_t compare_add,
                                 std::uint64_t swap, std::uint64_t* original) override;

  // transport::Link
  void send_frame(std::span<const std::uint8_t> frame) override;
  const transport::GidEntry* gid(std::uint16_t index) const override;
  void count(unsigned counter, std::uint64_t n = 1) override { counters_[counter] += n; }

 private:
  struct Uctx {
    bool used = false;
    std::uint32_t objects = 0;  // PDs, CQs, QPs
  };

  // Everything under one QPN. While a restored QP waits for its RESUME, the tombstone is still the
  // one that answers.
  struct QpnEntry {
    QueuePair* qp = nullptr;
    QueuePair* tombstone = nullptr;
  };

  struct Reservation {
    std::uint64_t move = 0;
    std::uint64_t deadline_ns = 0;
  };

  // A doorbell that comes as two stores of 32 bits: who has no store of 64 may do so.
  struct HalfDoorbell {
    std::uint32_t offset = UINT32_MAX;  // of the low half that is waiting for its high one
    std::uint32_t low = 0;
  };

  struct Ethernet {
    bool enabled = false;
    std::uint8_t log2_tx = 0;
    std::uint8_t log2_rx = 0;
    bool tx_armed = false;
    bool rx_armed = false;
    bool tx_unseen = false;  // completions since the last interrupt
    bool rx_unseen = false;
    bool frame_bad = false;  // of the frame being gathered
    std::uint64_t tx_ring = 0;
    std::uint64_t rx_ring = 0;
    std::uint32_t tx_producer = 0;
    std::uint32_t tx_consumer = 0;
    std::uint32_t rx_producer = 0;
    std::uint32_t rx_consumer = 0;
    std::uint32_t gathered = 0;
  };

  struct Snapshot;  // snapshot.cc
  struct CommandRow;
  using Handler = Reply (Device::*)(const std::uint8_t* params);
  static const CommandRow* command_row(std::uint8_t opcode);

  // registers.cc
  std::uint32_t read_word(std::uint32_t offset);
  void write_word(std::uint32_t offset, std::uint32_t value);
  void write_control(std::uint32_t value);
  void bad_register(std::uint64_t offset, unsigned size, bool is_write, std::uint64_t value);
  void clear_state();
  void fatal(std::uint32_t cause);
  bool running() const { return enabled_ && fatal_cause_ == GODWIT_FATAL_NONE; }

  // doorbells.cc
  void ring(std::uint32_t page, std::uint32_t offset, std::uint32_t number, std::uint32_t value);
  bool ring_page0(std::uint32_t offset, std::uint32_t number, std::uint32_t value);
  bool ring_sq(std::uint32_t page, std::uint32_t qpn, std::uint32_t value);
  void kick();

  // events.cc
  enum class Posted : std::uint8_t { kYes, kNoRoom };
  Posted post_event(std::uint32_t eqn, std::uint8_t type, std::uint8_t subtype,
                    std::uint32_t number);
  void interrupt(std::uint32_t vector) { interrupts_ |= std::uint64_t{1} << vector; }
  void list(resources::CompletionQueue& cq);
  void list_event(QueuePair& qp, unsigned subtype);
  void flush_events();
  bool flush_cq(resources::CompletionQueue& cq);
  bool flush_qp_events(QueuePair& qp);
  void fail_qps_of(resources::CompletionQueue& cq);
  void fail_cq(resources::CompletionQueue& cq);
  void flush_interrupts();

  // commands.cc
  bool run_commands();
  bool run_command();
  Reply execute(const godwit_cmd& command);
  Reply cmd_nop(const std::uint8_t* params);
  Reply cmd_query_device(const std::uint8_t* params);
  Reply cmd_query_counters(const std::uint8_t* params);
  Reply cmd_set_eth_rings(const std::uint8_t* params);
  Reply cmd_set_eth_filter(const std::uint8_t* params);
  Reply read_mailbox(const godwit_cmd_mailbox& mailbox, void* to, std::size_t length);
  Reply write_mailbox(const godwit_cmd_mailbox& mailbox, const void* from, std::size_t length);

  // commands_objects.cc
  Reply cmd_create_eq(const std::uint8_t* params);
  Reply cmd_destroy_eq(const std::uint8_t* params);
  Reply cmd_create_uctx(const std::uint8_t* params);
  Reply cmd_destroy_uctx(const std::uint8_t* params);
  Reply cmd_set_gid(const std::uint8_t* params);
  Reply cmd_create_pd(const std::uint8_t* params);
  Reply cmd_destroy_pd(const std::uint8_t* params);
  Reply cmd_reg_mr(const std::uint8_t* params);
  Reply cmd_dereg_mr(const std::uint8_t* params);
  Reply cmd_create_cq(const std::uint8_t* params);
  Reply cmd_destroy_cq(const std::uint8_t* params);
  Reply walk_buffer(resources::PageMap& map, const godwit_buffer& buffer, std::size_t detail);
  bool uctx_exists(std::uint32_t number) const {
    return number < uctxs_.size() && uctxs_[number].used;
  }
  resources::CompletionQueue* find_cq(std::uint32_t uctx, std::uint32_t number);
  resources::ProtectionDomain* find_pd(std::uint32_t number);
  void rebuild_gids();

  // commands_qp.cc
  Reply cmd_create_qp(const std::uint8_t* params);
  Reply cmd_modify_qp(const std::uint8_t* params);
  Reply cmd_query_qp(const std::uint8_t* params);
  Reply cmd_destroy_qp(const std::uint8_t* params);
  Reply check_create_qp(const godwit_create_qp& in);
  Reply check_qpn(const godwit_create_qp& in, std::uint32_t* qpn);
  QueuePair* find_qp(std::uint32_t qpn);    // not a tombstone
  QueuePair* packet_qp(std::uint32_t qpn);  // who answers packets
  void unlink(QueuePair& qp);
  void leave_resources(QueuePair& qp);
  void destroy(QueuePair* qp);
  void destroy_tombstone(QueuePair* tombstone);
  std::uint32_t draw_qpn();

  // commands_migration.cc
  Reply cmd_stop(const std::uint8_t* params);
  Reply cmd_unstop(const std::uint8_t* params);
  Reply cmd_save(const std::uint8_t* params);
  Reply cmd_load(const std::uint8_t* params);
  Reply cmd_attach(const std::uint8_t* params);
  Reply cmd_resume(const std::uint8_t* params);
  Reply cmd_tombstone(const std::uint8_t* params);
  Reply cmd_commit(const std::uint8_t* params);
  Reply cmd_drop(const std::uint8_t* params);
  Reply cmd_reserve_qpns(const std::uint8_t* params);
  Reply cmd_query_tombstones(const std::uint8_t* params);
  Reply scope_qps(std::uint32_t scope, std::uint32_t number, std::vector<QueuePair*>* found);
  Reply load_qp(const godwit_cmd_state& in);
  Reply load_cq(const godwit_cmd_state& in);
  Reply attach_qp(const godwit_cmd_attach& in);
  Reply attach_cq(const godwit_cmd_attach& in);
  Reply check_resume(QueuePair& qp);
  Reply resume_one(QueuePair& qp, std::uint32_t attempt, bool local);
  void expire_tombstone(QueuePair& tombstone);
  void expire_reservations();

  // work_queues.cc
  bool decode_send(const QueuePair& qp, const std::uint8_t* bytes, transport::SendRequest* request);
  bool push_cqe(QueuePair& qp, resources::CompletionQueue& cq, godwit_cqe* entry, bool solicited);
  bool read_sq_producer(QueuePair& qp, std::uint16_t* producer);
  void post_sq(QueuePair& qp, std::uint16_t producer);

  // memory.cc
  resources::MemoryRegion* find_region(QueuePair& qp, std::uint32_t key);
  template <typename Visitor>
  transport::Fault for_each_piece(QueuePair& qp, std::span<const transport::Sge> sges,
                                  std::uint32_t offset, std::size_t bytes, std::uint32_t access,
                                  Visitor&& visit);

  // receive.cc
  bool is_local(std::span<const std::uint8_t> frame, const wire::Gid& dgid) const;
  bool has_live_qp(std::uint32_t qpn);
  void receive_packet(const wire::Packet& packet);
  bool run_loopback();
  void to_wire(std::span<const std::uint8_t> frame);

  // ethernet.cc
  bool run_transmit(unsigned descriptors);
  void transmit_descriptor();
  void deliver(std::span<const std::uint8_t> frame);

  // scheduler.cc
  void set_now(std::uint64_t now_ns) {
    if (now_ns > now_ns_) now_ns_ = now_ns;
  }
  [[nodiscard]] bool wire_busy() const { return now_ns_ < wire_busy_until_ns_; }
  void schedule(QueuePair& qp);
  void unschedule(QueuePair& qp);
  void touch(QueuePair& qp);  // after each transport call: new deadline, more to do
  bool run_qps(const Share& share);
  void run_timers();

  void trace(godwit_trace_event event, std::uint64_t a = 0, std::uint64_t b = 0,
             std::uint64_t c = 0, std::uint64_t d = 0) const {
    if (ops_.trace != nullptr) ops_.trace(ops_.opaque, event, a, b, c, d);
  }

  const godwit_device_config config_;
  const godwit_host_ops ops_;
  const transport::TransportConfig transport_config_;
  transport::Ports ports_;

  std::uint64_t now_ns_ = 0;
  std::uint64_t clock_offset_ns_ = 0;  // completion timestamps go on after load
  bool link_up_ = true;
  std::uint64_t wire_busy_until_ns_ = 0;
  bool kicked_ = false;
  bool in_run_ = false;

  // registers
  bool enabled_ = false;
  std::uint32_t fatal_cause_ = GODWIT_FATAL_NONE;
  std::uint64_t cmd_sq_ = 0;
  std::uint64_t cmd_cq_ = 0;
  std::uint32_t cmd_log2_depth_ = 0;
  bool cmd_interrupt_ = false;
  std::uint32_t scratch_ = 0;
  std::uint32_t bad_accesses_ = 0;
  std::uint32_t cmd_producer_ = 0;
  std::uint32_t cmd_consumer_ = 0;
  std::vector<HalfDoorbell> halves_;

  // objects
  std::vector<std::unique_ptr<resources::EventQueue>> eqs_;
  std::vector<Uctx> uctxs_;
  resources::FlatMap<std::unique_ptr<resources::ProtectionDomain>> pds_;
  resources::FlatMap<std::unique_ptr<resources::CompletionQueue>> cqs_;
  resources::FlatMap<QpnEntry> qpns_;
  resources::FlatMap<Reservation> reservations_;
  std::vector<std::unique_ptr<QueuePair>> qps_;  // tombstones included; order has no meaning
  std::uint32_t tombstones_ = 0;
  std::uint32_t regions_ = 0;
  std::uint64_t reservation_deadline_ns_ = GODWIT_NO_DEADLINE;
  resources::PageBudget page_budget_;
  resources::Random random_;
  std::vector<transport::GidEntry> gids_;
  std::vector<std::uint16_t> valid_gids_;
  resources::MacFilter mac_filter_;

  // things to do
  std::vector<resources::CompletionQueue*> listed_cqs_;
  std::vector<QueuePair*> listed_qps_;
  bool events_due_ = false;
  bool port_event_due_ = false;
  std::uint64_t interrupts_ = 0;
  QueuePair* ready_head_ = nullptr;
  QueuePair* ready_tail_ = nullptr;
  TimerHeap timers_;
  std::unique_ptr<std::uint8_t[]> loopback_;  // kLoopbackSlots frames of at most kMaxFrame
  std::array<std::uint16_t, kLoopbackSlots> loopback_length_{};
  std::size_t loopback_head_ = 0;
  std::size_t loopback_count_ = 0;

  Ethernet eth_;
  std::vector<std::uint8_t> eth_frame_;

  std::array<std::uint64_t, GODWIT_COUNTER_COUNT> counters_{};
};

}  // namespace godwit::device

#endif  // GODWIT_DEVICE_DEVICE_H
