// SPDX-License-Identifier: GPL-2.0-or-later
//
// A guest, a peer and images that mean no good, from seeds: whatever comes, the
// device comes to rest, and the sanitizers have nothing to say.
#include <random>

#include "transport/snapshot.h"
#include "unit/pair.h"
#include "wire/packet.h"

namespace godwit::test {
namespace {

class Hostile : public ::testing::TestWithParam<unsigned> {
 protected:
  void SetUp() override { begin(); }

  std::uint64_t any() { return random_(); }
  std::uint64_t below(std::uint64_t n) { return random_() % n; }
  bool chance(unsigned percent) { return below(100) < percent; }
  // Small numbers, powers of two and their neighbours, and anything.
  std::uint64_t nasty() {
    switch (below(4)) {
      case 0:
        return below(20);
      case 1:
        return (std::uint64_t{1} << below(64)) - below(3);
      case 2:
        return UINT64_MAX - below(4096);
      default:
        return any();
    }
  }

  // A machine with two QPs that talk to each other, and one that talks to the wire.
  void begin() {
    pair_.reset();
    machine_ = std::make_unique<Machine>(small_config(1), &clock_, 512);
    Machine& m = *machine_;
    m.start();
    pair_ = std::make_unique<Pair>(m);
    pair_->connect();
    far_ = pair_->qp[0];
    far_.qpn = 0;
    far_.buffer = {};
    Pair::must(m.create_qp(&far_));
    ConnectOptions o;
    Pair::must(m.to_init(far_, o));
    Pair::must(m.to_rtr(far_, o, {kFarGid, kFarMac, 0x1234, 100}));
    Pair::must(m.to_rts(far_, o, 200));
    scratch_ = m.memory().contiguous(4 * 4096);
  }

  // Everything that lies in memory the guest may write at any time.
  void scribble() {
    Buffer* const targets[] = {&pair_->qp[0].buffer, &pair_->qp[1].buffer, &far_.buffer,
                               &pair_->cq[0].buffer, &pair_->cq[1].buffer};
    Buffer& target = *targets[below(std::size(targets))];
    const std::uint64_t at = below(target.length);
    const std::size_t n = std::min<std::size_t>(1 + below(8), target.length - at);
    const std::uint64_t value = nasty();
    target.write(at, &value, n);
  }

  void work_request() {
    QueuePair& qp = chance(50) ? far_ : pair_->qp[below(2)];
    SendWork w = pair_->work(static_cast<std::uint8_t>(below(12)),
                             static_cast<std::uint32_t>(below(3) == 0 ? nasty() : below(5000)));
    w.flags = static_cast<std::uint8_t>(chance(90) ? any() & 0x0f : any());
    if ((w.flags & GODWIT_WQE_INLINE_MASK) != 0) {
      w.sges.clear();
      w.inline_data.resize(below(300));
    }
    if (chance(10)) w.remote_addr = nasty();
    if (chance(10) && !w.sges.empty()) w.sges[0].addr = nasty();
    const std::uint64_t at = (qp.sq_producer & ((std::uint64_t{1} << qp.log2_sq) - 1))
                             << qp.log2_stride;
    qp.write_send(w);
    if (chance(20)) qp.buffer.put<std::uint8_t>(at + below(64), static_cast<std::uint8_t>(any()));
    if (chance(30))
      qp.write_recv(
          {{pair_->region[1].iova, static_cast<std::uint32_t>(nasty()), pair_->region[1].key}});
    machine_->doorbell(qp.uctx, GODWIT_DB_SQ, qp.qpn,
                       chance(90) ? qp.sq_producer : static_cast<std::uint32_t>(nasty()));
  }

  void doorbell() {
    const std::uint32_t numbers[] = {
        pair_->qp[0].qpn, far_.qpn, pair_->cq[0].number, 0, 1, static_cast<std::uint32_t>(nasty())};
    godwit_device_doorbell_write(
        machine_->device(), chance(80) ? below(3) * 4096 + below(10) * 8 : nasty(),
        nasty() << 32 | numbers[below(std::size(numbers))], chance(90) ? 8 : 1u << below(4));
  }

