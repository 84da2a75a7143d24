// SPDX-License-Identifier: GPL-2.0-or-later
//
// godwit-agent: runs commands in the guest for the lab, over a virtio-serial port.
// Protocol: docs/spec/lab.md. One thread, one epoll loop.
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
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace {

using Json = nlohmann::json;

constexpr std::uint32_t kMaxPayload = 65536;
constexpr std::uint32_t kWindow = 262144;
constexpr const char* kPortName = "org.godwit.agent";

enum Type : std::uint8_t {
  kExec = 1,
  kStdin,
  kStdout,
  kStderr,
  kExit,
  kSignal,
  kPut,
  kGet,
  kPing,
  kHello,
  kWindowUpdate,
  kResize,
};

void big(std::uint32_t value, std::string* out) {
  for (int shift = 24; shift >= 0; shift -= 8) out->push_back(static_cast<char>(value >> shift));
}

std::uint32_t get_big(const char* p) {
  std::uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(p[i]);
  return value;
}

// One command, or one file being written or read.
struct Stream {
  std::uint32_t id = 0;
  pid_t pid = -1;
  bool file = false;      // PUT or GET
  bool exited = false;
  int status = 0;
  int in = -1;            // to the command's stdin, or to the file
  int out = -1;           // from its stdout, or from the file
  int err = -1;
  bool tty = false;
  bool in_eof = false;
  std::string in_queue;   // bounded by the window that the host has
  std::uint32_t send_window = kWindow;
};

class Agent {
 public:
  int run() {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    signal(SIGPIPE, SIG_IGN);
    child_fd_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    watch(child_fd_, EPOLLIN);
    open_port();
    hello();
    for (;;) {
      flush_port();
      pump_files();
      epoll_event events[64];
      const int timeout = port_hung_ ? 50 : -1;
      const int n = epoll_wait(epoll_, events, 64, readable_files() ? 0 : timeout);
      if (n < 0 && errno != EINTR) return 1;
      if (port_hung_) rewatch_port();
      for (int i = 0; i < n; ++i) {
        const int fd = events[i].data.fd;
        if (fd == port_) {
          on_port(events[i].events);
        } else if (fd == child_fd_) {
          reap();
        } else {
          on_stream(fd, events[i].events);
        }
      }
    }
  }

 private:
  void watch(int fd, std::uint32_t events) {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    if (epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event) != 0) {
      epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
    }
  }

  void forget(int* fd) {
    if (*fd < 0) return;
    epoll_ctl(epoll_, EPOLL_CTL_DEL, *fd, nullptr);
    close(*fd);
    *fd = -1;
  }

  void open_port() {
    // No udev in the guest: the port is found by its name in sysfs.
    for (;;) {
      if (DIR* dir = opendir("/sys/class/virtio-ports")) {
        while (const dirent* entry = readdir(dir)) {
          const std::string base = std::string("/sys/class/virtio-ports/") + entry->d_name;
          char name[64] = {};
          if (FILE* file = fopen((base + "/name").c_str(), "re")) {
            if (fgets(name, sizeof(name), file) == nullptr) name[0] = 0;
            fclose(file);
          }
          name[strcspn(name, "\n")] = 0;
          if (strcmp(name, kPortName) == 0) {
            port_ = open((std::string("/dev/") + entry->d_name).c_str(),
                         O_RDWR | O_NONBLOCK | O_CLOEXEC);
          }
        }
        closedir(dir);
      }
      if (port_ >= 0) break;
      usleep(50000);
    }
    watch(port_, EPOLLIN);
  }

  void hello() {
    utsname name{};
    uname(&name);
    double uptime = 0;
    if (FILE* file = fopen("/proc/uptime", "re")) {
      if (fscanf(file, "%lf", &uptime) != 1) uptime = 0;
      fclose(file);
    }
    send(0, kHello, Json{{"agent", 1}, {"kernel", name.release}, {"uptime", uptime}}.dump());
  }

  void send(std::uint32_t id, Type type, std::string_view payload) {
    big(static_cast<std::uint32_t>(payload.size()), &to_host_);
    big(id, &to_host_);
    to_host_.push_back(static_cast<char>(type));
    to_host_.append(payload);
  }

  void exit_error(std::uint32_t id, const std::string& text) {
    send(id, kExit, Json{{"error", text}}.dump());
  }

  void flush_port() {
    while (!to_host_.empty()) {
      const ssize_t n = write(port_, to_host_.data(), std::min<std::size_t>(to_host_.size(), 32768));
      if (n <= 0) break;
      to_host_.erase(0, static_cast<std::size_t>(n));
    }
    if (!port_hung_) watch(port_, to_host_.empty() ? EPOLLIN : EPOLLIN | EPOLLOUT);
    gate_outputs();
  }

  // While much is waiting for the host, no more is read from the commands.
  void gate_outputs() {
    const bool room = to_host_.size() < 4 * kMaxPayload;
    if (room == room_) return;
    room_ = room;
    for (auto& [id, stream] : streams_) watch_outputs(*stream);
  }

  void watch_outputs(Stream& s) {
    if (s.file) return;
    const bool go = room_ && s.send_window > 0;
    for (const int fd : {s.out, s.err}) {
      if (fd < 0) continue;
      std::uint32_t events = go ? std::uint32_t{EPOLLIN} : 0;
      if (s.tty && fd == s.in && !s.in_queue.empty()) events |= EPOLLOUT;
      if (events == 0) {
        epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);  // or HUP would spin
      } else {
        watch(fd, events);
      }
    }
  }

  // The host end of the port is closed: HUP is level-triggered and would spin.
  void rewatch_port() {
    port_hung_ = false;
    watch(port_, EPOLLIN);
  }

  void on_port(std::uint32_t events) {
    char buffer[32768];
    bool any = false;
    for (;;) {
      const ssize_t n = read(port_, buffer, sizeof(buffer));
      if (n <= 0) break;
      any = true;
      from_host_.append(buffer, static_cast<std::size_t>(n));
      if (n < static_cast<ssize_t>(sizeof(buffer))) break;
    }
    if (!any && (events & EPOLLHUP) != 0) {
      epoll_ctl(epoll_, EPOLL_CTL_DEL, port_, nullptr);
      port_hung_ = true;
      return;
    }
    std::size_t at = 0;
    while (from_host_.size() - at >= 9) {
      const std::uint32_t length = get_big(from_host_.data() + at);
      const std::uint32_t id = get_big(from_host_.data() + at + 4);
      const auto type = static_cast<std::uint8_t>(from_host_[at + 8]);
      if (length > kMaxPayload) {
        // Not a frame of ours: there is no way back to a boundary but the next empty port.
        exit_error(id, "frame longer than 65536 bytes");
        from_host_.clear();
        return;
      }
      if (from_host_.size() - at - 9 < length) break;
      on_frame(id, type, std::string_view(from_host_).substr(at + 9, length));
      at += 9 + length;
    }
    from_host_.erase(0, at);
  }

  void on_frame(std::uint32_t id, std::uint8_t type, std::string_view payload) {
    const auto found = streams_.find(id);
    Stream* stream = found == streams_.end() ? nullptr : found->second.get();
    switch (type) {
      case kPing:
        send(id, kPing, payload);
        return;
      case kExec:
      case kPut:
      case kGet: {
        if (stream != nullptr) {
          exit_error(id, "the stream is in use");
          return;
        }
        const Json request = Json::parse(payload, nullptr, false);
        if (request.is_discarded() || !request.is_object()) {
          exit_error(id, "malformed request");
          return;
        }
        try {
          if (type == kExec) {
            exec(id, request);
          } else {
            transfer(id, request, type == kPut);
          }
        } catch (const Json::exception& error) {
          exit_error(id, error.what());
        }
        return;
      }
      case kStdin:
        if (stream == nullptr) return;  // it may have ended meanwhile
        if (payload.empty()) {
          stream->in_eof = true;
        } else {
          stream->in_queue.append(payload);
        }
        feed(*stream);
        return;
      case kSignal: {
        if (stream == nullptr) return;
        const Json request = Json::parse(payload, nullptr, false);
        const int number = request.is_object() ? request.value("signal", SIGTERM) : SIGTERM;
        if (stream->pid > 0) {
          kill(-stream->pid, number);
        } else if (stream->file) {
          finish_file(*stream, "cancelled");
        }
        return;
      }
      case kWindowUpdate:
        if (stream == nullptr || payload.size() != 4) return;
        stream->send_window += std::min(get_big(payload.data()), 1U << 30);
        watch_outputs(*stream);
        return;
      case kResize: {
        if (stream == nullptr || !stream->tty) return;
        const Json request = Json::parse(payload, nullptr, false);
        if (!request.is_object()) return;
        winsize size{};
        size.ws_row = request.value("rows", std::uint16_t{24});
        size.ws_col = request.value("cols", std::uint16_t{80});
        ioctl(stream->in, TIOCSWINSZ, &size);
        return;
      }
      default:
        exit_error(id, "unknown frame type");
        return;
    }
  }

  void exec(std::uint32_t id, const Json& request) {
    const auto argv = request.at("argv").get<std::vector<std::string>>();
    if (argv.empty()) {
      exit_error(id, "empty argv");
      return;
    }
    const bool tty = request.value("tty", false);
    const bool merge = request.value("merge_stderr", false) || tty;
    const std::string cwd = request.value("cwd", std::string("/root"));
    std::map<std::string, std::string> env;
    if (request.contains("env")) env = request.at("env").get<std::map<std::string, std::string>>();

    int in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1}, failed[2];
    int master = -1, slave = -1;
    if (pipe2(failed, O_CLOEXEC) != 0) {
      exit_error(id, strerror(errno));
      return;
    }
    const bool piped =
        tty ? openpty(&master, &slave, nullptr, nullptr, nullptr) == 0
            : pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0 &&
                  (merge || pipe2(err, O_CLOEXEC) == 0);
    const pid_t pid = piped ? fork() : -1;
    if (pid < 0) {
      const int why = errno;
      for (const int fd : {in[0], in[1], out[0], out[1], err[0], err[1], failed[0], failed[1]}) {
        if (fd >= 0) close(fd);
      }
      exit_error(id, strerror(why));
      return;
    }
    if (pid == 0) {
      sigset_t none;
      sigemptyset(&none);
      sigprocmask(SIG_SETMASK, &none, nullptr);
      signal(SIGPIPE, SIG_DFL);
      setsid();
      if (tty) {
        ioctl(slave, TIOCSCTTY, 0);
        for (int fd = 0; fd < 3; ++fd) dup2(slave, fd);
      } else {
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(merge ? out[1] : err[1], 2);
      }
      setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
      setenv("HOME", "/root", 1);
      if (tty) setenv("TERM", "xterm", 0);
      for (const auto& [name, value] : env) setenv(name.c_str(), value.c_str(), 1);
      if (chdir(cwd.c_str()) != 0 && chdir("/") != 0) _exit(127);
      std::vector<char*> args;
      for (const std::string& arg : argv) args.push_back(const_cast<char*>(arg.c_str()));
      args.push_back(nullptr);
      execvp(args[0], args.data());
      const int why = errno;
      if (write(failed[1], &why, sizeof(why)) < 0) _exit(126);
      _exit(127);
    }
    close(failed[1]);
    int why = 0;
    const bool started = read(failed[0], &why, sizeof(why)) <= 0;
    close(failed[0]);
    for (const int fd : {in[0], out[1], err[1], slave}) {
      if (fd >= 0) close(fd);
    }
    if (!started) {
      for (const int fd : {in[1], out[0], err[0], master}) {
        if (fd >= 0) close(fd);
      }
      waitpid(pid, nullptr, 0);
      exit_error(id, argv[0] + ": " + strerror(why));
      return;
    }
    auto stream = std::make_unique<Stream>();
    stream->id = id;
    stream->pid = pid;
    stream->tty = tty;
    stream->in = tty ? master : in[1];
    stream->out = tty ? master : out[0];
    stream->err = err[0];
    for (const int fd : {stream->in, stream->out, stream->err}) {
      if (fd >= 0) fcntl(fd, F_SETFL, O_NONBLOCK);
      if (fd >= 0) fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    watch_outputs(*stream);
    streams_[id] = std::move(stream);
  }

  void transfer(std::uint32_t id, const Json& request, bool put) {
    const auto path = request.at("path").get<std::string>();
    auto stream = std::make_unique<Stream>();
    stream->id = id;
    stream->file = true;
    int fd;
    if (put) {
      fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, request.value("mode", 0644));
      if (fd >= 0 && request.contains("mode")) fchmod(fd, request.at("mode").get<mode_t>());
      stream->in = fd;
    } else {
      fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
      stream->out = fd;
    }
    if (fd < 0) {
      exit_error(id, path + ": " + strerror(errno));
      return;
    }
    streams_[id] = std::move(stream);
  }

  bool readable_files() const {
    return room_ && std::any_of(streams_.begin(), streams_.end(), [](const auto& entry) {
             return entry.second->file && entry.second->out >= 0 && entry.second->send_window > 0;
           });
  }

  // Files are always ready: they are read as the window allows.
  void pump_files() {
    for (auto it = streams_.begin(); it != streams_.end();) {
      Stream& s = *it++->second;
      if (!s.file || s.out < 0 || s.send_window == 0 || !room_) continue;
      char buffer[kMaxPayload];
      const ssize_t n = read(s.out, buffer, std::min<std::size_t>(sizeof(buffer), s.send_window));
      if (n > 0) {
        s.send_window -= static_cast<std::uint32_t>(n);
        send(s.id, kStdout, {buffer, static_cast<std::size_t>(n)});
      } else {
        finish_file(s, n < 0 ? strerror(errno) : "");
      }
    }
    flush_port_once();
  }

  void flush_port_once() {
    if (to_host_.empty()) return;
    const ssize_t n = write(port_, to_host_.data(), std::min<std::size_t>(to_host_.size(), 32768));
    if (n > 0) to_host_.erase(0, static_cast<std::size_t>(n));
    if (!to_host_.empty() && !port_hung_) watch(port_, EPOLLIN | EPOLLOUT);
    gate_outputs();
  }

  void finish_file(Stream& s, const std::string& error) {
    int result = 0;
    if (s.in >= 0) result = close(s.in);
    if (s.out >= 0) close(s.out);
    const std::uint32_t id = s.id;
    if (!error.empty()) {
      exit_error(id, error);
    } else if (result != 0) {
      exit_error(id, strerror(errno));
    } else {
      send(id, kExit, Json{{"code", 0}}.dump());
    }
    streams_.erase(id);
  }

  void credit(Stream& s, std::size_t taken) {
    if (taken == 0) return;
    std::string payload;
    big(static_cast<std::uint32_t>(taken), &payload);
    send(s.id, kWindowUpdate, payload);
  }

  void feed(Stream& s) {
    std::size_t taken = 0;
    while (!s.in_queue.empty() && s.in >= 0) {
      const ssize_t n = write(s.in, s.in_queue.data(), s.in_queue.size());
      if (n < 0 && errno == EAGAIN) {
        if (s.tty) {
          watch(s.in, EPOLLIN | EPOLLOUT);
        } else {
          watch(s.in, EPOLLOUT);
        }
        break;
      }
      if (n < 0) {
        if (s.file) {
          finish_file(s, strerror(errno));
          return;
        }
        taken += s.in_queue.size();
        s.in_queue.clear();
        if (!s.tty) forget(&s.in);
        break;
      }
      taken += static_cast<std::size_t>(n);
      s.in_queue.erase(0, static_cast<std::size_t>(n));
    }
    if (s.in < 0) {
      taken += s.in_queue.size();
      s.in_queue.clear();
    }
    credit(s, taken);
    if (!s.in_queue.empty() || !s.in_eof) return;
    if (s.file) {
      finish_file(s, "");
    } else if (s.tty) {
      s.in_eof = false;
      if (write(s.in, "\4", 1) < 0) return;
    } else {
      forget(&s.in);
    }
  }

  void on_stream(int fd, std::uint32_t events) {
    for (auto& [id, stream] : streams_) {
      Stream& s = *stream;
      if (fd == s.in && (events & (EPOLLOUT | EPOLLERR)) != 0 && !(s.tty && s.in_queue.empty())) {
        if (!s.tty) epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
        feed(s);
        if (!s.tty) return;
        watch_outputs(s);
      }
      if (fd == s.out || fd == s.err) {
        drain(s, fd == s.out ? &s.out : &s.err, fd == s.out ? kStdout : kStderr);
        finish_if_done(s);
        return;
      }
      if (fd == s.in) return;
    }
  }

  void drain(Stream& s, int* fd, Type type) {
    if (s.send_window == 0) {
      watch_outputs(s);
      return;
    }
    char buffer[kMaxPayload];
    const ssize_t n = read(*fd, buffer, std::min<std::size_t>(sizeof(buffer), s.send_window));
    if (n > 0) {
      s.send_window -= static_cast<std::uint32_t>(n);
      send(s.id, type, {buffer, static_cast<std::size_t>(n)});
      if (s.send_window == 0) watch_outputs(s);
    } else if (n == 0 || errno != EAGAIN) {
      if (s.tty) {
        forget(&s.in);
        s.out = -1;
      } else {
        forget(fd);
      }
    }
  }

  void reap() {
    signalfd_siginfo info;
    while (read(child_fd_, &info, sizeof(info)) > 0) {
    }
    int status = 0;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
      for (auto& [id, stream] : streams_) {
        if (stream->pid != pid) continue;
        stream->exited = true;
        stream->status = status;
        finish_if_done(*stream);
        break;
      }
    }
  }

  // The exit is told when the output is at its end; what daemons keep open is not waited for.
  void finish_if_done(Stream& s) {
    if (!s.exited) return;
    for (int* fd : {&s.out, &s.err}) {
      while (*fd >= 0 && s.send_window > 0) {
        const std::uint32_t before = s.send_window;
        drain(s, fd, fd == &s.out ? kStdout : kStderr);
        if (s.send_window == before) break;  // nothing there now
      }
      if (*fd >= 0 && s.send_window == 0) return;
    }
    if (s.tty) {
      forget(&s.in);
    } else {
      forget(&s.in);
      forget(&s.out);
      forget(&s.err);
    }
    send(s.id, kExit,
         WIFSIGNALED(s.status) ? Json{{"signal", WTERMSIG(s.status)}}.dump()
                               : Json{{"code", WEXITSTATUS(s.status)}}.dump());
    streams_.erase(s.id);
  }

  int epoll_ = -1;
  int child_fd_ = -1;
  int port_ = -1;
  bool port_hung_ = false;
  bool room_ = true;
  std::string to_host_;
  std::string from_host_;
  std::map<std::uint32_t, std::unique_ptr<Stream>> streams_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) {
    const bool help = strcmp(argv[1], "--help") == 0;
    fprintf(help ? stdout : stderr,
            "Usage: godwit-agent\nServes the lab on the virtio-serial port %s.\n", kPortName);
    return help ? 0 : 2;
  }
  return Agent().run();
}
