// SPDX-License-Identifier: GPL-2.0-or-later
//
// Moves in company: of a peer that is silent and speaks at the worst moment, of both ends, of many
// connections, of several containers and several processes, and by podman instead of the lab.
#include <signal.h>

#include <future>

#include "command.h"
#include "counters.h"
#include "error.h"
#include "guide.h"
#include "move.h"
#include "plan.h"

namespace godwit::vm {
namespace {

using lab::read_counters;

// Until it is so; false after the time. It is asked often: a phase of a move is short.
bool soon(double seconds, const std::function<bool()>& so) {
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  do {
    if (so()) return true;
    usleep(5'000);
  } while (Clock::now() < end);
  return false;
}

std::uint64_t count(const std::string& guest, unsigned counter) {
  return read_counters(the_lab(), guest).at(counter);
}

unsigned qps_that_are(const std::string& guest, const std::string& flag) {
  return static_cast<unsigned>(
      std::stoul(must(guest, "rdma resource show qp -dd | grep -c 'drv_" + flag + " 1' || true")));
}

// A silent peer, and what it has said when it was told to.
class QuietPeer {
 public:
  QuietPeer(const std::string& guest, const std::string& server, const std::string& port = "18519")
      : guest_(guest),
        process_(the_lab().start(
            guest, {"godwit-quiet", "--timeout", "14", "--retry", "7", "--port", port, server})) {
    process_->wait_for_line([](const std::string& line) { return line.rfind("ready", 0) == 0; },
                            30);
  }

  // Posts the request. It must be answered NAK_STOPPED by a NIC that is told, and become Paused.
  void speaks_and_is_paused(const std::string& what, const std::string& by) {
    SCOPED_TRACE(what);
    const std::uint64_t heard = count(guest_, GODWIT_COUNTER_RX_NAK_STOPPED);
    const std::uint64_t said = count(by, GODWIT_COUNTER_TX_NAK_STOPPED);
    const unsigned paused = qps_that_are(guest_, "paused");
    tell(what);
    EXPECT_TRUE(soon(5, [&] { return count(guest_, GODWIT_COUNTER_RX_NAK_STOPPED) > heard; }));
    EXPECT_GT(count(by, GODWIT_COUNTER_TX_NAK_STOPPED), said) << "not by " << by;
    EXPECT_EQ(qps_that_are(guest_, "paused"), paused + 1);
  }

  void tell(const std::string& what) {
    process_->write(what + "\n");
    process_->wait_for_line([&what](const std::string& line) { return line == what + ": posted"; },
                            10);
  }

  void expect_success(const std::string& what) {
    const std::string said = process_->wait_for_line(
        [&what](const std::string& line) { return line.rfind(what + ": ", 0) == 0; }, 30);
    EXPECT_EQ(said.rfind(what + ": success", 0), 0u) << said;
  }

  void asks_over_tcp() {
    process_->write("tcp\n");
    expect_success("tcp");
  }

  void ends_well() {
    process_->write("");
    const ExecResult result = process_->wait(30);
    EXPECT_EQ(result.code, 0) << result.out;
  }

 private:
  std::string guest_;
  std::unique_ptr<Process> process_;
};

class Company : public Move {
 protected:
  // Steps: what is done when the step begins, in the thread of the move.
  static lab::MoveReport move_and(const std::string& name, const std::string& to,
                                  const std::map<std::string, std::function<void()>>& at) {
    return lab::migrate(the_lab(), name, to, [&at](const std::string& said) {
      const auto found = at.find(said);
      if (found != at.end()) found->second();
    });
  }

  static unsigned tombstones(const std::string& guest) {
    return static_cast<unsigned>(std::stoul(must(guest, "godwit-cr list | grep -c . || true")));
  }

  static unsigned occurrences(const std::string& text, const std::string& part) {
    unsigned n = 0;
    for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size())
      ++n;
    return n;
  }
};

class FullCompany : public Company {};  // those that take longer

// Each of five peers speaks for the first time in another phase. Their retries last for half a
// second; a gap between the QP that is stopped, the tombstone and the QP that waits at the
// destination would end them.
TEST_F(Company, QuietPeersThatFirstSpeakInAnyPhasePauseAndGoOn) {
  const Container server = start(kHome, "server", {"godwit-quiet"});
  wait_for_log("server", "waiting on port");
  const std::string ip = lab::container_ip(server.number);
  QuietPeer while_stopped(kPeer, ip), tombstone_alone(kPeer, ip), twin_at_destination(kPeer, ip),
      handed_over(kPeer, ip), gone_on(kPeer, ip);
  const auto before = read_counters(the_lab(), kPeer);

  for (const std::string& to : {kAway, kHome}) {
    SCOPED_TRACE("to " + to);
    const std::string from = to == kAway ? kHome : kAway;
    const auto observer =
        the_lab().start(from, {"bash", "-c",
                               "until [ $(rdma resource show qp -dd | grep -c 'drv_stopped 1') = 5 "
                               "]; do sleep 0.02; done\n"
                               "pkill -STOP -x criu; echo stopped; read go; pkill -CONT -x criu"});
    std::future<void> speaker;
    const auto report = move_and(
        "server", to,
        {{"checkpoint …",
          [&] {
            speaker = std::async(std::launch::async, [&] {
              observer->wait_for_line([](const std::string& line) { return line == "stopped"; },
                                      60);
              while_stopped.speaks_and_is_paused("send", from);
              EXPECT_EQ(qps_that_are(from, "stopped"), 5u) << "too late: it is a tombstone";
              observer->write("go\n");
            });
          }},
         {"copy …",
          [&] {
            speaker.get();
            EXPECT_EQ(qps_that_are(from, "stopped"), 0u);
            tombstone_alone.speaks_and_is_paused("write", from);
          }},
         {"hand-over …", [&] { twin_at_destination.speaks_and_is_paused("read", from); }},
         {"go …", [&] { handed_over.speaks_and_is_paused("add", to); }},
         {"commit …", [&] { gone_on.tell("send"); }}});
    EXPECT_EQ(report.qps, 5u);
    while_stopped.expect_success("send");
    tombstone_alone.expect_success("write");
    twin_at_destination.expect_success("read");
    handed_over.expect_success("add");
    gone_on.expect_success("send");
    for (QuietPeer* one :
         {&while_stopped, &tombstone_alone, &twin_at_destination, &handed_over, &gone_on}) {
      one->asks_over_tcp();
    }
    expect_nothing_left_at(from, "server");
  }
  for (QuietPeer* one :
       {&while_stopped, &tombstone_alone, &twin_at_destination, &handed_over, &gone_on}) {
    one->ends_well();
  }
  expect_good_at_end("server");
  const auto counted = lab::difference(read_counters(the_lab(), kPeer), before);
  // A QP that has not heard of its peer yet does not know that it takes a RESUME: there its probes
  // find it.
  EXPECT_EQ(counted[GODWIT_COUNTER_RESUME_ACCEPTED], 5u);
  EXPECT_EQ(counted[GODWIT_COUNTER_REQ_TRANSPORT_RETRIES_EXCEEDED], 0u);
  EXPECT_EQ(counted[GODWIT_COUNTER_REQ_CQE_ERROR], 0u);
  EXPECT_EQ(counted[GODWIT_COUNTER_RESP_CQE_ERROR], 0u);
}

// ------------------------------------------------ where it has been before

// The peer's cable is out when the container has moved: no RESUME is acknowledged, and home keeps
// its tombstones for their time. Then the container comes back to where they stand, with queue
// pairs that are still Resuming.
TEST_F(FullCompany, BackToItsOldTombstones) {
  const auto server = launch(kPeer, "exec godwit-verify");
  wait_for_listener(kPeer, 18517);
  start(kHome, "client", {"godwit-verify", "--timeout", "18", "--duration", "0", ip_of(kPeer)});
  wait_until_it_transfers("client");

  move_and("client", kAway, {{"go …", [] { set_cable(kPeer, false); }}});
  EXPECT_EQ(tombstones(kHome), 4u);
  move_and("client", kHome, {{"copy …", [] { set_cable(kPeer, true); }}});
  EXPECT_EQ(tombstones(kHome), 0u) << "the QPs have taken their places";
  expect_it_still_transfers("client");
  // Away was told by nobody until now; its own are dropped when the move is done.
  expect_nothing_left_at(kAway, "client");

  must(kHome, "pkill -INT -x godwit-verify");
  const ExecResult served = server->wait(60);
  EXPECT_EQ(served.code, 0) << served.out;
  expect_good_at_end("client");
}

// Two containers that talk with each other, each moved in turn: apart, to one guest, apart again.
TEST_F(FullCompany, BothEndsOneAfterTheOther) {
  const Container server = start(kAway, "server", {"godwit-verify"});
  wait_for_log("server", "waiting on port");
  start(kHome, "client",
        {"godwit-verify", "--timeout", "18", "--duration", "0", lab::container_ip(server.number)});
  wait_until_it_transfers("client");
  const std::pair<const char*, std::string> moves[] = {{"server", kPeer},
                                                       {"client", kAway},
                                                       {"server", kAway},
                                                       {"client", kPeer},
                                                       {"server", kHome}};
  std::map<std::string, std::string> at = {{"server", kAway}, {"client", kHome}};
  for (const auto& [name, to] : moves) {
    SCOPED_TRACE(std::string(name) + " to " + to);
    EXPECT_EQ(move_to_any_index(name, to).qps, 4u);
    expect_it_still_transfers("client");
    expect_it_still_transfers("server");
    const std::string from = std::exchange(at[name], to);
    if (at["server"] != from && at["client"] != from) expect_nothing_left_at(from, name);
  }
  must(kPeer, "pkill -INT -x godwit-verify");
  expect_good_at_end("client");
  expect_good_at_end("server");
}

// ------------------------------------------------ several containers

// Two commands at the same time, from one guest to two; and nobody can move one container twice.
TEST_F(FullCompany, TwoContainersAtTheSameTimeToDifferentGuests) {
  const auto on_peer = launch(kPeer, "exec godwit-verify --port 18600");
  const auto on_away = launch(kAway, "exec godwit-verify --port 18601");
  wait_for_listener(kPeer, 18600);
  wait_for_listener(kAway, 18601);
  start(kHome, "one",
        {"godwit-verify", "--timeout", "18", "--port", "18600", "--duration", "0", ip_of(kPeer)});
  start(kHome, "two",
        {"godwit-verify", "--timeout", "18", "--port", "18601", "--duration", "0", ip_of(kAway)});
  for (const char* name : {"one", "two"}) wait_until_it_transfers(name);

  const auto command = [](const std::string& name, const std::string& to) {
    return std::async(std::launch::async, [=] {
      return godwit({"--json", "migrate", name, to, "--any-gid-index"}, 180);
    });
  };
  auto two = command("two", kPeer);
  const auto report =
      move_and("one", kAway, {{"checkpoint …", [&] {
                                 const HostResult refused = godwit({"migrate", "one", kPeer});
                                 EXPECT_TRUE(fails_saying(refused, "one is being moved already"));
                               }}});
  EXPECT_EQ(report.qps, 4u);
  EXPECT_EQ(parsed(two.get())["qps"], 4u);
  EXPECT_EQ(Containers(the_lab()).find("one").guest, kAway);
  EXPECT_EQ(Containers(the_lab()).find("two").guest, kPeer);
  for (const char* name : {"one", "two"}) {
    expect_it_still_transfers(name);
    expect_nothing_left_at(kHome, name);
  }
  // One after the other, and both back to one guest at the same time.
  EXPECT_EQ(parsed(command("two", kAway).get())["qps"], 4u);
  auto back = command("one", kHome);
  auto back_too = command("two", kHome);
  EXPECT_EQ(parsed(back.get())["qps"], 4u);
  EXPECT_EQ(parsed(back_too.get())["qps"], 4u);
  for (const char* name : {"one", "two"}) expect_it_still_transfers(name);
  // The other end of "two" is there, with queue pairs of its own.
  EXPECT_EQ(must(kAway,
                 "godwit-cr list; ls /run/netns /var/lib/containers /run/runc | grep -E 'one|two' "
                 "|| true"),
            "");
  must(kHome, "pkill -INT -x godwit-verify");
  for (const auto* process : {&on_peer, &on_away}) {
    const ExecResult served = (*process)->wait(60);
    EXPECT_EQ(served.code, 0) << served.out;
  }
  for (const char* name : {"one", "two"}) expect_good_at_end(name);
}

// ------------------------------------------------ several processes and contexts

// A shell and what it has started: a process with a context per connection; one whose children have
// inherited its context and have queue pairs and memory of their own on it; two that transfer all
// the time, one of them asleep in a completion channel; and two that share a context and its
// memory.
TEST_F(Company, ManyProcessesAndContextsInOneContainer) {
  const Container c = start(
      kHome, "family",
      {"sh", "-c",
       "godwit-quiet --port 1 & godwit-quiet --fork --port 2 & godwit-verify --qps 2 --port 3 & "
       "godwit-verify --events --qps 2 --port 4 & "
       "godwit-objects --case fork --go /go --ready /ready > /objects & wait"});
  const std::string root = Containers::folder(c) + "/root", log_file = Containers::log_file(c);
  must(kHome, "for i in $(seq 600); do [ $(grep -c 'waiting on port' " + log_file +
                  ") = 4 ] && [ -e " + root + "/ready ] && exit 0; sleep 0.1; done; cat " +
                  log_file + " " + root + "/objects; exit 1");
  const std::string ip = lab::container_ip(c.number);
  std::vector<std::unique_ptr<QuietPeer>> quiet;
  for (const char* port : {"1", "1", "2", "2", "2"}) {
    quiet.push_back(std::make_unique<QuietPeer>(kPeer, ip, port));
  }
  const auto polling =
      launch(kPeer, "exec godwit-verify --qps 2 --timeout 18 --duration 0 --port 3 " + ip);
  const auto sleeping =
      launch(kPeer, "exec godwit-verify --qps 2 --timeout 18 --duration 0 --port 4 --events " + ip);
  for (const auto* process : {&polling, &sleeping}) {
    wait_for_figures(**process);
  }
  for (const auto& one : quiet) {
    one->tell("send");
    one->expect_success("send");
  }
  for (const std::string& to : {kAway, kHome}) {
    SCOPED_TRACE("to " + to);
    EXPECT_GT(move("family", to).qps, 5u + 2u + 2u);
    expect_nothing_left_at(to == kAway ? kHome : kAway, "family");
    for (const auto& one : quiet) {
      for (const char* what : {"send", "write", "read", "add"}) {
        one->tell(what);
        one->expect_success(what);
      }
      one->asks_over_tcp();
    }
    for (const auto* process : {&polling, &sleeping}) {
      wait_for_figures(**process, 30);
    }
  }
  for (const auto& one : quiet) one->ends_well();
  for (const auto* process : {&polling, &sleeping}) {
    (*process)->signal(SIGINT);
    const ExecResult result = (*process)->wait(60);
    EXPECT_EQ(result.code, 0) << result.out;
  }
  must(kHome, "touch " + root + "/go");
  const std::string log = log_at_end("family");
  EXPECT_EQ(occurrences(log, "verdict: good"), 4u) << log;
  EXPECT_EQ(occurrences(log, ": good\n"), 4u + 5u) << log;
  const std::string objects = must(kHome, "cat " + root + "/objects");
  EXPECT_NE(objects.find("RESULT PASS"), std::string::npos) << objects;
}

// ------------------------------------------------ many queue pairs

class ManyQps : public Company {
 protected:
  static void move_with(unsigned qps) {
    const auto server = launch(kPeer, "exec godwit-verify");
    wait_for_listener(kPeer, 18517);
    start(kHome, "client",
          {"godwit-verify", "--qps", std::to_string(qps), "--size", "1024", "--window", "16",
           "--timeout", "18", "--duration", "0", ip_of(kPeer)});
    wait_until_it_transfers("client");
    for (const std::string& to : {kAway, kHome}) {
      const auto report = move("client", to);
      EXPECT_EQ(report.qps, qps);
      std::printf("-- %u QPs to %s: %s\n", qps, to.c_str(), lab::to_json(report).dump().c_str());
      expect_it_still_transfers("client");
      expect_nothing_left_at(to == kAway ? kHome : kAway, "client");
    }
    must(kHome, "pkill -INT -x godwit-verify");
    const ExecResult served = server->wait(120);
    EXPECT_EQ(served.code, 0) << served.out;
    expect_good_at_end("client");
  }
};

TEST_F(ManyQps, TwoHundredAndFiftySix) { move_with(256); }

using FullManyQps = ManyQps;

TEST_F(FullManyQps, AThousandAndTwentyFour) { move_with(1024); }

// ------------------------------------------------ twenty moves

// godwit-verify as a client, moved by the command, again and again, each time in at most half a
// minute. What it transfers in the seconds before each move and after it: no move may leave it
// slower for good.
class FullMove : public Company {
 protected:
  // MB/s in both directions, by the peer's NIC.
  static double bandwidth(double seconds) {
    const auto payload = [] {
      const auto counted = read_counters(the_lab(), kPeer);
      return counted[GODWIT_COUNTER_RX_RDMA_BYTES] + counted[GODWIT_COUNTER_TX_RDMA_BYTES];
    };
    const auto start = Clock::now();
    const auto before = payload();
    usleep(static_cast<useconds_t>(seconds * 1e6));
    const double passed = std::chrono::duration<double>(Clock::now() - start).count();
    return static_cast<double>(payload() - before) / 1e6 / passed;
  }
};

TEST_F(FullMove, TwentyTimes) {
  const auto server = launch(kPeer, "exec godwit-verify");
  wait_for_listener(kPeer, 18517);
  start(kHome, "client", {"godwit-verify", "--timeout", "18", "--duration", "0", ip_of(kPeer)});
  wait_until_it_transfers("client");
  sleep(2);
  const auto begun = Clock::now();
  double first = 0;
  for (int i = 0; i < 20; ++i) {
    const std::string to = i % 2 == 0 ? kAway : kHome;
    SCOPED_TRACE("move " + std::to_string(i + 1) + " to " + to);
    const double before = bandwidth(2);
    if (i == 0) first = before;
    const Json report = parsed(godwit({"--json", "migrate", "client", to}, 120));
    ASSERT_EQ(report["qps"], 4u);
    expect_it_still_transfers("client");
    // The guests share the processors with whatever else runs here: it may take a while.
    double after = bandwidth(2);
    for (int more = 0; more < 10 && after < first / 3; ++more) after = bandwidth(2);
    std::printf("-- move %d to %s: %.1f MB/s, stopped for %.0f ms, %.1f MB/s\n", i + 1, to.c_str(),
                before, report["stop_ms"].get<double>(), after);
    EXPECT_GE(after, first / 3);
    expect_nothing_left_at(to == kAway ? kHome : kAway, "client");
  }
  // Ten minutes on a machine that does nothing else.
  std::printf("-- twenty moves in %.0f s\n",
              std::chrono::duration<double>(Clock::now() - begun).count());
  must(kHome, "pkill -INT -x godwit-verify");
  const ExecResult served = server->wait(60);
  EXPECT_EQ(served.code, 0) << served.out;
  expect_good_at_end("client");
}

// ------------------------------------------------ podman

// The commands of docs/guide/podman.md, as they stand there.
class Podman : public Company {
 protected:
  void SetUp() override {
    Company::SetUp();
    for (const GuideBlock& block : guide_blocks("podman.md")) {
      const std::size_t end = block.script.find('\n');
      ASSERT_EQ(block.script.rfind("# ", 0), 0u) << "on which guest? " << block.script;
      blocks_.push_back(
          {block.section, block.script.substr(2, end - 2), block.script.substr(end + 1)});
    }
    for (const std::string& guest : kGuests) must(guest, "mount-share");
    // An image of the guest's own programs and libraries.
    must(kHome, kEnvironment + R"(cd /
files=$(ldd usr/bin/godwit-verify usr/lib/x86_64-linux-gnu/libibverbs/libgodwit-rdmav34.so | grep -o '/[^ )]*' | grep -v : | sort -u)
tar -ch --hard-dereference $files usr/bin/godwit-verify etc/libibverbs.d/godwit.driver \
  usr/lib/x86_64-linux-gnu/libibverbs/libgodwit-rdmav34.so 2> /dev/null | podman import -q - app-image)",
         120);
  }

