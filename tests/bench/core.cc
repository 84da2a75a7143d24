// SPDX-License-Identifier: GPL-2.0-or-later
//
// The core alone: two NICs with a wire of nothing between them. With --packets it
// only sends, for those who count instructions: see `instructions`.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "support/machine.h"
#include "wire/icrc.h"

namespace {

using namespace godwit::test;

void must(const Result& result) {
  if (!result.ok()) std::abort();
}

// A queue pair on each of two NICs, connected.
class Link {
 public:
  static constexpr std::uint32_t kBytes = 65536;

  explicit Link(bool migration) {
    for (unsigned i = 0; i < 2; ++i) {
      godwit_device_config config = small_config(static_cast<std::uint8_t>(i + 1));
      config.migration = migration;
      ends_[i].machine = std::make_unique<Machine>(config, &clock_);
      set_up(ends_[i], i);
    }
    ConnectOptions options;
    options.path_mtu = 5;  // 4096
    options.timeout = 0;
    for (unsigned i = 0; i < 2; ++i) {
      Machine& m = *ends_[i].machine;
      m.on_frame = [this, i](const Frame& frame) { ends_[1 - i].in.push_back(frame); };
      must(m.to_init(ends_[i].qp, options));
      must(m.to_rtr(ends_[i].qp, options, {gid(1 - i), mac(1 - i), ends_[1 - i].qp.qpn, 1}));
      must(m.to_rts(ends_[i].qp, options, 1));
    }
  }

  // Until it is complete.
  void write(std::uint32_t bytes) {
    SendWork work;
    work.opcode = GODWIT_WR_WRITE;
    work.remote_addr = ends_[1].region.iova;
    work.rkey = ends_[1].region.key;
    work.sges = {{ends_[0].region.iova, bytes, ends_[0].region.key}};
    ends_[0].qp.write_send(work);
    ends_[0].machine->ring_sq(ends_[0].qp);
    while (!ends_[0].cq.poll()) {
      for (End& end : ends_) {
        for (const Frame& frame : std::exchange(end.in, {})) end.machine->receive(frame);
        end.machine->run();
      }
      clock_ += 1000;
    }
  }

 private:
  struct End {
    std::unique_ptr<Machine> machine;
    CompletionQueue cq;
    MemoryRegion region;
    QueuePair qp;
    std::vector<Frame> in;
  };

  static Gid gid(unsigned i) { return ipv4_gid(10, 77, 0, static_cast<std::uint8_t>(i + 1)); }
  static Mac mac(unsigned i) { return {2, 0, 0, 0, 0, static_cast<std::uint8_t>(i + 1)}; }

  static void set_up(End& end, unsigned i) {
    Machine& m = *end.machine;
    m.start();
    must(m.set_gid(0, gid(i), mac(i)));
    must(m.create_pd(1, 3));
    end.cq.uctx = 1;
    end.cq.number = 5;
    end.cq.log2_depth = 7;
    must(m.create_cq(&end.cq));
    end.region.pdn = 3;
    end.region.access = 0xf;
    end.region.iova = 0x7f0000000000;
    end.region.buffer = make_buffer(m.memory(), kBytes, 64);
    must(m.register_region(&end.region));
    end.qp.uctx = 1;
    end.qp.pdn = 3;
    end.qp.send_cqn = end.qp.recv_cqn = 5;
    end.qp.log2_sq = end.qp.log2_rq = 4;
    must(m.create_qp(&end.qp));
  }

  std::uint64_t clock_ = 0;
  End ends_[2];
};

// One request, its ACK and its completion, at both NICs.
void Write(benchmark::State& state) {
  Link link(state.range(1) != 0);
  const auto bytes = static_cast<std::uint32_t>(state.range(0));
  for (auto _ : state) link.write(bytes);
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(Write)->ArgNames({"bytes", "migration"})->ArgsProduct({{8, 4096, 65536}, {0, 1}});

void Icrc(benchmark::State& state) {
  const std::vector<std::uint8_t> packet(static_cast<std::size_t>(state.range(0)), 0x5a);
  for (auto _ : state) benchmark::DoNotOptimize(godwit::wire::crc32(~0U, packet));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(Icrc)->Arg(64)->Arg(4096);

void Memcpy(benchmark::State& state) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  std::vector<std::uint8_t> from(bytes, 1), to(bytes);
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), bytes);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(Memcpy)->Arg(4096)->Arg(1 << 20);

}  // namespace

int main(int argc, char** argv) {
  if (argc == 4 && std::strcmp(argv[1], "--packets") == 0) {
    Link link(std::strcmp(argv[3], "on") == 0);
    for (long n = std::atol(argv[2]); n > 0; --n) link.write(8);
    return 0;
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
