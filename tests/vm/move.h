// SPDX-License-Identifier: GPL-2.0-or-later
//
// What tests of moves share: containers that go with the test, the move, and what is seen of both.
#ifndef GODWIT_TESTS_VM_MOVE_H
#define GODWIT_TESTS_VM_MOVE_H

#include <unistd.h>

#include <string>

#include "container.h"
#include "guests.h"
#include "migrate.h"

namespace godwit::vm {

using lab::Container;
using lab::Containers;

// Until a container has said this.
inline void wait_for_log(const std::string& name, const std::string& text) {
  const Container c = Containers(the_lab()).find(name);
  must(c.guest, "log=" + Containers::log_file(c) +
                    "\n"
                    "for i in $(seq 300); do grep -q '" +
                    text + "' $log && exit 0; sleep 0.1; done; cat $log; exit 1");
}

// It has said this twice more: the first may be of before.
inline void expect_more_in_log(const std::string& name, const std::string& text) {
  const Container c = Containers(the_lab()).find(name);
  EXPECT_NO_THROW(must(c.guest, "log=" + Containers::log_file(c) +
                                    "\n"
                                    "n=$(grep -c '" +
                                    text +
                                    "' $log); for i in $(seq 300); do "
                                    "[ $(grep -c '" +
                                    text +
                                    "' $log) -gt $((n + 1)) ] && exit 0; sleep 0.1; done; "
                                    "cat $log; exit 1"))
      << name;
}

// The load is on its way: the program has printed its first figures.
inline void wait_until_it_transfers(const std::string& name) { wait_for_log(name, "op/s"); }

// It goes on after a move: it prints figures again.
inline void expect_it_still_transfers(const std::string& name) { expect_more_in_log(name, "op/s"); }

// Ends by itself or by the signal it has got; its log.
inline std::string log_at_end(const std::string& name) {
  const Containers containers(the_lab());
  const Container c = containers.find(name);
  for (int i = 0; i < 150 && containers.running(c); ++i) usleep(200'000);
  EXPECT_FALSE(containers.running(c)) << name << " does not end";
  return containers.logs(c);
}

// godwit-verify has ended, and found all data right, once and in order: as a container, and beside.
inline void expect_good_at_end(const std::string& name) {
  const std::string log = log_at_end(name);
  EXPECT_NE(log.find("verdict: good"), std::string::npos) << name << "\n" << log;
  const Containers containers(the_lab());
  EXPECT_EQ(containers.exit_code(containers.find(name)), 0) << name << "\n" << log;
}

inline void expect_good(const ExecResult& ended) {
  EXPECT_EQ(ended.code, 0) << ended.out;
  EXPECT_NE(ended.out.find("verdict: good"), std::string::npos) << ended.out;
}

class Move : public GuestTest {
 protected:
  void TearDown() override {
    for (const Container& c : Containers(the_lab()).list()) Containers(the_lab()).remove(c);
    GuestTest::TearDown();
  }

  static Container start(const std::string& guest, const std::string& name, const Argv& argv) {
    return Containers(the_lab()).start(guest, name, argv);
  }

  static lab::MoveReport move(const std::string& name, const std::string& to) {
    return lab::migrate(the_lab(), name, to, [](const std::string&) {});
  }

  // To or from a guest with other containers, whose GIDs may be in its way.
  static lab::MoveReport move_to_any_index(const std::string& name, const std::string& to) {
    lab::MoveOptions options;
    options.any_gid_index = true;
    return lab::migrate(
        the_lab(), name, to, [](const std::string&) {}, options);
  }

  // The source forgets the container: as if it had never been there.
  static void expect_nothing_left_at(const std::string& guest, const std::string& name) {
    EXPECT_EQ(
        must(guest,
             "godwit-cr list; ls /run/netns; ls /var/lib/containers; ls /run/runc 2> /dev/null; "
             "grep /" +
                 name + " /proc/mounts; ls /run/godwit/" + name +
                 "* 2> /dev/null; rdma resource show qp; true"),
        "");
  }
};

}  // namespace godwit::vm

#endif  // GODWIT_TESTS_VM_MOVE_H
