// SPDX-License-Identifier: GPL-2.0-or-later
//
// Containers of the lab: runc, a network namespace with a macvlan of the NIC, and
// a root that is the guest's image with an upper directory of its own.
#ifndef GODWIT_LAB_CONTAINER_H
#define GODWIT_LAB_CONTAINER_H

#include <optional>
#include <string>
#include <vector>

#include "client.h"

namespace godwit::lab {

struct Container {
  std::string name;
  int number = 0;  // gives MAC and addresses, docs/spec/lab.md
  std::string guest;
  Argv argv;
};

class Containers {
 public:
  explicit Containers(const Lab& lab) : lab_(lab) {}

  [[nodiscard]] std::vector<Container> list() const;
  [[nodiscard]] Container find(const std::string& name) const;  // throws if there is none

  Container start(const std::string& guest, const std::string& name, const Argv& argv);
  [[nodiscard]] bool running(const Container& container) const;
  [[nodiscard]] std::string logs(const Container& container) const;
  // Of its program, as a shell gives it; nothing while it runs, or if it never ended by itself.
  [[nodiscard]] std::optional<int> exit_code(const Container& container) const;
  void remove(const Container& container);

  // For the move.
  [[nodiscard]] bool guest_is_ready(const std::string& name) const;  // throws if no lab is up
  void relocate(const std::string& name, const std::string& guest);
  void make_network(const Container& container, const std::string& guest, bool muted) const;
  void make_root(const Container& container, const std::string& guest) const;
  // In its guest: all of it; its output; the exit code of its program; its processes.
  [[nodiscard]] static std::string folder(const Container& container);
  [[nodiscard]] static std::string log_file(const Container& container);
  [[nodiscard]] static std::string exit_code_file(const Container& container);
  [[nodiscard]] static std::string cgroup(const Container& container);
  // Pieces of shell for the guest: what tells whether it runs; what yields the pid of its init;
  // what ends all its processes, also those that runc does not know; what removes all of it. The
  // others can be run again: what lets no frame of the namespace $ns in or out, but for ARP if told
  // so, and what ends that.
  [[nodiscard]] static std::string runs(const std::string& name);
  [[nodiscard]] static std::string pid_of(const std::string& name);
  [[nodiscard]] static std::string kill_tasks(const Container& container);
  [[nodiscard]] static std::string unmount_below(const std::string& folder);
  [[nodiscard]] static std::string wipe(const Container& container);
  static constexpr const char* kMute =
      "tc -n $ns qdisc show dev eth0 | grep -q clsact || {\n"
      "  modprobe -a sch_ingress cls_matchall act_gact\n"
      "  tc -n $ns qdisc add dev eth0 clsact\n"
      "}\n"
      "for way in ingress egress; do\n"
      "  tc -n $ns filter replace dev eth0 $way prio 2 handle 1 protocol all matchall action drop\n"
      "done\n";
  static constexpr const char* kLetArpOut =
      "tc -n $ns filter replace dev eth0 egress prio 1 handle 1 protocol arp matchall action "
      "pass\n";
  static constexpr const char* kUnmute =
      "if tc -n $ns qdisc show dev eth0 | grep -q clsact; then tc -n $ns qdisc del dev eth0 "
      "clsact; fi\n";

 private:
  class Lock;

  void add(Container* container);
  void create(const Container& container) const;
  [[nodiscard]] std::string file() const;
  void save(const std::vector<Container>& all) const;

  const Lab& lab_;
};

}  // namespace godwit::lab

#endif  // GODWIT_LAB_CONTAINER_H
