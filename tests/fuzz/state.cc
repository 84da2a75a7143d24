// SPDX-License-Identifier: GPL-2.0-or-later
//
// Saved state that nobody has saved: whole devices, queue pairs and completion queues, changed
// behind check sums that fit. It is refused, or the device goes on from it like from any other:
// what it saves then can be loaded, and is the same.
#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>

#include "fuzz/scene.h"
#include "transport/snapshot.h"
#include "transport/transport.h"

namespace godwit::fuzz {
namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr unsigned kEdits = 16;

// Changes some bytes: single ones, or numbers at places of their size.
void edit(Input* in, std::span<std::uint8_t> bytes) {
  for (unsigned n = in->byte() % kEdits; n > 0 && !in->empty(); --n) {
    const std::uint8_t how = in->byte();
    const unsigned size = 1u << (how & 3);
    std::size_t at = in->half();
    if (bytes.size() > UINT16_MAX) at = at << 8 | in->byte();
    // Fields of a saved QP lie at multiples of their size, those of a device anywhere.
    if ((how & 4) != 0) at *= size;
    at %= bytes.size();
    std::uint64_t value = 0;
    const std::size_t length = std::min<std::size_t>(size, bytes.size() - at);
    std::memcpy(&value, &bytes[at], length);
    switch (how >> 3 & 3) {
      case 0:
        value = in->number();
        break;
      case 1:
        value += static_cast<std::uint64_t>(static_cast<std::int8_t>(in->byte()));
        break;
      case 2:
        value ^= std::uint64_t{1} << in->byte() % (8 * size);
        break;
      default:
        value = 0;
        break;
    }
    std::memcpy(&bytes[at], &value, length);
  }
}

// A saved QP in a device has a check sum of its own.
void fix_check_sums(std::span<std::uint8_t> bytes) {
  godwit_qp_state state;
  for (std::size_t at = 0; at + sizeof(state) <= bytes.size(); ++at) {
    std::memcpy(&state.header, &bytes[at], sizeof(state.header));
    if (state.header.magic.raw != GODWIT_STATE_MAGIC) continue;
    std::memcpy(&state, &bytes[at], sizeof(state));
    const std::uint32_t crc = transport::state_crc(&state, sizeof(state));
    std::memcpy(&bytes[at + offsetof(godwit_state_header, crc32)], &crc, sizeof(crc));
  }
}

// What the transport has taken it saves, takes again, and saves as the same.
void check_fixed_point(const godwit_qp_state& state) {
  const auto load = [](const godwit_qp_state& from) -> std::optional<transport::Qp> {
    transport::Qp qp;
    qp.qpn = from.qpn.raw;
    qp.type = from.type;
    qp.log2_sq_depth = from.log2_sq_depth;
    qp.log2_rq_depth = from.log2_rq_depth;
    if (qp.log2_sq_depth > 15 || (qp.log2_rq_depth > 15 && qp.has_rq())) return {};
    if (transport::load_qp(qp, 1, from) != nullptr) return {};
    return qp;
  };
  const auto first = load(state);
  if (!first) return;
  godwit_qp_state once;
  transport::save_qp(*first, 1, &once);
  const auto second = load(once);
  require(second.has_value(), "what a QP saves can be loaded");
  godwit_qp_state twice;
  transport::save_qp(*second, 1, &twice);
  require(std::memcmp(&once, &twice, sizeof(once)) == 0, "and is the same when it is saved again");
}

class Loads {
 public:
  explicit Loads(Input input) : in_(input), scene_(scene_config()), m_(scene_.m) {}

  void run() {
    switch (in_.byte() % 4) {
      case 0:
        completion_queue();
        break;
      case 1:
        device();
        break;
      default:
        queue_pair();
        break;
    }
  }

 private:
  // Some life, whatever has become of it: time, packets of the peer, doorbells.
  void live() {
    for (unsigned n = 0; n < 16 && !in_.empty(); ++n) {
      const unsigned who = in_.below(kWhoCount);
      switch (in_.byte() % 4) {
        case 0:
          scene_.clock += in_.number() % (2000 * kMillisecond);
          break;
        case 1:
          scene_.post(who, scene_.work(GODWIT_WR_WRITE, in_.byte()));
          break;
        case 2:
          scene_.drain_completions();
          break;
        default: {
          static constexpr std::uint8_t kOpcodes[] = {wire::kAcknowledge, wire::kSendOnly,
                                                      wire::kWriteMiddle, wire::kSendLast,
                                                      wire::kReadRequest, wire::kReadResponseOnly};
          wire::Headers h;
          h.opcode = kOpcodes[in_.below(std::size(kOpcodes))];
          h.extended = h.ack_request = true;
          h.dest_qpn = scene_.qp[who].qpn;
          const bool own = wire::kOpcodes[h.opcode].role == wire::Role::kResponse;
          h.psn = ((own ? Scene::own_psn(who) : Scene::far_psn(who)) + in_.byte() - 4u) &
                  wire::kPsnMask;
          if (in_.byte() == 0xff) h.psn = in_.word() & wire::kPsnMask;
          h.aeth.syndrome = in_.chance() ? 0x1f : in_.byte();
          h.va = scene_.open.iova;
          h.rkey = scene_.open.key;
          h.length = in_.half();
          const Bytes payload(wire::kOpcodes[h.opcode].payload ? 1024 : 0);
          scene_.receive(scene_.path(who), h, payload);
          break;
        }
      }
      scene_.run();
      m_.sent.clear();
    }
  }

