// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the driver must withstand: checkpoint methods called by who may not, verbs
// with wrong driver data, and restores from records and device states that were
// tampered with. The driver and the device may refuse; nothing else may happen.
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <linux/capability.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <set>

#include "godwit_queue.h"
#include "godwit_regs.h"
#include "support.h"
#include "uverbs.h"

namespace {

using namespace godwit::apps;
namespace cr = godwit::criu;

struct Settings {
  std::string device;
  unsigned seed = 1;
  unsigned rounds = 500;
};
Settings settings;
unsigned checks = 0, failures = 0;

[[gnu::format(printf, 2, 3)]] void check(bool good, const char* format, ...) {
  checks++;
  if (good) return;
  failures++;
  std::printf("FAILED: ");
  va_list args;
  va_start(args, format);
  std::vprintf(format, args);
  va_end(args);
  std::printf("\n");
}

// ------------------------------------------------ objects to be hostile with

struct Objects {
  Port port;
  ibv_pd* pd = nullptr;
  ibv_mr* mr = nullptr;
  ibv_cq* cq = nullptr;
  ibv_qp* a = nullptr;
  ibv_qp* b = nullptr;
  void* memory = nullptr;
};

void must(bool good, const char* what) {
  if (!good) die("%s: %s", what, std::strerror(errno));
}

Objects make_objects() {
  Objects o;
  o.port = open_port(settings.device, -1, own_addresses());
  must((o.pd = ibv_alloc_pd(o.port.context)) != nullptr, "ibv_alloc_pd");
  o.memory = mmap(nullptr, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  must(o.memory != MAP_FAILED, "mmap");
  o.mr = ibv_reg_mr(o.pd, o.memory, 65536,
                    IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ);
  must(o.mr != nullptr, "ibv_reg_mr");
  must((o.cq = ibv_create_cq(o.port.context, 64, nullptr, nullptr, 0)) != nullptr, "ibv_create_cq");
  ibv_qp_init_attr attr = {};
  attr.send_cq = attr.recv_cq = o.cq;
  attr.qp_type = IBV_QPT_RC;
  attr.cap = {.max_send_wr = 16,
              .max_recv_wr = 16,
              .max_send_sge = 2,
              .max_recv_sge = 2,
              .max_inline_data = 64};
  must((o.a = ibv_create_qp(o.pd, &attr)) != nullptr, "ibv_create_qp");
  must((o.b = ibv_create_qp(o.pd, &attr)) != nullptr, "ibv_create_qp");
  return o;
}

void connect(ibv_qp* qp, const Port& port, std::uint32_t peer) {
  const Peer other = {.qpn = peer, .psn = 0, .gid = port.gid};
  must(to_init(qp) == 0 && to_rtr(qp, port, other, {}) == 0 && to_rts(qp, 0, {}) == 0, "connect");
}

// The device still does its work: the one thing that none of the cases may change.
void check_traffic(const char* when) {
  Objects o = make_objects();
  connect(o.a, o.port, o.b->qp_num);
  connect(o.b, o.port, o.a->qp_num);
  auto* bytes = static_cast<unsigned char*>(o.memory);
  fill_pattern(bytes, 4096, settings.seed);
  ibv_sge sge = {
      .addr = reinterpret_cast<std::uintptr_t>(bytes), .length = 4096, .lkey = o.mr->lkey};
  ibv_send_wr wr = {}, *bad = nullptr;
  wr.sg_list = &sge;
  wr.num_sge = 1;
  wr.opcode = IBV_WR_RDMA_WRITE;
  wr.send_flags = IBV_SEND_SIGNALED;
  wr.wr.rdma.remote_addr = reinterpret_cast<std::uintptr_t>(bytes) + 8192;
  wr.wr.rdma.rkey = o.mr->rkey;
  must(ibv_post_send(o.a, &wr, &bad) == 0, "ibv_post_send");
  ibv_wc wc = {};
  int n = 0;
  const std::uint64_t deadline = now_ns() + 20'000'000'000u;
  while (n == 0 && now_ns() < deadline) n = ibv_poll_cq(o.cq, 1, &wc);
  check(n == 1 && wc.status == IBV_WC_SUCCESS, "%s: a WRITE gives %d completions, status %d", when,
        n, wc.status);
  check(check_pattern(bytes + 8192, 4096, settings.seed) < 0,
        "%s: a WRITE writes what it was given", when);
  must(ibv_destroy_qp(o.a) == 0 && ibv_destroy_qp(o.b) == 0 && ibv_destroy_cq(o.cq) == 0 &&
           ibv_dereg_mr(o.mr) == 0 && ibv_dealloc_pd(o.pd) == 0,
       "destroy");
  ibv_close_device(o.port.context);
  munmap(o.memory, 65536);
}

// ------------------------------------------------ calls as raw as the kernel takes them

// A method, with attributes as given.
struct Ioctl {
  ib_uverbs_ioctl_hdr* header() { return reinterpret_cast<ib_uverbs_ioctl_hdr*>(room); }
  Ioctl(std::uint16_t object, std::uint16_t method) {
    header()->object_id = object;
    header()->method_id = method;
    header()->driver_id = GODWIT_DRIVER_ID;
  }
  ib_uverbs_attr* add(std::uint16_t id, std::size_t length, std::uint64_t data) {
    ib_uverbs_attr* attr = header()->attrs + header()->num_attrs++;
    attr->attr_id = id;
    attr->len = static_cast<__u16>(length);
    attr->flags = UVERBS_ATTR_F_MANDATORY;
    attr->data = data;
    return attr;
  }
  ib_uverbs_attr* in(std::uint16_t id, const void* data, std::size_t length) {
    std::uint64_t value = reinterpret_cast<std::uintptr_t>(data);
    if (length <= 8) std::memcpy(&(value = 0), data, length);
    return add(id, length, value);
  }
  int run(int fd) {
    header()->length = static_cast<__u16>(sizeof(ib_uverbs_ioctl_hdr) +
                                          header()->num_attrs * sizeof(ib_uverbs_attr));
    return ioctl(fd, RDMA_VERBS_IOCTL, header()) ? -errno : 0;
  }
  alignas(8) unsigned char room[sizeof(ib_uverbs_ioctl_hdr) + 16 * sizeof(ib_uverbs_attr)] = {};
};

std::string node_path(const Port& port) {
  char target[256] = {};
  const std::string link = "/proc/self/fd/" + std::to_string(port.context->cmd_fd);
  must(readlink(link.c_str(), target, sizeof(target) - 1) > 0, "readlink");
  return target;
}

// ------------------------------------------------ checkpoint methods by who may not

void keep_only(std::initializer_list<unsigned> keep) {
  __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2] = {};
  for (const unsigned cap : keep) {
    data[cap / 32].effective |= 1u << cap % 32;
    data[cap / 32].permitted |= 1u << cap % 32;
  }
  must(syscall(SYS_capset, &header, data) == 0, "capset");
}

void drop_capabilities() {
  __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2] = {};
  must(syscall(SYS_capget, &header, data) == 0, "capget");
  for (const unsigned cap : {unsigned{CAP_CHECKPOINT_RESTORE}, unsigned{CAP_SYS_ADMIN}}) {
    data[cap / 32].effective &= ~(1u << cap % 32);
    data[cap / 32].permitted &= ~(1u << cap % 32);
  }
  must(syscall(SYS_capset, &header, data) == 0, "capset");
}

