// SPDX-License-Identifier: GPL-2.0-or-later
//
// Two QPs of the transport on a link that loses, repeats and reorders; one end
// is stopped, saved, loaded into another QP, and resumed.
#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "godwit_cmd.h"
#include "godwit_counters.h"
#include "godwit_queue.h"
#include "transport/snapshot.h"
#include "transport/token.h"
#include "transport/transport.h"

namespace godwit::transport {
namespace {

constexpr std::size_t kMemory = 1 << 20;

// One end: a QP and doubles of all that the device gives it.
class End : public WorkQueues, public Memory, public Link {
 public:
  explicit End(unsigned number) : number_(number), memory(kMemory) {
    gid_.valid = gid_.ipv4 = true;
    gid_.gid = {0, 0, 0,    0,    0,  0, 0, 0,
                0, 0, 0xff, 0xff, 10, 0, 0, static_cast<std::uint8_t>(number)};
    gid_.mac = {2, 0, 0, 0, 0, static_cast<std::uint8_t>(number)};
    qp.qpn = 0x100;
    qp.type = GODWIT_QP_TYPE_RC;
    qp.log2_sq_depth = qp.log2_rq_depth = 8;
  }

  Fetch fetch_send(Qp&, std::uint16_t index, SendRequest* request) override {
    if (index >= sends.size()) return Fetch::kEmpty;
    *request = sends[index];
    return Fetch::kOk;
  }
  Fetch fetch_recv(Qp&, std::uint16_t index, RecvRequest* request) override {
    if (endless_recvs) {
      *request = {};
      return Fetch::kOk;
    }
    if (index >= recvs.size()) return Fetch::kEmpty;
    *request = recvs[index];
    return Fetch::kOk;
  }
  bool complete_send(Qp&, const SendCompletion& completion) override {
    send_completions.push_back(completion);
    return true;
  }
  bool complete_recv(Qp&, const RecvCompletion& completion) override {
    recv_completions.push_back(completion);
    return true;
  }
  void event(Qp&, QpEvent event) override { events.push_back(event); }

  template <typename F>
  Fault walk(std::span<const Sge> sges, std::uint32_t offset, std::size_t length, F&& f) {
    std::size_t done = 0;
    for (const Sge& sge : sges) {
      if (offset >= sge.length) {
        offset -= sge.length;
        continue;
      }
      const std::size_t n = std::min<std::size_t>(sge.length - offset, length - done);
      if (sge.addr + offset + n > memory.size()) return Fault::kLocalProtection;
      f(memory.data() + sge.addr + offset, done, n);
      done += n;
      offset = 0;
      if (done == length) break;
    }
    return done == length ? Fault::kNone : Fault::kLocalLength;
  }
  Fault gather(Qp&, std::span<const Sge> sges, std::uint32_t offset,
               std::span<std::uint8_t> to) override {
    return walk(sges, offset, to.size(), [&](const std::uint8_t* p, std::size_t at, std::size_t n) {
      std::memcpy(to.data() + at, p, n);
    });
  }
  Fault scatter(Qp&, std::span<const Sge> sges, std::uint32_t offset,
                std::span<const std::uint8_t> from) override {
    return walk(sges, offset, from.size(), [&](std::uint8_t* p, std::size_t at, std::size_t n) {
      std::memcpy(p, from.data() + at, n);
    });
  }
  Fault check_remote(Qp&, std::uint32_t rkey, std::uint64_t va, std::uint64_t length,
                     Access) override {
    return rkey == 1 && va <= kMemory && length <= kMemory - va ? Fault::kNone
                                                                : Fault::kRemoteAccessDenied;
  }
  Fault read_remote(Qp&, std::uint32_t, std::uint64_t va, std::span<std::uint8_t> to) override {
    std::memcpy(to.data(), memory.data() + va, to.size());
    return Fault::kNone;
  }
  Fault write_remote(Qp&, std::uint32_t, std::uint64_t va,
                     std::span<const std::uint8_t> from) override {
    std::memcpy(memory.data() + va, from.data(), from.size());
    return Fault::kNone;
  }
  Fault atomic_remote(Qp&, std::uint32_t, std::uint64_t va, AtomicOp op, std::uint64_t compare_add,
                      std::uint64_t swap, std::uint64_t* original) override {
    std::memcpy(original, memory.data() + va, 8);
    std::uint64_t value = *original;
    if (op == AtomicOp::kFetchAdd) value += compare_add;
    if (op == AtomicOp::kCompareSwap && value == compare_add) value = swap;
    std::memcpy(memory.data() + va, &value, 8);
    return Fault::kNone;
  }
  void send_frame(std::span<const std::uint8_t> frame) override {
    out.emplace_back(frame.begin(), frame.end());
  }
  const GidEntry* gid(std::uint16_t index) const override { return index == 0 ? &gid_ : nullptr; }
  void count(unsigned counter, std::uint64_t n) override { counters[counter] += n; }

  void connect(End& peer, std::uint8_t timeout = 14, std::uint8_t retries = 7) {
    QpAttributes a;
    a.status = Status::kInit;
    a.access = 0x0e;
    ASSERT_EQ(modify_qp(qp, ports, 0, a,
                        GODWIT_QP_ATTR_STATUS | GODWIT_QP_ATTR_PKEY_INDEX | GODWIT_QP_ATTR_ACCESS),
              ModifyResult::kOk);
    a.status = Status::kRtr;
    a.dgid = peer.gid_.gid;
    a.dmac = peer.gid_.mac;
    a.path_mtu = 1;
    a.dest_qpn = peer.qp.qpn;
    a.rq_psn = 0xfffff0 + peer.number_;
    a.max_dest_rd_atomic = 4;
    a.min_rnr_timer = 1;
    ASSERT_EQ(modify_qp(qp, ports, 0, a,
                        GODWIT_QP_ATTR_STATUS | GODWIT_QP_ATTR_AV | GODWIT_QP_ATTR_PATH_MTU |
                            GODWIT_QP_ATTR_DEST_QPN | GODWIT_QP_ATTR_RQ_PSN |
                            GODWIT_QP_ATTR_MAX_DEST_RD_ATOMIC | GODWIT_QP_ATTR_MIN_RNR_TIMER),
              ModifyResult::kOk);
    a.status = Status::kRts;
    a.timeout = timeout;
    a.retry_cnt = retries;
    a.rnr_retry = 7;
    a.sq_psn = 0xfffff0 + number_;
    a.max_rd_atomic = 4;
    ASSERT_EQ(modify_qp(qp, ports, 0, a,
                        GODWIT_QP_ATTR_STATUS | GODWIT_QP_ATTR_TIMEOUT | GODWIT_QP_ATTR_RETRY_CNT |
                            GODWIT_QP_ATTR_RNR_RETRY | GODWIT_QP_ATTR_SQ_PSN |
                            GODWIT_QP_ATTR_MAX_RD_ATOMIC),
              ModifyResult::kOk);
  }

  void post(const SendRequest& request) {
    sends.push_back(request);
    on_send_posted(qp, static_cast<std::uint16_t>(sends.size()));
  }

  unsigned number_;
  GidEntry gid_;
  std::vector<std::uint8_t> memory;
  std::vector<SendRequest> sends;
  std::vector<RecvRequest> recvs;
  bool endless_recvs = false;  // an application that posts faster than anybody can flush
  std::vector<SendCompletion> send_completions;
  std::vector<RecvCompletion> recv_completions;
  std::vector<QpEvent> events;
  std::deque<std::vector<std::uint8_t>> out;
  std::array<std::uint64_t, GODWIT_COUNTER_COUNT> counters{};
  TransportConfig config;
  Ports ports{*this, *this, *this, config};
  Qp qp;
};

struct World {
  explicit World(unsigned seed) : random(seed) {
    a = std::make_unique<End>(1);
    b = std::make_unique<End>(2);
    a->connect(*b);
    b->connect(*a);
  }

