// SPDX-License-Identifier: GPL-2.0-or-later
//
// Registers, enable and reset, the command ring, Ethernet: over the C interface.
#include <gtest/gtest.h>

#include "godwit_counters.h"
#include "support/machine.h"

namespace godwit::test {
namespace {

TEST(Registers, IdentityAndLimits) {
  Machine m(small_config(7));
  EXPECT_EQ(m.reg(GODWIT_REG_ID), 0x47445754u);
  EXPECT_EQ(m.reg(GODWIT_REG_VERSION), 0x00010000u);
  EXPECT_EQ(m.reg(GODWIT_REG_STATUS), std::uint32_t{GODWIT_STATUS_LINK_UP_MASK});
  EXPECT_EQ(m.reg(GODWIT_REG_MAC_LO), 0x67005452u);
  EXPECT_EQ(m.reg(GODWIT_REG_MAC_HI), 0x0700u);
  EXPECT_EQ(m.reg(GODWIT_REG_DOORBELL_PAGES), 16u);
  EXPECT_EQ(m.reg(GODWIT_REG_VECTORS), 10u);
}

// Every offset and size: no register but those named changes anything, nothing else reads as
// other than zero, and each such access is counted once.
TEST(Registers, AnyOffsetAnySize) {
  Machine m(small_config(1));
  for (const unsigned size : {1u, 2u, 4u, 8u, 3u, 16u}) {
    for (std::uint64_t offset = 0; offset < 0x1010; ++offset) {
      if (offset / 8 * 8 == GODWIT_REG_BAD_ACCESSES / 8 * 8) continue;
      const std::uint32_t before = m.reg(GODWIT_REG_BAD_ACCESSES);
      const std::uint64_t value = godwit_device_register_read(m.device(), offset, size);
      const std::uint32_t bad = m.reg(GODWIT_REG_BAD_ACCESSES) - before;
      const bool shape = (size == 4 && offset % 4 == 0) || (size == 8 && offset % 8 == 0);
      if (!shape || offset >= 0x1000) {
        EXPECT_EQ(value, 0u) << offset << " " << size;
        EXPECT_EQ(bad, 1u) << offset << " " << size;
      } else {
        EXPECT_EQ(bad, offset >= 0x48 ? size / 4 : 0) << offset << " " << size;
      }
    }
  }
  for (std::uint64_t offset = 0x48; offset < 0x1000; offset += 4) {
    godwit_device_register_write(m.device(), offset, 0xffffffff, 4);
    EXPECT_EQ(m.reg(static_cast<std::uint32_t>(offset)), 0u);
  }
  godwit_device_register_write(m.device(), UINT64_MAX, 1, 4);
  EXPECT_EQ(godwit_device_register_read(m.device(), UINT64_MAX - 3, 4), 0u);
  EXPECT_EQ(m.reg(GODWIT_REG_STATUS), std::uint32_t{GODWIT_STATUS_LINK_UP_MASK});
}

TEST(Registers, PairIsTwoWords) {
  Machine m(small_config(1));
  godwit_device_register_write(m.device(), GODWIT_REG_CMD_SQ_LO, 0x1234567890abcdffULL, 8);
  EXPECT_EQ(godwit_device_register_read(m.device(), GODWIT_REG_CMD_SQ_LO, 8),
            0x1234567890abcdc0ULL);
  EXPECT_EQ(m.reg(GODWIT_REG_CMD_SQ_HI), 0x12345678u);
  EXPECT_EQ(m.reg(GODWIT_REG_BAD_ACCESSES), 0u);
}

TEST(Registers, RingIsFixedWhileEnabledAndGoneAfterReset) {
  Machine m(small_config(1));
  m.enable(4);
  m.set_reg(GODWIT_REG_CMD_LOG2_DEPTH, 6);
  m.set_reg(GODWIT_REG_CMD_SQ_LO, 0);
  EXPECT_EQ(m.reg(GODWIT_REG_CMD_LOG2_DEPTH), 4u);
  EXPECT_TRUE(m.command(GODWIT_CMD_NOP).ok());
  m.set_reg(GODWIT_REG_SCRATCH, 5);
  m.set_reg(GODWIT_REG_CONTROL, 0);
  EXPECT_EQ(m.reg(GODWIT_REG_CMD_LOG2_DEPTH), 0u);
  EXPECT_EQ(m.reg(GODWIT_REG_SCRATCH), 0u);
  m.set_reg(GODWIT_REG_CMD_LOG2_DEPTH, 9);
  EXPECT_EQ(m.reg(GODWIT_REG_CMD_LOG2_DEPTH), 0u);
}

TEST(CommandRing, WrapsWithPhaseAndInterrupts) {
  Machine m(small_config(1));
  m.enable(1);
  m.set_reg(GODWIT_REG_CMD_INTERRUPT, 1);
  for (unsigned i = 0; i < 9; ++i) {
    EXPECT_TRUE(m.command(GODWIT_CMD_NOP).ok());
    EXPECT_EQ(m.interrupts[0], i + 1);
  }
}

TEST(CommandRing, DoorbellKicks) {
  Machine m(small_config(1));
  m.enable();
  m.run();
  EXPECT_FALSE(m.kicked());
  m.set_reg(GODWIT_REG_CMD_DOORBELL, 0);
  EXPECT_TRUE(m.kicked());
}

TEST(CommandRing, ProducerBeyondTheRingIsFatal) {
  Machine m(small_config(1));
  m.start();
  m.set_reg(GODWIT_REG_CMD_DOORBELL, 1000);
  m.run();
  EXPECT_EQ(m.reg(GODWIT_REG_FATAL_CAUSE), unsigned{GODWIT_FATAL_CMD_RING});
  EXPECT_EQ(m.reg(GODWIT_REG_STATUS) & GODWIT_STATUS_FATAL_MASK, GODWIT_STATUS_FATAL_MASK);
  EXPECT_GE(m.interrupts[0], 1u);
  const std::vector<godwit_eqe> events = m.events(0);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].type, GODWIT_EQE_FATAL);
  EXPECT_EQ(events[0].number.raw, unsigned{GODWIT_FATAL_CMD_RING});
  m.set_reg(GODWIT_REG_CONTROL, GODWIT_CONTROL_RESET_MASK);
  EXPECT_EQ(m.reg(GODWIT_REG_FATAL_CAUSE), 0u);
  m.start();
  EXPECT_TRUE(m.command(GODWIT_CMD_NOP).ok());
}

