// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the test programs share: messages, time, numbers, the GID of this host,
// and queue pairs that are brought up the usual way. libibverbs only.
#ifndef GODWIT_TESTS_APPS_SUPPORT_H
#define GODWIT_TESTS_APPS_SUPPORT_H

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <infiniband/verbs.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace godwit::apps {

// The program cannot go on: exit code 2, as for wrong options.
[[noreturn, gnu::format(printf, 1, 2)]] inline void die(const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::fprintf(stderr, "%s: ", program_invocation_short_name);
  std::vfprintf(stderr, format, args);
  std::fputc('\n', stderr);
  va_end(args);
  std::exit(2);
}

inline std::uint64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(t.tv_nsec);
}

inline std::uint64_t parse_number(const char* what, const char* text, std::uint64_t min,
                                  std::uint64_t max) {
  char* end = nullptr;
  errno = 0;
  const std::uint64_t value = std::strtoull(text, &end, 0);
  if (errno != 0 || end == text || *end != '\0' || *text == '-' || value < min || value > max) {
    die("%s: \"%s\" is not a number from %llu to %llu", what, text,
        static_cast<unsigned long long>(min), static_cast<unsigned long long>(max));
  }
  return value;
}

[[noreturn]] inline void print_usage(const char* help) {
  std::fputs(help, stdout);
  std::exit(0);
}

// What getopt_long() does not take; it has been told to be silent.
[[noreturn]] inline void wrong_option(char** argv) {
  die("%s: no such option, or not without a value; see --help", argv[optind - 1]);
}

// What may be left after the options: the server's address; "": nothing is
inline std::string host_argument(int argc, char** argv) {
  std::string host;
  if (optind < argc) host = argv[optind++];
  if (optind < argc) die("too many arguments: %s", argv[optind]);
  return host;
}

// splitmix64: a good hash of a counter
constexpr std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

inline void fill_pattern(void* to, std::size_t length, std::uint64_t seed) {
  auto* bytes = static_cast<unsigned char*>(to);
  for (std::size_t i = 0; i < length; i += 8) {
    const std::uint64_t word = mix(seed + i);
    std::memcpy(bytes + i, &word, length - i < 8 ? length - i : 8);
  }
}

// The offset of the first wrong byte's word, or -1
inline long check_pattern(const void* from, std::size_t length, std::uint64_t seed) {
  const auto* bytes = static_cast<const unsigned char*>(from);
  for (std::size_t i = 0; i < length; i += 8) {
    const std::uint64_t word = mix(seed + i);
    if (std::memcmp(bytes + i, &word, length - i < 8 ? length - i : 8) != 0) {
      return static_cast<long>(i);
    }
  }
  return -1;
}

using Address = std::vector<unsigned char>;  // 16 bytes, IPv4 mapped

inline bool to_gid_bytes(const sockaddr* address, unsigned char (&bytes)[16]) {
  if (address == nullptr) return false;
  if (address->sa_family == AF_INET6) {
    std::memcpy(bytes, &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr, 16);
    return true;
  }
  if (address->sa_family != AF_INET) return false;
  std::memset(bytes, 0, 10);
  std::memset(bytes + 10, 0xff, 2);
  std::memcpy(bytes + 12, &reinterpret_cast<const sockaddr_in*>(address)->sin_addr, 4);
  return true;
}

// The addresses of this network namespace, IPv4 first
inline std::vector<Address> own_addresses() {
  std::vector<Address> addresses;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) die("getifaddrs: %s", std::strerror(errno));
  for (const int family : {AF_INET, AF_INET6}) {
    for (const ifaddrs* i = list; i != nullptr; i = i->ifa_next) {
      unsigned char bytes[16];
      if (i->ifa_addr == nullptr || i->ifa_addr->sa_family != family) continue;
      if (to_gid_bytes(i->ifa_addr, bytes)) addresses.emplace_back(bytes, bytes + 16);
    }
  }
  freeifaddrs(list);
  return addresses;
}

struct Port {
  ibv_context* context = nullptr;
  ibv_port_attr attr = {};
  int gid_index = -1;
  union ibv_gid gid = {};
};

// The RoCE v2 GID that is this address; false if the device has none.
inline bool find_gid(Port* port, const Address& address) {
  for (int i = 0; i < port->attr.gid_tbl_len; ++i) {
    ibv_gid_entry entry;
    if (ibv_query_gid_ex(port->context, 1, static_cast<unsigned>(i), &entry, 0) != 0) continue;
    if (entry.gid_type != IBV_GID_TYPE_ROCE_V2) continue;
    if (std::memcmp(entry.gid.raw, address.data(), 16) != 0) continue;
    port->gid_index = i;
    port->gid = entry.gid;
    return true;
  }
  return false;
}

