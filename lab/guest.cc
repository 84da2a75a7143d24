// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest.h"

#include <fcntl.h>
#include <glib-unix.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <tuple>
#include <vector>

#include "error.h"
#include "lab_process.h"
#include "plan.h"
#include "unix_socket.h"

namespace godwit::lab {
namespace {

// /dev/kvm may be there on processors without VMX and SVM; what is behind it then emulates, and is
// far slower than TCG. $GODWIT_ACCEL decides otherwise.
bool use_kvm() {
  const char* wanted = getenv("GODWIT_ACCEL");
  if (wanted != nullptr && *wanted != 0) return strcmp(wanted, "kvm") == 0;
  if (access("/dev/kvm", R_OK | W_OK) != 0) return false;
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    if (line.rfind("flags", 0) != 0) continue;
    return line.find(" vmx") != std::string::npos || line.find(" svm") != std::string::npos;
  }
  return false;
}

// A comma ends a value of QEMU's options.
std::string quoted(std::string path) {
  for (std::size_t at = 0; (at = path.find(',', at)) != std::string::npos; at += 2) {
    path.insert(at, 1, ',');
  }
  return path;
}

void in_child(gpointer file) {
  setpgid(0, 0);
  if (!hold_pid_file(static_cast<const char*>(file))) _exit(126);
}

}  // namespace

Guest::Guest(const GuestOptions& options, std::function<void(Guest&)> on_change)
    : options_(options), name_(guest_name(options.index)), on_change_(std::move(on_change)) {
  if (options_.adopt) {
    pidfd_ = open_holder(options_.folder, name_, &pid_);
    if (pidfd_ < 0) {
      state_ = State::kDead;
      return;
    }
    watch_process();
    // What a command of the old daemon was still doing to the wire.
    qmp({{"execute", "object-del"}, {"arguments", {{"id", "capture"}}}},
        [](const nlohmann::json&) {});
  } else {
    start();
  }
  connect_agent();
}

