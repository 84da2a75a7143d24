// SPDX-License-Identifier: GPL-2.0-or-later
//
// A driver that is wrong, and an application that writes anything into its rings: commands with
// fields, mailboxes and page lists of all kinds, in any order, and work requests. Every command is
// answered; memory that nobody has named is not written; and a pair that no command names works.
#include <cstddef>
#include <cstring>

#include "fuzz/scene.h"

namespace godwit::fuzz {
namespace {

constexpr unsigned kSteps = 48;
constexpr std::uint64_t kPage = test::GuestMemory::kPage;
constexpr unsigned kAreaPages = 16;
constexpr unsigned kBufferPage = 4;  // the first of them

constexpr std::uint8_t kOpcodes[] = {
    GODWIT_CMD_NOP,          GODWIT_CMD_QUERY_DEVICE,    GODWIT_CMD_CREATE_EQ,
    GODWIT_CMD_DESTROY_EQ,   GODWIT_CMD_CREATE_UCTX,     GODWIT_CMD_DESTROY_UCTX,
    GODWIT_CMD_SET_GID,      GODWIT_CMD_QUERY_COUNTERS,  GODWIT_CMD_CREATE_PD,
    GODWIT_CMD_DESTROY_PD,   GODWIT_CMD_REG_MR,          GODWIT_CMD_DEREG_MR,
    GODWIT_CMD_CREATE_CQ,    GODWIT_CMD_DESTROY_CQ,      GODWIT_CMD_CREATE_SRQ,
    GODWIT_CMD_CREATE_QP,    GODWIT_CMD_MODIFY_QP,       GODWIT_CMD_QUERY_QP,
    GODWIT_CMD_DESTROY_QP,   GODWIT_CMD_SET_ETH_RINGS,   GODWIT_CMD_SET_ETH_FILTER,
    GODWIT_CMD_STOP,         GODWIT_CMD_UNSTOP,          GODWIT_CMD_SAVE,
    GODWIT_CMD_LOAD,         GODWIT_CMD_ATTACH,          GODWIT_CMD_RESUME,
    GODWIT_CMD_TOMBSTONE,    GODWIT_CMD_COMMIT,          GODWIT_CMD_DROP,
    GODWIT_CMD_RESERVE_QPNS, GODWIT_CMD_QUERY_TOMBSTONES};

// Where bus addresses stand in the parameters of a command.
std::span<const std::uint8_t> addresses(std::uint8_t opcode) {
  static constexpr std::uint8_t kMailbox[] = {0};
  static constexpr std::uint8_t kEq[] = {offsetof(godwit_cmd_create_eq, buffer)};
  static constexpr std::uint8_t kCq[] = {offsetof(godwit_cmd_create_cq, buffer)};
  static constexpr std::uint8_t kMr[] = {offsetof(godwit_cmd_reg_mr, list)};
  static constexpr std::uint8_t kAttach[] = {offsetof(godwit_cmd_attach, buffer)};
  static constexpr std::uint8_t kRings[] = {offsetof(godwit_cmd_set_eth_rings, tx_ring),
                                            offsetof(godwit_cmd_set_eth_rings, rx_ring)};
  switch (opcode) {
    case GODWIT_CMD_QUERY_DEVICE:
    case GODWIT_CMD_QUERY_COUNTERS:
    case GODWIT_CMD_CREATE_QP:
    case GODWIT_CMD_MODIFY_QP:
    case GODWIT_CMD_QUERY_QP:
    case GODWIT_CMD_SET_ETH_FILTER:
    case GODWIT_CMD_SAVE:
    case GODWIT_CMD_LOAD:
    case GODWIT_CMD_RESERVE_QPNS:
    case GODWIT_CMD_QUERY_TOMBSTONES:
      return kMailbox;
    case GODWIT_CMD_CREATE_EQ:
      return kEq;
    case GODWIT_CMD_CREATE_CQ:
      return kCq;
    case GODWIT_CMD_REG_MR:
      return kMr;
    case GODWIT_CMD_ATTACH:
      return kAttach;
    case GODWIT_CMD_SET_ETH_RINGS:
      return kRings;
    default:
      return {};
  }
}

class Driver {
 public:
  explicit Driver(Input input) : in_(input), scene_(scene_config()), m_(scene_.m) {
    area_ = m_.memory().contiguous(kAreaPages * kPage);
    scene_.fence.open(area_, kAreaPages * kPage);
    // Two lists of the same pages; one begins in the middle.
    for (unsigned list = 0; list < 2; ++list) {
      for (unsigned i = kBufferPage; i < kAreaPages; ++i) {
        const unsigned at = list == 0 ? i - kBufferPage : kAreaPages - 1 - i;
        m_.memory().put<std::uint64_t>(area_ + list * kPage + 8 + 8 * at, area_ + i * kPage);
      }
    }
    for (const QueuePair& qp : scene_.qp) qpns_.push_back(qp.qpn);
  }

