// SPDX-License-Identifier: GPL-2.0-or-later
//
// The whole device as bytes, for snapshots and migration of the VM. Objects are written one after
// the other, each with what it names after what is named; the bytes are hostile when they are read.
//
// Not in it: frames between two QPs of this NIC and what had been sent but not acknowledged. Both
// are lost as on a wire, and sent again: a QP begins at its oldest unacknowledged packet.
#include <algorithm>
#include <concepts>
#include <cstring>

#include "device/device.h"
#include "transport/snapshot.h"
#include "wire/endian.h"

namespace godwit::device {

using resources::CompletionQueue;
using resources::EventQueue;
using resources::MemoryRegion;
using resources::PageListRequest;
using resources::PageMap;
using resources::ProtectionDomain;
using resources::WalkResult;
using transport::Status;
using wire::le32;

namespace {

constexpr std::uint32_t kMagic = 0x4d564447;  // "GDVM"
constexpr std::uint32_t kVersion = 2;
constexpr std::uint64_t kLongestTimer = 5'000'000ULL * 1'000'000'000;  // a ttl of 2^32 ms, and more
constexpr std::uint64_t kMillisecond = 1'000'000;

// The same list of fields serves both directions: a(x)(y) appends, or takes.
class Saver {
 public:
  template <std::integral T>
  Saver& operator()(const T& value) {
    for (std::size_t i = 0; i < sizeof(T); ++i) {
      out.push_back(static_cast<std::uint8_t>(static_cast<std::uint64_t>(value) >> (8 * i)));
    }
    return *this;
  }
  template <std::size_t kBytes>
  Saver& operator()(const std::array<std::uint8_t, kBytes>& bytes) {
    return raw(bytes.data(), kBytes);
  }
  Saver& raw(const void* bytes, std::size_t length) {
    const auto* p = static_cast<const std::uint8_t*>(bytes);
    out.insert(out.end(), p, p + length);
    return *this;
  }
  std::vector<std::uint8_t> out;
};

class Loader {
 public:
  explicit Loader(std::span<const std::uint8_t> bytes) : left_(bytes) {}
  template <std::integral T>
  Loader& operator()(T& value) {
    std::uint64_t taken = 0;
    if (sizeof(T) > left_.size()) {
      good_ = false;
    } else {
      for (std::size_t i = 0; i < sizeof(T); ++i) taken |= std::uint64_t{left_[i]} << (8 * i);
      left_ = left_.subspan(sizeof(T));
    }
    if (std::same_as<T, bool> && taken > 1) good_ = false;
    value = static_cast<T>(taken);
    return *this;
  }
  template <std::size_t kBytes>
  Loader& operator()(std::array<std::uint8_t, kBytes>& bytes) {
    return raw(bytes.data(), kBytes);
  }
  Loader& raw(void* bytes, std::size_t length) {
    if (length > left_.size()) {
      good_ = false;
      return *this;
    }
    std::memcpy(bytes, left_.data(), length);
    left_ = left_.subspan(length);
    return *this;
  }
  bool good() const { return good_; }
  std::size_t left() const { return left_.size(); }

 private:
  std::span<const std::uint8_t> left_;
  bool good_ = true;
};

}  // namespace

struct Device::Snapshot {
  Device& d;

  // ------------------------------------------------------------ fields, both ways

  template <typename A>
  void registers(A& a) {
    a(d.enabled_)(d.fatal_cause_)(d.cmd_sq_)(d.cmd_cq_)(d.cmd_log2_depth_)(d.cmd_interrupt_);
    a(d.scratch_)(d.bad_accesses_)(d.cmd_producer_)(d.cmd_consumer_)(d.random_.state);
    a(d.interrupts_)(d.port_event_due_);
    for (HalfDoorbell& half : d.halves_) a(half.offset)(half.low);
    for (Uctx& uctx : d.uctxs_) a(uctx.used);
    for (transport::GidEntry& entry : d.gids_) a(entry.valid)(entry.ipv4)(entry.gid)(entry.mac);
    for (std::uint64_t& counter : d.counters_) a(counter);
  }

  template <typename A>
  void ethernet(A& a) {
    Ethernet& e = d.eth_;
    a(e.enabled)(e.log2_tx)(e.log2_rx)(e.tx_armed)(e.rx_armed)(e.tx_unseen)(e.rx_unseen);
    a(e.frame_bad)(e.tx_ring)(e.rx_ring)(e.tx_producer)(e.tx_consumer)(e.rx_producer);
    a(e.rx_consumer)(e.gathered)(d.mac_filter_.flags);
  }