  void TearDown() override {
    for (const std::string& guest : {kHome, kAway}) {
      must(guest,
           kEnvironment +
               "podman rm -f -t 0 app > /dev/null 2>&1; ip netns del app 2> /dev/null\n"
               "for m in $(godwit-cr list | awk '{print $2}' | sort -u); do godwit-cr drop --move "
               "$m; done\n"
               "podman rmi -a -f > /dev/null 2>&1\n"
               "rm -rf /var/lib/containers/storage /var/lib/containers/cache /run/containers "
               "/run/libpod /var/lib/cni "
               "/run/crun /run/runc /mnt/share/app* /tmp/app /tmp/storage-run* /tmp/podman-run* "
               "/tmp/containers-user*\n",
           120);
    }
    Company::TearDown();
  }

  // All of a section; the two guests may have changed their roles.
  void follow(const std::string& title, bool back = false) {
    bool found = false;
    for (const Block& block : blocks_) {
      if (block.title != title) continue;
      found = true;
      SCOPED_TRACE(title + ", on " + block.guest);
      const std::string guest = back ? (block.guest == kHome ? kAway : kHome) : block.guest;
      must(guest, kEnvironment + "set -e\n" + block.script, 180);
    }
    EXPECT_TRUE(found) << "no section " << title;
  }

