// SPDX-License-Identifier: GPL-2.0-or-later
#include "demo_report.h"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>

#include "meter.h"

namespace godwit::lab {
namespace {

using Json = nlohmann::json;

[[gnu::format(printf, 1, 2)]] std::string text(const char* format, ...) {
  char buffer[512];
  va_list args;
  va_start(args, format);
  vsnprintf(buffer, sizeof(buffer), format, args);
  va_end(args);
  return buffer;
}

double rounded(double value) { return std::round(value * 10) / 10; }

struct Named {
  unsigned counter;
  const char* name;
};

constexpr Named kPackets[] = {
    {GODWIT_COUNTER_TX_NAK_STOPPED, "nak_stopped"},
    {GODWIT_COUNTER_TX_RESUME, "resume"},
    {GODWIT_COUNTER_RESUME_ACCEPTED, "resume_accepted"},
    {GODWIT_COUNTER_TX_RESUME_ACK, "resume_ack"},
    {GODWIT_COUNTER_RETRANSMISSIONS, "retransmissions"},
    {GODWIT_COUNTER_PROBES, "probes"},
    {GODWIT_COUNTER_STOPPED_DROPS, "responses_dropped_by_stopped"},
    {GODWIT_COUNTER_DUPLICATE_REQUEST, "duplicate_requests"},
    {GODWIT_COUNTER_OUT_OF_SEQUENCE, "out_of_sequence"},
    {GODWIT_COUNTER_LOCAL_ACK_TIMEOUT_ERR, "ack_timeouts"},
    {GODWIT_COUNTER_RNR_NAK_RETRY_ERR, "rnr_naks"},
};

// Losses and retries belong to a move; none of these does.
constexpr Named kNever[] = {
    {GODWIT_COUNTER_RX_ICRC_ENCAPSULATED, "rx_icrc_encapsulated"},
    {GODWIT_COUNTER_RX_MALFORMED, "rx_malformed"},
    {GODWIT_COUNTER_RX_BAD_PKEY, "rx_bad_pkey"},
    {GODWIT_COUNTER_REQ_TRANSPORT_RETRIES_EXCEEDED, "req_transport_retries_exceeded"},
    {GODWIT_COUNTER_REQ_RNR_RETRIES_EXCEEDED, "req_rnr_retries_exceeded"},
    {GODWIT_COUNTER_REQ_REMOTE_INVALID_REQUEST, "req_remote_invalid_request"},
    {GODWIT_COUNTER_REQ_REMOTE_ACCESS_ERRORS, "req_remote_access_errors"},
    {GODWIT_COUNTER_REQ_REMOTE_OPERATIONAL, "req_remote_operational_errors"},
    {GODWIT_COUNTER_RESP_REMOTE_ACCESS_ERRORS, "resp_remote_access_errors"},
    {GODWIT_COUNTER_RESP_INVALID_REQUEST, "resp_remote_invalid_request"},
    {GODWIT_COUNTER_RESP_LOCAL_LENGTH_ERROR, "resp_local_length_error"},
    {GODWIT_COUNTER_RESUME_BAD_VERSION, "resume_bad_version"},
    {GODWIT_COUNTER_RESUME_BAD_TOKEN, "resume_bad_token"},
    {GODWIT_COUNTER_RESUME_BAD_ADDRESS, "resume_bad_address"},
    {GODWIT_COUNTER_RESUME_RATE_LIMITED, "resume_rate_limited"},
    {GODWIT_COUNTER_PAUSE_LIMIT_EXCEEDED, "pause_limit_exceeded"},
    {GODWIT_COUNTER_BAD_DOORBELLS, "bad_doorbells"},
    {GODWIT_COUNTER_BAD_WQES, "bad_wqes"},
    {GODWIT_COUNTER_CQ_OVERFLOWS, "cq_overflows"},
    {GODWIT_COUNTER_DMA_ERRORS, "dma_errors"},
};

unsigned long long count(const DemoMove& move, unsigned counter) { return move.counted[counter]; }

Json steps_of(const DemoMove& move) { return to_json(move.move)["steps_ms"]; }

// One column per sample, at most 72 columns.
std::string drawing(const std::vector<double>& curve) {
  static const char* const kBars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  if (curve.empty()) return "";
  const double top = std::max(*std::max_element(curve.begin(), curve.end()), 1e-9);
  const std::size_t per_column = (curve.size() + 71) / 72;
  std::string out;
  for (std::size_t i = 0; i < curve.size(); i += per_column) {
    double sum = 0;
    const std::size_t n = std::min(per_column, curve.size() - i);
    for (std::size_t k = i; k < i + n; ++k) sum += curve[k];
    const double level = sum / static_cast<double>(n) / top * 7;
    // A little is not nothing.
    out += sum == 0 ? " " : kBars[std::clamp(static_cast<int>(std::lround(level)), 0, 7)];
  }
  return out;
}

std::string way(const DemoMove& move) { return move.move.from + " → " + move.move.to; }

}  // namespace

std::uint64_t completion_errors(const Counters& c) {
  return c[GODWIT_COUNTER_REQ_CQE_ERROR] - c[GODWIT_COUNTER_REQ_CQE_FLUSH_ERROR] +
         c[GODWIT_COUNTER_RESP_CQE_ERROR] - c[GODWIT_COUNTER_RESP_CQE_FLUSH_ERROR];
}

std::vector<std::string> bad_counters(const Counters& counted) {
  std::vector<std::string> bad;
  for (const Named& one : kNever) {
    if (counted[one.counter] == 0) continue;
    bad.push_back(std::string(one.name) + ": " + std::to_string(counted[one.counter]));
  }
  if (const std::uint64_t errors = completion_errors(counted); errors != 0) {
    bad.push_back("completions in error: " + std::to_string(errors));
  }
  return bad;
}

Json to_json(const DemoMove& move) {
  Json packets = Json::object();
  for (const Named& one : kPackets) packets[one.name] = move.counted[one.counter];
  Json curve = Json::array();
  for (const double value : move.curve) curve.push_back(rounded(value));
  return {{"app", move.app},
          {"role", move.role},
          {"from", move.move.from},
          {"to", move.move.to},
          {"steps_ms", steps_of(move)},
          {"stop_ms", move.move.stop_ms},
          {"qps", move.move.qps},
          {"image_bytes", move.move.image_bytes},
          {"bandwidth_mb_s",
           {{"before", rounded(move.before)},
            {"during", rounded(move.during)},
            {"after", rounded(move.after)},
            {"sample_ms", Meter::kPeriod.count()},
            {"samples", curve}}},
          {"silence_ms", rounded(move.silence_ms)},
          {"packets", packets},
          {"completion_errors", completion_errors(move.counted)},
          {"exit_codes", {{"mover", move.mover_code}, {"peer", move.peer_code}}},
          {"data", move.data},
          {"captures", move.captures},
          {"faults", move.faults},
          {"verdict", move.faults.empty() ? "good" : "bad"}};
}

Json report_of(const std::vector<DemoMove>& moves, bool good) {
  Json all = Json::array();
  for (const DemoMove& move : moves) all.push_back(to_json(move));
  return {{"moves", all}, {"verdict", good ? "good" : "bad"}};
}

void print_move(std::ostream& out, const DemoMove& move) {
  out << move.app << ", " << move.role << ", " << way(move) << "\n  steps in ms:";
  for (const auto& [name, ms] : move.move.steps_ms) out << text("  %s %.0f", name.c_str(), ms);
  out << text("\n  stopped for %.0f ms; the peer saw nothing for %.0f ms\n", move.move.stop_ms,
              move.silence_ms)
      << text("  MB/s: %.1f before, %.1f during, %.1f after\n", move.before, move.during,
              move.after)
      << "  |" << drawing(move.curve) << "|\n"
      << text("  packets: %llu NAK_STOPPED, %llu RESUME, %llu RESUME_ACK, %llu retransmissions",
              count(move, GODWIT_COUNTER_TX_NAK_STOPPED), count(move, GODWIT_COUNTER_TX_RESUME),
              count(move, GODWIT_COUNTER_TX_RESUME_ACK),
              count(move, GODWIT_COUNTER_RETRANSMISSIONS));
  // A receiver that is slower than its peer makes most of the retransmissions, moved or not.
  const auto rnr_naks = count(move, GODWIT_COUNTER_RNR_NAK_RETRY_ERR);
  if (rnr_naks != 0) out << text(" (%llu RNR NAKs)", rnr_naks);
  out << "\n";
  for (const std::string& fault : move.faults) out << "  FAULT " << fault << "\n";
  out << std::flush;
}

void print_table(std::ostream& out, const std::vector<DemoMove>& moves, bool good) {
  out << text("\n%-10s%-8s%-14s%8s%9s | %7s%7s%7s | %5s%7s%5s%8s | %5s%7s  %s\n", "app", "role",
              "move", "stop ms", "quiet ms", "before", "during", "after", "NAKs", "RESUME", "ACK",
              "retrans", "exit", "errors", "verdict");
  for (const DemoMove& move : moves) {
    const std::string codes =
        std::to_string(move.mover_code) + "/" + std::to_string(move.peer_code);
    // The arrow is one column and three bytes.
    out << text(
        "%-10s%-8s%-16s%8.0f%9.0f | %7.1f%7.1f%7.1f | %5llu%7llu%5llu%8llu | %5s%7llu  %s\n",
        move.app.c_str(), move.role.c_str(), way(move).c_str(), move.move.stop_ms, move.silence_ms,
        move.before, move.during, move.after, count(move, GODWIT_COUNTER_TX_NAK_STOPPED),
        count(move, GODWIT_COUNTER_TX_RESUME), count(move, GODWIT_COUNTER_TX_RESUME_ACK),
        count(move, GODWIT_COUNTER_RETRANSMISSIONS), codes.c_str(),
        static_cast<unsigned long long>(completion_errors(move.counted)),
        move.faults.empty() ? "good" : "BAD");
  }
  out << "MB/s at the peer's NIC, both directions; packets and completion errors at all NICs;\n"
         "exit codes of the program that moved and of its peer.\n";
  for (const DemoMove& move : moves) {
    for (const std::string& fault : move.faults) {
      out << move.app << ", " << move.role << ", " << way(move) << ": " << fault << "\n";
    }
  }
  out << "verdict: " << (good ? "good" : "BAD") << std::endl;
}

}  // namespace godwit::lab