  template <typename A>
  static void fields(A& a, EventQueue& eq) {
    a(eq.vector)(eq.log2_depth)(eq.producer)(eq.consumer)(eq.armed)(eq.starved);
  }

  template <typename A>
  static void fields(A& a, MemoryRegion& region) {
    a(region.key)(region.access)(region.iova)(region.length)(region.all_memory);
  }

  template <typename A>
  static void fields(A& a, CompletionQueue& cq) {
    a(cq.uctx)(cq.number)(cq.eqn)(cq.event_number)(cq.log2_depth)(cq.record_offset)(cq.restore);
    a(cq.loaded)(cq.producer)(cq.consumer)(cq.solicited)(cq.armed)(cq.event_pending);
    a(cq.error_pending)(cq.failed)(cq.qps_pending);
  }

  template <typename A>
  static void fields(A& a, QueuePair& qp) {
    a(qp.qpn)(qp.type)(qp.log2_sq_depth)(qp.log2_rq_depth)(qp.uctx)(qp.sq_offset)(qp.rq_offset);
    a(qp.record_offset)(qp.log2_sq_stride)(qp.log2_rq_stride)(qp.max_send_sge)(qp.max_recv_sge);
    a(qp.signal_all)(qp.max_inline)(qp.restore)(qp.loopback)(qp.rq_producer)(qp.sq_noted);
    a(qp.sq_noted_producer)(qp.pending_events)(qp.move);
    transport::Migration& m = qp.mig;
    a(m.stopped)(m.tombstone)(m.unloaded)(m.loaded)(m.last_attempt)(m.answered)(m.resume_interval);
    a(m.redirects)(m.successor_epoch)(m.successor.gid)(m.successor.mac);
    a(qp.resp.syndrome)(qp.resp.answer_psn);
  }

  // ------------------------------------------------------------ save

  static void save_map(Saver& a, const PageMap& map) {
    a(map.shift())(map.first_offset())(map.length());
    a(static_cast<std::uint32_t>(map.pages().size()));
    for (const std::uint64_t page : map.pages()) a(page);
  }

  std::uint64_t left(std::uint64_t deadline) const {
    if (deadline == GODWIT_NO_DEADLINE) return GODWIT_NO_DEADLINE;
    return deadline > d.now_ns_ ? deadline - d.now_ns_ : 0;
  }

  void save_qp(Saver& a, QueuePair& qp) {
    fields(a, qp);
    a(static_cast<std::uint8_t>(qp.resp.answer))(static_cast<std::uint8_t>(qp.resp.fatal));
    a(qp.resp.nak_sent)(left(qp.ttl_deadline_ns));
    godwit_qp_state state;
    transport::save_qp(qp, d.now_ns_, &state);
    a.raw(&state, sizeof(state));
    if (qp.mig.tombstone) return;
    a(qp.pd->number)(qp.send_cq->number)(qp.recv_cq->number);
    save_map(a, qp.buffer);
  }

  void save(Saver& a) {
    a(kMagic)(kVersion)(d.config_.doorbell_pages)(d.config_.vectors);
    a(std::uint32_t{GODWIT_COUNTER_COUNT})(d.link_up_)(d.now_ns_ + d.clock_offset_ns_);
    registers(a);
    for (const auto& eq : d.eqs_) {
      a(eq != nullptr);
      if (eq == nullptr) continue;
      fields(a, *eq);
      save_map(a, eq->buffer);
    }
    a(static_cast<std::uint32_t>(d.pds_.size()));
    d.pds_.for_each([&](std::uint64_t, std::unique_ptr<ProtectionDomain>& pd) {
      a(pd->number)(pd->uctx)(static_cast<std::uint32_t>(pd->regions.size()));
      pd->regions.for_each([&](std::uint64_t, std::unique_ptr<MemoryRegion>& region) {
        fields(a, *region);
        save_map(a, region->map);
      });
    });
    a(static_cast<std::uint32_t>(d.cqs_.size()));
    d.cqs_.for_each([&](std::uint64_t, std::unique_ptr<CompletionQueue>& cq) {
      fields(a, *cq);
      save_map(a, cq->buffer);
    });
    a(static_cast<std::uint32_t>(d.qps_.size()));
    for (const auto& qp : d.qps_) save_qp(a, *qp);
    a(static_cast<std::uint32_t>(d.reservations_.size()));
    d.reservations_.for_each([&](std::uint64_t qpn, Reservation& reservation) {
      a(qpn)(reservation.move)(left(reservation.deadline_ns));
    });
    ethernet(a);
    a.raw(d.eth_frame_.data(), d.eth_.gathered);
    a(static_cast<std::uint32_t>(d.mac_filter_.list.size()));
    for (const resources::Mac& mac : d.mac_filter_.list) a(mac);
  }

