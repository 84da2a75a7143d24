// SPDX-License-Identifier: GPL-2.0-or-later
#include "trim.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <functional>
#include <vector>

#include "error.h"
#include "wire/opcode.h"
#include "wire/packet.h"

namespace godwit::lab {
namespace {

constexpr std::uint64_t kAround = 16, kAtEnds = 200, kMostKept = 50000;
constexpr std::uint32_t kMagic = 0xa1b2c3d4;  // in our byte order, as QEMU writes it
constexpr std::uint32_t kLongestFrame = 1 << 18;

enum class Kind : std::uint8_t { kOther, kData, kMigration };

struct Record {
  std::uint32_t seconds, microseconds, captured, length;
};

std::size_t udp_at(const std::vector<unsigned char>& f) {
  if (f.size() < 42) return 0;
  const unsigned type = f[12] << 8 | f[13];
  if (type == 0x0800 && f[23] == 17) return 14 + (f[14] & 15U) * 4;
  if (type == 0x86dd && f[20] == 17) return 54;
  return 0;
}

Kind kind_of(const std::vector<unsigned char>& f) {
  const std::size_t udp = udp_at(f);
  if (udp == 0 || f.size() < udp + 24 || (f[udp + 2] << 8 | f[udp + 3]) != wire::kUdpPort)
    return Kind::kOther;
  const unsigned opcode = f[udp + 8];
  const unsigned syndrome = f[udp + 20];
  const bool extension = opcode == wire::kResumeAck || opcode == wire::kResume ||
                         (opcode == wire::kAcknowledge && syndrome == wire::kNakStopped);
  return extension ? Kind::kMigration : Kind::kData;
}

void for_each_frame(
    std::ifstream& in,
    const std::function<void(const Record&, const std::vector<unsigned char>&)>& visit) {
  Record record;
  std::vector<unsigned char> frame;
  while (in.read(reinterpret_cast<char*>(&record), sizeof(record))) {
    if (record.captured > kLongestFrame) throw Error("a capture with a frame of absurd length");
    frame.resize(record.captured);
    if (!in.read(reinterpret_cast<char*>(frame.data()), record.captured)) break;  // cut at its end
    visit(record, frame);
  }
}

}  // namespace

TrimResult trim_capture(const std::string& from, const std::string& to) {
  std::ifstream in(from, std::ios::binary);
  char header[24];
  if (!in.read(header, sizeof(header))) throw Error(from + ": no capture");
  if (memcmp(header, &kMagic, sizeof(kMagic)) != 0) throw Error(from + ": not a capture of QEMU's");

  TrimResult result;
  std::vector<bool> keep;
  std::uint64_t keep_until = kAtEnds;  // frames below this number stay
  for_each_frame(in, [&](const Record&, const std::vector<unsigned char>& frame) {
    const Kind kind = kind_of(frame);
    const std::uint64_t number = keep.size();
    keep.push_back(kind != Kind::kData || number < keep_until);
    if (kind != Kind::kMigration) return;
    ++result.migration;
    for (std::uint64_t i = number - std::min(number, kAround); i < number; ++i) keep[i] = true;
    keep_until = std::max(keep_until, number + kAround + 1);
  });
  result.frames = keep.size();
  for (std::uint64_t i = keep.size() - std::min<std::uint64_t>(keep.size(), kAtEnds);
       i < keep.size(); ++i) {
    keep[i] = true;
  }

  in.clear();
  in.seekg(sizeof(header));
  std::ofstream out(to, std::ios::binary | std::ios::trunc);
  out.write(header, sizeof(header));
  std::uint64_t number = 0;
  for_each_frame(in, [&](const Record& record, const std::vector<unsigned char>& frame) {
    if (number >= keep.size() || !keep[number++] || result.kept == kMostKept) return;
    out.write(reinterpret_cast<const char*>(&record), sizeof(record));
    out.write(reinterpret_cast<const char*>(frame.data()),
              static_cast<std::streamsize>(frame.size()));
    ++result.kept;
  });
  out.close();
  if (!out) throw_errno(to);
  return result;
}

}  // namespace godwit::lab
