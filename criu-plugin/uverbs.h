// SPDX-License-Identifier: GPL-2.0-or-later
//
// uverbs ioctls without libibverbs: the standard verbs that a restore needs, and
// the driver's own methods. Every call returns 0 or a negative errno.
#ifndef GODWIT_CRIU_UVERBS_H
#define GODWIT_CRIU_UVERBS_H

#include <sys/stat.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "godwit_uapi.h"

namespace godwit::criu {

// Owns a descriptor.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept {
    reset(other.release());
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release() {
    int fd = fd_;
    fd_ = -1;
    return fd;
  }
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

// Name of the RDMA device ("godwit0") if this is a uverbs node of our driver, else empty.
std::string godwit_device_of(const struct stat& st);
bool is_rdma_cm(const struct stat& st);
// Version of the device's saved state, the last part of its firmware version. 0: not known.
std::uint32_t state_version_of(const std::string& device);

// ---- the driver's methods
int lease(int context, godwit_lease_info* info, Fd* lease_fd);
// Sizes are found by asking first; `state` is the device states, record.state_offset points into
// it.
int dump(int context, std::vector<godwit_record>* records, std::vector<std::uint8_t>* state,
         godwit_dump_out* out);
int context_cookie(int context, std::uint64_t* cookie);
int identify(int context, int event_fd, godwit_identify_out* out);
// The type of record that an asynchronous event is of, by its type; 0: of the port or the device.
std::uint32_t event_owner(std::uint32_t event_type);
int event(int context, std::uint32_t owner, std::uint32_t handle, const godwit_event_in& in);
int set_qp(int context, std::uint32_t handle, const godwit_set_state& in);
int set_cq(int context, std::uint32_t handle, const godwit_set_state& in);
int program(int context, std::uint32_t pid, godwit_program_out* out);
int resume(int context, std::uint32_t attempt);
int status(int context, godwit_status_out* out);
int placeholder_alloc(int context, std::uint32_t* handle);
int placeholder_free(int context, std::uint32_t handle);
int move_reserve(int context, std::uint64_t move, const std::vector<std::uint32_t>& qpns,
                 std::uint32_t ttl_ms);
int move_commit(int context, std::uint64_t move);
int move_drop(int context, std::uint64_t move);
int move_list(int context, std::vector<godwit_move_entry>* entries);

// ---- standard verbs
int get_context(int fd, bool restore, godwit_uresp_context* response,
                std::uint32_t* comp_vectors = nullptr);
int async_event_alloc(int context, Fd* fd);
int create_channel(int context, Fd* fd);
int alloc_pd(int context, std::uint32_t* handle);
int reg_mr(int context, const godwit_record& record, std::uint32_t* handle);
int create_cq(int context, const godwit_record& record, int channel_fd, std::uint32_t* handle);
int create_qp(int context, const godwit_record& record, std::uint64_t move, std::uint32_t* handle);

}  // namespace godwit::criu

#endif  // GODWIT_CRIU_UVERBS_H