  // ------------------------------------------------------------ load

  bool load_map(Loader& a, PageMap* map) {
    PageListRequest request;
    a(request.page_shift)(request.first_offset)(request.length)(request.page_count);
    if (!a.good() || request.page_count > a.left() / sizeof(std::uint64_t)) return false;
    if (request.page_count == 0) return true;
    std::vector<std::uint64_t> pages(request.page_count);
    for (std::uint64_t& page : pages) a(page);
    return map->adopt(d.page_budget_, request, std::move(pages)) == WalkResult::kOk;
  }

  // A queue's buffer: entries and records lie at multiples of 64.
  bool load_buffer(Loader& a, PageMap* map, std::uint64_t at_least) {
    return load_map(a, map) && map->first_offset() % 64 == 0 && map->length() >= at_least &&
           map->length() <= UINT32_MAX;
  }

  bool deadline_of(std::uint64_t left, std::uint64_t* deadline) const {
    *deadline = left == GODWIT_NO_DEADLINE ? left : d.now_ns_ + left;
    return left == GODWIT_NO_DEADLINE || left <= kLongestTimer;
  }

  const char* load_registers(Loader& a) {
    registers(a);
    if (!a.good()) return "shorter than it says";
    constexpr std::uint64_t kRingMask = ~std::uint64_t{63};
    d.cmd_sq_ &= kRingMask;
    d.cmd_cq_ &= kRingMask;
    if (d.cmd_log2_depth_ > kMaxLog2CommandDepth) return "a command ring that cannot be";
    d.interrupts_ &=
        d.config_.vectors == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << d.config_.vectors) - 1;
    if (!d.uctxs_[0].used) return "the driver's own context is missing";
    d.rebuild_gids();
    return nullptr;
  }

  const char* load_eqs(Loader& a) {
    for (std::size_t i = 0; i < d.eqs_.size(); ++i) {
      bool there = false;
      a(there);
      if (!there) continue;
      auto eq = std::make_unique<EventQueue>();
      fields(a, *eq);
      if (!a.good() || eq->vector >= d.config_.vectors || eq->log2_depth < 4 ||
          eq->log2_depth > 16 || eq->producer - eq->consumer > 1u << eq->log2_depth ||
          !load_buffer(a, &eq->buffer, std::uint64_t{sizeof(godwit_eqe)} << eq->log2_depth)) {
        return "an event queue that cannot be";
      }
      eq->number = static_cast<std::uint32_t>(i);
      d.eqs_[i] = std::move(eq);
    }
    return nullptr;
  }

  bool load_region(Loader& a, ProtectionDomain& pd) {
    auto region = std::make_unique<MemoryRegion>();
    fields(a, *region);
    if (!a.good() || !load_map(a, &region->map) || d.regions_ >= d.config_.max_mr ||
        pd.taken(region->key)) {
      return false;
    }
    if (region->all_memory) {
      if (pd.uctx != 0 || !region->map.empty()) return false;
    } else if (region->map.empty() || region->map.length() != region->length ||
               region->iova + region->length < region->iova) {
      return false;
    }
    ++d.regions_;
    const std::uint32_t key = region->key;
    pd.regions.insert(key >> 8, std::move(region));
    return true;
  }

  const char* load_pds(Loader& a) {
    std::uint32_t count = 0;
    a(count);
    if (count > d.config_.max_pd) return "more protection domains than this NIC has";
    for (; count > 0; --count) {
      auto owner = std::make_unique<ProtectionDomain>();
      ProtectionDomain& pd = *owner;
      std::uint32_t regions = 0;
      a(pd.number)(pd.uctx)(regions);
      if (!a.good() || pd.number > kNumberMask || !d.uctx_exists(pd.uctx) ||
          d.find_pd(pd.number) != nullptr) {
        return "a protection domain that cannot be";
      }
      d.pds_.insert(pd.number, std::move(owner));
      ++d.uctxs_[pd.uctx].objects;
      for (; regions > 0; --regions) {
        if (!load_region(a, pd)) return "a memory region that cannot be";
      }
    }
    return nullptr;
  }

