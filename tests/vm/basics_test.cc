// SPDX-License-Identifier: GPL-2.0-or-later
//
// What the standard tools show of the NIC in a guest, and its Ethernet function.
#include "guests.h"
#include "plan.h"

namespace godwit::vm {
namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

#define EXPECT_CONTAINS(text, part)                                                       \
  do {                                                                                    \
    const std::string text_here = (text);                                                 \
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
  must(kHome, "ip netns add child && ip link add link gw0 name eth0 netns child type macvlan mode bridge && "
              "ip -n child link set eth0 up && ip -n child addr add 10.77.1.90/16 dev eth0 && sleep 0.5");
  const int index = gid_index(kHome, "godwit0", "10.77.1.90");
  EXPECT_CONTAINS(must(kHome, "nsenter --net=/run/netns/child cat "
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

TEST_F(Basics, EthtoolKnowsDriverAndLink) {
  EXPECT_CONTAINS(must(kHome, "ethtool -i gw0"), "driver: godwit");
  EXPECT_CONTAINS(must(kHome, "ethtool gw0"), "Link detected: yes");
}

TEST_F(Basics, PortFollowsTheLink) {
  const auto set_link = [](bool up) {
    const auto answer = the_lab().request(
        {{"op", "qmp"},
         {"guest", kAway},
         {"command", {{"execute", "set_link"}, {"arguments", {{"name", "nic"}, {"up", up}}}}}});
    ASSERT_FALSE(answer["answer"].contains("error")) << answer.dump();
  };
  const auto wait_for = [](const std::string& state) {
    must(kAway, "for i in $(seq 50); do ibv_devinfo -d godwit0 | grep -q " + state +
                    " && exit 0; sleep 0.1; done; ibv_devinfo -d godwit0; exit 1");
  };
  set_link(false);
  EXPECT_NO_THROW(wait_for("PORT_DOWN"));
  EXPECT_CONTAINS(must(kAway, "ethtool gw0"), "Link detected: no");
  set_link(true);
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
  EXPECT_EQ(said, "UD EOPNOTSUPP\nUC EOPNOTSUPP\nSRQ EOPNOTSUPP\nMW EOPNOTSUPP\nXRCD EOPNOTSUPP\nRC works\n");
}

// The part of rdma-core's own tests that concerns what is there; the rest skips.
TEST_F(Basics, TestsOfRdmaCoreFindNoError) {
  const ExecResult result = shell(
      kHome, "cd /opt/rdma-tests && "
             "python3 tests/run_tests.py -v --dev godwit0 tests.test_device tests.test_pd tests.test_mr "
             "tests.test_cq tests.test_cq_events tests.test_qp tests.test_odp 2>&1", 180);
  EXPECT_EQ(result.code, 0) << result.out;
  EXPECT_CONTAINS(result.out, "... ok");
}

}  // namespace
}  // namespace godwit::vm
