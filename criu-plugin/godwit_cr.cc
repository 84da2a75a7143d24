// SPDX-License-Identifier: GPL-2.0-or-later
//
// godwit-cr: looks into checkpoint images, and manages what a move leaves on a NIC.
// For orchestrators and for people; runs in the guest.
#include <dirent.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "godwit_state.h"
#include "image.h"
#include "proc.h"
#include "uverbs.h"

namespace {

using namespace godwit::criu;
namespace image = godwit::image;

constexpr int kOk = 0, kFailed = 1, kUsage = 2;

const char kHelp[] =
    R"(usage: godwit-cr COMMAND [OPTIONS]

  plan --pid PID --move ID DIR
                               write what the processes in PID's pid namespace would bring
                               along, without stopping them: DIR serves show and check, but
                               nothing can be restored from it
  move-id DIR                  print the id of the checkpoint in DIR (16 hex digits)
  show DIR [--json]            what the checkpoint holds
  check DIR [--reserve SEC] [--any-gid-index]
                               can it be restored on this machine? Versions, GIDs, GID indexes,
                               path MTU, completion vectors, QPNs; --reserve keeps the QPNs
                               for SEC seconds; --any-gid-index only warns of other indexes
  commit --move ID             start the time to live of the tombstones of a checkpoint
  drop --move ID               destroy its tombstones and reservations at once
  list [--json]                all tombstones on this NIC
  status --pid PID [--json] [--wait SEC]
                               QPs of all processes in PID's pid namespace: how many are
                               stopped, paused, resuming; --wait: until none is resuming
  resume --pid PID --attempt N of a restore that was cut off after its "go": resume those contexts
                               of the processes in PID's pid namespace that it has not come to
  mend --pid PID               of a dump that was killed: take the TCP sockets of the processes in
                               PID's pid namespace out of the repair mode that CRIU left them in

  --device NAME                RDMA device, default: the first that is a godwit
  --help

exit codes: 0 done, 1 failed (one line on stderr says why), 2 wrong usage
)";

int fail(const std::string& text) {
  std::fprintf(stderr, "godwit-cr: %s\n", text.c_str());
  return kFailed;
}

struct Usage : std::runtime_error {
  using std::runtime_error::runtime_error;
};

int usage(const std::string& text) {
  std::fprintf(stderr, "godwit-cr: %s (see godwit-cr --help)\n", text.c_str());
  return kUsage;
}

struct Options {
  std::string command;
  std::string directory;
  std::string device;
  std::uint64_t move = 0;
  int pid = 0;
  int wait_seconds = 0;
  int reserve_seconds = 0;
  std::uint32_t attempt = 0;
  bool json = false;
  bool any_gid_index = false;
};

std::string gid_text(const std::string& gid) {
  std::string text;
  char part[8];
  for (std::size_t i = 0; i + 1 < gid.size(); i += 2) {
    std::snprintf(part, sizeof(part), "%s%02x%02x", i ? ":" : "",
                  static_cast<unsigned char>(gid[i]), static_cast<unsigned char>(gid[i + 1]));
    text += part;
  }
  return text;
}

// "godwit0" and its node, of the device asked for or of the first of our driver.
std::string find_node(std::string* device) {
  for (int i = 0; i < 64; i++) {
    std::string path = "/dev/infiniband/uverbs" + std::to_string(i);
    struct stat st;
    if (stat(path.c_str(), &st)) continue;
    std::string name = godwit_device_of(st);
    if (name.empty() || (!device->empty() && name != *device)) continue;
    *device = name;
    return path;
  }
  return {};
}

int open_device(Options& options, Fd* context, std::uint32_t* comp_vectors = nullptr) {
  std::string node = find_node(&options.device);
  if (node.empty())
    return fail("no godwit RDMA device here: is the module loaded, and /dev/infiniband there?");
  context->reset(open(node.c_str(), O_RDWR | O_CLOEXEC));
  if (!context->valid()) return fail(node + ": " + std::strerror(errno));
  godwit_uresp_context response = {};
  int ret = get_context(context->get(), false, &response, comp_vectors);
  return ret ? fail(node + ": cannot make a context: " + std::strerror(-ret)) : kOk;
}

