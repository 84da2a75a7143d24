// SPDX-License-Identifier: GPL-2.0-or-later
//
// Who may move a QP: packets that a third guest forges or sends again, and processes and containers
// that call what they may not. What the transport does with each of them is in tests/unit; here the
// connections are real, and must not notice.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <regex>
#include <vector>

#include "command.h"
#include "counters.h"
#include "move.h"
#include "plan.h"

namespace godwit::vm {
namespace {

using lab::Counters;
using Rise = std::map<unsigned, std::uint64_t>;

// ------------------------------------------------ a third guest that sends what it likes

// Of RoCEv2 packets, every reason to drop one, and all of the migration protocol.
constexpr unsigned kWatched[] = {GODWIT_COUNTER_RX_ICRC_ENCAPSULATED,
                                 GODWIT_COUNTER_RX_MALFORMED,
                                 GODWIT_COUNTER_RX_NO_QP,
                                 GODWIT_COUNTER_RX_BAD_ADDRESS,
                                 GODWIT_COUNTER_RX_BAD_PKEY,
                                 GODWIT_COUNTER_RX_NAK_STOPPED,
                                 GODWIT_COUNTER_TX_NAK_STOPPED,
                                 GODWIT_COUNTER_RX_RESUME,
                                 GODWIT_COUNTER_TX_RESUME,
                                 GODWIT_COUNTER_RX_RESUME_ACK,
                                 GODWIT_COUNTER_TX_RESUME_ACK,
                                 GODWIT_COUNTER_RESUME_ACCEPTED,
                                 GODWIT_COUNTER_RESUME_BAD_VERSION,
                                 GODWIT_COUNTER_RESUME_BAD_TOKEN,
                                 GODWIT_COUNTER_RESUME_BAD_ADDRESS,
                                 GODWIT_COUNTER_RESUME_STALE_EPOCH,
                                 GODWIT_COUNTER_RESUME_RATE_LIMITED,
                                 GODWIT_COUNTER_RESUME_ACK_UNEXPECTED,
                                 GODWIT_COUNTER_NAK_STOPPED_IGNORED,
                                 GODWIT_COUNTER_PAUSE_LIMIT_EXCEEDED};

Counters counters(const std::string& guest) { return lab::read_counters(the_lab(), guest); }

// tests/vm/forge in a guest.
class Forger {
 public:
  explicit Forger(std::string guest) : guest_(std::move(guest)) {
    const std::filesystem::path here = std::filesystem::path(GODWIT_CHECK_ICRC).parent_path();
    must(guest_, std::string("mkdir -p ") + kFolder);
    for (const char* name : {"forge", "roce.py"}) {
      std::ifstream in(here / name, std::ios::binary);
      the_lab().put(guest_, std::string(kFolder) + "/" + name,
                    std::string(std::istreambuf_iterator<char>(in), {}));
    }
    process_ = the_lab().start(guest_, {"python3", std::string(kFolder) + "/forge", "gw0"});
    process_->wait_for_line([](const std::string& line) { return line == "ready"; }, 90);
  }
  ~Forger() {
    try {
      process_->write("");
      EXPECT_EQ(process_->wait(30).code, 0) << process_->output();
      must(guest_, std::string("rm -rf ") + kFolder);
    } catch (const std::exception& error) {
      ADD_FAILURE() << error.what();
    }
  }
  Forger(const Forger&) = delete;
  Forger& operator=(const Forger&) = delete;

  // From this guest to a QP of another; `more` says what is to be otherwise.
  Json frame(const char* what, const std::string& to, std::uint32_t qpn, const Json& more) const {
    Json made = {{"what", what},
                 {"src_mac", lab::nic_mac(lab::guest_index(guest_))},
                 {"dst_mac", lab::nic_mac(lab::guest_index(to))},
                 {"src", ip_of(guest_)},
                 {"dst", ip_of(to)},
                 {"qpn", qpn}};
    made.update(more);
    return made;
  }

  void send(const Json& frames) {
    process_->write(frames.dump() + "\n");
    process_->wait_for_line([](const std::string& line) { return line.rfind("sent ", 0) == 0; },
                            30);
  }

