// SPDX-License-Identifier: GPL-2.0-or-later
//
// Who may move a QP: every reason to drop a packet of the migration protocol, the counter that it
// has, and that nothing else happens. docs/spec/migration.md, sections 1, 3 and 4.
#include <cstring>
#include <functional>
#include <map>

#include "transport/token.h"
#include "unit/pair.h"
#include "wire/icrc.h"
#include "wire/packet.h"

namespace godwit::test {
namespace {

using Counts = std::map<unsigned, std::uint64_t>;

constexpr Gid kFarGid = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 77, 0, 9};
constexpr Mac kFarMac = {2, 0, 0, 0, 0, 9};
constexpr Gid kThirdGid = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 77, 0, 66};
constexpr Mac kThirdMac = {2, 0, 0, 0, 0, 66};
constexpr std::uint32_t kFarQpn = 0x1234;
constexpr std::uint32_t kFarPsn = 0x000100;  // where the far end began to send
constexpr std::uint32_t kOwnPsn = 0x000200;
constexpr std::uint64_t kSecond = 1'000'000'000;

// What somebody puts on the wire for us.
struct Forged {
  Gid from = kFarGid;
  Mac from_mac = kFarMac;
  Gid to = Pair::gid();
  wire::Headers h;
  std::size_t trailing = 0;
  bool bare = false;  // no MigETH
  bool ipv6 = false;
  std::uint16_t reserved = 0;
  bool bad_icrc = false;
};

class Guard : public testing::Test {
 protected:
  void SetUp() override { boot(small_config(1)); }

  void boot(const godwit_device_config& config, bool to_rts = true) {
    pair_.reset();
    machine_ = std::make_unique<Machine>(config, &clock_, 512);
    machine_->start();
    pair_ = std::make_unique<Pair>(*machine_);
    pair_->connect();
    qp_ = pair_->qp[0];
    qp_.qpn = 0;
    qp_.buffer = {};
    Pair::must(machine_->create_qp(&qp_));
    Pair::must(machine_->to_init(qp_, options_));
    Pair::must(machine_->to_rtr(qp_, options_, {kFarGid, kFarMac, kFarQpn, kFarPsn}));
    if (to_rts) Pair::must(machine_->to_rts(qp_, options_, kOwnPsn));
    run();
  }

  void run() { ASSERT_TRUE(machine_->run()); }

  Counts counts() const {
    Counts all;
    for (unsigned i = 0; i < GODWIT_COUNTER_COUNT; ++i) all[i] = pair_->counter(i);
    return all;
  }

  Frame build(const Forged& forged) const {
    wire::Path path;
    path.ipv4 = !forged.ipv6;
    path.sgid = forged.from;
    path.smac = forged.from_mac;
    path.dgid = forged.to;
    path.dmac = Pair::kMac;
    wire::FrameBuilder builder(path, forged.h, forged.trailing);
    for (std::uint8_t& byte : builder.payload()) byte = 0;
    const auto span = builder.finish();
    Frame frame(span.begin(), span.end());
    const std::size_t ip = forged.ipv6 ? 40 : 20;
    const std::size_t mig = 14 + ip + 8 + 12 + 4;
    if (wire::kOpcodes[forged.h.opcode].mig_eth) {
      frame[mig + 2] = static_cast<std::uint8_t>(forged.reserved >> 8);
      frame[mig + 3] = static_cast<std::uint8_t>(forged.reserved);
    }
    if (forged.bare) {
      frame.erase(frame.begin() + static_cast<long>(mig),
                  frame.begin() + static_cast<long>(mig) + 16);
      frame[14 + 3] = static_cast<std::uint8_t>(frame[14 + 3] - 16);  // lengths: IP, UDP
      frame[14 + ip + 5] = static_cast<std::uint8_t>(frame[14 + ip + 5] - 16);
      while (frame.size() < 60) frame.push_back(0);
    }
    const std::size_t end = forged.ipv6 ? 54 + frame[14 + 5] : 14U + frame[14 + 3];
    const std::uint32_t crc = wire::icrc({frame.data() + 14, end - 14 - 4}, ip);
    std::memcpy(frame.data() + end - 4, &crc, 4);
    if (forged.bad_icrc) frame[end - 1] ^= 1;
    return frame;
  }

