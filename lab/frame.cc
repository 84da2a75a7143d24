// SPDX-License-Identifier: GPL-2.0-or-later
#include "frame.h"

#include "error.h"

namespace godwit::lab {
namespace {

void put(std::uint32_t value, std::string* out) {
  for (int shift = 24; shift >= 0; shift -= 8) out->push_back(static_cast<char>(value >> shift));
}

std::uint32_t get(std::string_view from, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(from[at + i]);
  return value;
}

}  // namespace

void append_frame(std::uint32_t stream, FrameType type, std::string_view payload,
                  std::string* out) {
  put(static_cast<std::uint32_t>(payload.size()), out);
  put(stream, out);
  out->append(payload);
  out->push_back(static_cast<char>(type));
}

std::string window_payload(std::uint32_t bytes) {
  std::string payload;
  put(bytes, &payload);
  return payload;
}

std::uint32_t window_bytes(std::string_view payload) {
  if (payload.size() != 4) throw Error("WINDOW has 4 bytes");
  return get(payload, 0);
}

void append_sync(std::string_view nonce, std::string* out) {
  out->append(kSyncRun, '\xff');
  append_frame(0, FrameType::kSync, nonce, out);
}

bool take_frame(std::string* buffer, Frame* frame) {
  if (buffer->size() < 4) return false;
  const std::uint32_t length = get(*buffer, 0);
  if (length > kMaxFramePayload) throw Error("what comes is no frame: it is too long");
  if (buffer->size() < kFrameOverhead + length) return false;
  frame->type = static_cast<FrameType>((*buffer)[8 + length]);
  if (frame->type < FrameType::kExec || frame->type > FrameType::kSync ||
      (frame->type == FrameType::kSync && length != kNonceBytes)) {
    throw Error("what comes is no frame: there is no such type");
  }
  frame->stream = get(*buffer, 4);
  frame->payload = buffer->substr(8, length);
  buffer->erase(0, kFrameOverhead + length);
  return true;
}

}  // namespace godwit::lab
