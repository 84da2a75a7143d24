// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the fuzzers have in common: memory that the device must not write, two QPs that nobody may
// disturb, and QPs in every state that a packet or an image can meet.
#ifndef GODWIT_TESTS_FUZZ_SCENE_H
#define GODWIT_TESTS_FUZZ_SCENE_H

#include <array>
#include <cstdint>
#include <vector>

#include "fuzz/input.h"
#include "godwit_counters.h"
#include "support/machine.h"
#include "wire/packet.h"

namespace godwit::fuzz {

using test::Buffer;
using test::CompletionQueue;
using test::ConnectOptions;
using test::Frame;
using test::Gid;
using test::Mac;
using test::Machine;
using test::MemoryRegion;
using test::QueuePair;
using test::Result;
using test::SendWork;

inline constexpr std::size_t kPages = 320;
inline constexpr std::uint64_t kMillisecond = 1'000'000;

// Objects of the bystander: nothing that a fuzzer does may name them.
inline constexpr std::uint32_t kBystanderUctx = 2;
inline constexpr std::uint32_t kBystanderPd = 4;
inline constexpr std::uint32_t kBystanderGid = 1;  // index

void must(const Result& result);

// What becomes of a frame: each has exactly one of these counters, if memory can be reached.
std::uint64_t frames_counted(const Machine& machine);

// Which bytes of guest memory the device may write.
class Fence {
 public:
  explicit Fence(Machine& machine);  // starts it
  void open(std::uint64_t addr, std::size_t length) { set(addr, length, true); }
  void open(const Buffer& buffer, std::uint64_t offset, std::uint64_t length) {
    set(buffer, offset, length, true);
  }
  void close(const Buffer& buffer) { set(buffer, 0, buffer.length, false); }
  // The driver's: command completions, mailbox, event queues.
  void open_driver(const Machine& machine);
  bool closed(std::uint64_t addr, std::size_t length) const;

 private:
  void set(std::uint64_t addr, std::size_t length, bool open);
  void set(const Buffer& buffer, std::uint64_t offset, std::uint64_t length, bool open);

  std::span<std::uint8_t> open_;  // 1 for each byte that is
};

// Two QPs of this NIC that talk to each other, in a context, a domain and at a GID of their own.
class Bystander {
 public:
  explicit Bystander(Machine& machine);
  bool is_mine(std::uint32_t qpn) const { return qpn == qp_[0].qpn || qpn == qp_[1].qpn; }
  const Buffer& memory(unsigned i) const { return region_[i].buffer; }
  static Gid gid() { return test::ipv4_gid(10, 77, 0, 2); }
  // Both are as they were, and every operation between them does what it should.
  void check(Fence* fence);

 private:
  void transfer(std::uint8_t opcode);

  Machine& m_;
  CompletionQueue cq_[2];
  MemoryRegion region_[2];
  QueuePair qp_[2];
};

// Who of the scene.
enum Who : unsigned {
  kIdle,
  kBusy,  // requests of every kind are under way
  kRtr,
  kStopped,
  kPaused,
  kTombstone,
  kRedirecting,  // a tombstone that knows its successor
  kWaiting,      // loaded, not resumed; its tombstone answers
  kResuming,
  kError,
  kDraining,
  kIpv6,
  kWhoCount,
};

class Scene {
 public:
  explicit Scene(const godwit_device_config& config);

  static constexpr std::uint32_t kPd = 3;
  static constexpr Mac kMac = {2, 0, 0, 0, 0, 1};
  static constexpr Mac kFarMac = {2, 0, 0, 0, 0, 9};
  static Gid gid(bool ipv4 = true);
  static Gid far_gid(bool ipv4 = true);
  static Gid third_gid() { return test::ipv4_gid(10, 77, 0, 66); }
  static std::uint32_t far_qpn(unsigned who) { return 0x1000 + who; }
  // One counts past the end of the PSNs soon.
  static std::uint32_t own_psn(unsigned who) { return (0xfffffc + who) & wire::kPsnMask; }
  static std::uint32_t far_psn(unsigned who) { return (0xfffff0 + 3 * who) & wire::kPsnMask; }
  static bool is_ipv4(unsigned who) { return who != kIpv6; }

  wire::Path path(unsigned who) const;  // from the far end
  void post(unsigned who, const SendWork& work);
  void post_receive(unsigned who, std::uint32_t length);
  SendWork work(std::uint8_t opcode, std::uint32_t length) const;
  void receive(const wire::Path& path, const wire::Headers& headers,
               std::span<const std::uint8_t> payload = {});
  // Lets the device come to rest.
  void run();
  void drain_completions();

  // The device is alive, and what it has sent is well formed.
  void check();
  // What waits for software has waited: stopped, in Error, loaded, tombstones.
  void check_still();
  // The device as another host would load it.
  void reload();

  std::uint64_t clock = 1;
  Machine m;
  Fence fence;
  Bystander bystander;
  CompletionQueue cq;
  MemoryRegion open;      // all rights
  MemoryRegion readable;  // no right to write
  MemoryRegion local;     // for receives
  std::array<QueuePair, kWhoCount> qp;

 private:
  void start_ethernet();
  void make_qp(unsigned who);
  void move_out(unsigned who, std::vector<std::uint8_t>* state);
  void move_in(unsigned who, const std::vector<std::uint8_t>& state);
  void check_frame(const Frame& frame) const;

  std::vector<std::uint8_t> stopped_;  // its saved state
  std::uint32_t waiting_ext_ = 0;
};

// Small, so that limits are met; what a peer may ask for is not limited.
godwit_device_config scene_config();

// A state without what counts packets.
std::vector<std::uint8_t> without_statistics(std::vector<std::uint8_t> state);

}  // namespace godwit::fuzz

#endif  // GODWIT_TESTS_FUZZ_SCENE_H
