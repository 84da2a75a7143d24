// SPDX-License-Identifier: GPL-2.0-or-later
//
// A load that knows when it has been lied to. Two processes run every operation
// of the RC service on several queue pairs in both directions at once. Each side
// can compute what the other does next, so that a message, a byte, a returned
// value or a completion that is lost, repeated, out of order or altered is found
// and named. Pauses of any length, up to --stall-limit, are no error.
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <memory>

#include "control.h"
#include "support.h"
#include "verify_plan.h"

namespace {

using namespace godwit::apps;

constexpr unsigned kProtocol = 1;
constexpr unsigned kMaxQps = 1024;
constexpr std::uint64_t kMagic = 0x7469776474697765;
constexpr std::uint32_t kMaxCredits = 16;         // credit messages under way
constexpr std::uint32_t kCreditBit = 0x80000000;  // of immediate data
constexpr std::uint32_t kNumberMask = 0x7fffffff;
constexpr std::uint64_t kCreditWrId = std::uint64_t{1} << 63;
constexpr std::size_t kErrorsShown = 20;
constexpr std::uint32_t kInlineData = 128;

volatile sig_atomic_t interrupted = 0;

struct Options {
  std::string host;  // empty: server
  std::string port = "18517";
  std::string device;
  std::string json;
  int gid_index = -1;
  unsigned qps = 4;
  std::uint32_t size = 8192;
  std::uint32_t window = 32;
  std::uint64_t seed = 1;
  unsigned duration_s = 10;
  unsigned stall_limit_s = 600;
  unsigned timeout = 16;
  unsigned mtu = 0;  // bytes; 0: what the port has
  bool events = false;
  unsigned pause_ms = 0;
};

struct Header {
  std::uint64_t magic;
  std::uint32_t qp;
  std::uint32_t length;
  std::uint64_t number;
  std::uint64_t checksum;
};

std::uint64_t checksum(std::uint64_t pattern, std::uint32_t length) {
  std::uint64_t sum = length;
  for (std::uint32_t i = 0; i < length; i += 8) {
    std::uint64_t word = mix(pattern + i);
    if (length - i < 8) word &= ~std::uint64_t{0} >> (64 - 8 * (length - i));
    sum = (sum << 7 | sum >> 57) ^ word;
  }
  return sum;
}

std::uint64_t checksum_of(const unsigned char* bytes, std::uint32_t length) {
  std::uint64_t sum = length;
  for (std::uint32_t i = 0; i < length; i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes + i, std::min(length - i, 8u));
    sum = (sum << 7 | sum >> 57) ^ word;
  }
  return sum;
}

// Words that the peer changes, per QP
struct Words {
  std::uint64_t fetch_add;
  std::uint64_t compare_swap;
  std::uint64_t credit;
  std::uint64_t reserved[5];
};

// Where everything of one QP lies in the registered memory
struct Layout {
  Layout(std::uint32_t window, std::uint32_t size, unsigned qps)
      : window_(window), stride_((size + 63) & ~63u), receives(window + 2 * kMaxCredits) {
    shared = 0;
    words = 64;
    slots = words + sizeof(Words) * qps;
    const std::size_t per_qp = std::size_t{stride_} * window_;
    headers = slots + 2 * per_qp * qps;
    payloads = headers + sizeof(Header) * window * qps;
    reads = payloads + per_qp * qps;
    results = reads + per_qp * qps;
    receive_headers = results + sizeof(std::uint64_t) * window * qps;
    receive_payloads = receive_headers + sizeof(Header) * receives * qps;
    total = receive_payloads + std::size_t{stride_} * receives * qps;
  }

  // Twice the window: a READ may be executed again as long as it has not completed, and what
  // it reads must still be there.
  std::size_t slot(unsigned qp, std::uint64_t n) const {
    return slots + (std::size_t{qp} * 2 * window_ + n % (2 * window_)) * stride_;
  }
  std::size_t header(unsigned qp, std::uint64_t n) const {
    return headers + at(qp, n) * sizeof(Header);
  }
  std::size_t payload(unsigned qp, std::uint64_t n) const { return payloads + at(qp, n) * stride_; }
  std::size_t read(unsigned qp, std::uint64_t n) const { return reads + at(qp, n) * stride_; }
  std::size_t result(unsigned qp, std::uint64_t n) const { return results + at(qp, n) * 8; }
  std::size_t receive_header(unsigned qp, std::uint32_t i) const {
    return receive_headers + (std::size_t{qp} * receives + i) * sizeof(Header);
  }
  std::size_t receive_payload(unsigned qp, std::uint32_t i) const {
    return receive_payloads + (std::size_t{qp} * receives + i) * stride_;
  }
  std::size_t words_of(unsigned qp) const { return words + sizeof(Words) * qp; }

 private:
  std::size_t at(unsigned qp, std::uint64_t n) const {
    return std::size_t{qp} * window_ + n % window_;
  }
  std::uint32_t window_;
  std::uint32_t stride_;

 public:
  std::uint32_t receives;  // receive work requests per QP
  std::size_t shared, words, slots, headers, payloads, reads, results, receive_headers,
      receive_payloads, total;
};

struct Remote {
  std::uint64_t base = 0;
  std::uint32_t rkey = 0;
};

// What we do to the peer on one QP
struct Outgoing {
  Plan plan;
  std::uint64_t next = 0;       // to be posted
  std::uint64_t completed = 0;  // all before it
  std::uint64_t acked = 0;      // the peer has checked all before it
  std::uint64_t fetch_add = 0;  // the peer's word after what has completed
  std::uint64_t shared = 0;     // more than any value returned so far
  std::uint64_t swap_posted = 0, swap_completed = 0;
  std::uint32_t credits = 0;  // under way
};

// What the peer does to us
struct Incoming {
  Plan plan;
  std::uint64_t checked = 0;                                  // all before it
  std::uint64_t credited = 0;                                 // the peer knows
  std::uint64_t fetch_add = 0, shared = 0, compare_swap = 0;  // as they must be
  std::uint64_t total = 0;                                    // at the end
};