TEST(CommandRing, UnreachableRingIsFatal) {
  Machine m(small_config(1));
  m.enable();
  m.dma_refused_from = 0;
  EXPECT_FALSE(m.command(GODWIT_CMD_NOP).ok());
  EXPECT_EQ(m.reg(GODWIT_REG_FATAL_CAUSE), unsigned{GODWIT_FATAL_CMD_DMA});
}

TEST(CommandRing, UnknownOpcodesAndReservedFields) {
  Machine m(small_config(1));
  m.start();
  unsigned known = 0;
  for (unsigned opcode = 0; opcode < 256; ++opcode) {
    std::uint8_t params[56];
    std::memset(params, 0xff, sizeof(params));
    const Result r = m.command_bytes(static_cast<std::uint8_t>(opcode), params, sizeof(params));
    EXPECT_FALSE(r.ok()) << opcode;
    if (r.status != GODWIT_CMD_STATUS_BAD_OPCODE) ++known;
  }
  EXPECT_EQ(known, 34u);
  EXPECT_EQ(m.command(GODWIT_CMD_CREATE_SRQ).status, GODWIT_CMD_STATUS_NOT_SUPPORTED);
  EXPECT_EQ(m.reg(GODWIT_REG_FATAL_CAUSE), 0u);
}

TEST(CommandRing, ExtensionMasked) {
  godwit_device_config config = small_config(1);
  config.migration = false;
  config.atomics = false;
  Machine m(config);
  m.start();
  EXPECT_EQ(m.query_device().flags.raw, std::uint64_t{GODWIT_CAP_RC});
  EXPECT_EQ(m.scope(GODWIT_CMD_STOP, GODWIT_SCOPE_UCTX, 1).status, GODWIT_CMD_STATUS_NOT_SUPPORTED);
}