  void device() {
    scene_.m.on_dma_write = nullptr;  // it may name any memory
    Bytes state = m_.save();
    edit(&in_, state);
    if (in_.byte() % 8 == 0) state.resize(in_.half() % (state.size() + 64));
    if (in_.byte() % 8 != 0) fix_check_sums(state);
    if (m_.load(state) != nullptr) {
      require(m_.reg(GODWIT_REG_CONTROL) == 0 && m_.next_deadline() == GODWIT_NO_DEADLINE,
              "what is refused leaves a device as after a reset");
      return;
    }
    const Bytes once = m_.save();
    require(m_.load(once) == nullptr, "what a device saves can be loaded");
    require(m_.save() == once, "and is the same when it is saved again");
    scene_.run();
    live();
    (void)m_.run(20000);
    require(m_.load(m_.save()) == nullptr, "what a device saves later can be loaded too");
  }

  void queue_pair() {
    static constexpr unsigned kWhos[] = {kIdle, kBusy, kRtr, kPaused, kResuming, kError, kDraining};
    const unsigned who = kWhos[in_.below(std::size(kWhos))];
    QueuePair& qp = scene_.qp[who];
    must(m_.scope(GODWIT_CMD_STOP, GODWIT_SCOPE_QP, qp.qpn));
    Bytes bytes;
    must(m_.save_object(GODWIT_STATE_QP, 1, qp.qpn, &bytes));
    const bool with_tombstone = in_.chance();
    if (with_tombstone) {
      must(m_.tombstone(qp.qpn, 9));
    } else {
      must(m_.destroy_qp(qp.qpn));
    }
    edit(&in_, bytes);
    godwit_qp_state state;
    std::memcpy(&state, bytes.data(), sizeof(state));
    if (in_.byte() % 16 != 0) {
      state.header.crc32 = {transport::state_crc(&state, sizeof(state))};
      std::memcpy(bytes.data(), &state, sizeof(state));
    }
    check_fixed_point(state);
    must(m_.create_qp(&qp, true, with_tombstone ? 9 : 0));
    const bool early = in_.chance();
    if (early) must(m_.attach(GODWIT_STATE_QP, 1, qp.qpn, qp.buffer));
    const bool loaded = m_.load_object(GODWIT_STATE_QP, 1, qp.qpn, bytes, 0).ok();
    if (!early) must(m_.attach(GODWIT_STATE_QP, 1, qp.qpn, qp.buffer));
    if (in_.byte() % 4 == 0) scene_.reload();
    const Result resumed = m_.resume(GODWIT_SCOPE_QP, qp.qpn, 1 + in_.byte() % 2, in_.byte() & 1u);
    require(loaded || !resumed.ok(), "what was not loaded does not start");
    scene_.run();
    live();
    if (resumed.ok()) again(qp);
    scene_.bystander.check(&scene_.fence);
  }

  // The QP goes on to another place with what has become of it.
  void again(QueuePair& qp) {
    if (!m_.scope(GODWIT_CMD_STOP, GODWIT_SCOPE_QP, qp.qpn).ok()) return;
    Bytes bytes;
    must(m_.save_object(GODWIT_STATE_QP, 1, qp.qpn, &bytes));
    godwit_qp_state state;
    std::memcpy(&state, bytes.data(), sizeof(state));
    check_fixed_point(state);
    must(m_.tombstone(qp.qpn, 10));
    must(m_.create_qp(&qp, true, 10));
    require(m_.load_object(GODWIT_STATE_QP, 1, qp.qpn, bytes, 0).ok(), "a QP can move on");
  }

  void completion_queue() {
    CompletionQueue cq;
    cq.uctx = 1;
    cq.number = 6;
    cq.log2_depth = scene_.cq.log2_depth;
    cq.buffer = test::make_buffer(m_.memory(), (64u << cq.log2_depth) + sizeof(godwit_cq_record));
    Bytes bytes;
    must(m_.save_object(GODWIT_STATE_CQ, 1, scene_.cq.number, &bytes));
    edit(&in_, bytes);
    const std::uint32_t crc = transport::state_crc(bytes.data(), bytes.size());
    std::memcpy(&bytes[offsetof(godwit_state_header, crc32)], &crc, sizeof(crc));
    must(m_.create_cq(&cq, true));
    const bool loaded = m_.load_object(GODWIT_STATE_CQ, 1, cq.number, bytes, 0).ok();
    must(m_.attach(GODWIT_STATE_CQ, 1, cq.number, cq.buffer));
    scene_.fence.open(cq.buffer, 0, cq.record_offset);
    Bytes once;
    must(m_.save_object(GODWIT_STATE_CQ, 1, cq.number, &once));
    scene_.reload();
    Bytes twice;
    must(m_.save_object(GODWIT_STATE_CQ, 1, cq.number, &twice));
    require(once == twice, "a loaded CQ is saved as it was loaded");
    // A QP that completes there.
    QueuePair qp = scene_.qp[kIdle];
    qp.qpn = 0;
    qp.buffer = {};
    qp.send_cqn = qp.recv_cqn = cq.number;
    must(m_.create_qp(&qp));
    must(m_.to_init(qp, {}));
    qp.write_recv({{scene_.local.iova, 8, scene_.local.key}});
    must(m_.set_status(qp.qpn, GODWIT_QP_STATUS_ERROR));
    m_.doorbell(1, GODWIT_DB_RQ, qp.qpn, 0);
    m_.doorbell(1, GODWIT_DB_CQ_ARM, cq.number, in_.word());
    scene_.run();
    if (!loaded) {
      cq.consumer = 0;
      require(cq.poll().has_value(), "an empty CQ takes completions");
    }
    scene_.bystander.check(&scene_.fence);
  }

  Input in_;
  Scene scene_;
  Machine& m_;
};

}  // namespace
}  // namespace godwit::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  godwit::fuzz::Loads(godwit::fuzz::Input(data, size)).run();
  return 0;
}
