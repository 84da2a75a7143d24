// SPDX-License-Identifier: GPL-2.0-or-later
#include "container.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <regex>
#include <sstream>

#include "error.h"
#include "plan.h"

namespace godwit::lab {
namespace {

using Json = nlohmann::json;

// Inside the container.
const std::string kLog = "/var/log/container";
const std::string kExitCode = "/var/log/exit-code";

}  // namespace

// One command at a time changes the list.
class Containers::Lock {
 public:
  explicit Lock(const std::string& file)
      : fd_(open((file + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
    if (fd_ < 0) throw_errno(file + ".lock");
    while (flock(fd_, LOCK_EX) != 0 && errno == EINTR) continue;
  }
  ~Lock() { close(fd_); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  int fd_;
};

std::string Containers::file() const { return lab_.folder() + "/containers.json"; }

std::vector<Container> Containers::list() const {
  std::ifstream in(file());
  const Json all = Json::parse(in, nullptr, false);
  std::vector<Container> containers;
  if (!all.is_array()) return containers;
  for (const Json& one : all) {
    containers.push_back({one["name"], one["number"], one["guest"], one["argv"].get<Argv>()});
  }
  return containers;
}

void Containers::save(const std::vector<Container>& all) const {
  Json json = Json::array();
  for (const Container& c : all) {
    json.push_back({{"name", c.name}, {"number", c.number}, {"guest", c.guest}, {"argv", c.argv}});
  }
  const std::string fresh = file() + ".new";
  std::ofstream out(fresh);
  out << json.dump(1) << "\n";
  out.close();
  if (!out || rename(fresh.c_str(), file().c_str()) != 0) throw_errno(file());
}

Container Containers::find(const std::string& name) const {
  for (const Container& c : list()) {
    if (c.name == name) return c;
  }
  throw Error("no container " + name + "; see 'godwit container list'");
}

std::string Containers::folder(const Container& container) {
  return "/var/lib/containers/" + container.name;
}

std::string Containers::log_file(const Container& container) {
  return folder(container) + "/root" + kLog;
}

std::string Containers::exit_code_file(const Container& container) {
  return folder(container) + "/root" + kExitCode;
}

std::string Containers::cgroup(const Container& container) {
  return "/sys/fs/cgroup/" + container.name;
}

void Containers::make_network(const Container& c, const std::string& guest, bool muted) const {
  std::ostringstream script;
  script << "set -e\nns=" << c.name
         << "\n"
         // The link by itself: the kernel takes its time with a namespace, and the MAC would be in
         // use.
         << "ip -n $ns link del eth0 2>/dev/null || true; ip netns del $ns 2>/dev/null || true\n"
         << "ip netns add $ns\n"
         << "ip link add link gw0 name eth0 netns $ns address " << container_mac(c.number)
         << " type macvlan mode bridge\n"
         << "ip -n $ns link set lo up\n";
  if (muted) {
    script << kMute;
  }
  script << "ip -n $ns link set eth0 mtu " << kMtu << " up\n"
         << "ip -n $ns addr add " << container_ip(c.number) << "/16 dev eth0\n"
         << "ip -n $ns addr add " << container_ip6(c.number) << "/64 dev eth0 nodad\n";
  lab_.must(guest, script.str());
}

void Containers::make_root(const Container& c, const std::string& guest) const {
  const std::string f = folder(c);
  lab_.must(guest, "set -e\nmkdir -p " + f + "/upper " + f + "/work " + f + "/root\n" +
                       "mount -t overlay -o lowerdir=/media/godwit:/media/base,upperdir=" + f +
                       "/upper,workdir=" + f + "/work container " + f + "/root\n");
}

Container Containers::start(const std::string& guest, const std::string& name, const Argv& argv) {
  static const std::regex kName("[a-z][a-z0-9-]{0,30}");
  if (!std::regex_match(name, kName)) {
    throw Error(name + ": a container's name has small letters, digits and -");
  }
  if (argv.empty()) throw Error("no command");
  if (guest_index(guest) == 0) throw Error("no guest " + guest + "; see 'godwit status'");
  if (!guest_is_ready(guest)) throw Error(guest + " is not up; see 'godwit status'");
  Container c;
  c.name = name;
  c.guest = guest;
  c.argv = argv;
  add(&c);
  try {
    create(c);
  } catch (const Error&) {
    remove(c);
    throw;
  }
  return c;
}

// Gives it a number, and enters it into the list.
void Containers::add(Container* c) {
  const Lock lock(file());
  std::vector<Container> all = list();
  for (const Container& other : all) {
    if (other.name == c->name) throw Error(c->name + " is there already, on " + other.guest);
  }
  for (int number = 1; number <= kMaxContainers && c->number == 0; ++number) {
    const bool taken = std::any_of(all.begin(), all.end(),
                                   [number](const Container& o) { return o.number == number; });
    if (!taken) c->number = number;
  }
  if (c->number == 0) throw Error("too many containers");
  all.push_back(*c);
  save(all);
}

// Root, network namespace, runc's bundle; and runs it.
void Containers::create(const Container& c) const {
  const std::string f = folder(c);
  lab_.must(c.guest, "test ! -e " + f + " || { echo " + f + " is in the way; exit 1; }");
  make_network(c, c.guest, false);
  make_root(c, c.guest);
  lab_.must(c.guest, "set -e\ncd " + f +
                         "\nrm -f config.json\nrunc spec\nmkdir -p upper/etc upper/var/log\n"
                         "cp /etc/hosts upper/etc/hosts\nmount -o remount root\n");
  Json config = Json::parse(lab_.get(c.guest, f + "/config.json"));
  Json& process = config["process"];
  process["terminal"] = false;
  // No descriptor of the container may be a file of the host: CRIU refuses it.
  // A detached runc does not tell how it ended, and after a move there is another one: the shell
  // beside the program moves along and writes it down.
  Argv wrapped = {"/bin/sh", "-c",
                  "exec < /dev/null > " + kLog + " 2>&1; \"$@\"; echo $? > " + kExitCode, "sh"};
  wrapped.insert(wrapped.end(), c.argv.begin(), c.argv.end());
  process["args"] = wrapped;
  process["cwd"] = "/";
  process["rlimits"] = Json::array();
  process["rlimits"].push_back(
      {{"type", "RLIMIT_MEMLOCK"}, {"hard", 1ULL << 40}, {"soft", 1ULL << 40}});
  process["rlimits"].push_back({{"type", "RLIMIT_NOFILE"}, {"hard", 4096}, {"soft", 4096}});
  config["root"] = {{"path", "root"}, {"readonly", false}};
  config["hostname"] = c.name;
  for (Json& ns : config["linux"]["namespaces"]) {
    if (ns["type"] == "network") ns["path"] = "/run/netns/" + c.name;
  }
  // The RDMA device nodes, as they are in the guest.
  const std::string nodes = lab_.must(
      c.guest, "for n in /dev/infiniband/*; do [ -c $n ] && stat -c '%n %Hr %Lr' $n; done; true");
  std::istringstream lines(nodes);
  std::string path;
  int major, minor;
  config["linux"]["devices"] = Json::array();
  while (lines >> path >> major >> minor) {
    config["linux"]["devices"].push_back({{"path", path},
                                          {"type", "c"},
                                          {"major", major},
                                          {"minor", minor},
                                          {"fileMode", 0666},
                                          {"uid", 0},
                                          {"gid", 0}});
    config["linux"]["resources"]["devices"].push_back(
        {{"allow", true}, {"type", "c"}, {"major", major}, {"minor", minor}, {"access", "rwm"}});
  }
  lab_.put(c.guest, f + "/config.json", config.dump(1));
  lab_.must(c.guest, "cd " + f + " && runc run -d " + c.name +
                         " < /dev/null > runc.log 2>&1 || { cat runc.log; exit 1; }");
}

bool Containers::running(const Container& c) const {
  return lab_.shell(c.guest, runs(c.name)).code == 0;
}

std::string Containers::runs(const std::string& name) {
  return "runc state " + name + " | grep -q '\"status\": \"running\"'";
}

std::string Containers::pid_of(const std::string& name) {
  return "$(runc state " + name + " | sed -n 's/.*\"pid\": \\([0-9]*\\).*/\\1/p')";
}

std::string Containers::kill_tasks(const Container& c) {
  const std::string group = cgroup(c);
  // runc's mount for CRIU, and CRIU's folder for mounts, which may be another restore's.
  return "{ echo 1 > " + group + "/cgroup.kill; } 2> /dev/null; umount -l /run/runc/" + c.name +
         "/criu-root 2> /dev/null; runc delete --force " + c.name +
         " 2> /dev/null; rm -rf --one-file-system /run/runc/" + c.name +
         "; for i in $(seq 100); do rmdir " + group + " 2> /dev/null; [ -d " + group +
         " ] || break; sleep 0.05; done; pgrep -x -r D,R,S,T,t criu > /dev/null || rm -rf "
         "--one-file-system /tmp/.criu.mntns.*";
}

// A CRIU that was killed leaves the cgroup file system mounted in the image's folder.
std::string Containers::unmount_below(const std::string& folder) {
  return "for m in $(awk '$2 ~ \"^" + folder +
         "/\" {print $2}' /proc/mounts | sort -r); do umount -l $m; done";
}

std::string Containers::wipe(const Container& c) {
  return "godwit-job kill " + c.name + "; " + kill_tasks(c) + "; ip -n " + c.name +
         " link del eth0 2>/dev/null; ip netns del " + c.name + " 2>/dev/null; " +
         unmount_below(folder(c)) + "; rm -rf --one-file-system " + folder(c);
}

std::string Containers::logs(const Container& c) const {
  return lab_.shell(c.guest, "cat " + log_file(c)).out;
}

std::optional<int> Containers::exit_code(const Container& c) const {
  const std::string text = lab_.shell(c.guest, "cat " + exit_code_file(c) + " 2>/dev/null").out;
  if (text.empty() || text.back() != '\n') return std::nullopt;
  return std::stoi(text);
}

bool Containers::guest_is_ready(const std::string& name) const {
  const Json state = lab_.status();
  for (const Json& guest : state["guests"]) {
    if (guest["name"] == name) return guest["state"] == "ready";
  }
  return false;
}

// With a guest that has died its containers are gone as well.
void Containers::remove(const Container& c) {
  if (guest_is_ready(c.guest)) {
    lab_.must(c.guest, wipe(c) + "\ntrue");
  }
  const Lock lock(file());
  std::vector<Container> all = list();
  std::erase_if(all, [&c](const Container& o) { return o.name == c.name; });
  save(all);
}

void Containers::relocate(const std::string& name, const std::string& guest) {
  const Lock lock(file());
  std::vector<Container> all = list();
  for (Container& c : all) {
    if (c.name == name) c.guest = guest;
  }
  save(all);
}

}  // namespace godwit::lab