  // The frame comes. Exactly these counters rise, but for those of packets and bytes.
  void expect(const Forged& forged, Counts rise) {
    Counts before = counts();
    machine_->receive(build(forged));
    run();
    for (const auto& [counter, now] : counts()) {
      if (counter <= GODWIT_COUNTER_TX_RDMA_BYTES ||
          (counter >= GODWIT_COUNTER_ETH_RX_FRAMES && counter <= GODWIT_COUNTER_ETH_TX_ERRORS)) {
        continue;
      }
      EXPECT_EQ(now - before[counter], rise[counter]) << "counter " << counter;
    }
  }

  // As `expect`; and the QP is as it was, and nothing is answered.
  void expect_dropped(const Forged& forged, const Counts& rise) {
    const godwit_qp_info before = machine_->query_qp(qp_.qpn);
    machine_->sent.clear();
    expect(forged, rise);
    godwit_qp_info after = machine_->query_qp(qp_.qpn);
    // That a packet came is counted.
    after.rx_packets = before.rx_packets;
    after.rx_bytes = before.rx_bytes;
    EXPECT_EQ(std::memcmp(&before, &after, sizeof(before)), 0);
    EXPECT_TRUE(machine_->sent.empty());
  }

  // A RESUME of the far end, as it would send it.
  Forged resume(std::uint32_t epoch, std::uint8_t flags = 0) const {
    Forged forged;
    forged.h.opcode = wire::kResume;
    forged.h.dest_qpn = qp_.qpn;
    forged.h.extended = true;
    forged.h.mig.epoch = epoch;
    forged.h.mig.flags = flags;
    sign(&forged);
    return forged;
  }

  // With all that the far end knows, for the address that the packet comes from.
  void sign(Forged* forged) const {
    transport::TokenInput input;
    const wire::MigEth& mig = forged->h.mig;
    input.flags = mig.flags;
    input.mover_qpn = kFarQpn;
    input.peer_qpn = qp_.qpn;
    input.initial_psn = (mig.flags & wire::kMigRtr) != 0 ? kOwnPsn : kFarPsn;
    input.epoch = mig.epoch;
    input.mover_gid = forged->from;
    forged->h.mig.token = transport::token(input);
  }

  Forged from_third(Forged forged) const {
    forged.from = kThirdGid;
    forged.from_mac = kThirdMac;
    return forged;
  }

  Forged nak_stopped(std::uint32_t psn) const {
    Forged forged;
    forged.h.opcode = wire::kAcknowledge;
    forged.h.dest_qpn = qp_.qpn;
    forged.h.extended = true;
    forged.h.psn = psn & wire::kPsnMask;
    forged.h.aeth.syndrome = wire::kNakStopped;
    return forged;
  }

  // One SEND that nobody answers.
  void post_send() {
    SendWork work;
    work.sges = {{pair_->region[0].iova, 8, pair_->region[0].key}};
    qp_.write_send(work);
    machine_->ring_sq(qp_);
    run();
  }

  // The QP moves: out and in again at the same NIC.
  void move(std::uint32_t attempt) {
    Machine& m = *machine_;
    std::vector<std::uint8_t> state;
    Pair::must(m.scope(GODWIT_CMD_STOP, GODWIT_SCOPE_QP, qp_.qpn));
    Pair::must(m.save_object(GODWIT_STATE_QP, 1, qp_.qpn, &state));
    Pair::must(m.tombstone(qp_.qpn, 7));
    Pair::must(m.create_qp(&qp_, true, 7));
    Pair::must(m.load_object(GODWIT_STATE_QP, 1, qp_.qpn, state, 0));
    Pair::must(m.attach(GODWIT_STATE_QP, 1, qp_.qpn, qp_.buffer));
    Pair::must(m.resume(GODWIT_SCOPE_QP, qp_.qpn, attempt, 0));
    run();
  }

