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
    return lab::migrate(the_lab(), name, to, [](const std::string&) {}, options);
  }

  // The load is on its way: the program has printed its first figures.
  static void wait_until_it_transfers(const std::string& name) {
    wait_for_log(name, "op/s");
  }

  static void wait_for_log(const std::string& name, const std::string& text) {
    const Container c = Containers(the_lab()).find(name);
    must(c.guest, "log=" + Containers::folder(c) + "/root/var/log/container\n"
                  "for i in $(seq 300); do grep -q '" + text + "' $log && exit 0; sleep 0.1; done; cat $log; exit 1");
  }

  // It goes on after a move: it prints figures again.
  static void expect_it_still_transfers(const std::string& name) {
    const Container c = Containers(the_lab()).find(name);
    EXPECT_NO_THROW(must(c.guest, "log=" + Containers::folder(c) + "/root/var/log/container\n"
                                  "n=$(grep -c op/s $log); for i in $(seq 300); do "
                                  "[ $(grep -c op/s $log) -gt $((n + 1)) ] && exit 0; sleep 0.1; done; cat $log; exit 1"));
  }

  // Ends by itself or by the signal it has got; its log.
  static std::string log_at_end(const std::string& name) {
    const Containers containers(the_lab());
    const Container c = containers.find(name);
    for (int i = 0; i < 100 && containers.running(c); ++i) usleep(200'000);
    EXPECT_FALSE(containers.running(c)) << name << " does not end";
    return containers.logs(c);
  }

  // The source forgets the container: as if it had never been there.
  static void expect_nothing_left_at(const std::string& guest, const std::string& name) {
    EXPECT_EQ(must(guest, "godwit-cr list; ls /run/netns; ls /var/lib/containers; ls /run/runc 2> /dev/null; "
                          "grep /" + name + " /proc/mounts; ls /run/godwit/" + name + "* 2> /dev/null; rdma resource show qp; true"),
              "");
  }
};

}  // namespace godwit::vm

#endif  // GODWIT_TESTS_VM_MOVE_H
