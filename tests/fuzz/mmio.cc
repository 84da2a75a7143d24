// SPDX-License-Identifier: GPL-2.0-or-later
//
// A guest that does anything to the device's BARs and to the memory that it reads, also while it
// reads it. Accesses that name nothing are counted and change nothing; constants stay constant;
// and after a reset the device is a new one.
#include <cstring>

#include "fuzz/scene.h"

namespace godwit::fuzz {
namespace {

constexpr unsigned kSteps = 128;
constexpr std::uint32_t kLog2Ring = 3;

constexpr std::uint32_t kRegisters[] = {GODWIT_REG_ID,
                                        GODWIT_REG_VERSION,
                                        GODWIT_REG_CONTROL,
                                        GODWIT_REG_STATUS,
                                        GODWIT_REG_MAC_LO,
                                        GODWIT_REG_MAC_HI,
                                        GODWIT_REG_FATAL_CAUSE,
                                        GODWIT_REG_DOORBELL_PAGES,
                                        GODWIT_REG_CMD_SQ_LO,
                                        GODWIT_REG_CMD_SQ_HI,
                                        GODWIT_REG_CMD_CQ_LO,
                                        GODWIT_REG_CMD_CQ_HI,
                                        GODWIT_REG_CMD_LOG2_DEPTH,
                                        GODWIT_REG_CMD_DOORBELL,
                                        GODWIT_REG_CMD_INTERRUPT,
                                        GODWIT_REG_VECTORS,
                                        GODWIT_REG_SCRATCH,
                                        GODWIT_REG_BAD_ACCESSES};
constexpr std::uint32_t kConstants[] = {
    GODWIT_REG_ID,     GODWIT_REG_VERSION,        GODWIT_REG_MAC_LO,
    GODWIT_REG_MAC_HI, GODWIT_REG_DOORBELL_PAGES, GODWIT_REG_VECTORS};

class Guest {
 public:
  explicit Guest(Input input) : in_(input), m_(scene_config(), &clock_, kPages) {
    for (std::size_t i = 0; i < std::size(kConstants); ++i) constants_[i] = m_.reg(kConstants[i]);
    // Half of the programs begin where a driver has done its work.
    if (in_.chance()) {
      start();
    } else {
      blank();
    }
    m_.after_dma_read = [this](std::uint64_t addr, std::size_t length) { change(addr, length); };
  }

  void run() {
    for (unsigned step = 0; step < kSteps && !in_.empty(); ++step) {
      one_step();
      for (std::size_t i = 0; i < std::size(kConstants); ++i) {
        require(m_.reg(kConstants[i]) == constants_[i], "a constant register stays as it is");
      }
    }
    reset();
  }

 private:
  void blank() {
    ring_ = m_.memory().contiguous(test::GuestMemory::kPage);
    scratch_ = m_.memory().contiguous(4 * test::GuestMemory::kPage);
    m_.set_reg(GODWIT_REG_CMD_SQ_LO, static_cast<std::uint32_t>(ring_));
    m_.set_reg(GODWIT_REG_CMD_CQ_LO, static_cast<std::uint32_t>(ring_ + 2048));
    m_.set_reg(GODWIT_REG_CMD_LOG2_DEPTH, kLog2Ring);
    if (in_.chance()) m_.set_reg(GODWIT_REG_CONTROL, GODWIT_CONTROL_ENABLE_MASK);
  }

