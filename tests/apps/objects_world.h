// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the cases of godwit-objects are made of: checks that are counted, and
// pairs of queue pairs on one NIC that prove by traffic that they work.
#ifndef GODWIT_TESTS_APPS_OBJECTS_WORLD_H
#define GODWIT_TESTS_APPS_OBJECTS_WORLD_H

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "support.h"

namespace godwit::apps {

struct Settings {
  std::string device;
  int gid_index = -1;
};

inline Settings settings;
inline unsigned checks = 0;
inline unsigned failures = 0;

[[gnu::format(printf, 3, 4)]] inline bool check_that(bool good, const char* where,
                                                     const char* format, ...) {
  char text[256];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof(text), format, args);
  va_end(args);
  ++checks;
  if (!good) ++failures;
  std::printf("%-4s %s: %s%s%s\n", good ? "ok" : "FAIL", where, text,
              !good && errno != 0 ? ": " : "", !good && errno != 0 ? std::strerror(errno) : "");
  std::fflush(stdout);
  return good;
}

#define CHECK(condition, ...) (errno = 0, check_that((condition), where(), __VA_ARGS__))
// What a case cannot be set up without
#define MUST(condition)                                                                \
  do {                                                                                 \
    errno = 0;                                                                         \
    if (!(condition))                                                                  \
      die("%s, line %d: %s: %s", where(), __LINE__, #condition, std::strerror(errno)); \
  } while (0)

constexpr std::uint64_t kPatience_ns = 20'000'000'000u;

// One context with the objects that most cases want
struct Node {
  Port port;
  ibv_pd* pd = nullptr;
  ibv_comp_channel* channel = nullptr;
  ibv_cq* cq = nullptr;
  unsigned char* memory = nullptr;
  std::size_t length = 0;
  ibv_mr* mr = nullptr;

  static const char* where() { return "node"; }

  void open(bool with_channel, void* cq_context = nullptr, std::size_t bytes = 64 << 10) {
    port = open_port(settings.device, settings.gid_index, own_addresses());
    MUST((pd = ibv_alloc_pd(port.context)) != nullptr);
    make_rest(with_channel, cq_context, bytes);
  }

  void make_rest(bool with_channel, void* cq_context, std::size_t bytes) {
    if (with_channel) MUST((channel = ibv_create_comp_channel(port.context)) != nullptr);
    MUST((cq = ibv_create_cq(port.context, 128, cq_context, channel, 0)) != nullptr);
    length = bytes;
    memory = static_cast<unsigned char*>(
        mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    MUST(memory != MAP_FAILED);
    fill_pattern(memory, length, 1);
    MUST((mr = ibv_reg_mr(pd, memory, length, IBV_ACCESS_LOCAL_WRITE | kRemoteAccess)) != nullptr);
  }

  ibv_qp* create_qp() const {
    ibv_qp_init_attr init = {};
    init.send_cq = cq;
    init.recv_cq = cq;
    init.qp_type = IBV_QPT_RC;
    init.cap = {16, 16, 2, 2, 32};
    ibv_qp* qp = nullptr;
    MUST((qp = ibv_create_qp(pd, &init)) != nullptr);
    return qp;
  }

  ibv_sge sge(std::size_t offset, std::uint32_t bytes) const {
    return {reinterpret_cast<std::uint64_t>(memory) + offset, bytes, mr->lkey};
  }

  // False after kPatience_ns
  bool poll(ibv_wc* wc) const {
    const std::uint64_t end = now_ns() + kPatience_ns;
    while (now_ns() < end) {
      const int n = ibv_poll_cq(cq, 1, wc);
      if (n == 1) return true;
      if (n < 0) return false;
      usleep(200);
    }
    errno = ETIMEDOUT;
    return false;
  }

  bool nothing_to_poll() const {
    ibv_wc wc;
    return ibv_poll_cq(cq, 1, &wc) == 0;
  }

  // Everything of this context must go without a hang: event counts agree.
  void close(const char* who) {
    const auto where = [who] { return who; };
    CHECK(ibv_dereg_mr(mr) == 0, "deregister the MR");
    CHECK(ibv_destroy_cq(cq) == 0, "destroy the CQ");
    if (channel != nullptr) CHECK(ibv_destroy_comp_channel(channel) == 0, "destroy the channel");
    CHECK(ibv_dealloc_pd(pd) == 0, "deallocate the PD");
    CHECK(ibv_close_device(port.context) == 0, "close the context");
    munmap(memory, length);
  }
};

// Two queue pairs that talk to each other, each of some context
struct Pair {
  Node* a = nullptr;
  Node* b = nullptr;
  ibv_qp* qa = nullptr;
  ibv_qp* qb = nullptr;
  std::uint64_t round = 0;

  static constexpr std::uint32_t kPsnA = 0xfffff0, kPsnB = 0x000123;
  static const char* where() { return "pair"; }

  void create(Node* node_a, Node* node_b) {
    a = node_a;
    b = node_b;
    qa = a->create_qp();
    qb = b->create_qp();
  }

  static PathOptions path() {
    PathOptions options;
    options.rd_atomic = 4;
    return options;
  }
  bool init(ibv_qp* qp) const { return to_init(qp) == 0; }
  bool rtr_a() const { return to_rtr(qa, a->port, {qb->qp_num, kPsnB, b->port.gid}, path()) == 0; }
  bool rtr_b() const { return to_rtr(qb, b->port, {qa->qp_num, kPsnA, a->port.gid}, path()) == 0; }
  bool rts_a() const { return to_rts(qa, kPsnA, path()) == 0; }
  bool rts_b() const { return to_rts(qb, kPsnB, path()) == 0; }

  void connect() {
    MUST(init(qa) && init(qb));
    MUST(rtr_a() && rtr_b());
    MUST(rts_a() && rts_b());
  }

  bool post_recv(const Node& node, ibv_qp* qp, std::uint64_t wr_id, std::size_t offset) const {
    ibv_sge sge = node.sge(offset, 1024);
    ibv_recv_wr wr = {}, *bad = nullptr;
    wr.wr_id = wr_id;
    wr.sg_list = &sge;
    wr.num_sge = 1;
    return (errno = ibv_post_recv(qp, &wr, &bad)) == 0;
  }

  bool post(const Node& from, ibv_qp* qp, ibv_wr_opcode opcode, std::uint64_t wr_id,
            std::size_t offset, std::uint32_t bytes, std::uint64_t remote = 0,
            std::uint32_t rkey = 0, std::uint64_t operand = 0) const {
    ibv_sge sge = from.sge(offset, bytes);
    return post_sge(sge, qp, opcode, wr_id, remote, rkey, operand);
  }

  bool post_sge(ibv_sge sge, ibv_qp* qp, ibv_wr_opcode opcode, std::uint64_t wr_id,
                std::uint64_t remote = 0, std::uint32_t rkey = 0, std::uint64_t operand = 0) const {
    ibv_send_wr wr = {}, *bad = nullptr;
    wr.wr_id = wr_id;
    wr.sg_list = &sge;
    wr.num_sge = 1;
    wr.opcode = opcode;
    wr.send_flags = IBV_SEND_SIGNALED;
    if (opcode == IBV_WR_ATOMIC_FETCH_AND_ADD) {
      wr.wr.atomic.remote_addr = remote;
      wr.wr.atomic.rkey = rkey;
      wr.wr.atomic.compare_add = operand;
    } else {
      wr.wr.rdma.remote_addr = remote;
      wr.wr.rdma.rkey = rkey;
    }
    return (errno = ibv_post_send(qp, &wr, &bad)) == 0;
  }

  // Takes completions of both ends until each wr_id of `ids` has succeeded once.
  bool wait_for(std::vector<std::uint64_t> ids) const {
    const std::uint64_t end = now_ns() + kPatience_ns;
    while (!ids.empty() && now_ns() < end) {
      ibv_wc wc;
      int n = ibv_poll_cq(a->cq, 1, &wc);
      if (n == 0 && b->cq != a->cq) n = ibv_poll_cq(b->cq, 1, &wc);
      if (n < 0) return false;
      if (n == 0) {
        usleep(200);
        continue;
      }
      const auto found = std::find(ids.begin(), ids.end(), wc.wr_id);
      if (wc.status != IBV_WC_SUCCESS || found == ids.end()) {
        std::printf("     wr_id %llu of QP %#x: %s\n", static_cast<unsigned long long>(wc.wr_id),
                    wc.qp_num, ibv_wc_status_str(wc.status));
        return false;
      }
      ids.erase(found);
    }
    if (!ids.empty()) errno = ETIMEDOUT;
    return ids.empty();
  }

  // SEND, WRITE, READ and FETCH_ADD from a to b, then the same from b to a. Uses the memory of
  // both nodes from `offset` on, 8 KiB.
  bool traffic(std::size_t offset = 0) {
    return one_way(*a, qa, *b, qb, offset) && one_way(*b, qb, *a, qa, offset);
  }

  bool one_way(Node& from, ibv_qp* q_from, Node& to, ibv_qp* q_to, std::size_t offset) {
    const std::uint64_t pattern = mix(++round ^ reinterpret_cast<std::uint64_t>(this));
    const std::uint64_t id = round << 8;
    unsigned char* own = from.memory + offset;
    unsigned char* far = to.memory + offset + 4096;
    const auto remote = reinterpret_cast<std::uint64_t>(far);
    fill_pattern(own, 3072, pattern);
    std::memset(far, 0, 4096);
    const std::uint64_t before = pattern | 1;
    std::memcpy(far + 3072, &before, 8);
    return post_recv(to, q_to, id, offset + 4096) &&
           post(from, q_from, IBV_WR_SEND, id + 1, offset, 1000) && wait_for({id, id + 1}) &&
           check_pattern(far, 1000, pattern) < 0 &&
           post(from, q_from, IBV_WR_RDMA_WRITE, id + 2, offset, 3000, remote, to.mr->rkey) &&
           post(from, q_from, IBV_WR_RDMA_READ, id + 3, offset + 3072, 1024, remote, to.mr->rkey) &&
           post(from, q_from, IBV_WR_ATOMIC_FETCH_AND_ADD, id + 4, offset, 8, remote + 3072,
                to.mr->rkey, 5) &&
           wait_for({id + 2, id + 3, id + 4}) && check_pattern(far, 3000, pattern) < 0 &&
           check_pattern(own + 3072, 1024, pattern) < 0 && std::memcmp(own, &before, 8) == 0 &&
           word(far + 3072) == before + 5;
  }

  static std::uint64_t word(const unsigned char* at) {
    std::uint64_t value;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }

  void destroy(const char* who) {
    const auto where = [who] { return who; };
    const std::uint32_t qpn = qa->qp_num;
    CHECK(ibv_destroy_qp(qa) == 0, "destroy QP %#x", qpn);
    CHECK(ibv_destroy_qp(qb) == 0, "destroy its peer");
  }
};

inline int state_of(ibv_qp* qp, std::uint32_t* dest_qpn = nullptr) {
  ibv_qp_attr attr;
  ibv_qp_init_attr init;
  if (ibv_query_qp(qp, &attr, IBV_QP_STATE | IBV_QP_DEST_QPN, &init) != 0) return -1;
  if (dest_qpn != nullptr) *dest_qpn = attr.dest_qp_num;
  return attr.qp_state;
}

// Set up, then checkpointed (or not), then verified
class Case {
 public:
  virtual ~Case() = default;
  virtual const char* name() const = 0;
  virtual const char* about() const = 0;
  virtual void set_up() = 0;
  virtual void verify() = 0;

 protected:
  const char* where() const { return name(); }
};

}  // namespace godwit::apps

#endif  // GODWIT_TESTS_APPS_OBJECTS_WORLD_H
