// SPDX-License-Identifier: GPL-2.0-or-later
//
// A peer that sends anything: frames of any bytes, and frames that are nearly right, so that they
// come past the check sum, the addresses and the PSN. Whatever comes is counted; nothing is written
// but where a key allows it; who stands still does not move; a pair beside it works.
#include <cstring>

#include "fuzz/scene.h"
#include "transport/token.h"
#include "wire/icrc.h"

namespace godwit::fuzz {
namespace {

constexpr std::size_t kIp = 14;
constexpr unsigned kSteps = 64;

constexpr std::uint8_t kOpcodes[] = {wire::kSendFirst,
                                     wire::kSendMiddle,
                                     wire::kSendLast,
                                     wire::kSendLastImm,
                                     wire::kSendOnly,
                                     wire::kSendOnlyImm,
                                     wire::kWriteFirst,
                                     wire::kWriteMiddle,
                                     wire::kWriteLast,
                                     wire::kWriteLastImm,
                                     wire::kWriteOnly,
                                     wire::kWriteOnlyImm,
                                     wire::kReadRequest,
                                     wire::kReadResponseFirst,
                                     wire::kReadResponseMiddle,
                                     wire::kReadResponseLast,
                                     wire::kReadResponseOnly,
                                     wire::kAcknowledge,
                                     wire::kAtomicAcknowledge,
                                     wire::kCompareSwap,
                                     wire::kFetchAdd,
                                     wire::kResumeAck,
                                     wire::kResume};

class Packets {
 public:
  explicit Packets(Input input) : in_(input), scene_(config(&in_)) {}

  void run() {
    for (unsigned step = 0; step < kSteps && !in_.empty(); ++step) {
      switch (in_.byte() % 8) {
        case 0:
          raw();
          break;
        case 1:
          reflected();
          break;
        case 2:
          own_work();
          break;
        case 3:
          deliver(previous_);
          break;
        case 4:
          message();
          break;
        default:
          structured();
          break;
      }
      scene_.check();
    }
    scene_.check_still();
    if (in_.chance()) scene_.reload();
    scene_.bystander.check(&scene_.fence);
    require(scene_.m.reg(GODWIT_REG_BAD_ACCESSES) == 0, "no packet is a register access");
    require(count(GODWIT_COUNTER_DMA_ERRORS) == 0,
            "no packet makes the device read or write nowhere");
  }

 private:
  static godwit_device_config config(Input* in) {
    godwit_device_config config = scene_config();
    const std::uint8_t choice = in->byte();
    config.bare_resume = (choice & 1) != 0;
    config.resume_unknown = (choice & 2) != 0;
    if ((choice & 4) != 0) config.pause_limit_ms = 100;
    return config;
  }

  std::uint64_t count(unsigned counter) const {
    return godwit_device_counter(scene_.m.device(), counter);
  }

  // What is addressed to the bystander may be for it, for all it knows.
  void deliver(const Frame& frame) {
    wire::Packet packet;
    if (wire::parse(frame, &packet) == wire::Parse::kOk &&
        scene_.bystander.is_mine(packet.h.dest_qpn)) {
      return;
    }
    const std::uint64_t before = frames_counted(scene_.m);
    scene_.m.receive(frame);
    require(frames_counted(scene_.m) == before + 1, "a frame is counted, once");
    previous_ = frame;
    // The next one may come before the device has done anything about this one.
    if (in_.byte() % 4 != 0) scene_.run();
  }

  static bool has_ip(const Frame& frame, std::size_t* ip_bytes) {
    if (frame.size() < kIp + 28) return false;
    *ip_bytes = frame[12] == 0x86 && frame[13] == 0xdd ? 40 : 20;
    return frame.size() >= kIp + *ip_bytes + 8 + 4;
  }

  static void put16(Frame* frame, std::size_t at, std::size_t value) {
    (*frame)[at] = static_cast<std::uint8_t>(value >> 8);
    (*frame)[at + 1] = static_cast<std::uint8_t>(value);
  }

  static void fix_lengths(Frame* frame) {
    std::size_t ip = 0;
    if (!has_ip(*frame, &ip)) return;
    const std::size_t bytes = frame->size() - kIp;
    put16(frame, kIp + (ip == 20 ? 2 : 4), ip == 20 ? bytes : bytes - ip);
    put16(frame, kIp + ip + 4, bytes - ip);
  }