  // Two QPs that talk to each other, with room to damage them.
  void start() {
    m_.start(4, 4);
    must(m_.set_gid(0, Scene::gid(), Scene::kMac));
    must(m_.create_pd(1, Scene::kPd));
    for (unsigned i = 0; i < 2; ++i) {
      cq_[i].uctx = 1;
      cq_[i].number = 5 + i;
      cq_[i].log2_depth = 3;
      must(m_.create_cq(&cq_[i]));
      region_[i].pdn = Scene::kPd;
      region_[i].access = 0xf;
      region_[i].iova = 0x10000 * (i + 1);
      region_[i].buffer = test::make_buffer(m_.memory(), 8192, 64);
      must(m_.register_region(&region_[i]));
      qp_[i].uctx = 1;
      qp_[i].pdn = Scene::kPd;
      qp_[i].send_cqn = qp_[i].recv_cqn = cq_[i].number;
      qp_[i].log2_sq = qp_[i].log2_rq = 3;
      qp_[i].log2_stride = 7;
      must(m_.create_qp(&qp_[i]));
    }
    const ConnectOptions options;
    for (unsigned i = 0; i < 2; ++i) {
      must(m_.to_init(qp_[i], options));
      must(m_.to_rtr(qp_[i], options, {Scene::gid(), Scene::kMac, qp_[1 - i].qpn, 101 - i}));
      must(m_.to_rts(qp_[i], options, 100 + i));
    }
    ring_ = m_.command_completions() - (std::uint64_t{64} << 8);
    scratch_ = m_.memory().contiguous(4 * test::GuestMemory::kPage);
    started_ = true;
    for (unsigned i = 0; i < 16; ++i) {
      godwit_eth_desc desc = {};
      desc.addr = {scratch_ + 4096};
      desc.length = {100 * i};
      desc.flags = i % 2;
      m_.memory().put(scratch_ + i * sizeof(desc), desc);
      m_.memory().put(scratch_ + 1024 + i * sizeof(desc), desc);
    }
    godwit_cmd_set_eth_rings in = {};
    in.enable = {1};
    in.log2_tx = in.log2_rx = 4;
    in.tx_ring = {scratch_};
    in.rx_ring = {scratch_ + 1024};
    must(m_.command(GODWIT_CMD_SET_ETH_RINGS, in));
    producer_ = m_.command_producer();
    m_.doorbell(0, GODWIT_DB_ETH_RX, 0, 8);
    m_.doorbell(0, GODWIT_DB_ETH_ARM, 0, GODWIT_DB_ETH_ARM_TX_MASK | GODWIT_DB_ETH_ARM_RX_MASK);
  }

  // Another CPU of the guest writes what the device has just read, or is about to.
  void change(std::uint64_t addr, std::size_t length) {
    if (changes_ == 0 || length == 0) return;
    --changes_;
    const std::uint64_t at = addr + in_.byte() % length;
    std::uint8_t value = 0;
    if (!m_.memory().read(at, &value, 1)) return;
    value ^= in_.byte();
    (void)m_.memory().write(at, &value, 1);
  }

  std::uint32_t number() {
    switch (in_.byte() % 6) {
      case 0:
        return qp_[0].qpn;
      case 1:
        return qp_[1].qpn;
      case 2:
        return 5 + in_.byte() % 2;
      default:
        return static_cast<std::uint32_t>(in_.number());
    }
  }

  std::uint64_t address() {
    switch (in_.byte() % 8) {
      case 0:
        return in_.number();
      case 1:
        return ring_ + 8 * in_.half() % 4096;
      case 2: {
        const Buffer& buffer = qp_[in_.byte() % 2].buffer;
        if (buffer.length != 0) return buffer.at(in_.half() % buffer.length);
        return scratch_;
      }
      case 3: {
        const Buffer& buffer = cq_[in_.byte() % 2].buffer;
        if (buffer.length != 0) return buffer.at(in_.half() % buffer.length);
        return scratch_;
      }
      case 4:
        return scratch_ + in_.half() % (4 * test::GuestMemory::kPage);
      default:
        return scratch_ + 64 * in_.byte();
    }
  }