 private:
  static constexpr char kFolder[] = "/tmp/forge";
  std::string guest_;
  std::unique_ptr<Process> process_;
};

// One QP of a connection, as both ends know it.
struct Victim {
  std::string ip;
  std::uint32_t qpn = 0, psn = 0;
};

// From the TCP connection by which two godwit-verify agree; and frames of an opcode.
struct Capture {
  struct Frame {
    std::string bytes;
    [[nodiscard]] std::uint8_t at(std::size_t i) const {
      return static_cast<std::uint8_t>(bytes[i]);
    }
    [[nodiscard]] std::string source() const {
      return std::to_string(at(26)) + "." + std::to_string(at(27)) + "." + std::to_string(at(28)) +
             "." + std::to_string(at(29));
    }
    [[nodiscard]] std::string hex() const {
      std::string text;
      char two[3];
      for (const char byte : bytes) {
        snprintf(two, sizeof(two), "%02x", static_cast<unsigned char>(byte));
        text += two;
      }
      return text;
    }
  };

  explicit Capture(const std::string& file) {
    std::ifstream in(file, std::ios::binary);
    in.ignore(24);
    std::uint32_t header[4];
    while (in.read(reinterpret_cast<char*>(header), sizeof(header))) {
      Frame frame;
      frame.bytes.resize(header[2]);
      in.read(frame.bytes.data(), header[2]);
      // IPv4 without options
      if (frame.bytes.size() > 42 && frame.at(12) == 8 && frame.at(13) == 0 &&
          frame.at(14) == 0x45) {
        frames.push_back(frame);
      }
    }
  }

  // QP number 0 of the end with this address.
  [[nodiscard]] Victim victim(const std::string& ip) const {
    static const std::regex kLine("qp 0 ([0-9a-f]+) ([0-9a-f]+)\n");
    for (const Frame& frame : frames) {
      std::smatch match;
      if (frame.at(23) != 6 || frame.source() != ip ||
          !std::regex_search(frame.bytes, match, kLine))
        continue;
      Victim v;
      v.ip = ip;
      v.qpn = static_cast<std::uint32_t>(std::stoul(match[1], nullptr, 16));
      v.psn = static_cast<std::uint32_t>(std::stoul(match[2], nullptr, 16));
      return v;
    }
    throw std::runtime_error("no QP of " + ip + " in the capture");
  }

  [[nodiscard]] std::optional<Frame> roce(std::uint8_t opcode, const std::string& from) const {
    for (const Frame& frame : frames) {
      if (frame.at(23) != 17 || frame.at(36) != 0x12 || frame.at(37) != 0xb7 ||
          frame.bytes.size() < 58)
        continue;
      if (frame.at(42) == opcode && frame.source() == from) return frame;
    }
    return std::nullopt;
  }

  std::vector<Frame> frames;
};

class Guard : public Move {
 protected:
  void TearDown() override {
    std::filesystem::remove(capture_file());
    Move::TearDown();
  }

  static std::string capture_file() { return lab_folder() + "/guard.pcap"; }