int load_image(const Options& options, image::Image* out) {
  Fd directory(open(options.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) return fail(options.directory + ": " + std::strerror(errno));
  std::string error;
  switch (read_image(directory.get(), out, &error)) {
    case ReadResult::kOk:
      return kOk;
    case ReadResult::kAbsent:
      return fail(options.directory + ": no " + kImageName + ": no verbs objects were dumped");
    case ReadResult::kBad:
      return fail(options.directory + ": " + error);
  }
  return kFailed;
}

int show(const Options& options) {
  image::Image image;
  if (int ret = load_image(options, &image)) return ret;
  std::map<std::uint32_t, unsigned> counts;
  for (const auto& context : image.contexts())
    for (const auto& object : context.objects()) counts[object.type()]++;
  if (options.json) {
    std::printf("{\"move\": \"%016" PRIx64 "\", \"device\": \"%s\", \"contexts\": %d, ",
                image.move(), image.device().c_str(), image.contexts_size());
    std::printf("\"pds\": %u, \"mrs\": %u, \"cqs\": %u, \"qps\": [", counts[GODWIT_RECORD_PD],
                counts[GODWIT_RECORD_MR], counts[GODWIT_RECORD_CQ]);
  } else {
    std::printf("move %016" PRIx64 ", device %s, %d contexts, %u PDs, %u MRs, %u CQs, %u QPs\n",
                image.move(), image.device().c_str(), image.contexts_size(),
                counts[GODWIT_RECORD_PD], counts[GODWIT_RECORD_MR], counts[GODWIT_RECORD_CQ],
                counts[GODWIT_RECORD_QP]);
  }
  const char* separator = "";
  for (const auto& context : image.contexts())
    for (const auto& object : context.objects()) {
      if (object.type() != GODWIT_RECORD_QP) continue;
      if (options.json)
        std::printf(
            "%s{\"qpn\": %u, \"peer_qpn\": %u, \"own_gid\": \"%s\", \"peer_gid\": \"%s\", "
            "\"extended_peer\": %s}",
            separator, object.number(), object.peer_qpn(), gid_text(object.own_gid()).c_str(),
            gid_text(object.peer_gid()).c_str(), object.extended_peer() ? "true" : "false");
      else
        std::printf("  QP %#08x at %s -> %#08x at %s%s\n", object.number(),
                    gid_text(object.own_gid()).c_str(), object.peer_qpn(),
                    gid_text(object.peer_gid()).c_str(),
                    object.extended_peer() ? "" : " (peer without the extension)");
      separator = ", ";
    }
  if (options.json) std::printf("]}\n");
  return kOk;
}

// Index of a GID in this machine's table; RoCE v2 only. -1: not there.
int find_gid(const std::string& device, const std::string& gid) {
  const std::string port = "/sys/class/infiniband/" + device + "/ports/1/";
  for (int i = 0; i < 1024; i++) {
    std::ifstream value(port + "gids/" + std::to_string(i));
    std::string text, type;
    if (!(value >> text)) return -1;
    if (text != gid_text(gid)) continue;
    std::ifstream kind(port + "gid_attrs/types/" + std::to_string(i));
    std::getline(kind, type);
    if (type == "RoCE v2") return i;
  }
  return -1;
}

// Longest RoCE v2 packet of a path MTU (IB_MTU_*) without its Ethernet header: what the kernel
// takes off a netdev's MTU.
unsigned packet_bytes(std::uint32_t path_mtu) {
  constexpr unsigned kIp6 = 40, kUdp = 8, kBth = 12, kXrcEth = 4, kAtomicEth = 28, kIcrc = 4;
  return (128u << path_mtu) + kIp6 + kUdp + kBth + kXrcEth + kAtomicEth + kIcrc;
}

// Of the NIC itself: a GID's own netdev may be in another network namespace.
unsigned netdev_mtu(const std::string& device) {
  std::string text;
  unsigned mtu = 0;
  DIR* dir = opendir(("/sys/class/infiniband/" + device + "/device/net").c_str());
  while (dirent* entry = dir ? readdir(dir) : nullptr)
    if (entry->d_name[0] != '.') text = entry->d_name;
  if (dir) closedir(dir);
  std::ifstream("/sys/class/net/" + text + "/mtu") >> mtu;
  return mtu;
}

int check(Options& options) {
  image::Image image;
  if (int ret = load_image(options, &image)) return ret;
  Fd context;
  std::uint32_t comp_vectors = 0;
  if (int ret = open_device(options, &context, &comp_vectors)) return ret;
  const unsigned mtu = netdev_mtu(options.device);
  const std::uint32_t version = state_version_of(options.device);
  if (image.state_version() != version)
    return fail("the checkpoint holds device state of version " +
                std::to_string(image.state_version()) + ", this NIC knows " +
                std::to_string(version));
  std::vector<std::uint32_t> qpns;
  for (const auto& saved : image.contexts())
    for (const auto& object : saved.objects()) {
      if (object.type() == GODWIT_RECORD_CQ && object.comp_vector() >= comp_vectors)
        return fail("a CQ uses completion vector " + std::to_string(object.comp_vector()) +
                    ", this NIC has " + std::to_string(comp_vectors));
      if (object.type() != GODWIT_RECORD_QP) continue;
      qpns.push_back(object.number());
      if (!object.has_av()) continue;
      if (object.path_mtu() && packet_bytes(object.path_mtu()) > mtu)
        return fail("QP with path MTU " + std::to_string(128u << object.path_mtu()) +
                    ": the NIC's MTU of " + std::to_string(mtu) + " is too small for it");
      int index = find_gid(options.device, object.own_gid());
      if (index < 0)
        return fail("GID " + gid_text(object.own_gid()) +
                    " is not on this NIC: bring up the container's address first");
      if (index == static_cast<int>(object.own_gid_index())) continue;
      const std::string other =
          "GID " + gid_text(object.own_gid()) + " has index " + std::to_string(index) +
          " here, it had " + std::to_string(object.own_gid_index()) +
          ": an application that keeps the index would make new connections with another GID";
      if (!options.any_gid_index) return fail(other + " (--any-gid-index accepts that)");
      std::fprintf(stderr, "godwit-cr: warning: %s\n", other.c_str());
    }
  if (qpns.empty()) return kOk;
  int ttl_ms = (options.reserve_seconds ? options.reserve_seconds : 1) * 1000;
  for (std::size_t first = 0; first < qpns.size(); first += 1024) {
    std::vector<std::uint32_t> part(
        qpns.begin() + static_cast<std::ptrdiff_t>(first),
        qpns.begin() + static_cast<std::ptrdiff_t>(std::min(first + 1024, qpns.size())));
    int ret = move_reserve(context.get(), image.move(), part, static_cast<std::uint32_t>(ttl_ms));
    if (ret)
      return fail(ret == -EEXIST ? "a QPN of the checkpoint is taken on this NIC"
                                 : std::string("cannot reserve QPNs: ") + std::strerror(-ret));
  }
  return kOk;  // without --reserve it is over in a second: DROP would take tombstones as well
}

int commit_or_drop(Options& options) {
  if (!options.move) return usage("--move ID is missing: see godwit-cr move-id DIR");
  Fd context;
  if (int ret = open_device(options, &context)) return ret;
  int ret = options.command == "commit" ? move_commit(context.get(), options.move)
                                        : move_drop(context.get(), options.move);
  if (ret == -ENOENT) return kOk;  // nothing of it is left
  return ret ? fail(options.command + ": " + std::strerror(-ret)) : kOk;
}

int list(Options& options) {
  Fd context;
  if (int ret = open_device(options, &context)) return ret;
  std::vector<godwit_move_entry> entries;
  int ret = move_list(context.get(), &entries);
  if (ret) return fail(std::string("list: ") + std::strerror(-ret));
  if (options.json) std::printf("[");
  const char* separator = "";
  for (const auto& entry : entries) {
    if (options.json)
      std::printf("%s{\"move\": \"%016" PRIx64
                  "\", \"qpn\": %u, \"peer_qpn\": %u, \"ttl_ms\": %" PRId64 ", \"answered\": %u}",
                  separator, static_cast<std::uint64_t>(entry.move), entry.qpn, entry.peer_qpn,
                  entry.ttl_ms == ~0u ? INT64_C(-1) : static_cast<std::int64_t>(entry.ttl_ms),
                  entry.answered);
    else
      std::printf("move %016" PRIx64 " QP %#08x peer %#08x answered %u, %s\n",
                  static_cast<std::uint64_t>(entry.move), entry.qpn, entry.peer_qpn, entry.answered,
                  entry.ttl_ms == ~0u ? "not committed"
                                      : (std::to_string(entry.ttl_ms) + " ms left").c_str());
    separator = ", ";
  }
  if (options.json) std::printf("]\n");
  return kOk;
}

std::uint64_t pid_namespace(int pid) {
  struct stat st;
  return stat(("/proc/" + std::to_string(pid) + "/ns/pid").c_str(), &st) ? 0 : st.st_ino;
}

// Descriptors that satisfy, of all processes in the pid namespace of `pid`: copies, with their
// paths.
template <typename Wanted, typename Function>
int for_each_descriptor(int pid, Wanted wanted, Function function) {
  const std::uint64_t space = pid_namespace(pid);
  if (!space) return fail("no process " + std::to_string(pid));
  for (int other : numbers_in("/proc")) {
    if (pid_namespace(other) != space || (other != pid && pid_namespace(getpid()) == space))
      continue;
    Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, other, 0)));
    for (int number : numbers_in("/proc/" + std::to_string(other) + "/fd")) {
      struct stat st;
      const std::string path = fd_path(other, number);
      if (stat(path.c_str(), &st) || !wanted(st)) continue;
      Fd fd(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd.get(), number, 0)));
      if (!fd.valid()) continue;
      if (int ret = function(fd.get(), st, path)) return ret;
    }
  }
  return kOk;
}

