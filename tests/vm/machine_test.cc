// SPDX-License-Identifier: GPL-2.0-or-later
//
// What befalls a NIC while programs use it: its VM goes back to a snapshot or goes on in another
// QEMU, its driver is taken away, it is reset, its interrupts are masked.
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "command.h"
#include "guests.h"
#include "plan.h"

namespace godwit::vm {
namespace {

using Json = nlohmann::json;

// Shell: $pci is the NIC's address.
const std::string kPci = "pci=$(basename $(readlink -f /sys/class/net/gw0/device))\n";

class Machine : public GuestTest {
 protected:
  // Two ends of godwit-verify on one guest, in the background: all of it is in one VM. Their output
  // is in files, for a stream of the agent would not survive a snapshot.
  static void start_verify(const std::string& guest, const std::string& options) {
    port_ = fresh_port();
    const std::string command =
        "godwit-verify --duration 120 --port " + std::to_string(port_) + " " + options;
    must(guest, "cd /tmp; nohup " + command +
                    " > verify-server 2>&1 < /dev/null & \n"
                    "cd /tmp; nohup " +
                    command + " " + ip_of(guest) + " > verify-client 2>&1 < /dev/null & \n");
    wait_for_figures(guest, 2);
  }
  // Until the client has printed so many more lines of figures.
  static void wait_for_figures(const std::string& guest, int more) {
    must(guest,
         "n=$(grep -c op/s /tmp/verify-client)\n"
         "for i in $(seq 600); do [ $(grep -c op/s /tmp/verify-client) -ge $((n + " +
             std::to_string(more) +
             ")) ] && exit 0; sleep 0.1; done\n"
             "cat /tmp/verify-client; exit 1",
         90);
  }
  static void end_verify_well(const std::string& guest) {
    must(guest,
         "pkill -TERM -f '[g]odwit-verify .*--port " + std::to_string(port_) + ".* " +
             ip_of(guest) +
             "'\n"
             "for i in $(seq 600); do pgrep godwit-verify > /dev/null || break; sleep 0.1; done\n"
             "cat /tmp/verify-*; ! pgrep godwit-verify && grep -q 'verdict: good' "
             "/tmp/verify-client && "
             "grep -q 'verdict: good' /tmp/verify-server; r=$?; rm -f /tmp/verify-*; exit $r",
         90);
  }

  // Both ends have ended with an error that says why; none hangs.
  static void expect_verify_has_lost_its_device(const std::string& guest) {
    EXPECT_NO_THROW(
        must(guest,
             "for i in $(seq 300); do pgrep godwit-verify > /dev/null || break; sleep 0.1; done\n"
             "cat /tmp/verify-*; ! pkill -KILL godwit-verify && "
             "grep -q 'the device' /tmp/verify-client && grep -q 'the device' /tmp/verify-server\n"
             "r=$?; rm -f /tmp/verify-*; exit $r",
             90));
  }

  static Json qmp(const std::string& guest, const std::string& command, const Json& arguments) {
    const Json answer = the_lab().request(
        {{"op", "qmp"},
         {"guest", guest},
         {"command", {{"execute", command}, {"arguments", arguments}}}})["answer"];
    if (answer.contains("error")) throw std::runtime_error(answer.dump());
    return answer["return"];
  }
  // What the monitor says; nothing if all is well.
  static std::string monitor(const std::string& guest, const std::string& line) {
    return qmp(guest, "human-monitor-command", {{"command-line", line}}).get<std::string>();
  }

  // After a probe the interface is a new one, without name and addresses.
  static void set_addresses_again(const std::string& guest) {
    const std::string index = std::to_string(lab::guest_index(guest));
    must(guest,
         "for i in $(seq 100); do\n"
         "  dev=$(grep -l '^" +
             lab::nic_mac(lab::guest_index(guest)) +
             "' /sys/class/net/*/address | cut -d/ -f5)\n"
             "  [ -n \"$dev\" ] && break; sleep 0.1\n"
             "done\n"
             "ip link set $dev down; [ $dev = gw0 ] || ip link set $dev name gw0\n"
             "ip link set gw0 mtu 4200; ip link set gw0 up\n"
             "ip addr add 10.77.0." +
             index + "/16 dev gw0; ip addr add fd67::" + index + "/64 dev gw0 nodad");
  }

