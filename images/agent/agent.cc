// SPDX-License-Identifier: GPL-2.0-or-later
//
// godwit-agent: runs commands in the guest for the lab, over a virtio-serial port.
// Protocol: docs/spec/lab.md. One thread, one epoll loop; nothing in it waits for a command, the
// host or a file. Each stream ends with exactly one EXIT.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "error.h"
#include "frame.h"

namespace godwit::lab {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxFrame = kMaxFramePayload + kFrameOverhead;
constexpr std::uint32_t kMaxSendWindow = 1U << 30;
// With so much waiting for the host, no more is read from commands and files, or from the host.
constexpr std::size_t kOutputBacklog = 4 * kMaxFramePayload;
constexpr std::size_t kAnswerBacklog = 16 * kMaxFramePayload;
// What a terminal holds when its last process ends is far less than this.
constexpr std::size_t kTerminalBytes = 65536;
constexpr int kReconnectMs = 50;
constexpr const char* kPortName = "org.godwit.agent";
constexpr const char* kPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// What the host asked for cannot be done; the text goes into the stream's EXIT.
class RequestError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

[[noreturn]] void fail_errno(const std::string& what, int error) {
  throw RequestError(what + ": " + strerror(error));
}

std::string text_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json parse_object(std::string_view payload) {
  Json request = Json::parse(payload, nullptr, false);
  if (!request.is_object()) throw RequestError("the payload is not a JSON object");
  return request;
}

int integer(const Json& request, const char* key, int least, int most) {
  const Json& value = request.at(key);
  if (!value.is_number_integer() || value < least || value > most) {
    throw RequestError(std::string(key) + " is not an integer from " + std::to_string(least) +
                       " to " + std::to_string(most));
  }
  return value.get<int>();
}

// The kernel ends strings at the first zero byte: what lies behind it must not go unnoticed.
std::string c_string(const Json& value, const char* what) {
  std::string text = value.get<std::string>();
  if (text.empty()) throw RequestError(std::string(what) + " is empty");
  if (text.find('\0') != std::string::npos)
    throw RequestError(std::string(what) + " has a zero byte");
  return text;
}

void close_fd(int* fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

// The descriptors of a command that is being started; what is not taken away is closed.
struct Descriptors {
  int in[2] = {-1, -1};
  int out[2] = {-1, -1};
  int err[2] = {-1, -1};
  int failed[2] = {-1, -1};
  int master = -1;
  int slave = -1;

  Descriptors() = default;
  Descriptors(const Descriptors&) = delete;
  Descriptors& operator=(const Descriptors&) = delete;
  ~Descriptors() {
    for (int* fd : {&in[0], &in[1], &out[0], &out[1], &err[0], &err[1], &failed[0], &failed[1],
                    &master, &slave}) {
      close_fd(fd);
    }
  }
};

struct Command {
  std::vector<std::string> argv;
  std::vector<std::pair<std::string, std::string>> env;
  std::string cwd = "/root";
  bool tty = false;
  bool merge_stderr = false;
};

Command parse_command(const Json& request) {
  Command command;
  const Json& argv = request.at("argv");
  if (!argv.is_array() || argv.empty()) throw RequestError("argv is not an array of strings");
  for (const Json& arg : argv) {
    if (arg != "" || command.argv.empty()) {
      command.argv.push_back(c_string(arg, "an argument"));
    } else {
      command.argv.emplace_back();
    }
  }
  if (request.contains("env")) {
    for (const auto& [name, value] : request.at("env").get<std::map<std::string, Json>>()) {
      if (c_string(Json(name), "a name in env").find('=') != std::string::npos) {
        throw RequestError("env: " + name + " has a =");
      }
      command.env.emplace_back(name, value == "" ? "" : c_string(value, "a value in env"));
    }
  }
  if (request.contains("cwd")) command.cwd = c_string(request.at("cwd"), "cwd");
  command.tty = request.value("tty", false);
  command.merge_stderr = request.value("merge_stderr", false) || command.tty;
  return command;
}

// Why a child could not become the command; written to its parent.
struct StartFailure {
  int error;
  bool in_cwd;
};

[[noreturn]] void give_up(int fd, bool in_cwd) {
  const StartFailure failure{errno, in_cwd};
  if (write(fd, &failure, sizeof(failure)) < 0) _exit(126);
  _exit(127);
}

[[noreturn]] void become(const Command& command, Descriptors& fds) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  setsid();
  if (command.tty) {
    ioctl(fds.slave, TIOCSCTTY, 0);
    for (int fd = 0; fd < 3; ++fd) dup2(fds.slave, fd);
    close(fds.slave);
    close(fds.master);  // or the terminal would not hang up with the agent's end of it
  } else {
    dup2(fds.in[0], 0);
    dup2(fds.out[1], 1);
    dup2(command.merge_stderr ? fds.out[1] : fds.err[1], 2);
  }
  setenv("PATH", kPath, 1);
  setenv("HOME", "/root", 1);
  if (command.tty) setenv("TERM", "xterm", 1);
  for (const auto& [name, value] : command.env) setenv(name.c_str(), value.c_str(), 1);
  if (chdir(command.cwd.c_str()) != 0) give_up(fds.failed[1], true);
  std::vector<char*> args;
  for (const std::string& arg : command.argv) args.push_back(const_cast<char*>(arg.c_str()));
  args.push_back(nullptr);
  execvp(args[0], args.data());
  give_up(fds.failed[1], false);
}

// One command, or one file being written or read.
struct Stream {
  enum class Kind { kCommand, kTerminal, kPut, kGet };

