// SPDX-License-Identifier: GPL-2.0-or-later
//
// RC through the whole device: rings, completions, events, and what becomes of
// them when a CQ breaks, a doorbell lies or the VM is saved.
#include <algorithm>
#include <cstring>

#include "transport/snapshot.h"
#include "transport/token.h"
#include "unit/pair.h"

namespace godwit::test {
namespace {

class DeviceRc : public ::testing::Test {
 protected:
  void SetUp() override { m.start(); }
  std::vector<unsigned> qp_events() {
    std::vector<unsigned> out;
    for (const godwit_eqe& e : m.events(0)) {
      if (e.type == GODWIT_EQE_QP) out.push_back(e.subtype);
    }
    return out;
  }
  unsigned completion_events() {
    unsigned n = 0;
    for (const godwit_eqe& e : m.events(1)) n += e.type == GODWIT_EQE_COMP ? 1 : 0;
    return n;
  }
  Machine m{small_config(1)};
};

TEST_F(DeviceRc, EveryOperationBetweenTwoQpsOfOneNic) {
  Pair p(m);
  p.connect();
  for (const std::uint8_t opcode :
       {GODWIT_WR_SEND, GODWIT_WR_SEND_IMM, GODWIT_WR_WRITE, GODWIT_WR_WRITE_IMM, GODWIT_WR_READ,
        GODWIT_WR_COMPARE_SWAP, GODWIT_WR_FETCH_ADD}) {
    p.receive();
    p.send(p.work(opcode));
    const auto done = p.cq[0].poll();
    ASSERT_TRUE(done.has_value()) << int{opcode};
    EXPECT_EQ(done->status, GODWIT_CQE_SUCCESS) << int{opcode};
    EXPECT_EQ(done->opcode, opcode);
  }
  EXPECT_TRUE(m.sent.empty()) << "nothing of it goes onto the wire";
  // The first packet met the peer in RTS already: no COMM_EST.
  EXPECT_TRUE(qp_events().empty());
}

// A container that moves to its peer's NIC has its address there before it has its QPs there.
TEST_F(DeviceRc, QpThatIsNotHereYetIsReachedOverTheWire) {
  Pair p(m);
  const Mac mac = {2, 0, 0, 0, 0, 9};
  const Gid gid = ipv4_gid(10, 77, 1, 1);
  Pair::must(m.set_gid(1, gid, mac));
  const std::uint32_t elsewhere = p.qp[1].qpn ^ 1;
  const ConnectOptions o;
  Pair::must(m.to_init(p.qp[0], o));
  Pair::must(m.to_rtr(p.qp[0], o, {gid, mac, elsewhere, Pair::psn(1)}));
  Pair::must(m.to_rts(p.qp[0], o, Pair::psn(0)));
  p.send(p.work(GODWIT_WR_WRITE));
  EXPECT_EQ(m.sent.size(), 1u);
  EXPECT_EQ(p.counter(GODWIT_COUNTER_RX_NO_QP), 0u);
}

// Flow control: while the wire is busy nothing new begins, and nothing is lost. But a wire that is
// stuck is not waited for, so that the queue pair finds out by its retries.
TEST(Wire, BusyHoldsQueuePairsBackForAWhile) {
  std::uint64_t clock = 0;
  Machine m(small_config(1), &clock);
  m.start();
  Pair p(m);
  ConnectOptions o;
  o.path_mtu = 1;  // 256
  o.timeout = 18;  // 1 s
  Pair::must(m.to_init(p.qp[0], o));
  Pair::must(m.to_rtr(p.qp[0], o, {ipv4_gid(10, 77, 0, 2), {2, 0, 0, 0, 0, 2}, 77, 0}));
  Pair::must(m.to_rts(p.qp[0], o, 0));
  bool busy = true;
  m.wire_busy = [&] { return busy; };
  p.send(p.work(GODWIT_WR_WRITE, 16384));
  const std::size_t turn = m.sent.size();
  EXPECT_GT(turn, 0u);
  EXPECT_LE(turn, 32u);
  EXPECT_TRUE(m.run());  // it comes to rest
  EXPECT_EQ(m.sent.size(), turn);

  EXPECT_EQ(m.next_deadline(), clock + 100'000'000);
  clock += 100'000'000;
  m.run();
  EXPECT_EQ(m.sent.size(), 2 * turn);

  busy = false;
  m.wire_ready();
  EXPECT_TRUE(m.kicked());
  m.run();
  EXPECT_EQ(m.sent.size(), 64u);  // all of it

  // Commands go on meanwhile, and a reset forgets it.
  busy = true;
  p.send(p.work(GODWIT_WR_WRITE, 16384));
  EXPECT_EQ(p.status(0), GODWIT_QP_STATUS_RTS);
  godwit_device_reset(m.device());
  EXPECT_EQ(m.next_deadline(), GODWIT_NO_DEADLINE);
}

// A program may end as soon as it has what it waited for; its peer must not get an error for that.
TEST(Wire, WhatWasReceivedIsAcknowledgedBeforeItsQpGoes) {
  for (const unsigned end :
       {unsigned{GODWIT_QP_STATUS_RESET}, unsigned{GODWIT_QP_STATUS_ERROR}, 99u}) {
    Machine a(small_config(1)), b(small_config(2));
    a.start();
    b.start();
    Pair from(a), to(b);
    const Gid gid = ipv4_gid(10, 77, 0, 2);
    const Mac mac = {2, 0, 0, 0, 0, 2};
    Pair::must(b.set_gid(1, gid, mac));
    ConnectOptions o;
    Pair::must(a.to_init(from.qp[0], o));
    Pair::must(a.to_rtr(from.qp[0], o, {gid, mac, to.qp[0].qpn, Pair::psn(1)}));
    Pair::must(a.to_rts(from.qp[0], o, Pair::psn(0)));
    o.sgid_index = 1;
    Pair::must(b.to_init(to.qp[0], o));
    Pair::must(b.to_rtr(to.qp[0], o, {Pair::gid(), Pair::kMac, from.qp[0].qpn, Pair::psn(0)}));
    Pair::must(b.to_rts(to.qp[0], o, Pair::psn(1)));
    to.qp[0].write_recv({{to.region[0].iova, 4096, to.region[0].key}});
    from.send(from.work(GODWIT_WR_SEND));
    ASSERT_EQ(a.sent.size(), 1u);
    b.receive(a.sent.front());
    ASSERT_TRUE(to.cq[0].poll().has_value());
    EXPECT_TRUE(b.sent.empty());

    const std::uint32_t qpn = to.qp[0].qpn;
    Pair::must(end == 99 ? b.destroy_qp(qpn) : b.set_status(qpn, static_cast<std::uint8_t>(end)));
    ASSERT_EQ(b.sent.size(), 1u);
    a.receive(b.sent.front());
    a.run();
    const auto done = from.cq[0].poll();
    ASSERT_TRUE(done.has_value());
    EXPECT_EQ(done->status, GODWIT_CQE_SUCCESS);
  }
}

TEST_F(DeviceRc, FirstPacketInRtrIsAnEvent) {
  Pair p(m);
  ConnectOptions o;
  for (unsigned i = 0; i < 2; ++i) {
    Pair::must(m.to_init(p.qp[i], o));
    Pair::must(m.to_rtr(p.qp[i], o, {Pair::gid(), Pair::kMac, p.qp[1 - i].qpn, Pair::psn(1 - i)}));
  }
  Pair::must(m.to_rts(p.qp[0], o, Pair::psn(0)));
  p.receive();
  p.send(p.work(GODWIT_WR_SEND));
  EXPECT_EQ(qp_events(), std::vector<unsigned>{GODWIT_EQE_QP_COMM_EST});
}

// IBTA 11.4.2.2: only solicited entries, and errors, wake a CQ that is armed for those.
TEST_F(DeviceRc, SolicitedEvents) {
  Pair p(m);
  p.connect();
  m.arm(p.cq[1], true);
  p.receive();
  p.send(p.work(GODWIT_WR_SEND));
  EXPECT_EQ(completion_events(), 0u);
  SendWork w = p.work(GODWIT_WR_SEND);
  w.flags |= GODWIT_WQE_SOLICITED_MASK;
  p.receive();
  p.send(w);
  EXPECT_EQ(completion_events(), 1u);
  while (p.cq[1].poll()) {
  }
  m.arm(p.cq[1], true);
  p.receive();
  Pair::must(m.set_status(p.qp[1].qpn, GODWIT_QP_STATUS_ERROR));
  m.run();
  EXPECT_EQ(completion_events(), 1u) << "a flushed receive is an error";
}

// What a doorbell's processor does itself is little, and nothing of the rest is lost.
TEST_F(DeviceRc, ABriefRunSendsTheFirstPackets) {
  Pair p(m);
  p.connect();
  p.qp[0].write_send(p.work(GODWIT_WR_WRITE, 32768));
  m.ring_sq(p.qp[0]);
  const std::uint64_t before = p.counter(GODWIT_COUNTER_TX_RDMA_PACKETS);
  m.run_briefly();
  EXPECT_EQ(p.counter(GODWIT_COUNTER_TX_RDMA_PACKETS) - before, 4u);
  EXPECT_TRUE(m.kicked());
  EXPECT_FALSE(p.cq[0].poll());
  m.run();
  const auto done = p.cq[0].poll();
  ASSERT_TRUE(done);
  EXPECT_EQ(done->status, GODWIT_CQE_SUCCESS);
}

// Programs that arm first and then look once for each event must have one event for each entry.
TEST_F(DeviceRc, AnEntryIsToldOnce) {
  Pair p(m);
  p.connect();
  const auto arm = [&] {
    m.arm(p.cq[1], false);
    m.run();
  };
  const auto message = [&p] {
    p.receive();
    p.send(p.work(GODWIT_WR_SEND));
  };
  arm();
  message();
  EXPECT_EQ(completion_events(), 1u);
  arm();
  EXPECT_EQ(completion_events(), 0u) << "of the first entry once more";
  message();
  EXPECT_EQ(completion_events(), 1u);
  message();
  EXPECT_EQ(completion_events(), 0u) << "not armed";
  arm();
  EXPECT_EQ(completion_events(), 1u) << "came before the arming, after the last event";
  while (p.cq[1].poll()) {
  }
  arm();
  EXPECT_EQ(completion_events(), 0u);
}

// IBTA 10.3.1: SQD lets end what was begun, and says so; the rest waits for RTS.
TEST_F(DeviceRc, SendQueueDrained) {
  Pair p(m);
  p.connect();
  godwit_modify_qp in = {};
  in.qpn = {p.qp[0].qpn};
  in.mask = {GODWIT_QP_ATTR_STATUS | GODWIT_QP_ATTR_SQD_ASYNC_NOTIFY};
  in.attr.status = GODWIT_QP_STATUS_SQD;
  in.attr.sqd_async_notify = 1;
  Pair::must(m.modify(in));
  m.run();
  EXPECT_EQ(qp_events(), std::vector<unsigned>{GODWIT_EQE_QP_SQ_DRAINED});
  p.send(p.work(GODWIT_WR_WRITE));
  EXPECT_FALSE(p.cq[0].poll().has_value());
  Pair::must(m.set_status(p.qp[0].qpn, GODWIT_QP_STATUS_RTS));
  m.run();
  EXPECT_TRUE(p.cq[0].poll().has_value());
  EXPECT_TRUE(qp_events().empty());
}

TEST_F(DeviceRc, AccessErrorFlushesBothEnds) {
  Pair p(m);
  p.connect();
  p.receive();
  SendWork w = p.work(GODWIT_WR_WRITE);
  w.rkey ^= 0x100;
  p.qp[0].write_send(w);
  p.send(p.work(GODWIT_WR_SEND));
  EXPECT_EQ(p.cq[0].poll()->status, GODWIT_CQE_REM_ACCESS_ERR);
  EXPECT_EQ(p.cq[0].poll()->status, GODWIT_CQE_WR_FLUSH_ERR);
  EXPECT_EQ(p.cq[1].poll()->status, GODWIT_CQE_WR_FLUSH_ERR);
  EXPECT_EQ(qp_events(), std::vector<unsigned>{GODWIT_EQE_QP_ACCESS_ERROR});
}

// Keys count in the QP's protection domain only.
TEST_F(DeviceRc, KeyOfAnotherDomain) {
  Pair p(m);
  p.connect();
  Pair::must(m.create_pd(1, 9));
  MemoryRegion other;
  other.pdn = 9;
  other.access = 0xf;
  other.iova = 0x5000;
  other.buffer = make_buffer(m.memory(), 4096);
  Pair::must(m.register_region(&other));
  SendWork w = p.work(GODWIT_WR_WRITE);
  w.sges = {{other.iova, 8, other.key}};
  p.send(w);
  EXPECT_EQ(p.cq[0].poll()->status, GODWIT_CQE_LOC_PROT_ERR);
}

// A sum of addresses that goes around 2^64 is no way into memory.
TEST_F(DeviceRc, RangesThatWrap) {
  for (const std::uint64_t addr : {UINT64_MAX, UINT64_MAX - 7, std::uint64_t{0}}) {
    Machine one(small_config(1));
    one.start();
    Pair p(one);
    p.connect();
    SendWork w = p.work(GODWIT_WR_WRITE);
    w.sges[0].addr = addr;
    p.send(w);
    EXPECT_EQ(p.cq[0].poll()->status, GODWIT_CQE_LOC_PROT_ERR);
    Machine two(small_config(1));
    two.start();
    Pair q(two);
    q.connect();
    w = q.work(GODWIT_WR_READ);
    w.remote_addr = addr;
    q.send(w);
    EXPECT_EQ(q.cq[0].poll()->status, GODWIT_CQE_REM_ACCESS_ERR);
  }
}

TEST_F(DeviceRc, FullCqEndsItsQps) {
  Pair p(m, 1);
  p.connect();
  for (int i = 0; i < 3; ++i) p.send(p.work(GODWIT_WR_WRITE));
  EXPECT_EQ(p.status(0), GODWIT_QP_STATUS_ERROR);
  EXPECT_EQ(p.status(1), GODWIT_QP_STATUS_RTS);
  EXPECT_EQ(qp_events(), std::vector<unsigned>{GODWIT_EQE_QP_FATAL});
}

// A QP that was stopped while its CQ broke ends with its next completion.
TEST_F(DeviceRc, CqBreaksWhileAQpIsStopped) {
  Pair p(m, 1);
  Pair q(m, 7, 8);
  q.cq[0].buffer.release();
  p.connect();
  // Another QP on the CQ that p's first one uses.
  QueuePair third = p.qp[0];
  third.qpn = 0;
  third.buffer = {};
  Pair::must(m.create_qp(&third));
  ConnectOptions o;
  Pair::must(m.to_init(third, o));
  Pair::must(m.to_rtr(third, o, {Pair::gid(), Pair::kMac, q.qp[1].qpn, 1}));
  Pair::must(m.to_rts(third, o, 2));
  Pair::must(m.to_init(q.qp[1], o));
  Pair::must(m.to_rtr(q.qp[1], o, {Pair::gid(), Pair::kMac, third.qpn, 2}));
  Pair::must(m.scope(GODWIT_CMD_STOP, GODWIT_SCOPE_QP, third.qpn));
  for (int i = 0; i < 3; ++i) p.send(p.work(GODWIT_WR_WRITE));
  EXPECT_EQ(p.status(0), GODWIT_QP_STATUS_ERROR);
  EXPECT_EQ(m.query_qp(third.qpn).attr.status, GODWIT_QP_STATUS_RTS);
  third.write_send(p.work(GODWIT_WR_WRITE));
  Pair::must(m.scope(GODWIT_CMD_UNSTOP, GODWIT_SCOPE_QP, third.qpn));
  m.run();
  EXPECT_EQ(m.query_qp(third.qpn).attr.status, GODWIT_QP_STATUS_ERROR);
}

TEST_F(DeviceRc, OvertakenDoorbellChangesNothing) {
  Pair p(m);
  p.connect();
  for (int i = 0; i < 3; ++i) p.qp[0].write_send(p.work(GODWIT_WR_WRITE));
  m.doorbell(1, GODWIT_DB_SQ, p.qp[0].qpn, 3);
  m.doorbell(1, GODWIT_DB_SQ, p.qp[0].qpn, 1);
  m.run();
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(p.cq[0].poll().has_value()) << i;
  m.doorbell(1, GODWIT_DB_SQ, p.qp[0].qpn, 2);
  m.doorbell(2, GODWIT_DB_SQ, p.qp[0].qpn, 4);   // another context's page
  m.doorbell(1, GODWIT_DB_SQ, p.qp[0].qpn, 20);  // more than the queue holds
  m.run();
  EXPECT_EQ(p.status(0), GODWIT_QP_STATUS_RTS);
  EXPECT_FALSE(p.cq[0].poll().has_value());
  EXPECT_EQ(p.counter(GODWIT_COUNTER_BAD_DOORBELLS), 3u);
}

// Nor when what it takes back is on its way already.
TEST_F(DeviceRc, OvertakenDoorbellTakesNothingBack) {
  std::uint64_t clock = 1;
  Machine timed(small_config(1), &clock);
  timed.start();
  Pair p(timed);
  p.connect();
  Pair::must(timed.scope(GODWIT_CMD_STOP, GODWIT_SCOPE_QP, p.qp[1].qpn));
  for (int i = 0; i < 3; ++i) p.qp[0].write_send(p.work(GODWIT_WR_WRITE));
  timed.ring_sq(p.qp[0]);
  timed.run();
  timed.doorbell(1, GODWIT_DB_SQ, p.qp[0].qpn, 1);
  timed.run();
  Pair::must(timed.scope(GODWIT_CMD_UNSTOP, GODWIT_SCOPE_QP, p.qp[1].qpn));
  clock += 100'000'000;
  timed.run();
  for (int i = 0; i < 3; ++i) {
    const auto done = p.cq[0].poll();
    ASSERT_TRUE(done.has_value()) << i;
    EXPECT_EQ(done->status, GODWIT_CQE_SUCCESS);
  }
}

// A QP in Error that had packets under way can be moved like any other.
TEST_F(DeviceRc, QpInErrorIsSavedAndLoaded) {
  Pair p(m);
  p.connect();
  m.doorbell(1, GODWIT_DB_SQ, p.qp[0].qpn, 0);
  Pair::must(m.scope(GODWIT_CMD_STOP, GODWIT_SCOPE_QP, p.qp[1].qpn));
  p.send(p.work(GODWIT_WR_WRITE));  // answered with NAK_STOPPED
  Pair::must(m.set_status(p.qp[0].qpn, GODWIT_QP_STATUS_ERROR));
  m.run();
  Pair::must(m.scope(GODWIT_CMD_STOP, GODWIT_SCOPE_QP, p.qp[0].qpn));
  EXPECT_EQ(p.cq[0].poll()->status, GODWIT_CQE_WR_FLUSH_ERR);
  std::vector<std::uint8_t> state;
  Pair::must(m.save_object(GODWIT_STATE_QP, 1, p.qp[0].qpn, &state));
  Pair::must(m.tombstone(p.qp[0].qpn, 77));
  Pair::must(m.create_qp(&p.qp[0], true, 77));
  EXPECT_TRUE(m.load_object(GODWIT_STATE_QP, 1, p.qp[0].qpn, state, 0).ok());
  EXPECT_TRUE(m.attach(GODWIT_STATE_QP, 1, p.qp[0].qpn, p.qp[0].buffer).ok());
  EXPECT_TRUE(m.resume(GODWIT_SCOPE_QP, p.qp[0].qpn, 1).ok());
  EXPECT_EQ(p.status(0), GODWIT_QP_STATUS_ERROR);
}

// Back home, where it has been stopped before it had entered RTS.
TEST_F(DeviceRc, TombstoneOfBeforeRtsGivesWayToItsQpInRts) {
  Pair p(m);
  const ConnectOptions options;
  Pair::must(m.to_init(p.qp[0], options));
  Pair::must(m.to_rtr(p.qp[0], options, {Pair::gid(), Pair::kMac, p.qp[1].qpn, Pair::psn(1)}));
  Pair::must(m.scope(GODWIT_CMD_STOP, GODWIT_SCOPE_QP, p.qp[0].qpn));
  std::vector<std::uint8_t> bytes;
  Pair::must(m.save_object(GODWIT_STATE_QP, 1, p.qp[0].qpn, &bytes));
  Pair::must(m.tombstone(p.qp[0].qpn, 77));
  Pair::must(m.create_qp(&p.qp[0], true, 77));
  const auto load = [&](std::uint32_t rq_psn) {
    godwit_qp_state state;
    std::memcpy(&state, bytes.data(), sizeof(state));
    state.attr.status = state.attr.cur_status = GODWIT_QP_STATUS_RTS;
    state.entered = 3;
    state.attr.sq_psn = state.initial_sq_psn = state.sq_first_psn = {9};
    state.una_psn = state.next_psn = state.high_psn = {9};
    state.attr.rq_psn = state.initial_rq_psn = {rq_psn};
    state.header.crc32 = {transport::state_crc(&state, sizeof(state))};
    std::memcpy(bytes.data(), &state, sizeof(state));
    return m.load_object(GODWIT_STATE_QP, 1, p.qp[0].qpn, bytes, 0).status;
  };
  EXPECT_EQ(load(Pair::psn(1) + 1), GODWIT_CMD_STATUS_BAD_IMAGE) << "of another connection";
  EXPECT_EQ(load(Pair::psn(1)), GODWIT_CMD_STATUS_OK);
}

TEST_F(DeviceRc, SentPacketsAreTraced) {
  Pair p(m);
  p.connect();
  std::vector<std::array<std::uint64_t, 4>> seen;
  m.on_trace = [&](godwit_trace_event event, const auto& v) {
    if (event == GODWIT_TRACE_PACKET_TX) seen.push_back(v);
  };
  p.send(p.work(GODWIT_WR_WRITE, 100));
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0], (std::array<std::uint64_t, 4>{p.qp[1].qpn, 0x0a, Pair::psn(0), 100}));
  EXPECT_EQ(seen[1], (std::array<std::uint64_t, 4>{p.qp[0].qpn, 0x11, Pair::psn(0), 0}));
}

