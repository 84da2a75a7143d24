// SPDX-License-Identifier: GPL-2.0-or-later
#include "client.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "error.h"
#include "interrupt.h"
#include "lab_process.h"
#include "plan.h"
#include "unix_socket.h"

namespace godwit::lab {
namespace {

using Json = nlohmann::json;

constexpr const char* kMarker = "/.godwit-lab";
// For an answer of the daemon: whoever is stopped would be waited for without end.
constexpr double kAnswerSeconds = 120;

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int connect_control(const std::string& folder) { return connect_unix(folder + "/control"); }

int must_connect(const std::string& folder) {
  const int fd = connect_control(folder);
  if (fd >= 0) return fd;
  if (any_guest_lives(folder))
    throw LabGone("the daemon of the lab has died; its guests go on: godwit up");
  throw LabGone("no lab is up here (" + folder + "): godwit up");
}

// One command at a time starts or stops the lab. The mark stays as long as the folder does.
class FolderLock {
 public:
  explicit FolderLock(const std::string& folder)
      : fd_(open((folder + kMarker).c_str(), O_RDWR | O_CLOEXEC)) {
    if (fd_ < 0) throw_errno(folder + kMarker);
    while (flock(fd_, LOCK_EX) != 0) {
      if (errno == EINTR && !interrupted()) continue;
      close(fd_);
      throw Error("interrupted");
    }
  }
  ~FolderLock() { close(fd_); }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_;
};

void send_all(int fd, const std::string& bytes) {
  std::size_t at = 0;
  while (at < bytes.size()) {
    const ssize_t n = send(fd, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw LabGone("the lab has gone: see its log");
    at += static_cast<std::size_t>(n);
  }
}

// For the wire; JSON is UTF-8, an argument or a path need not be.
std::string text_of(const Json& json) {
  try {
    return json.dump();
  } catch (const Json::exception&) {
    throw Error("arguments and paths must be UTF-8");
  }
}

// " (its last line)", or nothing.
std::string last_line(const std::string& file) {
  std::ifstream in(file);
  std::string last;
  for (std::string line; std::getline(in, line);) {
    if (line.find_first_not_of(" \t\r") != std::string::npos) last = line;
  }
  return last.empty() ? "" : " (" + last + ")";
}

// One line, byte by byte: what follows it may be frames.
Json read_line(int fd, const std::string& who) {
  const double deadline = now_seconds() + kAnswerSeconds;
  std::string line;
  char c;
  for (;;) {
    pollfd entry{fd, POLLIN, 0};
    const double left = std::max(deadline - now_seconds(), 0.0);
    const int ready = poll(&entry, 1, static_cast<int>(left * 1000));
    if (ready == 0) {
      throw LabGone(
          who + " does not answer: it is stopped, or the machine is busy; 'godwit down' ends it");
    }
    if (ready < 0) continue;
    const ssize_t n = read(fd, &c, 1);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) throw LabGone("the lab has gone: see its log");
    if (c == '\n') break;
    line.push_back(c);
  }
  Json answer = Json::parse(line, nullptr, false);
  if (!answer.is_object()) throw Error("the lab answers nonsense");
  if (answer.contains("error")) throw Error(answer["error"].get<std::string>());
  return answer;
}

}  // namespace

Process::Process(const std::string& folder, const std::string& guest, const Json& request,
                 FrameType type)
    : guest_(guest), what_(guest) {
  if (request.contains("argv")) {
    for (const auto& arg : request["argv"]) what_ += " " + arg.get<std::string>();
    if (what_.size() > 200) what_ = what_.substr(0, 200) + "…";
  }
  fd_ = must_connect(folder);
  try {
    send_all(fd_, text_of({{"op", "stream"}, {"guest", guest}}) + "\n");
    (void)read_line(fd_, "the lab's daemon");
    std::string frames;
    append_frame(1, type, text_of(request), &frames);
    // Something is answered at once then, however long the command says nothing.
    append_frame(1, FrameType::kPing, "", &frames);
    send_all(fd_, frames);
  } catch (...) {
    close(fd_);
    throw;
  }
}

Process::~Process() { close(fd_); }

void Process::send(FrameType type, const std::string& payload) {
  std::string frame;
  append_frame(1, type, payload, &frame);
  send_all(fd_, frame);
}

void Process::write(const std::string& bytes) {
  if (bytes.empty()) {
    send(FrameType::kStdin, "");
    return;
  }
  for (std::size_t at = 0; at < bytes.size() && !ended_;) {
    if (send_window_ == 0) {
      Frame frame;
      if (!next(&frame, 60)) throw Error(what_ + ": takes no input");
      if (frame.type == FrameType::kStdout || frame.type == FrameType::kStderr) {
        output_ += frame.payload;
      }
      continue;
    }
    const std::size_t n =
        std::min<std::size_t>({bytes.size() - at, kMaxFramePayload, send_window_});
    send(FrameType::kStdin, bytes.substr(at, n));
    send_window_ -= static_cast<std::uint32_t>(n);
    at += n;
  }
}

void Process::signal(int number) { send(FrameType::kSignal, Json{{"signal", number}}.dump()); }

void Process::resize(int rows, int columns) {
  send(FrameType::kResize, Json{{"rows", rows}, {"cols", columns}}.dump());
}

void Process::note_exit(const std::string& payload) {
  ended_ = true;
  const Json exit = Json::parse(payload, nullptr, false);
  if (!exit.is_object()) {
    error_ = "no exit code";
  } else if (exit.contains("error")) {
    error_ = exit["error"].get<std::string>();
  } else if (exit.contains("signal")) {
    code_ = 128 + exit["signal"].get<int>();
  } else {
    code_ = exit.value("code", -1);
  }
}

bool Process::next(Frame* frame, double timeout_seconds) {
  const double deadline = now_seconds() + timeout_seconds;
  for (;;) {
    if (take_frame(&in_, frame)) {
      answered_ = true;
      if (frame->type == FrameType::kWindow) {
        send_window_ += window_bytes(frame->payload);
        return true;
      }
      if (frame->type == FrameType::kExit) {
        note_exit(frame->payload);
      } else if (!frame->payload.empty()) {
        send(FrameType::kWindow, window_payload(static_cast<std::uint32_t>(frame->payload.size())));
      }
      return true;
    }
    if (ended_) return false;
    // What is there is taken even if there is no time to wait.
    const double left = std::max(deadline - now_seconds(), 0.0);
    pollfd entry{fd_, POLLIN, 0};
    const int n = poll(&entry, 1, left > 0 ? static_cast<int>(left * 1000) + 1 : 0);
    if (n < 0 && errno != EINTR) throw_errno("poll");
    if (n == 0 && left == 0) return false;
    if (n <= 0) continue;
    char buffer[65536];
    const ssize_t got = read(fd_, buffer, sizeof(buffer));
    if (got <= 0) throw LabGone(what_ + ": the lab has gone");
    in_.append(buffer, static_cast<std::size_t>(got));
  }
}

std::string Process::wait_for_line(const std::function<bool(const std::string&)>& want,
                                   double timeout_seconds) {
  const double deadline = now_seconds() + timeout_seconds;
  for (;;) {
    for (std::size_t end; (end = output_.find('\n', line_at_)) != std::string::npos;) {
      const std::string line = output_.substr(line_at_, end - line_at_);
      line_at_ = end + 1;
      if (want(line)) return line;
    }
    if (ended_)
      throw Error(what_ + ": ended (" + std::to_string(code_) + ") " + error_ + "\n" + output_);
    Frame frame;
    if (!next(&frame, deadline - now_seconds())) {
      throw Error(what_ + ": not what was waited for within " +
                  std::to_string(static_cast<int>(timeout_seconds)) + " s\n" + output_);
    }
    if (frame.type == FrameType::kStdout || frame.type == FrameType::kStderr)
      output_ += frame.payload;
  }
}

ExecResult Process::wait(double timeout_seconds) {
  const double deadline = now_seconds() + timeout_seconds;
  while (!ended_) {
    Frame frame;
    if (!next(&frame, deadline - now_seconds())) {
      if (ended_) break;
      if (!answered_)
        throw Error(guest_ +
                    " does not answer: the VM is stopped, or hangs; its log is in log/ of the lab");
      throw Error(what_ + ": not done within " + std::to_string(static_cast<int>(timeout_seconds)) +
                  " s\n" + output_);
    }
    if (frame.type == FrameType::kStdout || frame.type == FrameType::kStderr)
      output_ += frame.payload;
  }
  if (!error_.empty()) throw Error(what_ + ": " + error_);
  return {code_, output_};
}

Lab::Lab(std::string folder) : folder_(std::move(folder)) {}

bool Lab::is_up() const {
  const int fd = connect_control(folder_);
  if (fd >= 0) close(fd);
  return fd >= 0;
}

Json Lab::request(const Json& request) const {
  const int fd = must_connect(folder_);
  try {
    send_all(fd, text_of(request) + "\n");
    const bool qmp = request.value("op", "") == "qmp";
    Json answer = read_line(fd, qmp ? "QEMU of " + request.value("guest", "") : "the lab's daemon");
    close(fd);
    return answer;
  } catch (...) {
    close(fd);
    throw;
  }
}

void Lab::up(const LabOptions& options, const std::function<void(const std::string&)>& progress) {
  if (options.guests < 1 || options.guests > kMaxGuests) {
    throw Error("1 to " + std::to_string(kMaxGuests) + " guests");
  }
  const std::string build = build_folder();
  for (const char* file : {"/lib/godwit-nic.so", "/image/vmlinuz", "/image/initrd.zst",
                           "/image/base.sqfs", "/image/godwit.sqfs"}) {
    if (access((build + file).c_str(), R_OK) != 0) {
      throw Error(build + file + " is not built: make all");
    }
  }
  const char* accel = getenv("GODWIT_ACCEL");
  if (accel != nullptr && *accel != 0 && strcmp(accel, "kvm") != 0 && strcmp(accel, "tcg") != 0) {
    throw Error("$GODWIT_ACCEL is \"" + std::string(accel) + "\", and there are kvm and tcg");
  }
  // The longest name that there is to be.
  (void)unix_address(folder_ + "/" + guest_name(kMaxGuests) + ".agent");
  claim_folder();
  pid_t pid = -1;
  {
    const FolderLock lock(folder_);
    if (is_up()) throw Error("a lab is up already in " + folder_ + ": godwit down");
    if (any_guest_lives(folder_)) {
      throw Error("a lab is up already in " + folder_ +
                  ", though its daemon has died: godwit down, or godwit up "
                  "without options to go on with it");
    }
    clear_folder();
    std::filesystem::create_directories(folder_ + "/log");
    std::filesystem::create_directories(folder_ + "/share");
    save_options(folder_, options);
    pid = start_daemon(false);
  }
  const double deadline = now_seconds() + 180;
  std::size_t ready = 0;
  for (;; usleep(100000)) {
    if (interrupted()) {
      down();
      throw Error("interrupted");
    }
    if (waitpid(pid, nullptr, WNOHANG) == pid) {
      throw Error("the lab has ended; log: " + folder_ + "/log/lab" +
                  last_line(folder_ + "/log/lab"));
    }
    const Json state = status();
    std::size_t now_ready = 0;
    for (const Json& guest : state["guests"]) {
      if (guest["state"] == "dead") {
        const std::string log = guest["log"];
        const std::string text =
            guest["name"].get<std::string>() + ": QEMU has ended; log: " + log + last_line(log);
        down();
        throw Error(text);
      }
      now_ready += guest["state"] == "ready" ? 1 : 0;
    }
    if (now_ready != ready) {
      ready = now_ready;
      progress(std::to_string(ready) + " of " + std::to_string(options.guests) + " guests ready");
    }
    if (ready == static_cast<std::size_t>(options.guests)) return;
    if (now_seconds() > deadline) {
      down();
      throw Error("not all guests are ready after 180 s; logs: " + folder_ + "/log");
    }
  }
}

bool Lab::revive(const std::function<void(const std::string&)>& progress) {
  if (is_up() || !any_guest_lives(folder_)) return false;
  const FolderLock lock(folder_);
  if (is_up() || !any_guest_lives(folder_)) return false;
  progress("the daemon of the lab had died: started again, the guests go on");
  // It may be at work already, and who has started it gone.
  pid_t pid = 0;
  const int daemon = open_holder(folder_, kDaemonName, &pid);
  daemon >= 0 ? wait_for_daemon(daemon) : void(start_daemon(true));
  return true;
}

// Until it answers. The caller holds the folder's lock.
pid_t Lab::start_daemon(bool adopt) const {
  const std::string build = build_folder();
  const std::string log = folder_ + "/log/lab";
  const std::string program = build + "/bin/godwit";
  const pid_t pid = fork();
  if (pid < 0) throw_errno("fork");
  if (pid == 0) {
    setsid();
    const int null = open("/dev/null", O_RDWR);
    const int out = open(log.c_str(), O_WRONLY | O_CREAT | (adopt ? O_APPEND : O_TRUNC), 0644);
    dup2(null, 0);
    dup2(out, 1);
    dup2(out, 2);
    for (int fd = 3; fd < 1024; ++fd) close(fd);
    setenv("GODWIT_BUILD", build.c_str(), 1);
    execl(program.c_str(), program.c_str(), "_daemon", folder_.c_str(), adopt ? "adopt" : "start",
          nullptr);
    _exit(127);
  }
  try {
    wait_for_daemon(open_process(pid));
  } catch (const Error&) {
    if (!adopt) {
      kill_all(folder_);
      clear_folder();
    }
    throw;
  }
  return pid;
}

// The adopting one answers when its guests do.
void Lab::wait_for_daemon(int pidfd) const {
  const double deadline = now_seconds() + 90;
  bool ended = false;
  while (!is_up() && !ended && !interrupted() && now_seconds() < deadline)
    ended = wait_for_end(pidfd, 0.02);
  close(pidfd);
  if (interrupted()) throw Error("interrupted");
  if (!is_up())
    throw Error("the lab does not start; log: " + folder_ + "/log/lab" +
                last_line(folder_ + "/log/lab"));
}

void Lab::down() {
  if (!std::filesystem::exists(folder_ + kMarker)) return;
  const FolderLock lock(folder_);
  try {
    const pid_t pid = status().at("pid");
    const int daemon = open_process(pid);
    std::ignore = request({{"op", "down"}});
    if (daemon >= 0) {
      (void)wait_for_end(daemon, 20);  // it ends when its guests have
      close(daemon);
      waitpid(pid, nullptr, WNOHANG);
    }
  } catch (const LabGone&) {
  }
  kill_all(folder_);
  clear_folder();
}

// $GODWIT_LAB may name any folder: only one that is empty or was a lab is made a lab.
void Lab::claim_folder() const {
  namespace fs = std::filesystem;
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error || !fs::is_directory(folder_)) {
    throw Error(folder_ + " cannot be made: " + (error ? error.message() : "it is a file") +
                ": choose another $GODWIT_LAB");
  }
  if (!fs::exists(folder_ + kMarker) && !fs::is_empty(folder_)) {
    throw Error(folder_ + " is not empty and no lab: choose another $GODWIT_LAB");
  }
  if (!std::ofstream(folder_ + kMarker)) {
    throw Error(folder_ + " cannot be written: " + strerror(errno) +
                ": choose another $GODWIT_LAB");
  }
  chmod(folder_.c_str(), 0700);
}