  const char* load_cqs(Loader& a) {
    std::uint32_t count = 0;
    a(count);
    if (count > d.config_.max_cq) return "more completion queues than this NIC has";
    for (; count > 0; --count) {
      auto owner = std::make_unique<CompletionQueue>();
      CompletionQueue& cq = *owner;
      constexpr const char* kWrong = "a completion queue that cannot be";
      fields(a, cq);
      if (!a.good() || !d.uctx_exists(cq.uctx) || cq.number > kNumberMask ||
          d.find_cq(cq.uctx, cq.number) != nullptr || cq.eqn >= d.eqs_.size() ||
          d.eqs_[cq.eqn] == nullptr || cq.log2_depth > d.config_.log2_max_cqe ||
          cq.armed > GODWIT_CQ_ARMED_SOLICITED || cq.record_offset % 64 != 0 ||
          cq.record_offset < std::uint64_t{sizeof(godwit_cqe)} << cq.log2_depth ||
          ((cq.producer - cq.consumer) & GODWIT_DB_CQ_ARM_INDEX_MASK) > 1u << cq.log2_depth) {
        return kWrong;
      }
      cq.told_of_what_it_saw();
      if (!load_map(a, &cq.buffer)) return kWrong;
      const std::uint64_t end = std::uint64_t{cq.record_offset} + sizeof(godwit_cq_record);
      if (cq.buffer.empty() ? !cq.restore
                            : cq.buffer.first_offset() % 64 != 0 || cq.buffer.length() < end) {
        return kWrong;
      }
      d.cqs_.insert(std::uint64_t{cq.uctx} << 32 | cq.number, std::move(owner));
      d.listed_cqs_.reserve(d.cqs_.size());
      ++d.uctxs_[cq.uctx].objects;
      ++d.eqs_[cq.eqn]->cqs;
      if (cq.event_pending || cq.error_pending || cq.qps_pending) d.list(cq);
    }
    return nullptr;
  }

  // As CREATE_QP would.
  bool shape_good(const QueuePair& qp) {
    godwit_create_qp in = {};
    in.flags = le32(qp.restore ? GODWIT_CREATE_RESTORE_MASK : 0);
    in.sq_offset = le32(qp.sq_offset);
    in.rq_offset = le32(qp.rq_offset);
    in.record_offset = le32(qp.record_offset);
    in.type = qp.type;
    in.log2_sq_depth = qp.log2_sq_depth;
    in.log2_rq_depth = qp.log2_rq_depth;
    in.log2_sq_stride = qp.log2_sq_stride;
    in.log2_rq_stride = qp.log2_rq_stride;
    in.max_send_sge = qp.max_send_sge;
    in.max_recv_sge = qp.max_recv_sge;
    in.max_inline = le32(qp.max_inline);
    in.buffer.length = le32(static_cast<std::uint32_t>(qp.buffer.length()));
    if (qp.restore) in.buffer = {};
    if (!d.check_create_qp(in).ok()) return false;
    if (!qp.attached()) return qp.restore;
    return qp.buffer.first_offset() % 64 == 0 && qp.buffer.length() <= UINT32_MAX &&
           qp.buffer.length() >= qp.buffer_end();
  }