  void deliver(End& to) {
    for (End* from : {a.get(), b.get(), c.get()}) {
      if (from == nullptr || from == &to) continue;
      std::deque<std::vector<std::uint8_t>> keep;
      while (!from->out.empty()) {
        auto frame = std::move(from->out.front());
        from->out.pop_front();
        wire::Packet packet;
        ASSERT_EQ(wire::parse(frame, &packet), wire::Parse::kOk);
        if (packet.path.dmac != to.gid_.mac) {
          keep.push_back(std::move(frame));
          continue;
        }
        if (random() % 100 < loss) continue;
        if (random() % 100 < reorder && !from->out.empty()) {
          std::swap(frame, from->out.front());
          ASSERT_EQ(wire::parse(frame, &packet), wire::Parse::kOk);
          if (packet.path.dmac != to.gid_.mac) {
            keep.push_back(std::move(frame));
            continue;
          }
        }
        on_packet(to.qp, to.ports, now, packet);
        if (random() % 100 < duplicate) on_packet(to.qp, to.ports, now, packet);
      }
      from->out = std::move(keep);
    }
  }

  void step() {
    now += 100'000;
    for (End* end : {a.get(), b.get(), c.get()}) {
      if (end == nullptr) continue;
      deliver(*end);
      if (next_deadline(end->qp) <= now) on_timer(end->qp, end->ports, now);
      (void)run(end->qp, end->ports, now, 16);
    }
  }

  SendRequest any_request() {
    SendRequest r;
    r.opcode = static_cast<WrOpcode>(random() % 7);
    r.signaled = true;
    r.fence = random() % 8 == 0;
    r.solicited = random() % 2 == 0;
    r.rkey = 1;
    r.immediate_be = static_cast<std::uint32_t>(random());
    r.remote_addr = 0x40000 + random() % 0x1000 * 8;
    const bool atomic = r.opcode == WrOpcode::kCompareSwap || r.opcode == WrOpcode::kFetchAdd;
    r.length = atomic ? 8 : static_cast<std::uint32_t>(random() % 3000);
    r.sge_count = 2;
    const std::uint32_t first = atomic ? 8 : static_cast<std::uint32_t>(random() % (r.length + 1));
    r.sge[0] = {random() % 0x10000, first, 1};
    r.sge[1] = {0x20000 + random() % 0x10000, r.length - first, 1};
    if (r.opcode == WrOpcode::kFetchAdd) {
      r.remote_addr = 0x80000;
      r.compare_add = 1;
    }
    if (r.opcode == WrOpcode::kCompareSwap) {
      // Succeeds once for each value: proves that none is executed twice or skipped.
      r.remote_addr = 0x80008;
      r.compare_add = swaps;
      r.swap = ++swaps;
    }
    return r;
  }

  void give_receives(End& end, unsigned n) {
    for (unsigned i = 0; i < n; ++i) {
      RecvRequest r;
      r.sge_count = 1;
      r.length = 4096;
      r.sge[0] = {0xa0000, 4096, 1};
      end.recvs.push_back(r);
    }
  }

  // The end `a` goes on elsewhere, with what it had in memory.
  void move_a(bool home_stays) {
    ASSERT_EQ(stop(a->qp, a->ports, now), StopResult::kOk);
    for (int i = 0; i < 50; ++i) step();
    godwit_qp_state state;
    save_qp(a->qp, now, &state);
    c = std::move(a);
    if (home_stays) make_tombstone(c->qp);
    const unsigned number = c->number_ == 1 ? 3 : 1;
    a = std::make_unique<End>(number);
    a->memory = c->memory;
    a->sends = c->sends;
    a->recvs = c->recvs;
    a->send_completions = c->send_completions;
    a->recv_completions = c->recv_completions;
    const char* wrong = load_qp(a->qp, now, state);
    ASSERT_EQ(wrong, nullptr) << wrong;
    a->qp.own = {a->gid_.gid, a->gid_.mac};
    ASSERT_EQ(resume(a->qp, a->ports, now, 1, false), ResumeResult::kOk);
    EXPECT_EQ(resume(a->qp, a->ports, now, 1, false), ResumeResult::kBadState);
  }