void become_nobody() {
  must(setgroups(0, nullptr) == 0 && setresgid(65534, 65534, 65534) == 0 &&
           setresuid(65534, 65534, 65534) == 0,
       "setresuid");
}

// An ordinary user with the one capability.
void become_restorer() {
  must(prctl(PR_SET_KEEPCAPS, 1) == 0, "PR_SET_KEEPCAPS");
  become_nobody();
  keep_only({CAP_CHECKPOINT_RESTORE});
}

// Root of a user namespace of its own: there it has all capabilities.
void become_root_of_a_namespace() {
  must(unshare(CLONE_NEWUSER) == 0, "unshare");
  __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2] = {};
  must(syscall(SYS_capget, &header, data) == 0, "capget");
  if ((data[CAP_CHECKPOINT_RESTORE / 32].effective >> CAP_CHECKPOINT_RESTORE % 32 & 1) == 0)
    die("a new user namespace does not give CAP_CHECKPOINT_RESTORE");
}

// What a method is called on. 0: there is no such object.
struct Target {
  int fd = -1;
  int async_fd = -1;
  int node = -1;  // the device's node, opened, without a context
  void* memory = nullptr;
  std::uint32_t pd = 0, cq = 0, qp = 0;
  std::vector<std::uint32_t> placeholders;
};

// All that needs CAP_CHECKPOINT_RESTORE: the driver's methods, and flags of standard verbs
// (object 0). The calls are such that with the right they would be taken, or refused for another
// reason than EPERM.
struct Privileged {
  const char* name;
  std::uint16_t object, method;
  std::function<int(Target&)> call;
};

godwit_ureq_create_cq good_cq(void* memory);
godwit_ureq_create_qp good_qp(void* memory);

template <typename In, typename Out>
int simple_call(const Target& t, std::uint16_t object, std::uint16_t method, const In& in,
                Out* out) {
  Ioctl call(object, method);
  call.in(GODWIT_ATTR_IN, &in, sizeof(in));
  if (out) call.add(GODWIT_ATTR_OUT, sizeof(*out), reinterpret_cast<std::uintptr_t>(out));
  return call.run(t.fd);
}

godwit_record cq_record(const Target& t) {
  godwit_record record = {};
  record.type = GODWIT_RECORD_CQ;
  record.number = 3;
  record.start = reinterpret_cast<std::uintptr_t>(t.memory);
  record.length = 8192;
  record.log2_sq_depth = 5;
  record.record_offset = sizeof(godwit_cqe) << 5;
  record.cqe = 32;
  record.owner = getpid();
  return record;
}

godwit_record qp_record(const Target& t) {
  const godwit_ureq_create_qp shape = good_qp(t.memory);
  godwit_record record = {};
  record.type = GODWIT_RECORD_QP;
  record.number = 0x00d1e5;
  record.pd_handle = t.pd;
  record.send_cq_handle = record.recv_cq_handle = t.cq;
  record.start = shape.buffer;
  record.length = shape.buffer_length;
  record.sq_offset = shape.sq_offset;
  record.rq_offset = shape.rq_offset;
  record.record_offset = shape.record_offset;
  record.log2_sq_depth = shape.log2_sq_depth;
  record.log2_rq_depth = shape.log2_rq_depth;
  record.log2_sq_stride = shape.log2_sq_stride;
  record.log2_rq_stride = shape.log2_rq_stride;
  record.max_send_wr = record.max_recv_wr = 16;
  record.max_send_sge = record.max_recv_sge = 1;
  record.qp_type = IBV_QPT_RC;
  record.owner = getpid();
  return record;
}

godwit_record mr_record(const Target& t) {
  godwit_record record = {};
  record.type = GODWIT_RECORD_MR;
  record.pd_handle = t.pd;
  record.number = 1;
  record.start = record.iova = reinterpret_cast<std::uintptr_t>(t.memory) + 32768;
  record.length = 4096;
  record.access = IBV_ACCESS_LOCAL_WRITE;
  record.owner = getpid();
  return record;
}