TEST(CommandRing, QueryDevice) {
  Machine m(small_config(1));
  m.start();
  const godwit_device_caps caps = m.query_device();
  EXPECT_EQ(caps.flags.raw,
            std::uint64_t{GODWIT_CAP_RC | GODWIT_CAP_MIGRATION | GODWIT_CAP_ATOMICS});
  EXPECT_EQ(caps.max_uctx.raw, 16u);
  EXPECT_EQ(caps.max_qp.raw, 32u);
  EXPECT_EQ(caps.clock_hz.raw, 1000000000u);
  EXPECT_EQ(
      m.command(GODWIT_CMD_QUERY_DEVICE, godwit_cmd_mailbox{{m.mailbox()}, {127}, {0}}).status,
      GODWIT_CMD_STATUS_BAD_PARAMETER);
  EXPECT_EQ(m.command(GODWIT_CMD_QUERY_DEVICE, godwit_cmd_mailbox{{64}, {128}, {0}}).status,
            GODWIT_CMD_STATUS_DMA_ERROR);
}

TEST(Events, LinkChangesAreTold) {
  Machine m(small_config(1));
  m.start();
  godwit_device_set_link(m.device(), false);
  EXPECT_TRUE(m.kicked());
  m.run();
  godwit_device_set_link(m.device(), true);
  m.run();
  const std::vector<godwit_eqe> events = m.events(0);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].type, GODWIT_EQE_PORT);
  EXPECT_EQ(events[0].subtype, GODWIT_EQE_PORT_DOWN);
  EXPECT_EQ(events[1].subtype, GODWIT_EQE_PORT_ACTIVE);
  EXPECT_EQ(m.interrupts[0], 1u);  // armed once
  EXPECT_EQ(m.reg(GODWIT_REG_STATUS) & GODWIT_STATUS_LINK_UP_MASK, GODWIT_STATUS_LINK_UP_MASK);
}

class EthernetTest : public ::testing::Test {
 protected:
  void SetUp() override {
    m.start();
    tx = m.memory().contiguous(16 * 16);
    rx = m.memory().contiguous(16 * 16);
    data = m.memory().contiguous(65536);
    ASSERT_TRUE(enable(1).ok());
  }
  Result enable(std::uint32_t on) {
    godwit_cmd_set_eth_rings in = {};
    in.enable = {on};
    if (on != 0) {
      in.log2_tx = in.log2_rx = 4;
      in.tx_ring = {tx};
      in.rx_ring = {rx};
    }
    return m.command(GODWIT_CMD_SET_ETH_RINGS, in);
  }
  void post(std::uint64_t ring, unsigned index, std::uint64_t addr, std::uint32_t length,
            std::uint8_t flags) {
    godwit_eth_desc desc = {};
    desc.addr = {addr};
    desc.length = {length};
    desc.flags = flags;
    m.memory().put(ring + index % 16 * 16, desc);
  }
  godwit_eth_desc desc(std::uint64_t ring, unsigned index) {
    return m.memory().get<godwit_eth_desc>(ring + index % 16 * 16);
  }
  static Frame frame(std::size_t length, std::uint8_t first = 0xff) {
    Frame f(length);
    for (std::size_t i = 0; i < length; ++i) f[i] = static_cast<std::uint8_t>(i * 7);
    std::fill_n(f.begin(), 6, first);
    f[12] = 0x08;
    f[13] = 0x06;
    return f;
  }
  std::uint64_t counter(unsigned index) { return godwit_device_counter(m.device(), index); }

  Machine m{small_config(1)};
  std::uint64_t tx = 0, rx = 0, data = 0;
};

TEST_F(EthernetTest, SendsGatheredFrames) {
  const Frame f = frame(1514);
  m.memory().write(data, f.data(), f.size());
  post(tx, 0, data, 14, 0);
  post(tx, 1, data + 14, 1500, GODWIT_ETH_TX_EOP_MASK);
  m.doorbell(0, GODWIT_DB_ETH_ARM, 0, GODWIT_DB_ETH_ARM_TX_MASK);
  m.doorbell(0, GODWIT_DB_ETH_TX, 0, 2);
  EXPECT_TRUE(m.kicked());
  m.run();
  ASSERT_EQ(m.sent.size(), 1u);
  EXPECT_EQ(m.sent[0], f);
  EXPECT_EQ(desc(tx, 0).status, GODWIT_ETH_DONE_MASK);
  EXPECT_EQ(desc(tx, 1).status, GODWIT_ETH_DONE_MASK);
  EXPECT_EQ(m.interrupts[1], 1u);
  EXPECT_EQ(counter(GODWIT_COUNTER_ETH_TX_FRAMES), 1u);
  EXPECT_EQ(counter(GODWIT_COUNTER_ETH_TX_BYTES), 1514u);
}