  void write_register() {
    const std::uint8_t how = in_.byte();
    std::uint64_t offset = kRegisters[in_.below(std::size(kRegisters))];
    unsigned size = 4;
    if ((how & 3) == 3) offset = in_.number();
    if ((how & 12) == 12) size = 1u << in_.below(4);
    const std::uint64_t value = (how & 16) != 0 ? address() : in_.number();
    const bool good =
        offset < GODWIT_BAR_REGS_SIZE && (size == 4 || size == 8) && offset % size == 0;
    const std::uint32_t bad = m_.reg(GODWIT_REG_BAD_ACCESSES);
    godwit_device_register_write(m_.device(), offset, value, size);
    if (!good) {
      require(m_.reg(GODWIT_REG_BAD_ACCESSES) == bad + 1, "a bad write is counted");
    } else {
      // A reset takes the count with it.
      require(m_.reg(GODWIT_REG_BAD_ACCESSES) <= bad + 2, "a good write is no bad one");
    }
  }

  void read_register() {
    const std::uint64_t offset =
        in_.chance() ? kRegisters[in_.below(std::size(kRegisters))] : in_.number();
    const unsigned size = 1u << in_.below(5);  // 16: no bus does that, and the device says so
    const bool good =
        offset < GODWIT_BAR_REGS_SIZE && (size == 4 || size == 8) && offset % size == 0;
    const std::uint32_t bad = m_.reg(GODWIT_REG_BAD_ACCESSES);
    const std::uint64_t value = godwit_device_register_read(m_.device(), offset, size);
    require(size >= 8 || value >> (8 * size) == 0, "a read gives no more than was asked for");
    if (good) return;
    require(value == 0, "a bad read gives zero");
    require(m_.reg(GODWIT_REG_BAD_ACCESSES) == bad + 1, "a bad read is counted");
  }

  void doorbell() {
    static constexpr std::uint32_t kDoorbells[] = {
        GODWIT_DB_SQ, GODWIT_DB_SQ,     GODWIT_DB_RQ,     GODWIT_DB_SRQ,    GODWIT_DB_CQ_ARM,
        GODWIT_DB_EQ, GODWIT_DB_ETH_TX, GODWIT_DB_ETH_RX, GODWIT_DB_ETH_ARM};
    const std::uint8_t how = in_.byte();
    std::uint64_t offset =
        (how & 3) * GODWIT_DB_PAGE_SIZE + kDoorbells[in_.below(std::size(kDoorbells))];
    unsigned size = 8;
    if ((how & 12) == 12) offset = in_.number();
    if ((how & 48) == 48) {
      size = 1u << in_.below(5);
      if (in_.chance()) offset += 4;
    }
    const std::uint64_t value = in_.number() << 32 | number();
    const std::uint64_t bad = count(GODWIT_COUNTER_BAD_DOORBELLS);
    godwit_device_doorbell_write(m_.device(), offset, value, size);
    const std::uint64_t limit = std::uint64_t{scene_config().doorbell_pages} * GODWIT_DB_PAGE_SIZE;
    const bool shape = offset < limit && (size == 4 || size == 8) && offset % size == 0;
    if (!shape && alive()) {
      require(count(GODWIT_COUNTER_BAD_DOORBELLS) == bad + 1, "a doorbell of no shape is counted");
    }
  }

  bool alive() { return (m_.reg(GODWIT_REG_STATUS) & GODWIT_STATUS_ENABLED_MASK) != 0; }
  std::uint64_t count(unsigned counter) { return godwit_device_counter(m_.device(), counter); }

  void write_memory() {
    const std::uint64_t at = address();
    if (in_.chance()) {
      const std::uint64_t value = in_.chance() ? address() : in_.number();
      (void)m_.memory().write(at, &value, 8);
    } else {
      const auto bytes = in_.bytes(in_.byte() % 64);
      (void)m_.memory().write(at, bytes.data(), bytes.size());
    }
  }