const Privileged kPrivileged[] = {
    {"CR_DUMP", GODWIT_OBJECT_CR, GODWIT_METHOD_CR_DUMP,
     [](Target& t) {
       std::uint64_t cookie = 0;
       return cr::context_cookie(t.fd, &cookie);
     }},
    {"CR_SET_QP", GODWIT_OBJECT_CR, GODWIT_METHOD_CR_SET_QP,
     [](Target& t) { return cr::set_qp(t.fd, t.qp, {}); }},
    {"CR_SET_CQ", GODWIT_OBJECT_CR, GODWIT_METHOD_CR_SET_CQ,
     [](Target& t) { return cr::set_cq(t.fd, t.cq, {}); }},
    {"CR_PROGRAM", GODWIT_OBJECT_CR, GODWIT_METHOD_CR_PROGRAM,
     [](Target& t) {
       godwit_program_out out = {};
       return cr::program(t.fd, static_cast<std::uint32_t>(getpid()), &out);
     }},
    {"CR_RESUME", GODWIT_OBJECT_CR, GODWIT_METHOD_CR_RESUME,
     [](Target& t) { return cr::resume(t.fd, 1); }},
    {"CR_EVENT", GODWIT_OBJECT_CR, GODWIT_METHOD_CR_EVENT,
     [](Target& t) {
       const godwit_event_in inject = {.what = GODWIT_EVENT_INJECT, .event_type = 9};
       return cr::event(t.fd, 0, 0, inject);
     }},
    {"CR_EVENT, a note", GODWIT_OBJECT_CR, GODWIT_METHOD_CR_EVENT,
     [](Target& t) {
       const godwit_event_in note = {.what = GODWIT_EVENT_NOTE | GODWIT_EVENT_COMP,
                                     .event_type = 0};
       return cr::event(t.fd, GODWIT_RECORD_CQ, t.cq, note);
     }},
    {"CR_IDENTIFY", GODWIT_OBJECT_CR, GODWIT_METHOD_CR_IDENTIFY,
     [](Target& t) {
       Ioctl call(GODWIT_OBJECT_CR, GODWIT_METHOD_CR_IDENTIFY);
       godwit_identify_out out = {};
       call.add(GODWIT_ATTR_ASYNC, 0, static_cast<std::uint64_t>(t.async_fd));
       call.add(GODWIT_ATTR_OUT, sizeof(out), reinterpret_cast<std::uintptr_t>(&out));
       return call.run(t.fd);
     }},
    {"CR_STATUS", GODWIT_OBJECT_CR, GODWIT_METHOD_CR_STATUS,
     [](Target& t) {
       godwit_status_out out = {};
       return cr::status(t.fd, &out);
     }},
    {"PLACEHOLDER_ALLOC", GODWIT_OBJECT_PLACEHOLDER, GODWIT_METHOD_PLACEHOLDER_ALLOC,
     [](Target& t) {
       std::uint32_t handle = 0;
       return cr::placeholder_alloc(t.fd, &handle);
     }},
    {"PLACEHOLDER_FREE", GODWIT_OBJECT_PLACEHOLDER, GODWIT_METHOD_PLACEHOLDER_FREE,
     [](Target& t) {
       if (t.placeholders.empty()) return -EPERM;  // without one there is nothing to free
       const int ret = cr::placeholder_free(t.fd, t.placeholders.back());
       if (!ret) t.placeholders.pop_back();
       return ret;
     }},
    {"LEASE_ALLOC", GODWIT_OBJECT_LEASE, GODWIT_METHOD_LEASE_ALLOC,
     [](Target& t) {
       godwit_lease_info info = {};
       info.move = 1;
       cr::Fd lease;
       return cr::lease(t.fd, &info, &lease);
     }},
    {"MOVE_RESERVE", GODWIT_OBJECT_MOVE, GODWIT_METHOD_MOVE_RESERVE,
     [](Target& t) { return cr::move_reserve(t.fd, 1, {77}, 1000); }},
    {"MOVE_COMMIT", GODWIT_OBJECT_MOVE, GODWIT_METHOD_MOVE_COMMIT,
     [](Target& t) { return cr::move_commit(t.fd, 1); }},
    {"MOVE_DROP", GODWIT_OBJECT_MOVE, GODWIT_METHOD_MOVE_DROP,
     [](Target& t) { return cr::move_drop(t.fd, 1); }},
    {"MOVE_LIST", GODWIT_OBJECT_MOVE, GODWIT_METHOD_MOVE_LIST,
     [](Target& t) {
       std::vector<godwit_move_entry> entries;
       return cr::move_list(t.fd, &entries);
     }},
    {"GET_CONTEXT with RESTORE", 0, 0,
     [](Target& t) {
       godwit_uresp_context response = {};
       return cr::get_context(t.node, true, &response);
     }},
    {"REG_MR with RESTORE", 0, 0,
     [](Target& t) {
       std::uint32_t handle = 0;
       return cr::reg_mr(t.fd, mr_record(t), &handle);
     }},
    {"CQ_CREATE with RESTORE", 0, 0,
     [](Target& t) {
       std::uint32_t handle = 0;
       godwit_record record = cq_record(t);
       record.number = 4;
       return cr::create_cq(t.fd, record, -1, &handle);
     }},
    {"CREATE_QP with RESTORE", 0, 0,
     [](Target& t) {
       std::uint32_t handle = 0;
       godwit_record record = qp_record(t);
       record.number++;
       return cr::create_qp(t.fd, record, 1, &handle);
     }},
};

// What everybody may call.
struct Public {
  std::uint16_t object, method;
};
const Public kPublic[] = {{GODWIT_OBJECT_USER, GODWIT_METHOD_USER_CQ_BASE},
                          {GODWIT_OBJECT_USER, GODWIT_METHOD_USER_QP_BASE}};

// The kernel is asked which methods of a driver there are; each must be in one of the tables.
void check_tables(int fd) {
  std::set<std::pair<unsigned, unsigned>> known, found;
  for (const Privileged& row : kPrivileged)
    if (row.object) known.insert({row.object, row.method});
  for (const Public& row : kPublic) known.insert({row.object, row.method});
  for (unsigned object = 0; object < 32; object++) {
    for (unsigned method = 0; method < 16; method++) {
      // The driver's own objects, and methods that it might add to the core's.
      for (const unsigned ns : {0u, GODWIT_UVERBS_NS}) {
        const auto id = static_cast<std::uint16_t>(object | ns);
        const auto number = static_cast<std::uint16_t>(method | GODWIT_UVERBS_NS);
        if (Ioctl(id, number).run(fd) != -EPROTONOSUPPORT) found.insert({id, number});
      }
    }
  }
  for (const auto& [object, method] : found)
    check(known.count({object, method}) == 1,
          "method %#x of object %#x is in no table: say who may call it", method, object);
  for (const auto& [object, method] : known)
    check(found.count({object, method}) == 1, "the driver has no method %#x of object %#x", method,
          object);
}