  void run() {
    for (unsigned step = 0; step < kSteps && !in_.empty() && alive(); ++step) {
      switch (in_.byte() % 8) {
        case 0:
          write_memory();
          break;
        case 1:
          work_request();
          break;
        case 2:
          doorbell();
          break;
        case 3:
          scene_.clock += in_.number() % (2000 * kMillisecond);
          break;
        default:
          command();
          break;
      }
      const std::uint8_t then = in_.byte();
      if (then % 4 != 0) scene_.run();
      if (then >= 192) scene_.drain_completions();
      m_.sent.clear();
    }
    if (!alive()) {
      // The driver's own queues are all that the whole device hangs on.
      require(m_.reg(GODWIT_REG_FATAL_CAUSE) == GODWIT_FATAL_EQ_DMA,
              "only an event queue that cannot be written stops the device");
      return;
    }
    scene_.run();
    if (in_.chance()) scene_.reload();
    scene_.bystander.check(&scene_.fence);
  }

 private:
  bool alive() { return (m_.reg(GODWIT_REG_STATUS) & GODWIT_STATUS_ENABLED_MASK) != 0; }

  // Never memory that is somebody else's: a driver may say so, and the device has to believe it.
  std::uint64_t own(std::uint64_t address) const {
    const std::uint64_t size = kPages * kPage;
    if (address - area_ < kAreaPages * kPage || address - test::GuestMemory::kBase >= size) {
      return address;
    }
    return area_ + address % (kAreaPages * kPage);
  }

  std::uint64_t address() {
    const std::uint8_t choice = in_.byte();
    if (choice < 16) return own(in_.number());
    return area_ + (choice % kAreaPages) * kPage + ((choice & 0x80) != 0 ? 64 * in_.byte() : 0);
  }

  std::uint32_t pick(std::initializer_list<std::uint32_t> usual) {
    const std::uint8_t choice = in_.byte();
    if (choice >= 240) return static_cast<std::uint32_t>(in_.number());
    return *(usual.begin() + choice % usual.size());
  }
  std::uint32_t uctx() { return pick({1, 1, 1, 0, 5}); }
  std::uint32_t pdn() { return pick({Scene::kPd, Scene::kPd, 10, 11}); }
  std::uint32_t cqn() { return pick({5, 5, 6, 7}); }
  std::uint32_t qpn() {
    const std::uint8_t choice = in_.byte();
    if (choice >= 250) return in_.word() & 0xffffff;
    return qpns_[choice % qpns_.size()];
  }

  godwit_buffer buffer(std::uint32_t length) {
    godwit_buffer out = {};
    const std::uint8_t how = in_.byte();
    out.list = {area_ + (how & 1) * kPage};
    out.page_count = {(how & 6) == 6 ? in_.byte() : (length + 2 * 4096 - 1) / 4096};
    out.page_shift = {12};
    if ((how & 8) != 0) out.first_offset = {64u * in_.byte()};
    out.length = {(how & 0x30) == 0x30 ? static_cast<std::uint32_t>(in_.number()) : length};
    if ((how & 0xc0) == 0xc0) {
      out.list = {address()};
      out.page_shift = {in_.byte()};
    }
    return out;
  }