void Guest::start(const std::string& incoming) {
  const std::string base = options_.folder + "/" + name_;
  const std::string image = options_.build + "/image/";
  const bool kvm = use_kvm();
  std::vector<std::string> args = {
      "qemu-system-x86_64",
      "-name",
      name_,
      "-machine",
      "q35",
      "-accel",
      kvm ? "kvm" : "tcg,thread=multi",
      "-cpu",
      kvm ? "host" : "max",
      "-smp",
      "1",
      "-m",
      std::to_string(options_.memory_mib),
      "-nodefaults",
      "-no-user-config",
      "-no-reboot",
      "-display",
      "none",
      "-kernel",
      image + "vmlinuz",
      "-initrd",
      image + "initrd.zst",
      "-append",
      "console=ttyS0 quiet loglevel=4 mitigations=off random.trust_cpu=on tsc=reliable "
      "no_timer_check panic=-1 lab.name=" +
          name_ + " lab.index=" + std::to_string(options_.index),
      "-drive",
      "file=" + quoted(image) + "base.sqfs,if=virtio,format=raw,readonly=on",
      "-drive",
      "file=" + quoted(image) + "godwit.sqfs,if=virtio,format=raw,readonly=on",
      "-device",
      "virtio-rng-pci",
      "-serial",
      "file:" + options_.folder + "/log/" + name_ + ".serial",
      "-device",
      "virtio-serial-pci",
      "-chardev",
      "socket,id=agent,path=" + quoted(base) + ".agent,server=on,wait=off",
      "-device",
      "virtserialport,chardev=agent,name=org.godwit.agent",
      "-virtfs",
      "local,path=" + quoted(options_.folder) +
          "/share,mount_tag=share,security_model=none,multidevs=remap",
      "-qmp",
      "unix:" + quoted(base) + ".qmp,server=on,wait=off",
      "-device",
      options_.nic_port + ",id=wire",
      "-device",
      "godwit,netdev=wire,id=nic,mac=" + nic_mac(options_.index) + options_.nic_options,
  };
  if (!options_.virtio_port.empty()) {
    args.insert(args.end(), {"-device", options_.virtio_port + ",id=plain", "-device",
                             "virtio-net-pci,netdev=plain,mac=" + virtio_mac(options_.index)});
  }
  if (!incoming.empty()) args.insert(args.end(), {"-incoming", incoming});
  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  argv.push_back(nullptr);
  gchar** env = g_get_environ();
  const std::string nic = options_.build + "/lib/godwit-nic.so";
  env = g_environ_setenv(env, "LD_PRELOAD", nic.c_str(), TRUE);

  const int log = open(log_file().c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (log < 0) {
    g_strfreev(env);
    throw_errno(log_file());
  }
  const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  const std::string lock = pid_file(options_.folder, name_);
  g_autoptr(GError) error = nullptr;
  const gboolean started = g_spawn_async_with_fds(
      nullptr, argv.data(), env,
      static_cast<GSpawnFlags>(G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_SEARCH_PATH |
                               G_SPAWN_LEAVE_DESCRIPTORS_OPEN),
      in_child, const_cast<char*>(lock.c_str()), &pid_, null, log, log, &error);
  g_strfreev(env);
  close(log);
  close(null);
  if (!started) throw Error(std::string("QEMU does not start: ") + error->message);
  pidfd_ = open_process(pid_);
  if (pidfd_ < 0) throw_errno("pidfd_open");
  watch_process();
}

void Guest::watch_process() {
  started_ = g_get_monotonic_time();
  exit_source_ = g_unix_fd_add(pidfd_, G_IO_IN, on_exit, this);
}

Guest::~Guest() {
  kill();
  for (const guint source : {exit_source_, retry_source_}) {
    if (source != 0) g_source_remove(source);
  }
  disconnect_agent();
  if (pidfd_ >= 0) {
    if (!wait_for_end(pidfd_, 10)) g_warning("%s: QEMU does not end", name_.c_str());
    waitpid(pid_, nullptr, WNOHANG);
    close(pidfd_);
  }
  for (const char* kind : {".agent", ".qmp", ".pid"})
    unlink((options_.folder + "/" + name_ + kind).c_str());
}

std::string Guest::log_file() const { return options_.folder + "/log/" + name_ + ".qemu"; }

void Guest::kill() {
  if (pidfd_ >= 0) kill_process(pidfd_);
}

void Guest::restart(const std::string& incoming) {
  if (options_.adopt)
    throw Error(name_ + " was started by another daemon, which alone can start it again");
  if (pidfd_ >= 0) {
    kill();
    if (!wait_for_end(pidfd_, 10)) throw Error(name_ + ": QEMU does not end");
    g_source_remove(exit_source_);
    on_exit(pidfd_, G_IO_IN, this);
  }
  disconnect_agent();
  if (retry_source_ != 0) g_source_remove(retry_source_);
  retry_source_ = 0;
  was_saved_ = true;
  state_ = State::kBooting;
  start(incoming);
  connect_agent();
}

gboolean Guest::on_exit(gint, GIOCondition, gpointer data) {
  Guest& guest = *static_cast<Guest*>(data);
  waitpid(guest.pid_, nullptr, WNOHANG);  // an adopted one is not our child
  close(guest.pidfd_);
  guest.exit_source_ = 0;
  guest.pidfd_ = -1;
  guest.pid_ = 0;
  guest.state_ = State::kDead;
  guest.qmp_.disconnect(guest.name_ + " has died; log: " + guest.log_file());
  guest.end_streams("the guest has died; log: " + guest.log_file());
  guest.on_change_(guest);
  return G_SOURCE_REMOVE;
}

void Guest::end_streams(const std::string& why) {
  auto streams = std::move(streams_);
  streams_.clear();
  for (auto& [id, receive] : streams)
    receive(FrameType::kExit, nlohmann::json{{"error", why}}.dump());
}

// QEMU listens a little after it has started.
void Guest::connect_agent() {
  agent_ = connect_unix(options_.folder + "/" + name_ + ".agent");
  if (agent_ < 0) {
    if (retry_source_ == 0) retry_source_ = g_timeout_add(100, on_retry, this);
    return;
  }
  g_unix_set_fd_nonblocking(agent_, TRUE, nullptr);
  // A virtio-serial port of QEMU 7.2 that was writing when its host hung up stays shut for the next
  // one, and opens again when that hangs up.
  if (options_.adopt || was_saved_) {
    retry_source_ = g_timeout_add(patience_ms_, on_retry, this);
    patience_ms_ *= 2;
  }
  begin_anew();
}

gboolean Guest::on_retry(gpointer data) {
  Guest& guest = *static_cast<Guest*>(data);
  guest.retry_source_ = 0;
  if (guest.state_ == State::kDead || guest.synced_) return G_SOURCE_REMOVE;
  guest.disconnect_agent();
  guest.connect_agent();
  return G_SOURCE_REMOVE;
}

void Guest::disconnect_agent() {
  if (agent_source_ != 0) g_source_remove(agent_source_);
  agent_source_ = 0;
  if (agent_ >= 0) close(agent_);
  agent_ = -1;
  synced_ = false;
}

// What comes from the agent may be the rest of what it had to say to another daemon, and it may be
// waiting for the rest of what that one had said. It forgets all that at the SYNC; what it says
// after the nonce, which nobody could know before, is new.
void Guest::begin_anew() {
  if (state_ == State::kReady) state_ = State::kBooting;
  end_streams("the guest's agent was started anew");
  nonce_.resize(kNonceBytes);
  if (getrandom(nonce_.data(), nonce_.size(), 0) != static_cast<ssize_t>(nonce_.size()))
    throw_errno("getrandom");
  synced_ = false;
  from_agent_.clear();
  to_agent_.clear();
  append_sync(nonce_, &to_agent_);
  watch_agent();
  write_agent();
}

void Guest::watch_agent() {
  if (agent_source_ != 0) g_source_remove(agent_source_);
  agent_writing_ = !to_agent_.empty();
  const auto condition =
      static_cast<GIOCondition>(G_IO_IN | G_IO_HUP | (agent_writing_ ? G_IO_OUT : 0));
  agent_source_ = g_unix_fd_add(agent_, condition, on_agent_io, this);
}

gboolean Guest::on_agent_io(gint fd, GIOCondition, gpointer data) {
  Guest& guest = *static_cast<Guest*>(data);
  char buffer[65536];
  for (;;) {
    const ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n == 0) {
      guest.disconnect_agent();
      if (guest.retry_source_ == 0) guest.retry_source_ = g_timeout_add(100, on_retry, &guest);
      return G_SOURCE_REMOVE;
    }
    if (n < 0) break;
    guest.from_agent_.append(buffer, static_cast<std::size_t>(n));
    if (n < static_cast<ssize_t>(sizeof(buffer))) break;
  }
  try {
    guest.take_frames();
  } catch (const Error& error) {
    g_message("%s: %s", guest.name_.c_str(), error.what());
    guest.begin_anew();
  }
  guest.write_agent();
  return G_SOURCE_CONTINUE;
}

