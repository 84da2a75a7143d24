// SPDX-License-Identifier: GPL-2.0-or-later
//
// Verbs objects in the states that a checkpoint has to bring back. Each case sets
// up its objects, the program prints READY and waits; whoever runs it takes a
// checkpoint and restores it, or does nothing; told to go on, it verifies that
// everything is as it was and works. It knows nothing of checkpoints itself.
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <memory>

#include "objects_world.h"

namespace {

using namespace godwit::apps;

volatile sig_atomic_t told_to_go = 0;

void set_nonblocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

// ------------------------------------------------ cases

class Basic final : public Case {
 public:
  const char* name() const override { return "basic"; }
  const char* about() const override {
    return "two contexts, handles not in the order of dependency, QPs that talk";
  }

  void set_up() override {
    // The MR gets handle 0 and its PD handle 1.
    a_.port = open_port(settings.device, settings.gid_index, own_addresses());
    ibv_pd* first = nullptr;
    MUST((first = ibv_alloc_pd(a_.port.context)) != nullptr);
    MUST((a_.pd = ibv_alloc_pd(a_.port.context)) != nullptr);
    MUST(ibv_dealloc_pd(first) == 0);
    unsigned char* extra = static_cast<unsigned char*>(std::aligned_alloc(4096, 4096));
    MUST(extra != nullptr);
    MUST((low_mr_ = ibv_reg_mr(a_.pd, extra, 4096, IBV_ACCESS_LOCAL_WRITE)) != nullptr);
    MUST(low_mr_->handle < a_.pd->handle);
    a_.make_rest(false, nullptr, 64 << 10);
    b_.open(false);
    pair_.create(&a_, &b_);
    pair_.connect();
    MUST(pair_.traffic());
    next_handle_ = next_handle();
  }

  void verify() override {
    std::uint32_t peer = 0;
    CHECK(state_of(pair_.qa, &peer) == IBV_QPS_RTS, "QP is ready to send");
    CHECK(peer == pair_.qb->qp_num, "its peer is %#x, not %#x", peer, pair_.qb->qp_num);
    CHECK(pair_.traffic(), "traffic in both directions");
    fill_pattern(low_mr_->addr, 1000, 7);
    ibv_sge sge = {reinterpret_cast<std::uint64_t>(low_mr_->addr), 1000, low_mr_->lkey};
    CHECK(pair_.post_recv(b_, pair_.qb, 1, 0) && pair_.post_sge(sge, pair_.qa, IBV_WR_SEND, 2) &&
              pair_.wait_for({1, 2}) && check_pattern(b_.memory, 1000, 7) < 0,
          "send from the MR with the low handle");
    const std::uint32_t handle = next_handle();
    CHECK(handle == next_handle_, "the next free handle is %u, was %u", handle, next_handle_);
    pair_.destroy(name());
    void* extra = low_mr_->addr;
    CHECK(ibv_dereg_mr(low_mr_) == 0, "deregister the low MR");
    std::free(extra);
    a_.close(name());
    b_.close(name());
  }

 private:
  std::uint32_t next_handle() {
    ibv_pd* pd = ibv_alloc_pd(a_.port.context);
    if (pd == nullptr) return UINT32_MAX;
    const std::uint32_t handle = pd->handle;
    ibv_dealloc_pd(pd);
    return handle;
  }

  Node a_, b_;
  Pair pair_;
  ibv_mr* low_mr_ = nullptr;
  std::uint32_t next_handle_ = 0;
};

class Events : public Case {
 public:
  const char* name() const override { return "events"; }
  const char* about() const override {
    return "two unread and one unacknowledged CQ event, an unread asynchronous one, epoll";
  }

