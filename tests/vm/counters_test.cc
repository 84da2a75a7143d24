// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the NIC counts, against what tshark finds in a capture of its wire: the same, to the frame
// and to the byte.
#include <algorithm>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "command.h"
#include "counters.h"
#include "guests.h"
#include "plan.h"

namespace godwit::vm {
namespace {

using lab::Counters;
using lab::read_counters;

constexpr unsigned kPathMtu = 4096;  // of an interface with MTU 4200

struct Frame {
  bool sent = false;  // by the NIC
  std::uint64_t length = 0;
  std::string to;
  bool roce = false;
  unsigned opcode = 0, qpn = 0, psn = 0, syndrome = 0;
  std::uint64_t payload = 0;
  unsigned psns = 1;  // that it takes of its requester

  [[nodiscard]] bool request() const {
    return roce && (opcode <= 0x0c || opcode == 0x13 || opcode == 0x14);
  }
};

// Without a value: nothing on the wire says what it must be.
using Expected = std::array<std::optional<std::uint64_t>, GODWIT_COUNTER_COUNT>;

class NicCounters : public GuestTest {
 protected:
  struct Seen {
    Counters rise;
    std::vector<Frame> frames;
  };

  // Everything that is captured is counted, and the other way round: at the beginning and at the
  // end of the capture nothing came. ARP, neighbour discovery and the like may, and then it is done
  // again.
  static Seen watch(const std::function<void()>& work) {
    const std::string file = the_lab().folder() + "/counters.pcap";
    for (int i = 0; i < 5; ++i) {
      std::filesystem::remove(file);
      wait_until_quiet();
      const Counters before = read_counters(the_lab(), kHome);
      the_lab().capture_start(kHome, file);
      const bool quiet_before = read_counters(the_lab(), kHome) == before;
      if (quiet_before) work();
      if (testing::Test::HasFailure()) break;
      wait_until_quiet();
      const Counters after = read_counters(the_lab(), kHome);
      the_lab().capture_stop(kHome);
      if (!quiet_before || read_counters(the_lab(), kHome) != after) continue;
      Seen seen{lab::difference(after, before), frames_in(file)};
      std::filesystem::remove(file);
      return seen;
    }
    throw std::runtime_error("the wire did not become quiet, or the load has failed");
  }