  template <typename T>
  void set(const T& in) {
    static_assert(sizeof(in) <= sizeof(params_));
    std::memcpy(params_, &in, sizeof(in));
  }

  // The mailbox of a command, at the beginning of page 2 or 3.
  template <typename T>
  void mail(const T& in) {
    mailbox_ = area_ + (2 + (in_.byte() & 1)) * kPage;
    mailbox_bytes_ = sizeof(in);
    m_.memory().put(mailbox_, in);
    set(godwit_cmd_mailbox{{mailbox_}, {sizeof(in)}, {0}});
  }

  void create_qp() {
    godwit_create_qp in = {};
    in.uctx = {uctx()};
    in.pdn = {pdn()};
    in.send_cqn = {cqn()};
    in.recv_cqn = {cqn()};
    in.type = GODWIT_QP_TYPE_RC;
    in.log2_sq_depth = in.log2_rq_depth = 3;
    in.log2_sq_stride = in.log2_rq_stride = 7;
    in.rq_offset = {1024};
    in.record_offset = {2048};
    in.max_send_sge = in.max_recv_sge = 4;
    in.max_inline = {64};
    const std::uint8_t how = in_.byte();
    if ((how & 3) == 0) {
      in.flags = {GODWIT_CREATE_RESTORE_MASK | GODWIT_CREATE_QPN_MASK};
      in.qpn = {qpn()};
      in.move = {pick({7, 7, 0})};
    } else {
      in.buffer = buffer(2048 + 64);
    }
    if ((how & 4) != 0) in.log2_rq_depth = GODWIT_NO_RQ;
    mail(in);
  }

  void modify_qp() {
    godwit_modify_qp in = {};
    in.qpn = {qpn()};
    in.attr.access = 0xe;
    in.attr.path_mtu = 3;
    in.attr.timeout = 10;
    in.attr.retry_cnt = in.attr.rnr_retry = 7;
    in.attr.min_rnr_timer = 1;
    in.attr.max_rd_atomic = in.attr.max_dest_rd_atomic = 16;
    in.attr.dest_qpn = {qpn()};
    in.attr.sq_psn = {in_.byte()};
    in.attr.rq_psn = {in_.byte()};
    const Gid gid = in_.chance() ? Scene::gid() : Scene::far_gid();
    std::copy(gid.begin(), gid.end(), in.attr.av.dgid);
    std::copy(Scene::kMac.begin(), Scene::kMac.end(), in.attr.av.dmac);
    in.attr.av.hop_limit = 64;
    in.attr.av.udp_source_port = {0xc000};
    // What each of the usual transitions needs.
    switch (in_.byte() % 6) {
      case 0:
        in.mask = {GODWIT_QP_ATTR_STATUS | GODWIT_QP_ATTR_ACCESS | GODWIT_QP_ATTR_PKEY_INDEX};
        in.attr.status = GODWIT_QP_STATUS_INIT;
        break;
      case 1:
        in.mask = {GODWIT_QP_ATTR_STATUS | GODWIT_QP_ATTR_AV | GODWIT_QP_ATTR_PATH_MTU |
                   GODWIT_QP_ATTR_DEST_QPN | GODWIT_QP_ATTR_RQ_PSN |
                   GODWIT_QP_ATTR_MAX_DEST_RD_ATOMIC | GODWIT_QP_ATTR_MIN_RNR_TIMER};
        in.attr.status = GODWIT_QP_STATUS_RTR;
        break;
      case 2:
        in.mask = {GODWIT_QP_ATTR_STATUS | GODWIT_QP_ATTR_TIMEOUT | GODWIT_QP_ATTR_RETRY_CNT |
                   GODWIT_QP_ATTR_RNR_RETRY | GODWIT_QP_ATTR_SQ_PSN | GODWIT_QP_ATTR_MAX_RD_ATOMIC};
        in.attr.status = GODWIT_QP_STATUS_RTS;
        break;
      default:
        in.mask = {GODWIT_QP_ATTR_STATUS};
        in.attr.status = in_.byte() % 8;
        break;
    }
    if (in_.byte() % 4 == 0) in.mask.raw ^= 1u << (in_.byte() % 20);
    mail(in);
  }