inline bool choose_gid(Port* port, int wanted_index, const std::vector<Address>& addresses) {
  if (wanted_index >= 0) {
    port->gid_index = wanted_index;
    return ibv_query_gid(port->context, 1, wanted_index, &port->gid) == 0;
  }
  for (const Address& address : addresses) {
    if (find_gid(port, address)) return true;
  }
  return false;
}

// A device (any, if `name` is empty) with a GID that is one of the addresses
inline Port open_port(const std::string& name, int gid_index,
                      const std::vector<Address>& addresses) {
  int count = 0;
  ibv_device** list = ibv_get_device_list(&count);
  if (list == nullptr || count == 0)
    die("no RDMA device here: is the driver loaded (modprobe godwit)?");
  for (int i = 0; i < count; ++i) {
    if (!name.empty() && name != ibv_get_device_name(list[i])) continue;
    Port port;
    port.context = ibv_open_device(list[i]);
    if (port.context == nullptr) continue;
    if (ibv_query_port(port.context, 1, &port.attr) == 0 &&
        choose_gid(&port, gid_index, addresses)) {
      ibv_free_device_list(list);
      return port;
    }
    ibv_close_device(port.context);
  }
  ibv_free_device_list(list);
  die("%s%s has no RoCE v2 GID of this host's addresses (or cannot be opened)",
      name.empty() ? "no RDMA device" : "RDMA device ", name.c_str());
}

// Before anybody is waited for.
inline void must_have_device(const std::string& name) {
  int count = 0;
  ibv_device** list = ibv_get_device_list(&count);
  bool found = false;
  for (int i = 0; i < count; ++i) found |= name.empty() || name == ibv_get_device_name(list[i]);
  if (list != nullptr) ibv_free_device_list(list);
  if (!found && !name.empty()) die("no RDMA device %s here; ibv_devices lists them", name.c_str());
  if (!found) die("no RDMA device here: is the driver loaded (modprobe godwit)?");
}

struct Peer {
  std::uint32_t qpn = 0;
  std::uint32_t psn = 0;
  union ibv_gid gid = {};
};

struct PathOptions {
  ibv_mtu mtu = IBV_MTU_1024;
  std::uint8_t rd_atomic = 1;
  std::uint8_t timeout = 16;  // 4.096 us << 16 = 268 ms
  std::uint8_t retry_cnt = 7;
  std::uint8_t rnr_retry = 7;  // for ever
};

constexpr int kRemoteAccess =
    IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;

inline int to_init(ibv_qp* qp) {
  ibv_qp_attr attr = {};
  attr.qp_state = IBV_QPS_INIT;
  attr.port_num = 1;
  attr.qp_access_flags = kRemoteAccess;
  return ibv_modify_qp(qp, &attr,
                       IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
}

inline int to_rtr(ibv_qp* qp, const Port& port, const Peer& peer, const PathOptions& path) {
  ibv_qp_attr attr = {};
  attr.qp_state = IBV_QPS_RTR;
  attr.path_mtu = path.mtu;
  attr.dest_qp_num = peer.qpn;
  attr.rq_psn = peer.psn;
  attr.max_dest_rd_atomic = path.rd_atomic;
  attr.min_rnr_timer = 12;
  attr.ah_attr.is_global = 1;
  attr.ah_attr.port_num = 1;
  attr.ah_attr.grh.dgid = peer.gid;
  attr.ah_attr.grh.sgid_index = static_cast<std::uint8_t>(port.gid_index);
  attr.ah_attr.grh.hop_limit = 64;
  return ibv_modify_qp(qp, &attr,
                       IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
                           IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
}

inline int to_rts(ibv_qp* qp, std::uint32_t psn, const PathOptions& path) {
  ibv_qp_attr attr = {};
  attr.qp_state = IBV_QPS_RTS;
  attr.sq_psn = psn;
  attr.timeout = path.timeout;
  attr.retry_cnt = path.retry_cnt;
  attr.rnr_retry = path.rnr_retry;
  attr.max_rd_atomic = path.rd_atomic;
  return ibv_modify_qp(qp, &attr,
                       IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
                           IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC);
}

}  // namespace godwit::apps

#endif  // GODWIT_TESTS_APPS_SUPPORT_H
