// SPDX-License-Identifier: GPL-2.0-or-later
//
// What users wait for, in real guests: perftest over Godwit and over Soft-RoCE, in turns in the
// same guests; and how long a container stands still that moves, by its queue pairs and memory,
// against the same container without RDMA.
#include <getopt.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <thread>

#include "client.h"
#include "container.h"
#include "daemon.h"
#include "error.h"
#include "interrupt.h"
#include "migrate.h"
#include "perftest.h"
#include "plan.h"
#include "soft_roce.h"

namespace {

using namespace godwit::lab;
using Json = nlohmann::json;

struct Options {
  std::string output = "bench.json";
  int rounds = 3;
  bool perftest = true, moves = true;
  std::vector<unsigned> qps = {1, 16, 256, 4096};
  std::vector<unsigned> mib = {1, 64, 256};
};

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  return n % 2 != 0 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

double load() {
  double one = 0;
  return getloadavg(&one, 1) == 1 ? one : 0;
}

// 1 MiB at a time, not in a cache: what no wire in this machine's memory can beat.
double memcpy_mb_s() {
  constexpr std::size_t kPiece = 1 << 20, kPieces = 256;
  const std::vector<char> from(kPiece * kPieces, 1);
  std::vector<char> to(kPiece * kPieces, 2);
  const auto start = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i < kPieces; ++i) {
    std::memcpy(to.data() + i * kPiece, from.data() + i * kPiece, kPiece);
  }
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
  return static_cast<double>(kPiece * kPieces) / 1e6 / time.count();
}

// ------------------------------------------------------------------ perftest

struct Perftest {
  const char* program;
  unsigned bytes;
  bool latency;
};

// Bandwidths run for a time, since the two differ that much.
constexpr Perftest kPerftests[] = {
    {"ib_write_lat", 2, true},       {"ib_write_lat", 4096, true},  {"ib_send_lat", 2, true},
    {"ib_send_lat", 4096, true},     {"ib_read_lat", 2, true},      {"ib_write_bw", 64, false},
    {"ib_write_bw", 4096, false},    {"ib_write_bw", 65536, false}, {"ib_write_bw", 1 << 20, false},
    {"ib_write_bw", 8 << 20, false}, {"ib_send_bw", 65536, false},  {"ib_read_bw", 1 << 20, false},
};

struct Side {
  const char* name;
  std::string device;
  std::string address;
};

// Microseconds (typical) or MB/s (mean). None: perftest could not measure its clock.
std::optional<double> try_measure(const Lab& lab, const Perftest& test, const Side& side,
                                  int port) {
  // -u 18: a second until a packet is sent again, for a host that is busy
  const std::string command = std::string(test.program) + " -F -u 18 -d " + side.device + " -s " +
                              std::to_string(test.bytes) + " -p " + std::to_string(port) +
                              (test.latency ? " -n 2000" : " -D 4");
  const auto server = lab.start(guest_name(2), {"sh", "-c", command});
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  const ExecResult client = lab.shell(guest_name(1), command + " " + side.address, 120);
  std::istringstream lines(client.out);
  for (std::string line; client.code == 0 && std::getline(lines, line);) {
    std::istringstream words(line);
    std::vector<std::string> all{std::istream_iterator<std::string>(words), {}};
    if (all.size() < 5 || all[0] != std::to_string(test.bytes)) continue;
    return std::atof(all[test.latency ? 4 : 3].c_str());
  }
  if (perftest_lost_its_clock(client.out + server->output())) return std::nullopt;
  throw Error(command + " over " + side.name + " fails:\n" + client.out + server->output());
}

double measure(const Lab& lab, const Perftest& test, const Side& side, int* port) {
  for (int attempt = 1; attempt <= 3; ++attempt) {
    const std::optional<double> seen = try_measure(lab, test, side, (*port)++);
    if (seen) return *seen;
  }
  throw Error(std::string(test.program) + " cannot measure its clock: the machine is too busy");
}

