// SPDX-License-Identifier: GPL-2.0-or-later
//
// Frames between guest agent, daemon and commands (docs/spec/lab.md). The agent is built from this,
// too.
#ifndef GODWIT_LAB_FRAME_H
#define GODWIT_LAB_FRAME_H

#include <cstdint>
#include <string>
#include <string_view>

namespace godwit::lab {

enum class FrameType : std::uint8_t {
  kExec = 1,
  kStdin,
  kStdout,
  kStderr,
  kExit,
  kSignal,
  kPut,
  kGet,
  kPing,
  kHello,
  kWindow,
  kResize,
  kSync,
};

inline constexpr std::uint32_t kMaxFramePayload = 65536;
inline constexpr std::uint32_t kFrameWindow = 262144;
inline constexpr std::size_t kFrameOverhead = 9;
// Of 0xff before a SYNC: a frame that was cut off swallows at most one frame's worth of them, and
// as many are left as no frame can hold.
inline constexpr std::size_t kSyncRun = 2 * (kMaxFramePayload + kFrameOverhead);
inline constexpr std::size_t kNonceBytes = 16;

struct Frame {
  std::uint32_t stream = 0;
  FrameType type = FrameType::kPing;
  std::string payload;
};

void append_frame(std::uint32_t stream, FrameType type, std::string_view payload, std::string* out);
// Of a WINDOW. Throws Error if it is none.
[[nodiscard]] std::string window_payload(std::uint32_t bytes);
[[nodiscard]] std::uint32_t window_bytes(std::string_view payload);
// Makes the agent begin anew; it answers with the bare nonce, after which its frames begin.
void append_sync(std::string_view nonce, std::string* out);

// Takes one whole frame from the front of `buffer`. False: there is none yet.
// Throws Error if it cannot be a frame, and takes nothing.
[[nodiscard]] bool take_frame(std::string* buffer, Frame* frame);

}  // namespace godwit::lab

#endif  // GODWIT_LAB_FRAME_H
