// SPDX-License-Identifier: GPL-2.0-or-later
//
// So many connected queue pairs and so much memory, in which nothing happens: what a move costs by
// size. With --plain the same without RDMA.
#include <getopt.h>
#include <sys/mman.h>

#include <algorithm>

#include "control.h"
#include "support.h"

namespace {

using namespace godwit::apps;

struct Options {
  std::string host;  // empty: server
  std::string port = "18521";
  unsigned qps = 1;
  std::size_t mib = 1;
  bool plain = false;
};

class Idle {
 public:
  explicit Idle(const Options& options)
      : options_(options),
        control_(options.host.empty() ? accept_one(options.port)
                                      : connect_to(options.host, options.port, 120)) {
    bytes_ = options.mib << 20;
    memory_ = static_cast<unsigned char*>(
        mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (memory_ == MAP_FAILED) die("memory: %s", std::strerror(errno));
    fill_pattern(memory_, bytes_, 1);
    if (!options.plain) connect();
    control_.send("ready");
    if (control_.line() != "ready") die("the peer is not ready");
    std::printf("ready\n");
    std::fflush(stdout);
  }

 private:
  static int accept_one(const std::string& port) {
    const int listener = listen_once(port);
    const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) die("accept: %s", std::strerror(errno));
    close(listener);
    return fd;
  }

  void connect() {
    port_ = open_port("", -1, {control_.own_address()});
    pd_ = ibv_alloc_pd(port_.context);
    if (pd_ == nullptr) die("ibv_alloc_pd: %s", std::strerror(errno));
    mr_ = ibv_reg_mr(pd_, memory_, bytes_, IBV_ACCESS_LOCAL_WRITE | kRemoteAccess);
    if (mr_ == nullptr) die("ibv_reg_mr: %s", std::strerror(errno));
    cq_ = ibv_create_cq(port_.context, static_cast<int>(std::min(options_.qps, 4096U)), nullptr,
                        nullptr, 0);
    if (cq_ == nullptr) die("ibv_create_cq: %s", std::strerror(errno));
    for (unsigned i = 0; i < options_.qps; ++i) {
      ibv_qp_init_attr init = {};
      init.send_cq = init.recv_cq = cq_;
      init.qp_type = IBV_QPT_RC;
      init.cap = {1, 1, 1, 1, 0};
      ibv_qp* qp = ibv_create_qp(pd_, &init);
      if (qp == nullptr) die("ibv_create_qp %u: %s", i, std::strerror(errno));
      if (to_init(qp) != 0) die("QP to INIT: %s", std::strerror(errno));
      qps_.push_back(qp);
    }
    std::string line;
    for (const ibv_qp* qp : qps_) line += std::to_string(qp->qp_num) + " ";
    for (const unsigned char byte : port_.gid.raw) line += std::to_string(byte) + " ";
    control_.send(line);
    const std::string said = control_.line();
    const char* at = said.c_str();
    std::vector<unsigned long> numbers;
    for (char* next; *at != 0 && *at != '\n'; at = next) {
      numbers.push_back(std::strtoul(at, &next, 10));
      if (next == at) break;
      while (*next == ' ') ++next;
    }
    if (numbers.size() != qps_.size() + 16) die("the peer has another number of queue pairs");
    Peer peer;
    for (std::size_t i = 0; i < 16; ++i) {
      peer.gid.raw[i] = static_cast<unsigned char>(numbers[qps_.size() + i]);
    }
    for (std::size_t i = 0; i < qps_.size(); ++i) {
      peer.qpn = static_cast<std::uint32_t>(numbers[i]);
      peer.psn = static_cast<std::uint32_t>(i);
      const PathOptions path;
      if (to_rtr(qps_[i], port_, peer, path) != 0) die("QP to RTR: %s", std::strerror(errno));
      if (to_rts(qps_[i], static_cast<std::uint32_t>(i), path) != 0) {
        die("QP to RTS: %s", std::strerror(errno));
      }
    }
  }

  const Options options_;
  Control control_;
  Port port_;
  std::size_t bytes_ = 0;
  unsigned char* memory_ = nullptr;
  ibv_pd* pd_ = nullptr;
  ibv_mr* mr_ = nullptr;
  ibv_cq* cq_ = nullptr;
  std::vector<ibv_qp*> qps_;
};

constexpr const char* kHelp =
    "usage: godwit-idle [options]            server\n"
    "       godwit-idle [options] HOST       client\n"
    "\n"
    "Connects queue pairs over memory that is registered, says \"ready\", and waits for a\n"
    "signal that ends it.\n"
    "\n"
    "  --qps N       queue pairs, on one CQ; the same on both sides (1)\n"
    "  --mib N       memory, all of it written to (1)\n"
    "  --plain       no RDMA: the memory and a TCP connection only\n"
    "  --port PORT   of the TCP connection (18521)\n"
    "\n"
    "Exit code 2: could not run.\n";

Options parse(int argc, char** argv) {
  Options options;
  const option longs[] = {{"qps", 1, nullptr, 'q'},   {"mib", 1, nullptr, 'm'},
                          {"plain", 0, nullptr, 'P'}, {"port", 1, nullptr, 'p'},
                          {"help", 0, nullptr, 'h'},  {nullptr, 0, nullptr, 0}};
  opterr = 0;
  for (int c; (c = getopt_long(argc, argv, "h", longs, nullptr)) != -1;) {
    switch (c) {
      case 'q':
        options.qps = static_cast<unsigned>(parse_number("--qps", optarg, 1, 65536));
        break;
      case 'm':
        options.mib = parse_number("--mib", optarg, 1, 65536);
        break;
      case 'P':
        options.plain = true;
        break;
      case 'p':
        options.port = std::to_string(parse_number("--port", optarg, 1, 65535));
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

}  // namespace

int main(int argc, char** argv) {
  const Idle idle(parse(argc, argv));
  for (;;) pause();
}