  std::vector<wire::Headers> sent() {
    std::vector<wire::Headers> all;
    for (const Frame& frame : machine_->sent) {
      wire::Packet packet;
      if (wire::parse(frame, &packet) == wire::Parse::kOk) all.push_back(packet.h);
    }
    machine_->sent.clear();
    return all;
  }

  Gid av_gid() {
    Gid gid;
    const godwit_qp_info info = machine_->query_qp(qp_.qpn);
    std::memcpy(gid.data(), info.attr.av.dgid, gid.size());
    return gid;
  }

  std::uint64_t clock_ = 1;
  ConnectOptions options_;
  std::unique_ptr<Machine> machine_;
  std::unique_ptr<Pair> pair_;
  QueuePair qp_;
};

struct Reason {
  const char* name;
  std::function<void(Forged*, const Forged&)> change;  // of a RESUME that would be taken
  unsigned counter;
  bool is_resume = true;  // the QP sees it as one
};

TEST_F(Guard, EveryReasonToDropAResumeHasItsCounter) {
  const Reason reasons[] = {
      {"wrong token", [](Forged* f, const Forged&) { f->h.mig.token ^= 1; },
       GODWIT_COUNTER_RESUME_BAD_TOKEN},
      {"no token", [](Forged* f, const Forged&) { f->h.mig.token = 0; },
       GODWIT_COUNTER_RESUME_BAD_TOKEN},
      {"another epoch than the token's", [](Forged* f, const Forged&) { ++f->h.mig.epoch; },
       GODWIT_COUNTER_RESUME_BAD_TOKEN},
      {"another address than the token's",
       [](Forged* f, const Forged&) {
         f->from = kThirdGid;
         f->from_mac = kThirdMac;
       },
       GODWIT_COUNTER_RESUME_BAD_TOKEN},
      {"signed for RTR", [](Forged* f, const Forged& rtr) { f->h.mig.token = rtr.h.mig.token; },
       GODWIT_COUNTER_RESUME_BAD_TOKEN},
      {"signed for RTS, sent as RTR",
       [](Forged* f, const Forged&) { f->h.mig.flags = wire::kMigRtr; },
       GODWIT_COUNTER_RESUME_BAD_TOKEN},
      {"version 0", [](Forged* f, const Forged&) { f->h.mig.version = 0; },
       GODWIT_COUNTER_RESUME_BAD_VERSION},
      {"version 2", [](Forged* f, const Forged&) { f->h.mig.version = 2; },
       GODWIT_COUNTER_RESUME_BAD_VERSION},
      {"HOME", [](Forged* f, const Forged&) { f->h.mig.flags = wire::kMigHome; },
       GODWIT_COUNTER_RESUME_BAD_VERSION},
      {"unknown flag", [](Forged* f, const Forged&) { f->h.mig.flags = 0x80; },
       GODWIT_COUNTER_RESUME_BAD_VERSION},
      {"reserved bytes", [](Forged* f, const Forged&) { f->reserved = 0x0100; },
       GODWIT_COUNTER_RESUME_BAD_VERSION},
      {"reserved bytes", [](Forged* f, const Forged&) { f->reserved = 1; },
       GODWIT_COUNTER_RESUME_BAD_VERSION},
      {"something behind it", [](Forged* f, const Forged&) { f->trailing = 4; },
       GODWIT_COUNTER_RESUME_BAD_VERSION},
      {"MigrOS's own", [](Forged* f, const Forged&) { f->bare = true; },
       GODWIT_COUNTER_RESUME_BAD_VERSION},
      {"other IP version", [](Forged* f, const Forged&) { f->ipv6 = true; },
       GODWIT_COUNTER_RESUME_BAD_ADDRESS},
      {"P_Key", [](Forged* f, const Forged&) { f->h.pkey = 0x8001; }, GODWIT_COUNTER_RX_BAD_PKEY,
       false},
      {"no such QP", [](Forged* f, const Forged&) { f->h.dest_qpn ^= 0x800000; },
       GODWIT_COUNTER_RX_NO_QP, false},
      {"ICRC", [](Forged* f, const Forged&) { f->bad_icrc = true; },
       GODWIT_COUNTER_RX_ICRC_ENCAPSULATED, false},
  };
  const Forged good = resume(1);
  const Forged rtr = resume(1, wire::kMigRtr);
  for (const Reason& reason : reasons) {
    SCOPED_TRACE(reason.name);
    Forged forged = good;
    reason.change(&forged, rtr);
    Counts rise = {{reason.counter, 1}};
    if (reason.is_resume) rise[GODWIT_COUNTER_RX_RESUME] = 1;
    expect_dropped(forged, rise);
    clock_ += kSecond;  // wrong tokens of one case are not those of the next
  }
  // A GID of this NIC, but not the QP's.
  Pair::must(machine_->set_gid(1, ipv4_gid(10, 77, 0, 77), Pair::kMac));
  Forged elsewhere = good;
  elsewhere.to = ipv4_gid(10, 77, 0, 77);
  expect_dropped(elsewhere, {{GODWIT_COUNTER_RX_BAD_ADDRESS, 1}});
  // And what all of them were made of is taken.
  expect(good, {{GODWIT_COUNTER_RX_RESUME, 1},
                {GODWIT_COUNTER_RESUME_ACCEPTED, 1},
                {GODWIT_COUNTER_TX_RESUME_ACK, 1}});
}

