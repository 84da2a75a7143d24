// SPDX-License-Identifier: GPL-2.0-or-later
//
// Containers that move from guest to guest while they transfer, and what is left.
#include <signal.h>

#include <filesystem>
#include <regex>

#include "command.h"
#include "error.h"
#include "move.h"
#include "move_journal.h"
#include "plan.h"

namespace godwit::vm {
namespace {

TEST_F(Move, ClientUnderLoadThereAndBack) {
  const auto server = launch(kPeer, "exec godwit-verify --json -");
  wait_for_listener(kPeer, 18517);
  start(kHome, "client", {"godwit-verify", "--duration", "0", "--json", "-", ip_of(kPeer)});
  wait_until_it_transfers("client");

  for (const std::string& to : {kAway, kHome}) {
    const std::string from = to == kAway ? kHome : kAway;
    SCOPED_TRACE("to " + to);
    const lab::MoveReport report = move("client", to);
    EXPECT_EQ(report.qps, 4u);
    EXPECT_GT(report.stop_ms, 0);
    expect_nothing_left_at(from, "client");
    expect_it_still_transfers("client");
  }
  must(kHome, "pkill -INT -x godwit-verify");  // its parent is the shell that notes its exit code
  expect_good(server->wait(60));
  expect_good_at_end("client");
}

TEST_F(Move, ServerUnderLoad) {
  const Container c = start(kHome, "server", {"godwit-verify", "--events", "--json", "-"});
  wait_for_log("server", "waiting on port");
  const auto client = launch(
      kPeer, "exec godwit-verify --events --qps 2 --duration 0 " + lab::container_ip(c.number));
  wait_until_it_transfers("server");

  const lab::MoveReport report = move("server", kAway);
  EXPECT_EQ(report.qps, 2u);
  expect_nothing_left_at(kHome, "server");
  expect_it_still_transfers("server");

  client->signal(SIGINT);
  expect_good(client->wait(60));
  expect_good_at_end("server");
}

// There the address is at the NIC before the QPs are, and then both ends are on one NIC. The peer's
// GIDs have the indexes that the client's have at home: refused unless wanted.
TEST_F(Move, ToTheGuestOfItsPeerAndBack) {
  const Container peer = start(kAway, "server", {"godwit-verify", "--events", "--pause", "10"});
  wait_for_log("server", "waiting on port");
  start(kHome, "client",
        {"godwit-verify", "--events", "--pause", "10", "--timeout", "18", "--duration", "0",
         lab::container_ip(peer.number)});
  wait_until_it_transfers("client");

  const std::string gid = gid_of(lab::container_ip(Containers(the_lab()).find("client").number));
  const std::string table = "cat /sys/class/infiniband/godwit0/ports/1/gids/*";
  const std::string gids = must(kAway, table);
  try {
    move("client", kAway);
    ADD_FAILURE() << "it moved";
  } catch (const lab::Error& error) {
    const std::string why = error.what();
    EXPECT_TRUE(std::regex_search(why, std::regex("step prepare: [^\n]*GID " + gid +
                                                  " has index [0-9]+ here, it had [0-9]+")))
        << why;
    EXPECT_NE(why.find("--any-gid-index"), std::string::npos) << why;
  }
  EXPECT_EQ(must(kAway,
                 "godwit-cr list; ls -d /run/netns/client /var/lib/containers/client "
                 "/run/godwit/client* 2> /dev/null; true"),
            "");
  EXPECT_EQ(
      must(kAway, "for i in $(seq 50); do [ \"$(" + table + ")\" = '" +
                      gids.substr(0, gids.size() - 1) + "' ] && break; sleep 0.1; done; " + table),
      gids);
  EXPECT_EQ(lab::MoveJournal::unfinished(lab_folder()), std::vector<std::string>{});
  expect_it_still_transfers("client");

  const lab::MoveReport report = move_to_any_index("client", kAway);
  EXPECT_NE(report.warning.find("GID " + gid + " has index"), std::string::npos) << report.warning;
  expect_nothing_left_at(kHome, "client");
  expect_it_still_transfers("client");
  move_to_any_index("client", kHome);
  expect_it_still_transfers("client");

  must(kHome, "pkill -INT -x godwit-verify");
  for (const char* name : {"client", "server"}) expect_good_at_end(name);
}

// The destination fails after the checkpoint is complete: home's own copy goes on there.
TEST_F(Move, ThatFailsAtTheDestinationGoesOnAtHome) {
  const auto server = launch(kPeer, "exec godwit-verify");
  wait_for_listener(kPeer, 18517);
  start(kHome, "client", {"godwit-verify", "--duration", "0", ip_of(kPeer)});
  wait_until_it_transfers("client");
  // No plugin there that takes the image: a file where runc wants its state.
  must(kAway, "mkdir -p /run/runc && touch /run/runc/client");
  try {
    move("client", kAway);
    ADD_FAILURE() << "it moved";
  } catch (const lab::Error& error) {
    EXPECT_NE(std::string(error.what()).find("step restore"), std::string::npos) << error.what();
  }
  must(kAway, "rm -f /run/runc/client");
  EXPECT_EQ(Containers(the_lab()).find("client").guest, kHome);
  expect_nothing_left_at(kAway, "client");
  expect_it_still_transfers("client");
  must(kHome, "pkill -INT -x godwit-verify");  // its parent is the shell that notes its exit code
  expect_good(server->wait(60));
  expect_good_at_end("client");
}

TEST_F(Move, ThatCannotBeIsRefusedBeforeAnythingStops) {
  start(kHome, "idle", {"sleep", "1000"});
  const auto why = [](const std::string& name, const std::string& to) -> std::string {
    try {
      move(name, to);
      return "it moved";
    } catch (const lab::Error& error) {
      return error.what();
    }
  };
  EXPECT_NE(why("nobody", kAway).find("no container nobody"), std::string::npos);
  EXPECT_NE(why("idle", "nowhere").find("no guest nowhere"), std::string::npos);
  EXPECT_NE(why("idle", kHome).find("is on home already"), std::string::npos);
  must(kAway, "mkdir /var/lib/containers/idle");
  EXPECT_NE(why("idle", kAway).find("is in the way"), std::string::npos);
  must(kAway, "rmdir /var/lib/containers/idle; ip link set gw0 mtu 4100");
  EXPECT_NE(why("idle", kAway).find("the guests differ"), std::string::npos);
  must(kAway, "ip link set gw0 mtu 4200; mount -t tmpfs -o size=8m little /var/lib/containers");
  EXPECT_NE(why("idle", kAway).find("MiB of disk free, too little"), std::string::npos);
  must(kAway, "umount /var/lib/containers");
  EXPECT_TRUE(Containers(the_lab()).running(Containers(the_lab()).find("idle")));
}

// Checkpoint, archive, reservation and journal of a move that nobody has ended go with the
// container.
TEST_F(Move, ThatWasCutOffIsForgottenWithItsContainer) {
  const std::string share = lab_folder() + "/share";
  const auto server = launch(kPeer, "exec godwit-verify");
  wait_for_listener(kPeer, 18517);
  start(kHome, "client", {"godwit-verify", "--duration", "0", ip_of(kPeer)});
  wait_until_it_transfers("client");
  const HostResult cut = godwit({"migrate", "client", kAway, "--fail-at", "copy:command"}, 300);
  ASSERT_EQ(cut.code, 128 + SIGKILL) << cut.err;
  EXPECT_EQ(lab::MoveJournal::unfinished(lab_folder()), std::vector<std::string>{"client"});
  EXPECT_NE(must(kHome, "godwit-cr list"), "");
  EXPECT_FALSE(std::filesystem::is_empty(share));

  const HostResult removed = godwit({"container", "rm", "client"});
  EXPECT_EQ(removed.code, 0) << removed.err;
  EXPECT_EQ(lab::MoveJournal::unfinished(lab_folder()), std::vector<std::string>{});
  EXPECT_TRUE(std::filesystem::is_empty(share));
  for (const std::string& guest : {kHome, kAway}) expect_nothing_left_at(guest, "client");
}

// A program that uses no verbs moves as well.
TEST_F(Move, ContainerWithoutVerbs) {
  start(kHome, "plain",
        {"sh", "-c", "i=0; while :; do i=$((i + 1)); echo tick $i; sleep 0.2; done"});
  wait_for_log("plain", "tick 2");
  move("plain", kAway);
  expect_nothing_left_at(kHome, "plain");
  EXPECT_EQ(Containers(the_lab()).find("plain").guest, kAway);
  expect_more_in_log("plain", "tick");
}

}  // namespace
}  // namespace godwit::vm