  void state_command(std::uint8_t opcode) {
    godwit_cmd_state in = {};
    in.addr = {area_ + (2 + (in_.byte() & 1)) * kPage};
    in.type = {pick({GODWIT_STATE_QP, GODWIT_STATE_QP, GODWIT_STATE_CQ, GODWIT_STATE_SRQ})};
    const bool qp = in.type.raw == GODWIT_STATE_QP;
    in.length = {
        pick({static_cast<std::uint32_t>(qp ? sizeof(godwit_qp_state) : sizeof(godwit_cq_state)),
              static_cast<std::uint32_t>(kPage)})};
    in.uctx = {uctx()};
    in.number = {qp ? qpn() : cqn()};
    if (opcode == GODWIT_CMD_LOAD) in.sgid_index = {pick({0, 0, 2})};
    set(in);
  }

  void fill_params(std::uint8_t opcode) {
    std::memset(params_, 0, sizeof(params_));
    mailbox_bytes_ = 0;
    switch (opcode) {
      case GODWIT_CMD_QUERY_DEVICE:
      case GODWIT_CMD_QUERY_COUNTERS:
      case GODWIT_CMD_QUERY_TOMBSTONES:
        set(godwit_cmd_mailbox{{address()}, {pick({4096, 64, 0})}, {0}});
        break;
      case GODWIT_CMD_CREATE_EQ: {
        godwit_cmd_create_eq in = {};
        in.eqn = {pick({4, 5, 0, 1})};
        in.vector = {pick({2, 3})};
        in.log2_depth = {4};
        in.buffer = buffer(sizeof(godwit_eqe) << 4);
        set(in);
        break;
      }
      case GODWIT_CMD_DESTROY_EQ:
        set(godwit_cmd_number{{pick({4, 5, 0, 1})}, {0}});
        break;
      case GODWIT_CMD_CREATE_UCTX:
      case GODWIT_CMD_DESTROY_UCTX:
        set(godwit_cmd_number{{uctx()}, {0}});
        break;
      case GODWIT_CMD_SET_GID: {
        godwit_cmd_set_gid in = {};
        in.index = {pick({0, 2, 3})};
        const std::uint8_t how = in_.byte();
        in.flags = how & 7;
        const Gid gid = Scene::gid((how & GODWIT_GID_IPV4_MASK) != 0);
        std::copy(gid.begin(), gid.end(), in.gid);
        std::copy(Scene::kMac.begin(), Scene::kMac.end(), in.mac);
        set(in);
        break;
      }
      case GODWIT_CMD_CREATE_PD:
      case GODWIT_CMD_DESTROY_PD:
        set(godwit_cmd_object{{uctx()}, {pdn()}});
        break;
      case GODWIT_CMD_REG_MR: {
        const godwit_buffer b = buffer(5000);
        godwit_cmd_reg_mr in = {};
        in.pdn = {pdn()};
        in.access = {in_.byte() & 0x3fu};
        in.iova = {0x1000};
        in.length = {b.length.raw};
        in.list = b.list;
        in.page_count = b.page_count;
        in.page_shift = static_cast<std::uint8_t>(b.page_shift.raw);
        in.first_offset = b.first_offset;
        if (in_.chance()) {
          in.flags = {GODWIT_REG_MR_KEY_MASK};
          in.key = {pick({0x100, 0x201, scene_.open.key})};
        }
        set(in);
        break;
      }
      case GODWIT_CMD_DEREG_MR:
        set(godwit_cmd_dereg_mr{{pdn()},
                                {pick({0x100, 0x201, scene_.open.key, scene_.local.key})}});
        break;
      case GODWIT_CMD_CREATE_CQ: {
        godwit_cmd_create_cq in = {};
        in.uctx = {uctx()};
        in.cqn = {cqn()};
        in.eqn = {pick({1, 4})};
        in.event_number = {in_.byte()};
        in.log2_depth = {pick({4, 0, 6})};
        in.record_offset = {64u << (in.log2_depth.raw & 7)};
        if (in_.byte() % 4 == 0) {
          in.flags = {GODWIT_CREATE_RESTORE_MASK};
        } else {
          in.buffer = buffer(in.record_offset.raw + 64);
        }
        set(in);
        break;
      }
      case GODWIT_CMD_DESTROY_CQ:
        set(godwit_cmd_object{{uctx()}, {cqn()}});
        break;
      case GODWIT_CMD_CREATE_QP:
        create_qp();
        break;
      case GODWIT_CMD_MODIFY_QP:
        modify_qp();
        break;
      case GODWIT_CMD_QUERY_QP:
        set(godwit_cmd_qp_mailbox{{address()}, {pick({4096, 64})}, {qpn()}});
        break;
      case GODWIT_CMD_DESTROY_QP:
        set(godwit_cmd_number{{qpn()}, {0}});
        break;
      case GODWIT_CMD_SET_ETH_RINGS: {
        godwit_cmd_set_eth_rings in = {};
        in.enable = {in_.byte() % 2u};
        if (in.enable.raw != 0) {
          in.log2_tx = in.log2_rx = 4;
          in.tx_ring = {address()};
          in.rx_ring = {address()};
        }
        set(in);
        break;
      }
      case GODWIT_CMD_SET_ETH_FILTER:
        set(godwit_cmd_set_eth_filter{{address()}, {pick({1, 0, 256})}, {in_.byte() & 3u}});
        break;
      case GODWIT_CMD_STOP:
      case GODWIT_CMD_UNSTOP:
        if (in_.byte() % 8 == 0) {
          set(godwit_cmd_scope{{GODWIT_SCOPE_UCTX}, {uctx()}});
        } else {
          set(godwit_cmd_scope{{GODWIT_SCOPE_QP}, {qpn()}});
        }
        break;
      case GODWIT_CMD_SAVE:
      case GODWIT_CMD_LOAD:
        state_command(opcode);
        break;
      case GODWIT_CMD_ATTACH: {
        godwit_cmd_attach in = {};
        in.type = {pick({GODWIT_STATE_QP, GODWIT_STATE_CQ, GODWIT_STATE_SRQ})};
        in.uctx = {uctx()};
        in.number = {in.type.raw == GODWIT_STATE_QP ? qpn() : cqn()};
        in.buffer = buffer(2048 + 64);
        set(in);
        break;
      }
      case GODWIT_CMD_RESUME:
        if (in_.byte() % 8 == 0) {
          set(godwit_cmd_resume{
              {GODWIT_SCOPE_UCTX}, {uctx()}, {pick({1, 2, 3})}, {in_.byte() & 1u}});
        } else {
          set(godwit_cmd_resume{{GODWIT_SCOPE_QP}, {qpn()}, {pick({1, 2, 3})}, {in_.byte() & 1u}});
        }
        break;
      case GODWIT_CMD_TOMBSTONE:
        set(godwit_cmd_tombstone{{qpn()}, {0}, {pick({7, 8})}});
        break;
      case GODWIT_CMD_COMMIT:
      case GODWIT_CMD_DROP:
        set(godwit_cmd_move{{pick({7, 8})}});
        break;
      case GODWIT_CMD_RESERVE_QPNS: {
        std::array<std::uint32_t, 4> wanted;
        for (std::uint32_t& q : wanted) q = in_.chance() ? qpn() : 0x4000u + in_.byte();
        mail(wanted);
        set(godwit_cmd_reserve{{mailbox_}, {pick({4, 1, 0})}, {pick({1000, 10})}, {pick({7, 8})}});
        break;
      }
      default:
        break;
    }
  }