TEST_F(Guard, EpochsOnlyRise) {
  const Counts taken = {{GODWIT_COUNTER_RX_RESUME, 1},
                        {GODWIT_COUNTER_RESUME_ACCEPTED, 1},
                        {GODWIT_COUNTER_TX_RESUME_ACK, 1}};
  const Counts stale = {{GODWIT_COUNTER_RX_RESUME, 1}, {GODWIT_COUNTER_RESUME_STALE_EPOCH, 1}};
  // Signed for the address that it comes from: only the epoch is wrong.
  Forged third = from_third(resume(0));
  sign(&third);
  expect_dropped(third, stale);
  const Forged second = resume(2);
  expect(second, taken);
  machine_->sent.clear();
  // A copy from where the QP is sent to is answered again, and that is all.
  expect(second, {{GODWIT_COUNTER_RX_RESUME, 1}, {GODWIT_COUNTER_TX_RESUME_ACK, 1}});
  const auto answers = sent();
  ASSERT_EQ(answers.size(), 1U);
  EXPECT_EQ(answers[0].opcode, wire::kResumeAck);
  EXPECT_EQ(answers[0].dest_qpn, kFarQpn);
  third = from_third(resume(2));
  sign(&third);
  expect_dropped(third, stale);
  expect_dropped(resume(1), stale);
  expect(resume(3), taken);
  machine_->sent.clear();
  expect_dropped(second, stale);
  EXPECT_EQ(av_gid(), kFarGid);
}

// Section 4 says what one can do who knows both QPNs and the PSN: all.
TEST_F(Guard, WhoKnowsQpnsAndPsnMovesTheQp) {
  Forged third = from_third(resume(1));
  sign(&third);
  expect(third, {{GODWIT_COUNTER_RX_RESUME, 1},
                 {GODWIT_COUNTER_RESUME_ACCEPTED, 1},
                 {GODWIT_COUNTER_TX_RESUME_ACK, 1}});
  EXPECT_EQ(av_gid(), kThirdGid);
  EXPECT_EQ(machine_->query_qp(qp_.qpn).peer_epoch.raw, 1U);
}

