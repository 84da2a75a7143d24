// SPDX-License-Identifier: GPL-2.0-or-later
//
// One lab of three guests for all tests, booted when the first needs it, and what
// tests do with it: run things, let two programs talk, see that nothing is left over.
#ifndef GODWIT_TESTS_VM_GUESTS_H
#define GODWIT_TESTS_VM_GUESTS_H

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <memory>
#include <string>

#include "client.h"

namespace godwit::vm {

using lab::Argv;
using lab::ExecResult;
using lab::Lab;
using lab::Process;

using Clock = std::chrono::steady_clock;

inline const std::string kHome = "home", kAway = "away", kPeer = "peer";
inline const std::string kGuests[] = {kHome, kAway, kPeer};

// The lab, with all guests up; boots it if it is not, or if one has died.
const Lab& the_lab();
// For the end of the program and for tests of `godwit down`. Logs stay.
void stop_lab();
[[nodiscard]] std::string lab_folder();

// Runs a script by bash; throws, with its output, unless it ends with 0.
std::string must(const std::string& guest, const std::string& script, double seconds = 60);
ExecResult shell(const std::string& guest, const std::string& script, double seconds = 60);
std::unique_ptr<Process> launch(const std::string& guest, const std::string& script);
// Until a TCP socket listens there.
void wait_for_listener(const std::string& guest, int port);

// Address of a guest's NIC.
std::string ip_of(const std::string& guest);
std::string ip6_of(const std::string& guest);
// Index of the RoCE v2 GID of an address; throws if there is none.
int gid_index(const std::string& guest, const std::string& device, const std::string& address);
// "fd67::1" -> "fd67:0000:…:0001"; IPv4 as mapped.
std::string gid_of(const std::string& address);

// A server program and its client, each in a guest.
struct Talk {
  ExecResult server, client;
};
struct Side {
  std::string guest;
  std::string command;
};
// Starts the server, the client when the port is open; both must end in time.
Talk talk(const Side& server, const Side& client, int port, double seconds = 90);
// Both ended with 0, and tell of no wrong bytes.
testing::AssertionResult good(const Talk& talk);

// The client's or server's command line of one of Debian's verbs programs, without the address.
std::string verbs_command(const std::string& program, const std::string& device, int gid, int port,
                          const std::string& options);

// Until godwit-verify has told once more what it transfers.
void wait_for_figures(Process& verify, double seconds = 60);

// Off: what the guest's NIC sends and what comes for it is lost.
void set_cable(const std::string& guest, bool on);

// A port that no test has used: nothing has to wait for TIME_WAIT.
int fresh_port();

// Runs a program of the host: its exit code, stdout and stderr apart.
struct HostResult {
  int code = -1;
  std::string out, err;
};
HostResult run_on_host(const Argv& argv, double seconds = 60,
                       const std::map<std::string, std::string>& env = {});

// Not only a zombie.
[[nodiscard]] bool the_process_lives(int pid);

// What a test must leave as it found it: objects, tombstones, containers, processes, files, …
std::string remains(const std::string& guest);

// Every test: the guests are up before; after it they are as they were.
class GuestTest : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

 private:
  Clock::time_point started_;
};

}  // namespace godwit::vm

#endif  // GODWIT_TESTS_VM_GUESTS_H