Target running_target(const Objects& o, int node) {
  Target t;
  t.fd = o.port.context->cmd_fd;
  t.async_fd = o.port.context->async_fd;
  t.node = node;
  t.memory = o.memory;
  t.pd = o.pd->handle;
  t.cq = o.cq->handle;
  t.qp = o.a->handle;
  return t;
}

// A context that was born frozen, with objects that are not loaded: RESUME would find it not ready.
struct Restoring {
  cr::Fd fd, async, node;
  Target target;
};

void make_restoring(const Objects& o, Restoring* r) {
  const std::string path = node_path(o.port);
  r->fd.reset(open(path.c_str(), O_RDWR | O_CLOEXEC));
  r->node.reset(open(path.c_str(), O_RDWR | O_CLOEXEC));
  must(r->fd.valid() && r->node.valid(), path.c_str());
  Target& t = r->target;
  t.fd = r->fd.get();
  t.node = r->node.get();
  t.memory = o.memory;
  godwit_uresp_context response = {};
  int ret = cr::get_context(t.fd, true, &response);
  if (!ret) ret = cr::async_event_alloc(t.fd, &r->async);
  t.async_fd = r->async.get();
  if (!ret) ret = cr::alloc_pd(t.fd, &t.pd);
  if (!ret) ret = cr::create_cq(t.fd, cq_record(t), -1, &t.cq);
  if (!ret) ret = cr::create_qp(t.fd, qp_record(t), 1, &t.qp);
  for (int n = 0; !ret && n < 2; n++) {
    t.placeholders.push_back(0);
    ret = cr::placeholder_alloc(t.fd, &t.placeholders.back());
  }
  if (ret) die("run me as root: a context to restore into: %s", std::strerror(-ret));
}

void expect_refusals(Target& t, const char* where) {
  for (const Privileged& row : kPrivileged) {
    const int ret = row.call(t);
    check(ret == -EPERM, "%s, in a %s context, gives %d, not EPERM", row.name, where, ret);
  }
}

// Who has the right gets each call past the question whether it may. Flags of verbs have been
// tried when the context was made.
void expect_permission(Target& running, Target& restoring) {
  for (const Privileged& row : kPrivileged) {
    if (!row.object) continue;
    const int first = row.call(restoring);
    const int second = row.call(running);
    check(first != -EPERM || second != -EPERM, "%s gives EPERM to who may", row.name);
  }
}

void expect_public_methods(const Objects& o) {
  for (const bool cq : {true, false}) {
    Ioctl call(GODWIT_OBJECT_USER, cq ? GODWIT_METHOD_USER_CQ_BASE : GODWIT_METHOD_USER_QP_BASE);
    godwit_event_base base = {};
    call.add(GODWIT_ATTR_HANDLE, 0, cq ? o.cq->handle : o.a->handle);
    call.add(GODWIT_ATTR_OUT, sizeof(base), reinterpret_cast<std::uintptr_t>(&base));
    const int ret = call.run(o.port.context->cmd_fd);
    check(ret == 0, "%s gives %d", cq ? "USER_CQ_BASE" : "USER_QP_BASE", ret);
  }
}

void refusals(const std::function<void()>& give_up_privileges) {
  Objects o = make_objects();
  Restoring restoring;
  make_restoring(o, &restoring);
  Target running = running_target(o, restoring.node.get());
  check_tables(running.fd);
  // With privileges they are answered: the refusals below are because of them.
  expect_permission(running, restoring.target);
  give_up_privileges();
  expect_refusals(running, "running");
  expect_refusals(restoring.target, "restoring");
  expect_public_methods(o);
  check_traffic("without privileges");
}

// As `refusals`, where there are no privileges to begin with: in a container. Then once more as
// root of a user namespace.
void refusals_inside() {
  Objects o = make_objects();
  cr::Fd node(open(node_path(o.port).c_str(), O_RDWR | O_CLOEXEC));
  must(node.valid(), "open");
  Target running = running_target(o, node.get());
  check_tables(running.fd);
  expect_refusals(running, "container's");
  expect_public_methods(o);
  check_traffic("in a container");
  become_root_of_a_namespace();
  expect_refusals(running, "container's, from a user namespace,");
}

// ------------------------------------------------ tampering

class Tamper {
 public:
  explicit Tamper(unsigned seed) : random_(seed) {}
  std::uint32_t operator()(std::uint32_t below) {
    return static_cast<std::uint32_t>(random_() % below);
  }

  // One to three places, at byte, word or double word boundaries.
  void bytes(void* data, std::size_t length) {
    auto* to = static_cast<unsigned char*>(data);
    for (std::uint32_t n = 1 + (*this)(3); n > 0 && length > 0; n--) {
      static constexpr std::size_t kWidths[] = {1, 2, 4, 8};
      const std::size_t width = std::min(kWidths[(*this)(4)], length);
      const std::size_t at = (*this)(static_cast<std::uint32_t>(length / width)) * width;
      const std::uint64_t value = interesting();
      std::memcpy(to + at, &value, width);
    }
  }
  template <typename T>
  void object(T* value) {
    bytes(value, sizeof(*value));
  }

 private:
  std::uint64_t interesting() {
    switch ((*this)(6)) {
      case 0:
        return 0;
      case 1:
        return ~std::uint64_t{0};
      case 2:
        return std::uint64_t{1} << (*this)(64);
      case 3:
        return (std::uint64_t{1} << (*this)(64)) - 1;
      case 4:
        return (*this)(256);
      default:
        return random_();
    }
  }
  std::mt19937_64 random_;
};

std::map<int, unsigned> answers;
int note(int ret) {
  answers[ret]++;
  return ret;
}

