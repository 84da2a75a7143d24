// SPDX-License-Identifier: GPL-2.0-or-later
#include "fuzz/scene.h"

#include <cstddef>
#include <cstdio>
#include <cstring>

#include "transport/token.h"

namespace godwit::fuzz {
namespace {

constexpr std::uint32_t kBystanderCqn = 9;
constexpr Mac kBystanderMac = {2, 0, 0, 0, 0, 2};
constexpr std::uint32_t kIpv6Gid = 2;  // index
constexpr std::uint64_t kMove = 7;

void fill(const Buffer& buffer, std::uint8_t first) {
  std::vector<std::uint8_t> bytes(buffer.length);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(first + i);
  buffer.write(0, bytes.data(), bytes.size());
}

}  // namespace

void must(const Result& result) {
  if (!result.ok()) __builtin_trap();
}

godwit_device_config scene_config() {
  godwit_device_config config = test::small_config(1);
  config.log2_max_cqe = 8;
  config.max_mr_pages = 1024;
  config.tombstone_ttl_ms = 500;
  return config;
}

std::uint64_t frames_counted(const Machine& machine) {
  std::uint64_t sum = 0;
  for (const unsigned counter : {GODWIT_COUNTER_RX_RDMA_PACKETS, GODWIT_COUNTER_RX_MALFORMED,
                                 GODWIT_COUNTER_RX_ICRC_ENCAPSULATED, GODWIT_COUNTER_ETH_RX_FRAMES,
                                 GODWIT_COUNTER_ETH_RX_FILTERED, GODWIT_COUNTER_ETH_RX_NO_DESC}) {
    sum += godwit_device_counter(machine.device(), counter);
  }
  return sum;
}

// ------------------------------------------------------------ Fence

Fence::Fence(Machine& machine) {
  // The same bytes for each input: to have the pages from the system costs more than the rest.
  static std::array<std::uint8_t, kPages * test::GuestMemory::kPage> bytes;
  bytes.fill(0);
  open_ = bytes;
  machine.start(4, 4);  // event queues that are soon full
  open_driver(machine);
  machine.on_dma_write = [this](std::uint64_t addr, std::size_t length) {
    require(!closed(addr, length), "the device writes only where it was told to");
  };
}

bool Fence::closed(std::uint64_t addr, std::size_t length) const {
  const std::uint64_t at = addr - test::GuestMemory::kBase;
  if (at > open_.size() || length > open_.size() - at) return false;  // the machine refuses it
  return length != 0 && std::memchr(open_.data() + at, 0, length) != nullptr;
}

void Fence::set(std::uint64_t addr, std::size_t length, bool open) {
  const auto begin = open_.begin() + static_cast<std::ptrdiff_t>(addr - test::GuestMemory::kBase);
  std::fill_n(begin, length, open ? 1 : 0);
}

void Fence::set(const Buffer& buffer, std::uint64_t offset, std::uint64_t length, bool open) {
  while (length > 0) {
    const std::uint64_t addr = buffer.at(offset);
    const std::uint64_t page = test::GuestMemory::kPage;
    const std::uint64_t now = std::min(length, page - addr % page);
    set(addr, now, open);
    offset += now;
    length -= now;
  }
}

void Fence::open_driver(const Machine& machine) {
  open(machine.command_completions(), machine.command_completion_bytes());
  open(machine.mailbox(), Machine::kMailboxBytes);
  for (const std::uint32_t eqn : {0u, 1u}) {
    const Buffer& buffer = machine.event_buffer(eqn);
    open(buffer, 0, buffer.length);
  }
}

// ------------------------------------------------------------ Bystander

Bystander::Bystander(Machine& machine) : m_(machine) {
  must(m_.create_uctx(kBystanderUctx));
  must(m_.create_pd(kBystanderUctx, kBystanderPd));
  must(m_.set_gid(kBystanderGid, gid(), kBystanderMac));
  ConnectOptions options;
  options.sgid_index = kBystanderGid;
  for (unsigned i = 0; i < 2; ++i) {
    cq_[i].uctx = kBystanderUctx;
    cq_[i].number = kBystanderCqn + i;
    cq_[i].log2_depth = 4;
    must(m_.create_cq(&cq_[i]));
    region_[i].pdn = kBystanderPd;
    region_[i].access = 0xf;
    region_[i].iova = 0x10000;
    region_[i].buffer = test::make_buffer(m_.memory(), 4096, 64);
    must(m_.register_region(&region_[i]));
    qp_[i].uctx = kBystanderUctx;
    qp_[i].pdn = kBystanderPd;
    qp_[i].send_cqn = qp_[i].recv_cqn = cq_[i].number;
    qp_[i].log2_sq = qp_[i].log2_rq = 3;
    qp_[i].log2_stride = 7;
    must(m_.create_qp(&qp_[i]));
  }
  for (unsigned i = 0; i < 2; ++i) {
    must(m_.to_init(qp_[i], options));
    must(m_.to_rtr(qp_[i], options, {gid(), kBystanderMac, qp_[1 - i].qpn, 100 + 1 - i}));
    must(m_.to_rts(qp_[i], options, 100 + i));
  }
}

void Bystander::transfer(std::uint8_t opcode) {
  fill(region_[0].buffer, 1);
  fill(region_[1].buffer, 101);
  const std::vector<std::uint8_t> source = region_[0].buffer.contents();
  const std::vector<std::uint8_t> target = region_[1].buffer.contents();
  const std::uint32_t length = opcode == GODWIT_WR_FETCH_ADD ? 8 : 3000;
  SendWork work;
  work.opcode = opcode;
  work.remote_addr = region_[1].iova;
  work.rkey = region_[1].key;
  work.compare_add = 1;
  work.sges = {{region_[0].iova, length, region_[0].key}};
  qp_[1].write_recv({{region_[1].iova, length, region_[1].key}});
  qp_[0].write_send(work);
  m_.ring_sq(qp_[0]);
  require(m_.run(), "the device comes to rest");
  const auto sent = cq_[0].poll();
  require(sent && sent->status == GODWIT_CQE_SUCCESS && sent->opcode == opcode,
          "the bystander's request completes");
  const bool received = opcode == GODWIT_WR_SEND;
  const auto completion = cq_[1].poll();
  require(completion.has_value() == received, "the bystander receives what was sent");
  if (received) require(completion->status == GODWIT_CQE_SUCCESS, "and without an error");
  std::vector<std::uint8_t> source_now = region_[0].buffer.contents();
  std::vector<std::uint8_t> target_now = region_[1].buffer.contents();
  std::vector<std::uint8_t> source_wanted = source;
  std::vector<std::uint8_t> target_wanted = target;
  if (opcode == GODWIT_WR_READ || opcode == GODWIT_WR_FETCH_ADD) {
    std::copy_n(target.begin(), length, source_wanted.begin());
    if (opcode == GODWIT_WR_FETCH_ADD) ++target_wanted[0];
  } else {
    std::copy_n(source.begin(), length, target_wanted.begin());
  }
  require(source_now == source_wanted && target_now == target_wanted,
          "the bystander's data is what was asked for");
}

void Bystander::check(Fence* fence) {
  if (fence != nullptr) {
    for (unsigned i = 0; i < 2; ++i) {
      fence->open(cq_[i].buffer, 0, cq_[i].record_offset);
      fence->open(region_[i].buffer, 0, region_[i].buffer.length);
    }
  }
  for (unsigned i = 0; i < 2; ++i) {
    const godwit_qp_info info = m_.query_qp(qp_[i].qpn);
    require(info.attr.status == GODWIT_QP_STATUS_RTS && info.ext.raw == 0,
            "the bystander is as it was");
    require(!cq_[i].poll().has_value(), "nothing completes at the bystander");
  }
  for (const std::uint8_t opcode :
       {GODWIT_WR_WRITE, GODWIT_WR_SEND, GODWIT_WR_READ, GODWIT_WR_FETCH_ADD}) {
    transfer(opcode);
    // What is not used by the next one.
    if (opcode != GODWIT_WR_SEND) --qp_[1].rq_producer;
  }
}

// ------------------------------------------------------------ Scene

Gid Scene::gid(bool ipv4) {
  return ipv4 ? test::ipv4_gid(10, 77, 0, 1)
              : Gid{0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
}

Gid Scene::far_gid(bool ipv4) {
  return ipv4 ? test::ipv4_gid(10, 77, 0, 9)
              : Gid{0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9};
}

wire::Path Scene::path(unsigned who) const {
  wire::Path path;
  path.ipv4 = is_ipv4(who);
  path.sgid = far_gid(path.ipv4);
  path.dgid = gid(path.ipv4);
  path.smac = kFarMac;
  path.dmac = kMac;
  return path;
}

void Scene::receive(const wire::Path& path, const wire::Headers& headers,
                    std::span<const std::uint8_t> payload) {
  wire::FrameBuilder builder(path, headers, payload.size());
  std::copy(payload.begin(), payload.end(), builder.payload().begin());
  const auto bytes = builder.finish();
  m.receive({bytes.begin(), bytes.end()});
}

SendWork Scene::work(std::uint8_t opcode, std::uint32_t length) const {
  SendWork work;
  work.opcode = opcode;
  work.remote_addr = 0x5000;
  work.rkey = 0x1234;
  work.sges = {{open.iova, length, open.key}};
  return work;
}

void Scene::post(unsigned who, const SendWork& work) {
  qp[who].write_send(work);
  m.ring_sq(qp[who]);
}

void Scene::post_receive(unsigned who, std::uint32_t length) {
  qp[who].write_recv(
      {{local.iova, length / 2, local.key}, {local.iova + 4000, length - length / 2, local.key}});
}

void Scene::run() { require(m.run(20000), "the device comes to rest"); }

void Scene::drain_completions() {
  while (cq.poll().has_value()) {
  }
  m.arm(cq);
  (void)m.events(0);
  (void)m.events(1);
}

// Descriptors for some frames both ways, and a filter.
void Scene::start_ethernet() {
  constexpr std::uint32_t kDescriptors = 16;
  constexpr std::uint32_t kBuffer = 1024;
  const std::uint64_t ring = m.memory().contiguous(test::GuestMemory::kPage);
  const std::uint64_t buffers = m.memory().contiguous(kDescriptors * kBuffer);
  constexpr std::uint32_t kTransmit = 2048;  // offset of the other ring
  for (std::uint32_t i = 0; i < kDescriptors; ++i) {
    godwit_eth_desc desc = {};
    desc.addr = {buffers + i * kBuffer};
    desc.length = {kBuffer};
    m.memory().put(ring + i * sizeof(desc), desc);
    desc.length = {64 * (i + 1)};
    desc.flags = i % 4 == 1 ? 0 : GODWIT_ETH_TX_EOP_MASK;
    m.memory().put(ring + kTransmit + i * sizeof(desc), desc);
    constexpr std::uint64_t kDone = offsetof(godwit_eth_desc, length);
    fence.open(ring + i * sizeof(desc) + kDone, sizeof(desc) - kDone);
    fence.open(ring + kTransmit + i * sizeof(desc) + kDone, sizeof(desc) - kDone);
  }
  fence.open(buffers, kDescriptors * kBuffer);
  godwit_cmd_set_eth_rings in = {};
  in.enable = {1};
  in.log2_tx = in.log2_rx = 4;
  in.tx_ring = {ring + kTransmit};
  in.rx_ring = {ring};
  must(m.command(GODWIT_CMD_SET_ETH_RINGS, in));
  const std::uint64_t group = 0x665544330133;  // 33:01:33:44:55:66
  m.memory().put(m.mailbox(), group);
  must(m.command(GODWIT_CMD_SET_ETH_FILTER, godwit_cmd_set_eth_filter{{m.mailbox()}, {1}, {0}}));
  m.doorbell(0, GODWIT_DB_ETH_RX, 0, kDescriptors);
}

void Scene::make_qp(unsigned who) {
  QueuePair& q = qp[who];
  q.uctx = 1;
  q.pdn = kPd;
  q.send_cqn = q.recv_cqn = cq.number;
  q.log2_sq = q.log2_rq = 3;
  q.log2_stride = 7;
  must(m.create_qp(&q));
  ConnectOptions options;
  options.sgid_index = is_ipv4(who) ? 0 : kIpv6Gid;
  // Limits that can be met.
  if (who == kIdle) options.max_dest_rd_atomic = 2;
  if (who == kIpv6) options.max_dest_rd_atomic = 0;
  if (who == kBusy) options.rnr_retry = options.retry_cnt = 1;
  must(m.to_init(q, options));
  must(m.to_rtr(q, options, {far_gid(is_ipv4(who)), kFarMac, far_qpn(who), far_psn(who)}));
  if (who == kRtr) return;
  must(m.to_rts(q, options, own_psn(who)));
  // That the far end knows the extension: an empty WRITE.
  wire::Headers h;
  h.opcode = wire::kWriteOnly;
  h.extended = true;
  h.dest_qpn = q.qpn;
  h.psn = far_psn(who);
  h.va = open.iova;
  h.rkey = open.key;
  receive(path(who), h);
}

void Scene::move_out(unsigned who, std::vector<std::uint8_t>* state) {
  must(m.scope(GODWIT_CMD_STOP, GODWIT_SCOPE_QP, qp[who].qpn));
  must(m.save_object(GODWIT_STATE_QP, 1, qp[who].qpn, state));
  must(m.tombstone(qp[who].qpn, kMove));
}

void Scene::move_in(unsigned who, const std::vector<std::uint8_t>& state) {
  must(m.create_qp(&qp[who], true, kMove));
  must(m.load_object(GODWIT_STATE_QP, 1, qp[who].qpn, state, 0));
  must(m.attach(GODWIT_STATE_QP, 1, qp[who].qpn, qp[who].buffer));
}

Scene::Scene(const godwit_device_config& config)
    : m(config, &clock, kPages), fence(m), bystander(m) {
  must(m.set_gid(0, gid(), kMac));
  must(m.set_gid(kIpv6Gid, gid(false), kMac));
  must(m.create_pd(1, kPd));
  cq.uctx = 1;
  cq.number = 5;
  cq.log2_depth = 6;
  must(m.create_cq(&cq));
  fence.open(cq.buffer, 0, cq.record_offset);
  // They begin and end in the middle of a page.
  const auto region = [&](MemoryRegion* r, std::uint32_t access, std::uint64_t iova,
                          std::uint64_t length) {
    r->pdn = kPd;
    r->access = access;
    r->iova = iova;
    r->buffer = test::make_buffer(m.memory(), length, 1000);
    must(m.register_region(r));
    fill(r->buffer, 0);
    if ((access & GODWIT_ACCESS_LOCAL_WRITE) != 0) fence.open(r->buffer, 0, length);
  };
  region(&open, 0xf, 0x7f0000000000, 9001);
  region(&readable, GODWIT_ACCESS_REMOTE_READ, 0x7f0000100000, 5000);
  region(&local, GODWIT_ACCESS_LOCAL_WRITE, 0x7f0000200000, 8000);
  start_ethernet();
  for (unsigned who = 0; who < kWhoCount; ++who) make_qp(who);
  run();

  for (const unsigned who : {kIdle, kIpv6, kRtr, kResuming}) {
    for (unsigned n = 0; n < 4; ++n) post_receive(who, who == kIdle ? 1500 : 3000);
  }
  // Responder resources in use, and messages that have begun.
  const auto request = [&](unsigned who, std::uint8_t opcode, std::uint32_t n, std::size_t bytes) {
    wire::Headers h;
    h.opcode = opcode;
    h.extended = h.ack_request = true;
    h.dest_qpn = qp[who].qpn;
    h.psn = (far_psn(who) + 1 + n) & wire::kPsnMask;
    h.va = open.iova;
    h.rkey = open.key;
    h.length = 2500;
    receive(path(who), h, std::vector<std::uint8_t>(bytes, 0x5a));
  };
  for (const unsigned who : {kIdle, kPaused, kDraining}) {
    request(who, wire::kReadRequest, 0, 0);
    request(who, wire::kFetchAdd, 3, 0);
  }
  post_receive(kDraining, 3000);
  request(kDraining, wire::kSendFirst, 4, 1024);
  request(kPaused, wire::kWriteFirst, 4, 1024);
  run();
  for (const std::uint8_t opcode :
       {GODWIT_WR_WRITE, GODWIT_WR_READ, GODWIT_WR_FETCH_ADD, GODWIT_WR_SEND_IMM, GODWIT_WR_READ}) {
    post(kBusy, work(opcode, opcode == GODWIT_WR_FETCH_ADD ? 8 : 2500));
  }
  for (const unsigned who : {kStopped, kPaused, kResuming, kWaiting}) {
    post(who, work(GODWIT_WR_WRITE, 2500));
  }
  run();
  wire::Headers h;
  h.opcode = wire::kAcknowledge;
  h.extended = true;
  h.dest_qpn = qp[kPaused].qpn;
  h.psn = own_psn(kPaused);
  h.aeth.syndrome = wire::kNakStopped;
  receive(path(kPaused), h);

  must(m.scope(GODWIT_CMD_STOP, GODWIT_SCOPE_QP, qp[kStopped].qpn));
  must(m.save_object(GODWIT_STATE_QP, 1, qp[kStopped].qpn, &stopped_));
  std::vector<std::uint8_t> state;
  move_out(kTombstone, &state);
  move_out(kRedirecting, &state);
  move_out(kWaiting, &state);
  move_in(kWaiting, state);
  move_out(kResuming, &state);
  move_in(kResuming, state);
  must(m.resume(GODWIT_SCOPE_QP, qp[kResuming].qpn, 1));

  transport::TokenInput token;
  token.flags = wire::kMigHome | wire::kMigRtr;
  token.mover_qpn = qp[kRedirecting].qpn;
  token.peer_qpn = far_qpn(kRedirecting);
  token.initial_psn = far_psn(kRedirecting);
  token.epoch = 1;
  token.mover_gid = third_gid();
  h = {};
  h.opcode = wire::kResume;
  h.extended = true;
  h.dest_qpn = qp[kRedirecting].qpn;
  h.mig.flags = token.flags;
  h.mig.epoch = 1;
  h.mig.token = transport::token(token);
  wire::Path from_successor = path(kRedirecting);
  from_successor.sgid = third_gid();
  receive(from_successor, h);

  must(m.set_status(qp[kError].qpn, GODWIT_QP_STATUS_ERROR));
  godwit_modify_qp drain = {};
  drain.qpn = {qp[kDraining].qpn};
  drain.mask = {GODWIT_QP_ATTR_STATUS | GODWIT_QP_ATTR_SQD_ASYNC_NOTIFY};
  drain.attr.status = GODWIT_QP_STATUS_SQD;
  drain.attr.sqd_async_notify = 1;
  must(m.modify(drain));
  run();
  drain_completions();
  // Little room is left for events.
  for (unsigned n = 0; n < 14; ++n) {
    godwit_device_set_link(m.device(), n % 2 != 0);
    run();
  }
  m.sent.clear();
  waiting_ext_ = m.query_qp(qp[kWaiting].qpn).ext.raw;
}

void Scene::check_frame(const Frame& frame) const {
  wire::Packet packet;
  require(wire::parse(frame, &packet) == wire::Parse::kOk, "a frame that is sent is well formed");
  const bool own = packet.path.sgid == gid(packet.path.ipv4) && packet.path.smac == kMac;
  require(own, "a frame that is sent names its sender");
}

void Scene::check() {
  require((m.reg(GODWIT_REG_STATUS) & GODWIT_STATUS_ENABLED_MASK) != 0, "the device is alive");
  for (const Frame& frame : m.sent) check_frame(frame);
  m.sent.clear();
}

void Scene::check_still() {
  std::vector<std::uint8_t> stopped;
  must(m.save_object(GODWIT_STATE_QP, 1, qp[kStopped].qpn, &stopped));
  require(without_statistics(stopped) == without_statistics(stopped_),
          "a stopped QP is as it was when it stopped");
  const Result tombstones =
      m.command(GODWIT_CMD_QUERY_TOMBSTONES, godwit_cmd_mailbox{{m.mailbox()}, {0}, {0}});
  require(tombstones.number() == 3, "tombstones stay");
  require(m.query_qp(qp[kError].qpn).attr.status == GODWIT_QP_STATUS_ERROR,
          "only software takes a QP out of Error");
  require(m.query_qp(qp[kWaiting].qpn).ext.raw == waiting_ext_, "only RESUME starts a loaded QP");
}

void Scene::reload() {
  const char* wrong = m.load(m.save());
  if (wrong != nullptr) std::fprintf(stderr, "refused: %s\n", wrong);
  require(wrong == nullptr, "what a device saves can be loaded");
}

std::vector<std::uint8_t> without_statistics(std::vector<std::uint8_t> state) {
  std::fill_n(state.begin() + offsetof(godwit_state_header, crc32), 4, std::uint8_t{0});
  std::fill_n(state.begin() + offsetof(godwit_qp_state, tx_packets), 4 * 8, std::uint8_t{0});
  return state;
}

}  // namespace godwit::fuzz