  Kind kind = Kind::kCommand;
  pid_t pid = -1;
  int in = -1;   // to the command's stdin, or to the file
  int out = -1;  // from its stdout, or from the file; a terminal's `in` and `out` are one
  int err = -1;
  std::string in_queue;  // at most a window of it
  bool in_eof = false;
  bool in_eof_queued = false;  // a terminal's end-of-file character: not the host's byte
  std::uint32_t send_window = kFrameWindow;
  bool exited = false;
  int status = 0;
  // What it left in its pipes, read at once when it ends: its daemons may keep them open for ever.
  std::string out_rest;
  std::string err_rest;
  bool abandoned = false;  // its host end may have gone: no window is waited for
};

class Agent {
 public:
  int run() {
    keep_standard_descriptors();
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    signal(SIGPIPE, SIG_IGN);
    children_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (epoll_ < 0 || children_ < 0) return 1;
    watch(0, children_, EPOLLIN);
    open_port();
    lose_track();
    for (;;) {
      read_files();
      write_port();
      epoll_event events[64];
      const int timeout_ms = file_is_readable() ? 0 : hung_up_ ? kReconnectMs : -1;
      const int n = epoll_wait(epoll_, events, 64, timeout_ms);
      if (n < 0 && errno != EINTR) return 1;
      hung_up_ = false;
      for (int i = 0; i < n; ++i) {
        const int fd = static_cast<int>(events[i].data.u64 & 0xffffffff);
        const auto id = static_cast<std::uint32_t>(events[i].data.u64 >> 32);
        if (fd == port_) {
          on_port(events[i].events);
        } else if (fd == children_) {
          reap();
        } else {
          on_stream(id, fd, events[i].events);
        }
      }
    }
  }

 private:
  using Streams = std::map<std::uint32_t, Stream>;

  // Commands' pipes must not get the numbers 0 to 2.
  static void keep_standard_descriptors() {
    int fd;
    do {
      fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd < 2);
    if (fd > 2) close(fd);
  }

  // ---- epoll: an event carries its stream, because numbers of descriptors come again at once

