// SPDX-License-Identifier: GPL-2.0-or-later
//
// A peer that says nothing until it is told to. The client has one queue pair to the server, and
// posts one request per line of its standard input; the server takes any number of clients, each on
// a context of its own or, with --fork, each but the first in a child that inherits the context,
// and checks at the end of each that what it was sent is there, once.
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <algorithm>
#include <memory>

#include "control.h"
#include "support.h"

namespace {

using namespace godwit::apps;

// The memory of either side: a word for atomics, what READs bring, what WRITEs leave, messages.
constexpr std::size_t kPart = 4096;
constexpr std::size_t kWord = 0, kRead = kPart, kWrite = 2 * kPart, kMessages = 3 * kPart;
constexpr unsigned kReceives = 16;
constexpr std::size_t kBytes = kMessages + kReceives * kPart;
constexpr std::uint64_t kReadSeed = 11, kWriteSeed = 1000, kSendSeed = 2000;

struct Options {
  std::string host;  // empty: server
  std::string port = "18519";
  unsigned timeout = 14;  // 67 ms
  unsigned retry = 7;
  bool fork = false;
};

// One end of one connection.
class End {
 public:
  // `inherited`: the context of another process.
  End(int fd, const Options& options, const Port* inherited = nullptr)
      : control_(fd), inherits_(inherited != nullptr) {
    port_ = inherits_ ? *inherited : open_port("", -1, {control_.own_address()});
    memory_ = static_cast<unsigned char*>(
        mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (memory_ == MAP_FAILED) die("memory: %s", std::strerror(errno));
    pd_ = ibv_alloc_pd(port_.context);
    if (pd_ == nullptr) die("ibv_alloc_pd: %s", std::strerror(errno));
    mr_ = ibv_reg_mr(pd_, memory_, kBytes, IBV_ACCESS_LOCAL_WRITE | kRemoteAccess);
    if (mr_ == nullptr) die("ibv_reg_mr: %s", std::strerror(errno));
    cq_ = ibv_create_cq(port_.context, 2 * kReceives, nullptr, nullptr, 0);
    if (cq_ == nullptr) die("ibv_create_cq: %s", std::strerror(errno));
    ibv_qp_init_attr init = {};
    init.send_cq = init.recv_cq = cq_;
    init.qp_type = IBV_QPT_RC;
    init.cap = {kReceives, kReceives, 1, 1, 0};
    qp_ = ibv_create_qp(pd_, &init);
    if (qp_ == nullptr) die("ibv_create_qp: %s", std::strerror(errno));
    if (to_init(qp_) != 0) die("QP to INIT: %s", std::strerror(errno));
    connect(options);
  }
  ~End() {
    ibv_destroy_qp(qp_);
    ibv_destroy_cq(cq_);
    ibv_dereg_mr(mr_);
    ibv_dealloc_pd(pd_);
    if (!inherits_) ibv_close_device(port_.context);
    munmap(memory_, kBytes);
  }
  End(const End&) = delete;
  End& operator=(const End&) = delete;

  const Port& port() const { return port_; }

  // ---------------------------------------------- the server's

  void take_messages() {
    ibv_wc wc;
    while (ibv_poll_cq(cq_, 1, &wc) == 1) {
      if (wc.status != IBV_WC_SUCCESS || wc.opcode != IBV_WC_RECV || wc.byte_len != kPart ||
          check_pattern(memory_ + kMessages + wc.wr_id * kPart, kPart, kSendSeed + received_) >=
              0) {
        std::printf("message %u: %s, %u bytes, or not what was to come\n", received_,
                    ibv_wc_status_str(wc.status), wc.byte_len);
        good_ = false;
      }
      ++received_;
      if (wc.status == IBV_WC_SUCCESS) post_receive(static_cast<unsigned>(wc.wr_id));
    }
  }

  // False: the client has ended. Its last line says what it has done.
  bool serve() {
    take_messages();
    std::string line;
    switch (control_.poll_line(&line)) {
      case Control::Got::kNothing:
        return true;
      case Control::Got::kClosed:
        good_ = false;
        return false;
      case Control::Got::kLine:
        break;
    }
    unsigned sends = 0, writes = 0, adds = 0;
    if (std::sscanf(line.c_str(), "bye %u %u %u", &sends, &writes, &adds) != 3) {
      // An echo, for those who want to see that TCP lives.
      control_.send(line);
      return true;
    }
    take_messages();
    std::uint64_t word = 0;
    std::memcpy(&word, memory_ + kWord, sizeof(word));
    good_ = good_ && sends == received_ && word == adds &&
            (writes == 0 || check_pattern(memory_ + kWrite, kPart, kWriteSeed + writes - 1) < 0);
    std::printf("client of QP %#x: %u of %u messages, word %" PRIu64 " of %u: %s\n", qp_->qp_num,
                received_, sends, word, adds, good_ ? "good" : "bad");
    std::fflush(stdout);
    control_.send(good_ ? "good" : "bad");
    return false;
  }

  bool good() const { return good_; }

  // ---------------------------------------------- the client's

  // One line of standard input.
  void act(const std::string& what) {
    ibv_sge sge = {address(kRead), kPart, mr_->lkey};
    ibv_send_wr wr = {}, *bad = nullptr;
    wr.sg_list = &sge;
    wr.num_sge = 1;
    wr.send_flags = IBV_SEND_SIGNALED;
    wr.wr.rdma = {remote_ + kRead, rkey_};
    if (what == "send") {
      wr.opcode = IBV_WR_SEND;
      sge.addr = address(kMessages);
      fill_pattern(memory_ + kMessages, kPart, kSendSeed + sends_++);
    } else if (what == "write") {
      wr.opcode = IBV_WR_RDMA_WRITE;
      sge.addr = address(kWrite);
      wr.wr.rdma.remote_addr = remote_ + kWrite;
      fill_pattern(memory_ + kWrite, kPart, kWriteSeed + writes_++);
    } else if (what == "read") {
      wr.opcode = IBV_WR_RDMA_READ;
      std::memset(memory_ + kRead, 0, kPart);
    } else if (what == "add") {
      wr.opcode = IBV_WR_ATOMIC_FETCH_AND_ADD;
      sge.length = 8;
      wr.wr.atomic = {remote_ + kWord, 1, 0, rkey_};
      ++adds_;
    } else if (what == "trespass") {
      wr.opcode = IBV_WR_RDMA_WRITE;
      wr.wr.rdma.rkey = ~rkey_;
    } else if (what == "tcp") {
      control_.send("are you there?");
      std::printf("tcp: %s\n", control_.line() == "are you there?" ? "success" : "garbled");
      std::fflush(stdout);
      return;
    } else {
      die("what is \"%s\"?", what.c_str());
    }
    const std::uint64_t start = now_ns();
    if (ibv_post_send(qp_, &wr, &bad) != 0) die("ibv_post_send: %s", std::strerror(errno));
    std::printf("%s: posted\n", what.c_str());
    std::fflush(stdout);
    ibv_wc wc;
    while (ibv_poll_cq(cq_, 1, &wc) == 0) usleep(1000);
    const char* result = ibv_wc_status_str(wc.status);
    if (wc.status == IBV_WC_SUCCESS && what == "read" &&
        check_pattern(memory_ + kRead, kPart, kReadSeed) >= 0) {
      result = "wrong data";
    }
    std::uint64_t old = adds_ - 1;
    if (wc.status == IBV_WC_SUCCESS && what == "add") std::memcpy(&old, memory_ + kRead, 8);
    if (old != adds_ - 1) result = "wrong value";
    good_ = good_ && std::strcmp(result, ibv_wc_status_str(IBV_WC_SUCCESS)) == 0;
    std::printf("%s: %s after %.0f ms\n", what.c_str(), result,
                static_cast<double>(now_ns() - start) / 1e6);
    std::fflush(stdout);
  }

  bool end() {
    control_.send("bye " + std::to_string(sends_) + " " + std::to_string(writes_) + " " +
                  std::to_string(adds_));
    good_ = control_.line() == "good" && good_;
    std::printf("verdict: %s\n", good_ ? "good" : "bad");
    return good_;
  }

 private:
  std::uint64_t address(std::size_t offset) const {
    return reinterpret_cast<std::uint64_t>(memory_) + offset;
  }

  void post_receive(unsigned i) {
    ibv_sge sge = {address(kMessages + i * kPart), kPart, mr_->lkey};
    ibv_recv_wr wr = {}, *bad = nullptr;
    wr.wr_id = i;
    wr.sg_list = &sge;
    wr.num_sge = 1;
    if (ibv_post_recv(qp_, &wr, &bad) != 0) die("ibv_post_recv: %s", std::strerror(errno));
  }

  // "ready" once the other side can be spoken to.
  void connect(const Options& options) {
    const bool server = options.host.empty();
    if (server) {
      fill_pattern(memory_ + kRead, kPart, kReadSeed);
      for (unsigned i = 0; i < kReceives; ++i) post_receive(i);
    }
    const std::uint32_t psn = static_cast<std::uint32_t>(mix(now_ns() + qp_->qp_num)) & 0xffffff;
    char line[160];
    int n = std::snprintf(line, sizeof(line), "qp %x %x %" PRIx64 " %x ", qp_->qp_num, psn,
                          address(0), mr_->rkey);
    for (const unsigned char byte : port_.gid.raw) {
      n += std::snprintf(line + n, sizeof(line) - static_cast<std::size_t>(n), "%02x", byte);
    }
    control_.send(line);
    const std::string said = control_.line();
    Peer peer;
    char gid[40] = "";
    if (std::sscanf(said.c_str(), "qp %x %x %" SCNx64 " %x %32s", &peer.qpn, &peer.psn, &remote_,
                    &rkey_, gid) != 5) {
      die("the peer says \"%s\"", said.c_str());
    }
    for (unsigned i = 0; i < 16; ++i) {
      unsigned byte = 0;
      if (std::sscanf(gid + 2 * i, "%2x", &byte) != 1) die("the peer's GID is \"%s\"", gid);
      peer.gid.raw[i] = static_cast<unsigned char>(byte);
    }
    PathOptions path;
    path.timeout = static_cast<std::uint8_t>(options.timeout);
    path.retry_cnt = static_cast<std::uint8_t>(options.retry);
    if (to_rtr(qp_, port_, peer, path) != 0) die("QP to RTR: %s", std::strerror(errno));
    if (to_rts(qp_, psn, path) != 0) die("QP to RTS: %s", std::strerror(errno));
    control_.send("ready");
    if (control_.line() != "ready") die("the peer is not ready");
    std::printf("ready, QP %#x\n", qp_->qp_num);
    std::fflush(stdout);
  }

  Control control_;
  bool inherits_;
  Port port_;
  unsigned char* memory_ = nullptr;
  ibv_pd* pd_ = nullptr;
  ibv_mr* mr_ = nullptr;
  ibv_cq* cq_ = nullptr;
  ibv_qp* qp_ = nullptr;
  std::uint64_t remote_ = 0;
  std::uint32_t rkey_ = 0;
  unsigned received_ = 0, sends_ = 0, writes_ = 0;
  std::uint64_t adds_ = 0;
  bool good_ = true;
};

// A child with a connection of its own on its parent's context.
[[noreturn]] void serve_as_child(int fd, const Options& options, const Port& port) {
  bool good = false;
  {
    End end(fd, options, &port);
    while (end.serve()) usleep(10'000);
    good = end.good();
  }
  _exit(good ? 0 : 1);
}

// Until the last client has ended.
int serve(const Options& options) {
  const int listener = listen_once(options.port, 16);
  must_have_device({});
  std::printf("waiting on port %s\n", options.port.c_str());
  std::fflush(stdout);
  std::vector<std::unique_ptr<End>> clients;
  unsigned children = 0;
  bool good = true, any = false;
  while (!any || !clients.empty()) {
    pollfd wait = {listener, POLLIN, 0};
    if (poll(&wait, 1, clients.empty() ? -1 : 10) == 1) {
      const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) die("accept: %s", std::strerror(errno));
      if (options.fork && !clients.empty()) {
        const pid_t child = fork();
        if (child < 0) die("fork: %s", std::strerror(errno));
        if (child == 0) serve_as_child(fd, options, clients.front()->port());
        close(fd);
        ++children;
      } else {
        clients.push_back(std::make_unique<End>(fd, options));
      }
      any = true;
    }
    std::erase_if(clients, [&](const std::unique_ptr<End>& one) {
      if (one->serve()) return false;
      good = good && one->good();
      return true;
    });
  }
  close(listener);
  for (; children > 0; --children) {
    int status = -1;
    good = wait(&status) > 0 && status == 0 && good;
  }
  std::printf("verdict: %s\n", good ? "good" : "bad");
  return good ? 0 : 1;
}

int speak_when_told(const Options& options) {
  End end(connect_to(options.host, options.port, 30), options);
  char line[64];
  while (std::fgets(line, sizeof(line), stdin) != nullptr) {
    line[std::strcspn(line, "\n")] = 0;
    end.act(line);
  }
  return end.end() ? 0 : 1;
}

constexpr const char* kHelp =
    "usage: godwit-quiet [options]            server; ends after its last client\n"
    "       godwit-quiet [options] HOST       client\n"
    "\n"
    "One queue pair per client, which is silent until a line comes on standard input:\n"
    "send, write, read or add posts one such request and waits for its completion;\n"
    "trespass posts a WRITE with a key that is not the server's, which ends the connection;\n"
    "tcp asks over the TCP connection. At the end of the input both sides compare.\n"
    "\n"
    "  --timeout N   ACK timeout, 4.096 us << N (14)\n"
    "  --retry N     retries (7)\n"
    "  --port PORT   of the TCP connection (18519)\n"
    "  --fork        the server forks for each client but the first\n"
    "\n"
    "Exit code 0: all was good; 1: not; 2: could not run.\n";

Options parse(int argc, char** argv) {
  Options options;
  const option longs[] = {{"timeout", 1, nullptr, 't'}, {"retry", 1, nullptr, 'r'},
                          {"port", 1, nullptr, 'p'},    {"fork", 0, nullptr, 'f'},
                          {"help", 0, nullptr, 'h'},    {nullptr, 0, nullptr, 0}};
  opterr = 0;
  for (int c; (c = getopt_long(argc, argv, "h", longs, nullptr)) != -1;) {
    switch (c) {
      case 't':
        options.timeout = static_cast<unsigned>(parse_number("--timeout", optarg, 0, 31));
        break;
      case 'r':
        options.retry = static_cast<unsigned>(parse_number("--retry", optarg, 0, 7));
        break;
      case 'p':
        options.port = std::to_string(parse_number("--port", optarg, 1, 65535));
        break;
      case 'f':
        options.fork = true;
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
  const Options options = parse(argc, argv);
  return options.host.empty() ? serve(options) : speak_when_told(options);
}