  static void fix_icrc(Frame* frame) {
    std::size_t ip = 0;
    if (!has_ip(*frame, &ip)) return;
    const std::size_t said =
        (*frame)[kIp + (ip == 20 ? 2 : 4)] << 8 | (*frame)[kIp + (ip == 20 ? 3 : 5)];
    const std::size_t end = kIp + said + (ip == 20 ? 0 : ip);
    if (end > frame->size() || end < kIp + ip + 8 + 12 + 4) return;
    const std::uint32_t crc = wire::icrc({frame->data() + kIp, end - kIp - 4}, ip);
    std::memcpy(frame->data() + end - 4, &crc, 4);
  }

  void raw() {
    const std::uint8_t how = in_.byte();
    const auto bytes = in_.bytes(in_.half() % 1600);
    Frame frame(bytes.begin(), bytes.end());
    // Bits choose how much of it is made right.
    const unsigned who = how % kWhoCount;
    const wire::Headers nothing;
    wire::FrameBuilder builder(scene_.path(who), nothing, 0);
    const auto good = builder.finish();
    const std::size_t addresses = kIp + (Scene::is_ipv4(who) ? 20 : 40) + 8;
    if ((how & 0x80) != 0 && frame.size() >= addresses + 16) {
      std::copy_n(good.begin(), addresses, frame.begin());
      fix_lengths(&frame);
    }
    if ((how & 0x40) != 0) fix_icrc(&frame);
    deliver(frame);
  }

  // What the device has sent comes back, to it or to another QP.
  void reflected() {
    if (last_.size() < 60) return structured();
    Frame frame = last_;
    const unsigned who = in_.below(kWhoCount);
    const wire::Headers nothing;
    wire::FrameBuilder builder(scene_.path(who), nothing, 0);
    const auto good = builder.finish();
    std::size_t ip = 0;
    if (!has_ip(frame, &ip) || ip != (Scene::is_ipv4(who) ? 20U : 40U)) return;
    std::copy_n(good.begin(), kIp + ip, frame.begin());
    fix_lengths(&frame);
    const std::size_t bth = kIp + ip + 8;
    put16(&frame, bth + 6, scene_.qp[who].qpn & 0xffff);
    frame[bth + 5] = static_cast<std::uint8_t>(scene_.qp[who].qpn >> 16);
    fix_icrc(&frame);
    deliver(frame);
  }

  void own_work() {
    const unsigned who = in_.below(kWhoCount);
    QueuePair& qp = scene_.qp[who];
    switch (in_.byte() % 7) {
      case 0: {
        static constexpr std::uint8_t kWork[] = {GODWIT_WR_SEND, GODWIT_WR_WRITE, GODWIT_WR_READ,
                                                 GODWIT_WR_COMPARE_SWAP, GODWIT_WR_WRITE_IMM};
        SendWork work = scene_.work(kWork[in_.below(std::size(kWork))], 8 + in_.half() % 8000);
        if (in_.chance()) work.flags |= GODWIT_WQE_FENCE_MASK;
        if (qp.sq_producer < 8) scene_.post(who, work);  // not more than the ring holds
        break;
      }
      case 1:
        if (qp.rq_producer == 8) break;
        if (in_.byte() % 4 != 0) {
          scene_.post_receive(who, in_.half() % 4000);
        } else {
          // Memory that it may not write, or that is not there.
          qp.write_recv({{scene_.readable.iova, 2000, in_.chance() ? scene_.readable.key : 7}});
        }
        break;
      case 6: {
        static constexpr unsigned kWhos[] = {kIdle, kBusy, kRtr, kIpv6};
        const std::uint8_t opcode = in_.chance() ? GODWIT_CMD_STOP : GODWIT_CMD_UNSTOP;
        const Result done = scene_.m.scope(opcode, GODWIT_SCOPE_QP,
                                           scene_.qp[kWhos[in_.below(std::size(kWhos))]].qpn);
        require(done.ok(), "a QP that lives can be stopped, and go on");
        break;
      }
      case 5:
        // The region goes away under what is being read from it.
        must(scene_.m.deregister(scene_.open));
        scene_.run();
        must(scene_.m.register_region(&scene_.open, true));
        break;
      case 2:
        scene_.clock += in_.number() % (500 * kMillisecond);
        break;
      case 3:
        scene_.drain_completions();
        break;
      default:
        scene_.m.doorbell(1, GODWIT_DB_RQ, qp.qpn, 0);
        break;
    }
    scene_.run();
    keep_last();
  }

  void keep_last() {
    if (!scene_.m.sent.empty()) last_ = scene_.m.sent[in_.byte() % scene_.m.sent.size()];
  }

