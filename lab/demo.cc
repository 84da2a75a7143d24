// SPDX-License-Identifier: GPL-2.0-or-later
#include "demo.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <future>
#include <iostream>
#include <memory>
#include <thread>

#include "counters.h"
#include "demo_apps.h"
#include "demo_report.h"
#include "error.h"
#include "interrupt.h"
#include "meter.h"
#include "migrate.h"
#include "plan.h"
#include "trim.h"

namespace godwit::lab {
namespace {

using Json = nlohmann::json;
using std::chrono::milliseconds;
namespace fs = std::filesystem;

constexpr int kGuests = 3;
constexpr milliseconds kWindow{2000};      // before and after a move, for the bandwidth
constexpr milliseconds kCaptureMore{500};  // after the application runs again
constexpr int kSnapLength = 160;           // bytes of a frame in a capture: all headers
constexpr int kAttempts = 3;               // to get a program under way that lasts

double seconds(Meter::Clock::duration time) { return std::chrono::duration<double>(time).count(); }

void pause(milliseconds time) {
  for (const auto end = Meter::Clock::now() + time; Meter::Clock::now() < end;) {
    if (interrupted()) throw Error("interrupted");
    std::this_thread::sleep_for(std::min(milliseconds(50), time));
  }
}

// A program with a count came to its end before the moves did.
class TooShort : public Error {
 public:
  using Error::Error;
};

// A program did not get going: no move of it was ordered.
class NotBegun : public Error {
 public:
  using Error::Error;
};

// Ctrl-C: stops the lab, so that whatever waits for a guest fails at once.
class Guard {
 public:
  explicit Guard(Lab& lab)
      : thread_([this, &lab] {
          while (!ending_ && !interrupted()) std::this_thread::sleep_for(milliseconds(50));
          if (!ending_) lab.down();
        }) {}
  ~Guard() {
    ending_ = true;
    thread_.join();
  }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

 private:
  std::atomic<bool> ending_ = false;
  std::thread thread_;
};

// Captures at all NICs, of one program in one role; only while they are switched on.
class Captures {
 public:
  Captures(const Lab& lab, std::string name) : lab_(lab), name_(std::move(name)) {
    for (int i = 1; i <= kGuests; ++i) {
      const Json answer = qmp(i, "object-add",
                              {{"qom-type", "filter-dump"},
                               {"id", "demo"},
                               {"netdev", "wire"},
                               {"file", raw(i)},
                               {"maxlen", kSnapLength},
                               {"status", "off"}});
      if (answer.contains("error")) throw Error(guest_name(i) + ": capture: " + answer.dump());
    }
  }
  ~Captures() {
    try {
      stop();
    } catch (const Error&) {
      // The lab has gone, and its files with it.
    }
    for (int i = 1; i <= kGuests; ++i) unlink(raw(i).c_str());
  }
  Captures(const Captures&) = delete;
  Captures& operator=(const Captures&) = delete;

  void on(bool yes) const {
    for (int i = 1; i <= kGuests; ++i) {
      qmp(i, "qom-set",
          {{"path", "/objects/demo"}, {"property", "status"}, {"value", yes ? "on" : "off"}});
    }
  }

  void stop() {
    if (stopped_) return;
    stopped_ = true;
    for (int i = 1; i <= kGuests; ++i) qmp(i, "object-del", {{"id", "demo"}});
  }

  // The files' names in `folder`.
  std::vector<std::string> save(const std::string& folder) const {
    std::vector<std::string> names;
    for (int i = 1; i <= kGuests; ++i) {
      names.push_back(name_ + "-" + guest_name(i) + ".pcap");
      trim_capture(raw(i), folder + "/" + names.back());
    }
    return names;
  }

 private:
  [[nodiscard]] std::string raw(int guest) const {
    return lab_.folder() + "/" + name_ + "-" + guest_name(guest) + ".raw";
  }
  Json qmp(int guest, const char* what, const Json& arguments) const {
    return lab_.request({{"op", "qmp"},
                         {"guest", guest_name(guest)},
                         {"command", {{"execute", what}, {"arguments", arguments}}}})["answer"];
  }

