// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the transport needs from the rest of the device, as narrow interfaces:
// work requests, memory by key, completions, packets. It sees no bus address,
// ring or WQE layout, and no key table; the device implements these, and the unit
// tests have doubles of their own.
#ifndef GODWIT_TRANSPORT_PORTS_H
#define GODWIT_TRANSPORT_PORTS_H

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "transport/fault.h"

namespace godwit::transport {

struct Qp;

inline constexpr std::size_t kMaxSge = 16;
inline constexpr std::size_t kMaxInline = 448;

struct Sge {
  std::uint64_t addr = 0;
  std::uint32_t length = 0;
  std::uint32_t lkey = 0;
};

enum class WrOpcode : std::uint8_t {
  kSend,
  kSendImm,
  kWrite,
  kWriteImm,
  kRead,
  kCompareSwap,
  kFetchAdd,
};

// A decoded send WQE: a copy, so that what was checked is what is used.
struct SendRequest {
  WrOpcode opcode = WrOpcode::kSend;
  bool signaled = false;
  bool solicited = false;
  bool fence = false;
  bool inline_data = false;
  std::uint8_t sge_count = 0;
  std::uint32_t length = 0;        // bytes of the message; 8 for atomics
  std::uint32_t immediate_be = 0;  // network order, as it goes on the wire
  std::uint64_t remote_addr = 0;
  std::uint32_t rkey = 0;
  std::uint64_t compare_add = 0;
  std::uint64_t swap = 0;
  std::array<Sge, kMaxSge> sge{};
  std::array<std::uint8_t, kMaxInline> inline_bytes{};
};

struct RecvRequest {
  std::uint8_t sge_count = 0;
  std::uint32_t length = 0;  // bytes of room
  std::array<Sge, kMaxSge> sge{};
};

enum class Fetch : std::uint8_t {
  kOk,
  kEmpty,  // the producer index has not passed it
  kBad,    // malformed or not readable: a local error of this WQE
};

struct SendCompletion {
  std::uint16_t wqe_index = 0;
  WrOpcode opcode = WrOpcode::kSend;
  Fault fault = Fault::kNone;  // status by completion_status(fault)
  std::uint32_t byte_len = 0;
};

struct RecvCompletion {
  std::uint16_t wqe_index = 0;
  bool write_with_immediate = false;
  bool has_immediate = false;
  bool solicited = false;
  Fault fault = Fault::kNone;
  std::uint32_t byte_len = 0;
  std::uint32_t immediate_be = 0;
};

enum class QpEvent : std::uint8_t {
  kFatal,
  kRequestError,
  kAccessError,
  kCommEstablished,
  kSqDrained,
  kLastWqe,
  kPathMigrated,
  kResumed,        // its RESUME was acknowledged
  kStatusChanged,  // for the trace only
};

// The work queues of a QP. Indices run freely, 16 bits.
class WorkQueues {
 public:
  virtual ~WorkQueues() = default;
  virtual Fetch fetch_send(Qp& qp, std::uint16_t index, SendRequest* request) = 0;
  virtual Fetch fetch_recv(Qp& qp, std::uint16_t index, RecvRequest* request) = 0;
  // False: the CQ is full or not writable, and the device has put it into error
  // and will put its QPs into Error.
  [[nodiscard]] virtual bool complete_send(Qp& qp, const SendCompletion& completion) = 0;
  [[nodiscard]] virtual bool complete_recv(Qp& qp, const RecvCompletion& completion) = 0;
  virtual void event(Qp& qp, QpEvent event) = 0;
};

enum class AtomicOp : std::uint8_t { kCompareSwap, kFetchAdd };

// Memory by key, in the QP's protection domain. Nothing is touched unless the
// whole range is allowed.
class Memory {
 public:
  virtual ~Memory() = default;
  // `offset` counts in the concatenation of the SGEs.
  [[nodiscard]] virtual Fault gather(Qp& qp, std::span<const Sge> sges, std::uint32_t offset,
                                     std::span<std::uint8_t> to) = 0;
  [[nodiscard]] virtual Fault scatter(Qp& qp, std::span<const Sge> sges, std::uint32_t offset,
                                      std::span<const std::uint8_t> from) = 0;
  enum class Access : std::uint8_t { kRemoteRead, kRemoteWrite, kRemoteAtomic };
  // Rights of QP and region, bounds; length 0 is allowed whatever the key is.
  [[nodiscard]] virtual Fault check_remote(Qp& qp, std::uint32_t rkey, std::uint64_t va,
                                           std::uint64_t length, Access access) = 0;
  [[nodiscard]] virtual Fault read_remote(Qp& qp, std::uint32_t rkey, std::uint64_t va,
                                          std::span<std::uint8_t> to) = 0;
  [[nodiscard]] virtual Fault write_remote(Qp& qp, std::uint32_t rkey, std::uint64_t va,
                                           std::span<const std::uint8_t> from) = 0;
  [[nodiscard]] virtual Fault atomic_remote(Qp& qp, std::uint32_t rkey, std::uint64_t va,
                                            AtomicOp op, std::uint64_t compare_add,
                                            std::uint64_t swap, std::uint64_t* original) = 0;
};

struct GidEntry {
  bool valid = false;
  bool ipv4 = false;
  std::array<std::uint8_t, 16> gid{};
  std::array<std::uint8_t, 6> mac{};
};

// Packets out, the GID table, counters and random numbers.
class Link {
 public:
  virtual ~Link() = default;
  // A whole Ethernet frame, ICRC included; to the wire, or back in if it is addressed to this NIC.
  virtual void send_frame(std::span<const std::uint8_t> frame) = 0;
  // Null if the index is out of range or the entry is not valid.
  virtual const GidEntry* gid(std::uint16_t index) const = 0;
  virtual void count(unsigned counter, std::uint64_t n = 1) = 0;  // abi/godwit_counters.h
};

// How the transport behaves: from the device properties.
struct TransportConfig {
  bool migration = true;
  bool resume_unknown = false;
  bool bare_resume = false;
  std::uint64_t pause_limit_ns = 60'000'000'000;  // 0: for ever
  std::uint32_t max_rd_atomic = 16;
};

struct Ports {
  WorkQueues& queues;
  Memory& memory;
  Link& link;
  const TransportConfig& config;
};

}  // namespace godwit::transport

#endif  // GODWIT_TRANSPORT_PORTS_H
