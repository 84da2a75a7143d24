// SPDX-License-Identifier: GPL-2.0-or-later
#include "uverbs.h"

#include <fcntl.h>
#include <infiniband/verbs.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/rdma_user_ioctl.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>

namespace godwit::criu {
namespace {

constexpr unsigned kMaxAttributes = 24;

// One uverbs ioctl: header and attributes, in the layout of the kernel.
class Command {
 public:
  Command(std::uint16_t object, std::uint16_t method) {
    buffer_.header.object_id = object;
    buffer_.header.method_id = method;
    buffer_.header.driver_id = GODWIT_DRIVER_ID;
  }

  Command& in(std::uint16_t id, const void* data, std::size_t length) {
    std::uint64_t value = 0;
    if (length > sizeof(value))
      value = reinterpret_cast<std::uintptr_t>(data);
    else  // the kernel wants small inputs in the attribute itself
      std::memcpy(&value, data, length);
    add(id, length, value);
    return *this;
  }
  template <typename T>
  Command& in(std::uint16_t id, const T& value) {
    return in(id, &value, sizeof(value));
  }
  template <typename T>
  Command& out(std::uint16_t id, T* value) {
    add(id, sizeof(T), reinterpret_cast<std::uintptr_t>(value));
    return *this;
  }
  Command& object(std::uint16_t id, std::uint32_t handle) {
    add(id, 0, handle);
    return *this;
  }
  Command& fd(std::uint16_t id, int fd) {
    add(id, 0, 0);
    buffer_.attributes[buffer_.header.num_attrs - 1].data_s64 = fd;
    return *this;
  }
  // For attributes that the kernel writes in place: new handles and descriptors.
  std::int64_t result(std::uint16_t id) const {
    for (unsigned i = 0; i < buffer_.header.num_attrs; i++)
      if (buffer_.attributes[i].attr_id == id) return buffer_.attributes[i].data_s64;
    return -1;
  }
  int run(int fd) {
    buffer_.header.length = static_cast<__u16>(
        sizeof(buffer_.header) + buffer_.header.num_attrs * sizeof(buffer_.attributes[0]));
    return ioctl(fd, RDMA_VERBS_IOCTL, &buffer_.header) ? -errno : 0;
  }

 private:
  void add(std::uint16_t id, std::size_t length, std::uint64_t data) {
    ib_uverbs_attr& attribute = buffer_.attributes[buffer_.header.num_attrs++];
    attribute.attr_id = id;
    attribute.len = static_cast<__u16>(length);
    attribute.flags = UVERBS_ATTR_F_MANDATORY;
    attribute.data = data;
  }