Json run_perftests(const Lab& lab, const Options& options) {
  const SoftRoce rxe[] = {soft_roce_on(lab, guest_name(1)), soft_roce_on(lab, guest_name(2))};
  const Side sides[] = {{"Godwit", "godwit0", guest_ip(2)},
                        {"Soft-RoCE", rxe[1].device, rxe[1].ip}};
  std::map<std::pair<std::size_t, std::size_t>, std::vector<double>> seen;
  int port = 20000;
  for (int round = 1; round <= options.rounds; ++round) {
    for (std::size_t t = 0; t < std::size(kPerftests); ++t) {
      for (std::size_t s = 0; s < std::size(sides); ++s) {
        if (interrupted()) throw Error("interrupted");
        fprintf(stderr, "-- round %d of %d: %s %u over %s\n", round, options.rounds,
                kPerftests[t].program, kPerftests[t].bytes, sides[s].name);
        seen[{t, s}].push_back(measure(lab, kPerftests[t], sides[s], &port));
      }
    }
  }
  const double memory = memcpy_mb_s();
  Json rows = Json::array();
  printf("\n%-14s %9s  %14s %14s %8s %9s\n", "perftest", "bytes", "Godwit", "Soft-RoCE", "times",
         "memcpy/");
  for (std::size_t t = 0; t < std::size(kPerftests); ++t) {
    const Perftest& test = kPerftests[t];
    const double ours = median(seen[{t, 0}]), theirs = median(seen[{t, 1}]);
    const double ratio = test.latency ? theirs / ours : ours / theirs;
    const char* unit = test.latency ? "us" : "MB/s";
    printf("%-14s %9u  %9.2f %-4s %9.2f %-4s %7.1fx", test.program, test.bytes, ours, unit, theirs,
           unit, ratio);
    test.latency ? printf("\n") : printf(" %8.1f\n", memory / ours);
    rows.push_back({{"program", test.program},
                    {"bytes", test.bytes},
                    {"unit", unit},
                    {"godwit", seen[{t, 0}]},
                    {"soft_roce", seen[{t, 1}]},
                    {"times_better", ratio}});
  }
  printf("memcpy of 1 MiB pieces: %.0f MB/s\n", memory);
  return {{"tests", rows}, {"memcpy_mb_s", memory}};
}

// --------------------------------------------------------------------- moves

struct Size {
  unsigned qps;  // 0: without RDMA
  unsigned mib;
};

