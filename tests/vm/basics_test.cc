// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the standard tools show of the NIC in a guest, and its Ethernet function.
#include <fstream>
#include <regex>
#include <sstream>

#include "counters.h"
#include "godwit_regs.h"
#include "guests.h"
#include "plan.h"

namespace godwit::vm {
namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

#define EXPECT_CONTAINS(text, part)                                                         \
  do {                                                                                      \
    const std::string text_here = (text);                                                   \
    EXPECT_TRUE(contains(text_here, part)) << "no \"" << (part) << "\" in:\n" << text_here; \
  } while (0)

class Basics : public GuestTest {};

TEST_F(Basics, DeviceHasAnActivePort) {
  for (const std::string& guest : kGuests) {
    const std::string info = must(guest, "ibv_devinfo -v -d godwit0");
    EXPECT_CONTAINS(info, "PORT_ACTIVE");
    EXPECT_CONTAINS(info, "active_mtu:\t\t4096");
    EXPECT_CONTAINS(info, "link_layer:\t\tEthernet");
    EXPECT_CONTAINS(info, "ATOMIC_HCA");
  }
}

TEST_F(Basics, RdmaToolShowsLinkAndNetdev) {
  for (const std::string& guest : kGuests) {
    EXPECT_CONTAINS(must(guest, "rdma link show godwit0/1"),
                    "state ACTIVE physical_state LINK_UP netdev gw0");
  }
}

TEST_F(Basics, RdmaResourceNamesObjectsAndTheirProcess) {
  const int port = fresh_port();
  const auto server = launch(kHome, "exec ibv_rc_pingpong -g " +
                                        std::to_string(gid_index(kHome, "godwit0", ip_of(kHome))) +
                                        " -p " + std::to_string(port));
  wait_for_listener(kHome, port);
  for (const char* kind : {"pd", "cq", "mr", "qp"}) {
    const std::string shown = must(kHome, std::string("rdma resource show ") + kind);
    EXPECT_CONTAINS(shown, "godwit0");
    EXPECT_CONTAINS(shown, "comm ibv_rc_pingpong");
  }
  EXPECT_CONTAINS(must(kHome, "rdma resource show qp"), "type RC state");
}

TEST_F(Basics, AddressesOfTheNicAreGids) {
  for (const std::string& guest : kGuests) {
    EXPECT_GE(gid_index(guest, "godwit0", ip_of(guest)), 0);
    EXPECT_GE(gid_index(guest, "godwit0", ip6_of(guest)), 0);
  }
}

TEST_F(Basics, AddressesOfMacvlanChildrenAreGidsToo) {
  must(kHome,
       "ip netns add child && ip link add link gw0 name eth0 netns child type macvlan mode bridge "
       "&& "
       "ip -n child link set eth0 up && ip -n child addr add 10.77.1.90/16 dev eth0 && sleep 0.5");
  const int index = gid_index(kHome, "godwit0", "10.77.1.90");
  EXPECT_CONTAINS(must(kHome,
                       "nsenter --net=/run/netns/child cat "
                       "/sys/class/infiniband/godwit0/ports/1/gid_attrs/ndevs/" +
                           std::to_string(index)),
                  "eth0");
  must(kHome, "ip netns del child; sleep 0.5");
  EXPECT_ANY_THROW((void)gid_index(kHome, "godwit0", "10.77.1.90"));
}

TEST_F(Basics, EthernetCarriesPingsOfAllSizes) {
  must(kHome, "ping -q -c 3 -i 0.2 -W 5 " + ip_of(kAway));
  must(kHome, "ping -q -c 3 -i 0.2 -W 5 " + ip6_of(kPeer));
  must(kAway, "ping -q -c 3 -i 0.2 -W 5 -M do -s 4172 " + ip_of(kPeer));
  // One byte more than the MTU takes is refused at home, not lost.
  EXPECT_NE(shell(kAway, "ping -q -c 1 -W 2 -M do -s 4173 " + ip_of(kPeer)).code, 0);
}

TEST_F(Basics, EthernetCarriesTcp) {
  const std::string port = std::to_string(fresh_port());
  const Talk both =
      talk({kAway, "iperf3 -s -1 -p " + port},
           {kHome, "iperf3 -c " + ip_of(kAway) + " -n 4M -p " + port}, std::stoi(port));
  EXPECT_TRUE(good(both));
  EXPECT_CONTAINS(both.client.out, "iperf Done");
}

TEST_F(Basics, EthtoolKnowsDriverVersionsAndLink) {
  const std::string info = must(kHome, "ethtool -i gw0");
  EXPECT_CONTAINS(info, "driver: godwit\n");
  EXPECT_CONTAINS(info, "\nversion: " + must(kHome, "modinfo -F version godwit"));
  // The device's own, and the same to the verbs.
  const std::string firmware = must(kHome, "ibv_devinfo -d godwit0 | awk '/fw_ver/ {print $2}'");
  EXPECT_EQ(firmware.rfind(
                std::to_string(GODWIT_ABI_MAJOR) + "." + std::to_string(GODWIT_ABI_MINOR) + ".", 0),
            0u)
      << firmware;
  EXPECT_CONTAINS(info, "\nfirmware-version: " + firmware);
  EXPECT_EQ(must(kHome, "cat /sys/class/infiniband/godwit0/fw_ver"), firmware);
  EXPECT_CONTAINS(info,
                  "\nbus-info: " + must(kHome, "basename $(readlink /sys/class/net/gw0/device)"));
  EXPECT_CONTAINS(info, "\nsupports-statistics: yes\n");
  EXPECT_CONTAINS(info, "\nsupports-register-dump: yes\n");
  EXPECT_CONTAINS(must(kHome, "ethtool gw0"), "Link detected: yes");
}

// Names as in abi/godwit_counters.h.
std::vector<std::string> counter_names() {
  std::ifstream header(GODWIT_SOURCE "/abi/godwit_counters.h");
  std::vector<std::string> names;
  for (std::string line; std::getline(header, line);) {
    static const std::regex kLine(R"(#define GODWIT_COUNTER_\w+\s+\d+\s+/\* (\w+) \|.*)");
    std::smatch match;
    if (std::regex_match(line, match, kLine)) names.push_back(match[1]);
  }
  return names;
}

// Both tools show every counter of the device by its name, and the value that the device itself
// tells.
TEST_F(Basics, EthtoolAndRdmaShowTheCountersOfTheDevice) {
  const std::vector<std::string> names = counter_names();
  ASSERT_EQ(names.size(), std::size_t{GODWIT_COUNTER_COUNT});
  const int port = fresh_port();
  const auto command = [port](const std::string& guest) {
    return "ibv_rc_pingpong -d godwit0 -n 100 -p " + std::to_string(port) + " -g " +
           std::to_string(gid_index(guest, "godwit0", ip_of(guest)));
  };
  ASSERT_TRUE(
      good(talk({kHome, command(kHome)}, {kAway, command(kAway) + " " + ip_of(kHome)}, port)));
  for (const char* tool :
       {"ethtool -S gw0 | sed '1d; s/://'",
        "rdma statistic show link godwit0/1 | tr ' ' '\\n' | tail -n +3 | paste -d ' ' - -"}) {
    SCOPED_TRACE(tool);
    const auto before = lab::read_counters(the_lab(), kHome);
    std::istringstream shown(must(kHome, tool));
    const auto after = lab::read_counters(the_lab(), kHome);
    std::string name;
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < names.size(); ++i) {
      ASSERT_TRUE(shown >> name >> value) << "no " << names[i];
      EXPECT_EQ(name, names[i]);
      EXPECT_LE(before[i], value) << name;
      EXPECT_GE(after[i], value) << name;
    }
    EXPECT_FALSE(shown >> name) << name;
    EXPECT_GE(after[GODWIT_COUNTER_RX_RDMA_PACKETS], 100u);
    EXPECT_GT(after[GODWIT_COUNTER_ETH_TX_FRAMES], 0u);
  }
}