  // The kernel's header ends in a flexible array; this puts room behind it.
  struct {
    alignas(8) struct {
      __u16 length;
      __u16 object_id;
      __u16 method_id;
      __u16 num_attrs;
      __aligned_u64 reserved1;
      __u32 driver_id;
      __u32 reserved2;
    } header{};
    std::array<ib_uverbs_attr, kMaxAttributes> attributes{};
  } buffer_;
  static_assert(sizeof(buffer_.header) == sizeof(ib_uverbs_ioctl_hdr));
};

// A command of the old write() interface, carried by ioctl.
template <typename Request, typename Response, typename DriverIn, typename DriverOut>
int invoke_write(int fd, std::uint64_t number, const Request& request, Response* response,
                 const DriverIn* driver_in, DriverOut* driver_out) {
  Command command(UVERBS_OBJECT_DEVICE, UVERBS_METHOD_INVOKE_WRITE);
  command.in(UVERBS_ATTR_WRITE_CMD, number)
      .in(UVERBS_ATTR_CORE_IN, request)
      .out(UVERBS_ATTR_CORE_OUT, response);
  if (driver_in) command.in(UVERBS_ATTR_UHW_IN, *driver_in);
  if (driver_out) command.out(UVERBS_ATTR_UHW_OUT, driver_out);
  return command.run(fd);
}

int set_state(int context, std::uint16_t method, std::uint16_t object_attr, std::uint32_t handle,
              const godwit_set_state& in) {
  return Command(GODWIT_OBJECT_CR, method)
      .object(object_attr, handle)
      .in(GODWIT_ATTR_IN, in)
      .run(context);
}

std::string read_text(const std::string& path) {
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return {};
  char text[64];
  ssize_t n = read(fd.get(), text, sizeof(text));
  std::string value(text, n > 0 ? static_cast<std::size_t>(n) : 0);
  while (!value.empty() && value.back() == '\n') value.pop_back();
  return value;
}

// The last component of what a symbolic link points to.
std::string link_target_name(const std::string& path) {
  char target[512];
  ssize_t n = readlink(path.c_str(), target, sizeof(target));
  if (n <= 0) return {};
  std::string text(target, static_cast<std::size_t>(n));
  return text.substr(text.rfind('/') + 1);
}

std::string sysfs_node(const struct stat& st) {
  return "/sys/dev/char/" + std::to_string(major(st.st_rdev)) + ":" +
         std::to_string(minor(st.st_rdev));
}

}  // namespace

void Fd::reset(int fd) {
  if (fd_ >= 0) close(fd_);
  fd_ = fd;
}

// By its driver: udev may have given the device another name.
std::string godwit_device_of(const struct stat& st) {
  if (!S_ISCHR(st.st_mode)) return {};
  const std::string node = sysfs_node(st);
  if (link_target_name(node + "/device/driver") != "godwit") return {};
  return read_text(node + "/ibdev");
}

bool is_rdma_cm(const struct stat& st) {
  return S_ISCHR(st.st_mode) && link_target_name(sysfs_node(st)) == "rdma_cm";
}

std::uint32_t state_version_of(const std::string& device) {
  unsigned major = 0, minor = 0, version = 0;
  const std::string text = read_text("/sys/class/infiniband/" + device + "/fw_ver");
  return std::sscanf(text.c_str(), "%u.%u.%u", &major, &minor, &version) == 3 ? version : 0;
}

int lease(int context, godwit_lease_info* info, Fd* lease_fd) {
  Command command(GODWIT_OBJECT_LEASE, GODWIT_METHOD_LEASE_ALLOC);
  godwit_lease_info in = *info;
  command.fd(GODWIT_ATTR_HANDLE, 0).in(GODWIT_ATTR_IN, in).out(GODWIT_ATTR_OUT, info);
  int ret = command.run(context);
  if (!ret) lease_fd->reset(static_cast<int>(command.result(GODWIT_ATTR_HANDLE)));
  return ret;
}

static int dump_once(int context, const godwit_dump_in& in, godwit_dump_out* out) {
  return Command(GODWIT_OBJECT_CR, GODWIT_METHOD_CR_DUMP)
      .in(GODWIT_ATTR_IN, in)
      .out(GODWIT_ATTR_OUT, out)
      .run(context);
}

int context_cookie(int context, std::uint64_t* cookie) {
  godwit_dump_out out = {};
  int ret = dump_once(context, {}, &out);
  *cookie = out.uctx_cookie;
  return ret == -ENOSPC ? 0 : ret;
}

int dump(int context, std::vector<godwit_record>* records, std::vector<std::uint8_t>* state,
         godwit_dump_out* out) {
  *out = {};
  int ret = dump_once(context, {}, out);
  if (ret && ret != -ENOSPC) return ret;
  records->resize(out->records);
  state->resize(out->state_used);
  godwit_dump_in in = {};
  in.records = reinterpret_cast<std::uintptr_t>(records->data());
  in.state = reinterpret_cast<std::uintptr_t>(state->data());
  in.max_records = static_cast<__u32>(records->size());
  in.state_room = static_cast<__u32>(state->size());
  ret = dump_once(context, in, out);
  if (ret) return ret;
  records->resize(out->records);
  state->resize(out->state_used);
  return 0;
}

int identify(int context, int event_fd, godwit_identify_out* out) {
  for (std::uint16_t attr : {GODWIT_ATTR_CHANNEL, GODWIT_ATTR_ASYNC}) {
    int ret = Command(GODWIT_OBJECT_CR, GODWIT_METHOD_CR_IDENTIFY)
                  .fd(attr, event_fd)
                  .out(GODWIT_ATTR_OUT, out)
                  .run(context);
    if (!ret) return 0;
  }
  return -ENOENT;
}

std::uint32_t event_owner(std::uint32_t event_type) {
  switch (event_type) {
    case IBV_EVENT_CQ_ERR:
      return GODWIT_RECORD_CQ;
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
    case IBV_EVENT_COMM_EST:
    case IBV_EVENT_SQ_DRAINED:
    case IBV_EVENT_PATH_MIG:
    case IBV_EVENT_PATH_MIG_ERR:
    case IBV_EVENT_QP_LAST_WQE_REACHED:
      return GODWIT_RECORD_QP;
    case IBV_EVENT_SRQ_ERR:
    case IBV_EVENT_SRQ_LIMIT_REACHED:
      return GODWIT_RECORD_SRQ;
    default:
      return 0;
  }
}

int event(int context, std::uint32_t owner, std::uint32_t handle, const godwit_event_in& in) {
  Command command(GODWIT_OBJECT_CR, GODWIT_METHOD_CR_EVENT);
  if (owner == GODWIT_RECORD_CQ) command.object(GODWIT_ATTR_CQ, handle);
  if (owner == GODWIT_RECORD_QP) command.object(GODWIT_ATTR_QP, handle);
  if (owner == GODWIT_RECORD_SRQ) command.object(GODWIT_ATTR_SRQ, handle);
  return command.in(GODWIT_ATTR_IN, in).run(context);
}

int set_qp(int context, std::uint32_t handle, const godwit_set_state& in) {
  return set_state(context, GODWIT_METHOD_CR_SET_QP, GODWIT_ATTR_QP, handle, in);
}

int set_cq(int context, std::uint32_t handle, const godwit_set_state& in) {
  return set_state(context, GODWIT_METHOD_CR_SET_CQ, GODWIT_ATTR_CQ, handle, in);
}

int program(int context, std::uint32_t pid, godwit_program_out* out) {
  godwit_program_in in = {};
  in.pid = pid;
  return Command(GODWIT_OBJECT_CR, GODWIT_METHOD_CR_PROGRAM)
      .in(GODWIT_ATTR_IN, in)
      .out(GODWIT_ATTR_OUT, out)
      .run(context);
}

int resume(int context, std::uint32_t attempt) {
  godwit_resume_in in = {};
  in.attempt = attempt;
  return Command(GODWIT_OBJECT_CR, GODWIT_METHOD_CR_RESUME).in(GODWIT_ATTR_IN, in).run(context);
}

int status(int context, godwit_status_out* out) {
  return Command(GODWIT_OBJECT_CR, GODWIT_METHOD_CR_STATUS).out(GODWIT_ATTR_OUT, out).run(context);
}

int placeholder_alloc(int context, std::uint32_t* handle) {
  Command command(GODWIT_OBJECT_PLACEHOLDER, GODWIT_METHOD_PLACEHOLDER_ALLOC);
  command.object(GODWIT_ATTR_HANDLE, 0);
  int ret = command.run(context);
  *handle = static_cast<std::uint32_t>(command.result(GODWIT_ATTR_HANDLE));
  return ret;
}

int placeholder_free(int context, std::uint32_t handle) {
  return Command(GODWIT_OBJECT_PLACEHOLDER, GODWIT_METHOD_PLACEHOLDER_FREE)
      .object(GODWIT_ATTR_HANDLE, handle)
      .run(context);
}

int move_reserve(int context, std::uint64_t move, const std::vector<std::uint32_t>& qpns,
                 std::uint32_t ttl_ms) {
  godwit_move_reserve_in in = {};
  in.move = move;
  in.qpns = reinterpret_cast<std::uintptr_t>(qpns.data());
  in.count = static_cast<__u32>(qpns.size());
  in.ttl_ms = ttl_ms;
  return Command(GODWIT_OBJECT_MOVE, GODWIT_METHOD_MOVE_RESERVE)
      .in(GODWIT_ATTR_IN, in)
      .run(context);
}

static int move_method(int context, std::uint16_t method, std::uint64_t move) {
  godwit_move_in in = {};
  in.move = move;
  return Command(GODWIT_OBJECT_MOVE, method).in(GODWIT_ATTR_IN, in).run(context);
}

int move_commit(int context, std::uint64_t move) {
  return move_method(context, GODWIT_METHOD_MOVE_COMMIT, move);
}

int move_drop(int context, std::uint64_t move) {
  return move_method(context, GODWIT_METHOD_MOVE_DROP, move);
}

int move_list(int context, std::vector<godwit_move_entry>* entries) {
  // Tombstones come and go: a second round with room to spare settles it.
  entries->resize(4096);
  godwit_move_list_in in = {};
  in.entries = reinterpret_cast<std::uintptr_t>(entries->data());
  in.max_entries = static_cast<__u32>(entries->size());
  godwit_move_list_out out = {};
  int ret = Command(GODWIT_OBJECT_MOVE, GODWIT_METHOD_MOVE_LIST)
                .in(GODWIT_ATTR_IN, in)
                .out(GODWIT_ATTR_OUT, &out)
                .run(context);
  entries->resize(ret ? 0 : out.entries);
  return ret;
}

int get_context(int fd, bool restore, godwit_uresp_context* response, std::uint32_t* comp_vectors) {
  godwit_ureq_context request = {};
  request.flags = restore ? GODWIT_UREQ_RESTORE : 0;
  __u64 core_support = 0;
  std::uint32_t unwanted = 0;
  return Command(UVERBS_OBJECT_DEVICE, UVERBS_METHOD_GET_CONTEXT)
      .out(UVERBS_ATTR_GET_CONTEXT_NUM_COMP_VECTORS, comp_vectors ? comp_vectors : &unwanted)
      .out(UVERBS_ATTR_GET_CONTEXT_CORE_SUPPORT, &core_support)
      .in(UVERBS_ATTR_UHW_IN, request)
      .out(UVERBS_ATTR_UHW_OUT, response)
      .run(fd);
}

int async_event_alloc(int context, Fd* fd) {
  Command command(UVERBS_OBJECT_ASYNC_EVENT, UVERBS_METHOD_ASYNC_EVENT_ALLOC);
  command.fd(UVERBS_ATTR_ASYNC_EVENT_ALLOC_FD_HANDLE, 0);
  int ret = command.run(context);
  if (!ret) fd->reset(static_cast<int>(command.result(UVERBS_ATTR_ASYNC_EVENT_ALLOC_FD_HANDLE)));
  return ret;
}

int create_channel(int context, Fd* fd) {
  ib_uverbs_create_comp_channel request = {};
  ib_uverbs_create_comp_channel_resp response = {};
  int ret =
      invoke_write<ib_uverbs_create_comp_channel, ib_uverbs_create_comp_channel_resp, char, char>(
          context, IB_USER_VERBS_CMD_CREATE_COMP_CHANNEL, request, &response, nullptr, nullptr);
  if (!ret) fd->reset(static_cast<int>(response.fd));
  return ret;
}

int alloc_pd(int context, std::uint32_t* handle) {
  ib_uverbs_alloc_pd request = {};
  ib_uverbs_alloc_pd_resp response = {};
  int ret = invoke_write<ib_uverbs_alloc_pd, ib_uverbs_alloc_pd_resp, char, char>(
      context, IB_USER_VERBS_CMD_ALLOC_PD, request, &response, nullptr, nullptr);
  *handle = response.pd_handle;
  return ret;
}

int reg_mr(int context, const godwit_record& record, std::uint32_t* handle) {
  ib_uverbs_reg_mr request = {};
  request.start = record.start;
  request.length = record.length;
  request.hca_va = record.iova;
  request.pd_handle = record.pd_handle;
  request.access_flags = record.access;
  ib_uverbs_reg_mr_resp response = {};
  godwit_ureq_reg_mr driver = {};
  driver.flags = GODWIT_UREQ_RESTORE;
  driver.key = record.number;
  driver.owner = record.owner;
  int ret = invoke_write<ib_uverbs_reg_mr, ib_uverbs_reg_mr_resp, godwit_ureq_reg_mr, char>(
      context, IB_USER_VERBS_CMD_REG_MR, request, &response, &driver, nullptr);
  *handle = response.mr_handle;
  if (!ret && (response.lkey != record.number || response.rkey != record.number)) ret = -EEXIST;
  return ret;
}

int create_cq(int context, const godwit_record& record, int channel_fd, std::uint32_t* handle) {
  godwit_ureq_create_cq driver = {};
  driver.buffer = record.start;
  driver.buffer_length = static_cast<__u32>(record.length);
  driver.log2_depth = record.log2_sq_depth;
  driver.record_offset = record.record_offset;
  driver.flags = GODWIT_UREQ_RESTORE;
  driver.cqn = record.number;
  driver.comp_base = record.comp_events;
  driver.async_base = record.async_events;
  driver.owner = record.owner;
  godwit_uresp_create_cq driver_out = {};
  std::uint32_t cqe = 0;
  Command command(UVERBS_OBJECT_CQ, UVERBS_METHOD_CQ_CREATE);
  command.object(UVERBS_ATTR_CREATE_CQ_HANDLE, 0)
      .in(UVERBS_ATTR_CREATE_CQ_CQE, record.cqe)
      .in(UVERBS_ATTR_CREATE_CQ_USER_HANDLE, record.user_handle)
      .in(UVERBS_ATTR_CREATE_CQ_COMP_VECTOR, record.comp_vector)
      .out(UVERBS_ATTR_CREATE_CQ_RESP_CQE, &cqe)
      .in(UVERBS_ATTR_UHW_IN, driver)
      .out(UVERBS_ATTR_UHW_OUT, &driver_out);
  if (channel_fd >= 0) command.fd(UVERBS_ATTR_CREATE_CQ_COMP_CHANNEL, channel_fd);
  int ret = command.run(context);
  *handle = static_cast<std::uint32_t>(command.result(UVERBS_ATTR_CREATE_CQ_HANDLE));
  if (!ret && driver_out.cqn != record.number) ret = -EEXIST;
  return ret;
}

int create_qp(int context, const godwit_record& record, std::uint64_t move, std::uint32_t* handle) {
  ib_uverbs_create_qp request = {};
  request.user_handle = record.user_handle;
  request.pd_handle = record.pd_handle;
  request.send_cq_handle = record.send_cq_handle;
  request.recv_cq_handle = record.recv_cq_handle;
  request.srq_handle = record.srq_handle;
  request.max_send_wr = record.max_send_wr;
  request.max_recv_wr = record.max_recv_wr;
  request.max_send_sge = record.max_send_sge;
  request.max_recv_sge = record.max_recv_sge;
  request.max_inline_data = record.max_inline;
  request.sq_sig_all = record.sq_sig_all;
  request.qp_type = record.qp_type;
  request.is_srq = record.has_srq;
  ib_uverbs_create_qp_resp response = {};
  godwit_ureq_create_qp driver = {};
  driver.buffer = record.start;
  driver.buffer_length = static_cast<__u32>(record.length);
  driver.sq_offset = record.sq_offset;
  driver.rq_offset = record.rq_offset;
  driver.record_offset = record.record_offset;
  driver.log2_sq_depth = record.log2_sq_depth;
  driver.log2_rq_depth = record.log2_rq_depth;
  driver.log2_sq_stride = record.log2_sq_stride;
  driver.log2_rq_stride = record.log2_rq_stride;
  driver.flags = GODWIT_UREQ_RESTORE;
  driver.qpn = record.number;
  driver.async_base = record.async_events;
  driver.move = move;
  driver.owner = record.owner;
  godwit_uresp_create_qp driver_out = {};
  int ret =
      invoke_write(context, IB_USER_VERBS_CMD_CREATE_QP, request, &response, &driver, &driver_out);
  *handle = response.qp_handle;
  if (!ret && driver_out.qpn != record.number) ret = -EEXIST;
  return ret;
}

}  // namespace godwit::criu