  static void wait_until_quiet() {
    Counters last = read_counters(the_lab(), kHome);
    for (int i = 0; i < 100; ++i) {
      usleep(300'000);
      const Counters now = read_counters(the_lab(), kHome);
      if (now == last) return;
      last = now;
    }
  }

  static std::vector<Frame> frames_in(const std::string& file) {
    static const std::vector<std::string> kFields = {"frame.len",
                                                     "eth.src",
                                                     "eth.dst",
                                                     "infiniband.bth.opcode",
                                                     "infiniband.bth.destqp",
                                                     "infiniband.bth.psn",
                                                     "infiniband.bth.padcnt",
                                                     "infiniband.aeth.syndrome",
                                                     "udp.length",
                                                     "infiniband.reth.dmalen",
                                                     "infiniband.aeth",
                                                     "infiniband.atomiceth",
                                                     "infiniband.atomicacketh",
                                                     "infiniband.immdt"};
    // Of an ICMP error the first of each field is its own.
    Argv argv = {"tshark", "-r", file, "-T", "fields", "-E", "separator=|", "-E", "occurrence=f"};
    for (const std::string& field : kFields) argv.insert(argv.end(), {"-e", field});
    const HostResult tshark = run_on_host(argv, 300);
    if (tshark.code != 0) throw std::runtime_error(tshark.err);
    std::vector<Frame> frames;
    std::istringstream lines(tshark.out);
    for (std::string line; std::getline(lines, line);) {
      std::vector<std::string> field;
      std::istringstream parts(line + "|");
      for (std::string part; std::getline(parts, part, '|');) field.push_back(part);
      field.resize(kFields.size());
      const auto number = [&](std::size_t i) {
        return static_cast<unsigned>(std::stoul(field[i], nullptr, 0));
      };
      Frame frame;
      frame.length = number(0);
      frame.sent = field[1] == lab::nic_mac(lab::guest_index(kHome));
      frame.to = field[2];
      frame.roce = !field[3].empty();
      if (frame.roce) {
        frame.opcode = number(3);
        frame.qpn = number(4);
        frame.psn = number(5);
        if (!field[7].empty()) frame.syndrome = number(7);
        const unsigned headers = (field[9].empty() ? 0 : 16) + (field[10].empty() ? 0 : 4) +
                                 (field[11].empty() ? 0 : 28) + (field[12].empty() ? 0 : 8) +
                                 (field[13].empty() ? 0 : 4);
        frame.payload = number(8) - 8 - 12 - 4 - number(6) - headers;  // UDP, BTH, ICRC, pad
        if (frame.opcode == 0x0c) frame.psns = std::max(1u, (number(9) + kPathMtu - 1) / kPathMtu);
      }
      frames.push_back(frame);
    }
    return frames;
  }

  static std::set<std::string> multicast_of(const std::string& guest) {
    std::istringstream lines(
        must(guest, "ip maddr show dev gw0 | awk '$1 == \"link\" {print $2}'"));
    std::set<std::string> all;
    for (std::string line; std::getline(lines, line);) all.insert(line);
    return all;
  }

  static Expected on_the_wire(const std::vector<Frame>& frames) {
    std::array<std::uint64_t, GODWIT_COUNTER_COUNT> n{};
    const std::set<std::string> multicast = multicast_of(kHome);
    // The PSN after the last one that was requested, of either direction and each destination.
    std::map<std::pair<bool, unsigned>, unsigned> next;
    for (const Frame& frame : frames) {
      if (!frame.roce) {
        const bool filtered = !frame.sent && frame.to != lab::nic_mac(lab::guest_index(kHome)) &&
                              frame.to != "ff:ff:ff:ff:ff:ff" && multicast.count(frame.to) == 0;
        n[frame.sent ? GODWIT_COUNTER_ETH_TX_FRAMES
          : filtered ? GODWIT_COUNTER_ETH_RX_FILTERED
                     : GODWIT_COUNTER_ETH_RX_FRAMES]++;
        if (!filtered)
          n[frame.sent ? GODWIT_COUNTER_ETH_TX_BYTES : GODWIT_COUNTER_ETH_RX_BYTES] += frame.length;
        continue;
      }
      n[frame.sent ? GODWIT_COUNTER_TX_RDMA_PACKETS : GODWIT_COUNTER_RX_RDMA_PACKETS]++;
      n[frame.sent ? GODWIT_COUNTER_TX_RDMA_BYTES : GODWIT_COUNTER_RX_RDMA_BYTES] += frame.payload;
      if (frame.request()) {
        const auto [entry, is_new] = next.try_emplace({frame.sent, frame.qpn}, frame.psn);
        const unsigned ahead = (frame.psn - entry->second) & 0xffffff;
        const bool again = ahead >= 0x800000;
        if (again)
          n[frame.sent ? GODWIT_COUNTER_RETRANSMISSIONS : GODWIT_COUNTER_DUPLICATE_REQUEST]++;
        if (!frame.sent && !again && ahead != 0) n[GODWIT_COUNTER_OUT_OF_SEQUENCE]++;
        // What is sent counts from the highest; what is received, from what came in sequence.
        if (frame.sent ? !again : ahead == 0) entry->second = (frame.psn + frame.psns) & 0xffffff;
      } else if (frame.opcode == 0x11) {
        switch (frame.syndrome >> 5) {
          case 0:
            if (frame.sent) n[GODWIT_COUNTER_RC_ACKS_SENT]++;
            break;
          case 1:
            n[frame.sent ? GODWIT_COUNTER_RC_RNR_NAKS_SENT : GODWIT_COUNTER_RNR_NAK_RETRY_ERR]++;
            break;
          default:
            if (frame.sent) n[GODWIT_COUNTER_RC_NAKS_SENT]++;
            if (!frame.sent && frame.syndrome == 0x60) n[GODWIT_COUNTER_PACKET_SEQ_ERR]++;
            if (frame.syndrome == 0x62) {
              n[frame.sent ? GODWIT_COUNTER_RESP_REMOTE_ACCESS_ERRORS
                           : GODWIT_COUNTER_REQ_REMOTE_ACCESS_ERRORS]++;
            }
        }
      }
    }
    Expected expected;
    std::copy(n.begin(), n.end(), expected.begin());
    // Timers, and what programs are told.
    for (const unsigned silent :
         {GODWIT_COUNTER_LOCAL_ACK_TIMEOUT_ERR, GODWIT_COUNTER_REQ_CQE_ERROR,
          GODWIT_COUNTER_REQ_CQE_FLUSH_ERROR, GODWIT_COUNTER_RESP_CQE_ERROR,
          GODWIT_COUNTER_RESP_CQE_FLUSH_ERROR}) {
      expected[silent].reset();
    }
    return expected;
  }

  static std::vector<std::string> names() {
    std::istringstream lines(must(kHome, "ethtool -S gw0 | sed -n 's/^ *\\(.*\\): .*/\\1/p'"));
    std::vector<std::string> all;
    for (std::string line; std::getline(lines, line);) all.push_back(line);
    all.resize(GODWIT_COUNTER_COUNT);
    return all;
  }

  static void expect_equal(const Counters& counted, const Expected& expected) {
    const std::vector<std::string> name = names();
    for (unsigned i = 0; i < GODWIT_COUNTER_COUNT; ++i) {
      EXPECT_EQ(counted[i], expected[i].value_or(counted[i])) << name[i];
    }
  }

  // Between home, whose wire is looked at, and away.
  static Talk perftest(const std::string& program, const std::string& options,
                       const std::string& server) {
    const int port = fresh_port();
    const auto command = [&](const std::string& guest) {
      return verbs_command(program, "godwit0", gid_index(guest, "godwit0", ip_of(guest)), port,
                           options);
    };
    const std::string client = server == kHome ? kAway : kHome;
    return talk({server, command(server)}, {client, command(client) + " " + ip_of(server)}, port);
  }
};

TEST_F(NicCounters, OfEveryOperationAndOfEthernetAreThoseOfTheWire) {
  const Seen seen = watch([] {
    for (const std::string& server : {kHome, kAway}) {
      EXPECT_TRUE(good(perftest("ib_send_bw", "-b -n 50 -s 10001", server)));
      EXPECT_TRUE(good(perftest("ib_write_bw", "-b -n 50 -s 9999", server)));
      EXPECT_TRUE(good(perftest("ib_read_bw", "-b -n 50 -s 10002", server)));
      EXPECT_TRUE(good(perftest("ib_atomic_bw", "-n 50", server)));
    }
    const int port = fresh_port();
    const std::string verify = "godwit-verify --timeout 18 --port " + std::to_string(port) + " ";
    EXPECT_TRUE(
        good(talk({kHome, verify}, {kAway, verify + "--duration 1 " + ip6_of(kHome)}, port)));
    must(kAway, "ping -q -i 0.05 -c 20 -s 3000 " + ip_of(kHome) +
                    " && ping -q -i 0.05 -c 20 -s 5 " + ip6_of(kHome));
    must(kHome, "ping -q -i 0.05 -c 20 -s 100 " + ip_of(kAway));
    // Nobody has joined this group, everybody that one.
    must(kPeer,
         "ping -q -i 0.05 -c 5 -W 1 -I gw0 239.67.68.69 || true; ping -q -i 0.05 -c 5 -W 1 -I gw0 "
         "ff02::1");
  });
  const Expected expected = on_the_wire(seen.frames);
  for (const unsigned counter :
       {GODWIT_COUNTER_RX_RDMA_BYTES, GODWIT_COUNTER_TX_RDMA_BYTES, GODWIT_COUNTER_RC_ACKS_SENT,
        GODWIT_COUNTER_ETH_RX_BYTES, GODWIT_COUNTER_ETH_TX_BYTES, GODWIT_COUNTER_ETH_RX_FILTERED}) {
    EXPECT_GT(*expected[counter], 0u) << names()[counter];
  }
  expect_equal(seen.rise, expected);

  // What the guest is told is what the NIC has.
  const Counters now = read_counters(the_lab(), kHome);
  std::istringstream told(must(kHome, "ethtool -S gw0 | sed -n 's/^ *.*: //p'"));
  ASSERT_EQ(read_counters(the_lab(), kHome), now) << "the wire is not quiet";
  for (unsigned i = 0; i < GODWIT_COUNTER_COUNT; ++i) {
    std::uint64_t value = 0;
    EXPECT_TRUE(told >> value);
    EXPECT_EQ(value, now[i]) << names()[i];
  }
}

TEST_F(NicCounters, OfRefusalsAreThoseOfTheWire) {
  const Seen seen = watch([] {
    for (const std::string& server : {kHome, kAway}) {
      const std::string client = server == kHome ? kAway : kHome;
      // One receive at a time, and many messages.
      EXPECT_TRUE(good(perftest("ib_send_bw", "-n 50 -s 64 -r 1", server)));
      const int port = fresh_port();
      const std::string quiet = "godwit-quiet --port " + std::to_string(port) + " ";
      const Talk both =
          talk({server, quiet}, {client, "echo trespass | " + quiet + ip_of(server)}, port);
      EXPECT_NE(both.client.out.find("trespass: remote access error"), std::string::npos)
          << both.client.out;
    }
  });
  Expected expected = on_the_wire(seen.frames);
  for (const unsigned counter : {GODWIT_COUNTER_RC_RNR_NAKS_SENT, GODWIT_COUNTER_RNR_NAK_RETRY_ERR,
                                 GODWIT_COUNTER_RETRANSMISSIONS}) {
    EXPECT_GT(*expected[counter], 0u) << names()[counter];
  }
  EXPECT_EQ(expected[GODWIT_COUNTER_RESP_REMOTE_ACCESS_ERRORS], 1u);
  EXPECT_EQ(expected[GODWIT_COUNTER_REQ_REMOTE_ACCESS_ERRORS], 1u);
  // A request that no receive was there for is still the next one, and the wire does not say so.
  expected[GODWIT_COUNTER_OUT_OF_SEQUENCE].reset();
  expected[GODWIT_COUNTER_DUPLICATE_REQUEST].reset();
  expect_equal(seen.rise, expected);
}

// What away sends, and what is sent to it, is lost some times.
TEST_F(NicCounters, OfWhatIsLostAndSentAgainAreThoseOfTheWire) {
  const Seen seen = watch([&] {
    const int port = fresh_port();
    const std::string verify =
        "godwit-verify --size 9000 --pause 2 --timeout 15 --port " + std::to_string(port) + " ";
    const auto server = launch(kHome, verify);
    wait_for_listener(kHome, port);
    const auto client = launch(kAway, verify + "--duration 0 " + ip_of(kHome));
    const Counters before = read_counters(the_lab(), kHome);
    for (int i = 0; i < 20; ++i) {
      wait_for_figures(*client);
      const Counters rise = lab::difference(read_counters(the_lab(), kHome), before);
      if (i >= 3 && rise[GODWIT_COUNTER_RETRANSMISSIONS] > 0) break;
      set_cable(kAway, false);
      usleep(60'000);
      set_cable(kAway, true);
    }
    client->signal(2);
    const Talk both = {server->wait(60), client->wait(60)};
    EXPECT_TRUE(good(both));
  });
  Expected expected = on_the_wire(seen.frames);
  // Duplicates are there only if a cable was pulled between a request and its answer.
  EXPECT_GT(*expected[GODWIT_COUNTER_RETRANSMISSIONS], 0u);
  // Which of the responses was waited for is the requester's matter.
  expected[GODWIT_COUNTER_IMPLIED_NAK_SEQ_ERR].reset();
  expect_equal(seen.rise, expected);
}

}  // namespace
}  // namespace godwit::vm