TEST_F(Basics, EthtoolDumpsTheRegisters) {
  std::istringstream dump(must(kHome, "ethtool -d gw0 raw on | od -An -v -tx4 -w4"));
  std::vector<std::uint32_t> words;
  for (std::uint32_t word; dump >> std::hex >> word;) words.push_back(word);
  ASSERT_EQ(words.size() * 4, GODWIT_REG_BAD_ACCESSES + 4u);
  EXPECT_EQ(words[GODWIT_REG_ID / 4], GODWIT_ID_VALUE);
  EXPECT_EQ(words[GODWIT_REG_VERSION / 4],
            std::uint32_t{GODWIT_ABI_MAJOR << 16 | GODWIT_ABI_MINOR});
  EXPECT_EQ(words[GODWIT_REG_CONTROL / 4], GODWIT_CONTROL_ENABLE_MASK);
  EXPECT_EQ(words[GODWIT_REG_STATUS / 4], GODWIT_STATUS_ENABLED_MASK | GODWIT_STATUS_LINK_UP_MASK);
  // 52:54:00:67:00:01
  EXPECT_EQ(words[GODWIT_REG_MAC_LO / 4], 0x67005452u);
  EXPECT_EQ(words[GODWIT_REG_MAC_HI / 4], 0x0100u);
  EXPECT_EQ(words[GODWIT_REG_VECTORS / 4], 10u);
  EXPECT_EQ(words[GODWIT_REG_BAD_ACCESSES / 4], 0u);
}