void Guest::take_frames() {
  if (!synced_) {
    const std::size_t at = from_agent_.find(nonce_);
    synced_ = at != std::string::npos;
    const std::size_t kept = std::min(from_agent_.size(), kNonceBytes - 1);
    from_agent_.erase(0, synced_ ? at + kNonceBytes : from_agent_.size() - kept);
    if (!synced_) return;
  }
  Frame frame;
  while (take_frame(&from_agent_, &frame)) {
    if (frame.type == FrameType::kHello) {
      state_ = State::kReady;
      ready_seconds_ = static_cast<double>(g_get_monotonic_time() - started_) / G_USEC_PER_SEC;
      on_change_(*this);
      continue;
    }
    const auto found = streams_.find(frame.stream);
    if (found == streams_.end()) continue;
    const Receive receive = found->second;
    if (frame.type == FrameType::kExit) streams_.erase(found);
    receive(frame.type, frame.payload);
  }
}

void Guest::write_agent() {
  if (agent_ < 0) return;
  while (!to_agent_.empty()) {
    const ssize_t n = ::send(agent_, to_agent_.data(), to_agent_.size(), MSG_NOSIGNAL);
    if (n <= 0) break;
    to_agent_.erase(0, static_cast<std::size_t>(n));
  }
  if (agent_writing_ != !to_agent_.empty()) watch_agent();
}

std::uint32_t Guest::open_stream(Receive receive) {
  const std::uint32_t stream = next_stream_++;
  streams_[stream] = std::move(receive);
  return stream;
}

void Guest::send(std::uint32_t stream, FrameType type, const std::string& payload) {
  if (streams_.find(stream) != streams_.end()) send_frame(stream, type, payload);
}

void Guest::send_frame(std::uint32_t stream, FrameType type, const std::string& payload) {
  append_frame(stream, type, payload, &to_agent_);
  write_agent();
}

void Guest::close_stream(std::uint32_t stream) {
  if (streams_.erase(stream) != 0) send_frame(stream, FrameType::kSignal, "{\"signal\": 9}");
}

void Guest::qmp(nlohmann::json command, Qmp::Done done) {
  // Fails only before QEMU listens, and then the answer says so.
  std::ignore = qmp_.connect(options_.folder + "/" + name_ + ".qmp");
  qmp_.execute(std::move(command), std::move(done));
}

}  // namespace godwit::lab