// Logs stay until the next lab is started here.
void Lab::clear_folder() const {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, ignored)) {
    const std::string name = entry.path().filename();
    if (name != "log" && "/" + name != kMarker) std::filesystem::remove_all(entry.path(), ignored);
  }
}

std::unique_ptr<Process> Lab::start(const std::string& guest, const Argv& argv,
                                    const Json& more) const {
  Json request = {{"argv", argv}, {"merge_stderr", true}};
  request.update(more);
  return std::make_unique<Process>(folder_, guest, request);
}

ExecResult Lab::exec(const std::string& guest, const Argv& argv, double timeout_seconds) const {
  const auto process = start(guest, argv);
  process->write("");
  return process->wait(timeout_seconds);
}

ExecResult Lab::shell(const std::string& guest, const std::string& script,
                      double timeout_seconds) const {
  return exec(guest, {"bash", "-c", script}, timeout_seconds);
}

std::string Lab::must(const std::string& guest, const std::string& script,
                      double timeout_seconds) const {
  const ExecResult result = shell(guest, script, timeout_seconds);
  if (result.code != 0) {
    throw Error(guest + ": " + script.substr(0, 300) + "\nexit code " +
                std::to_string(result.code) + "\n" + result.out);
  }
  return result.out;
}

void Lab::put(const std::string& guest, const std::string& path, const std::string& bytes,
              int mode) const {
  Process process(folder_, guest, {{"path", path}, {"mode", mode}}, FrameType::kPut);
  process.write(bytes);
  process.write("");
  process.wait(120);
}

std::string Lab::get(const std::string& guest, const std::string& path) const {
  Process process(folder_, guest, {{"path", path}}, FrameType::kGet);
  return process.wait(120).out;
}

void Lab::capture_start(const std::string& guest, const std::string& file) const {
  const Json answer = request({{"op", "qmp"},
                               {"guest", guest},
                               {"command",
                                {{"execute", "object-add"},
                                 {"arguments",
                                  {{"qom-type", "filter-dump"},
                                   {"id", "capture"},
                                   {"netdev", "wire"},
                                   {"file", file},
                                   {"maxlen", 65536}}}}}});
  if (answer["answer"].contains("error")) {
    throw Error(guest + ": capture: " + answer["answer"]["error"].value("desc", "?"));
  }
}

void Lab::capture_stop(const std::string& guest) const {
  const Json answer =
      request({{"op", "qmp"},
               {"guest", guest},
               {"command", {{"execute", "object-del"}, {"arguments", {{"id", "capture"}}}}}});
  // With the daemon that it was begun with it ended.
  if (answer["answer"].contains("error")) {
    throw Error(guest + ": capture: " + answer["answer"]["error"].value("desc", "?"));
  }
}

}  // namespace godwit::lab