// There and back: medians of the two.
Json run_move(const Lab& lab, const Size& size) {
  Containers containers(lab);
  const std::string what = size.qps == 0 ? "--plain" : "--qps " + std::to_string(size.qps);
  const std::string mib = std::to_string(size.mib);
  Argv argv = {"godwit-idle", "--mib", mib};
  if (size.qps == 0) {
    argv.push_back("--plain");
  } else {
    argv.insert(argv.end(), {"--qps", std::to_string(size.qps)});
  }
  const Container server = containers.start(guest_name(3), "bench-peer", argv);
  Argv client_argv = argv;
  client_argv.push_back(container_ip(server.number));
  const Container client = containers.start(guest_name(1), "bench", client_argv);
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(5);
  while (containers.logs(client).find("ready") == std::string::npos) {
    if (interrupted() || std::chrono::steady_clock::now() > end || !containers.running(client)) {
      throw Error("godwit-idle does not get ready:\n" + containers.logs(client) +
                  containers.logs(server));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
  }
  MoveOptions options;
  options.step_seconds = 600;
  std::vector<double> stops;
  std::map<std::string, std::vector<double>> steps;
  std::uint64_t image = 0;
  for (const int to : {2, 1}) {
    const MoveReport report = migrate(
        lab, client.name, guest_name(to), [](const std::string&) {}, options);
    if (report.qps != size.qps) {
      throw Error(std::to_string(report.qps) + " queue pairs moved instead of " +
                  std::to_string(size.qps));
    }
    stops.push_back(report.stop_ms);
    for (const auto& [step, ms] : report.steps_ms) steps[step].push_back(ms);
    image = report.image_bytes;
  }
  Json row = {{"qps", size.qps},
              {"mib", size.mib},
              {"stop_ms", median(stops)},
              {"image_bytes", image},
              {"steps_ms", Json::object()}};
  for (const auto& [step, ms] : steps) row["steps_ms"][step] = median(ms);
  for (const Container& c : {containers.find(client.name), server}) containers.remove(c);
  return row;
}

Json run_moves(const Lab& lab, const Options& options) {
  std::vector<Size> sizes;
  for (const unsigned mib : options.mib) {
    sizes.push_back({0, mib});
    sizes.push_back({1, mib});
  }
  for (const unsigned qps : options.qps) {
    if (qps != 1) sizes.push_back({qps, 1});
  }
  // The first move of a lab is slow: neither guest has touched its memory or read its programs.
  const unsigned most = *std::max_element(options.mib.begin(), options.mib.end());
  fprintf(stderr, "-- moves there and back, not counted: 1 queue pair, %u MiB\n", most);
  run_move(lab, {1, most});
  Json rows = Json::array();
  std::map<unsigned, double> plain;
  for (const Size& size : sizes) {
    if (interrupted()) throw Error("interrupted");
    fprintf(stderr, "-- moves there and back: %u queue pairs, %u MiB\n", size.qps, size.mib);
    Json row = run_move(lab, size);
    const double stop = row["stop_ms"];
    if (size.qps == 0) {
      plain[size.mib] = stop;
    } else if (plain.count(size.mib) != 0) {
      row["times_plain"] = stop / plain[size.mib];
    }
    rows.push_back(row);
  }
  const std::vector<std::string> steps = {"checkpoint", "copy", "restore", "hand-over", "go"};
  printf("\n%-22s %8s %8s", "a container that moves", "stop ms", "times");
  for (const std::string& step : steps) printf(" %10s", step.c_str());
  printf("\n");
  for (const Json& row : rows) {
    const unsigned qps = row["qps"];
    const std::string name = (qps == 0 ? std::string("no RDMA") : std::to_string(qps) + " QPs") +
                             ", " + std::to_string(row["mib"].get<unsigned>()) + " MiB";
    printf("%-22s %8.0f ", name.c_str(), row["stop_ms"].get<double>());
    row.contains("times_plain") ? printf("%7.2fx", row["times_plain"].get<double>())
                                : printf("%8s", "");
    for (const std::string& step : steps) printf(" %10.0f", row["steps_ms"].value(step, 0.0));
    printf("\n");
  }
  return rows;
}

// ---------------------------------------------------------------------- main

constexpr const char* kHelp =
    "usage: guests [options]\n"
    "\n"
    "perftest over Godwit and Soft-RoCE, in turns in the same guests; and moves of a\n"
    "container by its queue pairs and memory, against one without RDMA. In a lab of its\n"
    "own, $GODWIT_LAB or `bench` beside the default one. The table goes to the standard\n"
    "output.\n"
    "\n"
    "  --output FILE       report, JSON (bench.json)\n"
    "  --only WHAT         perftest or moves\n"
    "  --rounds N          of perftest; medians are compared (3)\n"
    "  --qps N,N,…         queue pairs of the moves, at 1 MiB (1,16,256,4096)\n"
    "  --mib N,N,…         memory of the moves, at one queue pair (1,64,256)\n"
    "\n"
    "Exit code 0: done; 1: something failed; 2: wrong usage.\n";

[[noreturn]] void wrong_usage() {
  fputs(kHelp, stderr);
  std::exit(2);
}

unsigned number(const std::string& text) {
  char* end = nullptr;
  const unsigned long value = std::strtoul(text.c_str(), &end, 10);
  if (text.empty() || *end != 0 || value == 0 || value > 65536) wrong_usage();
  return static_cast<unsigned>(value);
}

std::vector<unsigned> numbers(const std::string& text) {
  std::vector<unsigned> all;
  std::istringstream in(text);
  for (std::string one; std::getline(in, one, ',');) all.push_back(number(one));
  return all;
}

Options parse(int argc, char** argv) {
  Options options;
  const option longs[] = {{"output", 1, nullptr, 'o'}, {"only", 1, nullptr, 'O'},
                          {"rounds", 1, nullptr, 'r'}, {"qps", 1, nullptr, 'q'},
                          {"mib", 1, nullptr, 'm'},    {"help", 0, nullptr, 'h'},
                          {nullptr, 0, nullptr, 0}};
  for (int c; (c = getopt_long(argc, argv, "h", longs, nullptr)) != -1;) {
    switch (c) {
      case 'o':
        options.output = optarg;
        break;
      case 'O':
        options.perftest = std::strcmp(optarg, "perftest") == 0;
        options.moves = std::strcmp(optarg, "moves") == 0;
        if (!options.perftest && !options.moves) wrong_usage();
        break;
      case 'r':
        options.rounds = static_cast<int>(number(optarg));
        break;
      case 'q':
        options.qps = numbers(optarg);
        break;
      case 'm':
        options.mib = numbers(optarg);
        break;
      case 'h':
        fputs(kHelp, stdout);
        std::exit(0);
      default:
        wrong_usage();
    }
  }
  if (optind < argc) wrong_usage();
  return options;
}

std::string folder() {
  const char* own = getenv("GODWIT_LAB");
  if (own != nullptr && *own != 0) return own;
  return std::filesystem::path(lab_folder()).parent_path() / "bench";
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  catch_interrupts();
  setvbuf(stdout, nullptr, _IOLBF, 0);
  Json report = {{"processors", std::thread::hardware_concurrency()}, {"load_before", load()}};
  Lab lab(folder());
  int code = 0;
  try {
    LabOptions lab_options;
    lab_options.guests = options.moves ? 3 : 2;
    lab_options.virtio = true;
    lab.up(lab_options, [](const std::string& line) { fprintf(stderr, "-- %s\n", line.c_str()); });
    if (options.perftest) report["perftest"] = run_perftests(lab, options);
    if (options.moves) report["moves"] = run_moves(lab, options);
  } catch (const std::exception& error) {
    fprintf(stderr, "bench: %s\n", error.what());
    report["error"] = error.what();
    code = 1;
  }
  report["load_after"] = load();
  std::ofstream(options.output) << report.dump(2) << "\n";
  printf("\nload %.1f before, %.1f after; report: %s\n", report["load_before"].get<double>(),
         report["load_after"].get<double>(), options.output.c_str());
  if (lab.is_up()) lab.down();
  return code;
}