  // Whether the command would do something to the bystander's objects: a driver may.
  bool names_bystander(std::uint8_t opcode) const {
    std::uint32_t word[14];
    std::memcpy(word, params_, sizeof(word));
    const auto qp = [&](std::uint32_t qpn) { return scene_.bystander.is_mine(qpn); };
    switch (opcode) {
      case GODWIT_CMD_SET_GID:
        return word[0] == kBystanderGid;
      case GODWIT_CMD_DEREG_MR:
        return word[0] == kBystanderPd;
      case GODWIT_CMD_DESTROY_QP:
      case GODWIT_CMD_TOMBSTONE:
        return qp(word[0]);
      case GODWIT_CMD_STOP:
      case GODWIT_CMD_UNSTOP:
      case GODWIT_CMD_RESUME:
        return word[0] == GODWIT_SCOPE_QP ? qp(word[1]) : word[1] == kBystanderUctx;
      case GODWIT_CMD_LOAD:
        return word[6] == kBystanderGid || qp(word[5]);
      case GODWIT_CMD_CREATE_QP: {
        godwit_create_qp in = {};
        std::uint64_t at;
        std::memcpy(&at, params_, sizeof(at));
        return !m_.memory().read(at, &in, sizeof(in)) ? false : in.uctx.raw == kBystanderUctx;
      }
      case GODWIT_CMD_MODIFY_QP: {
        godwit_modify_qp in = {};
        std::uint64_t at;
        std::memcpy(&at, params_, sizeof(at));
        return m_.memory().read(at, &in, sizeof(in)) &&
               (qp(in.qpn.raw) || in.attr.av.sgid_index.raw == kBystanderGid);
      }
      default:
        return false;
    }
  }