  void watch(std::uint32_t id, int fd, std::uint32_t events) {
    if (fd < 0) return;
    epoll_event event{};
    event.events = events;
    event.data.u64 = static_cast<std::uint64_t>(id) << 32 | static_cast<std::uint32_t>(fd);
    if (events == 0) {
      epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);  // even without events, HUP would spin
    } else if (epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event) != 0) {
      epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
    }
  }

  void watch_stream(std::uint32_t id, const Stream& s) {
    if (s.kind == Stream::Kind::kPut || s.kind == Stream::Kind::kGet) return;
    const std::uint32_t for_in = s.in_queue.empty() ? 0 : std::uint32_t{EPOLLOUT};
    const std::uint32_t for_out = may_send(s) ? std::uint32_t{EPOLLIN} : 0;
    if (s.kind == Stream::Kind::kTerminal) {
      watch(id, s.in, for_in | for_out);
      return;
    }
    watch(id, s.in, for_in);
    watch(id, s.out, for_out);
    watch(id, s.err, for_out);
  }

  bool may_send(const Stream& s) const { return room_ && s.send_window > 0; }

  // ---- the port

  // No udev in the guest: the port is found by its name in sysfs.
  void open_port() {
    while (port_ < 0) {
      if (DIR* ports = opendir("/sys/class/virtio-ports")) {
        while (const dirent* entry = readdir(ports)) {
          const std::string device = entry->d_name;
          char name[64] = {};
          if (FILE* file = fopen(("/sys/class/virtio-ports/" + device + "/name").c_str(), "re")) {
            if (fgets(name, sizeof(name), file) == nullptr) name[0] = 0;
            fclose(file);
          }
          name[strcspn(name, "\n")] = 0;
          if (port_ < 0 && strcmp(name, kPortName) == 0) {
            port_ = open(("/dev/" + device).c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
          }
        }
        closedir(ports);
      }
      if (port_ < 0) usleep(50000);
    }
  }

  void send_hello() {
    utsname name{};
    uname(&name);
    double uptime_seconds = 0;
    if (FILE* file = fopen("/proc/uptime", "re")) {
      if (fscanf(file, "%lf", &uptime_seconds) != 1) uptime_seconds = 0;
      fclose(file);
    }
    send(0, FrameType::kHello,
         text_of({{"agent", 1}, {"kernel", name.release}, {"uptime", uptime_seconds}}));
  }

  void send(std::uint32_t id, FrameType type, std::string_view payload) {
    append_frame(id, type, payload, &to_host_);
  }

  void send_error(std::uint32_t id, const std::string& text) {
    send(id, FrameType::kExit, text_of({{"error", text}}));
  }

  void write_port() {
    std::size_t at = 0;
    while (at < to_host_.size()) {
      const ssize_t n =
          write(port_, to_host_.data() + at, std::min<std::size_t>(to_host_.size() - at, 32768));
      if (n <= 0) break;
      at += static_cast<std::size_t>(n);
    }
    to_host_.erase(0, at);
    answer_left_ -= std::min(answer_left_, at);
    if (!hung_up_) {
      watch(0, port_,
            (to_host_.size() < kAnswerBacklog ? std::uint32_t{EPOLLIN} : 0) |
                (to_host_.empty() ? 0 : std::uint32_t{EPOLLOUT}));
    }
    const bool room = to_host_.size() < kOutputBacklog;
    if (room == room_) return;
    room_ = room;
    for (const auto& [id, stream] : streams_) watch_stream(id, stream);
  }

  void on_port(std::uint32_t events) {
    char buffer[32768];
    const ssize_t n = to_host_.size() < kAnswerBacklog ? read(port_, buffer, sizeof(buffer)) : -1;
    if (n > 0) {
      from_host_.append(buffer, static_cast<std::size_t>(n));
      take_frames();
    } else if ((events & EPOLLHUP) != 0) {
      // The host's end is closed. It is looked at again from time to time, for HUP would spin.
      watch(0, port_, 0);
      hung_up_ = true;
      // The kernel hands over what a new host says maybe before it knows that there is one: a host
      // that waits for an answer is not the one that has hung up, and what has come stays.
      if (answer_left_ == 0) abandon_all();
    }
  }

  // Who is there may know nothing of these streams. No frame has these bytes where its length or
  // its type is: a host that thinks that it is in sync says SYNC again.
  void abandon_all() {
    while (!streams_.empty()) discard(streams_.begin());
    to_host_.assign(kMaxFrame, '\xff');
    answer_left_ = 0;
  }

  // Where the host's frames begin is not known.
  void lose_track() {
    synced_ = false;
    run_ = 0;
    abandon_all();
  }

  void begin_anew(std::string_view nonce) {
    abandon_all();
    to_host_ = nonce;
    answer_left_ = nonce.size();
    send_hello();
  }

  // Skips to what follows a run of 0xff that is longer than any frame: no payload can feign it.
  void skip_to_sync() {
    std::size_t at = 0;
    for (; at < from_host_.size(); ++at) {
      if (from_host_[at] == '\xff') {
        ++run_;
        continue;
      }
      if (run_ >= kMaxFrame) {
        synced_ = true;
        break;
      }
      run_ = 0;
    }
    from_host_.erase(0, at);
  }

  // A frame that was cut off is completed by the run before a SYNC. Its type, the last byte, is
  // then none, and nothing of it is acted upon.
  void take_frames() {
    for (;;) {
      if (!synced_) skip_to_sync();
      if (!synced_) return;
      Frame frame;
      try {
        if (!take_frame(&from_host_, &frame)) return;
      } catch (const Error&) {
        lose_track();
        continue;
      }
      try {
        on_frame(frame);
      } catch (const std::exception& error) {
        end_with_error(frame.stream, error.what());
      }
    }
  }

  void on_frame(const Frame& frame) {
    const std::uint32_t id = frame.stream;
    const auto found = streams_.find(id);
    const bool known = found != streams_.end();
    switch (frame.type) {
      case FrameType::kSync:
        begin_anew(frame.payload);
        return;
      case FrameType::kPing:
        send(id, FrameType::kPing, frame.payload);
        return;
      case FrameType::kExec:
      case FrameType::kPut:
      case FrameType::kGet:
        if (known) throw RequestError("the stream is in use");
        if (frame.type == FrameType::kExec) {
          start_command(id, parse_command(parse_object(frame.payload)));
        } else {
          open_file(id, parse_object(frame.payload), frame.type == FrameType::kPut);
        }
        return;
      case FrameType::kStdin:
      case FrameType::kSignal:
      case FrameType::kWindow:
      case FrameType::kResize:
        // The stream may have ended while the frame was on its way.
        if (known) on_stream_frame(found, frame.type, frame.payload);
        return;
      default:
        throw RequestError("the host sends no frame of type " +
                           std::to_string(static_cast<int>(frame.type)));
    }
  }

  void on_stream_frame(Streams::iterator at, FrameType type, std::string_view payload) {
    Stream& s = at->second;
    if (type == FrameType::kStdin) {
      if (s.kind == Stream::Kind::kGet) throw RequestError("STDIN for a GET");
      if (s.in_queue.size() + payload.size() > kFrameWindow)
        throw RequestError("more STDIN than the window");
      if (!payload.empty()) {
        s.in_queue.append(payload);
      } else if (s.kind == Stream::Kind::kTerminal) {
        // A terminal has no end of file but the character for it.
        if (!s.in_eof_queued) s.in_queue.push_back('\4');
        s.in_eof_queued = true;
      } else {
        s.in_eof = true;
      }
      feed(at);
    } else if (type == FrameType::kSignal) {
      const int number = integer(parse_object(payload), "signal", 1, SIGRTMAX);
      if (s.pid < 0) {
        end_with_error(at->first, "cancelled");
        return;
      }
      // Once it has been reaped, its number may be another's.
      if (!s.exited) kill(-s.pid, number);
      if (number == SIGKILL) s.abandoned = true;
      finish_if_done(at);
    } else if (type == FrameType::kWindow) {
      const std::uint64_t window = std::uint64_t{s.send_window} + window_bytes(payload);
      s.send_window = static_cast<std::uint32_t>(std::min<std::uint64_t>(window, kMaxSendWindow));
      watch_stream(at->first, s);
      finish_if_done(at);
    } else {
      const Json request = parse_object(payload);
      winsize size{};
      size.ws_row = static_cast<unsigned short>(integer(request, "rows", 1, 65535));
      size.ws_col = static_cast<unsigned short>(integer(request, "cols", 1, 65535));
      if (s.kind != Stream::Kind::kTerminal) throw RequestError("RESIZE without a tty");
      ioctl(s.in, TIOCSWINSZ, &size);
    }
  }

  // ---- streams

  void start_command(std::uint32_t id, const Command& command) {
    Descriptors fds;
    winsize size{};
    size.ws_row = 24;
    size.ws_col = 80;
    const bool piped =
        pipe2(fds.failed, O_CLOEXEC) == 0 &&
        (command.tty ? openpty(&fds.master, &fds.slave, nullptr, nullptr, &size) == 0
                     : pipe2(fds.in, O_CLOEXEC) == 0 && pipe2(fds.out, O_CLOEXEC) == 0 &&
                           (command.merge_stderr || pipe2(fds.err, O_CLOEXEC) == 0));
    if (!piped) fail_errno("pipes", errno);
    const pid_t pid = fork();
    if (pid < 0) fail_errno("fork", errno);
    if (pid == 0) become(command, fds);
    close_fd(&fds.failed[1]);
    StartFailure failure{};
    if (read(fds.failed[0], &failure, sizeof(failure)) > 0) {
      waitpid(pid, nullptr, 0);
      fail_errno(failure.in_cwd ? command.cwd : command.argv[0], failure.error);
    }
    Stream s;
    s.pid = pid;
    if (command.tty) {
      s.kind = Stream::Kind::kTerminal;
      s.in = s.out = std::exchange(fds.master, -1);
    } else {
      s.in = std::exchange(fds.in[1], -1);
      s.out = std::exchange(fds.out[0], -1);
      s.err = std::exchange(fds.err[0], -1);
    }
    for (const int fd : {s.in, s.out, s.err}) {
      if (fd < 0) continue;
      fcntl(fd, F_SETFL, O_NONBLOCK);
      fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    watch_stream(id, s);
    streams_.emplace(id, std::move(s));
  }

  // Regular files only: the loop must not wait for a FIFO or a device.
  void open_file(std::uint32_t id, const Json& request, bool put) {
    const std::string path = c_string(request.at("path"), "path");
    const bool has_mode = put && request.contains("mode");
    const int mode = has_mode ? integer(request, "mode", 0, 07777) : 0644;
    const int flags = O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    int fd = put ? open(path.c_str(), flags | O_WRONLY | O_CREAT | O_TRUNC, mode)
                 : open(path.c_str(), flags | O_RDONLY);
    if (fd < 0) fail_errno(path, errno);
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
      close_fd(&fd);
      throw RequestError(path + ": not a regular file");
    }
    // The umask, and the mode of a file that was there.
    if (has_mode && fchmod(fd, static_cast<mode_t>(mode)) != 0) {
      const int error = errno;
      close_fd(&fd);
      fail_errno(path, error);
    }
    Stream s;
    s.kind = put ? Stream::Kind::kPut : Stream::Kind::kGet;
    (put ? s.in : s.out) = fd;
    streams_.emplace(id, std::move(s));
  }

  // Ends a stream without a word to the host; its command goes with it.
  void discard(Streams::iterator at) {
    Stream& s = at->second;
    if (s.pid > 0 && !s.exited) kill(-s.pid, SIGKILL);
    close_in(s);
    close_fd(&s.out);
    close_fd(&s.err);
    streams_.erase(at);
  }

  void end_with_error(std::uint32_t id, const std::string& text) {
    const auto found = streams_.find(id);
    if (found != streams_.end()) discard(found);
    send_error(id, text);
  }

  static void close_in(Stream& s) {
    if (s.kind == Stream::Kind::kTerminal) s.out = -1;
    close_fd(&s.in);
  }

  // Files are always ready: they are read as the windows allow.
  bool file_is_readable() const {
    return std::any_of(streams_.begin(), streams_.end(), [this](const auto& entry) {
      return entry.second.kind == Stream::Kind::kGet && may_send(entry.second);
    });
  }

  void read_files() {
    for (auto it = streams_.begin(); it != streams_.end();) {
      const auto at = it++;
      Stream& s = at->second;
      if (s.kind != Stream::Kind::kGet || !may_send(s) || to_host_.size() >= kOutputBacklog)
        continue;
      char buffer[kMaxFramePayload];
      const ssize_t n = read(s.out, buffer, std::min<std::size_t>(sizeof(buffer), s.send_window));
      if (n > 0) {
        s.send_window -= static_cast<std::uint32_t>(n);
        send(at->first, FrameType::kStdout, {buffer, static_cast<std::size_t>(n)});
      } else {
        finish_file(at, n < 0 ? errno : 0);
      }
    }
  }

  void finish_file(Streams::iterator at, int error) {
    const std::uint32_t id = at->first;
    Stream& s = at->second;
    if (s.in >= 0 && close(std::exchange(s.in, -1)) != 0 && error == 0) error = errno;
    discard(at);
    if (error != 0) {
      send_error(id, strerror(error));
    } else {
      send(id, FrameType::kExit, text_of({{"code", 0}}));
    }
  }

  // What the host sent goes on to the command or the file, as far as that takes it.
  void feed(Streams::iterator at) {
    Stream& s = at->second;
    const std::size_t before = s.in_queue.size();
    while (!s.in_queue.empty()) {
      const ssize_t n = s.in < 0 ? -1 : write(s.in, s.in_queue.data(), s.in_queue.size());
      if (n >= 0) {
        s.in_queue.erase(0, static_cast<std::size_t>(n));
        continue;
      }
      if (s.in >= 0 && errno == EAGAIN) break;
      if (s.kind == Stream::Kind::kPut) {
        finish_file(at, errno);
        return;
      }
      // It has closed its stdin: the rest goes nowhere, as in a shell's pipe.
      if (s.kind == Stream::Kind::kCommand) close_in(s);
      s.in_queue.clear();
    }
    std::size_t taken = before - s.in_queue.size();
    if (s.in_queue.empty() && std::exchange(s.in_eof_queued, false)) --taken;
    if (taken > 0) {
      send(at->first, FrameType::kWindow, window_payload(static_cast<std::uint32_t>(taken)));
    }
    if (s.in_eof && s.in_queue.empty()) {
      if (s.kind == Stream::Kind::kPut) {
        finish_file(at, 0);
        return;
      }
      close_in(s);
    }
    watch_stream(at->first, s);
  }

  void on_stream(std::uint32_t id, int fd, std::uint32_t events) {
    auto at = streams_.find(id);
    if (at == streams_.end()) return;
    if (fd == at->second.in && !at->second.in_queue.empty() &&
        (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0) {
      feed(at);
    }
    if (fd == at->second.out || fd == at->second.err) drain(at, fd);
  }

  // One piece of a command's output.
  void drain(Streams::iterator at, int fd) {
    Stream& s = at->second;
    if (may_send(s)) {
      char buffer[kMaxFramePayload];
      const ssize_t n = read(fd, buffer, std::min<std::size_t>(sizeof(buffer), s.send_window));
      if (n > 0) {
        send_output(at, fd == s.err ? FrameType::kStderr : FrameType::kStdout,
                    {buffer, static_cast<std::size_t>(n)});
        if (to_host_.size() >= kOutputBacklog) write_port();
      } else if (n == 0 || errno != EAGAIN) {
        close_output(s, fd);
      }
    }
    watch_stream(at->first, s);
  }

  void send_output(Streams::iterator at, FrameType type, std::string_view bytes) {
    at->second.send_window -= static_cast<std::uint32_t>(bytes.size());
    send(at->first, type, bytes);
  }

  static void close_output(Stream& s, int fd) {
    if (s.kind == Stream::Kind::kTerminal) {
      close_in(s);
    } else {
      close_fd(fd == s.err ? &s.err : &s.out);
    }
  }

  static std::string read_rest(const Stream& s, int fd) {
    std::string rest;
    if (fd < 0) return rest;
    const int pipe_bytes = fcntl(fd, F_GETPIPE_SZ);
    const std::size_t most = pipe_bytes > 0 && s.kind == Stream::Kind::kCommand
                                 ? static_cast<std::size_t>(pipe_bytes)
                                 : kTerminalBytes;
    char buffer[4096];
    while (rest.size() < most) {
      const ssize_t n = read(fd, buffer, std::min(sizeof(buffer), most - rest.size()));
      if (n <= 0) break;
      rest.append(buffer, static_cast<std::size_t>(n));
    }
    return rest;
  }

  void reap() {
    signalfd_siginfo info[16];
    while (read(children_, info, sizeof(info)) > 0) continue;
    int status = 0;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
      const auto at = std::find_if(streams_.begin(), streams_.end(),
                                   [pid](const auto& entry) { return entry.second.pid == pid; });
      if (at == streams_.end()) continue;
      Stream& s = at->second;
      s.exited = true;
      s.status = status;
      s.out_rest = read_rest(s, s.out);
      s.err_rest = read_rest(s, s.err);
      close_in(s);
      close_fd(&s.out);
      close_fd(&s.err);
      s.in_queue.clear();
      finish_if_done(at);
    }
  }

  // Tells the exit of a command when the host has had its output.
  void finish_if_done(Streams::iterator at) {
    Stream& s = at->second;
    if (!s.exited) return;
    for (const auto& [type, rest] :
         {std::pair{FrameType::kStdout, &s.out_rest}, std::pair{FrameType::kStderr, &s.err_rest}}) {
      while (!rest->empty() && s.send_window > 0) {
        const std::size_t n =
            std::min<std::size_t>({rest->size(), s.send_window, kMaxFramePayload});
        send_output(at, type, std::string_view(*rest).substr(0, n));
        rest->erase(0, n);
      }
      if (!rest->empty() && !s.abandoned) return;
    }
    const std::uint32_t id = at->first;
    const int status = s.status;
    discard(at);
    send(id, FrameType::kExit,
         WIFSIGNALED(status) ? text_of({{"signal", WTERMSIG(status)}})
                             : text_of({{"code", WEXITSTATUS(status)}}));
  }

  int epoll_ = -1;
  int children_ = -1;
  int port_ = -1;
  bool synced_ = false;          // from_host_ begins with a frame
  std::size_t run_ = 0;          // bytes 0xff that came last, while it does not
  std::size_t answer_left_ = 0;  // to_host_ still begins with so much of the answer to a SYNC
  bool hung_up_ = false;
  bool room_ = true;
  std::string to_host_;
  std::string from_host_;
  Streams streams_;
};

}  // namespace
}  // namespace godwit::lab

int main(int argc, char** argv) {
  if (argc > 1) {
    const bool help = strcmp(argv[1], "--help") == 0;
    fprintf(help ? stdout : stderr,
            "Usage: godwit-agent\nServes the lab on the virtio-serial port %s.\n",
            godwit::lab::kPortName);
    return help ? 0 : 2;
  }
  return godwit::lab::Agent().run();
}