  // Sends, and sees which counters of the victim's NIC rise, and that no others do.
  static void expect(Forger& forger, const std::string& victim, const Json& frames,
                     const Rise& rise) {
    const Counters before = counters(victim);
    forger.send(frames);
    Counters now{};
    const auto reached = [&] {
      now = counters(victim);
      return std::all_of(rise.begin(), rise.end(), [&](const auto& one) {
        return now[one.first] - before[one.first] >= one.second;
      });
    };
    for (int i = 0; i < 100 && !reached(); ++i) usleep(50'000);
    for (const unsigned counter : kWatched) {
      const auto want = rise.find(counter);
      EXPECT_EQ(now[counter] - before[counter], want == rise.end() ? 0 : want->second)
          << "counter " << counter << " of " << victim;
    }
  }

  static std::string shown(const std::string& guest, std::uint32_t qpn) {
    return must(guest, "rdma -dd resource show qp lqpn " + std::to_string(qpn));
  }

  // A container sees the QPs of all others, as the kernel's shared mode has it; but not what a
  // packet that is taken for their peer's would need. An administrator sees that, too.
  static void expect_little_is_shown(const Container& c) {
    const std::string show = "rdma -dd resource show qp; rdma -dd resource show mr";
    const std::string inside = must(c.guest, "runc exec " + c.name + " sh -c '" + show + "'");
    const std::string outside = must(c.guest, show);
    for (const char* field : {"rqpn ", "rq-psn ", "sq-psn "}) {
      const std::regex set(std::string(" ") + field + "[1-9]");
      EXPECT_FALSE(std::regex_search(inside, set)) << field << "\n" << inside;
      EXPECT_TRUE(std::regex_search(outside, set)) << field << "\n" << outside;
    }
    EXPECT_NE(inside.find("lqpn "), std::string::npos) << inside;
    EXPECT_EQ(inside.find("drv_start 0x"), std::string::npos) << inside;
    EXPECT_NE(outside.find("drv_start 0x"), std::string::npos) << outside;
    EXPECT_NE(shell(c.guest, "runc exec " + c.name + " godwit-cr list").code, 0);
  }
};

// A connection under load between home and peer; away knows everything about it but for what each
// case says. Section 4 of docs/spec/migration.md.
TEST_F(Guard, ForgedPacketsAreDroppedAndCounted) {
  Forger forger(kAway);
  the_lab().capture_start(kPeer, capture_file());
  const int port = fresh_port();
  const auto server =
      launch(kHome, "exec godwit-verify --timeout 18 --port " + std::to_string(port));
  wait_for_listener(kHome, port);
  const auto client =
      launch(kPeer, "exec godwit-verify --qps 2 --size 2048 --timeout 18 --duration 0 --port " +
                        std::to_string(port) + " " + ip_of(kHome));
  const auto transfers = [&client] { wait_for_figures(*client); };
  transfers();
  the_lab().capture_stop(kPeer);
  const Capture capture(capture_file());
  const Victim home = capture.victim(ip_of(kHome)), peer = capture.victim(ip_of(kPeer));
  const Counters away_before = counters(kAway);
  // Forged packets are of the peer, said to home.
  const std::string away_ip = ip_of(kAway);
  const auto frame = [&](const char* what, const Json& more) {
    return forger.frame(what, kHome, home.qpn, more);
  };
  const auto sign = [&](int kind, int flags, std::uint32_t epoch, const std::string& address) {
    return Json::array(
        {kind, flags, peer.qpn, home.qpn, (flags & 4) != 0 ? home.psn : peer.psn, epoch, address});
  };
  struct Case {
    const char* name;
    Json frame;
    Rise rise;
  };
  const Rise bad_token = {{GODWIT_COUNTER_RX_RESUME, 1}, {GODWIT_COUNTER_RESUME_BAD_TOKEN, 1}};
  const Rise bad_version = {{GODWIT_COUNTER_RX_RESUME, 1}, {GODWIT_COUNTER_RESUME_BAD_VERSION, 1}};
  const Rise unexpected = {{GODWIT_COUNTER_RX_RESUME_ACK, 1},
                           {GODWIT_COUNTER_RESUME_ACK_UNEXPECTED, 1}};
  const Rise ignored = {{GODWIT_COUNTER_RX_NAK_STOPPED, 1},
                        {GODWIT_COUNTER_NAK_STOPPED_IGNORED, 1}};
  Json guessed = sign(1, 0, 1, away_ip);
  guessed[4] = (peer.psn + 1) & 0xffffff;
  const Json own = sign(1, 0, 1, away_ip);  // right in all
  const std::vector<Case> cases = {
      {"random token", frame("resume", {{"token", 0x123456789abcdef}}), bad_token},
      {"token for the peer's address", frame("resume", {{"sign", sign(1, 0, 1, peer.ip)}}),
       bad_token},
      {"the same, to the peer's own address", frame("resume", {{"sign", own}, {"src", peer.ip}}),
       bad_token},
      {"signed without the PSN", frame("resume", {{"sign", guessed}}), bad_token},
      {"the other end's token",
       frame("resume", {{"sign", {1, 0, home.qpn, peer.qpn, home.psn, 1, away_ip}}}), bad_token},
      {"a RESUME_ACK's token", frame("resume", {{"sign", sign(2, 0, 1, away_ip)}}), bad_token},
      {"signed without the flag", frame("resume", {{"sign", own}, {"flags", 4}}), bad_token},
      {"another epoch than the token's", frame("resume", {{"sign", own}, {"epoch", 2}}), bad_token},
      {"version 0", frame("resume", {{"sign", own}, {"version", 0}}), bad_version},
      {"version 2", frame("resume", {{"sign", own}, {"version", 2}}), bad_version},
      {"flag HOME", frame("resume", {{"sign", sign(1, 2, 1, away_ip)}, {"flags", 2}}), bad_version},
      {"flags that are none",
       frame("resume", {{"sign", sign(1, 0xf8, 1, away_ip)}, {"flags", 0xf8}}), bad_version},
      {"reserved bytes", frame("resume", {{"sign", own}, {"reserved", 1}}), bad_version},
      {"trailing bytes", frame("resume", {{"sign", own}, {"trailing", 4}}), bad_version},
      {"MigrOS's RESUME", frame("resume", {{"bare", true}}), bad_version},
      {"IPv6",
       frame("resume", {{"sign", sign(1, 0, 1, ip6_of(kAway))},
                        {"src", ip6_of(kAway)},
                        {"dst", "::ffff:" + home.ip}}),
       {{GODWIT_COUNTER_RX_RESUME, 1}, {GODWIT_COUNTER_RESUME_BAD_ADDRESS, 1}}},
      {"stale epoch",
       frame("resume", {{"sign", sign(1, 0, 0, away_ip)}, {"epoch", 0}}),
       {{GODWIT_COUNTER_RX_RESUME, 1}, {GODWIT_COUNTER_RESUME_STALE_EPOCH, 1}}},
      {"to another address of home",
       frame("resume", {{"sign", own}, {"src", ip6_of(kAway)}, {"dst", ip6_of(kHome)}}),
       {{GODWIT_COUNTER_RX_BAD_ADDRESS, 1}}},
      {"P_Key",
       frame("resume", {{"sign", own}, {"pkey", 0x8001}}),
       {{GODWIT_COUNTER_RX_BAD_PKEY, 1}}},
      {"no such QP",
       frame("resume", {{"sign", own}, {"qpn", home.qpn ^ 0x800000}}),
       {{GODWIT_COUNTER_RX_NO_QP, 1}}},
      {"ICRC",
       frame("resume", {{"sign", own}, {"wrong_icrc", true}}),
       {{GODWIT_COUNTER_RX_ICRC_ENCAPSULATED, 1}}},
      {"RESUME_ACK unasked",
       frame("resume_ack", {{"sign", {2, 0, home.qpn, peer.qpn, home.psn, 1, home.ip}}}),
       unexpected},
      {"… from the peer's address",
       frame("resume_ack", {{"sign", {2, 0, home.qpn, peer.qpn, home.psn, 0, home.ip}},
                            {"epoch", 0},
                            {"src", peer.ip}}),
       unexpected},
      {"RESUME_ACK with any token", frame("resume_ack", {{"token", 1}}), unexpected},
      {"RESUME_ACK of MigrOS", frame("resume_ack", {{"bare", true}}), unexpected},
      {"NAK_STOPPED from elsewhere",
       frame("nak_stopped", {{"psn", home.psn}}),
       {{GODWIT_COUNTER_RX_BAD_ADDRESS, 1}}},
      {"NAK_STOPPED beyond the window",
       frame("nak_stopped", {{"psn", (home.psn + 0x700000) & 0xffffff}, {"src", peer.ip}}),
       ignored},
      {"NAK_STOPPED before the window",
       frame("nak_stopped", {{"psn", (home.psn - 0x80000) & 0xffffff}, {"src", peer.ip}}), ignored},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.name);
    expect(forger, kHome, Json::array({one.frame}), one.rise);
  }
  EXPECT_NE(shown(kHome, home.qpn).find("drv_peer_epoch 0"), std::string::npos)
      << shown(kHome, home.qpn);