  void command() {
    const std::uint8_t choice = in_.byte();
    const std::uint8_t opcode =
        choice == 0xff ? in_.byte() : kOpcodes[choice % std::size(kOpcodes)];
    fill_params(opcode);
    for (unsigned n = in_.byte() % 4; n > 1; --n) {
      const std::uint8_t at = in_.byte();
      if (mailbox_bytes_ != 0 && (at & 0x80) != 0) {
        const std::uint64_t where = mailbox_ + (at & 0x7f) % mailbox_bytes_;
        m_.memory().put<std::uint8_t>(where, in_.byte());
      } else {
        params_[at % sizeof(params_)] = in_.byte();
      }
    }
    for (const std::uint8_t at : addresses(opcode)) {
      std::uint64_t value;
      std::memcpy(&value, params_ + at, sizeof(value));
      value = own(value);
      std::memcpy(params_ + at, &value, sizeof(value));
    }
    if (opcode == GODWIT_CMD_CREATE_QP) own_mailbox(offsetof(godwit_create_qp, buffer));
    // Bus addresses in work requests would be the whole memory.
    if (opcode == GODWIT_CMD_REG_MR) {
      params_[offsetof(godwit_cmd_reg_mr, flags)] &= ~std::uint8_t{GODWIT_REG_MR_ALL_MEMORY_MASK};
    }
    if (names_bystander(opcode)) return;
    // STOP may have stopped some when it meets one that cannot be.
    const bool compare = in_.byte() % 4 == 0 && opcode != GODWIT_CMD_STOP;
    std::vector<std::uint8_t> before;
    if (compare) {
      scene_.run();
      before = objects();
    }
    const Result result = m_.command_bytes(opcode, params_, sizeof(params_));
    require(result.status <= GODWIT_CMD_STATUS_BAD_EPOCH || !alive(), "every command is answered");
    require(!compare || result.ok() || !alive() || objects() == before,
            "a command that is refused changes nothing");
    require(result.ok() || result.detail < 4096, "what is at fault is a field");
    if (result.ok() && opcode == GODWIT_CMD_CREATE_QP) qpns_.push_back(result.number());
  }