TEST_F(EthernetTest, ArmAfterCompletionStillInterrupts) {
  post(tx, 0, data, 60, GODWIT_ETH_TX_EOP_MASK);
  m.doorbell(0, GODWIT_DB_ETH_TX, 0, 1);
  m.run();
  EXPECT_EQ(m.interrupts[1], 0u);
  m.doorbell(0, GODWIT_DB_ETH_ARM, 0, GODWIT_DB_ETH_ARM_TX_MASK);
  m.run();
  EXPECT_EQ(m.interrupts[1], 1u);
  m.doorbell(0, GODWIT_DB_ETH_ARM, 0, GODWIT_DB_ETH_ARM_TX_MASK);
  m.run();
  EXPECT_EQ(m.interrupts[1], 1u);
}

TEST_F(EthernetTest, BadDescriptorsAreReported) {
  post(tx, 0, 0, 60, GODWIT_ETH_TX_EOP_MASK);       // no memory there
  post(tx, 1, data, 0, GODWIT_ETH_TX_EOP_MASK);     // empty
  post(tx, 2, data, 9217, GODWIT_ETH_TX_EOP_MASK);  // too long
  post(tx, 3, data, 13, GODWIT_ETH_TX_EOP_MASK);    // too short
  post(tx, 4, data, 60, 0x82);                      // unknown flag, and no end
  post(tx, 5, data, 60, GODWIT_ETH_TX_EOP_MASK);    // end of that one
  post(tx, 6, data, 9000, 0);                       // too long together
  post(tx, 7, data, 217, GODWIT_ETH_TX_EOP_MASK);
  post(tx, 8, data, 9216, GODWIT_ETH_TX_EOP_MASK);  // good
  m.doorbell(0, GODWIT_DB_ETH_TX, 0, 9);
  m.run();
  ASSERT_EQ(m.sent.size(), 1u);
  EXPECT_EQ(m.sent[0].size(), 9216u);
  for (const unsigned i : {0u, 1u, 2u, 3u, 5u, 7u}) {
    EXPECT_EQ(desc(tx, i).status, GODWIT_ETH_DONE_MASK | GODWIT_ETH_TX_ERROR_MASK) << i;
  }
  EXPECT_EQ(desc(tx, 8).status, GODWIT_ETH_DONE_MASK);
  // A producer that is not possible is no producer.
  m.doorbell(0, GODWIT_DB_ETH_TX, 0, 500);
  m.run();
  EXPECT_EQ(counter(GODWIT_COUNTER_BAD_DOORBELLS), 1u);
}

TEST_F(EthernetTest, ReceivesWhatPassesTheFilter) {
  for (unsigned i = 0; i < 4; ++i) post(rx, i, data + i * 2048, 2048, 0);
  m.doorbell(0, GODWIT_DB_ETH_RX, 0, 4);
  m.doorbell(0, GODWIT_DB_ETH_ARM, 0, GODWIT_DB_ETH_ARM_RX_MASK);
  m.receive(frame(100));  // broadcast
  EXPECT_EQ(m.interrupts[1], 1u);
  m.receive(frame(100, 0x33));  // multicast: not wanted
  m.receive(frame(100, 0x02));  // somebody else's
  EXPECT_EQ(counter(GODWIT_COUNTER_ETH_RX_FILTERED), 2u);
  const std::uint8_t macs[16] = {2, 2, 2, 2, 2, 2, 0, 0, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33, 0, 0};
  m.memory().write(m.mailbox(), macs, sizeof(macs));
  EXPECT_TRUE(
      m.command(GODWIT_CMD_SET_ETH_FILTER, godwit_cmd_set_eth_filter{{m.mailbox()}, {2}, {0}})
          .ok());
  m.receive(frame(100, 0x33));
  m.receive(frame(101, 0x02));
  Frame own = frame(102);
  const std::uint8_t mac[6] = {0x52, 0x54, 0, 0x67, 0, 1};
  std::copy_n(mac, 6, own.begin());
  m.receive(own);
  EXPECT_EQ(desc(rx, 3).length.raw, 102u);
  EXPECT_EQ(m.interrupts[1], 1u);
  EXPECT_EQ(counter(GODWIT_COUNTER_ETH_RX_FRAMES), 4u);
  m.receive(own);
  EXPECT_EQ(counter(GODWIT_COUNTER_ETH_RX_NO_DESC), 1u);
  Frame got(102);
  m.memory().read(data + 3 * 2048, got.data(), got.size());
  EXPECT_EQ(got, own);
}

