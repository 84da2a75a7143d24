// SPDX-License-Identifier: GPL-2.0-or-later
//
// Debian's own verbs programs between two guests, and within one.
#include <nlohmann/json.hpp>

#include "guests.h"

namespace godwit::vm {
namespace {

class Verbs : public GuestTest {
 protected:
  // One program as server on one guest and as client on the other.
  static Talk both(const std::string& program, const std::string& options,
                   const std::string& server, const std::string& client, bool ipv6 = false) {
    const int port = fresh_port();
    const auto address = [ipv6](const std::string& guest) { return ipv6 ? ip6_of(guest) : ip_of(guest); };
    const bool pingpong = program.rfind("ibv_", 0) == 0;
    // -u 18: a second until a packet is sent again, for a host that is busy
    const auto command = [&](const std::string& guest) {
      return program + (pingpong ? " -d godwit0 -g " : " -F -u 18 -d godwit0 -x ") +
             std::to_string(gid_index(guest, "godwit0", address(guest))) + " -p " +
             std::to_string(port) + " " + options;
    };
    return talk({server, command(server)}, {client, command(client) + " " + ip_of(server)}, port);
  }
};

struct PingPong {
  const char* name;
  const char* options;
  bool ipv6;
};

class PingPongs : public Verbs, public testing::WithParamInterface<PingPong> {};

TEST_P(PingPongs, EveryByteArrives) {
  EXPECT_TRUE(good(both("ibv_rc_pingpong", std::string("-c -n 300 -s 6000 ") + GetParam().options, kHome,
                        kAway, GetParam().ipv6)));
}

INSTANTIATE_TEST_SUITE_P(
    Verbs, PingPongs,
    testing::Values(PingPong{"Mtu256", "-m 256", false}, PingPong{"Mtu1024Events", "-m 1024 -e", false},
                    PingPong{"Mtu4096", "-m 4096", false},
                    PingPong{"Ipv6Mtu256Events", "-m 256 -e", true},
                    PingPong{"Ipv6Mtu1024", "-m 1024", true},
                    PingPong{"Ipv6Mtu4096NewPost", "-m 4096 -N", true}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(Verbs, QueuePairsOfOneNicTalkToEachOther) {
  EXPECT_TRUE(good(both("ibv_rc_pingpong", "-c -m 1024 -n 300", kPeer, kPeer)));
}

struct Perftest {
  const char* name;
  const char* program;
  const char* options;
};

class Perftests : public Verbs, public testing::WithParamInterface<Perftest> {};

TEST_P(Perftests, Completes) {
  EXPECT_TRUE(good(both(GetParam().program, GetParam().options, kAway, kHome)));
}

INSTANTIATE_TEST_SUITE_P(
    Verbs, Perftests,
    testing::Values(Perftest{"WriteBandwidth", "ib_write_bw", "-n 300 -s 65536 -q 4"},
                    Perftest{"WriteBandwidthBothWays", "ib_write_bw", "-n 300 -s 4096 -b"},
                    Perftest{"ReadBandwidth", "ib_read_bw", "-n 200 -s 65536 -o 8"},
                    Perftest{"SendBandwidthBothWays", "ib_send_bw", "-n 500 -s 4096 -b"},
                    Perftest{"SendBandwidthEvents", "ib_send_bw", "-n 500 -s 4096 -e"},
                    Perftest{"SendBandwidthAllSizes", "ib_send_bw", "-n 20 -a"},
                    Perftest{"WriteLatency", "ib_write_lat", "-n 500 -s 16"},
                    Perftest{"ReadLatency", "ib_read_lat", "-n 300 -s 4096"},
                    Perftest{"CompareAndSwap", "ib_atomic_bw", "-n 500 -A CMP_AND_SWAP"},
                    Perftest{"FetchAndAdd", "ib_atomic_bw", "-n 500 -A FETCH_AND_ADD -o 4"}),
    [](const auto& info) { return std::string(info.param.name); });

class Verify : public Verbs, public testing::WithParamInterface<const char*> {};

// All operations both ways at once; sequence numbers, check sums and counters of
// atomics prove that each is done exactly once and in order.
TEST_P(Verify, FindsEverythingExactlyOnceAndInOrder) {
  const std::string options =
      std::string(GetParam()) + " --json - --port " + std::to_string(fresh_port());
  const int port = std::stoi(options.substr(options.rfind(' ')));
  const Talk both = talk({kHome, "godwit-verify " + options},
                         {kPeer, "godwit-verify --duration 5 " + options + " " + ip_of(kHome)}, port);
  EXPECT_TRUE(good(both));
  for (const std::string& said : {both.server.out, both.client.out}) {
    EXPECT_NE(said.find("verdict: good"), std::string::npos) << said;
    const std::size_t begin = said.find("{\"role\"");
    ASSERT_NE(begin, std::string::npos) << said;
    const auto json = nlohmann::json::parse(said.substr(begin, said.find('\n', begin) - begin));
    EXPECT_EQ(json["verdict"], "good");
    for (const auto& [kind, count] : json["operations"].items()) {
      EXPECT_GT(count.get<int>(), 0) << kind << " was not tried";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Verbs, Verify, testing::Values("", "--events"),
                         [](const auto& info) { return *info.param == 0 ? "Polling" : "Events"; });

}  // namespace
}  // namespace godwit::vm