  // The PSN that a packet of this kind would have now.
  std::uint32_t expected_psn(unsigned who, const wire::OpcodeInfo& info) {
    const bool response = info.role == wire::Role::kResponse;
    const Result found =
        scene_.m.command(GODWIT_CMD_QUERY_QP,
                         godwit_cmd_qp_mailbox{
                             {scene_.m.mailbox()}, {sizeof(godwit_qp_info)}, {scene_.qp[who].qpn}});
    if (!found.ok()) return response ? Scene::own_psn(who) : Scene::far_psn(who);
    const auto q = scene_.m.memory().get<godwit_qp_info>(scene_.m.mailbox());
    return response ? q.attr.sq_psn.raw - 1 : q.attr.rq_psn.raw;
  }

  std::uint32_t far_key(std::uint64_t* va) {
    const std::uint8_t choice = in_.byte();
    const MemoryRegion* const regions[] = {&scene_.open, &scene_.open, &scene_.readable,
                                           &scene_.local};
    const MemoryRegion& region = *regions[choice & 3];
    *va = region.iova + ((choice & 4) != 0 ? in_.half() : 8 * in_.byte());
    if ((choice & 8) != 0) *va = in_.number();
    if ((choice & 16) != 0) *va = region.iova + region.buffer.length - in_.byte();
    return (choice & 0xe0) == 0xe0 ? in_.word() : region.key;
  }

  void sign(unsigned who, wire::Path* path, wire::Headers* h) {
    transport::TokenInput token;
    const bool ack = h->opcode == wire::kResumeAck;
    const bool home = (h->mig.flags & wire::kMigHome) != 0;
    const bool rtr = (h->mig.flags & wire::kMigRtr) != 0;
    const std::uint32_t own = scene_.qp[who].qpn;
    const std::uint32_t far = Scene::far_qpn(who);
    token.type = ack ? transport::TokenType::kResumeAck : transport::TokenType::kResume;
    token.flags = h->mig.flags;
    token.epoch = h->mig.epoch;
    token.mover_qpn = ack || home ? own : far;
    token.peer_qpn = ack || home ? far : own;
    // The mover's send PSN, or its receive PSN.
    token.initial_psn = (ack || home) != rtr ? Scene::own_psn(who) : Scene::far_psn(who);
    token.mover_gid = ack ? Scene::gid(path->ipv4) : path->sgid;
    if ((h->mig.flags & wire::kMigRedirect) != 0) {
      token.mover_gid = Scene::third_gid();
      token.mover_mac = {2, 0, 0, 0, 0, 66};
    }
    h->mig.token = transport::token(token);
  }

  void structured() {
    const unsigned who = in_.below(kWhoCount);
    const std::uint8_t flags = in_.byte();
    wire::Headers h;
    h.opcode = kOpcodes[in_.below(std::size(kOpcodes))];
    const wire::OpcodeInfo& info = wire::kOpcodes[h.opcode];
    wire::Path path = scene_.path(who);
    h.dest_qpn = scene_.qp[who].qpn;
    h.extended = (flags & 1) == 0;
    h.ack_request = (flags & 2) == 0;
    h.solicited = (flags & 4) != 0;
    h.psn = expected_psn(who, info);
    if ((flags & 8) != 0) h.psn += static_cast<std::uint32_t>(static_cast<std::int8_t>(in_.byte()));
    if ((flags & 16) != 0) {
      const std::uint8_t change = in_.byte();
      if ((change & 1) != 0) path.sgid = Scene::third_gid();
      if ((change & 2) != 0) path.dgid[15] = in_.byte();
      if ((change & 4) != 0) path.ipv4 = !path.ipv4;
      if ((change & 8) != 0) h.psn = in_.word();
      if ((change & 16) != 0) h.pkey = in_.half();
      if ((change & 32) != 0) h.dest_qpn = in_.word() & 0xffffff;
    }
    h.psn &= wire::kPsnMask;
    if (info.reth || info.atomic_eth) {
      h.rkey = far_key(&h.va);
      h.compare = in_.number();
      h.swap_add = in_.number();
    }
    if (info.aeth) {
      static constexpr std::uint8_t kSyndromes[] = {0x1f, 0x20, 0x25, 0x60, 0x61, 0x62, 0x63, 0x65};
      const std::uint8_t choice = in_.byte();
      h.aeth = {(choice & 0x80) != 0 ? in_.byte() : kSyndromes[choice % std::size(kSyndromes)],
                in_.byte()};
    }
    h.immediate_be = 0x01020304;
    std::size_t bytes = 0;
    if (info.payload || (flags & 32) != 0) {
      switch (in_.byte() % 4) {
        case 0:
          break;
        case 1:
          bytes = 1024;
          break;
        case 2:
          bytes = in_.byte();
          break;
        default:
          bytes = in_.half() % (wire::kMaxPayload + 1);
          break;
      }
    }
    if (info.reth)
      h.length = (flags & 64) != 0 ? static_cast<std::uint32_t>(in_.number()) : 3 * 1024;
    if (info.reth && info.last && info.payload && (flags & 64) == 0) {
      h.length = static_cast<std::uint32_t>(bytes);
    }
    wire::Redirect redirect{Scene::third_gid(), {2, 0, 0, 0, 0, 66}};
    if (info.mig_eth) {
      // As the far end would say it, or the QP itself to its tombstone.
      const bool home = h.opcode == wire::kResume && (who == kTombstone || who == kRedirecting);
      h.mig.flags = who == kRtr ? wire::kMigRtr : 0;
      const std::uint8_t say = in_.byte();
      if (home && (say & 1) != 0) h.mig.flags = wire::kMigHome | wire::kMigRtr;
      if ((say & 0x30) == 0x30) h.mig.flags = say & 7;
      h.mig.epoch = 1 + (say >> 6);
      const std::uint8_t odd = in_.byte();
      if ((odd & 3) == 3) h.mig.version = in_.byte();
      if ((odd & 12) == 12) h.mig.flags = in_.byte();
      if ((odd & 0x30) == 0x30) h.mig.epoch = in_.word();
      sign(who, &path, &h);
      if ((odd & 0xc0) == 0xc0) h.mig.token ^= 1;
      if ((h.mig.flags & wire::kMigRedirect) != 0 && bytes == 0) bytes = wire::kRedirectBytes;
    }
    wire::FrameBuilder builder(path, h, bytes);
    const std::uint8_t pattern = in_.byte();
    for (std::uint8_t& byte : builder.payload()) byte = pattern;
    if (info.mig_eth && bytes == wire::kRedirectBytes)
      wire::put_redirect(redirect, builder.payload());
    const auto span = builder.finish();
    Frame frame(span.begin(), span.end());
    if (info.mig_eth && pattern >= 0xe0) {
      // MigrOS's own, without a MigETH.
      const auto at = frame.begin() + static_cast<std::ptrdiff_t>(kIp + (path.ipv4 ? 20 : 40) + 24);
      frame.erase(at, at + 16);
      fix_lengths(&frame);
      fix_icrc(&frame);
    }
    if ((flags & 128) != 0) spoil(&frame);
    deliver(frame);
    keep_last();
  }