struct Connection {
  ibv_qp* qp = nullptr;
  std::uint32_t psn = 0;
  Peer peer;
  Outgoing out;
  Incoming in;
};

struct Totals {
  std::array<std::uint64_t, kKinds> posted = {};
  std::uint64_t completions = 0, heard = 0, checked = 0;
  std::uint64_t bytes_out = 0, bytes_in = 0;
  std::uint64_t longest_gap_ns = 0;
};

class Verify {
 public:
  Verify(const Options& options, Control& control)
      : options_(options), control_(control), layout_(1, 64, 1) {}

  int run() {
    agree();
    open();
    connect();
    started_ns_ = last_progress_ns_ = last_line_ns_ = now_ns();
    loop();
    const bool good = finish();
    report(good);
    close();
    return good ? 0 : 1;
  }

 private:
  bool server() const { return options_.host.empty(); }

  // ---------------------------------------------- before

  // The client decides what is run, the server only whether it can.
  void agree() {
    char line[256];
    if (!server()) {
      std::snprintf(line, sizeof(line), "verify %u %u %u %u %" PRIu64 " %u %u", kProtocol,
                    options_.qps, options_.size, options_.window, options_.seed,
                    options_.stall_limit_s, options_.timeout);
      control_.send(line);
      return;
    }
    unsigned protocol = 0;
    const std::string asked = control_.line();
    if (std::sscanf(asked.c_str(), "verify %u %u %u %u %" SCNu64 " %u %u", &protocol, &options_.qps,
                    &options_.size, &options_.window, &options_.seed, &options_.stall_limit_s,
                    &options_.timeout) != 7 ||
        protocol != kProtocol || options_.qps < 1 || options_.qps > kMaxQps || options_.size < 64 ||
        options_.size > 1 << 20 || options_.window < 2 * kGroup || options_.window > 512 ||
        options_.window % kGroup != 0 || options_.timeout > 31 || options_.stall_limit_s < 1) {
      die("the client asks for what this server does not know: \"%s\"", asked.c_str());
    }
  }