  void register_access() {
    std::uint64_t at = chance(80) ? below(0x80) : nasty();
    // What the test itself needs.
    if (at / 8 * 8 == GODWIT_REG_CMD_DOORBELL / 8 * 8) return;
    if (at / 4 * 4 == GODWIT_REG_CONTROL && chance(95)) return;
    godwit_device_register_write(machine_->device(), at, nasty(), 1u << below(4));
    godwit_device_register_read(machine_->device(), at, 1u << below(4));
  }

  void frame() {
    const godwit_qp_info info = machine_->query_qp(far_.qpn);
    wire::Path path;
    path.ipv4 = true;
    path.sgid = chance(95) ? kFarGid : Pair::gid();
    path.dgid = Pair::gid();
    path.smac = kFarMac;
    path.dmac = Pair::kMac;
    wire::Headers h;
    do {
      h.opcode = static_cast<std::uint8_t>(below(0x1a));
    } while (wire::kOpcodes[h.opcode].role == wire::Role::kNone);
    h.dest_qpn = far_.qpn;
    h.extended = chance(80);
    h.ack_request = chance(50);
    const bool response = wire::kOpcodes[h.opcode].role == wire::Role::kResponse;
    const std::uint32_t around = response ? info.attr.sq_psn.raw : info.attr.rq_psn.raw;
    h.psn = (around + (chance(60) ? 0 : below(300) - 150)) & wire::kPsnMask;
    h.va = chance(80) ? pair_->region[1].iova + below(70000) : nasty();
    h.rkey = chance(90) ? pair_->region[1].key : static_cast<std::uint32_t>(nasty());
    h.length = static_cast<std::uint32_t>(chance(70) ? below(70000) : nasty());
    static constexpr std::uint8_t kSyndromes[] = {0x1f, 0x1f, 0x20, 0x3f, 0x60, 0x60, 0x65, 0x65};
    h.aeth.syndrome = kSyndromes[below(std::size(kSyndromes))];
    h.mig.flags = static_cast<std::uint8_t>(below(8));
    h.mig.epoch = static_cast<std::uint32_t>(nasty());
    const std::size_t bytes =
        wire::kOpcodes[h.opcode].payload ? (chance(50) ? 1024 : below(4097)) : 0;
    wire::FrameBuilder builder(path, h, bytes);
    for (std::uint8_t& byte : builder.payload()) byte = static_cast<std::uint8_t>(any());
    const auto span = builder.finish();
    Frame f(span.begin(), span.end());
    if (chance(10)) f[below(f.size())] = static_cast<std::uint8_t>(any());
    if (chance(5)) f.resize(below(f.size() + 1));
    machine_->receive(f);
  }

  std::uint64_t address() {
    switch (below(6)) {
      case 0:
        return nasty();
      case 1:
        return scratch_ + below(8192);
      default:
        return scratch_ + below(64) * 64;
    }
  }

  void command() {
    // The scratch pages stand for mailboxes and page lists; they name memory of nobody's.
    for (unsigned i = 0; i < 64; ++i) {
      const std::uint64_t value = chance(50) ? scratch_ + below(4) * 4096 : nasty();
      machine_->memory().put(scratch_ + below(1024) * 8, value);
    }
    std::uint8_t params[56] = {};
    for (unsigned i = 0; i < sizeof(params); i += 4) {
      std::uint32_t word = 0;
      switch (below(6)) {
        case 0:
          word = static_cast<std::uint32_t>(nasty());
          break;
        case 1:
          word = pair_->qp[below(2)].qpn;
          break;
        case 2:
          word = far_.qpn;
          break;
        case 3:
          word = pair_->cq[below(2)].number;
          break;
        default:
          word = static_cast<std::uint32_t>(below(8));
          break;
      }
      std::memcpy(params + i, &word, 4);
    }
    if (chance(60)) {
      const std::uint64_t addr = address();
      std::memcpy(params, &addr, 8);
    }
    const std::size_t used = chance(90) ? below(8) * 8 : sizeof(params);
    std::memset(params + used, 0, sizeof(params) - used);
    (void)machine_->command_bytes(static_cast<std::uint8_t>(below(0x4c)), params, sizeof(params));
  }

