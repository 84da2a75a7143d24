// SPDX-License-Identifier: GPL-2.0-or-later
//
// The opcodes of the RC transport, one row each (IBTA table 38; RESUME and
// RESUME_ACK: docs/spec/migration.md). To add one, add a row.
#ifndef GODWIT_WIRE_OPCODE_H
#define GODWIT_WIRE_OPCODE_H

#include <array>
#include <cstddef>
#include <cstdint>

namespace godwit::wire {

enum Opcode : std::uint8_t {
  kSendFirst = 0x00,
  kSendMiddle = 0x01,
  kSendLast = 0x02,
  kSendLastImm = 0x03,
  kSendOnly = 0x04,
  kSendOnlyImm = 0x05,
  kWriteFirst = 0x06,
  kWriteMiddle = 0x07,
  kWriteLast = 0x08,
  kWriteLastImm = 0x09,
  kWriteOnly = 0x0a,
  kWriteOnlyImm = 0x0b,
  kReadRequest = 0x0c,
  kReadResponseFirst = 0x0d,
  kReadResponseMiddle = 0x0e,
  kReadResponseLast = 0x0f,
  kReadResponseOnly = 0x10,
  kAcknowledge = 0x11,
  kAtomicAcknowledge = 0x12,
  kCompareSwap = 0x13,
  kFetchAdd = 0x14,
  kResumeAck = 0x18,
  kResume = 0x19,
};

enum class Role : std::uint8_t { kNone, kRequest, kResponse, kExtension };
enum class Message : std::uint8_t { kNone, kSend, kWrite, kRead, kAtomic, kAck };

// One row: what the packet is, and which headers follow the BTH, in this order.
struct OpcodeInfo {
  Role role = Role::kNone;
  Message message = Message::kNone;
  bool first = false;  // begins a message (first or only)
  bool last = false;   // ends it (last or only)
  bool reth = false;
  bool atomic_eth = false;
  bool aeth = false;
  bool atomic_ack_eth = false;
  bool immediate = false;
  bool mig_eth = false;
  bool payload = false;

  [[nodiscard]] constexpr std::size_t header_bytes() const {
    return (reth ? 16U : 0U) + (atomic_eth ? 28U : 0U) + (aeth ? 4U : 0U) +
           (atomic_ack_eth ? 8U : 0U) + (immediate ? 4U : 0U) + (mig_eth ? 16U : 0U);
  }
};

namespace detail {
constexpr std::array<OpcodeInfo, 256> make_opcodes() {
  std::array<OpcodeInfo, 256> t{};
  const Role q = Role::kRequest;
  const Role s = Role::kResponse;
  //                 role message          first  last   reth   atomic aeth   atmack imm    mig
  //                 payload
  t[kSendFirst] = {q, Message::kSend, true, false, false, false, false, false, false, false, true};
  t[kSendMiddle] = {q,     Message::kSend, false, false, false, false,
                    false, false,          false, false, true};
  t[kSendLast] = {q, Message::kSend, false, true, false, false, false, false, false, false, true};
  t[kSendLastImm] = {q, Message::kSend, false, true, false, false, false, false, true, false, true};
  t[kSendOnly] = {q, Message::kSend, true, true, false, false, false, false, false, false, true};
  t[kSendOnlyImm] = {q, Message::kSend, true, true, false, false, false, false, true, false, true};
  t[kWriteFirst] = {q, Message::kWrite, true, false, true, false, false, false, false, false, true};
  t[kWriteMiddle] = {q,     Message::kWrite, false, false, false, false,
                     false, false,           false, false, true};
  t[kWriteLast] = {q, Message::kWrite, false, true, false, false, false, false, false, false, true};
  t[kWriteLastImm] = {q,     Message::kWrite, false, true,  false, false,
                      false, false,           true,  false, true};
  t[kWriteOnly] = {q, Message::kWrite, true, true, true, false, false, false, false, false, true};
  t[kWriteOnlyImm] = {q, Message::kWrite, true, true, true, false, false, false, true, false, true};
  t[kReadRequest] = {q, Message::kRead, true, true, true, false, false, false, false, false, false};
  t[kReadResponseFirst] = {s,    Message::kRead, true,  false, false, false,
                           true, false,          false, false, true};
  t[kReadResponseMiddle] = {s,     Message::kRead, false, false, false, false,
                            false, false,          false, false, true};
  t[kReadResponseLast] = {s,    Message::kRead, false, true,  false, false,
                          true, false,          false, false, true};
  t[kReadResponseOnly] = {s,    Message::kRead, true,  true,  false, false,
                          true, false,          false, false, true};
  t[kAcknowledge] = {s, Message::kAck, true, true, false, false, true, false, false, false, false};
  t[kAtomicAcknowledge] = {
      s, Message::kAtomic, true, true, false, false, true, true, false, false, false};
  t[kCompareSwap] = {q,    Message::kAtomic, true, true, false, true, false, false, false, false,
                     false};
  t[kFetchAdd] = {q, Message::kAtomic, true, true, false, true, false, false, false, false, false};
  t[kResumeAck] = {
      Role::kExtension, Message::kNone, true, true, false, false, true, false, false, true, false};
  t[kResume] = {
      Role::kExtension, Message::kNone, true, true, false, false, true, false, false, true, false};
  return t;
}
}  // namespace detail

inline constexpr std::array<OpcodeInfo, 256> kOpcodes = detail::make_opcodes();

}  // namespace godwit::wire

#endif  // GODWIT_WIRE_OPCODE_H