// The contexts of all processes in the pid namespace of `pid`, each once.
template <typename Function>
int for_each_context(int pid, Function function) {
  std::set<std::uint64_t> seen;
  return for_each_descriptor(
      pid, [](const struct stat& st) { return !godwit_device_of(st).empty(); },
      [&](int fd, const struct stat& st, const std::string& path) {
        std::uint64_t cookie = 0;
        if (context_cookie(fd, &cookie) || !seen.insert(cookie).second) return kOk;
        return function(fd, godwit_device_of(st), path);
      });
}

int sum_status(int pid, godwit_status_out* sum) {
  *sum = {};
  return for_each_context(pid, [sum](int fd, const std::string&, const std::string&) {
    godwit_status_out one = {};
    if (status(fd, &one)) return kOk;  // it has just gone
    sum->qps += one.qps;
    sum->stopped += one.stopped;
    sum->paused += one.paused;
    sum->resuming += one.resuming;
    sum->error += one.error;
    return kOk;
  });
}

int plan(const Options& options) {
  if (options.pid <= 0) return usage("--pid PID is missing");
  if (!options.move) return usage("--move ID is missing");
  image::Image image;
  image.set_version(kImageVersion);
  image.set_move(options.move);
  image.set_driver_abi(GODWIT_UVERBS_ABI);
  image.set_device("");  // without contexts
  image.set_state_version(GODWIT_STATE_VERSION);
  int ret = for_each_context(
      options.pid, [&image](int fd, const std::string& device, const std::string& path) {
        std::vector<godwit_record> records;
        std::vector<std::uint8_t> area;
        godwit_dump_out out;
        if (int error = dump(fd, &records, &area, &out))
          return fail("cannot read the objects of a context: " + std::string(strerror(-error)));
        image.set_device(device);
        image.set_state_version(state_version_of(device));
        auto* context = image.add_contexts();
        context->set_path(path);
        to_context(records, area, context);
        return kOk;
      });
  if (ret) return ret;
  Fd directory(open(options.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) return fail(options.directory + ": " + std::strerror(errno));
  const std::string error = write_image(directory.get(), image);
  return error.empty() ? kOk : fail(options.directory + ": " + error);
}

int resume_rest(const Options& options) {
  if (options.pid <= 0) return usage("--pid PID is missing");
  if (!options.attempt) return usage("--attempt N is missing");
  return for_each_context(options.pid, [&options](int fd, const std::string&,
                                                  const std::string& path) {
    const int ret = resume(fd, options.attempt);
    // EPERM: it runs already.
    return !ret || ret == -EPERM ? kOk : fail(path + ": cannot be resumed: " + std::strerror(-ret));
  });
}

// CRIU takes sockets out of repair mode before it lets the tasks go: not if it is killed.
int mend(const Options& options) {
  if (options.pid <= 0) return usage("--pid PID is missing");
  return for_each_descriptor(
      options.pid, [](const struct stat& st) { return S_ISSOCK(st.st_mode); },
      [](int fd, const struct stat&, const std::string& path) {
        int repair = 0;
        socklen_t length = sizeof(repair);
        if (getsockopt(fd, SOL_TCP, TCP_REPAIR, &repair, &length) || !repair) return kOk;
        repair = 0;
        if (setsockopt(fd, SOL_TCP, TCP_REPAIR, &repair, sizeof(repair)))
          return fail(path + ": TCP repair mode stays: " + std::strerror(errno));
        std::printf("%s: out of TCP repair mode\n", path.c_str());
        return kOk;
      });
}

int show_status(const Options& options) {
  if (options.pid <= 0) return usage("--pid PID is missing");
  godwit_status_out sum;
  timespec pause = {.tv_sec = 0, .tv_nsec = 20'000'000};
  // By the clock: with many processes a look takes longer than the pause.
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(options.wait_seconds);
  for (;;) {
    if (int ret = sum_status(options.pid, &sum)) return ret;
    if (sum.resuming == 0 || std::chrono::steady_clock::now() >= end) break;
    nanosleep(&pause, nullptr);
  }
  std::printf(options.json ? "{\"qps\": %u, \"stopped\": %u, \"paused\": %u, \"resuming\": %u, "
                             "\"error\": %u}\n"
                           : "%u QPs: %u stopped, %u paused, %u resuming, %u in error\n",
              sum.qps, sum.stopped, sum.paused, sum.resuming, sum.error);
  if (options.wait_seconds && sum.resuming) return fail("QPs are still resuming");
  return kOk;
}

int run(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; i++) {
    std::string arg = argv[i];
    auto value = [&]() -> const char* {
      if (i + 1 >= argc) throw Usage(arg + " wants a value");
      return argv[++i];
    };
    auto number = [&](int base, std::uint64_t most) {
      const char* text = value();
      char* end = nullptr;
      errno = 0;
      const std::uint64_t read = std::strtoull(text, &end, base);
      if (errno != 0 || !std::isxdigit(static_cast<unsigned char>(*text)) || *end != '\0' ||
          read > most)
        throw Usage(arg + ": \"" + text + "\" is no such number");
      return read;
    };
    if (arg == "--help" || arg == "-h") {
      std::fputs(kHelp, stdout);
      return kOk;
    }
    if (arg == "--json")
      options.json = true;
    else if (arg == "--any-gid-index")
      options.any_gid_index = true;
    else if (arg == "--move")
      options.move = number(16, UINT64_MAX);
    else if (arg == "--pid")
      options.pid = static_cast<int>(number(10, INT_MAX));
    else if (arg == "--wait")
      options.wait_seconds = static_cast<int>(number(10, INT_MAX));
    else if (arg == "--reserve")
      options.reserve_seconds = static_cast<int>(number(10, INT_MAX));
    else if (arg == "--attempt")
      options.attempt = static_cast<std::uint32_t>(number(10, UINT32_MAX));
    else if (arg == "--device")
      options.device = value();
    else if (arg[0] == '-')
      return usage("unknown option " + arg);
    else if (options.command.empty())
      options.command = arg;
    else if (options.directory.empty())
      options.directory = arg;
    else
      return usage("too many arguments: " + arg);
  }
  const std::string& command = options.command;
  if (command == "move-id" || command == "show" || command == "check" || command == "plan") {
    if (options.directory.empty()) return usage(command + ": DIR is missing");
    if (command == "plan") return plan(options);
    if (command == "show") return show(options);
    if (command == "check") return check(options);
    image::Image image;
    if (int ret = load_image(options, &image)) return ret;
    std::printf("%016" PRIx64 "\n", image.move());
    return kOk;
  }
  if (command == "commit" || command == "drop") return commit_or_drop(options);
  if (command == "list") return list(options);
  if (command == "status") return show_status(options);
  if (command == "resume") return resume_rest(options);
  if (command == "mend") return mend(options);
  return usage(command.empty() ? "a command is missing" : "unknown command " + command);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const Usage& error) {
    return usage(error.what());
  } catch (const std::exception& error) {
    return fail(error.what());
  }
}