  // A move whose image is not what was saved.
  void move() {
    Machine& m = *machine_;
    QueuePair qp = far_;
    std::vector<std::uint8_t> bytes;
    if (!m.scope(GODWIT_CMD_STOP, GODWIT_SCOPE_QP, qp.qpn).ok()) return;
    if (!m.save_object(GODWIT_STATE_QP, 1, qp.qpn, &bytes).ok()) return;
    godwit_qp_state state;
    std::memcpy(&state, bytes.data(), sizeof(state));
    for (std::uint64_t n = below(4); n > 0; --n) {
      bytes[16 + below(bytes.size() - 16)] = static_cast<std::uint8_t>(nasty());
    }
    std::memcpy(&state, bytes.data(), sizeof(state));
    state.header.crc32 = {transport::state_crc(&state, sizeof(state))};
    std::memcpy(bytes.data(), &state, sizeof(state));
    if (!m.tombstone(qp.qpn, 7).ok() || !m.create_qp(&qp, true, 7).ok()) return;
    if (m.load_object(GODWIT_STATE_QP, 1, qp.qpn, bytes, 0).ok()) {
      (void)m.attach(GODWIT_STATE_QP, 1, qp.qpn, qp.buffer);
      (void)m.resume(GODWIT_SCOPE_QP, qp.qpn, 1, static_cast<std::uint32_t>(below(2)));
    }
    ++moves_;
  }

  // The VM is saved, and something else is loaded.
  void snapshot() {
    auto state = machine_->save();
    for (std::uint64_t n = below(4); n > 0; --n) {
      state[below(state.size())] = static_cast<std::uint8_t>(nasty());
    }
    if (machine_->load(state) == nullptr) ++loads_;
  }

  static constexpr Gid kFarGid = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 77, 0, 9};
  static constexpr Mac kFarMac = {2, 0, 0, 0, 0, 9};

  std::mt19937_64 random_{GetParam()};
  std::uint64_t clock_ = 1;
  std::unique_ptr<Machine> machine_;
  std::unique_ptr<Pair> pair_;
  QueuePair far_;
  std::uint64_t scratch_ = 0;
  unsigned moves_ = 0;
  unsigned loads_ = 0;
};

TEST_P(Hostile, DeviceComesToRest) {
  for (int round = 0; round < 30; ++round) {
    begin();
    const bool commands = chance(50);
    for (int step = 0; step < 300; ++step) {
      // A fatal error, or a reset: the next guest.
      if ((machine_->reg(GODWIT_REG_STATUS) & GODWIT_STATUS_ENABLED_MASK) == 0) break;
      // Commands write wherever they are told to; then the test's own no longer work.
      switch (below(commands ? 8 : 6)) {
        case 0:
          scribble();
          break;
        case 1:
        case 2:
          work_request();
          break;
        case 3:
          doorbell();
          break;
        case 4:
          register_access();
          break;
        case 5:
          if (machine_
                  ->command(GODWIT_CMD_QUERY_QP,
                            godwit_cmd_qp_mailbox{
                                {machine_->mailbox()}, {sizeof(godwit_qp_info)}, {far_.qpn}})
                  .ok()) {
            frame();
          }
          break;
        default:
          command();
          break;
      }
      if (chance(10)) clock_ += below(200'000'000);
      if (chance(1) && round % 2 == 0) move();
      if (chance(1) && round % 3 == 0) {
        snapshot();
        (void)machine_->run(1000);
        break;
      }
      if (chance(50)) {
        ASSERT_TRUE(machine_->run(5000)) << "round " << round << " step " << step;
      }
      machine_->sent.clear();
    }
  }
  EXPECT_GT(moves_, 0u);
}

INSTANTIATE_TEST_SUITE_P(Seeds, Hostile, testing::Range(1U, 17U));

}  // namespace
}  // namespace godwit::test