  // More than 16 wrong tokens within a second, and a right one among the silence: it has to wait.
  usleep(1'100'000);
  Json flood = Json::array();
  for (int i = 0; i < 40; ++i) flood.push_back(frame("resume", {{"token", i}}));
  const Json right = frame("resume", {{"sign", sign(1, 0, 1, peer.ip)},
                                      {"src", peer.ip},
                                      {"src_mac", lab::nic_mac(lab::guest_index(kPeer))}});
  flood.push_back(right);
  expect(forger, kHome, flood,
         {{GODWIT_COUNTER_RX_RESUME, 41},
          {GODWIT_COUNTER_RESUME_BAD_TOKEN, 17},
          {GODWIT_COUNTER_RESUME_RATE_LIMITED, 24}});
  // It came with the peer's MAC: the switch has to learn again where that is.
  const std::string speak = "ping -q -c 1 -W 5 " + ip_of(kHome);
  must(kPeer, speak);
  usleep(1'100'000);
  expect(forger, kHome, Json::array({right}),
         {{GODWIT_COUNTER_RX_RESUME, 1},
          {GODWIT_COUNTER_RESUME_ACCEPTED, 1},
          {GODWIT_COUNTER_TX_RESUME_ACK, 1}});
  must(kPeer, speak);
  EXPECT_NE(shown(kHome, home.qpn).find("drv_peer_epoch 1"), std::string::npos)
      << shown(kHome, home.qpn);

