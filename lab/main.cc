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
    if (*it == name && it + 1 != args->end()) {
      std::string value = *(it + 1);
      args->erase(it, it + 2);
      return value;
    }
  }
  return otherwise;
}

void no_more(const Argv& args) {
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

void say(const std::string& text) { std::cerr << text << std::endl; }

int up(Lab& lab, Argv args, bool json) {
  catch_interrupts();
  if (args.empty() && lab.revive(say)) {
    if (json) std::cout << lab.status().dump() << "\n";
    return kOk;
  }
  LabOptions options;
  options.virtio = take_flag(&args, "--virtio");
  options.nic_options = take_value(&args, "--nic", "");
  options.memory_mib = number("--memory", take_value(&args, "--memory", "1536"), 512, 1 << 20);
  if (!args.empty()) {
    options.guests = number("N", args[0], 1, kMaxGuests);
    args.erase(args.begin());
  }
  no_more(args);
  lab.up(options, say);
  if (json) std::cout << lab.status().dump() << "\n";
  return kOk;
}

int status(Lab& lab, Argv args, bool json) {
  no_more(args);
  Json state = lab.status();
  state["containers"] = Json::array();
  for (const Container& c : Containers(lab).list()) {
    state["containers"].push_back({{"name", c.name}, {"guest", c.guest}, {"ip", container_ip(c.number)}});
  }
  if (json) {
    std::cout << state.dump() << "\n";
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

// A job in the background that reads from its terminal is stopped by the kernel.
bool may_read_stdin() {
  const pid_t foreground = tcgetpgrp(0);
  return foreground < 0 || foreground == getpgrp();  // no terminal, or ours
}

int run(Lab& lab, Argv args, bool json) {
  if (args.size() < 2) throw Usage("run GUEST -- CMD…");
  const std::string guest = args[0];
  args.erase(args.begin());
  if (args[0] == "--") args.erase(args.begin());
  if (args.empty()) throw Usage("no command");
  const auto process = lab.start(guest, args, {{"merge_stderr", false}});
  std::string out, err;
  bool stdin_open = true;
  for (;;) {
    const bool reading = stdin_open && may_read_stdin();
    pollfd entries[2] = {{process->fd(), POLLIN, 0}, {reading ? 0 : -1, POLLIN, 0}};
    Frame frame;
    if (process->next(&frame, 0)) {
      if (frame.type == FrameType::kStdout) {
        json ? void(out += frame.payload) : void(std::cout << frame.payload << std::flush);
      } else if (frame.type == FrameType::kStderr) {
        json ? void(err += frame.payload) : void(std::cerr << frame.payload << std::flush);
      }
      if (process->ended()) break;
      continue;
    }
    if (process->ended()) break;
    if (poll(entries, 2, reading == stdin_open ? -1 : 500) < 0) continue;
    if ((entries[1].revents & (POLLIN | POLLHUP | POLLERR | POLLNVAL)) != 0) {
      char buffer[16384];
      const ssize_t n = read(0, buffer, sizeof(buffer));
      process->write(n > 0 ? std::string(buffer, static_cast<std::size_t>(n)) : std::string());
      if (n <= 0) stdin_open = false;
    }
  }
  const int code = process->wait(1).code;
  if (json) std::cout << Json{{"code", code}, {"stdout", out}, {"stderr", err}}.dump() << "\n";
  return code;
}

int shell(Lab& lab, Argv args, bool) {
  if (args.size() != 1) throw Usage("shell GUEST");
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
  if (args.size() != 2) throw Usage("cp GUEST:PATH FILE | cp FILE GUEST:PATH");
  const auto split = [](const std::string& text) -> std::pair<std::string, std::string> {
    const std::size_t colon = text.find(':');
    if (colon == std::string::npos || guest_index(text.substr(0, colon)) == 0) return {"", text};
    return {text.substr(0, colon), text.substr(colon + 1)};
  };
  const auto [from_guest, from] = split(args[0]);
  const auto [to_guest, to] = split(args[1]);
  if (from_guest.empty() == to_guest.empty()) throw Usage("one of the two is GUEST:PATH");
  if (!from_guest.empty()) {
    const std::string bytes = lab.get(from_guest, from);
    std::ofstream out(to, std::ios::binary);
    out << bytes;
    out.close();
    if (!out) throw_errno(to);
  } else {
    std::ifstream in(from, std::ios::binary);
    if (!in) throw_errno(from);
    struct stat st;
    if (stat(from.c_str(), &st) != 0) throw_errno(from);
    const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    lab.put(to_guest, to, bytes, static_cast<int>(st.st_mode & 0777));
  }
  return kOk;
}

int container(Lab& lab, Argv args, bool json) {
  if (args.empty()) throw Usage("container start|list|logs|rm");
  const std::string verb = args[0];
  args.erase(args.begin());
  Containers containers(lab);
  if (verb == "start") {
    if (args.size() < 3) throw Usage("container start GUEST NAME -- CMD…");
    const std::string guest = args[0], name = args[1];
    args.erase(args.begin(), args.begin() + 2);
    catch_interrupts();  // a container is started or it is not
    if (args[0] == "--") args.erase(args.begin());
    const Container c = containers.start(guest, name, args);
    if (json) {
      std::cout << Json{{"name", c.name}, {"guest", c.guest}, {"ip", container_ip(c.number)}}.dump() << "\n";
    } else {
      std::cout << c.name << " on " << c.guest << ", " << container_ip(c.number) << "\n";
    }
    return kOk;
  }
  if (verb == "list") {
    no_more(args);
    Json all = Json::array();
    for (const Container& c : containers.list()) {
      const bool alive = containers.running(c);
      std::optional<int> code;
      if (!alive) code = containers.exit_code(c);
      all.push_back({{"name", c.name}, {"guest", c.guest}, {"ip", container_ip(c.number)},
                     {"running", alive}, {"exit_code", code ? Json(*code) : Json()}, {"argv", c.argv}});
      if (!json) {
        std::string state = alive ? "running" : "ended";
        if (code) state += ", exit code " + std::to_string(*code);
        printf("%-16s %-8s %-12s %s\n", c.name.c_str(), c.guest.c_str(), container_ip(c.number).c_str(),
               state.c_str());
      }
    }
    if (json) std::cout << all.dump() << "\n";
    return kOk;
  }
  if (verb != "logs" && verb != "rm") throw Usage("container start|list|logs|rm");
  if (args.size() != 1) throw Usage("container " + verb + " NAME");
  const Container c = containers.find(args[0]);
  if (verb == "logs") {
    const std::string text = containers.logs(c);
    std::cout << (json ? Json{{"name", c.name}, {"log", text}}.dump() + "\n" : text);
    return kOk;
  }
  catch_interrupts();
  forget_move(lab, c.name);
  containers.remove(c);
  return kOk;
}

int recover_moves(Lab& lab, Argv args, bool json, const MoveOptions& options) {
  if (args.size() > 1) throw Usage("migrate --recover [CONTAINER]");
  if (args.empty()) args = MoveJournal::unfinished(lab.folder());
  Json all = Json::array();
  std::string failed;
  for (const std::string& name : args) {
    try {
      const RecoverReport report = recover(lab, name, say, options);
      all.push_back(to_json(report));
      if (!json) {
        std::cout << name << (report.moved ? " is complete at " : " goes on at ") << report.guest << "\n";
      }
    } catch (const Error& error) {
      failed += (failed.empty() ? "" : "\n") + name + ": " + error.what();
    }
  }
  if (!failed.empty()) throw Error(failed);
  if (json) std::cout << all.dump() << "\n";
  return kOk;
}

int move(Lab& lab, Argv args, bool json) {
  MoveOptions options;
  options.any_gid_index = take_flag(&args, "--any-gid-index");
  options.step_seconds = number("--step-timeout", take_value(&args, "--step-timeout", "180"), 1, 3600);
  for (std::string fault; !(fault = take_value(&args, "--fail-at", "")).empty();) {
    try {
      options.faults.push_back(parse_fault_point(fault));
    } catch (const Error& error) {
      throw Usage(error.what());
    }
  }
  catch_interrupts();
  if (take_flag(&args, "--recover")) return recover_moves(lab, args, json, options);
  if (args.size() != 2) throw Usage("migrate CONTAINER TO");
  const MoveReport report = migrate(lab, args[0], args[1], say, options);
  if (!report.warning.empty()) say("warning: " + report.warning);
  if (json) {
    std::cout << to_json(report).dump() << "\n";
    return kOk;
  }
  for (const auto& [name, ms] : report.steps_ms) printf("%-22s %8.0f ms\n", name.c_str(), ms);
  printf("%-22s %8.0f ms, %u QPs, image %.1f MiB\n", "stopped for", report.stop_ms, report.qps,
         static_cast<double>(report.image_bytes) / 1048576.0);
  return kOk;
}

int rxe(Lab& lab, Argv args, bool json) {
  const bool off = take_flag(&args, "--off");
  if (args.size() != 1) throw Usage("rxe GUEST [--off]");
  if (off) {
    soft_roce_off(lab, args[0]);
    if (json) std::cout << Json{{"guest", args[0]}, {"device", nullptr}}.dump() << "\n";
    return kOk;
  }
  const SoftRoce made = soft_roce_on(lab, args[0]);
  if (json) {
    std::cout << Json{{"guest", args[0]}, {"device", made.device},       {"netdev", made.netdev},
                      {"ip", made.ip},    {"gid_index", made.gid_index}, {"gid", made.gid}}
                     .dump()
              << "\n";
  } else {
    std::cout << made.device << " on " << args[0] << "'s " << made.netdev << ", " << made.ip
              << ", GID index " << made.gid_index << "\n";
  }
  return kOk;
}

int capture(Lab& lab, Argv args, bool) {
  const int seconds = number("--seconds", take_value(&args, "--seconds", "0"), 0, 1 << 20);
  if (args.size() != 2) throw Usage("capture GUEST FILE.pcap [--seconds N]");
  lab.capture_start(args[0], std::filesystem::absolute(args[1]).string());
  catch_interrupts();
  say("capturing to " + args[1] + (seconds > 0 ? "" : "; Ctrl-C ends it"));
  for (double waited = 0; !interrupted() && (seconds == 0 || waited < seconds); waited += 0.1) usleep(100000);
  lab.capture_stop(args[0]);
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
  options.output = std::filesystem::absolute(take_value(&args, "--output", build_folder() + "/demo")).string();
  options.moves = number("--moves", take_value(&args, "--moves", "2"), 1, 1000);
  for (std::string app; !(app = take_value(&args, "--app", "")).empty();) {
    try {
      options.apps.push_back(find_demo_app(app).name);
    } catch (const Error& error) {
      throw Usage(error.what());
    }
  }
  for (std::string role; !(role = take_value(&args, "--role", "")).empty();) {
    if (role != "client" && role != "server") throw Usage("--role client|server");
    options.roles.push_back(role);
  }
  no_more(args);
  return run_demo(options) ? kOk : kFailed;
}

const Command kCommands[] = {
    {"up", "up [N] [--virtio] [--nic=PROPS] [--memory=MIB]",
     "start N guests (2): home, away, peer, guest4, …; --virtio: a plain NIC beside, for Soft-RoCE;\n"
     "      the guests of a lab whose daemon has died go on: then no options, or any other command", up, false},
    {"status", "status", "guests, containers, wire", status},
    {"run", "run GUEST -- CMD…", "run a command in a guest; its exit code is ours", run},
    {"shell", "shell GUEST", "a shell in a guest", shell},
    {"cp", "cp GUEST:PATH FILE | FILE GUEST:PATH", "copy a file", cp},
    {"container", "container start GUEST NAME -- CMD… | list | logs NAME | rm NAME",
     "containers with their own network namespace on the NIC", container},
    {"migrate", "migrate CONTAINER TO [--any-gid-index] [--step-timeout SEC] [--fail-at STEP[@MARK][:HOW]]… | --recover [CONTAINER]",
     "move a container with its connections; a step that takes longer (180 s) has failed;\n"
     "      --any-gid-index: also if its GIDs have other indexes at the destination, for other containers\n"
     "      were there before it: what is connected goes on, but a program that has kept the index would\n"
     "      make new connections with another GID;\n"
     "      --recover: end the moves whose command is gone, at the one guest or at the other;\n"
     "      --fail-at: for tests, what is to go wrong (docs/spec/lab.md)", move},
    {"rxe", "rxe GUEST [--off]",
     "Soft-RoCE on the guest's plain NIC (up --virtio), as a peer: its device, address and GID index", rxe},
    {"capture", "capture GUEST FILE.pcap [--seconds N]", "what is on the wire of a guest's NIC", capture},
    {"demo", "demo [--output DIR] [--app verify|write-bw|send-bw|pingpong]… [--role client|server] [--moves N]",
     "three guests of its own; each program moves home → away → home under load, as client and as\n"
     "      server; report.json, captures and logs in DIR (build/demo); 0 if everything was verified", demo, false},
    {"down", "down", "stop everything; logs stay", down, false},
};

void print_help(FILE* out) {
  fprintf(out, "Usage: godwit [--json] COMMAND …\n\nVMs with Godwit NICs on an emulated switch.\n\n");
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
  if (args.empty()) {
    print_help(stderr);
    return kUsage;
  }
  if (args[0] == "--help" || args[0] == "help") {
    print_help(stdout);
    return kOk;
  }
  for (const Command& command : kCommands) {
    if (args[0] != command.name) continue;
    Argv rest(args.begin() + 1, args.end());
    if (take_flag(&rest, "--help")) {
      printf("Usage: godwit [--json] %s\n%s\n", command.usage, command.help);
      return kOk;
    }
    Lab lab(lab_folder());
    try {
      if (command.in_lab) lab.revive(say);
      return command.run(lab, rest, json);
    } catch (const Usage& error) {
      std::cerr << "godwit " << command.name << ": " << error.what() << "\nUsage: godwit "
                << command.usage << "\n";
      return kUsage;
    } catch (const std::exception& error) {
      if (json) std::cout << Json{{"error", error.what()}}.dump() << "\n";
      std::cerr << "godwit " << command.name << ": " << error.what() << "\n";
      return kFailed;
    }
  }
  std::cerr << "godwit: unknown command " << args[0] << "; see godwit --help\n";
  return kUsage;
}