TEST_F(DeviceRc, ResetForgetsEventsThatWereDue) {
  godwit_device_set_link(m.device(), false);
  godwit_device_set_link(m.device(), true);
  godwit_device_reset(m.device());
  Machine fresh(small_config(1));
  m.start();
  EXPECT_TRUE(m.events(0).empty());
}

// ---- VM snapshots

TEST_F(DeviceRc, VmSnapshotGoesOnWhereItWas) {
  Pair p(m);
  p.connect();
  m.set_reg(GODWIT_REG_SCRATCH, 0x1234);
  Pair::must(m.scope(GODWIT_CMD_STOP, GODWIT_SCOPE_QP, p.qp[1].qpn));
  p.receive();
  p.send(p.work(GODWIT_WR_SEND));
  EXPECT_EQ(m.query_qp(p.qp[0].qpn).ext.raw, unsigned{GODWIT_QP_EXT_PAUSED_MASK});
  p.qp[0].write_send(p.work(GODWIT_WR_WRITE));
  m.ring_sq(p.qp[0]);  // a doorbell that the device has not looked at
  ASSERT_EQ(m.load(m.save()), nullptr);
  // What was under way is sent again; all else is as it was.
  const auto state = m.save();
  ASSERT_EQ(m.load(state), nullptr);
  EXPECT_EQ(m.save(), state);
  EXPECT_EQ(m.reg(GODWIT_REG_SCRATCH), 0x1234u);
  EXPECT_EQ(m.query_qp(p.qp[1].qpn).ext.raw, unsigned{GODWIT_QP_EXT_STOPPED_MASK});
  Pair::must(m.scope(GODWIT_CMD_UNSTOP, GODWIT_SCOPE_QP, p.qp[1].qpn));
  Pair::must(m.set_status(p.qp[0].qpn, GODWIT_QP_STATUS_RTS));
  EXPECT_NE(m.next_deadline(), GODWIT_NO_DEADLINE) << "the probe";
}