  // None of it has come to the sender, and the connection is as good as it was.
  EXPECT_EQ(counters(kAway)[GODWIT_COUNTER_RX_RDMA_PACKETS],
            away_before[GODWIT_COUNTER_RX_RDMA_PACKETS]);
  transfers();
  client->signal(SIGINT);
  expect_good(client->wait(90));
  expect_good(server->wait(60));
}

// What a container has said when it moved, said again by a third guest: by bytes. The container
// leaves the guest of its peer, so that RESUME is on the wire, and comes back.
TEST_F(Guard, ReplaysOfAMoveChangeNothing) {
  Forger forger(kAway);
  const Container server = start(kHome, "server", {"godwit-verify", "--timeout", "18"});
  wait_for_log("server", "waiting on port");
  const std::string server_ip = lab::container_ip(server.number);
  const Container mover = start(kHome, "mover",
                                {"godwit-verify", "--qps", "1", "--size", "2048", "--timeout", "18",
                                 "--duration", "0", server_ip});
  wait_until_it_transfers("mover");
  expect_little_is_shown(server);
  the_lab().capture_start(kHome, capture_file());
  move_to_any_index("mover", kPeer);
  the_lab().capture_stop(kHome);
  const Capture capture(capture_file());
  const auto resume = capture.roce(0x19, lab::container_ip(mover.number));
  const auto ack = capture.roce(0x18, server_ip);
  ASSERT_TRUE(resume.has_value());
  ASSERT_TRUE(ack.has_value());
  const Counters away_before = counters(kAway);
  // All as it was but the MAC that it comes from, which is in no check sum and not in the token:
  // with the mover's own the switch would take the forger for the mover until that speaks again.
  const std::string away_mac = lab::nic_mac(lab::guest_index(kAway));
  const auto from_away = [&away_mac](Capture::Frame frame) {
    for (std::size_t i = 0; i < 6; ++i) {
      frame.bytes[6 + i] = static_cast<char>(std::stoul(away_mac.substr(3 * i, 2), nullptr, 16));
    }
    return Json::array({{{"raw", frame.hex()}}});
  };
  const Rise again = {{GODWIT_COUNTER_RX_RESUME, 1}, {GODWIT_COUNTER_TX_RESUME_ACK, 1}};
  const Rise stale = {{GODWIT_COUNTER_RX_RESUME, 1}, {GODWIT_COUNTER_RESUME_STALE_EPOCH, 1}};
  const Rise unexpected = {{GODWIT_COUNTER_RX_RESUME_ACK, 1},
                           {GODWIT_COUNTER_RESUME_ACK_UNEXPECTED, 1}};

  // The epoch is the present one: it is answered, to where the mover is, which drops the answer.
  const std::uint64_t before = counters(kPeer)[GODWIT_COUNTER_RESUME_ACK_UNEXPECTED];
  expect(forger, kHome, from_away(*resume), again);
  for (int i = 0; i < 100 && counters(kPeer)[GODWIT_COUNTER_RESUME_ACK_UNEXPECTED] == before; ++i)
    usleep(50'000);
  EXPECT_EQ(counters(kPeer)[GODWIT_COUNTER_RESUME_ACK_UNEXPECTED], before + 1);
  expect(forger, kPeer, from_away(*ack), unexpected);
  expect_it_still_transfers("mover");

  move_to_any_index("mover", kHome);  // where it came after the server
  expect(forger, kHome, from_away(*resume), stale);
  expect(forger, kHome, from_away(*ack), unexpected);
  expect_it_still_transfers("mover");
  EXPECT_EQ(counters(kAway)[GODWIT_COUNTER_RX_RDMA_PACKETS],
            away_before[GODWIT_COUNTER_RX_RDMA_PACKETS]);

  must(kHome, "pkill -INT -x -f 'godwit-verify --qps .*'");
  for (const char* name : {"mover", "server"}) expect_good_at_end(name);
}

// Two QPs of home with one request between them that is waiting for a receive.
constexpr char kWaiting[] = R"(
import sys
from pyverbs.device import Context
from pyverbs.pd import PD
from pyverbs.cq import CQ
from pyverbs.mr import MR
from pyverbs.qp import QP, QPInitAttr, QPAttr, QPCap
from pyverbs.wr import SGE, SendWR, RecvWR
from pyverbs.addr import AHAttr, GlobalRoute
import pyverbs.enums as e
index = int(sys.argv[1])
context = Context(name='godwit0')
pd, cq = PD(context), CQ(context, 8)
mr = MR(pd, 4096, e.IBV_ACCESS_LOCAL_WRITE)
a, b = (QP(pd, QPInitAttr(qp_type=e.IBV_QPT_RC, scq=cq, rcq=cq, cap=QPCap(4, 4, 1, 1, 0))) for _ in range(2))
def connect(qp, peer, psn, peer_psn):
    attr = QPAttr(port_num=1)
    attr.dest_qp_num, attr.sq_psn, attr.rq_psn = peer.qp_num, psn, peer_psn
    attr.path_mtu, attr.timeout, attr.retry_cnt, attr.rnr_retry = e.IBV_MTU_1024, 19, 7, 7
    attr.min_rnr_timer = 0
    gr = GlobalRoute(dgid=context.query_gid(1, index), sgid_index=index, hop_limit=64)
    attr.ah_attr = AHAttr(gr=gr, is_global=1, port_num=1)
    qp.to_rts(attr)
connect(a, b, 0x111, 0x222)
connect(b, a, 0x222, 0x111)
print('qpn', a.qp_num, flush=True)
for line in sys.stdin:
    if line == 'send\n':
        a.post_send(SendWR(num_sge=1, sg=[SGE(mr.buf, 8, mr.lkey)]))
    else:
        b.post_recv(RecvWR(num_sge=1, sg=[SGE(mr.buf + 2048, 8, mr.lkey)]))
        done = []
        while len(done) < 2:
            done += cq.poll(2)[1]
        print('status', [wc.status for wc in done], flush=True)
    print('done', flush=True)
)";

// Who can send from the peer's address and knows a PSN in the window pauses a QP until its ACK
// timeout, no longer; and needs a request to be under way.
TEST_F(Guard, ForgedNakStoppedCostsOneAckTimeout) {
  Forger forger(kAway);
  the_lab().put(kHome, "/tmp/waiting.py", kWaiting);
  const auto program = the_lab().start(
      kHome,
      {"python3", "/tmp/waiting.py", std::to_string(gid_index(kHome, "godwit0", ip_of(kHome)))});
  const std::string first = program->wait_for_line(
      [](const std::string& line) { return line.rfind("qpn ", 0) == 0; }, 60);
  const auto qpn = static_cast<std::uint32_t>(std::stoul(first.substr(4)));
  const auto tell = [&program](const char* what) {
    program->write(std::string(what) + "\n");
    program->wait_for_line([](const std::string& line) { return line == "done"; }, 60);
  };
  const Json nak = Json::array(
      {forger.frame("nak_stopped", kHome, qpn, {{"src", ip_of(kHome)}, {"psn", 0x111}})});
  // Nothing is outstanding.
  expect(forger, kHome, nak,
         {{GODWIT_COUNTER_RX_NAK_STOPPED, 1}, {GODWIT_COUNTER_NAK_STOPPED_IGNORED, 1}});
  const Counters before = counters(kHome);
  tell("send");
  for (int i = 0; i < 100 && counters(kHome)[GODWIT_COUNTER_RNR_NAK_RETRY_ERR] ==
                                 before[GODWIT_COUNTER_RNR_NAK_RETRY_ERR];
       ++i) {
    usleep(20'000);
  }
  expect(forger, kHome, nak, {{GODWIT_COUNTER_RX_NAK_STOPPED, 1}});
  const auto paused_at = Clock::now();
  EXPECT_NE(shown(kHome, qpn).find("drv_paused 1"), std::string::npos) << shown(kHome, qpn);
  EXPECT_EQ(counters(kHome)[GODWIT_COUNTER_PROBES], before[GODWIT_COUNTER_PROBES]);
  while (counters(kHome)[GODWIT_COUNTER_PROBES] == before[GODWIT_COUNTER_PROBES] &&
         Clock::now() - paused_at < std::chrono::seconds(20)) {
    usleep(20'000);
  }
  // timeout 19: 2.1 s; and what a busy host adds
  EXPECT_LT(Clock::now() - paused_at, std::chrono::milliseconds(4000));
  EXPECT_NE(shown(kHome, qpn).find("drv_paused 0"), std::string::npos) << shown(kHome, qpn);
  EXPECT_EQ(counters(kHome)[GODWIT_COUNTER_PROBES], before[GODWIT_COUNTER_PROBES] + 1);
  tell("receive");
  EXPECT_NE(program->output().find("status [0, 0]"), std::string::npos) << program->output();
  program->write("");
  EXPECT_EQ(program->wait(30).code, 0) << program->output();
  must(kHome, "rm /tmp/waiting.py");
}

// ------------------------------------------------ who may call the driver's methods

class Hostile : public Guard, public testing::WithParamInterface<const char*> {};

// tests/apps/godwit-hostile.cc says what each case does; each checks traffic at its end.
TEST_P(Hostile, IsWithstood) {
  const ExecResult result =
      shell(kHome, std::string("godwit-hostile --rounds 8 --case ") + GetParam(), 120);
  EXPECT_EQ(result.code, 0) << result.out;
  EXPECT_NE(result.out.find("RESULT PASS"), std::string::npos) << result.out;
}

INSTANTIATE_TEST_SUITE_P(Guard, Hostile,
                         testing::Values("nobody", "container", "userns", "restorer", "others",
                                         "verbs", "images"),
                         [](const auto& info) { return std::string(info.param); });

// Root of a container of the lab has no right to checkpoint or restore, nor does a user namespace
// inside it give one.
TEST_F(Guard, ContainerCannotCheckpointNorRestore) {
  const Containers containers(the_lab());
  const Container c = start(kHome, "hostile", {"godwit-hostile", "--case", "inside"});
  for (int i = 0; i < 300 && !containers.exit_code(c); ++i) usleep(200'000);
  EXPECT_EQ(containers.exit_code(c), 0) << containers.logs(c);
  EXPECT_NE(containers.logs(c).find("RESULT PASS"), std::string::npos) << containers.logs(c);
}

}  // namespace
}  // namespace godwit::vm