  // The transport's part, checked as LOAD does it, and what a stopped QP does not have.
  bool load_transport(Loader& a, QueuePair& qp) {
    std::uint8_t answer = 0;
    std::uint8_t fatal = 0;
    bool nak_sent = false;
    std::uint64_t ttl = 0;
    godwit_qp_state state = {};
    a(answer)(fatal)(nak_sent)(ttl);
    a.raw(&state, sizeof(state));
    const transport::Migration& m = qp.mig;
    const bool waiting = m.unloaded || m.loaded;  // for its RESUME
    if (!a.good() || answer > static_cast<std::uint8_t>(transport::Answer::kNak) ||
        fatal > static_cast<std::uint8_t>(transport::Fault::kCqOverflow) ||
        (fatal != 0 && answer != static_cast<std::uint8_t>(transport::Answer::kNak)) ||
        qp.resp.answer_psn > wire::kPsnMask || !deadline_of(ttl, &qp.ttl_deadline_ns) ||
        (ttl != GODWIT_NO_DEADLINE && !m.tombstone) || waiting != qp.restore ||
        (m.unloaded && m.loaded) || (m.loaded && !m.stopped) || (m.redirects && !m.tombstone) ||
        (m.tombstone && (!m.stopped || waiting)) || qp.log2_sq_depth > 15 ||
        (qp.log2_rq_depth > 15 && qp.has_rq())) {
      return false;
    }
    transport::Qp loaded;
    loaded.qpn = qp.qpn;
    loaded.type = qp.type;
    loaded.log2_sq_depth = qp.log2_sq_depth;
    loaded.log2_rq_depth = qp.log2_rq_depth;
    if (transport::load_qp(loaded, d.now_ns_, state) != nullptr ||
        loaded.attr.max_rd_atomic > d.config_.max_rd_atomic ||
        loaded.attr.max_dest_rd_atomic > d.config_.max_rd_atomic) {
      return false;
    }
    if (m.unloaded && loaded.attr.status != Status::kReset) return false;
    loaded.mig.stopped = m.stopped;
    loaded.mig.tombstone = m.tombstone;
    loaded.mig.unloaded = m.unloaded;
    loaded.mig.loaded = m.loaded;
    loaded.mig.last_attempt = m.last_attempt;
    loaded.mig.answered = m.answered;
    loaded.mig.redirects = m.redirects;
    loaded.mig.successor_epoch = m.successor_epoch;
    loaded.mig.successor = m.successor;
    loaded.mig.resume_interval =
        std::clamp(m.resume_interval, 4 * kMillisecond, 1000 * kMillisecond);
    loaded.resp.syndrome = qp.resp.syndrome;
    loaded.resp.answer_psn = qp.resp.answer_psn;
    loaded.resp.answer = static_cast<transport::Answer>(answer);
    loaded.resp.fatal = static_cast<transport::Fault>(fatal);
    loaded.resp.nak_sent = nak_sent;
    static_cast<transport::Qp&>(qp) = loaded;
    return true;
  }

  bool load_resources(Loader& a, QueuePair& qp) {
    std::uint32_t pdn = 0;
    std::uint32_t send_cqn = 0;
    std::uint32_t recv_cqn = 0;
    a(pdn)(send_cqn)(recv_cqn);
    if (!a.good() || !d.uctx_exists(qp.uctx) || !load_map(a, &qp.buffer) || !shape_good(qp)) {
      return false;
    }
    ProtectionDomain* pd = d.find_pd(pdn);
    CompletionQueue* send_cq = d.find_cq(qp.uctx, send_cqn);
    CompletionQueue* recv_cq = d.find_cq(qp.uctx, recv_cqn);
    if (pd == nullptr || pd->uctx != qp.uctx || send_cq == nullptr || recv_cq == nullptr) {
      return false;
    }
    // Only one that waits for its RESUME may have a CQ without a buffer.
    if (!qp.restore && !(send_cq->attached() && recv_cq->attached())) return false;
    qp.pd = pd;
    qp.send_cq = send_cq;
    qp.recv_cq = recv_cq;
    ++pd->qps;
    ++send_cq->qps;
    ++recv_cq->qps;
    ++d.uctxs_[qp.uctx].objects;
    return true;
  }

  const char* load_qps(Loader& a) {
    std::uint32_t count = 0;
    a(count);
    for (; count > 0; --count) {
      auto owner = std::make_unique<QueuePair>();
      QueuePair& qp = *owner;
      fields(a, qp);
      if (!a.good() || !load_transport(a, qp) || qp.qpn < kFirstQpn || qp.qpn > kLastQpn ||
          (!qp.mig.tombstone && !load_resources(a, qp))) {
        return "a queue pair that cannot be";
      }
      QpnEntry* entry = d.qpns_.find(qp.qpn);
      if (entry == nullptr) entry = &d.qpns_.insert(qp.qpn, QpnEntry());
      QueuePair*& place = qp.mig.tombstone ? entry->tombstone : entry->qp;
      if (place != nullptr) return "two queue pairs with one number";
      place = &qp;
      d.tombstones_ += qp.mig.tombstone ? 1 : 0;
      qp.table_index = d.qps_.size();
      d.qps_.push_back(std::move(owner));
      d.listed_qps_.reserve(d.qps_.size());
      if (d.tombstones_ > d.config_.max_tombstones ||
          d.qps_.size() - d.tombstones_ > d.config_.max_qp) {
        return "more queue pairs than this NIC has";
      }
      const std::uint32_t pending = qp.pending_events;
      qp.pending_events = 0;
      for (unsigned type = GODWIT_EQE_QP_FATAL; type <= GODWIT_EQE_QP_RESUMED; ++type) {
        if ((pending & 1u << type) != 0) d.list_event(qp, type);
      }
      d.touch(qp);
      if (!qp.mig.stopped) d.schedule(qp);
    }
    // Nobody but a tombstone's successor may share its number.
    for (const auto& qp : d.qps_) {
      const QpnEntry* entry = d.qpns_.find(qp->qpn);
      if (entry->tombstone != nullptr && entry->qp != nullptr && !entry->qp->restore) {
        return "a tombstone of a queue pair that lives";
      }
    }
    return nullptr;
  }