  // Away's connection to peer is used before and after it.
  static void idle_connection_survives(const std::function<void()>& happens) {
    const int port = fresh_port();
    const auto server = launch(kPeer, "exec godwit-quiet --port " + std::to_string(port));
    wait_for_listener(kPeer, port);
    must(kAway,
         "mkfifo /tmp/say; cd /tmp; nohup sh -c 'exec 3<> /tmp/say; exec godwit-quiet --port " +
             std::to_string(port) + " " + ip_of(kPeer) + " < /tmp/say' > quiet 2>&1 < /dev/null &");
    const auto say = [](const std::string& what) {
      must(kAway, "echo " + what + " > /tmp/say; n=$(grep -c '^" + what +
                      ": success' /tmp/quiet)\n"
                      "for i in $(seq 300); do grep -q '^" +
                      what +
                      ": success' /tmp/quiet && exit 0; sleep 0.1; done\n"
                      "cat /tmp/quiet; exit 1");
    };
    say("send");
    happens();
    say("write");
    say("add");
    must(kAway, "pkill -x godwit-quiet; rm -f /tmp/say /tmp/quiet");
    server->signal(9);
    expect_kernel_is_well(kAway);
  }

  static void expect_kernel_is_well(const std::string& guest) {
    EXPECT_EQ(must(guest, "dmesg | grep -E 'BUG|WARNING|Oops|Call Trace|refcount' || true"), "");
  }
  static void expect_it_works_again(const std::string& guest) {
    const int port = fresh_port();
    const std::string command =
        "ibv_rc_pingpong -c -n 100 -d godwit0 -p " + std::to_string(port) + " -g ";
    const auto with_gid = [&](const std::string& at) {
      return command + std::to_string(gid_index(at, "godwit0", ip_of(at)));
    };
    EXPECT_TRUE(
        good(talk({guest, with_gid(guest)}, {kHome, with_gid(kHome) + " " + ip_of(guest)}, port)));
  }

  static int port_;
};

int Machine::port_ = 0;

// A VM snapshot has the NIC's connections in it: also those that are at work, if both ends are.
class Snapshot : public Machine {
 protected:
  void SetUp() override {
    Machine::SetUp();
    // The guests' disks are read-only; a snapshot goes into one that no device uses.
    file_ = lab_folder() + "/snapshot.qcow2";
    const Json image = {{"driver", "file"}, {"filename", file_}};
    job(Json{{"driver", "file"}, {"filename", file_}, {"size", 0}});
    qmp(kAway, "blockdev-add", {{"driver", "file"}, {"filename", file_}, {"node-name", "file0"}});
    job(Json{{"driver", "qcow2"}, {"file", "file0"}, {"size", 1 << 20}});
    qmp(kAway, "blockdev-add",
        {{"driver", "qcow2"}, {"file", "file0"}, {"node-name", "snapshots"}});
    // A file system of the host cannot be saved.
    must(kAway, "if mountpoint -q /mnt/share; then umount /mnt/share; fi");
  }
  void TearDown() override {
    qmp(kAway, "blockdev-del", {{"node-name", "snapshots"}});
    qmp(kAway, "blockdev-del", {{"node-name", "file0"}});
    unlink(file_.c_str());
    Machine::TearDown();
  }
  static void job(const Json& options) {
    qmp(kAway, "blockdev-create", {{"job-id", "create"}, {"options", options}});
    for (int i = 0; i < 100; ++i) {
      const Json jobs = qmp(kAway, "query-jobs", Json::object());
      ASSERT_EQ(jobs.size(), 1u);
      if (jobs[0]["status"] == "concluded") {
        ASSERT_FALSE(jobs[0].contains("error")) << jobs.dump();
        qmp(kAway, "job-dismiss", {{"id", "create"}});
        return;
      }
      usleep(50'000);
    }
    FAIL() << "no image for snapshots";
  }
  std::string file_;
};

TEST_F(Snapshot, ConnectionsAtWorkGoOnFromIt) {
  start_verify(kAway, "--qps 4 --events --pause 5");
  ASSERT_EQ(monitor(kAway, "savevm one"), "");
  wait_for_figures(kAway, 3);
  ASSERT_EQ(monitor(kAway, "loadvm one"), "");
  wait_for_figures(kAway, 3);
  end_verify_well(kAway);
  expect_kernel_is_well(kAway);
}

TEST_F(Snapshot, IdleConnectionToAnotherVmGoesOnFromIt) {
  idle_connection_survives([] {
    ASSERT_EQ(monitor(kAway, "savevm two"), "");
    ASSERT_EQ(monitor(kAway, "loadvm two"), "");
  });
}

// QEMU's migration, through a file: the VM goes on in a QEMU that takes over the first one's port
// of the wire, agent and monitor.
class AnotherQemu : public Machine {
 protected:
  // A daemon that has adopted its guests, as after its death in another test, cannot start one
  // anew.
  static void SetUpTestSuite() { (void)godwit({"down"}); }
  void SetUp() override {
    Machine::SetUp();
    // A file system of the host cannot be saved.
    must(kAway, "if mountpoint -q /mnt/share; then umount /mnt/share; fi");
  }

  // Not the_lab(), which boots a lab anew if one of its guests is not ready.
  static Json away() {
    const Json status = Lab(lab_folder()).status();
    for (const Json& guest : status["guests"]) {
      if (guest["name"] == kAway) return guest;
    }
    throw std::runtime_error("no away");
  }

