// SPDX-License-Identifier: GPL-2.0-or-later
//
// Debian's own verbs programs between two guests, and within one.
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "guests.h"

namespace godwit::vm {
namespace {

class Verbs : public GuestTest {
 protected:
  // Index of the GID of a guest's address. It is asked once: that takes a while in an emulated
  // guest.
  int gid(const std::string& guest, bool ipv6) {
    const auto [entry, is_new] = gids_.try_emplace({guest, ipv6});
    if (is_new) entry->second = gid_index(guest, "godwit0", ipv6 ? ip6_of(guest) : ip_of(guest));
    return entry->second;
  }

  // One program as server on one guest and as client on the other.
  Talk both(const std::string& program, const std::string& options, const std::string& server,
            const std::string& client) {
    const int port = fresh_port();
    const auto command = [&](const std::string& guest) {
      return verbs_command(program, "godwit0", gid(guest, false), port, options);
    };
    return talk({server, command(server)}, {client, command(client) + " " + ip_of(server)}, port);
  }

 private:
  std::map<std::pair<std::string, bool>, int> gids_;
};

class PingPongs : public Verbs, public testing::WithParamInterface<bool> {};

// In one go, for each start of a program in an emulated guest costs more than its transfers: all
// servers wait, each on a port of its own, and the clients run one after the other.
TEST_P(PingPongs, OfEveryMtuPollingAndByEvents) {
  const bool ipv6 = GetParam();
  std::vector<std::string> variants = {"-m 1024", "-c -m 4096 -N"};
  for (const char* mtu : {"256", "512", "1024", "2048", "4096"}) {
    for (const char* events : {"", " -e"}) variants.push_back(std::string("-c -m ") + mtu + events);
  }
  std::string servers, clients, ports;
  for (const std::string& variant : variants) {
    const std::string port = std::to_string(fresh_port());
    const auto run = [&](const std::string& guest) {
      return "timeout 240 ibv_rc_pingpong -d godwit0 -n 100 -s 20000 -p " + port + " -g " +
             std::to_string(gid(guest, ipv6)) + " " + variant;
    };
    // Of bytes that are wrong it tells, and ends with 0.
    const std::string blame = " || { failed=1; echo 'failed: ibv_rc_pingpong " + variant +
                              "'; cat /tmp/pingpong-" + port + "; }\n";
    servers += run(kHome) + " > /tmp/pingpong-" + port + " 2>&1 & pids[" + port + "]=$!\n";
    clients += run(kAway) + " " + ip_of(kHome) + " > /tmp/pingpong-" + port + " 2>&1" + blame;
    ports += "wait ${pids[" + port + "]} && ! grep -q 'invalid data' /tmp/pingpong-" + port + blame;
  }
  const std::string end = "rm -f /tmp/pingpong-*; exit $failed";
  const auto serving =
      launch(kHome, "failed=0\n" + servers +
                        "for i in $(seq 1200); do\n"
                        "  [ $(ss -Hltnp | grep -c ibv_rc_pingpong) = " +
                        std::to_string(variants.size()) +
                        " ] && break; sleep 0.1\ndone\necho ready\n" + ports + end);
  serving->wait_for_line([](const std::string& line) { return line == "ready"; }, 150);
  const ExecResult client = shell(kAway, "failed=0\n" + clients + end, 240);
  EXPECT_EQ(client.code, 0) << client.out;
  if (client.code != 0) must(kHome, "pkill -x ibv_rc_pingpong || true");
  const ExecResult server = serving->wait(240);
  EXPECT_EQ(server.code, 0) << server.out;
}

INSTANTIATE_TEST_SUITE_P(Verbs, PingPongs, testing::Bool(),
                         [](const auto& info) { return info.param ? "Ipv6" : "Ipv4"; });

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
                    Perftest{"ReadBandwidth", "ib_read_bw", "-n 200 -s 65536 -o 8"},
                    Perftest{"SendBandwidthBothWays", "ib_send_bw", "-n 500 -s 4096 -b"},
                    Perftest{"CompareAndSwap", "ib_atomic_bw", "-n 500 -A CMP_AND_SWAP"},
                    Perftest{"FetchAndAdd", "ib_atomic_bw", "-n 500 -A FETCH_AND_ADD -o 4"}),
    [](const auto& info) { return std::string(info.param.name); });