int write_verb(int fd, std::uint64_t number, const void* core, std::size_t core_length,
               void* response, std::size_t response_length, const void* driver,
               std::size_t driver_length) {
  Ioctl call(UVERBS_OBJECT_DEVICE, UVERBS_METHOD_INVOKE_WRITE);
  unsigned char driver_out[64];
  call.in(UVERBS_ATTR_WRITE_CMD, &number, sizeof(number));
  call.in(UVERBS_ATTR_CORE_IN, core, core_length);
  call.add(UVERBS_ATTR_CORE_OUT, response_length, reinterpret_cast<std::uintptr_t>(response));
  call.in(UVERBS_ATTR_UHW_IN, driver, driver_length);
  call.add(UVERBS_ATTR_UHW_OUT, sizeof(driver_out), reinterpret_cast<std::uintptr_t>(driver_out));
  return call.run(fd);
}

int raw_create_cq(int fd, std::uint32_t cqe, const godwit_ureq_create_cq& driver,
                  std::uint32_t* handle) {
  Ioctl call(UVERBS_OBJECT_CQ, UVERBS_METHOD_CQ_CREATE);
  std::uint32_t granted = 0, vector = 0;
  std::uint64_t user_handle = 1;
  godwit_uresp_create_cq out = {};
  ib_uverbs_attr* made = call.add(UVERBS_ATTR_CREATE_CQ_HANDLE, 0, 0);
  call.in(UVERBS_ATTR_CREATE_CQ_CQE, &cqe, sizeof(cqe));
  call.in(UVERBS_ATTR_CREATE_CQ_USER_HANDLE, &user_handle, sizeof(user_handle));
  call.in(UVERBS_ATTR_CREATE_CQ_COMP_VECTOR, &vector, sizeof(vector));
  call.add(UVERBS_ATTR_CREATE_CQ_RESP_CQE, sizeof(granted),
           reinterpret_cast<std::uintptr_t>(&granted));
  call.in(UVERBS_ATTR_UHW_IN, &driver, sizeof(driver));
  call.add(UVERBS_ATTR_UHW_OUT, sizeof(out), reinterpret_cast<std::uintptr_t>(&out));
  const int ret = call.run(fd);
  *handle = static_cast<std::uint32_t>(made->data);
  return ret;
}

godwit_ureq_create_cq good_cq(void* memory) {
  godwit_ureq_create_cq driver = {};
  driver.buffer = reinterpret_cast<std::uintptr_t>(memory);
  driver.log2_depth = 5;
  driver.record_offset = sizeof(godwit_cqe) << 5;
  driver.buffer_length = 8192;
  return driver;
}

godwit_ureq_create_qp good_qp(void* memory) {
  godwit_ureq_create_qp driver = {};
  driver.buffer = reinterpret_cast<std::uintptr_t>(memory) + 16384;
  driver.buffer_length = 16384;
  driver.rq_offset = 8192;
  driver.record_offset = 12288;
  driver.log2_sq_depth = 4;
  driver.log2_rq_depth = 4;
  driver.log2_sq_stride = 7;
  driver.log2_rq_stride = 6;
  return driver;
}

int raw_create_qp(int fd, std::uint32_t pd, std::uint32_t cq, const godwit_ureq_create_qp& driver,
                  Tamper* tamper) {
  ib_uverbs_create_qp core = {};
  core.user_handle = 2;
  core.pd_handle = pd;
  core.send_cq_handle = core.recv_cq_handle = cq;
  core.max_send_wr = core.max_recv_wr = 16;
  core.max_send_sge = core.max_recv_sge = 1;
  core.qp_type = IBV_QPT_RC;
  if (tamper)
    tamper->bytes(&core.pd_handle, sizeof(core) - offsetof(ib_uverbs_create_qp, pd_handle));
  ib_uverbs_create_qp_resp response = {};
  return write_verb(fd, IB_USER_VERBS_CMD_CREATE_QP, &core, sizeof(core), &response,
                    sizeof(response), &driver, sizeof(driver));
}

// Without the right to checkpoint: any driver data, any handle, in a context of its own.
void verbs_round(const std::string& path, void* memory, unsigned seed) {
  Tamper tamper(seed);
  cr::Fd fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
  must(fd.valid(), path.c_str());
  godwit_uresp_context response = {};
  std::uint32_t pd = 0, cq = 0, other = 0;
  must(cr::get_context(fd.get(), false, &response) == 0 && cr::alloc_pd(fd.get(), &pd) == 0,
       "context");
  godwit_ureq_create_cq cq_data = good_cq(memory);
  must(raw_create_cq(fd.get(), 32, cq_data, &cq) == 0, "CQ_CREATE");
  for (int n = 0; n < 4; n++) {
    cq_data = good_cq(static_cast<char*>(memory) + 8192);
    tamper.object(&cq_data);
    note(raw_create_cq(fd.get(), tamper(4) ? 32 : tamper(0x7fffffff), cq_data, &other));
    godwit_ureq_create_qp qp_data = good_qp(memory);
    if (tamper(2)) tamper.object(&qp_data);
    note(raw_create_qp(fd.get(), pd, cq, qp_data, tamper(2) ? &tamper : nullptr));
    ib_uverbs_reg_mr core = {};
    core.start = core.hca_va = reinterpret_cast<std::uintptr_t>(memory);
    core.length = 65536;
    core.pd_handle = pd;
    core.access_flags = IBV_ACCESS_LOCAL_WRITE;
    godwit_ureq_reg_mr mr_data = {};
    if (tamper(2)) tamper.object(&mr_data);
    tamper.bytes(&core.start, sizeof(core) - offsetof(ib_uverbs_reg_mr, start));
    ib_uverbs_reg_mr_resp mr_response = {};
    note(write_verb(fd.get(), IB_USER_VERBS_CMD_REG_MR, &core, sizeof(core), &mr_response,
                    sizeof(mr_response), &mr_data, sizeof(mr_data)));
    // The doorbell page of somebody else, or none at all
    std::uint64_t offset = tamper(2) ? response.doorbell_offset + 4096 : tamper(64) * 4096u;
    if (offset == response.doorbell_offset) offset++;
    void* page = mmap(nullptr, tamper(2) ? 4096 : 8192, PROT_READ | PROT_WRITE,
                      tamper(4) ? MAP_SHARED : MAP_PRIVATE, fd.get(), static_cast<off_t>(offset));
    if (page == MAP_FAILED) {
      note(-errno);
    } else {
      check(false, "a doorbell page that is not this context's can be mapped (seed %u)", seed);
      return;
    }
  }
}