  // All objects of the device as it would save them, without registers and counters.
  std::vector<std::uint8_t> objects() const {
    static const std::size_t offset = [] {
      // What changes with the first event queue, but for the command ring's indices.
      constexpr std::size_t kIndices = 200;
      Machine m(scene_config(), nullptr, kPages);
      m.enable();
      const auto without = m.save();
      must(m.create_eq(0, GODWIT_VECTOR_CONTROL, 4));
      const auto with = m.save();
      std::size_t at = kIndices;
      while (without.at(at) == with.at(at)) ++at;
      return at;
    }();
    const auto bytes = m_.save();
    return {bytes.begin() + static_cast<std::ptrdiff_t>(offset), bytes.end()};
  }

  // The command's mailbox may lie anywhere in the area by now.
  void own_mailbox(std::size_t at) {
    std::uint64_t mailbox;
    std::memcpy(&mailbox, params_, sizeof(mailbox));
    std::uint64_t value;
    if (!m_.memory().read(mailbox + at, &value, sizeof(value))) return;
    m_.memory().put(mailbox + at, own(value));
  }

  void write_memory() {
    const std::uint64_t at = area_ + 8 * (in_.half() % (kAreaPages * kPage / 8));
    for (unsigned n = 1 + in_.byte() % 4; n > 0; --n) {
      const std::uint64_t value = in_.chance() ? address() : own(in_.number());
      if (at + 8 * n <= area_ + kAreaPages * kPage) m_.memory().put(at + 8 * (n - 1), value);
    }
  }

  void work_request() {
    QueuePair& qp = scene_.qp[in_.below(kWhoCount)];
    const MemoryRegion* const regions[] = {&scene_.open, &scene_.readable, &scene_.local};
    const MemoryRegion& region = *regions[in_.byte() % 3];
    SendWork work = scene_.work(in_.byte() % 12, 0);
    work.flags = in_.byte() & 0x0f;
    if (in_.byte() % 8 == 0) work.flags = in_.byte();
    work.remote_addr = scene_.open.iova + in_.byte();
    work.rkey = scene_.open.key;
    work.sges.clear();
    if ((work.flags & GODWIT_WQE_INLINE_MASK) != 0) {
      work.inline_data.resize(in_.byte() % 65);
    } else {
      for (unsigned n = in_.byte() % 5; n > 0; --n) {
        const auto length =
            static_cast<std::uint32_t>(in_.chance() ? in_.byte() * 16u : in_.number());
        work.sges.push_back({region.iova + in_.half() % 8192, length, region.key});
      }
    }
    const std::uint64_t at = std::uint64_t{qp.sq_producer & 7u} << qp.log2_stride;
    const std::uint64_t receive =
        qp.rq_offset + (std::uint64_t{qp.rq_producer & 7u} << qp.log2_stride);
    qp.write_send(work);
    if (in_.chance()) qp.write_recv({{scene_.local.iova, in_.half(), scene_.local.key}});
    for (unsigned n = in_.byte() % 4; n > 1; --n) {
      const std::uint64_t target = in_.chance() ? at : receive;
      qp.buffer.put<std::uint8_t>(target + in_.byte() % 128, in_.byte());
    }
    const std::uint32_t producer = in_.byte() < 240 ? qp.sq_producer : in_.word();
    m_.doorbell(qp.uctx, GODWIT_DB_SQ, qp.qpn, producer);
  }

  void doorbell() {
    const std::uint32_t numbers[] = {qpn(), cqn(), pick({0, 1, 4, 5})};
    const std::uint32_t page = pick({1, 1, 0, 5}) % 16;
    // Nor a doorbell of its page.
    if (page == kBystanderUctx) return;
    m_.doorbell(page, 8 * (in_.byte() % 9), numbers[in_.byte() % 3],
                static_cast<std::uint32_t>(in_.number()));
  }

  Input in_;
  Scene scene_;
  Machine& m_;
  std::uint64_t area_ = 0;
  std::vector<std::uint32_t> qpns_;
  std::uint8_t params_[56] = {};
  std::uint64_t mailbox_ = 0;
  std::size_t mailbox_bytes_ = 0;
};

}  // namespace
}  // namespace godwit::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  godwit::fuzz::Driver(godwit::fuzz::Input(data, size)).run();
  return 0;
}