  void set_up() override {
    node_.open(true, &node_);
    set_nonblocking(node_.channel->fd);
    set_nonblocking(node_.port.context->async_fd);
    place_channel();
    pair_.create(&node_, &node_);
    pair_.connect();
    MUST(pair_.traffic());
    MUST((epoll_ = epoll_create1(EPOLL_CLOEXEC)) >= 0);
    epoll_event event = {EPOLLIN, {.fd = node_.channel->fd}};
    MUST(epoll_ctl(epoll_, EPOLL_CTL_ADD, node_.channel->fd, &event) == 0);
    for (int i = 0; i < 5; ++i) {
      MUST(fire());
      if (i < 3) MUST(wait_epoll() && read_event());
    }
    ibv_ack_cq_events(node_.cq, 2);
    usleep(300'000);  // the last two are in the channel
    // Communication established and the like
    while (read_async() >= 0) {
    }
    MUST(drain_sq());
    MUST(wait_async() == IBV_EVENT_SQ_DRAINED);
    MUST(drain_sq());
    usleep(300'000);  // this one stays unread
    MUST(ibv_req_notify_cq(node_.cq, 0) == 0);
  }

  void verify() override {
    CHECK(fcntl(node_.channel->fd, F_GETFL) & O_NONBLOCK, "the channel does not block");
    CHECK(wait_epoll(), "epoll sees the channel");
    CHECK(read_event(), "first unread event");
    CHECK(read_event(), "second unread event");
    CHECK(!read_event() && errno == EAGAIN, "no third one");
    CHECK(pair_.traffic(), "traffic");
    CHECK(wait_epoll() && read_event(), "the CQ was still armed");
    CHECK(!read_event() && errno == EAGAIN, "once");
    CHECK(fire() && wait_epoll() && read_event(), "armed anew");
    ibv_ack_cq_events(node_.cq, 5);
    CHECK(wait_async() == IBV_EVENT_SQ_DRAINED, "unread asynchronous event");
    CHECK(read_async() < 0, "no other one");
    CHECK(drain_sq() && wait_async() == IBV_EVENT_SQ_DRAINED, "a new asynchronous event");
    CHECK(pair_.traffic(), "traffic");
    pair_.destroy(name());
    close(epoll_);
    node_.close(name());
    if (extra_fd_ >= 0) close(extra_fd_);
  }

 protected:
  virtual void place_channel() {}

  Node node_;
  int extra_fd_ = -1;

 private:
  // One completion that raises an event
  bool fire() {
    ++sent_;
    return ibv_req_notify_cq(node_.cq, 0) == 0 &&
           pair_.post(node_, pair_.qa, IBV_WR_RDMA_WRITE, sent_, 0, 64,
                      reinterpret_cast<std::uint64_t>(node_.memory + 4096), node_.mr->rkey) &&
           pair_.wait_for({sent_});
  }

  bool wait_epoll() {
    epoll_event event = {};
    return epoll_wait(epoll_, &event, 1, 5000) == 1 && event.data.fd == node_.channel->fd;
  }

  bool read_event() {
    ibv_cq* cq = nullptr;
    void* context = nullptr;
    return ibv_get_cq_event(node_.channel, &cq, &context) == 0 && cq == node_.cq &&
           context == &node_;
  }

  bool drain_sq() {
    ibv_qp_attr attr = {};
    attr.qp_state = IBV_QPS_SQD;
    attr.en_sqd_async_notify = 1;
    if (ibv_modify_qp(pair_.qa, &attr, IBV_QP_STATE | IBV_QP_EN_SQD_ASYNC_NOTIFY) != 0) {
      return false;
    }
    for (int i = 0; i < 200; ++i) {
      ibv_qp_init_attr init;
      ibv_qp_attr now;
      if (ibv_query_qp(pair_.qa, &now, IBV_QP_STATE, &init) != 0) return false;
      if (!now.sq_draining) break;
      usleep(5000);
    }
    attr.qp_state = IBV_QPS_RTS;
    return ibv_modify_qp(pair_.qa, &attr, IBV_QP_STATE) == 0;
  }

  int read_async() {
    ibv_async_event event;
    if (ibv_get_async_event(node_.port.context, &event) != 0) return -1;
    const bool ours = event.event_type == IBV_EVENT_SQ_DRAINED && event.element.qp == pair_.qa;
    ibv_ack_async_event(&event);
    if (event.event_type == IBV_EVENT_SQ_DRAINED && !ours) return -2;
    return event.event_type;
  }

  int wait_async() {
    pollfd wait = {node_.port.context->async_fd, POLLIN, 0};
    if (::poll(&wait, 1, 5000) != 1) return -1;
    return read_async();
  }

  Pair pair_;
  int epoll_ = -1;
  std::uint64_t sent_ = 0;
};

class ChannelFirst final : public Events {
 public:
  const char* name() const override { return "chanfirst"; }
  const char* about() const override {
    return "as events, and the channel has a lower descriptor than its context";
  }

 private:
  // The lowest number that is free below the context's
  void place_channel() override {
    const int blocker = open("/dev/null", O_RDONLY | O_CLOEXEC);
    MUST(blocker >= 0);
    close(blocker);
    const int wanted = std::min(blocker, node_.port.context->cmd_fd);
    if (wanted < node_.port.context->cmd_fd) {
      extra_fd_ = fcntl(node_.channel->fd, F_DUPFD, wanted);
    } else {
      MUST(dup2(node_.channel->fd, STDIN_FILENO) == STDIN_FILENO);
      extra_fd_ = STDIN_FILENO;
    }
    MUST(extra_fd_ >= 0 && extra_fd_ < node_.port.context->cmd_fd);
  }
};

class Asleep final : public Case {
 public:
  const char* name() const override { return "asleep"; }
  const char* about() const override { return "a thread asleep in ibv_get_cq_event"; }

  void set_up() override {
    node_.open(true);
    pair_.create(&node_, &node_);
    pair_.connect();
    MUST(pair_.traffic());
    MUST(ibv_req_notify_cq(node_.cq, 0) == 0);
    MUST(pthread_create(&thread_, nullptr, &Asleep::sleeper, this) == 0);
    usleep(200'000);
  }

  void verify() override {
    usleep(200'000);
    CHECK(__atomic_load_n(&woken_, __ATOMIC_ACQUIRE) == 0, "nobody has woken the thread");
    CHECK(pair_.traffic(), "traffic");
    for (int i = 0; i < 500 && __atomic_load_n(&woken_, __ATOMIC_ACQUIRE) == 0; ++i) usleep(10'000);
    if (CHECK(__atomic_load_n(&woken_, __ATOMIC_ACQUIRE) == 1, "it wakes for its CQ")) {
      pthread_join(thread_, nullptr);
    }
    pair_.destroy(name());
    node_.close(name());
  }

 private:
  static void* sleeper(void* self) {
    auto* me = static_cast<Asleep*>(self);
    ibv_cq* cq = nullptr;
    void* context = nullptr;
    const bool good = ibv_get_cq_event(me->node_.channel, &cq, &context) == 0 && cq == me->node_.cq;
    if (good) ibv_ack_cq_events(cq, 1);
    __atomic_store_n(&me->woken_, good ? 1 : 2, __ATOMIC_RELEASE);
    return nullptr;
  }

  Node node_;
  Pair pair_;
  pthread_t thread_ = {};
  int woken_ = 0;
};

class Fork : public Case {
 public:
  const char* name() const override { return "fork"; }
  const char* about() const override {
    return "a forked child shares the descriptors and has registered memory of its own";
  }

  void set_up() override {
    node_.open(false);
    pair_.create(&node_, &node_);
    pair_.connect();
    MUST(pair_.traffic());
    MUST(pipe2(to_child_, O_CLOEXEC) == 0 && pipe2(from_child_, O_CLOEXEC) == 0);
    MUST((child_ = fork()) >= 0);
    if (child_ == 0) child();
    close(to_child_[0]);
    close(from_child_[1]);
    MUST(read(from_child_[0], &shared_, sizeof(shared_)) == sizeof(shared_));
    MUST(shared_.address != 0);
  }

  void verify() override {
    CHECK(pair_.traffic(), "the parent's traffic");
    CHECK(tell('c') == 'y', "the child finds its memory as it was");
    // From the child's memory, by the parent's QP: it is the child's pages that are pinned.
    ibv_sge sge = {shared_.address, 1000, shared_.lkey};
    CHECK(pair_.post_recv(node_, pair_.qb, 1, 0) && pair_.post_sge(sge, pair_.qa, IBV_WR_SEND, 2) &&
              pair_.wait_for({1, 2}) && check_pattern(node_.memory, 1000, kChildPattern) < 0,
          "send from the child's memory");
    fill_pattern(node_.memory, 1000, kParentPattern);
    CHECK(pair_.post(node_, pair_.qa, IBV_WR_RDMA_WRITE, 3, 0, 1000, shared_.address + 4096,
                     shared_.rkey) &&
              pair_.wait_for({3}),
          "write to the child's memory");
    CHECK(tell('w') == 'y', "the child sees what was written");
    CHECK(tell('q') == 'y', "the child uses the context");
    CHECK(tell('x') == 'y', "the child ends");
    int status = -1;
    CHECK(waitpid(child_, &status, 0) == child_ && status == 0, "with status 0");
    CHECK(pair_.traffic(), "the parent's traffic after it");
    pair_.destroy(name());
    node_.close(name());
  }

 private:
  static constexpr std::uint64_t kChildPattern = 0xc41d, kParentPattern = 0x9a7e;

  struct Shared {
    std::uint64_t address;
    std::uint32_t lkey, rkey;
  };

  char tell(char what) {
    char answer = 'n';
    if (write(to_child_[1], &what, 1) != 1 || read(from_child_[0], &answer, 1) != 1) return 'n';
    return answer;
  }

  [[noreturn]] void child() {
    close(to_child_[1]);
    close(from_child_[0]);
    auto* memory = static_cast<unsigned char*>(
        mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ibv_mr* mr = nullptr;
    if (memory != MAP_FAILED) {
      fill_pattern(memory, 4096, kChildPattern);
      std::memset(memory + 4096, 0, 4096);
      mr = ibv_reg_mr(node_.pd, memory, 8192, IBV_ACCESS_LOCAL_WRITE | kRemoteAccess);
    }
    Shared shared = {};
    if (mr != nullptr) shared = {reinterpret_cast<std::uint64_t>(memory), mr->lkey, mr->rkey};
    bool good = write(from_child_[1], &shared, sizeof(shared)) == sizeof(shared);
    for (char what = 0; good && what != 'x';) {
      if (read(to_child_[0], &what, 1) != 1) _exit(1);
      bool answer = false;
      if (what == 'c') answer = check_pattern(memory, 4096, kChildPattern) < 0;
      if (what == 'w') answer = check_pattern(memory + 4096, 1000, kParentPattern) < 0;
      if (what == 'q') {
        ibv_pd* pd = ibv_alloc_pd(node_.port.context);
        answer = pd != nullptr && ibv_dealloc_pd(pd) == 0;
      }
      if (what == 'x') answer = ibv_dereg_mr(mr) == 0;
      good = write(from_child_[1], answer ? "y" : "n", 1) == 1;
    }
    _exit(good ? 0 : 1);
  }

  Node node_;
  Pair pair_;
  int to_child_[2], from_child_[2];
  pid_t child_ = -1;
  Shared shared_ = {};
};

class Gaps final : public Case {
 public:
  const char* name() const override { return "gaps"; }
  const char* about() const override { return "destroyed objects have left gaps in the handles"; }

  void set_up() override {
    node_.open(true);
    for (int i = 0; i < 6; ++i) {
      ibv_pd* pd = nullptr;
      ibv_mr* mr = nullptr;
      ibv_cq* cq = nullptr;
      MUST((pd = ibv_alloc_pd(node_.port.context)) != nullptr);
      MUST((mr = ibv_reg_mr(pd, node_.memory + i * 4096, 4096, IBV_ACCESS_LOCAL_WRITE)) != nullptr);
      MUST((cq = ibv_create_cq(node_.port.context, 8 + i, nullptr, node_.channel, 0)) != nullptr);
      pds_.push_back(pd);
      mrs_.push_back(mr);
      cqs_.push_back(cq);
    }
    for (auto& pair : pairs_) {
      pair.create(&node_, &node_);
      pair.connect();
    }
    // Holes at the beginning, in the middle, and two in a row
    for (const unsigned i : {0u, 2u, 3u}) {
      note(mrs_[i]->handle);
      MUST(ibv_dereg_mr(mrs_[i]) == 0);
      note(pds_[i]->handle);
      MUST(ibv_dealloc_pd(pds_[i]) == 0);
      note(cqs_[i]->handle);
      MUST(ibv_destroy_cq(cqs_[i]) == 0);
      mrs_[i] = nullptr;
      pds_[i] = nullptr;
      cqs_[i] = nullptr;
    }
    note(pairs_[1].qa->handle);
    MUST(ibv_destroy_qp(pairs_[1].qa) == 0);
    note(pairs_[1].qb->handle);
    MUST(ibv_destroy_qp(pairs_[1].qb) == 0);
    std::sort(holes_.begin(), holes_.end());
    MUST(pairs_[0].traffic() && pairs_[2].traffic());
  }

  void verify() override {
    CHECK(pairs_[0].traffic() && pairs_[2].traffic(), "traffic of what is left");
    std::vector<ibv_pd*> fresh;
    bool same = true;
    for (const std::uint32_t hole : holes_) {
      ibv_pd* pd = ibv_alloc_pd(node_.port.context);
      if (pd == nullptr || pd->handle != hole) same = false;
      if (pd != nullptr) fresh.push_back(pd);
    }
    CHECK(same, "new objects take the %zu gaps in order", holes_.size());
    for (ibv_pd* pd : fresh) same = ibv_dealloc_pd(pd) == 0 && same;
    for (ibv_mr* mr : mrs_) {
      if (mr != nullptr) CHECK(ibv_dereg_mr(mr) == 0, "deregister");
    }
    for (ibv_pd* pd : pds_) {
      if (pd != nullptr) CHECK(ibv_dealloc_pd(pd) == 0, "deallocate");
    }
    for (ibv_cq* cq : cqs_) {
      if (cq != nullptr) CHECK(ibv_destroy_cq(cq) == 0, "destroy");
    }
    pairs_[0].destroy(name());
    pairs_[2].destroy(name());
    node_.close(name());
  }

 private:
  void note(std::uint32_t handle) { holes_.push_back(handle); }

  Node node_;
  std::array<Pair, 3> pairs_;
  std::vector<ibv_pd*> pds_;
  std::vector<ibv_mr*> mrs_;
  std::vector<ibv_cq*> cqs_;
  std::vector<std::uint32_t> holes_;
};

class Regions final : public Case {
 public:
  const char* name() const override { return "mrs"; }
  const char* about() const override {
    return "MRs from one byte to 8 MiB: unaligned, huge pages, shared memory, own IOVA, read-only";
  }

  void set_up() override {
    node_.open(false);
    pair_.create(&node_, &node_);
    pair_.connect();
    add("one byte", 1, 0, 0);
    add("unaligned", 5000, 77, 0);
    add("one page", 4096, 0, 0);
    add("across pages", 12345, 4090, 0);
    add("2 MiB, huge pages if there are", 2 << 20, 0, 0, true);
    add("8 MiB", 8 << 20, 0, 0);
    add("shared memory", 64 << 10, 0, MAP_SHARED);
    add("own IOVA", 20000, 100, 0, false, 0x7000000064);
    add("not writable by the device", 4096, 0, 0, false, 0, IBV_ACCESS_REMOTE_READ);
    MUST(pair_.traffic());
  }

  void verify() override {
    for (Region& region : regions_) verify_region(region);
    for (Region& region : regions_) {
      CHECK(ibv_dereg_mr(region.mr) == 0, "%s: deregister", region.what);
    }
    pair_.destroy(name());
    node_.close(name());
  }

 private:
  struct Region {
    const char* what;
    unsigned char* memory;
    std::uint32_t length;
    std::uint64_t iova;
    bool writable;
    ibv_mr* mr;
  };

  void add(const char* what, std::uint32_t length, std::size_t offset, int flags, bool huge = false,
           std::uint64_t iova = 0, int access = IBV_ACCESS_LOCAL_WRITE | kRemoteAccess) {
    constexpr std::size_t kHuge = 2 << 20;
    const std::size_t total = ((offset + length + 4095) & ~std::size_t{4095}) + (huge ? kHuge : 0);
    if (flags == 0) flags = MAP_PRIVATE;
    auto* memory = static_cast<unsigned char*>(
        mmap(nullptr, total, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0));
    MUST(memory != MAP_FAILED);
    if (huge) {
      memory += -reinterpret_cast<std::uintptr_t>(memory) & (kHuge - 1);
      madvise(memory, length, MADV_HUGEPAGE);
    }
    Region r = {what, memory + offset, length, 0, (access & IBV_ACCESS_LOCAL_WRITE) != 0, nullptr};
    r.iova = iova != 0 ? iova : reinterpret_cast<std::uint64_t>(r.memory);
    fill_pattern(r.memory, length, length);
    r.mr = iova != 0 ? ibv_reg_mr_iova(node_.pd, r.memory, length, iova, access)
                     : ibv_reg_mr(node_.pd, r.memory, length, access);
    MUST(r.mr != nullptr);
    regions_.push_back(r);
  }

  // Reads and writes both ends of the region through the NIC.
  void verify_region(const Region& r) {
    CHECK(check_pattern(r.memory, r.length, r.length) < 0, "%s: contents", r.what);
    const std::uint32_t n = std::min(r.length, 512u);
    const std::uint64_t last = r.length - n;
    unsigned char* own = node_.memory;
    std::memset(own, 0, 1024);
    CHECK(pair_.post(node_, pair_.qa, IBV_WR_RDMA_READ, 1, 0, n, r.iova, r.mr->rkey) &&
              pair_.post(node_, pair_.qa, IBV_WR_RDMA_READ, 2, 512, n, r.iova + last, r.mr->rkey) &&
              pair_.wait_for({1, 2}) && std::memcmp(own, r.memory, n) == 0 &&
              std::memcmp(own + 512, r.memory + last, n) == 0,
          "%s: read by the device", r.what);
    if (!r.writable) return;
    fill_pattern(own, 512, 99);
    CHECK(pair_.post(node_, pair_.qa, IBV_WR_RDMA_WRITE, 3, 0, n, r.iova, r.mr->rkey) &&
              pair_.post(node_, pair_.qa, IBV_WR_RDMA_WRITE, 4, 0, n, r.iova + last, r.mr->rkey) &&
              pair_.wait_for({3, 4}) && std::memcmp(own, r.memory + last, n) == 0 &&
              (last < n || std::memcmp(own, r.memory, n) == 0),
          "%s: written by the device", r.what);
  }

  Node node_;
  Pair pair_;
  std::vector<Region> regions_;
};

class States final : public Case {
 public:
  const char* name() const override { return "states"; }
  const char* about() const override { return "a QP in every state, each of which then goes on"; }

  void set_up() override {
    node_.open(false);
    for (Pair& pair : pairs_) pair.create(&node_, &node_);
    MUST(at(IBV_QPS_INIT).init(at(IBV_QPS_INIT).qa));
    Pair& rtr = at(IBV_QPS_RTR);
    MUST(rtr.init(rtr.qa) && rtr.init(rtr.qb) && rtr.rtr_a() && rtr.rtr_b());
    for (const ibv_qp_state state : {IBV_QPS_RTS, IBV_QPS_SQD, IBV_QPS_ERR}) {
      at(state).connect();
      MUST(at(state).traffic());
      if (state != IBV_QPS_RTS) MUST(modify(at(state).qa, state));
    }
    usleep(200'000);
    for (const ibv_qp_state state : kStates) MUST(state_of(at(state).qa) == state);
  }

  void verify() override {
    for (const ibv_qp_state state : kStates) {
      const int now = state_of(at(state).qa);
      CHECK(now == state, "state %d, was %d", now, state);
    }
    Pair& reset = at(IBV_QPS_RESET);
    reset.connect();
    CHECK(reset.traffic(), "from RESET to traffic");
    Pair& init = at(IBV_QPS_INIT);
    CHECK(init.init(init.qb) && init.rtr_a() && init.rtr_b() && init.rts_a() && init.rts_b() &&
              init.traffic(),
          "from INIT to traffic");
    Pair& rtr = at(IBV_QPS_RTR);
    CHECK(rtr.rts_a() && rtr.rts_b() && rtr.traffic(), "from RTR to traffic");
    CHECK(at(IBV_QPS_RTS).traffic(), "traffic in RTS");
    Pair& sqd = at(IBV_QPS_SQD);
    CHECK(modify(sqd.qa, IBV_QPS_RTS) && sqd.traffic(), "from SQD to traffic");
    Pair& error = at(IBV_QPS_ERR);
    CHECK(error.post(node_, error.qa, IBV_WR_SEND, 77, 0, 8), "a request posted in ERR");
    ibv_wc wc = {};
    CHECK(node_.poll(&wc) && wc.wr_id == 77 && wc.status == IBV_WC_WR_FLUSH_ERR, "is flushed");
    CHECK(error.post_recv(node_, error.qa, 78, 0), "a receive posted in ERR");
    CHECK(node_.poll(&wc) && wc.wr_id == 78 && wc.status == IBV_WC_WR_FLUSH_ERR, "is flushed");
    CHECK(modify(error.qa, IBV_QPS_RESET) && modify(error.qb, IBV_QPS_RESET), "ERR to RESET");
    error.connect();
    CHECK(error.traffic(), "and to traffic");
    for (Pair& pair : pairs_) pair.destroy(name());
    node_.close(name());
  }

 private:
  static constexpr std::array kStates = {IBV_QPS_RESET, IBV_QPS_INIT, IBV_QPS_RTR,
                                         IBV_QPS_RTS,   IBV_QPS_SQD,  IBV_QPS_ERR};

  static bool modify(ibv_qp* qp, ibv_qp_state state) {
    ibv_qp_attr attr = {};
    attr.qp_state = state;
    return ibv_modify_qp(qp, &attr, IBV_QP_STATE) == 0;
  }

  Pair& at(ibv_qp_state state) {
    return pairs_[static_cast<std::size_t>(std::find(kStates.begin(), kStates.end(), state) -
                                           kStates.begin())];
  }

  Node node_;
  std::array<Pair, kStates.size()> pairs_;
};

class Pending final : public Case {
 public:
  const char* name() const override { return "pending"; }
  const char* about() const override {
    return "sends that wait for a receive, receives that wait for a send, completions not polled";
  }

  void set_up() override {
    a_.open(false);
    b_.open(false);
    for (Pair* pair : {&waiting_, &unpolled_}) {
      pair->create(&a_, &b_);
      pair->connect();
    }
    MUST(waiting_.traffic());
    MUST(unpolled_.traffic());
    for (std::uint64_t i = 0; i < kMessages; ++i) {
      MUST(unpolled_.post_recv(b_, unpolled_.qb, 200 + i, 8192 + i * 1024));
    }
    for (std::uint64_t i = 0; i < kMessages; ++i) {
      fill_pattern(a_.memory + i * 1024, 1024, 1000 + i);
      MUST(unpolled_.post(a_, unpolled_.qa, IBV_WR_SEND, 100 + i, i * 1024, 1000));
    }
    usleep(300'000);
    MUST(waiting_.post_recv(a_, waiting_.qa, 500, 32768));  // nobody sends to it yet
    for (std::uint64_t i = 0; i < kMessages; ++i) {
      fill_pattern(a_.memory + 16384 + i * 1024, 1024, 2000 + i);
      MUST(waiting_.post(a_, waiting_.qa, IBV_WR_SEND, 300 + i, 16384 + i * 1024, 1000));
    }
    usleep(300'000);  // the peer has answered RNR
  }

  void verify() override {
    for (std::uint64_t i = 0; i < kMessages; ++i) {
      expect(b_, 200 + i, "completion not polled before, receive");
      expect(a_, 100 + i, "completion not polled before, send");
      CHECK(check_pattern(b_.memory + 8192 + i * 1024, 1000, 1000 + i) < 0, "its data");
    }
    CHECK(a_.nothing_to_poll() && b_.nothing_to_poll(), "no others");
    for (std::uint64_t i = 0; i < kMessages; ++i) {
      CHECK(waiting_.post_recv(b_, waiting_.qb, 400 + i, 16384 + i * 1024), "post a receive");
    }
    for (std::uint64_t i = 0; i < kMessages; ++i) {
      expect(b_, 400 + i, "the message that waited");
      expect(a_, 300 + i, "its completion");
      CHECK(check_pattern(b_.memory + 16384 + i * 1024, 1000, 2000 + i) < 0, "its data");
    }
    fill_pattern(b_.memory, 1000, 3000);
    CHECK(waiting_.post(b_, waiting_.qb, IBV_WR_SEND, 501, 0, 1000), "send to the old receive");
    expect(a_, 500, "the receive that waited");
    expect(b_, 501, "its send");
    CHECK(check_pattern(a_.memory + 32768, 1000, 3000) < 0, "its data");
    CHECK(a_.nothing_to_poll() && b_.nothing_to_poll(), "nothing twice");
    CHECK(waiting_.traffic() && unpolled_.traffic(), "traffic");
    waiting_.destroy(name());
    unpolled_.destroy(name());
    a_.close(name());
    b_.close(name());
  }

 private:
  static constexpr std::uint64_t kMessages = 5;

  void expect(const Node& node, std::uint64_t wr_id, const char* what) {
    ibv_wc wc = {};
    const bool good = node.poll(&wc) && wc.status == IBV_WC_SUCCESS && wc.wr_id == wr_id;
    CHECK(good, "%s: wr_id %llu, due %llu", what, static_cast<unsigned long long>(wc.wr_id),
          static_cast<unsigned long long>(wr_id));
  }

  Node a_, b_;
  Pair waiting_, unpolled_;
};

class Contexts final : public Case {
 public:
  const char* name() const override { return "contexts"; }
  const char* about() const override { return "five contexts in a ring, two descriptors closed"; }

  void set_up() override {
    Node gone[2];
    gone[0].open(false);
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      nodes_[i].open(i % 2 == 0);
      if (i == 2) gone[1].open(true);
    }
    for (std::size_t i = 0; i < pairs_.size(); ++i) {
      pairs_[i].create(&nodes_[i], &nodes_[(i + 1) % nodes_.size()]);
      pairs_[i].connect();
      MUST(pairs_[i].traffic());
    }
    for (Node& node : gone) {
      MUST(ibv_dereg_mr(node.mr) == 0 && ibv_destroy_cq(node.cq) == 0);
      if (node.channel != nullptr) MUST(ibv_destroy_comp_channel(node.channel) == 0);
      MUST(ibv_dealloc_pd(node.pd) == 0 && ibv_close_device(node.port.context) == 0);
    }
  }

  void verify() override {
    for (Pair& pair : pairs_) CHECK(pair.traffic(), "traffic");
    for (Pair& pair : pairs_) pair.destroy(name());
    for (Node& node : nodes_) node.close(name());
  }

 private:
  std::array<Node, 5> nodes_;
  std::array<Pair, 5> pairs_;
};

class ExtendedCq final : public Case {
 public:
  const char* name() const override { return "extended"; }
  const char* about() const override {
    return "ibv_create_cq_ex and ibv_wr_*, a reset QP whose completions nobody polled";
  }

  void set_up() override {
    node_.open(false);
    ibv_destroy_cq(node_.cq);
    ibv_cq_init_attr_ex attr = {};
    attr.cqe = 64;
    attr.wc_flags = IBV_WC_EX_WITH_BYTE_LEN | IBV_WC_EX_WITH_IMM | IBV_WC_EX_WITH_QP_NUM;
    MUST((cq_ = ibv_create_cq_ex(node_.port.context, &attr)) != nullptr);
    node_.cq = ibv_cq_ex_to_cq(cq_);
    pair_.a = pair_.b = &node_;
    pair_.qa = create();
    pair_.qb = create();
    pair_.connect();
    MUST(exchange(1));
    other_.create(&node_, &node_);
    other_.connect();
    for (std::uint64_t i = 0; i < 4; ++i) {  // left in the CQ
      MUST(other_.post(node_, other_.qa, IBV_WR_RDMA_WRITE, 900 + i, 0, 8,
                       reinterpret_cast<std::uint64_t>(node_.memory), node_.mr->rkey));
    }
    usleep(200'000);
  }

  void verify() override {
    MUST(send(2));
    usleep(200'000);
    CHECK(ibv_destroy_qp(other_.qa) == 0 && ibv_destroy_qp(other_.qb) == 0,
          "destroy a QP with completions in the CQ");
    CHECK(receive(2), "only the others' are polled");
    for (std::uint64_t i = 3; i < 40; ++i) {
      if (!CHECK(exchange(i), "exchange %d", static_cast<int>(i))) break;
    }
    pair_.destroy(name());
    node_.close(name());
  }

 private:
  ibv_qp* create() {
    ibv_qp_init_attr_ex attr = {};
    attr.send_cq = attr.recv_cq = node_.cq;
    attr.cap = {8, 8, 2, 2, 32};
    attr.qp_type = IBV_QPT_RC;
    attr.pd = node_.pd;
    attr.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
    attr.send_ops_flags = IBV_QP_EX_WITH_SEND_WITH_IMM | IBV_QP_EX_WITH_RDMA_WRITE;
    ibv_qp* qp = nullptr;
    MUST((qp = ibv_create_qp_ex(node_.port.context, &attr)) != nullptr);
    return qp;
  }

  bool send(std::uint64_t id) {
    if (!pair_.post_recv(node_, pair_.qb, id, 4096)) return false;
    fill_pattern(node_.memory, 1000, id);
    ibv_qp_ex* qp = ibv_qp_to_qp_ex(pair_.qa);
    ibv_wr_start(qp);
    qp->wr_id = id + 1000;
    qp->wr_flags = 0;
    ibv_wr_rdma_write(qp, node_.mr->rkey, reinterpret_cast<std::uint64_t>(node_.memory + 8192));
    std::uint64_t word = id;
    ibv_wr_set_inline_data(qp, &word, sizeof(word));
    qp->wr_flags = IBV_SEND_SIGNALED;
    ibv_wr_send_imm(qp, htonl(static_cast<std::uint32_t>(id)));
    ibv_wr_set_sge(qp, node_.mr->lkey, reinterpret_cast<std::uint64_t>(node_.memory), 1000);
    return (errno = ibv_wr_complete(qp)) == 0;
  }

  bool receive(std::uint64_t id) {
    bool sent = false, received = false;
    const std::uint64_t end = now_ns() + kPatience_ns;
    while (!(sent && received) && now_ns() < end) {
      ibv_poll_cq_attr attr = {};
      int ret = ibv_start_poll(cq_, &attr);
      if (ret == ENOENT) {
        usleep(200);
        continue;
      }
      for (; ret == 0; ret = ibv_next_poll(cq_)) {
        if (cq_->status != IBV_WC_SUCCESS) {
          ibv_end_poll(cq_);
          return false;
        }
        if (cq_->wr_id == id + 1000) {
          sent = ibv_wc_read_qp_num(cq_) == pair_.qa->qp_num;
        } else if (cq_->wr_id == id) {
          received = ibv_wc_read_opcode(cq_) == IBV_WC_RECV && ibv_wc_read_byte_len(cq_) == 1000 &&
                     ntohl(ibv_wc_read_imm_data(cq_)) == id;
        } else {
          std::printf("     wr_id %llu was not due\n", static_cast<unsigned long long>(cq_->wr_id));
          ibv_end_poll(cq_);
          return false;
        }
      }
      ibv_end_poll(cq_);
    }
    return sent && received && check_pattern(node_.memory + 4096, 1000, id) < 0 &&
           Pair::word(node_.memory + 8192) == id;
  }

  bool exchange(std::uint64_t id) { return send(id) && receive(id); }

  Node node_;
  Pair pair_, other_;
  ibv_cq_ex* cq_ = nullptr;
};

// A checkpoint of this one is to be refused, and the application goes on.
class ConnectionManager final : public Case {
 public:
  const char* name() const override { return "rdmacm"; }
  const char* about() const override { return "holds a descriptor of rdma_cm (no migration yet)"; }

  void set_up() override {
    node_.open(false);
    pair_.create(&node_, &node_);
    pair_.connect();
    MUST((fd_ = open("/dev/infiniband/rdma_cm", O_RDWR | O_CLOEXEC)) >= 0);
    MUST(pair_.traffic());
  }

  void verify() override {
    CHECK(pair_.traffic(), "traffic");
    close(fd_);
    pair_.destroy(name());
    node_.close(name());
  }

 private:
  Node node_;
  Pair pair_;
  int fd_ = -1;
};

// As rdmacm: a process that is no descendant shares the context.
class Foreign final : public Case {
 public:
  const char* name() const override { return "foreign"; }
  const char* about() const override {
    return "a process outside the tree shares the descriptor (no migration)";
  }

  void set_up() override {
    node_.open(false);
    pair_.create(&node_, &node_);
    pair_.connect();
    int result[2];
    MUST(pipe2(result, O_CLOEXEC) == 0);
    const pid_t child = fork();
    MUST(child >= 0);
    if (child == 0) {
      const pid_t orphan = fork();
      if (orphan == 0) {
        setsid();
        close(result[0]);
        close(result[1]);
        for (;;) pause();
      }
      _exit(write(result[1], &orphan, sizeof(orphan)) == sizeof(orphan) ? 0 : 1);
    }
    MUST(waitpid(child, nullptr, 0) == child);
    MUST(read(result[0], &orphan_, sizeof(orphan_)) == sizeof(orphan_) && orphan_ > 0);
    close(result[0]);
    close(result[1]);
    MUST(pair_.traffic());
  }

  void verify() override {
    CHECK(pair_.traffic(), "traffic");
    CHECK(kill(orphan_, SIGKILL) == 0, "end the other process");
    CHECK(pair_.traffic(), "traffic without it");
    pair_.destroy(name());
    node_.close(name());
  }

 private:
  Node node_;
  Pair pair_;
  pid_t orphan_ = -1;
};

// ------------------------------------------------ the program

std::vector<std::unique_ptr<Case>> all_cases() {
  std::vector<std::unique_ptr<Case>> cases;
  cases.push_back(std::make_unique<Basic>());
  cases.push_back(std::make_unique<Contexts>());
  cases.push_back(std::make_unique<Gaps>());
  cases.push_back(std::make_unique<Regions>());
  cases.push_back(std::make_unique<States>());
  cases.push_back(std::make_unique<Events>());
  cases.push_back(std::make_unique<Pending>());
  cases.push_back(std::make_unique<ExtendedCq>());
  cases.push_back(std::make_unique<Asleep>());
  cases.push_back(std::make_unique<Fork>());
  cases.push_back(std::make_unique<ChannelFirst>());
  cases.push_back(std::make_unique<ConnectionManager>());
  cases.push_back(std::make_unique<Foreign>());
  return cases;
}

// In "all": everything that can be migrated and does not rearrange descriptors
bool in_all(const std::string& name) {
  return name != "chanfirst" && name != "rdmacm" && name != "foreign" && name != "fork";
}

struct Options {
  std::string wanted;
  std::string go_file;
  std::string ready_file;
  unsigned limit_s = 120;
};

constexpr const char* kHelp =
    "usage: godwit-objects --case NAME [options]\n"
    "       godwit-objects --list\n"
    "\n"
    "Sets up verbs objects, prints READY, waits for SIGUSR1 (or --go), verifies.\n"
    "\n"
    "  --case NAME      one of --list, or \"all\" for those that fit in one process\n"
    "  --list           names and what they are about\n"
    "  --go FILE        go on when this file is there, too\n"
    "  --ready FILE     is made when everything is set up\n"
    "  --limit S        verification may take this long (120)\n"
    "  --device NAME    RDMA device (the one that has an address of this host)\n"
    "  --gid-index N    own GID (that of the address)\n"
    "\n"
    "Exit code 0: everything as it was and working; 1: not; 2: could not be set up.\n";

void list_cases() {
  for (const auto& one : all_cases()) std::printf("%-10s %s\n", one->name(), one->about());
}

Options parse(int argc, char** argv) {
  Options options;
  const option longs[] = {
      {"case", 1, nullptr, 'c'},      {"list", 0, nullptr, 'l'},  {"go", 1, nullptr, 'g'},
      {"ready", 1, nullptr, 'r'},     {"limit", 1, nullptr, 't'}, {"device", 1, nullptr, 'd'},
      {"gid-index", 1, nullptr, 'i'}, {"help", 0, nullptr, 'h'},  {nullptr, 0, nullptr, 0}};
  opterr = 0;
  for (int c; (c = getopt_long(argc, argv, "h", longs, nullptr)) != -1;) {
    switch (c) {
      case 'c':
        options.wanted = optarg;
        break;
      case 'l':
        list_cases();
        std::exit(0);
      case 'g':
        options.go_file = optarg;
        break;
      case 'r':
        options.ready_file = optarg;
        break;
      case 't':
        options.limit_s = static_cast<unsigned>(parse_number("--limit", optarg, 1, 86400));
        break;
      case 'd':
        settings.device = optarg;
        break;
      case 'i':
        settings.gid_index = static_cast<int>(parse_number("--gid-index", optarg, 0, 255));
        break;
      case 'h':
        print_usage(kHelp);
      default:
        wrong_option(argv);
    }
  }
  if (optind < argc) die("no such argument: %s", argv[optind]);
  if (options.wanted.empty()) die("--case is missing; --list tells the names");
  return options;
}

void on_go(int) { told_to_go = 1; }

void on_alarm(int) {
  constexpr char text[] = "FAIL verification hangs\nRESULT FAIL\n";
  if (write(STDOUT_FILENO, text, sizeof(text) - 1) < 0) _exit(1);
  _exit(1);
}

void wait_for_go(const Options& options) {
  std::printf("READY pid %d\n", getpid());
  std::fflush(stdout);
  if (!options.ready_file.empty()) {
    const int fd = open(options.ready_file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) die("%s: %s", options.ready_file.c_str(), std::strerror(errno));
    close(fd);
  }
  while (!told_to_go) {
    if (!options.go_file.empty() && access(options.go_file.c_str(), F_OK) == 0) break;
    usleep(20'000);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  struct sigaction action = {};
  action.sa_handler = on_go;
  action.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &action, nullptr);
  std::vector<std::unique_ptr<Case>> cases;
  for (auto& one : all_cases()) {
    if (options.wanted == one->name() || (options.wanted == "all" && in_all(one->name()))) {
      cases.push_back(std::move(one));
    }
  }
  if (cases.empty()) die("no case \"%s\"; --list tells the names", options.wanted.c_str());
  for (const auto& one : cases) one->set_up();
  wait_for_go(options);
  action.sa_handler = on_alarm;
  sigaction(SIGALRM, &action, nullptr);
  alarm(options.limit_s);
  for (const auto& one : cases) one->verify();
  std::printf("RESULT %s: %u checks, %u failures\n", failures == 0 ? "PASS" : "FAIL", checks,
              failures);
  return failures == 0 ? 0 : 1;
}