TEST_F(Guard, ResumeFromRtrWaitsUntilThePsnIsKnown) {
  boot(small_config(1), false);
  const Forged rtr = resume(1, wire::kMigRtr);
  expect_dropped(rtr, {{GODWIT_COUNTER_RX_RESUME, 1}, {GODWIT_COUNTER_RESUME_BAD_TOKEN, 1}});
  Pair::must(machine_->to_rts(qp_, options_, kOwnPsn));
  expect(rtr, {{GODWIT_COUNTER_RX_RESUME, 1},
               {GODWIT_COUNTER_RESUME_ACCEPTED, 1},
               {GODWIT_COUNTER_TX_RESUME_ACK, 1}});
}

TEST_F(Guard, BareResumeIsTakenOnlyWhereTheUserAsksForIt) {
  godwit_device_config config = small_config(1);
  config.bare_resume = true;
  boot(config);
  Forged bare = from_third(resume(0));
  bare.bare = true;
  expect(bare, {{GODWIT_COUNTER_RX_RESUME, 1}, {GODWIT_COUNTER_RESUME_ACCEPTED, 1}});
  EXPECT_EQ(av_gid(), kThirdGid);
}

TEST_F(Guard, WithoutTheExtensionThereIsNoResume) {
  godwit_device_config config = small_config(1);
  config.migration = false;
  boot(config);
  expect_dropped(resume(1), {{GODWIT_COUNTER_RX_NO_QP, 1}});
  post_send();
  expect(nak_stopped(kOwnPsn),
         {{GODWIT_COUNTER_RX_NAK_STOPPED, 1}, {GODWIT_COUNTER_NAK_STOPPED_IGNORED, 1}});
  EXPECT_EQ(machine_->query_qp(qp_.qpn).ext.raw, 0U);
}

TEST_F(Guard, ResumeToAQpThatIsNotConnected) {
  Pair::must(machine_->set_status(qp_.qpn, GODWIT_QP_STATUS_ERROR));
  run();
  expect_dropped(resume(1), {{GODWIT_COUNTER_RX_NO_QP, 1}});
  Pair::must(machine_->set_status(qp_.qpn, GODWIT_QP_STATUS_RESET));
  expect_dropped(resume(1), {{GODWIT_COUNTER_RX_NO_QP, 1}});
}

TEST_F(Guard, ResumeAckCountsOnceAndOnlyForItsResume) {
  const Counts unexpected = {{GODWIT_COUNTER_RX_RESUME_ACK, 1},
                             {GODWIT_COUNTER_RESUME_ACK_UNEXPECTED, 1}};
  const auto ack = [this](std::uint32_t epoch, std::uint8_t flags = 0) {
    Forged forged;
    forged.h.opcode = wire::kResumeAck;
    forged.h.dest_qpn = qp_.qpn;
    forged.h.extended = true;
    forged.h.mig.epoch = epoch;
    forged.h.mig.flags = flags;
    transport::TokenInput input;
    input.type = transport::TokenType::kResumeAck;
    input.flags = flags;
    input.mover_qpn = qp_.qpn;
    input.peer_qpn = kFarQpn;
    input.initial_psn = (flags & wire::kMigRtr) != 0 ? kFarPsn : kOwnPsn;
    input.epoch = epoch;
    input.mover_gid = Pair::gid();
    forged.h.mig.token = transport::token(input);
    return forged;
  };
  expect_dropped(ack(0), unexpected);  // nobody has asked
  expect_dropped(ack(1), unexpected);
  // The far end shows the capability bit: else there is no RESUME.
  Forged request = nak_stopped(0);
  request.h.opcode = wire::kWriteOnly;
  request.h.psn = kFarPsn;
  machine_->receive(build(request));
  move(2);
  ASSERT_EQ(machine_->query_qp(qp_.qpn).own_epoch.raw, 2U);
  Forged resumed;
  for (const wire::Headers& h : sent()) {
    if (h.opcode == wire::kResume) resumed.h = h;
  }
  ASSERT_EQ(resumed.h.mig.epoch, 2U);
  struct Case {
    const char* name;
    Forged forged;
  };
  const Forged good = ack(2);
  Case cases[] = {
      {"earlier epoch", ack(1)}, {"later epoch", ack(3)},     {"flag RTR", ack(2, wire::kMigRtr)},
      {"wrong token", good},     {"version", good},           {"something behind it", good},
      {"no MigETH", good},       {"the RESUME's token", good}};
  cases[3].forged.h.mig.token ^= std::uint64_t{1} << 63;
  cases[4].forged.h.mig.version = 2;
  cases[5].forged.trailing = 8;
  cases[6].forged.bare = true;
  cases[7].forged.h.mig.token = resumed.h.mig.token;
  for (const Case& one : cases) {
    SCOPED_TRACE(one.name);
    expect_dropped(one.forged, unexpected);
  }
  // From wherever it comes: it moves nothing.
  expect(from_third(good), {{GODWIT_COUNTER_RX_RESUME_ACK, 1}});
  EXPECT_EQ(av_gid(), kFarGid);
  EXPECT_EQ(machine_->query_qp(qp_.qpn).ext.raw, 0U);
  machine_->sent.clear();
  expect_dropped(good, unexpected);  // a copy
}