  void open() {
    layout_ = Layout(options_.window, options_.size, options_.qps);
    port_ = open_port(options_.device, options_.gid_index, {control_.own_address()});
    ibv_device_attr attr;
    if (ibv_query_device(port_.context, &attr) != 0) die("ibv_query_device");
    const std::uint32_t sends = options_.window + kMaxCredits;
    const std::uint32_t receives = layout_.receives;
    if (static_cast<std::uint32_t>(attr.max_qp_wr) < std::max(sends, receives) ||
        attr.max_sge < 3) {
      die("the device allows %d work requests and %d SGEs: too few", attr.max_qp_wr, attr.max_sge);
    }
    rd_atomic_ = static_cast<std::uint8_t>(
        std::clamp(std::min(attr.max_qp_rd_atom, attr.max_qp_init_rd_atom), 1, 8));
    memory_ = static_cast<unsigned char*>(
        mmap(nullptr, layout_.total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (memory_ == MAP_FAILED) die("%zu bytes of memory: %s", layout_.total, std::strerror(errno));
    pd_ = ibv_alloc_pd(port_.context);
    if (pd_ == nullptr) die("ibv_alloc_pd: %s", std::strerror(errno));
    mr_ = ibv_reg_mr(pd_, memory_, layout_.total, IBV_ACCESS_LOCAL_WRITE | kRemoteAccess);
    if (mr_ == nullptr) die("ibv_reg_mr of %zu bytes: %s", layout_.total, std::strerror(errno));
    if (options_.events) {
      channel_ = ibv_create_comp_channel(port_.context);
      if (channel_ == nullptr) die("ibv_create_comp_channel: %s", std::strerror(errno));
      fcntl(channel_->fd, F_SETFL, fcntl(channel_->fd, F_GETFL) | O_NONBLOCK);
    }
    send_cq_ = create_cq(sends);
    recv_cq_ = create_cq(receives);
    connections_.resize(options_.qps);
    for (unsigned i = 0; i < options_.qps; ++i) create_qp(i, sends, receives);
  }

  ibv_cq* create_cq(std::uint32_t entries_per_qp) {
    const int entries = static_cast<int>(entries_per_qp * options_.qps);
    ibv_cq* cq = ibv_create_cq(port_.context, entries, nullptr, channel_, 0);
    if (cq == nullptr) die("ibv_create_cq of %d: %s", entries, std::strerror(errno));
    return cq;
  }

  void create_qp(unsigned i, std::uint32_t sends, std::uint32_t receives) {
    Connection& c = connections_[i];
    ibv_qp_init_attr init = {};
    init.send_cq = send_cq_;
    init.recv_cq = recv_cq_;
    init.qp_type = IBV_QPT_RC;
    init.cap.max_send_wr = sends;
    init.cap.max_recv_wr = receives;
    init.cap.max_send_sge = 3;
    init.cap.max_recv_sge = 2;
    init.cap.max_inline_data = kInlineData;
    c.qp = ibv_create_qp(pd_, &init);
    if (c.qp == nullptr) die("ibv_create_qp: %s", std::strerror(errno));
    if (to_init(c.qp) != 0) die("QP to INIT: %s", std::strerror(errno));
    c.psn = static_cast<std::uint32_t>(mix(now_ns() + i)) & 0xffffff;
    // Each direction of each QP has a plan of its own.
    const std::uint64_t ours = options_.seed * 1024 + i * 2 + (server() ? 1 : 0);
    c.out.plan = Plan(ours, options_.size);
    c.in.plan = Plan(ours ^ 1, options_.size);
    for (std::uint32_t slot = 0; slot < receives; ++slot) post_receive(i, slot);
  }

  // What the peer needs to know comes over TCP; "ready" once it can be spoken to.
  void connect() {
    const unsigned own_mtu = options_.mtu != 0 ? options_.mtu : 128u << port_.attr.active_mtu;
    char line[256];
    std::snprintf(line, sizeof(line), "port %u %u %s %" PRIx64 " %x", own_mtu, rd_atomic_,
                  gid_text(port_.gid).c_str(), reinterpret_cast<std::uint64_t>(memory_), mr_->rkey);
    control_.send(line);
    for (unsigned i = 0; i < options_.qps; ++i) {
      std::snprintf(line, sizeof(line), "qp %u %x %x", i, connections_[i].qp->qp_num,
                    connections_[i].psn);
      control_.send(line);
    }
    PathOptions path;
    ibv_gid gid;
    read_peer(own_mtu, &path, &gid);
    path.timeout = static_cast<std::uint8_t>(options_.timeout);
    for (Connection& c : connections_) {
      c.peer.gid = gid;
      if (to_rtr(c.qp, port_, c.peer, path) != 0) die("QP to RTR: %s", std::strerror(errno));
      if (to_rts(c.qp, c.psn, path) != 0) die("QP to RTS: %s", std::strerror(errno));
    }
    control_.send("ready");
    if (control_.line() != "ready") die("the peer is not ready");
    std::printf("%s %s, %u QPs, up to %u bytes, MTU %u, %s\n", server() ? "server on" : "client on",
                ibv_get_device_name(port_.context->device), options_.qps, options_.size,
                128u << path.mtu, options_.events ? "events" : "polling");
    std::fflush(stdout);
  }

  void read_peer(unsigned own_mtu, PathOptions* path, ibv_gid* gid) {
    const std::string text = control_.line();
    unsigned mtu = 0, rd_atomic = 0;
    char gid_hex[40] = "";
    if (std::sscanf(text.c_str(), "port %u %u %32s %" SCNx64 " %x", &mtu, &rd_atomic, gid_hex,
                    &remote_.base, &remote_.rkey) != 5 ||
        rd_atomic < 1 || rd_atomic > 255 || !parse_gid(gid_hex, gid)) {
      die("the peer says \"%s\"", text.c_str());
    }
    mtu = std::min(mtu, own_mtu);
    path->mtu = IBV_MTU_256;
    while (path->mtu < IBV_MTU_4096 && 256u << path->mtu <= mtu) {
      path->mtu = static_cast<ibv_mtu>(path->mtu + 1);
    }
    path->rd_atomic = static_cast<std::uint8_t>(std::min<unsigned>(rd_atomic, rd_atomic_));
    for (unsigned i = 0; i < options_.qps; ++i) {
      const std::string qp = control_.line();
      unsigned number = 0;
      Peer& peer = connections_[i].peer;
      if (std::sscanf(qp.c_str(), "qp %u %x %x", &number, &peer.qpn, &peer.psn) != 3 ||
          number != i) {
        die("the peer says \"%s\"", qp.c_str());
      }
    }
  }

  static std::string gid_text(const ibv_gid& gid) {
    std::string text;
    for (const unsigned char byte : gid.raw) {
      char hex[3];
      std::snprintf(hex, sizeof(hex), "%02x", byte);
      text += hex;
    }
    return text;
  }

  static bool parse_gid(const char* text, ibv_gid* gid) {
    for (int i = 0; i < 16; ++i) {
      unsigned byte;
      if (std::sscanf(text + 2 * i, "%2x", &byte) != 1) return false;
      gid->raw[i] = static_cast<unsigned char>(byte);
    }
    return true;
  }

  // ---------------------------------------------- sending

  unsigned char* at(std::size_t offset) { return memory_ + offset; }

  ibv_sge sge(std::size_t offset, std::uint32_t length) const {
    return {reinterpret_cast<std::uint64_t>(memory_) + offset, length, mr_->lkey};
  }

  struct Request {
    ibv_send_wr wr;
    ibv_sge sges[3];
  };

  void send_message(unsigned i, std::uint64_t n, Request* r) {
    const Plan& plan = connections_[i].out.plan;
    const std::uint32_t length = plan.length(n);
    const bool forwards = plan.kind(n) == Kind::kSendFenced;
    const std::size_t payload = forwards ? layout_.read(i, n - 1) : layout_.payload(i, n);
    const std::uint64_t pattern = plan.pattern(n);
    const Header header = {kMagic, i, length, n, checksum(pattern, length)};
    std::memcpy(at(layout_.header(i, n)), &header, sizeof(header));
    if (!forwards) fill_pattern(at(payload), length, pattern);
    r->sges[0] = sge(layout_.header(i, n), sizeof(header));
    r->sges[1] = sge(payload, length / 3);
    r->sges[2] = sge(payload + length / 3, length - length / 3);
    r->wr.num_sge = 3;
    if (length / 3 == 0) {
      r->sges[1] = r->sges[2];
      r->wr.num_sge = 2;
    }
    r->wr.opcode = IBV_WR_SEND;
    if (plan.kind(n) == Kind::kSendImm) {
      r->wr.opcode = IBV_WR_SEND_WITH_IMM;
      r->wr.imm_data = htonl(static_cast<std::uint32_t>(n & kNumberMask));
    }
    if (plan.kind(n) == Kind::kSendInline) r->wr.send_flags |= IBV_SEND_INLINE;
    if (forwards) r->wr.send_flags |= IBV_SEND_FENCE | IBV_SEND_SOLICITED;
  }

  void write_message(unsigned i, std::uint64_t n, Request* r) {
    const Plan& plan = connections_[i].out.plan;
    const std::uint32_t length = plan.length(n);
    const std::size_t payload = layout_.payload(i, n);
    fill_pattern(at(payload), length, plan.pattern(n));
    r->sges[0] = sge(payload, length);
    r->wr.num_sge = 1;
    r->wr.opcode = IBV_WR_RDMA_WRITE;
    if (plan.kind(n) == Kind::kWriteImm) {
      r->wr.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
      r->wr.imm_data = htonl(static_cast<std::uint32_t>(n & kNumberMask));
    }
    if (plan.kind(n) == Kind::kWriteInline) r->wr.send_flags |= IBV_SEND_INLINE;
    r->wr.wr.rdma.remote_addr = remote_.base + layout_.slot(i, n);
    r->wr.wr.rdma.rkey = remote_.rkey;
  }

  void read_message(unsigned i, std::uint64_t n, Request* r) {
    const Plan& plan = connections_[i].out.plan;
    const std::uint32_t length = plan.length(n);
    std::memset(at(layout_.read(i, n)), 0xee, length);
    r->sges[0] = sge(layout_.read(i, n), length);
    r->wr.num_sge = 1;
    r->wr.opcode = IBV_WR_RDMA_READ;
    r->wr.wr.rdma.remote_addr = remote_.base + layout_.slot(i, plan.source(n));
    r->wr.wr.rdma.rkey = remote_.rkey;
  }

  void atomic_message(unsigned i, std::uint64_t n, Request* r) {
    Outgoing& out = connections_[i].out;
    const std::size_t words = layout_.words_of(i);
    std::memset(at(layout_.result(i, n)), 0xee, 8);
    r->sges[0] = sge(layout_.result(i, n), 8);
    r->wr.num_sge = 1;
    r->wr.wr.atomic.rkey = remote_.rkey;
    r->wr.opcode = IBV_WR_ATOMIC_FETCH_AND_ADD;
    switch (out.plan.kind(n)) {
      case Kind::kFetchAdd:
        r->wr.wr.atomic.remote_addr = remote_.base + words + offsetof(Words, fetch_add);
        r->wr.wr.atomic.compare_add = out.plan.addend(n);
        break;
      case Kind::kFetchAddShared:
        r->wr.wr.atomic.remote_addr = remote_.base + layout_.shared;
        r->wr.wr.atomic.compare_add = 1;
        break;
      default:
        r->wr.opcode = IBV_WR_ATOMIC_CMP_AND_SWP;
        r->wr.wr.atomic.remote_addr = remote_.base + words + offsetof(Words, compare_swap);
        r->wr.wr.atomic.compare_add = out.plan.swap_matches(n) ? out.swap_posted : ~out.swap_posted;
        r->wr.wr.atomic.swap = out.plan.swap_value(n);
        if (out.plan.swap_matches(n)) out.swap_posted = out.plan.swap_value(n);
        break;
    }
  }

  void build(unsigned i, std::uint64_t n, Request* r) {
    const Plan& plan = connections_[i].out.plan;
    *r = {};
    r->wr.wr_id = n;
    r->wr.sg_list = r->sges;
    if (plan.is_signaled(n)) r->wr.send_flags = IBV_SEND_SIGNALED;
    if (plan.sends(n)) {
      send_message(i, n, r);
    } else if (plan.writes(n)) {
      write_message(i, n, r);
    } else if (plan.kind(n) == Kind::kRead) {
      read_message(i, n, r);
    } else {
      atomic_message(i, n, r);
    }
    ++totals_.posted[static_cast<unsigned>(plan.kind(n))];
    totals_.bytes_out += plan.length(n);
  }

  bool may_post(const Outgoing& out) const {
    if (stopping_ && out.next % kGroup == 0) return false;
    return out.next - std::min(out.acked, out.completed) < options_.window;
  }

  void post_operations(unsigned i) {
    Outgoing& out = connections_[i].out;
    std::array<Request, kGroup> requests;
    unsigned count = 0;
    while (count < kGroup && may_post(out)) {
      build(i, out.next++, &requests[count]);
      if (count > 0) requests[count - 1].wr.next = &requests[count].wr;
      ++count;
    }
    if (count == 0) return;
    ibv_send_wr* bad = nullptr;
    const int ret = ibv_post_send(connections_[i].qp, &requests[0].wr, &bad);
    if (ret != 0) fail_hard("QP %u: ibv_post_send: %s", i, std::strerror(ret));
  }

  // Tells the peer how far its operations have been checked.
  void post_credit(unsigned i) {
    Connection& c = connections_[i];
    if (c.in.checked - c.in.credited < kGroup || c.out.credits == kMaxCredits) return;
    std::uint64_t value = c.in.checked;
    ibv_sge data = {reinterpret_cast<std::uint64_t>(&value), sizeof(value), 0};
    ibv_send_wr wr = {};
    wr.wr_id = kCreditWrId;
    wr.sg_list = &data;
    wr.num_sge = 1;
    wr.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
    wr.send_flags = IBV_SEND_INLINE | IBV_SEND_SIGNALED;
    wr.imm_data = htonl(static_cast<std::uint32_t>(value & kNumberMask) | kCreditBit);
    wr.wr.rdma.remote_addr = remote_.base + layout_.words_of(i) + offsetof(Words, credit);
    wr.wr.rdma.rkey = remote_.rkey;
    ibv_send_wr* bad = nullptr;
    const int ret = ibv_post_send(c.qp, &wr, &bad);
    if (ret != 0) fail_hard("QP %u: ibv_post_send of a credit: %s", i, std::strerror(ret));
    ++c.out.credits;
    c.in.credited = value;
  }

  void post_receive(unsigned i, std::uint32_t slot) {
    ibv_sge sges[2] = {sge(layout_.receive_header(i, slot), sizeof(Header)),
                       sge(layout_.receive_payload(i, slot), options_.size)};
    ibv_recv_wr wr = {};
    wr.wr_id = slot;
    wr.sg_list = sges;
    wr.num_sge = 2;
    ibv_recv_wr* bad = nullptr;
    const int ret = ibv_post_recv(connections_[i].qp, &wr, &bad);
    if (ret != 0) fail_hard("QP %u: ibv_post_recv: %s", i, std::strerror(ret));
  }

  // ---------------------------------------------- checking

  [[gnu::format(printf, 2, 3)]] void error(const char* format, ...) {
    char text[256];
    va_list args;
    va_start(args, format);
    std::vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    ++error_count_;
    if (errors_.size() >= kErrorsShown) return;
    errors_.emplace_back(text);
    std::printf("ERROR %s\n", text);
    std::fflush(stdout);
  }

  // The connection cannot be used any more.
  [[gnu::format(printf, 2, 3)]] void fail_hard(const char* format, ...) {
    char text[256];
    va_list args;
    va_start(args, format);
    std::vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    error("%s", text);
    broken_ = true;
  }

  int find(std::uint32_t qpn) const {
    for (unsigned i = 0; i < connections_.size(); ++i) {
      if (connections_[i].qp->qp_num == qpn) return static_cast<int>(i);
    }
    return -1;
  }

  void check_returned(unsigned i, std::uint64_t n) {
    Outgoing& out = connections_[i].out;
    std::uint64_t value;
    std::memcpy(&value, at(layout_.result(i, n)), sizeof(value));
    switch (out.plan.kind(n)) {
      case Kind::kRead: {
        const long wrong =
            check_pattern(at(layout_.read(i, n)), out.plan.length(n), out.plan.pattern(n));
        if (wrong >= 0) error("QP %u operation %" PRIu64 ": READ wrong at byte %ld", i, n, wrong);
        break;
      }
      case Kind::kFetchAdd:
        if (value != out.fetch_add) {
          error("QP %u operation %" PRIu64 ": FETCH_ADD returned %" PRIx64 ", not %" PRIx64, i, n,
                value, out.fetch_add);
        }
        out.fetch_add += out.plan.addend(n);
        break;
      case Kind::kFetchAddShared:
        if (value < out.shared) {
          error("QP %u operation %" PRIu64 ": the shared counter went back to %" PRIu64, i, n,
                value);
        }
        out.shared = value + 1;
        break;
      case Kind::kCompareSwap:
        if (value != out.swap_completed) {
          error("QP %u operation %" PRIu64 ": COMPARE_SWAP returned %" PRIx64 ", not %" PRIx64, i,
                n, value, out.swap_completed);
        }
        if (out.plan.swap_matches(n)) out.swap_completed = out.plan.swap_value(n);
        break;
      default:
        break;
    }
  }

  void on_send_completion(unsigned i, const ibv_wc& wc) {
    Outgoing& out = connections_[i].out;
    if (wc.wr_id == kCreditWrId) {
      if (out.credits == 0) return error("QP %u: a credit completed twice", i);
      --out.credits;
      return;
    }
    std::uint64_t expected = out.completed;
    while (!out.plan.is_signaled(expected)) ++expected;
    if (wc.wr_id != expected || expected >= out.next) {
      return error("QP %u: completion of %" PRIu64 ", expected %" PRIu64, i, wc.wr_id, expected);
    }
    check_returned(i, expected);
    out.completed = expected + 1;
  }

  void on_credit(unsigned i, std::uint32_t number) {
    Outgoing& out = connections_[i].out;
    const std::uint32_t step = (number - static_cast<std::uint32_t>(out.acked)) & kNumberMask;
    if (step == 0 || step > out.next - out.acked) {
      return error("QP %u: credit %u after %" PRIu64 " of %" PRIu64, i, number, out.acked,
                   out.next);
    }
    out.acked += step;
    std::uint64_t word;
    std::memcpy(&word, at(layout_.words_of(i) + offsetof(Words, credit)), sizeof(word));
    if (word < out.acked || word > out.next) {
      error("QP %u: credit word is %" PRIu64 ", not %" PRIu64, i, word, out.acked);
    }
  }

  void check_message(unsigned i, std::uint64_t n, const ibv_wc& wc) {
    const Plan& plan = connections_[i].in.plan;
    const auto slot = static_cast<std::uint32_t>(wc.wr_id);
    const std::uint32_t length = plan.length(n);
    Header header;
    std::memcpy(&header, at(layout_.receive_header(i, slot)), sizeof(header));
    const unsigned char* payload = at(layout_.receive_payload(i, slot));
    if (wc.opcode != IBV_WC_RECV || header.magic != kMagic || header.qp != i ||
        header.number != n) {
      return error("QP %u: message %" PRIu64 " (QP %u) where %" PRIu64 " was due", i, header.number,
                   header.qp, n);
    }
    if (header.length != length || wc.byte_len != sizeof(header) + length) {
      return error("QP %u message %" PRIu64 ": %u bytes, not %zu", i, n, wc.byte_len,
                   sizeof(header) + length);
    }
    if (checksum_of(payload, length) != header.checksum ||
        check_pattern(payload, length, plan.pattern(n)) >= 0) {
      error("QP %u message %" PRIu64 ": payload altered", i, n);
    }
  }

  // All operations up to and including n have been executed here, in order.
  void check_up_to(unsigned i, std::uint64_t n) {
    Incoming& in = connections_[i].in;
    for (; in.checked <= n; ++in.checked) {
      const std::uint64_t m = in.checked;
      totals_.bytes_in += in.plan.length(m);
      ++totals_.checked;
      switch (in.plan.kind(m)) {
        case Kind::kFetchAdd:
          in.fetch_add += in.plan.addend(m);
          break;
        case Kind::kFetchAddShared:
          ++in.shared;
          break;
        case Kind::kCompareSwap:
          if (in.plan.swap_matches(m)) in.compare_swap = in.plan.swap_value(m);
          break;
        default:
          break;
      }
      if (!in.plan.writes(m)) continue;
      const long wrong =
          check_pattern(at(layout_.slot(i, m)), in.plan.length(m), in.plan.pattern(m));
      if (wrong >= 0) error("QP %u operation %" PRIu64 ": WRITE wrong at byte %ld", i, m, wrong);
    }
  }

  void on_receive(unsigned i, const ibv_wc& wc) {
    const bool has_imm = (wc.wc_flags & IBV_WC_WITH_IMM) != 0;
    const std::uint32_t imm = has_imm ? ntohl(wc.imm_data) : 0;
    if (wc.opcode == IBV_WC_RECV_RDMA_WITH_IMM && (imm & kCreditBit) != 0) {
      return on_credit(i, imm & kNumberMask);
    }
    const Plan& plan = connections_[i].in.plan;
    std::uint64_t n = connections_[i].in.checked;
    while (!plan.is_heard(n)) ++n;
    const Kind kind = plan.kind(n);
    const bool wants_imm = kind == Kind::kSendImm || kind == Kind::kWriteImm;
    if (has_imm != wants_imm || (wants_imm && imm != (n & kNumberMask))) {
      return error("QP %u: immediate data %#x where operation %" PRIu64 " was due", i, imm, n);
    }
    if (kind != Kind::kWriteImm) {
      check_message(i, n, wc);
    } else if (wc.opcode != IBV_WC_RECV_RDMA_WITH_IMM || wc.byte_len != plan.length(n)) {
      error("QP %u: not the WRITE with immediate %" PRIu64 " that was due", i, n);
    }
    ++totals_.heard;
    check_up_to(i, n);
  }

  // ---------------------------------------------- the loop

  unsigned poll(ibv_cq* cq) {
    std::array<ibv_wc, 32> wcs;
    const int count = ibv_poll_cq(cq, wcs.size(), wcs.data());
    if (count < 0) fail_hard("ibv_poll_cq: %d", count);
    for (int k = 0; k < count && !broken_; ++k) {
      const ibv_wc& wc = wcs[static_cast<unsigned>(k)];
      const int i = find(wc.qp_num);
      if (i < 0) {
        error("a completion of QP %#x, which is none of ours", wc.qp_num);
      } else if (wc.status != IBV_WC_SUCCESS) {
        fail_hard("QP %d: %s completion: %s (vendor error %u)", i,
                  cq == send_cq_ ? "send" : "receive", ibv_wc_status_str(wc.status), wc.vendor_err);
      } else if (cq == send_cq_) {
        on_send_completion(static_cast<unsigned>(i), wc);
      } else {
        on_receive(static_cast<unsigned>(i), wc);
        post_receive(static_cast<unsigned>(i), static_cast<std::uint32_t>(wc.wr_id));
      }
    }
    return count > 0 ? static_cast<unsigned>(count) : 0;
  }

  bool poll_both() {
    const unsigned got = poll(recv_cq_) + poll(send_cq_);
    if (got == 0) return false;
    totals_.completions += got;
    const std::uint64_t now = now_ns();
    totals_.longest_gap_ns = std::max(totals_.longest_gap_ns, now - last_progress_ns_);
    last_progress_ns_ = now;
    return true;
  }

  void post_all() {
    for (unsigned i = 0; i < connections_.size() && !broken_; ++i) {
      post_credit(i);
      post_operations(i);
    }
  }

  // Sleeps until there is something to poll, a line from the peer, or the next progress line.
  void sleep_for_events() {
    if (ibv_req_notify_cq(send_cq_, 0) != 0 || ibv_req_notify_cq(recv_cq_, 0) != 0) {
      return fail_hard("ibv_req_notify_cq: %s", std::strerror(errno));
    }
    if (!poll_both()) {  // else it came before the CQs were armed
      pollfd wait[2] = {{channel_->fd, POLLIN, 0}, {control_.fd(), POLLIN, 0}};
      ::poll(wait, 2, 200);
    }
    ibv_cq* cq = nullptr;
    void* context = nullptr;
    while (ibv_get_cq_event(channel_, &cq, &context) == 0) {
      unsigned& unacked = cq == send_cq_ ? unacked_send_ : unacked_recv_;
      if (++unacked == 16) {
        ibv_ack_cq_events(cq, unacked);
        unacked = 0;
      }
    }
  }

  bool all_posted_completed() const {
    return std::all_of(connections_.begin(), connections_.end(), [](const Connection& c) {
      return c.out.next % kGroup == 0 && c.out.completed == c.out.next;
    });
  }

  bool all_heard() const {
    return peer_done_ &&
           std::all_of(connections_.begin(), connections_.end(), [](const Connection& c) {
             return c.in.checked >= c.in.total && c.out.credits == 0;
           });
  }

  void on_line(const std::string& text) {
    if (text == "stop") {
      stopping_ = true;
    } else if (text.rfind("done", 0) == 0) {
      const char* at = text.c_str() + 4;
      for (Connection& c : connections_) {
        char* end = nullptr;
        c.in.total = std::strtoull(at, &end, 10);
        if (end == at) return fail_hard("the peer says \"%s\"", text.c_str());
        at = end;
      }
      peer_done_ = true;
      stopping_ = true;
    } else if (text.rfind("verdict ", 0) == 0) {
      peer_verdict_ = text.substr(8);
    } else {
      fail_hard("the peer says \"%s\"", text.c_str());
    }
  }

  void read_control() {
    std::string text;
    for (;;) {
      switch (control_.poll_line(&text)) {
        case Control::Got::kLine:
          on_line(text);
          continue;
        case Control::Got::kClosed:
          // With its verdict it may be gone before we have looked.
          if (peer_verdict_ == "good") return;
          return fail_hard("the peer has closed the control connection");
        case Control::Got::kNothing:
          return;
      }
    }
  }

  void begin_stop() {
    if (stopping_) return;
    stopping_ = true;
    control_.send("stop");
  }

  void say_done() {
    std::string text = "done";
    for (const Connection& c : connections_) text += " " + std::to_string(c.out.next);
    control_.send(text);
    said_done_ = true;
  }

  // What has to be looked at now and then only
  void housekeeping() {
    const std::uint64_t now = now_ns();
    read_control();
    if (interrupted || (!server() && options_.duration_s != 0 &&
                        now - started_ns_ >= options_.duration_s * 1'000'000'000ull)) {
      begin_stop();
    }
    if (now - last_progress_ns_ >= options_.stall_limit_s * 1'000'000'000ull) {
      fail_hard("nothing has completed for %u s", options_.stall_limit_s);
    }
    if (now - last_line_ns_ >= 1'000'000'000u) {
      progress(now);
      look_at_the_device();
    }
  }

  // One that has failed, or is gone, completes nothing any more.
  void look_at_the_device() {
    pollfd wait = {port_.context->async_fd, POLLIN, 0};
    while (!broken_ && ::poll(&wait, 1, 0) == 1) {
      ibv_async_event event;
      if (ibv_get_async_event(port_.context, &event) != 0) return fail_hard("the device is gone");
      const bool fatal = event.event_type == IBV_EVENT_DEVICE_FATAL;
      ibv_ack_async_event(&event);
      if (fatal) return fail_hard("the device has failed");
    }
  }

  void progress(std::uint64_t now) {
    const double span = static_cast<double>(now - last_line_ns_) / 1e9;
    std::printf("%5.0f s %9.0f op/s %8.2f MB/s out %8.2f MB/s in, quiet for %.0f ms, %" PRIu64
                " errors\n",
                static_cast<double>(now - started_ns_) / 1e9,
                static_cast<double>(totals_.checked - shown_.checked) / span,
                static_cast<double>(totals_.bytes_out - shown_.bytes_out) / 1e6 / span,
                static_cast<double>(totals_.bytes_in - shown_.bytes_in) / 1e6 / span,
                static_cast<double>(now - last_progress_ns_) / 1e6, error_count_);
    std::fflush(stdout);
    shown_ = totals_;
    last_line_ns_ = now;
  }

  void loop() {
    for (unsigned round = 0; !broken_; ++round) {
      const bool got = poll_both();
      if (broken_) break;
      post_all();
      if (!said_done_ && stopping_ && all_posted_completed()) say_done();
      if (said_done_ && all_heard()) break;
      if (options_.pause_ms != 0) {
        timespec pause = {0, static_cast<long>(options_.pause_ms) * 1'000'000};
        nanosleep(&pause, nullptr);
      }
      if (!got && options_.events) {
        sleep_for_events();
        housekeeping();
      } else if (round % 64 == 0 || !got) {
        housekeeping();
      }
    }
  }

  // ---------------------------------------------- after

  void check_word(const char* what, int qp, std::size_t offset, std::uint64_t expected) {
    std::uint64_t value;
    std::memcpy(&value, at(offset), sizeof(value));
    if (value != expected) {
      error("QP %d: the %s word is %" PRIx64 ", not %" PRIx64, qp, what, value, expected);
    }
  }

  bool finish() {
    ended_ns_ = now_ns();
    if (!broken_) {
      std::uint64_t shared = 0;
      for (unsigned i = 0; i < connections_.size(); ++i) {
        const Incoming& in = connections_[i].in;
        const std::size_t words = layout_.words_of(i);
        if (in.checked != in.total) {
          error("QP %u: %" PRIu64 " operations, not %" PRIu64, i, in.checked, in.total);
        }
        check_word("fetch-and-add", static_cast<int>(i), words + offsetof(Words, fetch_add),
                   in.fetch_add);
        check_word("compare-and-swap", static_cast<int>(i), words + offsetof(Words, compare_swap),
                   in.compare_swap);
        shared += in.shared;
      }
      check_word("shared", -1, layout_.shared, shared);
    }
    const bool own = error_count_ == 0;
    control_.send(std::string("verdict ") + (own ? "good" : "bad"));
    while (peer_verdict_.empty() && !broken_) {
      pollfd wait = {control_.fd(), POLLIN, 0};
      ::poll(&wait, 1, 200);
      read_control();
    }
    if (peer_verdict_ == "bad") std::printf("the peer has found errors\n");
    return error_count_ == 0 && peer_verdict_ == "good";
  }

  static std::string json_text(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
      if (c == '"' || c == '\\') out += '\\';
      out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
    return out + "\"";
  }

  void write_json(std::FILE* file, bool good) {
    std::fprintf(file, "{\"role\": \"%s\", \"device\": \"%s\", \"qps\": %u, \"size\": %u, ",
                 server() ? "server" : "client", ibv_get_device_name(port_.context->device),
                 options_.qps, options_.size);
    std::fprintf(file, "\"events\": %s, \"seconds\": %.3f, \"operations\": {",
                 options_.events ? "true" : "false",
                 static_cast<double>(ended_ns_ - started_ns_) / 1e9);
    for (unsigned k = 0; k < kKinds; ++k) {
      std::fprintf(file, "%s\"%s\": %" PRIu64, k ? ", " : "", kKindNames[k], totals_.posted[k]);
    }
    std::fprintf(file,
                 "}, \"checked\": %" PRIu64 ", \"messages\": %" PRIu64 ", \"completions\": %" PRIu64
                 ", \"bytes_out\": %" PRIu64 ", \"bytes_in\": %" PRIu64
                 ", \"longest_gap_ms\": %.1f, \"errors\": %" PRIu64 ", \"error_texts\": [",
                 totals_.checked, totals_.heard, totals_.completions, totals_.bytes_out,
                 totals_.bytes_in, static_cast<double>(totals_.longest_gap_ns) / 1e6, error_count_);
    for (std::size_t k = 0; k < errors_.size(); ++k) {
      std::fprintf(file, "%s%s", k ? ", " : "", json_text(errors_[k]).c_str());
    }
    std::fprintf(file, "], \"peer_verdict\": %s, \"verdict\": \"%s\"}\n",
                 json_text(peer_verdict_).c_str(), good ? "good" : "bad");
  }

  void report(bool good) {
    std::printf("%" PRIu64 " operations out, %" PRIu64 " checked, %" PRIu64
                " messages, longest gap %.1f ms, %" PRIu64 " errors\nverdict: %s\n",
                total_posted(), totals_.checked, totals_.heard,
                static_cast<double>(totals_.longest_gap_ns) / 1e6, error_count_,
                good ? "good" : "bad");
    std::fflush(stdout);
    if (options_.json.empty()) return;
    std::FILE* file = options_.json == "-" ? stdout : std::fopen(options_.json.c_str(), "w");
    if (file == nullptr) die("%s: %s", options_.json.c_str(), std::strerror(errno));
    write_json(file, good);
    if (file != stdout ? std::fclose(file) != 0 : std::fflush(file) != 0) {
      die("%s: %s", options_.json.c_str(), std::strerror(errno));
    }
  }

  std::uint64_t total_posted() const {
    std::uint64_t sum = 0;
    for (const std::uint64_t n : totals_.posted) sum += n;
    return sum;
  }

  void close() {
    if (unacked_send_ != 0) ibv_ack_cq_events(send_cq_, unacked_send_);
    if (unacked_recv_ != 0) ibv_ack_cq_events(recv_cq_, unacked_recv_);
    for (const Connection& c : connections_) ibv_destroy_qp(c.qp);
    ibv_destroy_cq(send_cq_);
    ibv_destroy_cq(recv_cq_);
    if (channel_ != nullptr) ibv_destroy_comp_channel(channel_);
    ibv_dereg_mr(mr_);
    ibv_dealloc_pd(pd_);
    ibv_close_device(port_.context);
    munmap(memory_, layout_.total);
  }

  Options options_;
  Control& control_;
  Layout layout_;
  Port port_;
  std::uint8_t rd_atomic_ = 1;
  unsigned char* memory_ = nullptr;
  ibv_pd* pd_ = nullptr;
  ibv_mr* mr_ = nullptr;
  ibv_comp_channel* channel_ = nullptr;
  ibv_cq* send_cq_ = nullptr;
  ibv_cq* recv_cq_ = nullptr;
  unsigned unacked_send_ = 0, unacked_recv_ = 0;
  Remote remote_;
  std::vector<Connection> connections_;

  Totals totals_, shown_;
  std::vector<std::string> errors_;
  std::uint64_t error_count_ = 0;
  std::uint64_t started_ns_ = 0, ended_ns_ = 0, last_progress_ns_ = 0, last_line_ns_ = 0;
  bool stopping_ = false, said_done_ = false, peer_done_ = false, broken_ = false;
  std::string peer_verdict_;
};

constexpr const char* kHelp =
    "usage: godwit-verify [options]            server\n"
    "       godwit-verify [options] HOST       client\n"
    "\n"
    "All RC operations on several QPs in both directions, with everything checked that\n"
    "can be. The client's options decide; the server needs only those marked *.\n"
    "\n"
    "  --qps N          queue pairs (4)\n"
    "  --duration S     seconds; 0: until SIGINT or SIGTERM (10)\n"
    "  --size BYTES     longest message, 64 to 1048576 (8192)\n"
    "  --window N       operations under way per QP and direction, 16 to 512 by 8 (32)\n"
    "  --seed N         of the sequence of operations (1)\n"
    "  --timeout N      ACK timeout, 4.096 us << N (16)\n"
    "  --stall-limit S  a standstill this long is an error (600)\n"
    "  --events       * sleep for completion events instead of polling\n"
    "  --pause MS     * sleep that long after each look at the completions: less load (0)\n"
    "  --mtu BYTES    * at most this path MTU\n"
    "  --port PORT    * of the TCP control connection (18517)\n"
    "  --device NAME  * RDMA device (the one that has the address)\n"
    "  --gid-index N  * (the address of the control connection)\n"
    "  --json FILE    * result; - for standard output\n"
    "\n"
    "Exit code 0: both sides found everything good; 1: errors; 2: could not run.\n";

Options parse(int argc, char** argv) {
  Options options;
  const option longs[] = {{"qps", 1, nullptr, 'q'},       {"duration", 1, nullptr, 'D'},
                          {"size", 1, nullptr, 's'},      {"window", 1, nullptr, 'w'},
                          {"seed", 1, nullptr, 'S'},      {"timeout", 1, nullptr, 't'},
                          {"events", 0, nullptr, 'e'},    {"stall-limit", 1, nullptr, 'l'},
                          {"mtu", 1, nullptr, 'm'},       {"pause", 1, nullptr, 'P'},
                          {"port", 1, nullptr, 'p'},      {"device", 1, nullptr, 'd'},
                          {"gid-index", 1, nullptr, 'g'}, {"json", 1, nullptr, 'j'},
                          {"help", 0, nullptr, 'h'},      {nullptr, 0, nullptr, 0}};
  opterr = 0;
  for (int c; (c = getopt_long(argc, argv, "h", longs, nullptr)) != -1;) {
    switch (c) {
      case 'q':
        options.qps = static_cast<unsigned>(parse_number("--qps", optarg, 1, kMaxQps));
        break;
      case 'D':
        options.duration_s = static_cast<unsigned>(parse_number("--duration", optarg, 0, 1u << 30));
        break;
      case 's':
        options.size = static_cast<std::uint32_t>(parse_number("--size", optarg, 64, 1 << 20));
        break;
      case 'w':
        options.window = static_cast<std::uint32_t>(parse_number("--window", optarg, 16, 512));
        if (options.window % kGroup != 0) die("--window: not a multiple of %u", kGroup);
        break;
      case 'S':
        options.seed = parse_number("--seed", optarg, 0, UINT32_MAX);
        break;
      case 't':
        options.timeout = static_cast<unsigned>(parse_number("--timeout", optarg, 0, 31));
        break;
      case 'l':
        options.stall_limit_s =
            static_cast<unsigned>(parse_number("--stall-limit", optarg, 1, 1u << 30));
        break;
      case 'e':
        options.events = true;
        break;
      case 'P':
        options.pause_ms = static_cast<unsigned>(parse_number("--pause", optarg, 0, 999));
        break;
      case 'm':
        options.mtu = static_cast<unsigned>(parse_number("--mtu", optarg, 256, 4096));
        break;
      case 'p':
        options.port = std::to_string(parse_number("--port", optarg, 1, 65535));
        break;
      case 'd':
        options.device = optarg;
        break;
      case 'g':
        options.gid_index = static_cast<int>(parse_number("--gid-index", optarg, 0, 255));
        break;
      case 'j':
        options.json = optarg;
        break;
      case 'h':
        print_usage(kHelp);
      default:
        wrong_option(argv);
    }
  }
  options.host = host_argument(argc, argv);
  return options;
}

void on_signal(int) { interrupted = 1; }

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  int fd;
  if (options.host.empty()) {
    const int listener = listen_once(options.port);
    must_have_device(options.device);
    std::printf("waiting on port %s\n", options.port.c_str());
    std::fflush(stdout);
    do fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    if (fd < 0) die("accept: %s", std::strerror(errno));
    close(listener);
  } else {
    fd = connect_to(options.host, options.port, 30);
  }
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  Control control(fd);
  return Verify(options, control).run();
}
