// SPDX-License-Identifier: GPL-2.0-or-later
//
// The godwit command.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>
#include <sstream>
#include <tuple>

#include "client.h"
#include "container.h"
#include "daemon.h"
#include "demo.h"
#include "demo_apps.h"
#include "error.h"
#include "interrupt.h"
#include "migrate.h"
#include "move_journal.h"
#include "plan.h"
#include "soft_roce.h"

namespace {

using namespace godwit::lab;
using Json = nlohmann::json;

constexpr int kOk = 0, kFailed = 1, kUsage = 2;

struct Command {
  const char* name;
  const char* usage;
  const char* help;
  int (*run)(Lab& lab, Argv args, bool json);
  bool in_lab = true;  // needs its daemon
};

class Usage : public Error {
 public:
  using Error::Error;
};

// Takes `--name` or `--name=value` out of the arguments before any `--`.
bool take_flag(Argv* args, const std::string& name) {
  for (auto it = args->begin(); it != args->end() && *it != "--"; ++it) {
    if (*it != name) continue;
    args->erase(it);
    return true;
  }
  return false;
}

std::string take_value(Argv* args, const std::string& name, const std::string& otherwise) {
  for (auto it = args->begin(); it != args->end() && *it != "--"; ++it) {
    if (it->rfind(name + "=", 0) == 0) {
      std::string value = it->substr(name.size() + 1);
      args->erase(it);
      return value;
    }
    if (*it == name) {
      if (it + 1 == args->end() || *(it + 1) == "--") throw Usage(name + " wants a value");
      std::string value = *(it + 1);
      args->erase(it, it + 2);
      return value;
    }
  }
  return otherwise;
}

// Each `--name value` of an option that may be repeated.
std::vector<std::string> take_values(Argv* args, const std::string& name) {
  std::vector<std::string> values;
  const auto is = [&name](const std::string& arg) {
    return arg == name || arg.rfind(name + "=", 0) == 0;
  };
  const auto end = [args] { return std::find(args->begin(), args->end(), "--"); };
  while (std::find_if(args->begin(), end(), is) != end())
    values.push_back(take_value(args, name, ""));
  return values;
}

// After the options were taken: what still looks like one is none. `./-x` is a file.
void no_options(const Argv& args) {
  for (const std::string& arg : args) {
    if (arg == "--") return;
    if (arg.size() > 1 && arg[0] == '-') throw Usage("unknown option " + arg);
  }
}

void no_more(const Argv& args) {
  no_options(args);
  if (!args.empty()) throw Usage("unexpected: " + args.front());
}

int number(const std::string& what, const std::string& text, int least, int most) {
  char* end = nullptr;
  const long value = std::strtol(text.c_str(), &end, 10);
  if (text.empty() || *end != 0 || value < least || value > most) {
    throw Usage(what + ": \"" + text + "\" is not a number from " + std::to_string(least) + " to " +
                std::to_string(most));
  }
  return static_cast<int>(value);
}

// What a program writes need not be UTF-8; JSON is.
void print(const Json& json) {
  std::cout << json.dump(-1, ' ', false, Json::error_handler_t::replace) << "\n";
}

// Nobody reads what is written, or there is no room for it.
class NoOutput : public Error {
 public:
  using Error::Error;
};

void check_output() {
  errno = 0;
  if (std::cout.flush() && fflush(stdout) == 0 && ferror(stdout) == 0) return;
  const int error = errno;
  pollfd entry{1, POLLOUT, 0};
  if (poll(&entry, 1, 0) == 1 && (entry.revents & POLLERR) != 0)
    throw NoOutput("");  // `| head`: not worth a word
  throw Error("stdout: " + std::string(error != 0 ? strerror(error) : "cannot be written"));
}

void say(const std::string& text) { std::cerr << text << std::endl; }

int up(Lab& lab, Argv args, bool json) {
  catch_interrupts();
  if (args.empty() && lab.revive(say)) {
    if (json) print(lab.status());
    return kOk;
  }
  LabOptions options;
  options.virtio = take_flag(&args, "--virtio");
  options.nic_options = take_value(&args, "--nic", "");
  options.memory_mib = number("--memory", take_value(&args, "--memory", "1536"), 512, 1 << 20);
  no_options(args);
  if (!args.empty()) {
    options.guests = number("N", args[0], 1, kMaxGuests);
    args.erase(args.begin());
  }
  no_more(args);
  lab.up(options, say);
  if (json) print(lab.status());
  return kOk;
}

int status(Lab& lab, Argv args, bool json) {
  no_more(args);
  Json state = lab.status();
  state["containers"] = Json::array();
  for (const Container& c : Containers(lab).list()) {
    state["containers"].push_back(
        {{"name", c.name}, {"guest", c.guest}, {"ip", container_ip(c.number)}});
  }
  if (json) {
    print(state);
    return kOk;
  }
  std::cout << "lab " << lab.folder() << "\n";
  for (const Json& guest : state["guests"]) {
    printf("%-8s %-8s %-12s %s\n", guest["name"].get<std::string>().c_str(),
           guest["state"].get<std::string>().c_str(), guest["ip"].get<std::string>().c_str(),
           guest["mac"].get<std::string>().c_str());
  }
  for (const Json& c : state["containers"]) {
    printf("container %-12s on %-8s %s\n", c["name"].get<std::string>().c_str(),
           c["guest"].get<std::string>().c_str(), c["ip"].get<std::string>().c_str());
  }
  for (const Json& port : state["ports"]) {
    printf("wire %-12s %llu frames in, %llu out, %llu dropped\n",
           port["name"].get<std::string>().c_str(), port["received"].get<unsigned long long>(),
           port["sent"].get<unsigned long long>(), port["dropped"].get<unsigned long long>());
  }
  return kOk;
}

constexpr int kPatience = 20;  // seconds without a sign of life of a guest

// A job in the background that reads from its terminal is stopped by the kernel.
bool may_read_stdin() {
  const pid_t foreground = tcgetpgrp(0);
  return foreground < 0 || foreground == getpgrp();  // no terminal, or ours
}

int run(Lab& lab, Argv args, bool json) {
  if (!args.empty()) no_options({args[0]});
  if (args.size() < 2) throw Usage(args.empty() ? "no guest" : "no command");
  const std::string guest = args[0];
  args.erase(args.begin());
  if (args[0] == "--") args.erase(args.begin());
  if (args.empty()) throw Usage("no command");
  const auto process = lab.start(guest, args, {{"merge_stderr", false}});
  std::string out, err;
  bool stdin_open = true;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(kPatience);
  bool told = false;
  for (;;) {
    const bool reading = stdin_open && may_read_stdin();
    pollfd entries[2] = {{process->fd(), POLLIN, 0}, {reading ? 0 : -1, POLLIN, 0}};
    Frame frame;
    if (process->next(&frame, 0)) {
      if (frame.type == FrameType::kStdout) {
        json ? void(out += frame.payload) : void(std::cout << frame.payload);
        check_output();
      } else if (frame.type == FrameType::kStderr) {
        json ? void(err += frame.payload) : void(std::cerr << frame.payload << std::flush);
      }
      if (process->ended()) break;
      continue;
    }
    if (process->ended()) break;
    if (!process->answered() && !told && std::chrono::steady_clock::now() > deadline) {
      say(guest + " does not answer: its VM is stopped, or hangs; still waiting, Ctrl-C ends that");
      told = true;
    }
    const bool forever = reading == stdin_open && (process->answered() || told);
    if (poll(entries, 2, forever ? -1 : 500) < 0) continue;
    if ((entries[1].revents & (POLLIN | POLLHUP | POLLERR | POLLNVAL)) != 0) {
      char buffer[16384];
      const ssize_t n = read(0, buffer, sizeof(buffer));
      process->write(n > 0 ? std::string(buffer, static_cast<std::size_t>(n)) : std::string());
      if (n <= 0) stdin_open = false;
    }
  }
  const int code = process->wait(1).code;
  if (json) print({{"code", code}, {"stdout", out}, {"stderr", err}});
  return code;
}

int shell(Lab& lab, Argv args, bool) {
  no_options(args);
  if (args.size() != 1) throw Usage(args.empty() ? "no guest" : "unexpected: " + args[1]);
  const auto process = lab.start(args[0], {"bash", "-l"}, {{"tty", true}});
  winsize size{};
  if (ioctl(0, TIOCGWINSZ, &size) == 0) process->resize(size.ws_row, size.ws_col);
  termios before{};
  const bool terminal = tcgetattr(0, &before) == 0;
  if (terminal) {
    termios raw = before;
    cfmakeraw(&raw);
    tcsetattr(0, TCSANOW, &raw);
  }
  bool stdin_open = true;
  while (!process->ended()) {
    Frame frame;
    if (process->next(&frame, 0)) {
      if (frame.type == FrameType::kStdout) std::cout << frame.payload << std::flush;
      continue;
    }
    pollfd entries[2] = {{process->fd(), POLLIN, 0}, {stdin_open ? 0 : -1, POLLIN, 0}};
    if (poll(entries, 2, -1) < 0) continue;
    if (entries[1].revents != 0) {
      char buffer[4096];
      const ssize_t n = read(0, buffer, sizeof(buffer));
      process->write(n > 0 ? std::string(buffer, static_cast<std::size_t>(n)) : std::string());
      if (n <= 0) stdin_open = false;
    }
  }
  if (terminal) tcsetattr(0, TCSANOW, &before);
  return process->wait(1).code;
}

int cp(Lab& lab, Argv args, bool) {
  no_options(args);
  if (args.size() != 2) throw Usage("wants two, from and to");
  const auto split = [](const std::string& text) -> std::pair<std::string, std::string> {
    const std::size_t colon = text.find(':');
    if (colon == std::string::npos || guest_index(text.substr(0, colon)) == 0) return {"", text};
    return {text.substr(0, colon), text.substr(colon + 1)};
  };
  const auto [from_guest, from] = split(args[0]);
  const auto [to_guest, to] = split(args[1]);
  if (from_guest.empty() == to_guest.empty()) {
    throw Usage("one of the two is GUEST:PATH, with a guest of 'godwit status'; \"" + args[0] +
                "\" and \"" + args[1] + "\" are " + (from_guest.empty() ? "none" : "both"));
  }
  if (!from_guest.empty()) {
    const std::string bytes = lab.get(from_guest, from);
    struct stat before;
    const bool there = stat(to.c_str(), &before) == 0;
    std::ofstream out(to, std::ios::binary);
    if (!out) throw_errno("\"" + to + "\"");
    out << bytes;
    out.close();
    if (!out) {
      const int error = errno;
      if (!there) unlink(to.c_str());  // half a file is none
      errno = error;
      throw_errno(to);
    }
  } else {
    std::ifstream in(from, std::ios::binary);
    if (!in) throw_errno("\"" + from + "\"");
    struct stat st;
    if (stat(from.c_str(), &st) != 0) throw_errno(from);
    if (S_ISDIR(st.st_mode)) throw Error(from + " is a folder: 'tar' it first");
    const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    lab.put(to_guest, to, bytes, static_cast<int>(st.st_mode & 0777));
  }
  return kOk;
}

int container(Lab& lab, Argv args, bool json) {
  if (args.empty()) throw Usage("start, list, logs or rm?");
  const std::string verb = args[0];
  args.erase(args.begin());
  Containers containers(lab);
  if (verb == "start") {
    no_options({args.begin(), args.begin() + std::min<std::ptrdiff_t>(2, std::ssize(args))});
    if (args.size() < 2) throw Usage("wants a guest and a name");
    if (args.size() < 3 || (args[2] == "--" && args.size() < 4)) throw Usage("no command");
    const std::string guest = args[0], name = args[1];
    args.erase(args.begin(), args.begin() + 2);
    catch_interrupts();  // a container is started or it is not
    if (args[0] == "--") args.erase(args.begin());
    const Container c = containers.start(guest, name, args);
    if (json) {
      print({{"name", c.name}, {"guest", c.guest}, {"ip", container_ip(c.number)}});
    } else {
      std::cout << c.name << " on " << c.guest << ", " << container_ip(c.number) << "\n";
    }
    return kOk;
  }
  if (verb == "list") {
    no_more(args);
    Json all = Json::array();
    const Json guests = lab.status()["guests"];
    for (const Container& c : containers.list()) {
      const bool up = std::any_of(guests.begin(), guests.end(), [&c](const Json& guest) {
        return guest["name"] == c.guest && guest["state"] == "ready";
      });
      const bool alive = up && containers.running(c);
      std::optional<int> code;
      if (up && !alive) code = containers.exit_code(c);
      all.push_back({{"name", c.name},
                     {"guest", c.guest},
                     {"ip", container_ip(c.number)},
                     {"running", alive},
                     {"exit_code", code ? Json(*code) : Json()},
                     {"argv", c.argv}});
      if (!json) {
        std::string state = alive ? "running" : up ? "ended" : c.guest + " is not up";
        if (code) state += ", exit code " + std::to_string(*code);
        printf("%-16s %-8s %-12s %s\n", c.name.c_str(), c.guest.c_str(),
               container_ip(c.number).c_str(), state.c_str());
      }
    }
    if (json) print(all);
    return kOk;
  }
  if (verb != "logs" && verb != "rm") throw Usage("start, list, logs or rm, not " + verb);
  no_options(args);
  if (args.size() != 1) throw Usage(args.empty() ? "no name" : "unexpected: " + args[1]);
  const Container c = containers.find(args[0]);
  if (verb == "logs") {
    const std::string text = containers.logs(c);
    json ? print({{"name", c.name}, {"log", text}}) : void(std::cout << text);
    return kOk;
  }
  catch_interrupts();
  forget_move(lab, c.name);
  containers.remove(c);
  return kOk;
}

int recover_moves(Lab& lab, Argv args, bool json, const MoveOptions& options) {
  no_options(args);
  if (args.size() > 1) throw Usage("unexpected: " + args[1]);
  if (args.empty()) args = MoveJournal::unfinished(lab.folder());
  Json all = Json::array();
  std::string failed;
  for (const std::string& name : args) {
    try {
      const RecoverReport report = recover(lab, name, say, options);
      all.push_back(to_json(report));
      if (!json) {
        std::cout << name << (report.moved ? " is complete at " : " goes on at ") << report.guest
                  << "\n";
      }
    } catch (const Error& error) {
      failed += (failed.empty() ? "" : "\n") + name + ": " + error.what();
    }
  }
  if (!failed.empty()) throw Error(failed);
  if (json) print(all);
  return kOk;
}

int move(Lab& lab, Argv args, bool json) {
  MoveOptions options;
  options.any_gid_index = take_flag(&args, "--any-gid-index");
  options.step_seconds =
      number("--step-timeout", take_value(&args, "--step-timeout", "180"), 1, 3600);
  for (const std::string& fault : take_values(&args, "--fail-at")) {
    try {
      options.faults.push_back(parse_fault_point(fault));
    } catch (const Error& error) {
      throw Usage(error.what());
    }
  }
  catch_interrupts();
  if (take_flag(&args, "--recover")) return recover_moves(lab, args, json, options);
  no_options(args);
  if (args.size() != 2) throw Usage("wants a container, and the guest that it shall go to");
  const MoveReport report = migrate(lab, args[0], args[1], say, options);
  if (!report.warning.empty()) say("warning: " + report.warning);
  if (json) {
    print(to_json(report));
    return kOk;
  }
  for (const auto& [name, ms] : report.steps_ms) printf("%-22s %8.0f ms\n", name.c_str(), ms);
  printf("%-22s %8.0f ms, %u QPs, image %.1f MiB\n", "stopped for", report.stop_ms, report.qps,
         static_cast<double>(report.image_bytes) / 1048576.0);
  return kOk;
}

int rxe(Lab& lab, Argv args, bool json) {
  const bool off = take_flag(&args, "--off");
  no_options(args);
  if (args.size() != 1) throw Usage(args.empty() ? "no guest" : "unexpected: " + args[1]);
  if (off) {
    soft_roce_off(lab, args[0]);
    if (json) print({{"guest", args[0]}, {"device", nullptr}});
    return kOk;
  }
  const SoftRoce made = soft_roce_on(lab, args[0]);
  if (json) {
    print({{"guest", args[0]},
           {"device", made.device},
           {"netdev", made.netdev},
           {"ip", made.ip},
           {"gid_index", made.gid_index},
           {"gid", made.gid}});
  } else {
    std::cout << made.device << " on " << args[0] << "'s " << made.netdev << ", " << made.ip
              << ", GID index " << made.gid_index << "\n";
  }
  return kOk;
}

int capture(Lab& lab, Argv args, bool) {
  const int seconds = number("--seconds", take_value(&args, "--seconds", "0"), 0, 1 << 20);
  no_options(args);
  if (args.size() != 2) throw Usage("wants a guest and a file");
  // QEMU tells only its log that it could not write; the capture is then cut, and looks well.
  std::string log;
  const Json guests = lab.status()["guests"];
  for (const Json& guest : guests) {
    if (guest["name"] == args[0]) log = guest["log"];
  }
  std::error_code ignored;
  const auto before = log.empty() ? 0 : std::filesystem::file_size(log, ignored);
  lab.capture_start(args[0], std::filesystem::absolute(args[1]).string());
  catch_interrupts();
  say("capturing to " + args[1] + (seconds > 0 ? "" : "; Ctrl-C ends it"));
  for (double waited = 0; !interrupted() && (seconds == 0 || waited < seconds); waited += 0.1)
    usleep(100000);
  lab.capture_stop(args[0]);
  std::ifstream said(log);
  said.seekg(static_cast<std::streamoff>(before));
  for (std::string line; std::getline(said, line);) {
    if (line.find("network dump write error") == std::string::npos) continue;
    throw Error(args[1] + " is cut, QEMU could not write on: is there space left?");
  }
  return kOk;
}

int down(Lab& lab, Argv args, bool) {
  no_more(args);
  lab.down();
  return kOk;
}

int demo(Lab& lab, Argv args, bool json) {
  DemoOptions options;
  options.json = json;
  // Not the lab that somebody may be using.
  const char* folder = getenv("GODWIT_LAB");
  options.folder = folder != nullptr && *folder != 0
                       ? lab.folder()
                       : std::filesystem::path(lab.folder()).replace_filename("demo").string();
  options.output =
      std::filesystem::absolute(take_value(&args, "--output", build_folder() + "/demo")).string();
  options.moves = number("--moves", take_value(&args, "--moves", "2"), 1, 1000);
  for (const std::string& app : take_values(&args, "--app")) {
    try {
      options.apps.push_back(find_demo_app(app).name);
    } catch (const Error& error) {
      throw Usage(error.what());
    }
  }
  for (const std::string& role : take_values(&args, "--role")) {
    if (role != "client" && role != "server")
      throw Usage("--role: \"" + role + "\" is neither client nor server");
    options.roles.push_back(role);
  }
  no_more(args);
  return run_demo(options) ? kOk : kFailed;
}

const Command kCommands[] = {
    {"up", "up [N] [--virtio] [--nic=PROPS] [--memory=MIB]",
     "start N guests (2): home, away, peer, guest4, …; --virtio: a plain NIC beside, for "
     "Soft-RoCE;\n"
     "      the guests of a lab whose daemon has died go on: then no options, or any other command",
     up, false},
    {"status", "status", "guests, containers, wire", status},
    {"run", "run GUEST -- CMD…", "run a command in a guest; its exit code is ours", run},
    {"shell", "shell GUEST", "a shell in a guest", shell},
    {"cp", "cp GUEST:PATH FILE | FILE GUEST:PATH", "copy a file", cp},
    {"container", "container start GUEST NAME -- CMD… | list | logs NAME | rm NAME",
     "containers with their own network namespace on the NIC", container},
    {"migrate",
     "migrate CONTAINER TO [--any-gid-index] [--step-timeout SEC] [--fail-at STEP[@MARK][:HOW]]… | "
     "--recover [CONTAINER]",
     "move a container with its connections; a step that takes longer (180 s) has failed;\n"
     "      --any-gid-index: also if its GIDs have other indexes at the destination, for other "
     "containers\n"
     "      were there before it: what is connected goes on, but a program that has kept the index "
     "would\n"
     "      make new connections with another GID;\n"
     "      --recover: end the moves whose command is gone, at the one guest or at the other;\n"
     "      --fail-at: for tests, what is to go wrong (docs/spec/lab.md)",
     move},
    {"rxe", "rxe GUEST [--off]",
     "Soft-RoCE on the guest's plain NIC (up --virtio), as a peer: its device, address and GID "
     "index",
     rxe},
    {"capture", "capture GUEST FILE.pcap [--seconds N]", "what is on the wire of a guest's NIC",
     capture},
    {"demo",
     "demo [--output DIR] [--app verify|write-bw|send-bw|pingpong]… [--role client|server] "
     "[--moves N]",
     "three guests of its own; each program moves home → away → home under load, as client and as\n"
     "      server; report.json, captures and logs in DIR (build/demo); 0 if everything was "
     "verified",
     demo, false},
    {"down", "down", "stop everything; logs stay", down, false},
};

void print_help(FILE* out) {
  fprintf(out,
          "Usage: godwit [--json] COMMAND …\n\nVMs with Godwit NICs on an emulated switch.\n\n");
  for (const Command& c : kCommands) fprintf(out, "  %s\n      %s\n", c.usage, c.help);
  fprintf(out,
          "\n  --json   results as JSON on stdout\n  --help\n\n"
          "The lab lives in $GODWIT_LAB (%s).\n"
          "Exit codes: 0 done; 1 failed, one message on stderr says why; 2 wrong usage;\n"
          "run and shell: the command's own.\n",
          lab_folder().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  // A socket must not become stdin or stdout because those were closed.
  for (int fd = 0; fd < 3; ++fd) {
    if (fcntl(fd, F_GETFD) < 0) std::ignore = open("/dev/null", O_RDWR);
  }
  Argv args(argv + 1, argv + argc);
  if (args.size() == 3 && args[0] == "_daemon") {
    try {
      return run_daemon(args[1], args[2] == "adopt");
    } catch (const std::exception& error) {
      std::cerr << "godwit: " << error.what() << "\n";
      return kFailed;
    }
  }
  const bool json = take_flag(&args, "--json");
  const std::string name = args.empty() ? "" : args[0];
  const auto complain = [&](const std::string& what, int code) {
    if (json && code == kFailed) print({{"error", what}});
    std::cout.flush();
    std::cerr << "godwit" << (name.empty() ? "" : " ") << name << ": " << what << "\n";
    return code;
  };
  if (name.empty()) return complain("no command; see godwit --help", kUsage);
  const Command* command = std::find_if(std::begin(kCommands), std::end(kCommands),
                                        [&name](const Command& c) { return name == c.name; });
  try {
    int code = kOk;
    if (name == "--help" || name == "help") {
      print_help(stdout);
    } else if (command == std::end(kCommands)) {
      std::cerr << "godwit: unknown command " << name << "; see godwit --help\n";
      return kUsage;
    } else if (Argv rest(args.begin() + 1, args.end()); take_flag(&rest, "--help")) {
      printf("Usage: godwit [--json] %s\n%s\n", command->usage, command->help);
    } else {
      Lab lab(lab_folder());
      if (command->in_lab) lab.revive(say);
      code = command->run(lab, rest, json);
    }
    check_output();
    return code;
  } catch (const Usage& error) {
    return complain(error.what() + std::string("; usage: godwit ") + (command->usage), kUsage);
  } catch (const NoOutput&) {
    signal(SIGPIPE, SIG_DFL);
    raise(SIGPIPE);
    return kFailed;
  } catch (const std::exception& error) {
    return complain(error.what(), kFailed);
  }
}