  const Lab& lab_;
  std::string name_;
  bool stopped_ = false;
};

class Demo {
 public:
  explicit Demo(const DemoOptions& options) : options_(options), lab_(options.folder) {
    for (const std::string& name : options.apps) apps_.push_back(&find_demo_app(name));
    if (apps_.empty()) {
      for (const DemoApp& app : demo_apps()) apps_.push_back(&app);
    }
    for (const Role role : {Role::kClient, Role::kServer}) {
      const auto& wanted = options.roles;
      if (wanted.empty() ||
          std::find(wanted.begin(), wanted.end(), name_of(role)) != wanted.end()) {
        roles_.push_back(role);
      }
    }
  }

  bool run() {
    catch_interrupts();
    clear_output();
    try {
      say("three guests: home, away, peer");
      LabOptions lab_options;
      lab_options.guests = kGuests;
      lab_.up(lab_options, [this](const std::string& text) { say(text); });
      run_all();
      lab_.down();
    } catch (...) {
      lab_.down();
      if (interrupted()) {
        clear_output();
        throw Error("interrupted; everything has been stopped");
      }
      throw;
    }
    return conclude();
  }

 private:
  // In the output folder only what the demo writes is its own.
  void clear_output() const {
    fs::create_directories(options_.output);
    for (const auto& entry : fs::directory_iterator(options_.output)) {
      const std::string name = entry.path().filename(), kind = entry.path().extension();
      if (name == "report.json" || kind == ".pcap" || kind == ".log") fs::remove(entry.path());
    }
  }

  void say(const std::string& text) const {
    std::cerr << "[" << std::to_string(static_cast<int>(seconds(Meter::Clock::now() - begun_)))
              << " s] " << text << std::endl;
  }

  void run_all() {
    const Guard guard(lab_);
    meter_ = std::make_unique<Meter>(lab_, "peer");
    for (const DemoApp* app : apps_) {
      for (const Role role : roles_) {
        std::vector<DemoMove> moves;
        try {
          moves = run_app(*app, role);
        } catch (const Error& error) {
          if (interrupted() || !lab_.is_up()) throw;
          add_failed(*app, role, error.what());
          moves = std::move(partial_);
        }
        moves_.insert(moves_.end(), moves.begin(), moves.end());
        if (interrupted()) throw Error("interrupted");
      }
    }
    meter_.reset();
  }

  static std::string other(const std::string& guest) { return guest == "home" ? "away" : "home"; }

  // A count that lasts is found by trying: how fast the program will be is not known. Nor does a
  // failure before the first move say anything about moves.
  std::vector<DemoMove> run_app(const DemoApp& app, Role role) {
    const bool counts = app.end == DemoApp::End::kCount;
    if (counts && pingpong_rate_ == 0) {
      pingpong_rate_ = measure_pingpong(lab_);
      say("ibv_rc_pingpong: " + std::to_string(std::lround(pingpong_rate_)) +
          " iterations a second");
    }
    double lasts_s = (2 + running_s_ * options_.moves) * 1.2;
    for (int attempt = 1;; ++attempt) {
      const double count = counts ? pingpong_rate_ * lasts_s + 1 : 0;
      try {
        return try_app(app, role, static_cast<unsigned long>(count));
      } catch (const TooShort&) {
        if (attempt == kAttempts) throw;
        say("the count was too small; again with twice as many");
        lasts_s *= 2;
      } catch (const NotBegun& error) {
        if (attempt == kAttempts) throw;
        say("it failed before any move; again\n" + std::string(error.what()));
      }
    }
  }

