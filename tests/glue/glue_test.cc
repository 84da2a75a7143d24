// SPDX-License-Identifier: GPL-2.0-or-later
//
// The device as the PCI bus sees it: what the core leaves to QEMU.
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "glue/qtest.h"
#include "godwit_cmd.h"
#include "godwit_counters.h"
#include "godwit_queue.h"
#include "godwit_regs.h"
#include "segment/segment.h"

namespace godwit::test {
namespace {

constexpr std::uint64_t kRing = 0x100000, kCompletions = 0x101000, kMessage = 0x102000;
constexpr unsigned kPciExpress = 0x10, kMsixCapability = 0x11;
constexpr std::uint32_t kFunctionLevelReset = 1u << 15, kMsixEnable = 1u << 31;

std::uint64_t register_at(unsigned offset) { return Qtest::kRegisters + offset; }

// Some of the work is done after the access that asks for it.
template <typename Condition>
bool soon(Condition condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    usleep(1000);
  }
  return false;
}

void enable(Qtest& q, std::uint64_t ring = kRing, std::uint64_t completions = kCompletions) {
  q.map_bars();
  q.write(register_at(GODWIT_REG_CMD_SQ_LO), ring & 0xffffffff, 4);
  q.write(register_at(GODWIT_REG_CMD_SQ_HI), ring >> 32, 4);
  q.write(register_at(GODWIT_REG_CMD_CQ_LO), completions & 0xffffffff, 4);
  q.write(register_at(GODWIT_REG_CMD_CQ_HI), completions >> 32, 4);
  q.write(register_at(GODWIT_REG_CMD_LOG2_DEPTH), 2, 4);
  q.write(register_at(GODWIT_REG_CMD_INTERRUPT), 1, 4);
  q.write(register_at(GODWIT_REG_CONTROL), GODWIT_CONTROL_ENABLE_MASK, 4);
}

// A NOP in the first entry of the ring.
void ring_doorbell(Qtest& q, std::uint16_t id = 0x77) {
  q.write(kRing, GODWIT_CMD_NOP | std::uint64_t{id} << 16, 8);
  q.write(register_at(GODWIT_REG_CMD_DOORBELL), 1, 4);
}

bool completed(Qtest& q) {
  return soon([&] { return q.read(kCompletions + 63, 1) == 1; });
}

bool fatal(Qtest& q) {
  return soon(
      [&] { return (q.read(register_at(GODWIT_REG_STATUS), 4) & GODWIT_STATUS_FATAL_MASK) != 0; });
}

TEST(Pci, IdentityAndCapabilities) {
  Qtest q;
  EXPECT_EQ(q.config_read(0), GODWIT_PCI_DEVICE_ID << 16 | GODWIT_PCI_VENDOR_ID);
  EXPECT_EQ(q.config_read(8), 0x02000000u | GODWIT_PCI_REVISION);
  EXPECT_NE(q.find_capability(kPciExpress), 0u);
  const unsigned msix = q.find_capability(kMsixCapability);
  ASSERT_NE(msix, 0u);
  EXPECT_EQ(q.config_read(msix + 4) & 7, unsigned{GODWIT_BAR_MSIX});
}

TEST(Pci, RegistersBehindBar0) {
  Qtest q;
  q.map_bars();
  EXPECT_EQ(q.read(register_at(GODWIT_REG_ID), 4), unsigned{GODWIT_ID_VALUE});
  EXPECT_EQ(q.read(register_at(GODWIT_REG_MAC_LO), 4), 0x67005452u);
  EXPECT_EQ(q.read(register_at(GODWIT_REG_MAC_HI), 4), 0x0100u);
  q.write(register_at(GODWIT_REG_SCRATCH), 0x12345678, 4);
  EXPECT_EQ(q.read(register_at(GODWIT_REG_SCRATCH), 4), 0x12345678u);
  const auto bad = q.read(register_at(GODWIT_REG_BAD_ACCESSES), 4);
  EXPECT_EQ(q.read(register_at(GODWIT_REG_SCRATCH), 2), 0u);
  EXPECT_EQ(q.read(register_at(GODWIT_REG_SCRATCH + 1), 1), 0u);
  EXPECT_GT(q.read(register_at(GODWIT_REG_BAD_ACCESSES), 4), bad);
}

TEST(Pci, FunctionLevelReset) {
  Qtest q;
  enable(q);
  q.write(register_at(GODWIT_REG_SCRATCH), 0x12345678, 4);
  const unsigned express = q.find_capability(kPciExpress);
  q.config_write(express + 8, q.config_read(express + 8) | kFunctionLevelReset);
  EXPECT_EQ(q.config_read(4) & 0x6, 0u) << "memory and bus master are off after a reset";
  q.map_bars();
  EXPECT_EQ(q.read(register_at(GODWIT_REG_SCRATCH), 4), 0u);
  EXPECT_EQ(q.read(register_at(GODWIT_REG_STATUS), 4) & GODWIT_STATUS_ENABLED_MASK, 0u);
  enable(q);
  ring_doorbell(q);
  EXPECT_TRUE(completed(q));
}

TEST(Dma, CommandAndCompletion) {
  Qtest q;
  enable(q);
  ring_doorbell(q, 0x1234);
  ASSERT_TRUE(completed(q));
  EXPECT_EQ(q.read(kCompletions, 2), 0x1234u);
  EXPECT_EQ(q.read(kCompletions + 2, 2), unsigned{GODWIT_CMD_STATUS_OK});
}

TEST(Dma, NotWithoutBusMaster) {
  Qtest q;
  enable(q);
  q.config_write(4, 0x2);
  ring_doorbell(q);
  ASSERT_TRUE(fatal(q));
  EXPECT_EQ(q.read(register_at(GODWIT_REG_FATAL_CAUSE), 4), unsigned{GODWIT_FATAL_CMD_DMA});
  EXPECT_EQ(q.read(kCompletions + 63, 1), 0u);
}

TEST(Dma, WhereThereIsNoMemory) {
  Qtest q;
  enable(q, kRing, 0xc0000000);
  ring_doorbell(q);
  EXPECT_TRUE(fatal(q));
}

// Completions onto CONTROL reset the device, unless they go nowhere.
TEST(Dma, ToItsOwnRegisters) {
  Qtest q;
  enable(q, kRing, Qtest::kRegisters);
  q.write(register_at(GODWIT_REG_SCRATCH), 0x12345678, 4);
  ring_doorbell(q, GODWIT_CONTROL_RESET_MASK);
  usleep(50'000);
  EXPECT_EQ(q.read(register_at(GODWIT_REG_ID), 4), unsigned{GODWIT_ID_VALUE});
  EXPECT_EQ(q.read(register_at(GODWIT_REG_SCRATCH), 4), 0x12345678u);
  EXPECT_TRUE(q.alive());
}

TEST(Msix, LatchedWhileMasked) {
  Qtest q;
  enable(q);
  const unsigned msix = q.find_capability(kMsixCapability);
  q.config_write(msix, q.config_read(msix) | kMsixEnable);
  // Vector 0 writes 0xabcd to memory; masked until the last line.
  q.write(Qtest::kMsix, kMessage, 4);
  q.write(Qtest::kMsix + 4, 0, 4);
  q.write(Qtest::kMsix + 8, 0xabcd, 4);
  ring_doorbell(q);
  ASSERT_TRUE(completed(q));
  const std::uint64_t pending = Qtest::kMsix + (q.config_read(msix + 8) & ~7u);
  EXPECT_TRUE(soon([&] { return (q.read(pending, 8) & 1) != 0; }));
  EXPECT_EQ(q.read(kMessage, 4), 0u);
  q.write(Qtest::kMsix + 12, 0, 4);
  EXPECT_TRUE(soon([&] { return q.read(kMessage, 4) == 0xabcd; }));
  EXPECT_EQ(q.read(pending, 8) & 1, 0u);
}

class VmState : public ::testing::Test {
 protected:
  VmState() {
    char name[] = "/tmp/godwit-vmstate-XXXXXX";
    const int fd = mkstemp(name);
    if (fd >= 0) close(fd);
    file_ = name;
  }
  ~VmState() override { unlink(file_.c_str()); }

  void save(Qtest& q) {
    q.qmp("{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"exec:cat >" + file_ + "\"}}");
    ASSERT_TRUE(soon([&] {
      return q.qmp("{\"execute\":\"query-migrate\"}").find("completed") != std::string::npos;
    })) << q.qmp("{\"execute\":\"query-migrate\"}");
  }
  std::vector<std::string> incoming() const { return {"-incoming", "exec:cat " + file_}; }

  std::string file_;
};

TEST_F(VmState, GoesOnInAnotherQemu) {
  Qtest before;
  enable(before);
  before.write(register_at(GODWIT_REG_SCRATCH), 0x12345678, 4);
  ring_doorbell(before, 1);
  ASSERT_TRUE(completed(before));
  // A second command waits in the ring; its doorbell is rung in the other QEMU.
  before.write(kRing + 64, GODWIT_CMD_NOP | 2u << 16, 8);
  save(before);
  ASSERT_FALSE(HasFatalFailure());

  Qtest after(incoming());
  ASSERT_TRUE(soon([&] {
    return after.qmp("{\"execute\":\"query-status\"}").find("\"running\": true") !=
           std::string::npos;
  }));
  EXPECT_EQ(after.read(register_at(GODWIT_REG_SCRATCH), 4), 0x12345678u);
  EXPECT_NE(after.read(register_at(GODWIT_REG_STATUS), 4) & GODWIT_STATUS_ENABLED_MASK, 0u);
  after.write(register_at(GODWIT_REG_CMD_DOORBELL), 2, 4);
  EXPECT_TRUE(soon([&] { return after.read(kCompletions + 64 + 63, 1) == 1; }));
  EXPECT_EQ(after.read(kCompletions + 64, 2), 2u);
}

// A state that does not fit is refused in a sentence, and QEMU ends as it does for any device.
TEST_F(VmState, OfAnotherShapeIsRefused) {
  Qtest before;
  enable(before);
  save(before);
  ASSERT_FALSE(HasFatalFailure());
  std::vector<std::string> args = incoming();
  args.insert(args.end(), {"-netdev", "hubport,id=n0,hubid=0", "-device",
                           "godwit,netdev=n0,id=nic,addr=4,seed=1,"
                           "log2-max-cqe=19,mac=52:54:00:67:00:01"});
  {
    Qtest same(args);  // a lower limit does not matter as long as nothing exceeds it
    EXPECT_TRUE(soon([&] {
      return same.qmp("{\"execute\":\"query-status\"}").find("\"running\": true") !=
             std::string::npos;
    }));
  }
  args.back() = "godwit,netdev=n0,id=nic,addr=4,seed=1,doorbell-pages=256,mac=52:54:00:67:00:01";
  bool refused = false;
  try {
    Qtest other(args);
    refused = soon([&] { return !other.alive(); }) && other.exit_code() == 1;
  } catch (const std::runtime_error&) {
    refused = true;  // it had ended before it could say a word
  }
  EXPECT_TRUE(refused);
}

std::vector<std::uint64_t> counters(Qtest& q) {
  const std::string answer = q.qmp(
      "{\"execute\":\"qom-get\",\"arguments\":{\"path\":\"/machine/peripheral/nic\","
      "\"property\":\"counters\"}}");
  std::vector<std::uint64_t> values;
  const char* at = std::strchr(answer.c_str(), '[');
  while (at != nullptr && *at != ']') {
    char* end;
    values.push_back(std::strtoull(at + 1, &end, 10));
    at = end;
  }
  if (values.size() != GODWIT_COUNTER_COUNT) throw std::runtime_error(answer);
  return values;
}

TEST(Monitor, CountersOverQmp) {
  Qtest q;
  EXPECT_EQ(counters(q), std::vector<std::uint64_t>(GODWIT_COUNTER_COUNT));
}

TEST(Monitor, PlugIntoARunningMachine) {
  Qtest q(
      {"-device", "pcie-root-port,id=slot1,chassis=1,addr=5", "-netdev", "hubport,id=n1,hubid=0"});
  const std::string add =
      "{\"execute\":\"device_add\",\"arguments\":{\"driver\":\"godwit\",\"id\":\"second\","
      "\"bus\":\"slot1\",\"netdev\":\"n1\"";
  EXPECT_NE(q.qmp(add + ",\"vectors\":1}}").find("vectors must be"), std::string::npos);
  EXPECT_NE(q.qmp(add + "}}").find("return"), std::string::npos);
  EXPECT_TRUE(q.alive());
}

// The netdev stays, and reports the frames that it takes only later: not to a NIC that is gone.
TEST(Monitor, UnplugWhileTheNetdevHasFramesOfIt) {
  constexpr std::uint64_t kTransmit = 0x110000, kReceive = 0x120000, kBuffer = 0x130000;
  constexpr unsigned kFrames = 512, kFrameBytes = 1500;
  int wire[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, wire), 0);
  // The test is the guest's driver of the slot, which acknowledges that the NIC goes.
  Qtest q({"-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off", "-device",
           "pcie-root-port,id=slot1,chassis=1,addr=5", "-netdev",
           "socket,id=wire,fd=" + std::to_string(wire[1]), "-device",
           "godwit,bus=slot1,netdev=wire,id=nic,mac=52:54:00:67:00:01"});
  close(wire[1]);
  q.choose(0, 5);
  q.config_write(0x18, 0x010100);    // secondary bus 1
  q.config_write(0x20, 0xe000e000);  // memory window: kRegisters, kMsix
  q.config_write(0x24, 0xe7f0e400);  // prefetchable: kDoorbells
  q.config_write(0x28, 0);
  q.config_write(0x2c, 0);
  q.config_write(0x04, 0x6);
  q.choose(1, 0);
  enable(q);
  q.write(kRing, GODWIT_CMD_SET_ETH_RINGS, 8);
  q.write(kRing + 8, 1 | std::uint64_t{9} << 32 | std::uint64_t{4} << 40, 8);
  q.write(kRing + 16, kTransmit, 8);
  q.write(kRing + 24, kReceive, 8);
  q.write(register_at(GODWIT_REG_CMD_DOORBELL), 1, 4);
  ASSERT_TRUE(completed(q));
  ASSERT_EQ(q.read(kCompletions + 2, 2), unsigned{GODWIT_CMD_STATUS_OK});
  for (unsigned i = 0; i < kFrames; ++i) {
    q.write(kTransmit + 16 * i, kBuffer, 8);
    q.write(kTransmit + 16 * i + 8, kFrameBytes | std::uint64_t{GODWIT_ETH_TX_EOP_MASK} << 32, 8);
  }
  q.write(Qtest::kDoorbells + GODWIT_DB_ETH_TX, std::uint64_t{kFrames} << 32, 8);
  // Until more has been sent than the socket has taken.
  ASSERT_TRUE(soon([&] {
    int taken = 0;
    if (ioctl(wire[0], FIONREAD, &taken) != 0) return false;
    return counters(q)[GODWIT_COUNTER_ETH_TX_BYTES] > static_cast<std::uint64_t>(taken) &&
           taken > 0;
  }));

  EXPECT_NE(q.qmp("{\"execute\":\"device_del\",\"arguments\":{\"id\":\"nic\"}}").find("return"),
            std::string::npos);
  q.choose(0, 5);
  // Slot control: power and its indicator off.
  q.config_write(q.find_capability(kPciExpress) + 0x18, 0x0700);
  q.choose(1, 0);
  ASSERT_TRUE(soon([&] { return q.config_read(0) == 0xffffffff; }));
  // The socket takes the rest.
  std::vector<char> bytes(65536);
  unsigned quiet = 0;
  while (quiet < 50 && q.alive()) {
    if (read(wire[0], bytes.data(), bytes.size()) > 0) {
      quiet = 0;
    } else {
      ++quiet;
      usleep(2000);
    }
  }
  close(wire[0]);
  EXPECT_NE(q.qmp("{\"execute\":\"query-status\"}").find("\"running\": true"), std::string::npos);
  EXPECT_TRUE(q.alive());
}

// A segment with QEMU at port 0 and the test at port 1.
class PortTest : public testing::Test {
 protected:
  PortTest()
      : fd_(memfd_create("segment", 0)),
        wakes_{eventfd(0, EFD_NONBLOCK), eventfd(0, EFD_NONBLOCK)} {
    if (ftruncate(fd_, static_cast<off_t>(godwit_segment_size())) != 0) std::abort();
    memory_ = mmap(nullptr, godwit_segment_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    godwit_segment_init(memory_);
    godwit_segment_open(memory_, 1);
  }
  ~PortTest() override {
    munmap(memory_, godwit_segment_size());
    for (const int fd : {fd_, wakes_[0], wakes_[1]}) close(fd);
  }

  [[nodiscard]] std::string wakes() const {
    return std::to_string(wakes_[0]) + ":" + std::to_string(wakes_[1]);
  }
  [[nodiscard]] std::vector<std::string> port(const std::string& more) const {
    return {"-device", "godwit-port,memory=" + std::to_string(fd_) + more, "-device",
            "godwit,netdev=wire,id=second,addr=5"};
  }
  bool send() {
    const std::vector<std::uint8_t> frame(1500, 0xff);
    bool wake = false;
    const auto sent = godwit_segment_send(memory_, 1, 0, frame.data(), frame.size(), false, &wake);
    const std::uint64_t one = 1;
    if (wake && write(wakes_[0], &one, sizeof(one)) != sizeof(one)) std::abort();
    return sent == GODWIT_SEGMENT_SENT;
  }
  // Frames until there is no room for one more.
  unsigned fill() {
    unsigned n = 0;
    while (n < 10000 && send()) ++n;
    return n;
  }

  int fd_;
  int wakes_[2];
  void* memory_;
};

TEST_F(PortTest, FramesAreTakenAndHeldWhileTheMachineIsStopped) {
  Qtest q(port(",id=wire,port=0,wakes=" + wakes()));
  constexpr unsigned kMore = 20000;  // than there is room for
  unsigned sent = 0;
  EXPECT_TRUE(soon([&] { return (sent += fill()) > kMore; }));
  q.qmp("{\"execute\":\"stop\"}");
  fill();
  usleep(20000);
  EXPECT_LE(fill(), 1u);  // the one that QEMU keeps for the NIC
  usleep(20000);
  EXPECT_EQ(fill(), 0u);
  q.qmp("{\"execute\":\"cont\"}");
  EXPECT_TRUE(soon([&] { return send(); }));
  EXPECT_TRUE(q.alive());
}

TEST_F(PortTest, WrongPropertiesAreRefused) {
  const std::string null = std::to_string(STDIN_FILENO);
  for (const std::string& wrong :
       {",port=0,wakes=" + wakes(), ",id=wire,port=2,wakes=" + wakes(), std::string(",id=wire"),
        ",id=wire,wakes=x:" + wakes(), ",id=wire,wakes=999:" + wakes(),
        ",id=wire,memory=" + null + ",wakes=" + wakes()}) {
    bool refused = false;
    try {
      Qtest q(port(wrong));
      refused = soon([&] { return !q.alive(); }) && q.exit_code() == 1;
    } catch (const std::runtime_error&) {
      refused = true;  // it had ended before it could say a word
    }
    EXPECT_TRUE(refused) << wrong;
  }
}

// Pseudo-random accesses: whatever happens, QEMU lives.
TEST(Hostile, RandomAccesses) {
  Qtest q;
  enable(q);
  std::uint64_t random = 0x9e3779b97f4a7c15;
  const auto next = [&] {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    return random;
  };
  for (int i = 0; i < 20'000; ++i) {
    const std::uint64_t bar = next() % 2 == 0 ? Qtest::kRegisters : Qtest::kDoorbells;
    const std::uint64_t at = bar + next() % (bar == Qtest::kRegisters ? 0x80 : 0x4000);
    const unsigned size = 1u << next() % 4;
    if (next() % 4 == 0) {
      q.read(at, size);
    } else {
      q.write(at, next() >> next() % 64, size);
    }
    if (i % 1000 == 0) enable(q);
  }
  EXPECT_TRUE(q.alive());
}

}  // namespace
}  // namespace godwit::test