  const char* load_reservations(Loader& a) {
    std::uint32_t count = 0;
    a(count);
    if (count > kMaxReservations) return "more reservations than this NIC has";
    for (; count > 0; --count) {
      std::uint64_t qpn = 0;
      std::uint64_t time = 0;
      Reservation reservation;
      a(qpn)(reservation.move)(time);
      if (!a.good() || qpn > kNumberMask || d.reservations_.find(qpn) != nullptr ||
          !deadline_of(time, &reservation.deadline_ns)) {
        return "a reservation that cannot be";
      }
      d.reservation_deadline_ns_ = std::min(d.reservation_deadline_ns_, reservation.deadline_ns);
      d.reservations_.insert(qpn, reservation);
    }
    return nullptr;
  }

  const char* load_ethernet(Loader& a) {
    Ethernet& e = d.eth_;
    ethernet(a);
    constexpr std::uint32_t kFlags = GODWIT_ETH_PROMISC_MASK | GODWIT_ETH_ALLMULTI_MASK;
    constexpr const char* kWrong = "an Ethernet function that cannot be";
    if (!a.good() || e.gathered > GODWIT_ETH_MAX_FRAME || (d.mac_filter_.flags & ~kFlags) != 0) {
      return kWrong;
    }
    if (e.enabled && (e.log2_tx < 4 || e.log2_tx > 12 || e.log2_rx < 4 || e.log2_rx > 12 ||
                      e.tx_producer - e.tx_consumer > 1u << e.log2_tx ||
                      e.rx_producer - e.rx_consumer > 1u << e.log2_rx)) {
      return kWrong;
    }
    a.raw(d.eth_frame_.data(), e.gathered);
    std::uint32_t count = 0;
    a(count);
    if (!a.good() || count > kMacFilters) return kWrong;
    d.mac_filter_.list.resize(count);
    for (resources::Mac& mac : d.mac_filter_.list) a(mac);
    return a.good() ? nullptr : kWrong;
  }

  const char* load(Loader& a) {
    std::uint32_t magic = 0;
    std::uint32_t version = 0;
    std::uint32_t doorbell_pages = 0;
    std::uint16_t vectors = 0;
    std::uint32_t counters = 0;
    bool link_up = false;
    std::uint64_t time = 0;
    a(magic)(version)(doorbell_pages)(vectors)(counters)(link_up)(time);
    if (!a.good() || magic != kMagic) return "not the state of a Godwit NIC";
    if (version != kVersion || counters != GODWIT_COUNTER_COUNT) return "saved by another version";
    if (doorbell_pages != d.config_.doorbell_pages || vectors != d.config_.vectors) {
      return "saved with other doorbell-pages or vectors";
    }
    d.clock_offset_ns_ = time - d.now_ns_;
    using Step = const char* (Snapshot::*)(Loader&);
    static constexpr Step kSteps[] = {&Snapshot::load_registers, &Snapshot::load_eqs,
                                      &Snapshot::load_pds,       &Snapshot::load_cqs,
                                      &Snapshot::load_qps,       &Snapshot::load_reservations,
                                      &Snapshot::load_ethernet};
    for (const Step step : kSteps) {
      if (const char* wrong = (this->*step)(a)) return wrong;
    }
    if (a.left() != 0) return "longer than it says";
    // The cable is this host's; the driver is told if it is another one's.
    if (link_up != d.link_up_) d.port_event_due_ = true;
    d.events_due_ = true;
    return nullptr;
  }
};

std::size_t Device::save(std::uint64_t now_ns, std::span<std::uint8_t> room) {
  set_now(now_ns);
  Saver saver;
  Snapshot{*this}.save(saver);
  if (saver.out.size() <= room.size()) std::copy(saver.out.begin(), saver.out.end(), room.begin());
  return saver.out.size();
}

const char* Device::load(std::uint64_t now_ns, std::span<const std::uint8_t> bytes) {
  reset();
  now_ns_ = now_ns;  // of another clock, perhaps an earlier one
  Loader loader(bytes);
  const char* wrong = Snapshot{*this}.load(loader);
  if (wrong != nullptr) reset();
  return wrong;
}

}  // namespace godwit::device