  // A command as a driver would write it, whatever is in it.
  void command() {
    static constexpr std::uint8_t kLast = GODWIT_CMD_QUERY_TOMBSTONES;
    godwit_cmd command = {};
    command.opcode = in_.byte() % (kLast + 2);
    command.id = {in_.half()};
    if (in_.byte() == 0xff) command.reserved_8 = in_.byte();
    for (unsigned words = in_.byte() % 8; words > 0; --words) {
      const unsigned at = 4 * (in_.byte() % 14);
      const std::uint64_t value = in_.chance() ? address() : number();
      std::memcpy(command.params + at, &value, at == 52 ? 4 : 8);
    }
    const std::uint32_t depth = started_ ? 4 : kLog2Ring;
    const std::uint64_t slot = ring_ + (producer_++ & ((1u << depth) - 1)) * sizeof(command);
    (void)m_.memory().write(slot, &command, sizeof(command));
    m_.set_reg(GODWIT_REG_CMD_DOORBELL, in_.byte() < 250 ? producer_ : in_.word());
  }

  void post() {
    if (!started_) return;
    const unsigned i = in_.byte() % 2;
    static constexpr std::uint8_t kWork[] = {GODWIT_WR_SEND, GODWIT_WR_WRITE, GODWIT_WR_READ,
                                             GODWIT_WR_FETCH_ADD};
    SendWork work;
    work.opcode = kWork[in_.below(std::size(kWork))];
    work.remote_addr = region_[1 - i].iova;
    work.rkey = region_[1 - i].key;
    work.sges = {{region_[i].iova, 8 + in_.half() % 8000u, region_[i].key}};
    if (in_.chance()) qp_[1 - i].write_recv({{region_[1 - i].iova, 8000, region_[1 - i].key}});
    qp_[i].write_send(work);
    m_.ring_sq(qp_[i]);
  }

  void one_step() {
    switch (in_.byte() % 12) {
      case 0:
        return write_register();
      case 1:
        return read_register();
      case 2:
      case 3:
        return doorbell();
      case 4:
      case 5:
        return write_memory();
      case 6:
        changes_ = in_.byte() % 16;
        break;
      case 7:
        clock_ += in_.number() % (1000 * kMillisecond);
        break;
      case 8: {
        const auto bytes = in_.bytes(in_.byte());
        const bool listens = alive();
        const std::uint64_t before = frames_counted(m_) + count(GODWIT_COUNTER_DMA_ERRORS);
        m_.receive({bytes.begin(), bytes.end()});
        require(!listens || frames_counted(m_) + count(GODWIT_COUNTER_DMA_ERRORS) > before,
                "a frame is counted");
        return;
      }
      case 9:
        return post();
      case 10:
        return command();
      default:
        godwit_device_set_link(m_.device(), in_.chance());
        break;
    }
    run_device();
  }

  void run_device() {
    require(m_.run(20000), "the device comes to rest");
    m_.sent.clear();
  }

  // Only a reset helps against a driver like this one, and it does.
  void reset() {
    m_.after_dma_read = nullptr;
    changes_ = 0;
    if (in_.chance()) {
      m_.set_reg(GODWIT_REG_CONTROL, GODWIT_CONTROL_RESET_MASK);
    } else {
      godwit_device_reset(m_.device());
    }
    godwit_device_set_link(m_.device(), true);
    require(m_.reg(GODWIT_REG_CONTROL) == 0 && m_.reg(GODWIT_REG_CMD_SQ_LO) == 0 &&
                m_.reg(GODWIT_REG_FATAL_CAUSE) == 0 && m_.reg(GODWIT_REG_BAD_ACCESSES) == 0 &&
                m_.next_deadline() == GODWIT_NO_DEADLINE && m_.run(1),
            "after a reset nothing is left");
    // Also no page of what was registered.
    Fence fence(m_);
    Bystander after(m_);
    after.check(&fence);
  }

  Input in_;
  std::uint64_t clock_ = 1;
  Machine m_;
  std::uint32_t constants_[std::size(kConstants)];
  CompletionQueue cq_[2];
  MemoryRegion region_[2];
  QueuePair qp_[2];
  bool started_ = false;
  std::uint64_t ring_ = 0;
  std::uint64_t scratch_ = 0;
  std::uint32_t producer_ = 0;
  unsigned changes_ = 0;
};

}  // namespace
}  // namespace godwit::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  godwit::fuzz::Guest(godwit::fuzz::Input(data, size)).run();
  return 0;
}