// Each program of perftest, with each size: it ends with 0 also if it has left one out.
struct Sizes {
  const char* program;
  std::vector<const char*> variants;
  friend void PrintTo(const Sizes& sizes, std::ostream* out) { *out << sizes.program; }
};

class AllSizes : public Verbs, public testing::WithParamInterface<Sizes> {
 protected:
  static constexpr unsigned kIterations = 5;

  // The sizes of the lines that have all their columns, and as many iterations as were asked for.
  static std::vector<std::uint64_t> sizes_in(const std::string& output) {
    std::vector<std::uint64_t> sizes;
    std::istringstream lines(output);
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::uint64_t size = 0, iterations = 0;
      double figure = -1;
      unsigned figures = 0;
      if (!(words >> size >> iterations) || iterations != kIterations) continue;
      while (words >> figure && figure >= 0) ++figures;
      if (words.eof() && figures >= 3) sizes.push_back(size);
    }
    return sizes;
  }

  static std::vector<std::uint64_t> powers() {
    std::vector<std::uint64_t> all;
    for (std::uint64_t size = 2; size <= 8 << 20; size *= 2) all.push_back(size);
    return all;
  }

  static bool is_atomic() {
    return std::string(GetParam().program).find("atomic") != std::string::npos;
  }

  void expect_sizes(const std::string& options, const std::vector<std::uint64_t>& sizes) {
    SCOPED_TRACE(GetParam().program + (" " + options));
    const Talk done =
        both(GetParam().program, options + " -n " + std::to_string(kIterations), kAway, kHome);
    EXPECT_TRUE(good(done));
    EXPECT_EQ(sizes_in(done.client.out), sizes) << done.client.out;
  }
};

TEST_P(AllSizes, EachHasItsLine) {
  if (is_atomic()) {
    expect_sizes("", {8});
  } else {
    expect_sizes("-s 1", {1});
    expect_sizes("-a", powers());
  }
  for (const std::string variant : GetParam().variants) {
    is_atomic() ? expect_sizes(variant, {8}) : expect_sizes("-s 65536 " + variant, {65536});
  }
}

// perftest measures the processor's frequency again for each size.
using FullAllSizes = AllSizes;

TEST_P(FullAllSizes, EachHasItsLineInEachVariant) {
  for (const std::string variant : GetParam().variants) expect_sizes("-a " + variant, powers());
}

// -b: both ways; -e: by events, which ib_write_* do not know. The *_lat -e arm a CQ before they
// poll it, and then poll once: they need one event for each completion, and no more.
const Sizes kPolling[] = {{"ib_write_lat", {}}};
const Sizes kVariants[] = {{"ib_send_lat", {"-e"}},
                           {"ib_send_bw", {"-b", "-e"}},
                           {"ib_write_bw", {"-b"}},
                           {"ib_read_lat", {"-e"}},
                           {"ib_read_bw", {"-b", "-e"}}};
const Sizes kAtomics[] = {{"ib_atomic_lat", {"-e"}}, {"ib_atomic_bw", {"-b", "-e"}}};
const auto program_name = [](const auto& info) { return std::string(info.param.program); };

INSTANTIATE_TEST_SUITE_P(Polling, AllSizes, testing::ValuesIn(kPolling), program_name);
INSTANTIATE_TEST_SUITE_P(Variants, AllSizes, testing::ValuesIn(kVariants), program_name);
INSTANTIATE_TEST_SUITE_P(Atomics, AllSizes, testing::ValuesIn(kAtomics), program_name);
INSTANTIATE_TEST_SUITE_P(Full, FullAllSizes, testing::ValuesIn(kVariants), program_name);

class Verify : public Verbs, public testing::WithParamInterface<const char*> {};

// All operations both ways at once; sequence numbers, check sums and counters of
// atomics prove that each is done exactly once and in order.
TEST_P(Verify, FindsEverythingExactlyOnceAndInOrder) {
  const std::string options =
      std::string(GetParam()) + " --json - --port " + std::to_string(fresh_port());
  const int port = std::stoi(options.substr(options.rfind(' ')));
  const Talk both =
      talk({kHome, "godwit-verify " + options},
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