  static void expect_it_transfers(const std::string& guest) {
    EXPECT_NO_THROW(
        must(guest, kEnvironment +
                        "seconds() { podman logs app 2>&1 | grep -c '[1-9][0-9]* op/s'; }\n"
                        "n=$(seconds); for i in $(seq 60); do sleep 0.5\n"
                        "[ $(seconds) -gt $((n + 1)) ] && exit 0; done; podman logs app; exit 1"));
  }

  static void ends_well(const std::string& guest, Process* server) {
    must(guest, "pkill -INT -x godwit-verify");
    const ExecResult served = server->wait(60);
    EXPECT_EQ(served.code, 0) << served.out;
    EXPECT_EQ(must(guest, kEnvironment + "podman wait app 2> /dev/null"), "0\n");
    const std::string log = must(guest, kEnvironment + "podman logs app 2>&1");
    EXPECT_NE(log.find("verdict: good"), std::string::npos) << log;
  }

  // The guest's root is an overlay already.
  inline static const std::string kEnvironment = "export STORAGE_DRIVER=vfs\n";

 private:
  struct Block {
    std::string title, guest, script;
  };
  std::vector<Block> blocks_;
};

TEST_F(Podman, MovesByTheGuide) {
  const auto server = launch(kPeer, "exec godwit-verify");
  wait_for_listener(kPeer, 18517);
  follow("Start");
  expect_it_transfers(kHome);
  follow("Prepare the destination");
  follow("Move");
  expect_it_transfers(kAway);
  follow("Clean up");
  EXPECT_EQ(must(kHome, "godwit-cr list; rdma resource show qp; ls /run/netns"), "");
  ends_well(kAway, server.get());
}

using FullPodman = Podman;

// There and back; and the archive that cannot be restored there, and is restored at home instead.
TEST_F(FullPodman, ThereAndBackAndHomeAgain) {
  const auto server = launch(kPeer, "exec godwit-verify");
  wait_for_listener(kPeer, 18517);
  follow("Start");
  for (const bool back : {false, true}) {
    if (back) must(kAway, kEnvironment + "podman save -q -o /mnt/share/app-image.tar app-image");
    follow("Prepare the destination", back);
    follow("Move", back);
    expect_it_transfers(back ? kHome : kAway);
    follow("Clean up", back);
  }
  must(kHome,
       kEnvironment +
           "podman --runtime runc container checkpoint --tcp-established --export "
           "/mnt/share/app.tar app",
       120);
  follow("If it cannot be restored there");
  expect_it_transfers(kHome);
  ends_well(kHome, server.get());
}

}  // namespace
}  // namespace godwit::vm