// What a tombstone has been told is kept.
TEST_F(DeviceRc, VmSnapshotKeepsWhereATombstonesQpIs) {
  Pair p(m);
  p.connect();
  Pair::must(m.scope(GODWIT_CMD_STOP, GODWIT_SCOPE_QP, p.qp[1].qpn));
  Pair::must(m.tombstone(p.qp[1].qpn, 77));
  const Gid there = ipv4_gid(10, 77, 0, 3);
  transport::TokenInput input;
  input.flags = wire::kMigHome | wire::kMigRtr;
  input.mover_qpn = p.qp[1].qpn;
  input.peer_qpn = p.qp[0].qpn;
  input.initial_psn = Pair::psn(0);
  input.epoch = 1;
  input.mover_gid = there;
  wire::Headers h;
  h.opcode = wire::kResume;
  h.extended = true;
  h.dest_qpn = p.qp[1].qpn;
  h.mig.flags = input.flags;
  h.mig.epoch = 1;
  h.mig.token = transport::token(input);
  wire::Path path;
  path.ipv4 = true;
  path.sgid = there;
  path.smac = {2, 0, 0, 0, 0, 3};
  path.dgid = Pair::gid();
  path.dmac = Pair::kMac;
  wire::FrameBuilder frame(path, h, 0);
  const auto bytes = frame.finish();
  m.receive({bytes.begin(), bytes.end()});
  ASSERT_EQ(m.load(m.save()), nullptr);
  p.send(p.work(GODWIT_WR_WRITE));  // loopback; follows at once
  EXPECT_EQ(p.counter(GODWIT_COUNTER_TX_REDIRECT), 1u);
  EXPECT_EQ(p.counter(GODWIT_COUNTER_RESUME_ACCEPTED), 1u);
  ASSERT_FALSE(m.sent.empty());
  EXPECT_TRUE(std::equal(path.smac.begin(), path.smac.end(), m.sent.front().begin()));
}

TEST_F(DeviceRc, VmSnapshotIsCheckedLikeHostileInput) {
  Pair p(m);
  p.connect();
  p.receive();
  p.send(p.work(GODWIT_WR_SEND));
  const auto good = m.save();
  ASSERT_EQ(m.load(good), nullptr);
  for (std::size_t cut = 0; cut < good.size(); cut += 1 + good.size() / 300) {
    EXPECT_NE(m.load({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(cut)}), nullptr);
    EXPECT_EQ(m.reg(GODWIT_REG_CONTROL), 0u) << "as after a reset";
  }
  auto longer = good;
  longer.push_back(0);
  EXPECT_NE(m.load(longer), nullptr);
  godwit_device_config config = small_config(1);
  config.doorbell_pages = 32;
  Machine other(config);
  EXPECT_NE(other.load(good), nullptr);
}

}  // namespace
}  // namespace godwit::test