  std::vector<DemoMove> try_app(const DemoApp& app, Role role, unsigned long count) {
    const std::string name = app.name + "-" + name_of(role);
    partial_.clear();
    ordered_ = false;
    at_ = "home";
    say(app.name + ": the " + name_of(role) + " moves");
    const Counters start = sum_counters(lab_, kGuests);
    DemoRun run(lab_, app, role, count);
    Captures captures(lab_, name);
    std::string failure;
    try {
      move_to_and_fro(app, role, run, captures);
    } catch (const TooShort&) {
      throw;
    } catch (const Error& error) {
      if (interrupted() || !lab_.is_up()) throw;
      failure = error.what();
      if (!ordered_) throw NotBegun(failure);
    }
    captures.stop();
    const DemoRun::Result result = run.judge();
    const Counters counted = difference(sum_counters(lab_, kGuests), start);
    if (!failure.empty()) add_failed(app, role, failure);
    conclude_app(name, result, counted, captures.save(options_.output));
    return std::move(partial_);
  }

  void move_to_and_fro(const DemoApp& app, Role role, DemoRun& run, const Captures& captures) {
    run.start();
    for (int i = 0; i < options_.moves; ++i) {
      partial_.push_back(move_once(app, role, run, captures));
      print_move(std::cerr, partial_.back());
      at_ = other(at_);
    }
    say(app.name + ": to its end");
    run.finish();
  }

  // The move that did not come about, or after which something else failed.
  void add_failed(const DemoApp& app, Role role, const std::string& failure) {
    if (static_cast<int>(partial_.size()) < options_.moves) {
      DemoMove failed;
      failed.app = app.name;
      failed.role = name_of(role);
      failed.move.from = at_;
      failed.move.to = other(at_);
      partial_.push_back(failed);
    }
    partial_.back().faults.push_back(failure);
    say("FAULT " + failure);
  }

  // What is known only at the end holds for each move of the program.
  void conclude_app(const std::string& name, const DemoRun::Result& result, const Counters& counted,
                    const std::vector<std::string>& captures) {
    write(name + ".log", result.mover_log);
    write(name + "-peer.log", result.peer_log);
    std::vector<std::string> faults = result.faults;
    for (const std::string& bad : bad_counters(counted)) faults.push_back("NIC counter " + bad);
    for (const std::string& fault : faults) say("FAULT " + fault);
    if (!result.note.empty()) say("note: " + result.note);
    for (DemoMove& move : partial_) {
      move.mover_code = result.mover_code;
      move.peer_code = result.peer_code;
      move.data = result.data;
      move.captures = captures;
      move.faults.insert(move.faults.end(), faults.begin(), faults.end());
    }
  }

  void wait_for_traffic(const DemoApp& app, const DemoRun& run) const {
    const auto begun = Meter::Clock::now();
    for (;;) {
      pause(milliseconds(200));
      const auto now = Meter::Clock::now();
      if (now - begun >= kWindow + Meter::kPeriod &&
          meter_->rate(now - kWindow, now - kWindow / 2) > 0 &&
          meter_->rate(now - kWindow / 2, now) > 0) {
        return;
      }
      if (now - begun < std::chrono::seconds(5)) continue;
      check_runs(app, run);
      if (now - begun > std::chrono::seconds(60))
        throw Error(run.mover() + ": no traffic for 60 s");
    }
  }

  void check_runs(const DemoApp& app, const DemoRun& run) const {
    const std::string ended = run.ended();
    if (ended.empty()) return;
    const DemoRun::Result result = run.judge();
    const bool failed = result.mover_code > 0 || result.peer_code > 0;
    if (app.end == DemoApp::End::kCount && !failed) throw TooShort(ended);
    throw Error(ended);
  }