TEST_F(Basics, PortFollowsTheLink) {
  const auto wait_for = [](const std::string& state) {
    must(kAway, "for i in $(seq 50); do ibv_devinfo -d godwit0 | grep -q " + state +
                    " && exit 0; sleep 0.1; done; ibv_devinfo -d godwit0; exit 1");
  };
  set_cable(kAway, false);
  EXPECT_NO_THROW(wait_for("PORT_DOWN"));
  EXPECT_CONTAINS(must(kAway, "ethtool gw0"), "Link detected: no");
  set_cable(kAway, true);
  EXPECT_NO_THROW(wait_for("PORT_ACTIVE"));
  EXPECT_NO_THROW(must(kAway, "ping -q -c 1 -W 5 " + ip_of(kHome)));
}

// A program that asks for what is not there yet is told so, and told it in the way
// that rdma-core's own tests take as a reason to skip.
TEST_F(Basics, MissingVerbsAreNotSupported) {
  const std::string said = must(kHome, R"(python3 - <<'END'
import errno
from pyverbs.device import Context
from pyverbs.pd import PD
from pyverbs.cq import CQ
from pyverbs.qp import QP, QPInitAttr, QPCap
from pyverbs.srq import SRQ, SrqInitAttr, SrqAttr
from pyverbs.mr import MW
from pyverbs.xrcd import XRCD, XRCDInitAttr
from pyverbs.pyverbs_error import PyverbsRDMAError
import pyverbs.enums as e, os
context = Context(name='godwit0')
pd, cq = PD(context), CQ(context, 8)
def qp(kind):
    return QP(pd, QPInitAttr(qp_type=kind, scq=cq, rcq=cq, cap=QPCap(8, 8, 1, 1, 0)))
tries = {
    'UD': lambda: qp(e.IBV_QPT_UD),
    'UC': lambda: qp(e.IBV_QPT_UC),
    'SRQ': lambda: SRQ(pd, SrqInitAttr(SrqAttr(max_wr=8))),
    'MW': lambda: MW(pd, e.IBV_MW_TYPE_1),
    'XRCD': lambda: XRCD(context, XRCDInitAttr(e.IBV_XRCD_INIT_ATTR_FD | e.IBV_XRCD_INIT_ATTR_OFLAGS, os.O_CREAT, -1)),
}
for name, make in tries.items():
    try:
        make()
        print(name, 'works')
    except PyverbsRDMAError as error:
        print(name, 'EOPNOTSUPP' if error.error_code == errno.EOPNOTSUPP else error)
qp(e.IBV_QPT_RC)
print('RC works')
END)");
  EXPECT_EQ(
      said,
      "UD EOPNOTSUPP\nUC EOPNOTSUPP\nSRQ EOPNOTSUPP\nMW EOPNOTSUPP\nXRCD EOPNOTSUPP\nRC works\n");
}

// The part of rdma-core's own tests that concerns what is there; the rest skips.
TEST_F(Basics, TestsOfRdmaCoreFindNoError) {
  const ExecResult result = shell(
      kHome,
      "cd /opt/rdma-tests && "
      "python3 tests/run_tests.py -v --dev godwit0 tests.test_device tests.test_pd tests.test_mr "
      "tests.test_cq tests.test_cq_events tests.test_qp tests.test_odp 2>&1",
      180);
  EXPECT_EQ(result.code, 0) << result.out;
  EXPECT_CONTAINS(result.out, "... ok");
}

}  // namespace
}  // namespace godwit::vm