void tampered_verbs() {
  Objects o = make_objects();
  const std::string path = node_path(o.port);
  drop_capabilities();
  void* memory = o.memory;
  {  // Untouched data is taken: else nothing was tried.
    cr::Fd fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
    godwit_uresp_context response = {};
    std::uint32_t pd = 0, cq = 0;
    must(cr::get_context(fd.get(), false, &response) == 0 && cr::alloc_pd(fd.get(), &pd) == 0,
         "context");
    check(raw_create_cq(fd.get(), 32, good_cq(memory), &cq) == 0,
          "good driver data of a CQ is taken");
    const int ret = raw_create_qp(fd.get(), pd, cq, good_qp(memory), nullptr);
    check(ret == 0, "good driver data of a QP is taken, not answered with %d", ret);
  }
  for (unsigned round = 0; round < settings.rounds; round++)
    verbs_round(path, memory, settings.seed + round);
  check_traffic("after tampered verbs");
}

// ------------------------------------------------ restores

struct Checkpoint {
  std::vector<godwit_record> records;
  std::vector<std::uint8_t> state;
  std::string path;
};

// A dump of our own objects, which are destroyed; their memory stays where it was.
Checkpoint make_checkpoint() {
  Checkpoint checkpoint;
  Objects o = make_objects();
  connect(o.a, o.port, o.b->qp_num);
  connect(o.b, o.port, o.a->qp_num);
  checkpoint.path = node_path(o.port);
  godwit_lease_info info = {};
  info.move = 0x1234;
  cr::Fd lease;
  godwit_dump_out out = {};
  const int fd = o.port.context->cmd_fd;
  int ret = cr::lease(fd, &info, &lease);
  if (!ret) ret = cr::dump(fd, &checkpoint.records, &checkpoint.state, &out);
  if (ret) die("cannot dump: %s", std::strerror(-ret));
  lease.reset();
  must(ibv_destroy_qp(o.a) == 0 && ibv_destroy_qp(o.b) == 0 && ibv_destroy_cq(o.cq) == 0 &&
           ibv_dereg_mr(o.mr) == 0 && ibv_dealloc_pd(o.pd) == 0,
       "destroy");
  ibv_close_device(o.port.context);
  for (const godwit_record& record : checkpoint.records)
    if (record.type == GODWIT_RECORD_CQ || record.type == GODWIT_RECORD_QP)
      must(mmap(reinterpret_cast<void*>(record.start), record.length, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED,
           "mmap");
  return checkpoint;
}

int restore_one(int fd, const godwit_record& record, std::vector<std::uint8_t> state) {
  std::uint32_t handle = 0;
  godwit_set_state in = {};
  in.state = reinterpret_cast<std::uintptr_t>(state.data());
  in.length = static_cast<__u32>(state.size());
  in.own_gid_index = record.own_gid_index;
  in.record = record;
  int ret = 0;
  switch (record.type) {
    case GODWIT_RECORD_PD:
      return cr::alloc_pd(fd, &handle);
    case GODWIT_RECORD_MR:
      return cr::reg_mr(fd, record, &handle);
    case GODWIT_RECORD_CQ:
      ret = cr::create_cq(fd, record, -1, &handle);
      return ret ? ret : cr::set_cq(fd, handle, in);
    case GODWIT_RECORD_QP:
      ret = cr::create_qp(fd, record, 0x1234, &handle);
      return ret ? ret : cr::set_qp(fd, handle, in);
    default:
      return 0;
  }
}

// Null: nothing is changed, and all must succeed.
void restore_round(const Checkpoint& checkpoint, Tamper* tamper) {
  const auto answer = [&](const char* what, int ret) {
    if (!tamper) check(ret == 0, "%s of an untouched record: %s", what, std::strerror(-ret));
    note(ret);
  };
  cr::Fd fd(open(checkpoint.path.c_str(), O_RDWR | O_CLOEXEC));
  must(fd.valid(), checkpoint.path.c_str());
  godwit_uresp_context response = {};
  must(cr::get_context(fd.get(), true, &response) == 0, "context");
  // Handles as they were: records come in the order PD, MR, CQ, QP, and so did the objects.
  for (const godwit_record& record : checkpoint.records) {
    godwit_record changed = record;
    std::vector<std::uint8_t> state(
        checkpoint.state.begin() + record.state_offset,
        checkpoint.state.begin() + record.state_offset + record.state_length);
    if (tamper && (*tamper)(3) == 0) {
      tamper->object(&changed);
      changed.type = record.type;
    }
    if (tamper && !state.empty() && (*tamper)(2) == 0) {
      tamper->bytes(state.data(), state.size());
      if ((*tamper)(8) == 0) state.resize((*tamper)(8192));
    }
    answer("restore", restore_one(fd.get(), changed, state));
  }
  for (std::uint32_t n = tamper ? (*tamper)(3) : 0; n > 0; n--) {
    const godwit_event_in event = {.what = (*tamper)(2) ? GODWIT_EVENT_COMP : (*tamper)(3),
                                   .event_type = (*tamper)(24)};
    static constexpr std::uint32_t kOwners[] = {0, GODWIT_RECORD_CQ, GODWIT_RECORD_QP};
    note(cr::event(fd.get(), kOwners[(*tamper)(3)], (*tamper)(8), event));
  }
  godwit_program_out program = {};
  answer("PROGRAM", cr::program(fd.get(), static_cast<std::uint32_t>(getpid()), &program));
  if (!tamper)
    check(program.left == 0 && program.programmed == 4, "%u objects programmed, %u left",
          program.programmed, program.left);
  answer("RESUME", cr::resume(fd.get(), 1 + (tamper ? (*tamper)(3) : 0)));
  godwit_status_out status = {};
  answer("STATUS", cr::status(fd.get(), &status));
  if (!tamper)
    check(status.qps == 2 && status.error == 0, "%u QPs, %u in error", status.qps, status.error);
}

void tampered_images() {
  const Checkpoint checkpoint = make_checkpoint();
  restore_round(checkpoint, nullptr);
  for (unsigned round = 0; round < settings.rounds; round++) {
    Tamper tamper(settings.seed + round);
    restore_round(checkpoint, &tamper);
  }
  restore_round(checkpoint, nullptr);
  check_traffic("after tampered images");
}

// The one capability is enough for all, but not for the memory of others.
void restorer() {
  int ready[2];
  must(pipe(ready) == 0, "pipe");
  const pid_t root = fork();
  must(root >= 0, "fork");
  if (root == 0) {  // another's process, with privileges
    char byte;
    close(ready[1]);
    _exit(static_cast<int>(read(ready[0], &byte, 1)));
  }
  close(ready[0]);
  {
    Objects o = make_objects();
    Restoring restoring;
    become_restorer();
    make_restoring(o, &restoring);
    Target running = running_target(o, restoring.node.get());
    expect_permission(running, restoring.target);
    godwit_program_out out = {};
    const int ret = cr::program(restoring.target.fd, static_cast<std::uint32_t>(root), &out);
    check(ret == -EPERM, "CR_PROGRAM of root's process gives %d, not EPERM", ret);
  }
  const Checkpoint checkpoint = make_checkpoint();
  restore_round(checkpoint, nullptr);
  close(ready[1]);
  waitpid(root, nullptr, 0);
  check_traffic("as a restorer");
}

// ------------------------------------------------ another process's objects

std::uint64_t port_counter(const Port& port, const char* name) {
  usleep(100'000);  // the core keeps counters for a while
  std::ifstream in(std::string("/sys/class/infiniband/") +
                   ibv_get_device_name(port.context->device) + "/ports/1/hw_counters/" + name);
  std::uint64_t value = 0;
  if (!(in >> value)) die("no counter %s", name);
  return value;
}

void expect_no_descriptor(pid_t owner, int fd) {
  const std::string path = "/proc/" + std::to_string(owner) + "/fd/" + std::to_string(fd);
  cr::Fd opened(open(path.c_str(), O_RDWR | O_CLOEXEC));
  check(!opened.valid() && errno == EACCES, "%s can be opened, or gives %d", path.c_str(), errno);
  cr::Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, owner, 0)));
  must(pidfd.valid(), "pidfd_open");
  cr::Fd taken(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd.get(), fd, 0)));
  check(!taken.valid() && errno == EPERM, "pidfd_getfd gives %d", errno);
}

