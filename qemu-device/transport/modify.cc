// SPDX-License-Identifier: GPL-2.0-or-later
//
// MODIFY_QP of an RC QP: which attributes a transition needs and allows
// (IBTA 10.3.1 and table 91).
#include "godwit_cmd.h"
#include "transport/internal.h"

namespace godwit::transport {
namespace {

constexpr std::uint32_t kPkey = GODWIT_QP_ATTR_PKEY_INDEX;
constexpr std::uint32_t kAccess = GODWIT_QP_ATTR_ACCESS;
constexpr std::uint32_t kRnrTimer = GODWIT_QP_ATTR_MIN_RNR_TIMER;
constexpr std::uint32_t kToRtr = GODWIT_QP_ATTR_AV | GODWIT_QP_ATTR_PATH_MTU |
                                 GODWIT_QP_ATTR_DEST_QPN | GODWIT_QP_ATTR_RQ_PSN |
                                 GODWIT_QP_ATTR_MAX_DEST_RD_ATOMIC | kRnrTimer;
constexpr std::uint32_t kToRts = GODWIT_QP_ATTR_TIMEOUT | GODWIT_QP_ATTR_RETRY_CNT |
                                 GODWIT_QP_ATTR_RNR_RETRY | GODWIT_QP_ATTR_SQ_PSN |
                                 GODWIT_QP_ATTR_MAX_RD_ATOMIC;
constexpr std::uint32_t kInSqd = GODWIT_QP_ATTR_AV | GODWIT_QP_ATTR_TIMEOUT |
                                 GODWIT_QP_ATTR_RETRY_CNT | GODWIT_QP_ATTR_RNR_RETRY |
                                 GODWIT_QP_ATTR_MAX_RD_ATOMIC | GODWIT_QP_ATTR_MAX_DEST_RD_ATOMIC |
                                 kPkey | kAccess | kRnrTimer;
constexpr std::uint32_t kAlways = GODWIT_QP_ATTR_STATUS | GODWIT_QP_ATTR_CUR_STATUS;

struct Transition {
  Status from;
  Status to;
  std::uint32_t required;
  std::uint32_t optional;
};

constexpr Transition kTransitions[] = {
    {Status::kReset, Status::kInit, kPkey | kAccess, 0},
    {Status::kInit, Status::kInit, 0, kPkey | kAccess},
    {Status::kInit, Status::kRtr, kToRtr, kPkey | kAccess},
    {Status::kRtr, Status::kRts, kToRts, kAccess | kRnrTimer},
    {Status::kRts, Status::kRts, 0, kAccess | kRnrTimer},
    {Status::kRts, Status::kSqd, 0, GODWIT_QP_ATTR_SQD_ASYNC_NOTIFY},
    {Status::kSqd, Status::kRts, 0, kAccess | kRnrTimer},
    {Status::kSqd, Status::kSqd, 0, kInSqd},
};

bool values_good(const Ports& ports, const QpAttributes& a, std::uint32_t mask) {
  const auto has = [mask](std::uint32_t bit) { return (mask & bit) != 0; };
  if (has(GODWIT_QP_ATTR_PKEY_INDEX) && a.pkey_index != 0) return false;
  if (has(GODWIT_QP_ATTR_ACCESS) &&
      (a.access & ~(GODWIT_ACCESS_REMOTE_WRITE | GODWIT_ACCESS_REMOTE_READ |
                    GODWIT_ACCESS_REMOTE_ATOMIC)) != 0) {
    return false;
  }
  if (has(GODWIT_QP_ATTR_PATH_MTU) && (a.path_mtu < 1 || a.path_mtu > 5)) return false;
  if (has(GODWIT_QP_ATTR_TIMEOUT) && a.timeout > 31) return false;
  if (has(GODWIT_QP_ATTR_RETRY_CNT) && a.retry_cnt > 7) return false;
  if (has(GODWIT_QP_ATTR_RNR_RETRY) && a.rnr_retry > 7) return false;
  if (has(GODWIT_QP_ATTR_MIN_RNR_TIMER) && a.min_rnr_timer > 31) return false;
  if (has(GODWIT_QP_ATTR_MAX_RD_ATOMIC) && a.max_rd_atomic > ports.config.max_rd_atomic) {
    return false;
  }
  if (has(GODWIT_QP_ATTR_MAX_DEST_RD_ATOMIC) && a.max_dest_rd_atomic > ports.config.max_rd_atomic) {
    return false;
  }
  if (has(GODWIT_QP_ATTR_DEST_QPN) && a.dest_qpn > 0xffffff) return false;
  if (has(GODWIT_QP_ATTR_SQ_PSN) && a.sq_psn > 0xffffff) return false;
  if (has(GODWIT_QP_ATTR_RQ_PSN) && a.rq_psn > 0xffffff) return false;
  if (has(GODWIT_QP_ATTR_AV)) {
    const GidEntry* entry = ports.link.gid(a.sgid_index);
    if (entry == nullptr || a.flow_label > 0xfffff) return false;
    // Both ends of a path speak the same IP version.
    if (is_ipv4(a.dgid) != entry->ipv4) return false;
  }
  return true;
}

void apply(Qp& qp, Ports& ports, const QpAttributes& a, std::uint32_t mask) {
  QpAttributes& q = qp.attr;
  const auto has = [mask](std::uint32_t bit) { return (mask & bit) != 0; };
  if (has(GODWIT_QP_ATTR_ACCESS)) q.access = a.access;
  if (has(GODWIT_QP_ATTR_PKEY_INDEX)) q.pkey_index = a.pkey_index;
  if (has(GODWIT_QP_ATTR_AV)) {
    q.dgid = a.dgid;
    q.dmac = a.dmac;
    q.sgid_index = a.sgid_index;
    q.flow_label = a.flow_label;
    q.udp_source_port = a.udp_source_port;
    q.traffic_class = a.traffic_class;
    q.hop_limit = a.hop_limit == 0 ? 64 : a.hop_limit;
    q.service_level = a.service_level;
    const GidEntry* entry = ports.link.gid(a.sgid_index);
    qp.own = {entry->gid, entry->mac};
    qp.own_ipv4 = entry->ipv4;
  }
  if (has(GODWIT_QP_ATTR_PATH_MTU)) q.path_mtu = a.path_mtu;
  if (has(GODWIT_QP_ATTR_TIMEOUT)) q.timeout = a.timeout;
  if (has(GODWIT_QP_ATTR_RETRY_CNT)) q.retry_cnt = a.retry_cnt;
  if (has(GODWIT_QP_ATTR_RNR_RETRY)) q.rnr_retry = a.rnr_retry;
  if (has(GODWIT_QP_ATTR_MAX_RD_ATOMIC)) q.max_rd_atomic = a.max_rd_atomic;
  if (has(GODWIT_QP_ATTR_MIN_RNR_TIMER)) q.min_rnr_timer = a.min_rnr_timer;
  if (has(GODWIT_QP_ATTR_MAX_DEST_RD_ATOMIC)) q.max_dest_rd_atomic = a.max_dest_rd_atomic;
  if (has(GODWIT_QP_ATTR_DEST_QPN)) q.dest_qpn = a.dest_qpn;
  if (has(GODWIT_QP_ATTR_SQD_ASYNC_NOTIFY)) q.sqd_async_notify = a.sqd_async_notify;
  if (has(GODWIT_QP_ATTR_RQ_PSN)) {
    q.rq_psn = a.rq_psn;
    qp.resp.expected = a.rq_psn;
  }
  if (has(GODWIT_QP_ATTR_SQ_PSN)) {
    q.sq_psn = a.sq_psn;
    qp.req.una = qp.req.next = qp.req.high = qp.req.first_psn = a.sq_psn;
  }
}

void reset(Qp& qp) {
  const QpAttributes fresh;
  qp.attr = fresh;
  qp.own = Place{};
  qp.req = Requester{};
  qp.resp = Responder{};
  qp.mig = Migration{};
}

}  // namespace

ModifyResult modify_qp(Qp& qp, Ports& ports, std::uint64_t now_ns, const QpAttributes& attributes,
                       std::uint32_t mask) {
  if (qp.mig.stopped || qp.mig.tombstone || qp.mig.unloaded) return ModifyResult::kBadState;
  const Status from = qp.attr.status;
  const Status to = (mask & GODWIT_QP_ATTR_STATUS) != 0 ? attributes.status : from;
  if ((mask & GODWIT_QP_ATTR_CUR_STATUS) != 0 && attributes.cur_status != from) {
    return ModifyResult::kBadState;
  }
  if (to == Status::kReset || to == Status::kError) {
    if ((mask & ~kAlways) != 0) return ModifyResult::kBadParameter;
    acknowledge_now(qp, ports, now_ns);
    if (to == Status::kReset) {
      reset(qp);
    } else {
      // Nothing of its own to report; a QP in Reset may go to Error as well.
      if (from == Status::kReset) {
        qp.attr.status = Status::kError;
      } else {
        enter_error(qp, ports, now_ns, Fault::kFlushed);
      }
    }
    return ModifyResult::kOk;
  }
  for (const Transition& t : kTransitions) {
    if (t.from != from || t.to != to) continue;
    if ((mask & t.required) != t.required || (mask & ~(t.required | t.optional | kAlways)) != 0 ||
        !values_good(ports, attributes, mask)) {
      return ModifyResult::kBadParameter;
    }
    apply(qp, ports, attributes, mask);
    qp.attr.status = to;
    if (to == Status::kRtr) qp.mig.entered_rtr = true;
    if (from == Status::kRtr && to == Status::kRts) {
      qp.mig.entered_rts = true;
      restart_retries(qp);
    }
    if (to == Status::kSqd && from == Status::kRts) qp.req.drained = false;
    ports.queues.event(qp, QpEvent::kStatusChanged);
    return ModifyResult::kOk;
  }
  return ModifyResult::kBadState;
}

}  // namespace godwit::transport