  std::mt19937 random;
  std::uint64_t now = 0;
  unsigned loss = 0;
  unsigned duplicate = 0;
  unsigned reorder = 0;
  std::uint64_t swaps = 0;
  std::unique_ptr<End> a, b, c;
};

// All n requests of `from`, `swaps` of which compare and swap.
void expect_all_done(const End& from, const End& to, std::uint64_t swaps, unsigned n) {
  ASSERT_EQ(from.send_completions.size(), n);
  std::uint64_t adds = 0;
  unsigned receives = 0;
  for (unsigned i = 0; i < n; ++i) {
    EXPECT_EQ(from.send_completions[i].wqe_index, i);
    EXPECT_EQ(from.send_completions[i].fault, Fault::kNone);
    const WrOpcode opcode = from.sends[i].opcode;
    adds += opcode == WrOpcode::kFetchAdd ? 1 : 0;
    receives +=
        opcode == WrOpcode::kSend || opcode == WrOpcode::kSendImm || opcode == WrOpcode::kWriteImm;
  }
  ASSERT_EQ(to.recv_completions.size(), receives);
  unsigned at = 0;
  for (unsigned i = 0; i < n; ++i) {
    const SendRequest& r = from.sends[i];
    if (r.opcode != WrOpcode::kSend && r.opcode != WrOpcode::kSendImm &&
        r.opcode != WrOpcode::kWriteImm) {
      continue;
    }
    const RecvCompletion& got = to.recv_completions[at];
    EXPECT_EQ(got.wqe_index, at++);
    EXPECT_EQ(got.byte_len, r.length);
    EXPECT_EQ(got.has_immediate, r.opcode != WrOpcode::kSend);
    if (got.has_immediate) {
      EXPECT_EQ(got.immediate_be, r.immediate_be);
    }
    EXPECT_EQ(got.solicited, r.solicited);
  }
  std::uint64_t counted[2];
  std::memcpy(counted, to.memory.data() + 0x80000, 16);
  EXPECT_EQ(counted[0], adds);
  EXPECT_EQ(counted[1], swaps);
}

SendRequest plain(WrOpcode opcode, std::uint32_t length = 0) {
  SendRequest r;
  r.opcode = opcode;
  r.signaled = true;
  r.rkey = 1;
  r.remote_addr = 0x1000;
  r.length = length;
  r.sge_count = length > 0 ? 1 : 0;
  r.sge[0] = {0, length, 1};
  return r;
}

TEST(Rc, WriteArrives) {
  World w(1);
  for (std::size_t i = 0; i < 5000; ++i) w.a->memory[i] = static_cast<std::uint8_t>(i * 31);
  SendRequest r = plain(WrOpcode::kWrite, 5000);
  r.remote_addr = 0x1001;
  w.a->post(r);
  for (int i = 0; i < 20; ++i) w.step();
  ASSERT_EQ(w.a->send_completions.size(), 1U);
  EXPECT_EQ(std::memcmp(w.a->memory.data(), w.b->memory.data() + 0x1001, 5000), 0);
  EXPECT_EQ(w.a->counters[GODWIT_COUNTER_RETRANSMISSIONS], 0U);
}

TEST(Rc, ReadArrives) {
  World w(1);
  for (std::size_t i = 0; i < 5000; ++i) w.b->memory[i + 7] = static_cast<std::uint8_t>(i * 31);
  SendRequest r = plain(WrOpcode::kRead, 5000);
  r.sge[0].addr = 100;
  r.remote_addr = 7;
  w.a->post(r);
  for (int i = 0; i < 20; ++i) w.step();
  ASSERT_EQ(w.a->send_completions.size(), 1U);
  EXPECT_EQ(std::memcmp(w.a->memory.data() + 100, w.b->memory.data() + 7, 5000), 0);
}

class Lossy : public testing::TestWithParam<unsigned> {};

TEST_P(Lossy, EverythingOnceAndInOrder) {
  World w(GetParam());
  w.loss = GetParam() % 4 * 3;
  w.duplicate = 5;
  w.reorder = 10;
  constexpr unsigned kCount = 100;
  w.give_receives(*w.b, kCount);
  for (unsigned i = 0; i < kCount; ++i) w.a->post(w.any_request());
  for (int i = 0; i < 200000 && w.a->send_completions.size() < kCount; ++i) w.step();
  expect_all_done(*w.a, *w.b, w.swaps, kCount);
}

// The end `a` moves, while `asks` asks `answers`.
void expect_all_done_over_moves(unsigned seed, std::unique_ptr<End> World::*asks,
                                std::unique_ptr<End> World::*answers) {
  World w(seed);
  w.loss = seed % 3;
  w.duplicate = 3;
  w.reorder = 5;
  constexpr unsigned kCount = 200;
  w.give_receives(*(w.*answers), kCount);
  for (unsigned i = 0; i < kCount; ++i) (w.*asks)->post(w.any_request());
  for (int moves = 0; moves < 3; ++moves) {
    for (unsigned i = 0; i < 20 + w.random() % 100; ++i) w.step();
    w.move_a(true);
    if (testing::Test::HasFatalFailure()) return;
  }
  for (int i = 0; i < 200000 && (w.*asks)->send_completions.size() < kCount; ++i) w.step();
  expect_all_done(*(w.*asks), *(w.*answers), w.swaps, kCount);
}

TEST_P(Lossy, EverythingOnceAndInOrderOverMoves) {
  expect_all_done_over_moves(GetParam(), &World::a, &World::b);
}

TEST_P(Lossy, ResponderMoves) { expect_all_done_over_moves(GetParam(), &World::b, &World::a); }

INSTANTIATE_TEST_SUITE_P(Seeds, Lossy, testing::Range(1U, 41U));

TEST(Rc, SilenceEndsInRetryExceeded) {
  World w(1);
  w.loss = 100;
  w.give_receives(*w.b, 1);
  SendRequest r;
  r.opcode = WrOpcode::kSend;
  w.a->post(r);
  w.a->post(r);
  for (int i = 0; i < 20000 && w.a->send_completions.size() < 2; ++i) w.step();
  ASSERT_EQ(w.a->send_completions.size(), 2U);
  EXPECT_EQ(w.a->send_completions[0].fault, Fault::kRetryExceeded);
  EXPECT_EQ(w.a->send_completions[1].fault, Fault::kFlushed);
  EXPECT_EQ(w.a->qp.attr.status, Status::kError);
  EXPECT_EQ(w.a->counters[GODWIT_COUNTER_LOCAL_ACK_TIMEOUT_ERR], 8U);
}

TEST(Rc, NoReceiveIsAskedAgain) {
  World w(1);
  w.a->post(plain(WrOpcode::kSend));
  for (int i = 0; i < 1000; ++i) w.step();
  EXPECT_GT(w.a->counters[GODWIT_COUNTER_RNR_NAK_RETRY_ERR], 3U);
  EXPECT_TRUE(w.a->send_completions.empty());
  w.give_receives(*w.b, 1);
  for (int i = 0; i < 100; ++i) w.step();
  EXPECT_EQ(w.a->send_completions.size(), 1U);
}

TEST(Rc, WrongKeyIsRemoteAccessError) {
  World w(1);
  SendRequest r = plain(WrOpcode::kWrite, 4);
  r.rkey = 2;
  w.a->post(r);
  for (int i = 0; i < 100; ++i) w.step();
  ASSERT_EQ(w.a->send_completions.size(), 1U);
  EXPECT_EQ(w.a->send_completions[0].fault, Fault::kRemoteAccess);
  EXPECT_EQ(w.b->qp.attr.status, Status::kError);
  EXPECT_EQ(w.b->events.back() == QpEvent::kAccessError, true);
}

TEST(Rc, LongMessageIsTooLongForItsReceive) {
  World w(1);
  w.give_receives(*w.b, 2);
  w.a->post(plain(WrOpcode::kSend, 5000));
  for (int i = 0; i < 100; ++i) w.step();
  ASSERT_EQ(w.b->recv_completions.size(), 2U);
  EXPECT_EQ(w.b->recv_completions[0].fault, Fault::kReceiveTooShort);
  EXPECT_EQ(w.b->recv_completions[1].fault, Fault::kFlushed);
  ASSERT_EQ(w.a->send_completions.size(), 1U);
  EXPECT_EQ(w.a->send_completions[0].fault, Fault::kRemoteInvalidRequest);
}

TEST(Migration, PauseOutlivesTheRetryBudget) {
  World w(1);
  w.give_receives(*w.b, 1);
  ASSERT_EQ(stop(w.b->qp, w.b->ports, w.now), StopResult::kOk);
  // The capability is learnt from packets: let them speak once before.
  w.b->qp.mig.peer_extended = true;
  w.a->post(plain(WrOpcode::kSend));
  for (int i = 0; i < 100000; ++i) w.step();  // ten seconds
  EXPECT_TRUE(w.a->qp.mig.paused);
  EXPECT_GT(w.a->counters[GODWIT_COUNTER_PROBES], 20U);
  EXPECT_TRUE(w.a->send_completions.empty());
  unstop(w.b->qp, w.b->ports, w.now);
  for (int i = 0; i < 2000; ++i) w.step();
  ASSERT_EQ(w.a->send_completions.size(), 1U);
  EXPECT_EQ(w.a->send_completions[0].fault, Fault::kNone);
  EXPECT_FALSE(w.a->qp.mig.paused);
}

TEST(Migration, StolenRunawaysAreRefused) {
  World w(1);
  Qp& qp = w.b->qp;
  wire::Path path;
  path.ipv4 = true;
  path.sgid = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 9};
  path.dgid = w.b->gid_.gid;
  path.dmac = w.b->gid_.mac;
  wire::Headers h;
  h.opcode = wire::kResume;
  h.dest_qpn = qp.qpn;
  h.mig.epoch = 1;
  for (std::uint64_t guess = 0; guess < 30; ++guess) {
    h.mig.token = guess;
    wire::FrameBuilder frame(path, h, 0);
    wire::Packet packet;
    ASSERT_EQ(wire::parse(frame.finish(), &packet), wire::Parse::kOk);
    on_packet(qp, w.b->ports, w.now, packet);
  }
  EXPECT_EQ(w.b->counters[GODWIT_COUNTER_RESUME_ACCEPTED], 0U);
  EXPECT_EQ(w.b->counters[GODWIT_COUNTER_RESUME_BAD_TOKEN], 17U);
  EXPECT_EQ(w.b->counters[GODWIT_COUNTER_RESUME_RATE_LIMITED], 13U);
  EXPECT_EQ(qp.attr.dgid, w.a->gid_.gid);
}

TEST(Migration, SavedStateIsChecked) {
  World w(3);
  w.give_receives(*w.b, 20);
  for (int i = 0; i < 20; ++i) w.a->post(w.any_request());
  for (int i = 0; i < 5; ++i) w.step();
  ASSERT_EQ(stop(w.a->qp, w.a->ports, w.now), StopResult::kOk);
  godwit_qp_state good;
  save_qp(w.a->qp, w.now, &good);
  End other(3);
  ASSERT_EQ(load_qp(other.qp, w.now, good), nullptr);
  godwit_qp_state again;
  other.qp.own = w.a->qp.own;
  save_qp(other.qp, w.now, &again);
  // Only the position of sending is made anew.
  again.next_psn = good.next_psn;
  again.header.crc32 = good.header.crc32;
  EXPECT_EQ(std::memcmp(&good, &again, sizeof(good)), 0);

  std::mt19937 random(5);
  auto* bytes = reinterpret_cast<std::uint8_t*>(&again);
  for (int i = 0; i < 2000; ++i) {
    again = good;
    for (unsigned n = 1 + random() % 3; n > 0; --n) {
      bytes[random() % sizeof(again)] = static_cast<std::uint8_t>(random());
    }
    if (random() % 16 != 0) again.header.crc32 = {state_crc(&again, sizeof(again))};
    End victim(4);
    victim.sends = w.a->sends;
    if (load_qp(victim.qp, 0, again) != nullptr) continue;
    // Taken: it must be harmless.
    if (resume(victim.qp, victim.ports, 0, 1, false) != ResumeResult::kOk) continue;
    for (std::uint64_t now = 0; now < 2'000'000'000; now += 100'000'000) {
      on_timer(victim.qp, victim.ports, now);
      (void)run(victim.qp, victim.ports, now, 64);
    }
  }
}

// ---- traces: what goes in by hand, and what comes out

// A packet from `from`'s address to `to`.
void give(End& to, const End& from, std::uint64_t now, wire::Headers h,
          const std::vector<std::uint8_t>& payload = {}) {
  wire::Path path;
  path.ipv4 = true;
  path.sgid = from.gid_.gid;
  path.smac = from.gid_.mac;
  path.dgid = to.gid_.gid;
  path.dmac = to.gid_.mac;
  h.dest_qpn = to.qp.qpn;
  h.extended = true;
  wire::FrameBuilder frame(path, h, payload.size());
  std::copy(payload.begin(), payload.end(), frame.payload().begin());
  wire::Packet packet;
  ASSERT_EQ(wire::parse(frame.finish(), &packet), wire::Parse::kOk);
  on_packet(to.qp, to.ports, now, packet);
}

wire::Headers acknowledge(wire::Psn psn, std::uint8_t syndrome = wire::kSyndromeAck) {
  wire::Headers h;
  h.opcode = wire::kAcknowledge;
  h.psn = psn & wire::kPsnMask;
  h.aeth.syndrome = syndrome;
  return h;
}

wire::Headers read_request(wire::Psn psn, std::uint32_t length) {
  wire::Headers h;
  h.opcode = wire::kReadRequest;
  h.psn = psn & wire::kPsnMask;
  h.rkey = 1;
  h.length = length;
  return h;
}

wire::Headers send_only(wire::Psn psn) {
  wire::Headers h;
  h.opcode = wire::kSendOnly;
  h.psn = psn & wire::kPsnMask;
  h.ack_request = true;
  return h;
}

// What was sent since the last call.
std::vector<wire::Headers> sent(End& end) {
  std::vector<wire::Headers> all;
  for (const auto& frame : end.out) {
    wire::Packet packet;
    EXPECT_EQ(wire::parse(frame, &packet), wire::Parse::kOk);
    all.push_back(packet.h);
  }
  end.out.clear();
  return all;
}

std::vector<wire::Headers> work(End& end, std::uint64_t now) {
  if (next_deadline(end.qp) <= now) on_timer(end.qp, end.ports, now);
  while (run(end.qp, end.ports, now, 32)) {
  }
  return sent(end);
}

// It stops; what is saved of it then.
godwit_qp_state stop_and_save(End& end) {
  EXPECT_EQ(stop(end.qp, end.ports, 0), StopResult::kOk);
  godwit_qp_state state;
  save_qp(end.qp, 0, &state);
  return state;
}

// IBTA 9.7.5.2.8: a NAK for a gap is answered once; copies of it cost neither packets nor retries.
TEST(Trace, CopiesOfANakAreNotAnswered) {
  World w(1);
  for (int i = 0; i < 10; ++i) w.a->post(plain(WrOpcode::kWrite, 8));
  ASSERT_EQ(work(*w.a, 0).size(), 10U);
  const wire::Psn una = w.a->qp.req.una;
  for (int i = 0; i < 5; ++i) give(*w.a, *w.b, 0, acknowledge(una + 2, wire::kNakSequence));
  EXPECT_EQ(w.a->qp.req.retries_left, 6);
  EXPECT_EQ(work(*w.a, 0).size(), 8U);
  give(*w.a, *w.b, 0, acknowledge(una + 2, wire::kNakSequence));
  EXPECT_TRUE(work(*w.a, 0).empty());
  EXPECT_EQ(w.a->counters[GODWIT_COUNTER_PACKET_SEQ_ERR], 6U);
  // A second gap is another matter.
  give(*w.a, *w.b, 0, acknowledge(una + 5, wire::kNakSequence));
  EXPECT_EQ(work(*w.a, 0).size(), 5U);
}

// The responder's side of the same: one NAK per gap, also across a move.
TEST(Trace, OneNakPerGapAlsoAfterAMove) {
  World w(1);
  w.give_receives(*w.b, 4);
  const wire::Psn psn = w.b->qp.resp.expected;
  give(*w.b, *w.a, 0, send_only(psn + 1));
  auto out = work(*w.b, 0);
  ASSERT_EQ(out.size(), 1U);
  EXPECT_EQ(out[0].aeth.syndrome, wire::kNakSequence);
  End c(2);
  c.recvs = w.b->recvs;
  ASSERT_EQ(load_qp(c.qp, 0, stop_and_save(*w.b)), nullptr);
  ASSERT_EQ(resume(c.qp, c.ports, 0, 1, true), ResumeResult::kOk);
  give(c, *w.a, 0, send_only(psn + 2));
  EXPECT_TRUE(work(c, 0).empty());
  give(c, *w.a, 0, send_only(psn));
  out = work(c, 0);
  ASSERT_EQ(out.size(), 1U);
  EXPECT_EQ(out[0].aeth.syndrome, wire::kSyndromeAck);
}

// IBTA 9.7.5.2.8: the requester waits at least as long as the RNR NAK says, whatever else comes,
// and across a stop.
TEST(Trace, RnrWaitIsNotCutShort) {
  World w(1);
  w.a->post(plain(WrOpcode::kSend));
  w.a->post(plain(WrOpcode::kSend));
  ASSERT_EQ(work(*w.a, 0).size(), 2U);
  const wire::Psn una = w.a->qp.req.una;
  constexpr std::uint8_t kLongest = wire::kSyndromeRnr | 0;  // 655.36 ms
  give(*w.a, *w.b, 0, acknowledge(una, kLongest));
  give(*w.a, *w.b, 1'000'000, acknowledge(una, kLongest));  // a copy
  give(*w.a, *w.b, 1'000'000, acknowledge(una, wire::kNakSequence));
  for (std::uint64_t now = 1'000'000; now < 300'000'000; now += 1'000'000) {
    EXPECT_TRUE(work(*w.a, now).empty()) << now;
  }
  ASSERT_EQ(stop(w.a->qp, w.a->ports, 300'000'000), StopResult::kOk);
  godwit_qp_state state;
  save_qp(w.a->qp, 5'000'000'000, &state);
  End c(1);
  c.sends = w.a->sends;
  ASSERT_EQ(load_qp(c.qp, 5'000'000'000, state), nullptr);
  ASSERT_EQ(resume(c.qp, c.ports, 5'000'000'000, 1, true), ResumeResult::kOk);
  EXPECT_TRUE(work(c, 5'355'000'000).empty());
  EXPECT_EQ(work(c, 5'356'000'000).size(), 2U);
}

// A peer that answers everything but one READ is not asked for ever.
TEST(Trace, SkippedReadCostsRetries) {
  World w(1);
  w.a->post(plain(WrOpcode::kRead, 8));
  w.a->post(plain(WrOpcode::kSend));
  std::uint64_t now = 0;
  (void)work(*w.a, now);
  const wire::Psn una = w.a->qp.req.una;
  for (int i = 0; i < 20 && w.a->qp.attr.status == Status::kRts; ++i) {
    give(*w.a, *w.b, now, acknowledge(una + 1));
    now += 100'000'000;
    (void)work(*w.a, now);
  }
  ASSERT_EQ(w.a->send_completions.size(), 2U);
  EXPECT_EQ(w.a->send_completions[0].fault, Fault::kRetryExceeded);
}

// A late copy of a READ that was answered long ago leaves its place to a new one; more READs than
// were promised are refused.
TEST(Trace, LateCopyOfAReadTakesNobodysPlace) {
  World w(1);
  w.b->qp.attr.max_dest_rd_atomic = 1;
  const wire::Psn psn = w.b->qp.resp.expected;
  give(*w.b, *w.a, 0, read_request(psn, 600));
  ASSERT_EQ(work(*w.b, 0).size(), 3U);
  give(*w.b, *w.a, 0, read_request(psn, 600));
  give(*w.b, *w.a, 0, read_request(psn + 3, 8));
  auto out = work(*w.b, 0);
  ASSERT_EQ(out.size(), 1U);
  EXPECT_EQ(out[0].opcode, wire::kReadResponseOnly);
  EXPECT_EQ(w.b->qp.attr.status, Status::kRts);

  give(*w.b, *w.a, 0, read_request(psn + 4, 600));
  give(*w.b, *w.a, 0, read_request(psn + 7, 8));
  out = work(*w.b, 0);
  ASSERT_EQ(out.size(), 4U);
  EXPECT_EQ(out[3].aeth.syndrome, wire::kNakInvalidRequest);
  EXPECT_EQ(w.b->qp.attr.status, Status::kError);
}

// IBTA 9.7.7.2 and 10.8.3.3: as many READs and atomics as the peer can hold; a fence waits for all.
TEST(Trace, ReadCreditsAndFence) {
  World w(1);
  for (int i = 0; i < 6; ++i) {
    w.a->post(plain(i % 2 == 0 ? WrOpcode::kRead : WrOpcode::kFetchAdd, 8));
  }
  SendRequest fenced = plain(WrOpcode::kWrite, 8);
  fenced.fence = true;
  w.a->post(fenced);
  auto out = work(*w.a, 0);
  ASSERT_EQ(out.size(), 4U);
  wire::Headers h;
  for (unsigned i = 0; i < 6; ++i) {
    h.psn = wire::psn_add(w.a->qp.attr.sq_psn, i);
    h.opcode = i % 2 == 0 ? wire::kReadResponseOnly : wire::kAtomicAcknowledge;
    give(*w.a, *w.b, 0, h, std::vector<std::uint8_t>(i % 2 == 0 ? 8 : 0));
    out = work(*w.a, 0);
    // Each answer lets one more go; only the last one lets the fenced WRITE go.
    ASSERT_EQ(out.size(), i < 2 || i == 5 ? 1U : 0U) << i;
  }
  EXPECT_EQ(out[0].opcode, wire::kWriteOnly);
}

// Section 1: the pause limit counts silence, each NAK_STOPPED starts it anew, and at its end the
// oldest request completes as if its retries had been used up.
TEST(Migration, PauseLimit) {
  World w(1);
  w.a->config.pause_limit_ns = 2'000'000'000;
  w.a->post(plain(WrOpcode::kSend));
  w.a->post(plain(WrOpcode::kSend));
  (void)work(*w.a, 0);
  const wire::Psn una = w.a->qp.req.una;
  give(*w.a, *w.b, 0, acknowledge(una + 3, wire::kNakStopped));  // beyond what was sent
  EXPECT_FALSE(w.a->qp.mig.paused);
  give(*w.a, *w.b, 0, acknowledge(una, wire::kNakStopped));
  EXPECT_TRUE(w.a->qp.mig.paused);
  give(*w.a, *w.b, 1'500'000'000, acknowledge(una, wire::kNakStopped));
  (void)work(*w.a, 3'400'000'000);
  EXPECT_EQ(w.a->qp.attr.status, Status::kRts);
  (void)work(*w.a, 3'500'000'000);
  EXPECT_EQ(w.a->qp.attr.status, Status::kError);
  ASSERT_EQ(w.a->send_completions.size(), 2U);
  EXPECT_EQ(completion_status(w.a->send_completions[0].fault), GODWIT_CQE_RETRY_EXC_ERR);
  EXPECT_EQ(w.a->send_completions[1].fault, Fault::kFlushed);
}

// The probe is one packet per ack timeout and spends no retry.
TEST(Migration, ProbesAreOnePacketEach) {
  World w(1);
  for (int i = 0; i < 5; ++i) w.a->post(plain(WrOpcode::kSend));
  (void)work(*w.a, 0);
  give(*w.a, *w.b, 0, acknowledge(w.a->qp.req.una, wire::kNakStopped));
  unsigned probes = 0;
  for (std::uint64_t now = 0; now <= 1'000'000'000; now += 1'000'000) {
    const auto out = work(*w.a, now);
    ASSERT_LE(out.size(), 1U);
    probes += static_cast<unsigned>(out.size());
    for (const auto& h : out) EXPECT_EQ(h.psn, w.a->qp.attr.sq_psn);
  }
  EXPECT_EQ(probes, 14U);  // timeout 14: 67 ms
  EXPECT_EQ(w.a->qp.req.retries_left, 7);
}

// Section 3: RESUME is repeated at min(ack timeout, 100 ms), backing off to a second, for ever; a
// fifth place since the last acknowledged one is one too many.
TEST(Migration, ResumeBacksOffAndPlacesAreFew) {
  World w(1);
  w.a->qp.mig.peer_extended = true;
  End c(1);
  ASSERT_EQ(load_qp(c.qp, 0, stop_and_save(*w.a)), nullptr);
  ASSERT_EQ(resume(c.qp, c.ports, 0, 3, false), ResumeResult::kOk);
  std::vector<std::uint64_t> times;
  for (std::uint64_t now = 0; now < 10'000'000'000; now += 1'000'000) {
    for (const auto& h : work(c, now)) {
      EXPECT_EQ(h.opcode, wire::kResume);
      EXPECT_EQ(h.mig.epoch, 3U);
      times.push_back(now / 1'000'000);
    }
  }
  ASSERT_GT(times.size(), 9U);
  EXPECT_LE(times[1] - times[0], 100U);
  for (std::size_t i = 2; i < times.size(); ++i) {
    EXPECT_GE(times[i] - times[i - 1], times[i - 1] - times[i - 2]);
  }
  EXPECT_EQ(times.back() - times[times.size() - 2], 1000U);
  c.qp.mig.place_count = kMaxPlaces;
  EXPECT_EQ(stop(c.qp, c.ports, 0), StopResult::kTooManyPlaces);
  c.qp.mig.own_epoch = 0xfffffffe;
  c.qp.mig.place_count = 3;
  ASSERT_EQ(stop(c.qp, c.ports, 0), StopResult::kOk);
  c.qp.mig.loaded = true;
  c.qp.mig.last_attempt = 0;
  EXPECT_EQ(resume(c.qp, c.ports, 0, 2, false), ResumeResult::kEpochExhausted);
}

// Between a receive that has failed and its NAK there is nothing that could be saved: the end of
// the connection goes first.
TEST(Migration, StopWaitsForTheNakThatEndsTheConnection) {
  World w(1);
  w.give_receives(*w.b, 2);
  w.b->recvs[0].length = 0;
  wire::Headers h = send_only(w.b->qp.resp.expected);
  give(*w.b, *w.a, 0, h, {0, 0, 0, 0});
  ASSERT_EQ(w.b->recv_completions.size(), 1U);
  EXPECT_EQ(stop(w.b->qp, w.b->ports, 0), StopResult::kFlushFirst);
  const auto out = work(*w.b, 0);
  ASSERT_EQ(out.size(), 1U);
  EXPECT_EQ(out[0].aeth.syndrome, wire::kNakInvalidRequest);
  EXPECT_EQ(stop(w.b->qp, w.b->ports, 0), StopResult::kOk);
  ASSERT_EQ(w.b->recv_completions.size(), 2U);
  EXPECT_EQ(w.b->recv_completions[1].fault, Fault::kFlushed);
}

// The connection may end otherwise first, and then that NAK does not go out any more.
TEST(Migration, StopDoesNotWaitForANakThatErrorHasTakenBack) {
  World w(1);
  w.give_receives(*w.b, 2);
  w.b->recvs[0].length = 0;
  give(*w.b, *w.a, 0, send_only(w.b->qp.resp.expected), {0, 0, 0, 0});
  enter_error(w.b->qp, w.b->ports, 0, Fault::kFlushed);
  EXPECT_TRUE(work(*w.b, 0).empty());
  EXPECT_EQ(stop(w.b->qp, w.b->ports, 0), StopResult::kOk);
}

TEST(Migration, StopEndsThoughTheApplicationGoesOnPosting) {
  World w(1);
  w.b->endless_recvs = true;
  enter_error(w.b->qp, w.b->ports, 0, Fault::kFlushed);
  EXPECT_EQ(stop(w.b->qp, w.b->ports, 0), StopResult::kFlushFirst);
  for (int i = 0; i < 20; ++i) (void)run(w.b->qp, w.b->ports, 0, 32);
  EXPECT_EQ(stop(w.b->qp, w.b->ports, 0), StopResult::kOk);
  EXPECT_GE(w.b->recv_completions.size(), 256U);
}

wire::Redirect place_of(const End& end) { return {end.gid_.gid, end.gid_.mac}; }

// A RESUME of `mover`, once at `place`, as its tombstone or itself signs it.
wire::Headers signed_resume(const End& mover, std::uint8_t flags, std::uint32_t epoch,
                            const wire::Redirect& place) {
  TokenInput input;
  input.flags = flags;
  input.mover_qpn = mover.qp.qpn;
  input.peer_qpn = mover.qp.attr.dest_qpn;
  input.initial_psn = (flags & wire::kMigRtr) != 0 ? mover.qp.attr.rq_psn : mover.qp.attr.sq_psn;
  input.epoch = epoch;
  input.mover_gid = place.gid;
  input.mover_mac = place.mac;
  wire::Headers h;
  h.opcode = wire::kResume;
  h.mig.flags = flags;
  h.mig.epoch = epoch;
  h.mig.token = token(input);
  return h;
}

wire::Headers resume_of(const End& mover, std::uint32_t epoch) {
  return signed_resume(mover, 0, epoch, place_of(mover));
}

// After too many wrong tokens a second of silence, counted from the last of them.
TEST(Migration, WrongTokensAreFollowedByASecondOfSilence) {
  World w(1);
  const wire::Headers good = resume_of(*w.a, 1);
  wire::Headers wrong = good;
  ++wrong.mig.token;
  for (int i = 0; i < 17; ++i) give(*w.b, *w.a, 900'000'000 + i, wrong);
  give(*w.b, *w.a, 1'800'000'000, good);
  EXPECT_EQ(w.b->counters[GODWIT_COUNTER_RESUME_RATE_LIMITED], 1U);
  EXPECT_EQ(w.b->counters[GODWIT_COUNTER_RESUME_ACCEPTED], 0U);
  give(*w.b, *w.a, 1'950'000'000, good);
  EXPECT_EQ(w.b->counters[GODWIT_COUNTER_RESUME_ACCEPTED], 1U);
}

// Section 3: RESUME goes with HOME to the places it has been at, but not to its present one, nor to
// one that cannot be reached from there.
TEST(Migration, ResumeGoesToEarlierPlaces) {
  World w(1);
  w.a->qp.mig.peer_extended = true;
  End c(1);
  ASSERT_EQ(load_qp(c.qp, 0, stop_and_save(*w.a)), nullptr);
  Place earlier = c.qp.own;
  earlier.gid[15] ^= 1;
  Place ipv6 = c.qp.own;
  ipv6.gid[10] ^= 0xff;
  c.qp.mig.places = {earlier, c.qp.own, ipv6};
  c.qp.mig.place_count = 3;
  ASSERT_EQ(resume(c.qp, c.ports, 0, 3, false), ResumeResult::kOk);
  const auto out = work(c, 0);
  ASSERT_EQ(out.size(), 2U);
  EXPECT_EQ(out[0].dest_qpn, c.qp.attr.dest_qpn);
  EXPECT_EQ(out[0].mig.flags & wire::kMigHome, 0);
  EXPECT_EQ(out[1].opcode, wire::kResume);
  EXPECT_EQ(out[1].dest_qpn, c.qp.qpn);
  EXPECT_NE(out[1].mig.flags & wire::kMigHome, 0);
  EXPECT_NE(out[1].mig.token, out[0].mig.token);
}

// Section 5: requests and the peer's RESUME get NAK_STOPPED, all else silence.
TEST(Migration, WhatATombstoneAnswers) {
  World w(1);
  ASSERT_EQ(stop(w.b->qp, w.b->ports, 0), StopResult::kOk);
  make_tombstone(w.b->qp);
  w.b->qp.attr.sgid_index = 7;  // the driver has moved the GID to another entry
  give(*w.b, *w.a, 0, send_only(w.b->qp.resp.expected + 77));
  give(*w.b, *w.a, 0, resume_of(*w.a, 1));
  auto out = sent(*w.b);
  ASSERT_EQ(out.size(), 2U);
  for (const auto& h : out) {
    EXPECT_EQ(h.aeth.syndrome, wire::kNakStopped);
    EXPECT_EQ(h.psn, w.b->qp.resp.expected);
  }
  wire::Headers home = resume_of(*w.a, 1);
  home.mig.flags = wire::kMigHome;
  give(*w.b, *w.a, 0, home);
  give(*w.b, *w.a, 0, acknowledge(w.b->qp.req.una));
  EXPECT_TRUE(sent(*w.b).empty());
}

// A saved state and a send queue that disagree: the guest's own fault, and nothing of the host's
// memory goes out.
TEST(Migration, StateThatDisagreesWithTheQueue) {
  World w(1);
  SendRequest r = plain(WrOpcode::kWrite, 5 * 256 + 8);
  w.a->post(r);
  ASSERT_EQ(work(*w.a, 0).size(), 6U);
  const wire::Psn una = w.a->qp.req.una;
  give(*w.a, *w.b, 0, acknowledge(una + 4));
  godwit_qp_state state = stop_and_save(*w.a);
  End c(1);
  r.inline_data = true;
  r.sge_count = 0;
  r.length = 8;
  c.sends = {r};
  for (const bool paused : {false, true}) {
    state.ext = paused ? GODWIT_QP_EXT_PAUSED_MASK : 0;
    state.header.crc32 = {state_crc(&state, sizeof(state))};
    ASSERT_EQ(load_qp(c.qp, 0, state), nullptr);
    ASSERT_EQ(resume(c.qp, c.ports, 0, 1, true), ResumeResult::kOk);
    EXPECT_TRUE(work(c, 1'000'000'000).empty());
    EXPECT_EQ(c.qp.attr.status, Status::kError);
    ASSERT_FALSE(c.send_completions.empty());
    EXPECT_EQ(c.send_completions.back().fault, Fault::kLocalQpOperation);
  }
}

// States that no RC QP has been in, and timers of one that is not connected.
TEST(Migration, StateOfNoConnection) {
  World w(1);
  enter_error(w.a->qp, w.a->ports, 0, Fault::kFlushed);
  godwit_qp_state state = stop_and_save(*w.a);
  state.ext = GODWIT_QP_EXT_RESUMING_MASK | GODWIT_QP_EXT_PAUSED_MASK;
  state.resume_timer_ns = state.ack_timer_ns = state.pause_timer_ns = {0};
  state.header.crc32 = {state_crc(&state, sizeof(state))};
  End c(1);
  ASSERT_EQ(load_qp(c.qp, 0, state), nullptr);
  ASSERT_EQ(resume(c.qp, c.ports, 0, 1, false), ResumeResult::kOk);
  EXPECT_EQ(next_deadline(c.qp), kOff);
  EXPECT_TRUE(work(c, 1'000'000'000).empty());

  const godwit_qp_state good = state;
  state.attr.status = GODWIT_QP_STATUS_SQE;
  state.header.crc32 = {state_crc(&state, sizeof(state))};
  EXPECT_NE(load_qp(c.qp, 0, state), nullptr);
  state = good;
  state.reserved_end[63] = 1;
  state.header.crc32 = {state_crc(&state, sizeof(state))};
  EXPECT_NE(load_qp(c.qp, 0, state), nullptr);
}

// ------------------------------------------------------------ REDIRECT (section 5)

std::vector<std::uint8_t> bytes_of(const wire::Redirect& place) {
  std::vector<std::uint8_t> bytes(wire::kRedirectBytes);
  wire::put_redirect(place, bytes);
  return bytes;
}

TEST(Redirect, TombstoneLearnsWhereItsQpIs) {
  World w(1);
  End there(3);
  End later(4);
  constexpr std::uint8_t kHome = wire::kMigHome | wire::kMigRtr;
  w.b->qp.mig.own_epoch = 4;
  ASSERT_EQ(stop(w.b->qp, w.b->ports, 0), StopResult::kOk);
  make_tombstone(w.b->qp);
  const wire::Headers request = send_only(w.b->qp.resp.expected);
  const auto answer = [&](const wire::Headers& h, const End& from) {
    give(*w.b, from, 0, h);
    std::vector<std::uint8_t> frame;
    EXPECT_LE(w.b->out.size(), 1U);
    if (w.b->out.empty()) return std::pair(wire::Packet(), wire::Redirect());
    frame = w.b->out.front();
    w.b->out.clear();
    wire::Packet packet;
    EXPECT_EQ(wire::parse(frame, &packet), wire::Parse::kOk);
    EXPECT_EQ(packet.path.dgid, from.gid_.gid);
    EXPECT_EQ(packet.h.dest_qpn, w.b->qp.attr.dest_qpn);
    wire::Redirect place;
    if (packet.h.opcode == wire::kResume) {
      EXPECT_TRUE(wire::get_redirect(packet.payload, &place));
      EXPECT_EQ(packet.h.mig.flags, wire::kMigRedirect);
      EXPECT_EQ(packet.h.mig.token,
                signed_resume(*w.b, wire::kMigRedirect, packet.h.mig.epoch, place).mig.token);
    }
    packet.payload = {};
    return std::pair(packet, place);
  };

  // Not before it has been told, and not by somebody else, by a QP in another role or of before.
  wire::Headers home = signed_resume(*w.b, kHome, 5, place_of(there));
  ++home.mig.token;
  EXPECT_EQ(answer(home, there).first.h.opcode, 0);
  EXPECT_EQ(w.b->counters[GODWIT_COUNTER_RESUME_BAD_TOKEN], 1U);
  home = signed_resume(*w.b, kHome, 5, place_of(later));
  EXPECT_EQ(answer(home, there).first.h.opcode, 0);  // of another place
  EXPECT_EQ(w.b->counters[GODWIT_COUNTER_RESUME_BAD_TOKEN], 2U);
  home = signed_resume(*w.b, wire::kMigHome, 5, place_of(there));
  EXPECT_EQ(answer(home, there).first.h.opcode, 0);
  EXPECT_EQ(w.b->counters[GODWIT_COUNTER_RESUME_BAD_VERSION], 1U);
  home = signed_resume(*w.b, kHome, 4, place_of(there));
  EXPECT_EQ(answer(home, there).first.h.opcode, 0);
  EXPECT_EQ(w.b->counters[GODWIT_COUNTER_RESUME_STALE_EPOCH], 1U);
  EXPECT_EQ(answer(request, *w.a).first.h.aeth.syndrome, wire::kNakStopped);

  home = signed_resume(*w.b, kHome, 5, place_of(there));
  EXPECT_EQ(answer(home, there).first.h.opcode, 0);  // HOME is not answered
  auto [redirect, place] = answer(request, *w.a);
  EXPECT_EQ(redirect.h.opcode, wire::kResume);
  EXPECT_EQ(redirect.h.mig.epoch, 5U);
  EXPECT_EQ(place.gid, there.gid_.gid);
  EXPECT_EQ(place.mac, there.gid_.mac);
  // A peer that has moved as well has to prove who it is.
  wire::Headers resume = signed_resume(*w.a, 0, 9, place_of(later));
  EXPECT_EQ(answer(resume, later).first.h.opcode, wire::kResume);
  ++resume.mig.token;
  EXPECT_EQ(answer(resume, later).first.h.opcode, 0);
  // No answer to what is an answer.
  EXPECT_EQ(answer(acknowledge(w.b->qp.req.una), *w.a).first.h.opcode, 0);
  give(*w.b, *w.a, 0, signed_resume(*w.a, wire::kMigRedirect, 9, place_of(later)),
       bytes_of(place_of(later)));
  EXPECT_TRUE(w.b->out.empty());

  // It moves on; an older news that comes late changes nothing.
  (void)answer(signed_resume(*w.b, kHome, 7, place_of(later)), later);
  (void)answer(signed_resume(*w.b, kHome, 6, place_of(there)), there);
  EXPECT_EQ(answer(request, *w.a).second.gid, later.gid_.gid);
  EXPECT_EQ(w.b->counters[GODWIT_COUNTER_TX_REDIRECT], 3U);
}

// A QP that was stopped in RTR does not know what its peer will know of it later.
TEST(Redirect, TombstoneOfBeforeRts) {
  World w(1);
  End there(3);
  w.b->qp.mig.entered_rts = false;
  w.b->qp.attr.status = Status::kRtr;
  ASSERT_EQ(stop(w.b->qp, w.b->ports, 0), StopResult::kOk);
  make_tombstone(w.b->qp);
  give(*w.b, there, 0, signed_resume(*w.b, wire::kMigHome | wire::kMigRtr, 1, place_of(there)));
  give(*w.b, *w.a, 0, send_only(w.b->qp.resp.expected));
  ASSERT_EQ(w.b->out.size(), 1U);
  wire::Packet packet;
  ASSERT_EQ(wire::parse(w.b->out.front(), &packet), wire::Parse::kOk);
  EXPECT_EQ(packet.h.mig.flags, wire::kMigRedirect | wire::kMigRtr);
  on_packet(w.a->qp, w.a->ports, 0, packet);
  EXPECT_EQ(w.a->qp.attr.dgid, there.gid_.gid);
}

TEST(Redirect, LiveQpFollowsIt) {
  World w(1);
  End there(3);
  w.a->post(plain(WrOpcode::kSend));
  (void)work(*w.a, 0);
  give(*w.a, *w.b, 0, acknowledge(w.a->qp.req.una, wire::kNakStopped));
  ASSERT_TRUE(w.a->qp.mig.paused);
  const wire::Headers h = signed_resume(*w.b, wire::kMigRedirect, 3, place_of(there));
  give(*w.a, *w.b, 0, h, bytes_of(place_of(there)));
  EXPECT_FALSE(w.a->qp.mig.paused);
  EXPECT_EQ(w.a->qp.attr.dgid, there.gid_.gid);
  EXPECT_EQ(w.a->qp.attr.dmac, there.gid_.mac);
  for (const auto& frame : w.a->out)
    EXPECT_TRUE(std::equal(frame.begin(), frame.begin() + 6, there.gid_.mac.begin()));
  auto out = work(*w.a, 0);
  ASSERT_EQ(out.size(), 2U);
  EXPECT_EQ(out[0].opcode, wire::kResumeAck);
  EXPECT_EQ(out[0].mig.flags, 0);
  TokenInput input;
  input.type = TokenType::kResumeAck;
  input.mover_qpn = w.b->qp.qpn;
  input.peer_qpn = w.a->qp.qpn;
  input.initial_psn = w.b->qp.attr.sq_psn;
  input.epoch = 3;
  input.mover_gid = there.gid_.gid;
  EXPECT_EQ(out[0].mig.token, token(input));
  EXPECT_EQ(out[1].opcode, wire::kSendOnly);
  // Once more: its answer may have been lost.
  give(*w.a, *w.b, 0, h, bytes_of(place_of(there)));
  out = work(*w.a, 0);
  ASSERT_EQ(out.size(), 1U);
  EXPECT_EQ(out[0].opcode, wire::kResumeAck);
  EXPECT_EQ(w.a->counters[GODWIT_COUNTER_RESUME_ACCEPTED], 1U);
  EXPECT_EQ(w.a->counters[GODWIT_COUNTER_RX_REDIRECT], 2U);
}

// Both move at once: who hears where the other one is, tells it at once where itself is.
TEST(Redirect, ResumingQpGoesOnThere) {
  World w(1);
  End there(3);
  w.a->qp.mig.peer_extended = true;
  ASSERT_EQ(stop(w.a->qp, w.a->ports, 0), StopResult::kOk);
  w.a->qp.mig.loaded = true;
  ASSERT_EQ(resume(w.a->qp, w.a->ports, 0, 1, false), ResumeResult::kOk);
  (void)work(*w.a, 0);
  give(*w.a, *w.b, 0, signed_resume(*w.b, wire::kMigRedirect, 3, place_of(there)),
       bytes_of(place_of(there)));
  EXPECT_TRUE(w.a->qp.mig.resuming);
  const auto out = work(*w.a, 0);
  ASSERT_EQ(out.size(), 2U);
  EXPECT_EQ(out[0].opcode, wire::kResume);
  EXPECT_EQ(out[0].mig.epoch, 1U);
  EXPECT_EQ(out[1].opcode, wire::kResumeAck);
  EXPECT_EQ(out[1].mig.epoch, 3U);
}

TEST(Redirect, WhatIsNotFollowed) {
  World w(1);
  const wire::Redirect good = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 3},
                               {2, 0, 0, 0, 0, 3}};
  const QpAttributes before = w.a->qp.attr;
  w.a->qp.mig.peer_epoch = 2;
  struct Bad {
    const char* what;
    unsigned counter;
    std::uint8_t flags = wire::kMigRedirect;
    std::uint32_t epoch = 3;
    std::function<void(wire::Redirect&)> before_token = [](auto&) {};
    std::function<void(wire::Headers&, std::vector<std::uint8_t>&)> after = [](auto&, auto&) {};
  };
  const std::vector<Bad> all = {
      {"no place", GODWIT_COUNTER_RESUME_BAD_VERSION, wire::kMigRedirect, 3, [](auto&) {},
       [](auto&, auto& bytes) { bytes.clear(); }},
      {"too short", GODWIT_COUNTER_RESUME_BAD_VERSION, wire::kMigRedirect, 3, [](auto&) {},
       [](auto&, auto& bytes) { bytes.resize(20); }},
      {"too long", GODWIT_COUNTER_RESUME_BAD_VERSION, wire::kMigRedirect, 3, [](auto&) {},
       [](auto&, auto& bytes) { bytes.resize(28); }},
      {"reserved", GODWIT_COUNTER_RESUME_BAD_VERSION, wire::kMigRedirect, 3, [](auto&) {},
       [](auto&, auto& bytes) { bytes[23] = 1; }},
      {"version", GODWIT_COUNTER_RESUME_BAD_VERSION, wire::kMigRedirect, 3, [](auto&) {},
       [](auto& h, auto&) { h.mig.version = 2; }},
      {"HOME", GODWIT_COUNTER_RESUME_BAD_VERSION, wire::kMigRedirect | wire::kMigHome},
      {"flags", GODWIT_COUNTER_RESUME_BAD_VERSION, wire::kMigRedirect | 0x10},
      {"a place without the flag", GODWIT_COUNTER_RESUME_BAD_VERSION, 0},
      {"no MAC", GODWIT_COUNTER_RESUME_BAD_ADDRESS, wire::kMigRedirect, 3,
       [](auto& place) { place.mac = {}; }},
      {"group MAC", GODWIT_COUNTER_RESUME_BAD_ADDRESS, wire::kMigRedirect, 3,
       [](auto& place) { place.mac[0] |= 1; }},
      {"no GID", GODWIT_COUNTER_RESUME_BAD_ADDRESS, wire::kMigRedirect, 3,
       [](auto& place) { place.gid[12] = place.gid[15] = 0; }},
      {"IPv6", GODWIT_COUNTER_RESUME_BAD_ADDRESS, wire::kMigRedirect, 3,
       [](auto& place) { place.gid[10] = 0; }},
      {"multicast", GODWIT_COUNTER_RESUME_BAD_ADDRESS, wire::kMigRedirect, 3,
       [](auto& place) { place.gid[12] = 239; }},
      {"token", GODWIT_COUNTER_RESUME_BAD_TOKEN, wire::kMigRedirect, 3, [](auto&) {},
       [](auto& h, auto&) { ++h.mig.token; }},
      {"GID of another token", GODWIT_COUNTER_RESUME_BAD_TOKEN, wire::kMigRedirect, 3, [](auto&) {},
       [](auto&, auto& bytes) { bytes[15] ^= 1; }},
      {"MAC of another token", GODWIT_COUNTER_RESUME_BAD_TOKEN, wire::kMigRedirect, 3, [](auto&) {},
       [](auto&, auto& bytes) { bytes[21] ^= 1; }},
      {"old", GODWIT_COUNTER_RESUME_STALE_EPOCH, wire::kMigRedirect, 1},
      {"same epoch, another place", GODWIT_COUNTER_RESUME_STALE_EPOCH, wire::kMigRedirect, 2},
  };
  for (const Bad& bad : all) {
    wire::Redirect place = good;
    bad.before_token(place);
    wire::Headers h = signed_resume(*w.b, bad.flags, bad.epoch, place);
    std::vector<std::uint8_t> bytes = bytes_of(place);
    bad.after(h, bytes);
    const std::uint64_t counted = w.a->counters[bad.counter];
    give(*w.a, *w.b, 0, h, bytes);
    EXPECT_EQ(w.a->counters[bad.counter], counted + 1) << bad.what;
    EXPECT_EQ(w.a->qp.attr.dgid, before.dgid) << bad.what;
    EXPECT_EQ(w.a->qp.attr.dmac, before.dmac) << bad.what;
    EXPECT_TRUE(sent(*w.a).empty()) << bad.what;
  }
  // A stopped QP changes nothing and says nothing to it: who sent it will repeat.
  ASSERT_EQ(stop(w.a->qp, w.a->ports, 0), StopResult::kOk);
  give(*w.a, *w.b, 0, signed_resume(*w.b, wire::kMigRedirect, 3, good), bytes_of(good));
  EXPECT_TRUE(sent(*w.a).empty());
  EXPECT_EQ(w.a->counters[GODWIT_COUNTER_STOPPED_DROPS], 1U);
}

TEST(Token, ReferenceVectorsOfSipHash) {
  SipKey key;
  for (std::uint8_t i = 0; i < 16; ++i) key[i] = i;
  std::vector<std::uint8_t> message;
  EXPECT_EQ(siphash(key, message), 0x726fdb47dd0e0e31U);
  for (std::uint8_t i = 0; i < 15; ++i) message.push_back(i);
  EXPECT_EQ(siphash(key, message), 0xa129ca6149be45e5U);
}

}  // namespace
}  // namespace godwit::transport