// Handles are numbers of a context of one's own.
void expect_no_handles(int fd, const Target& theirs) {
  const auto destroy = [&](std::uint64_t command, std::uint32_t handle) {
    ib_uverbs_destroy_qp core = {};  // a CQ's is the same; a PD's is the handle alone
    core.qp_handle = handle;
    std::uint32_t word = handle;
    ib_uverbs_destroy_cq_resp response = {};  // the longer of the two
    Ioctl call(UVERBS_OBJECT_DEVICE, UVERBS_METHOD_INVOKE_WRITE);
    call.in(UVERBS_ATTR_WRITE_CMD, &command, sizeof(command));
    if (command == IB_USER_VERBS_CMD_DESTROY_QP || command == IB_USER_VERBS_CMD_DESTROY_CQ) {
      call.in(UVERBS_ATTR_CORE_IN, &core, sizeof(core));
      call.add(UVERBS_ATTR_CORE_OUT, sizeof(response), reinterpret_cast<std::uintptr_t>(&response));
    } else {
      call.in(UVERBS_ATTR_CORE_IN, &word, sizeof(word));
    }
    return call.run(fd);
  };
  const std::pair<std::uint64_t, std::uint32_t> all[] = {{IB_USER_VERBS_CMD_DESTROY_QP, theirs.qp},
                                                         {IB_USER_VERBS_CMD_DESTROY_CQ, theirs.cq},
                                                         {IB_USER_VERBS_CMD_DEALLOC_PD, theirs.pd}};
  for (const auto& [command, handle] : all) {
    const int ret = destroy(command, handle);
    check(ret == -ENOENT, "command %u with another context's handle gives %d",
          static_cast<unsigned>(command), ret);
  }
  Ioctl call(GODWIT_OBJECT_USER, GODWIT_METHOD_USER_QP_BASE);
  godwit_event_base base = {};
  call.add(GODWIT_ATTR_HANDLE, 0, theirs.qp);
  call.add(GODWIT_ATTR_OUT, sizeof(base), reinterpret_cast<std::uintptr_t>(&base));
  const int ret = call.run(fd);
  check(ret == -ENOENT, "USER_QP_BASE of another context's QP gives %d", ret);
}

// All pages that the device may have. Ours is the only one, and another's QP is not known on it.
void expect_no_doorbells(int fd, const godwit_uresp_context& own, std::uint32_t their_qpn,
                         const Port& port) {
  void* ours = MAP_FAILED;
  for (std::uint64_t page = 0; page < 4096; page++) {
    void* at = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                    static_cast<off_t>(page * 4096));
    if (page * 4096 == own.doorbell_offset) {
      ours = at;
      continue;
    }
    check(at == MAP_FAILED && errno == EINVAL, "doorbell page %u can be mapped, or gives %d",
          static_cast<unsigned>(page), errno);
  }
  check(ours != MAP_FAILED, "one's own doorbell page can be mapped");
  if (ours == MAP_FAILED) return;
  const std::uint64_t before = port_counter(port, "bad_doorbells");
  const std::uint64_t value = std::uint64_t{1} << 32 | their_qpn;
  *reinterpret_cast<volatile std::uint64_t*>(static_cast<char*>(ours) + GODWIT_DB_SQ) = value;
  check(port_counter(port, "bad_doorbells") == before + 1,
        "a doorbell for another context's QP is not counted as a bad one");
}