  // A whole message in order, or with a gap; what it says of its length is right or not.
  void message() {
    static constexpr std::uint8_t kOf[2][2][2] = {
        {{wire::kSendMiddle, wire::kSendLast}, {wire::kSendFirst, wire::kSendOnly}},
        {{wire::kWriteMiddle, wire::kWriteLast}, {wire::kWriteFirst, wire::kWriteOnly}}};
    const unsigned who = in_.below(kWhoCount);
    const std::uint8_t how = in_.byte();
    const unsigned packets = 1 + how % 4;
    const bool write = (how & 4) != 0;
    const std::size_t rest = in_.half() % 1025;
    wire::Headers h;
    h.dest_qpn = scene_.qp[who].qpn;
    h.extended = true;
    h.rkey = far_key(&h.va);
    h.length = static_cast<std::uint32_t>((packets - 1) * 1024 + rest + (how >= 0xe0 ? 1 : 0));
    h.psn = expected_psn(who, wire::kOpcodes[wire::kSendOnly]) & wire::kPsnMask;
    for (unsigned i = 0; i < packets; ++i, h.psn = (h.psn + 1) & wire::kPsnMask) {
      const bool last = i + 1 == packets;
      h.opcode = kOf[write][i == 0][last];
      if (last && (how & 8) != 0) ++h.opcode;  // with immediate data
      h.ack_request = last;
      if ((how & 16) != 0 && i == 1) continue;
      wire::FrameBuilder builder(scene_.path(who), h, last ? rest : 1024);
      for (std::uint8_t& byte : builder.payload()) byte = how;
      const auto span = builder.finish();
      deliver({span.begin(), span.end()});
    }
    keep_last();
  }

  // Some bytes, or its length; with a check sum that fits, or not.
  void spoil(Frame* frame) {
    const std::uint8_t how = in_.byte();
    for (unsigned n = how & 3; n > 0; --n) {
      const std::uint16_t at = in_.half();
      (*frame)[at % frame->size()] ^= in_.byte();
    }
    if ((how & 4) != 0) frame->resize(in_.half() % 1600);
    if ((how & 8) != 0) fix_lengths(frame);
    if ((how & 16) == 0) fix_icrc(frame);
  }

  Input in_;
  Scene scene_;
  Frame last_;      // that the device has sent
  Frame previous_;  // that it was given
};

}  // namespace
}  // namespace godwit::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  godwit::fuzz::Packets(godwit::fuzz::Input(data, size)).run();
  return 0;
}
