// SPDX-License-Identifier: GPL-2.0-or-later
//
// Soft-RoCE in one guest, on a plain virtio NIC, as the peer of the NIC in another;
// and what other people's tools say of the frames on the wire.
#include <filesystem>

#include "guests.h"
#include "soft_roce.h"

namespace godwit::vm {
namespace {

class SoftRoce : public GuestTest {
 protected:
  void SetUp() override {
    GuestTest::SetUp();
    ours_ = gid_index(kHome, "godwit0", ip_of(kHome));
    theirs_ = lab::soft_roce_on(the_lab(), kPeer);
  }

  static void TearDownTestSuite() { lab::soft_roce_off(the_lab(), kPeer); }

  // Soft-RoCE's side, then ours: who serves is said by `serve`.
  enum class Server { kSoftRoce, kGodwit };
  Talk both(const std::string& program, const std::string& options, Server server) const {
    const int port = fresh_port();
    const auto command = [&](const std::string& device, int gid) {
      return verbs_command(program, device, gid, port, options);
    };
    const std::string soft = command(theirs_.device, theirs_.gid_index),
                      hard = command("godwit0", ours_);
    return server == Server::kSoftRoce
               ? talk({kPeer, soft}, {kHome, hard + " " + theirs_.ip}, port)
               : talk({kHome, hard}, {kPeer, soft + " " + ip_of(kHome)}, port);
  }

  int ours_ = -1;
  lab::SoftRoce theirs_;
};

TEST_F(SoftRoce, PingPongWithSoftRoceAsServer) {
  EXPECT_TRUE(good(both("ibv_rc_pingpong", "-c -m 1024 -n 200 -s 6000", Server::kSoftRoce)));
}

TEST_F(SoftRoce, PingPongWithSoftRoceAsClient) {
  EXPECT_TRUE(good(both("ibv_rc_pingpong", "-c -e -m 4096 -n 200 -s 10000", Server::kGodwit)));
}

TEST_F(SoftRoce, Write) {
  EXPECT_TRUE(good(both("ib_write_bw", "-n 100 -s 65536", Server::kSoftRoce)));
  EXPECT_TRUE(good(both("ib_write_bw", "-n 100 -s 65536", Server::kGodwit)));
}

TEST_F(SoftRoce, Read) {
  EXPECT_TRUE(good(both("ib_read_bw", "-n 50 -s 65536 -o 4", Server::kSoftRoce)));
  EXPECT_TRUE(good(both("ib_read_bw", "-n 50 -s 65536 -o 4", Server::kGodwit)));
}

TEST_F(SoftRoce, SendBothWays) {
  EXPECT_TRUE(good(both("ib_send_bw", "-n 200 -s 4096 -b", Server::kSoftRoce)));
}

TEST_F(SoftRoce, Atomics) {
  EXPECT_TRUE(good(both("ib_atomic_bw", "-n 200 -o 8 -A FETCH_AND_ADD", Server::kSoftRoce)));
  EXPECT_TRUE(good(both("ib_atomic_bw", "-n 200 -o 8 -A CMP_AND_SWAP", Server::kGodwit)));
}

// Our own checker of everything, against an implementation that is not ours.
TEST_F(SoftRoce, VerifyFindsEverythingExactlyOnceAndInOrder) {
  const int port = fresh_port();
  const std::string options = " --port " + std::to_string(port);
  const Talk both =
      talk({kPeer, "godwit-verify --device " + theirs_.device + " --gid-index " +
                       std::to_string(theirs_.gid_index) + options},
           {kHome, "godwit-verify --device godwit0 --gid-index " + std::to_string(ours_) +
                       " --duration 4 --qps 2" + options + " " + theirs_.ip},
           port);
  EXPECT_TRUE(good(both));
}

class Wire : public SoftRoce {
 protected:
  // The frames on our NIC's wire while something runs.
  template <typename F>
  std::string capture(F&& work) {
    const std::string file = the_lab().folder() + "/capture.pcap";
    std::filesystem::remove(file);
    the_lab().capture_start(kHome, file);
    work();
    the_lab().capture_stop(kHome);
    return file;
  }

  static void expect_clean(const std::string& file) {
    const HostResult frames = run_on_host(
        {"tshark", "-r", file, "-Y", "infiniband", "-T", "fields", "-e", "infiniband.bth.opcode"},
        120);
    ASSERT_EQ(frames.code, 0) << frames.err;
    EXPECT_FALSE(frames.out.empty()) << "no RoCE frame in the capture";
    const HostResult malformed =
        run_on_host({"tshark", "-r", file, "-Y",
                     "_ws.malformed || _ws.unreassembled || ip.checksum.status == 0", "-o",
                     "ip.check_checksum:TRUE"},
                    120);
    EXPECT_EQ(malformed.code, 0) << malformed.err;
    EXPECT_EQ(malformed.out, "");
    const HostResult icrc = run_on_host({"/usr/bin/python3", GODWIT_CHECK_ICRC, file}, 120);
    EXPECT_EQ(icrc.code, 0) << icrc.out << icrc.err;
  }
};

TEST_F(Wire, FramesWithSoftRoceAreWellFormedAndTheirIcrcRight) {
  const std::string file = capture([this] {
    EXPECT_TRUE(good(both("ibv_rc_pingpong", "-c -m 1024 -n 20 -s 5001", Server::kSoftRoce)));
    EXPECT_TRUE(good(both("ib_read_bw", "-n 10 -s 10001", Server::kGodwit)));
    EXPECT_TRUE(good(both("ib_atomic_bw", "-n 10 -o 8 -A CMP_AND_SWAP", Server::kSoftRoce)));
  });
  expect_clean(file);
  std::filesystem::remove(file);
}

TEST_F(Wire, FramesOfIpv6AreWellFormedAndTheirIcrcRight) {
  const std::string file = capture([] {
    const int port = fresh_port();
    const auto command = [port](const std::string& guest) {
      return "ibv_rc_pingpong -c -m 1024 -n 20 -s 5001 -d godwit0 -p " + std::to_string(port) +
             " -g " + std::to_string(gid_index(guest, "godwit0", ip6_of(guest)));
    };
    EXPECT_TRUE(
        good(talk({kHome, command(kHome)}, {kAway, command(kAway) + " " + ip_of(kHome)}, port)));
  });
  expect_clean(file);
  std::filesystem::remove(file);
}

}  // namespace
}  // namespace godwit::vm