TEST_F(EthernetTest, LongFramesAreCut) {
  post(rx, 0, data, 100, 0);
  m.doorbell(0, GODWIT_DB_ETH_RX, 0, 1);
  m.receive(frame(101));
  EXPECT_EQ(desc(rx, 0).status, GODWIT_ETH_DONE_MASK | GODWIT_ETH_RX_ERROR_MASK);
  EXPECT_EQ(desc(rx, 0).length.raw, 100u);
}

TEST_F(EthernetTest, StopsAndStarts) {
  EXPECT_EQ(enable(1).status, GODWIT_CMD_STATUS_BAD_STATE);
  EXPECT_TRUE(enable(0).ok());
  m.receive(frame(100));
  EXPECT_EQ(counter(GODWIT_COUNTER_ETH_RX_NO_DESC), 1u);
  m.doorbell(0, GODWIT_DB_ETH_TX, 0, 1);
  m.run();
  EXPECT_TRUE(m.sent.empty());
  EXPECT_TRUE(enable(1).ok());
  godwit_device_reset(m.device());
  m.receive(frame(100));
  EXPECT_EQ(counter(GODWIT_COUNTER_ETH_RX_FRAMES), 0u);
}

TEST_F(EthernetTest, TinyFramesAndLinkDown) {
  post(rx, 0, data, 2048, 0);
  m.doorbell(0, GODWIT_DB_ETH_RX, 0, 1);
  for (std::size_t n = 0; n < 14; ++n) m.receive(Frame(n, 0xff));
  EXPECT_EQ(counter(GODWIT_COUNTER_ETH_RX_FRAMES), 0u);
  EXPECT_EQ(counter(GODWIT_COUNTER_RX_MALFORMED), 14u) << "every frame that is dropped is counted";
  godwit_device_set_link(m.device(), false);
  post(tx, 0, data, 60, GODWIT_ETH_TX_EOP_MASK);
  m.doorbell(0, GODWIT_DB_ETH_TX, 0, 1);
  m.run();
  EXPECT_TRUE(m.sent.empty());
  EXPECT_EQ(desc(tx, 0).status, GODWIT_ETH_DONE_MASK);
}

// A 64-bit store, or two 32-bit ones, low half first; anything else is no doorbell.
TEST_F(EthernetTest, DoorbellShapes) {
  post(tx, 0, data, 60, GODWIT_ETH_TX_EOP_MASK);
  godwit_device_doorbell_write(m.device(), GODWIT_DB_ETH_TX, 0, 4);
  godwit_device_doorbell_write(m.device(), GODWIT_DB_ETH_TX + 4, 1, 4);
  m.run();
  EXPECT_EQ(m.sent.size(), 1u);
  EXPECT_EQ(counter(GODWIT_COUNTER_BAD_DOORBELLS), 0u);
  godwit_device_doorbell_write(m.device(), GODWIT_DB_ETH_TX + 4, 1, 4);  // no low half
  godwit_device_doorbell_write(m.device(), GODWIT_DB_ETH_TX, 1, 2);
  godwit_device_doorbell_write(m.device(), GODWIT_DB_ETH_TX + 1, 1, 8);
  godwit_device_doorbell_write(m.device(), UINT64_MAX - 7, 1, 8);
  m.doorbell(3, GODWIT_DB_ETH_TX, 0, 1);  // not page 0
  m.doorbell(0, 0x100, 0, 1);
  EXPECT_EQ(counter(GODWIT_COUNTER_BAD_DOORBELLS), 6u);
}

}  // namespace
}  // namespace godwit::test