  static void go_on_there() {
    const std::string file = lab_folder() + "/vm-state";
    const Json before = away();
    // As fast as the host can; the programs do not mind how long they stand still.
    qmp(kAway, "migrate-set-parameters",
        {{"max-bandwidth", 1LL << 40}, {"downtime-limit", 10'000}});
    qmp(kAway, "migrate", {{"uri", "exec:cat > " + file}});
    std::string status;
    for (int i = 0; i < 600 && status != "completed"; ++i) {
      usleep(100'000);
      const Json state = qmp(kAway, "query-migrate", Json::object());
      status = state.value("status", "");
      ASSERT_NE(status, "failed") << state.dump();
    }
    ASSERT_EQ(status, "completed");
    (void)the_lab().request(
        {{"op", "restart"}, {"guest", kAway}, {"incoming", "exec:cat " + file}});
    Json after;
    for (int i = 0; i < 600; ++i) {
      after = away();
      if (after["state"] != "booting") break;
      usleep(100'000);
    }
    std::filesystem::remove(file);
    ASSERT_EQ(after["state"], "ready") << after.dump();
    ASSERT_NE(after["pid"], before["pid"]);
  }
};

TEST_F(AnotherQemu, ConnectionsAtWorkGoOnInIt) {
  start_verify(kAway, "--qps 4 --events --pause 5");
  go_on_there();
  wait_for_figures(kAway, 3);
  end_verify_well(kAway);
  expect_it_works_again(kAway);
  expect_kernel_is_well(kAway);
}

TEST_F(AnotherQemu, IdleConnectionToAnotherVmGoesOnInIt) {
  idle_connection_survives(go_on_there);
  expect_it_works_again(kAway);
}

// Programs that have the device open learn that it is gone, and do not keep the module; what comes
// after a new probe is as new.
TEST_F(Machine, DriverIsTakenAwayWhileProgramsHoldTheDevice) {
  const std::string guest = kAway;
  const auto watcher = launch(guest, "exec ibv_asyncwatch -d godwit0 2>&1");
  watcher->wait_for_line(
      [](const std::string& line) { return line.find("async event") != std::string::npos; }, 30);
  const auto holder = launch(guest, "exec godwit-idle --qps 8 --mib 4 2>&1");
  start_verify(guest, "--qps 2 --pause 5");

  must(guest, "rmmod godwit");
  EXPECT_NO_THROW(watcher->wait_for_line(
      [](const std::string& line) { return line.find("DEVICE_FATAL") != std::string::npos; }, 30));
  EXPECT_EQ(must(guest, "ls /sys/class/infiniband; ls -d /sys/class/net/gw0 2> /dev/null; true"),
            "");
  expect_verify_has_lost_its_device(guest);

  // A new one is there while they still hold what is left of the old one.
  must(guest, "modprobe godwit");
  set_addresses_again(guest);
  expect_it_works_again(guest);
  must(guest, "pkill -KILL 'godwit-idle|ibv_asyncwatch'");
  expect_kernel_is_well(guest);
}

// The driver makes its interfaces anew; programs get the fatal event, none hangs.
TEST_F(Machine, FunctionLevelResetUnderLoad) {
  const std::string guest = kAway;
  start_verify(guest, "--qps 4 --events --pause 1");
  must(guest, kPci + "echo 1 > /sys/bus/pci/devices/$pci/reset", 60);
  expect_verify_has_lost_its_device(guest);
  set_addresses_again(guest);
  expect_kernel_is_well(guest);
  expect_it_works_again(guest);
}

// A masked interrupt is latched: who waits for events stands still, and goes on when it comes.
TEST_F(Machine, InterruptsAreMaskedUnderLoad) {
  const std::string mask =
      kPci +
      "python3 - $pci <<'PY'\nimport struct, sys, time\n"
      "with open(f'/sys/bus/pci/devices/{sys.argv[1]}/config', 'r+b', buffering=0) as f:\n"
      "    def get(at, n):\n        f.seek(at); return int.from_bytes(f.read(n), 'little')\n"
      "    def put(at, value):\n        f.seek(at); f.write(struct.pack('<H', value))\n"
      "    at = get(0x34, 1)\n"
      "    while at and get(at, 1) != 0x11: at = get(at + 1, 1)\n"
      "    control = get(at + 2, 2)\n"
      "    assert control & 0x8000\n"
      "    for _ in range(5):\n"
      "        put(at + 2, control | 0x4000); time.sleep(0.5)\n"
      "        put(at + 2, control); time.sleep(0.2)\n"
      "PY\n";
  start_verify(kAway, "--qps 4 --events --pause 1");
  must(kAway, mask);
  wait_for_figures(kAway, 2);
  end_verify_well(kAway);
  expect_kernel_is_well(kAway);
}

}  // namespace
}  // namespace godwit::vm
