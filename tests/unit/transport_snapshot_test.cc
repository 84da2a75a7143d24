// SPDX-License-Identifier: GPL-2.0-or-later
//
// Which saved states of a QP can be loaded.
#include "transport/snapshot.h"

#include <gtest/gtest.h>

namespace godwit::transport {
namespace {

constexpr std::uint64_t kNow = 1'000'000;

// Packets were on their way when all WQEs were completed.
Qp in_flight_of_no_wqe(Status status) {
  Qp qp;
  qp.log2_sq_depth = 6;
  qp.log2_rq_depth = 6;
  qp.attr.status = status;
  qp.attr.path_mtu = 5;
  qp.mig.entered_rtr = true;
  qp.mig.entered_rts = true;
  qp.req.producer = qp.req.consumer = 37856;
  qp.req.first_psn = qp.req.una = 2526006;
  qp.req.next = qp.req.high = 2526019;
  return qp;
}

const char* move(const Qp& from, Qp* to) {
  godwit_qp_state state;
  save_qp(from, kNow, &state);
  to->type = from.type;
  to->log2_sq_depth = from.log2_sq_depth;
  to->log2_rq_depth = from.log2_rq_depth;
  return load_qp(*to, kNow, state);
}

// Seen in a guest: its peer had been silent until the retries were used up, and
// all had been flushed, when the checkpoint came.
TEST(Snapshot, FlushedQpInErrorCanBeLoaded) {
  Qp to;
  ASSERT_STREQ(move(in_flight_of_no_wqe(Status::kError), &to), nullptr);
  EXPECT_EQ(to.attr.status, Status::kError);
  EXPECT_EQ(to.req.producer, to.req.consumer);
}

TEST(Snapshot, PacketsInFlightOfNoWqeAreRefusedInRts) {
  Qp to;
  ASSERT_STREQ(move(in_flight_of_no_wqe(Status::kRts), &to), "packets in flight of no WQE");
}

}  // namespace
}  // namespace godwit::transport