TEST_F(Guard, NakStoppedOutsideTheWindowIsIgnored) {
  const Counts ignored = {{GODWIT_COUNTER_RX_NAK_STOPPED, 1},
                          {GODWIT_COUNTER_NAK_STOPPED_IGNORED, 1}};
  expect_dropped(nak_stopped(kOwnPsn), ignored);  // nothing to wait for
  post_send();
  expect_dropped(nak_stopped(kOwnPsn - 1), ignored);
  expect_dropped(nak_stopped(kOwnPsn + 2), ignored);
  expect_dropped(nak_stopped(kOwnPsn + 0x800000), ignored);
  expect_dropped(from_third(nak_stopped(kOwnPsn)), {{GODWIT_COUNTER_RX_BAD_ADDRESS, 1}});
  EXPECT_EQ(machine_->query_qp(qp_.qpn).ext.raw, 0U);
}

// One in the window, from who knows the peer's address and a PSN: the QP asks again after its ACK
// timeout, spends no retry, and any answer ends the pause.
TEST_F(Guard, ForgedNakStoppedCostsOneAckTimeout) {
  post_send();
  sent();
  expect(nak_stopped(kOwnPsn), {{GODWIT_COUNTER_RX_NAK_STOPPED, 1}});
  EXPECT_EQ(machine_->query_qp(qp_.qpn).ext.raw, GODWIT_QP_EXT_PAUSED_MASK);
  EXPECT_TRUE(sent().empty());
  clock_ += std::uint64_t{4096} << options_.timeout;
  run();
  const auto probe = sent();
  ASSERT_EQ(probe.size(), 1U);
  EXPECT_EQ(probe[0].psn, kOwnPsn);
  EXPECT_EQ(pair_->counter(GODWIT_COUNTER_PROBES), 1U);
  Forged answer = nak_stopped(kOwnPsn);
  answer.h.aeth.syndrome = wire::kSyndromeAck;
  machine_->receive(build(answer));
  run();
  EXPECT_EQ(machine_->query_qp(qp_.qpn).ext.raw, 0U);
  const auto done = pair_->cq[0].poll();
  ASSERT_TRUE(done.has_value());
  EXPECT_EQ(done->status, GODWIT_CQE_SUCCESS);
}

// While it is Resuming, only its RESUME_ACK counts.
TEST_F(Guard, NakStoppedDoesNotPauseAQpThatResumes) {
  Forged request = nak_stopped(0);
  request.h.opcode = wire::kWriteOnly;
  request.h.psn = kFarPsn;
  machine_->receive(build(request));
  post_send();
  move(1);
  machine_->sent.clear();
  expect_dropped(nak_stopped(kOwnPsn),
                 {{GODWIT_COUNTER_RX_NAK_STOPPED, 1}, {GODWIT_COUNTER_NAK_STOPPED_IGNORED, 1}});
  EXPECT_EQ(machine_->query_qp(qp_.qpn).ext.raw, GODWIT_QP_EXT_RESUMING_MASK);
}

}  // namespace
}  // namespace godwit::test