void expect_no_keys(std::uint32_t their_key, std::uint64_t their_address) {
  for (const bool remote : {false, true}) {
    Objects o = make_objects();
    connect(o.a, o.port, o.b->qp_num);
    connect(o.b, o.port, o.a->qp_num);
    ibv_sge sge = {
        .addr = reinterpret_cast<std::uintptr_t>(o.memory), .length = 64, .lkey = o.mr->lkey};
    ibv_send_wr wr = {}, *bad = nullptr;
    wr.sg_list = &sge;
    wr.num_sge = 1;
    wr.opcode = IBV_WR_RDMA_READ;
    wr.send_flags = IBV_SEND_SIGNALED;
    wr.wr.rdma.remote_addr = reinterpret_cast<std::uintptr_t>(o.memory) + 4096;
    wr.wr.rdma.rkey = o.mr->rkey;
    if (remote) {
      wr.wr.rdma.remote_addr = their_address;
      wr.wr.rdma.rkey = their_key;
    } else {
      sge.addr = their_address;
      sge.lkey = their_key;
      wr.opcode = IBV_WR_RDMA_WRITE;
    }
    must(ibv_post_send(o.a, &wr, &bad) == 0, "ibv_post_send");
    ibv_wc wc = {};
    int n = 0;
    const std::uint64_t deadline = now_ns() + 20'000'000'000u;
    while (n == 0 && now_ns() < deadline) n = ibv_poll_cq(o.cq, 1, &wc);
    check(n == 1 && wc.status == (remote ? IBV_WC_REM_ACCESS_ERR : IBV_WC_LOC_PROT_ERR),
          "%s of another process: %d completions, status %d", remote ? "R_Key" : "L_Key", n,
          wc.status);
    must(ibv_destroy_qp(o.a) == 0 && ibv_destroy_qp(o.b) == 0 && ibv_destroy_cq(o.cq) == 0 &&
             ibv_dereg_mr(o.mr) == 0 && ibv_dealloc_pd(o.pd) == 0,
         "destroy");
    ibv_close_device(o.port.context);
  }
}

// An ordinary user beside a process of root's that has a connection.
void others() {
  Objects o = make_objects();
  connect(o.a, o.port, o.b->qp_num);
  connect(o.b, o.port, o.a->qp_num);
  const Target theirs = running_target(o, -1);
  const pid_t owner = getpid();
  const pid_t child = fork();
  must(child >= 0, "fork");
  if (child == 0) {
    const std::string path = node_path(o.port);
    close(theirs.async_fd);
    close(theirs.fd);
    become_nobody();
    cr::Fd fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
    must(fd.valid(), path.c_str());
    godwit_uresp_context response = {};
    must(cr::get_context(fd.get(), false, &response) == 0, "context");
    expect_no_descriptor(owner, theirs.fd);
    expect_no_handles(fd.get(), theirs);
    expect_no_doorbells(fd.get(), response, o.a->qp_num, o.port);
    expect_no_keys(o.mr->rkey, reinterpret_cast<std::uintptr_t>(o.memory));
    std::printf("%u checks as an ordinary user, %u failures\n", checks, failures);
    std::fflush(stdout);
    _exit(failures ? 1 : 0);
  }
  int status = -1;
  must(waitpid(child, &status, 0) == child, "waitpid");
  check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the other process ends with %#x", status);
  // The connection is as it was.
  ibv_qp_attr attr = {};
  ibv_qp_init_attr init = {};
  check(ibv_query_qp(o.a, &attr, IBV_QP_STATE, &init) == 0 && attr.qp_state == IBV_QPS_RTS,
        "the QP is in state %d", attr.qp_state);
  check_traffic("after another process has tried");
}

// ------------------------------------------------ main

struct Case {
  const char* name;
  const char* about;
  std::function<void()> run;
};
const Case kCases[] = {
    {"nobody", "checkpoint methods without privileges", [] { refusals(become_nobody); }},
    {"container", "checkpoint methods as root without CAP_CHECKPOINT_RESTORE and CAP_SYS_ADMIN",
     [] { refusals(drop_capabilities); }},
    {"userns", "checkpoint methods as root of a user namespace",
     [] {
       refusals([] {
         become_nobody();
         become_root_of_a_namespace();
       });
     }},
    {"inside", "checkpoint methods in a container that has no right to them", refusals_inside},
    {"restorer", "the whole of it, as a user with CAP_CHECKPOINT_RESTORE alone", restorer},
    {"others", "handles, keys, doorbells and descriptors of another process", others},
    {"verbs", "wrong driver data, handles and mappings", tampered_verbs},
    {"images", "restores from records and device states that were changed", tampered_images},
};

void usage() {
  std::printf(
      "usage: godwit-hostile --case NAME [--seed N] [--rounds N] [--device NAME]\n"
      "\n"
      "Is hostile to the driver, and checks that it refuses and that the NIC goes on.\n"
      "\n");
  for (const Case& c : kCases) std::printf("  %-10s %s\n", c.name, c.about);
  std::printf("\nExit code 0: withstood; 1: not; 2: could not be set up.\n");
}

}  // namespace

int main(int argc, char** argv) {
  static const option kOptions[] = {
      {"case", required_argument, nullptr, 'c'},   {"seed", required_argument, nullptr, 's'},
      {"rounds", required_argument, nullptr, 'r'}, {"device", required_argument, nullptr, 'd'},
      {"help", no_argument, nullptr, 'h'},         {}};
  std::string name;
  opterr = 0;
  for (int c; (c = getopt_long(argc, argv, "", kOptions, nullptr)) != -1;) {
    switch (c) {
      case 'c':
        name = optarg;
        break;
      case 's':
        settings.seed = static_cast<unsigned>(parse_number("--seed", optarg, 0, 1u << 30));
        break;
      case 'r':
        settings.rounds = static_cast<unsigned>(parse_number("--rounds", optarg, 1, 1u << 30));
        break;
      case 'd':
        settings.device = optarg;
        break;
      case 'h':
        usage();
        return 0;
      default:
        wrong_option(argv);
    }
  }
  for (const Case& c : kCases) {
    if (name != c.name) continue;
    c.run();
    for (const auto& [ret, count] : answers)
      std::printf("%6u %s\n", count, ret ? std::strerror(-ret) : "taken");
    std::printf("RESULT %s: %u checks, %u failures\n", failures ? "FAIL" : "PASS", checks,
                failures);
    return failures ? 1 : 0;
  }
  if (name.empty()) die("--case is missing; see --help");
  die("no case %s; see --help", name.c_str());
}