  DemoMove move_once(const DemoApp& app, Role role, const DemoRun& run, const Captures& captures) {
    DemoMove one;
    one.app = app.name;
    one.role = name_of(role);
    const auto begun = Meter::Clock::now();
    wait_for_traffic(app, run);
    const Counters before = sum_counters(lab_, kGuests);
    const auto ordered = Meter::Clock::now();
    Meter::Time running;
    ordered_ = true;
    bool capturing = false;
    std::future<void> capture_end;
    try {
      one.move = migrate(lab_, run.mover(), other(at_), [&](const std::string& step) {
        // The times come together, below.
        if (!step.ends_with(" ms")) say("  " + at_ + " → " + other(at_) + ": " + step);
        if (step.starts_with("checkpoint") && !capturing) captures.on(capturing = true);
        if (!step.starts_with("commit") || capture_end.valid()) return;
        running = Meter::Clock::now();
        capture_end = std::async(std::launch::async, [&captures] {
          std::this_thread::sleep_for(kCaptureMore);
          captures.on(false);
        });
      });
    } catch (const Error&) {
      if (app.end == DemoApp::End::kCount) check_runs(app, run);
      throw;
    }
    const auto done = Meter::Clock::now();
    capture_end.get();
    pause(kWindow + Meter::kPeriod);
    if (app.end == DemoApp::End::kCount) check_runs(app, run);

    const auto stopped = running - std::chrono::duration_cast<Meter::Clock::duration>(
                                       std::chrono::duration<double, std::milli>(one.move.stop_ms));
    one.before = meter_->rate(ordered - kWindow, ordered);
    one.during = meter_->rate(stopped, running);
    one.after = meter_->rate(done, done + kWindow);
    one.silence_ms = meter_->silence_ms(ordered, done);
    const std::vector<Meter::Sample> samples = meter_->samples(ordered - kWindow, done + kWindow);
    for (std::size_t i = 1; i < samples.size(); ++i) {
      one.curve.push_back(static_cast<double>(samples[i].bytes - samples[i - 1].bytes) / 1e6 /
                          seconds(samples[i].at - samples[i - 1].at));
    }
    one.counted = difference(sum_counters(lab_, kGuests), before);
    judge_move(app, role, &one);
    running_s_ =
        std::max(running_s_, seconds(Meter::Clock::now() - begun) - one.move.stop_ms / 1e3);
    return one;
  }

  static void judge_move(const DemoApp& app, Role role, DemoMove* one) {
    const auto& n = one->counted;
    const auto expect = [one](bool holds, const std::string& fault) {
      if (!holds) one->faults.push_back(fault);
    };
    expect(one->move.qps == app.qps,
           "not " + std::to_string(app.qps) + " QPs moved, but " + std::to_string(one->move.qps));
    expect(n[GODWIT_COUNTER_RESUME_ACCEPTED] == app.qps,
           "the peer accepted " + std::to_string(n[GODWIT_COUNTER_RESUME_ACCEPTED]) + " RESUMEs");
    expect(n[GODWIT_COUNTER_TX_RESUME] >= app.qps, "no RESUME for some QP");
    expect(n[GODWIT_COUNTER_TX_RESUME_ACK] >= app.qps, "no RESUME_ACK for some QP");
    if (role == Role::kClient ? app.asked_as_client : app.asked_as_server) {
      expect(n[GODWIT_COUNTER_TX_NAK_STOPPED] > 0, "the peer was never told NAK_STOPPED");
    }
    expect(one->before > 0, "no traffic before the move");
    expect(one->after > 0, "no traffic after the move");
  }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream out(options_.output + "/" + name, std::ios::trunc);
    out << text;
    out.close();
    if (!out) throw_errno(options_.output + "/" + name);
  }

  bool conclude() {
    const bool good =
        !moves_.empty() && std::all_of(moves_.begin(), moves_.end(),
                                       [](const DemoMove& m) { return m.faults.empty(); });
    const std::string report = report_of(moves_, good).dump(1) + "\n";
    write("report.json", report);
    print_table(options_.json ? std::cerr : std::cout, moves_, good);
    if (options_.json) std::cout << report << std::flush;
    say("report, captures and logs: " + options_.output);
    return good;
  }

  DemoOptions options_;
  Lab lab_;
  std::vector<const DemoApp*> apps_;
  std::vector<Role> roles_;
  const Meter::Time begun_ = Meter::Clock::now();
  std::unique_ptr<Meter> meter_;
  std::vector<DemoMove> moves_, partial_;
  std::string at_ = "home";  // where the mover is
  bool ordered_ = false;     // a move of the program at hand was
  double running_s_ = 10;    // that a program runs for one move, at most so far
  double pingpong_rate_ = 0;
};

}  // namespace

bool run_demo(const DemoOptions& options) { return Demo(options).run(); }

}  // namespace godwit::lab
