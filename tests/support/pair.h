// SPDX-License-Identifier: GPL-2.0-or-later
//
// Two QPs of one NIC that talk to each other, in user context 1.
#ifndef GODWIT_TESTS_SUPPORT_PAIR_H
#define GODWIT_TESTS_SUPPORT_PAIR_H

#include "godwit_counters.h"
#include "support/machine.h"

namespace godwit::test {

struct Pair {
  static constexpr std::uint32_t kPd = 3;
  static constexpr Mac kMac = {2, 0, 0, 0, 0, 1};

  explicit Pair(Machine& machine, std::uint32_t log2_cq = 7, std::uint32_t first_cqn = 5)
      : m(machine) {
    if (m.query_device().max_qp.raw == 0) __builtin_trap();
    must(m.set_gid(0, gid(), kMac));
    if (first_cqn == 5) must(m.create_pd(1, kPd));
    for (unsigned i = 0; i < 2; ++i) {
      cq[i].uctx = 1;
      cq[i].number = first_cqn + i;
      cq[i].log2_depth = log2_cq;
      must(m.create_cq(&cq[i]));
      region[i].pdn = kPd;
      region[i].access = 0xf;
      region[i].iova = 0x7f0000000000 + i * 0x1000000;
      region[i].buffer = make_buffer(m.memory(), 65536, 64);
      must(m.register_region(&region[i]));
      qp[i].uctx = 1;
      qp[i].pdn = kPd;
      qp[i].send_cqn = qp[i].recv_cqn = cq[i].number;
      qp[i].log2_sq = qp[i].log2_rq = 4;
      must(m.create_qp(&qp[i]));
    }
  }

  static Gid gid() { return ipv4_gid(10, 77, 0, 1); }
  static std::uint32_t psn(unsigned i) { return 0xfffff8 + i; }

  void connect(const ConnectOptions& options = {}) {
    for (unsigned i = 0; i < 2; ++i) {
      must(m.to_init(qp[i], options));
      must(m.to_rtr(qp[i], options, {gid(), kMac, qp[1 - i].qpn, psn(1 - i)}));
      must(m.to_rts(qp[i], options, psn(i)));
    }
  }

  SendWork work(std::uint8_t opcode, std::uint32_t length = 8) const {
    SendWork w;
    w.opcode = opcode;
    w.remote_addr = region[1].iova;
    w.rkey = region[1].key;
    w.sges = {{region[0].iova, length, region[0].key}};
    return w;
  }
  void send(const SendWork& w) {
    qp[0].write_send(w);
    m.ring_sq(qp[0]);
    m.run();
  }
  void receive(std::uint32_t length = 4096) {
    qp[1].write_recv({{region[1].iova + 32768, length, region[1].key}});
  }
  std::uint8_t status(unsigned i) { return m.query_qp(qp[i].qpn).attr.status; }
  std::uint64_t counter(unsigned index) const { return godwit_device_counter(m.device(), index); }

  static void must(const Result& result) {
    if (!result.ok()) __builtin_trap();
  }

  Machine& m;
  CompletionQueue cq[2];
  MemoryRegion region[2];
  QueuePair qp[2];
};

}  // namespace godwit::test

#endif  // GODWIT_TESTS_SUPPORT_PAIR_H
