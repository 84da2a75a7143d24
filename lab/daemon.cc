// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon.h"

#include <fcntl.h>
#include <glib-unix.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "error.h"
#include "frame.h"
#include "guest.h"
#include "lab_process.h"
#include "plan.h"
#include "segment.h"
#include "unix_socket.h"

namespace godwit::lab {
namespace {

using Json = nlohmann::json;

// For adopted guests to answer: one may still be booting, or not run at all.
constexpr guint kAdoptSeconds = 60;

class Daemon;

// One connected command. It asks with one line of JSON and gets one line; after
// "stream" the connection carries frames of one stream of a guest's agent.
class Client {
 public:
  Client(Daemon& daemon, int fd, std::uint64_t number);
  ~Client();
  void reply(const Json& answer);
  void send_frame(FrameType type, const std::string& payload);
  [[nodiscard]] std::uint64_t number() const { return number_; }

 private:
  static gboolean on_io(gint fd, GIOCondition condition, gpointer data);
  bool read_all();
  void write_some();
  void watch();
  void handle_line(const std::string& line);
  void handle_frames();

  Daemon& daemon_;
  int fd_;
  std::uint64_t number_;
  guint source_ = 0;
  bool writing_ = false;
  bool framed_ = false;
  bool closing_ = false;
  Guest* guest_ = nullptr;
  std::uint32_t stream_ = 0;
  std::string in_;
  std::string out_;
};

std::string not_up(const Guest& guest) {
  return guest.name() + " is not up; log: " + guest.log_file() +
         (guest.state() == Guest::State::kDead
              ? "; its QEMU has ended: 'godwit down', then 'godwit up'"
              : "; it does not answer yet");
}

class Daemon {
 public:
  Daemon(std::string folder, const LabOptions& options, bool adopt)
      : folder_(std::move(folder)),
        options_(options),
        adopt_(adopt),
        wire_(ports(options), adopt ? any_guest(folder_, options) : 0) {}

  int run() {
    loop_ = g_main_loop_new(nullptr, FALSE);
    signal(SIGPIPE, SIG_IGN);
    g_unix_signal_add(SIGTERM, on_signal, this);
    g_unix_signal_add(SIGINT, on_signal, this);
    if (!adopt_) listen();
    for (int i = 1; i <= options_.guests; ++i) {
      GuestOptions guest;
      guest.index = i;
      guest.folder = folder_;
      guest.build = build_folder();
      guest.adopt = adopt_;
      if (!adopt_) {
        guest.nic_port = wire_.device(guest_name(i));
        if (options_.virtio) guest.virtio_port = wire_.device(plain_port(guest_name(i)));
      }
      if (!options_.nic_options.empty()) guest.nic_options = "," + options_.nic_options;
      guest.memory_mib = options_.memory_mib;
      guests_.push_back(std::make_unique<Guest>(guest, [this](Guest& g) {
        unplug_if_dead(g);
        g_message("%s: %s", g.name().c_str(),
                  g.state() == Guest::State::kReady ? "ready" : "QEMU has ended");
        listen_if_adopted();
      }));
      unplug_if_dead(*guests_.back());
    }
    if (adopt_) {
      g_timeout_add_seconds(kAdoptSeconds, on_adopt_timeout, this);
      listen_if_adopted();
    }
    g_main_loop_run(loop_);
    clients_.clear();
    for (auto& guest : guests_) guest->kill();
    guests_.clear();
    if (listener_ >= 0) close(listener_);
    unlink(socket_path().c_str());
    unlink(pid_file(folder_, kDaemonName).c_str());
    g_main_loop_unref(loop_);
    return 0;
  }

  Guest* guest(const std::string& name) {
    for (auto& guest : guests_) {
      if (guest->name() == name) return guest.get();
    }
    return nullptr;
  }

  // The answer; null: it comes later.
  Json handle(Client& client, const Json& request) {
    const std::string op = request.value("op", "");
    if (op == "status") return status();
    if (op == "down") {
      g_idle_add(
          [](gpointer data) -> gboolean {
            g_main_loop_quit(static_cast<Daemon*>(data)->loop_);
            return G_SOURCE_REMOVE;
          },
          this);
      return {{"ok", true}};
    }
    Guest* target = guest(request.value("guest", ""));
    if (target == nullptr) {
      return {{"error",
               "no guest " + request.value("guest", std::string("?")) + "; see 'godwit status'"}};
    }
    if (op == "qmp") {
      if (target->state() == Guest::State::kDead) return {{"error", not_up(*target)}};
      // The client may have gone when QEMU answers.
      target->qmp(request.at("command"), [this, number = client.number()](const Json& answer) {
        if (Client* asker = find(number)) asker->reply({{"ok", true}, {"answer", answer}});
      });
      return {};
    }
    if (op == "kill") {
      target->kill();
      return {{"ok", true}};
    }
    if (op == "restart") {
      target->restart(request.at("incoming"));
      return {{"ok", true}};
    }
    return {{"error", "unknown request " + op}};
  }

  Client* find(std::uint64_t number) {
    for (auto& client : clients_) {
      if (client->number() == number) return client.get();
    }
    return nullptr;
  }

  void remove(Client* client) {
    std::erase_if(clients_, [client](const auto& entry) { return entry.get() == client; });
  }

 private:
  [[nodiscard]] std::string socket_path() const { return folder_ + "/control"; }

  static std::string plain_port(const std::string& guest) { return guest + "-plain"; }

  static std::vector<std::string> ports(const LabOptions& options) {
    std::vector<std::string> all;
    for (int i = 1; i <= options.guests; ++i) {
      all.push_back(guest_name(i));
      if (options.virtio) all.push_back(plain_port(guest_name(i)));
    }
    return all;
  }

  static pid_t any_guest(const std::string& folder, const LabOptions& options) {
    pid_t pid = 0;
    for (int i = 1; i <= options.guests; ++i) {
      const int fd = open_holder(folder, guest_name(i), &pid);
      if (fd < 0) continue;
      close(fd);
      return pid;
    }
    throw Error("no guest of this lab lives");
  }

  // What others send to it is dropped at once.
  void unplug_if_dead(const Guest& guest) {
    if (guest.state() != Guest::State::kDead) return;
    wire_.close_port(guest.name());
    wire_.close_port(plain_port(guest.name()));
  }

  Json status() {
    Json guests = Json::array();
    for (const auto& guest : guests_) {
      static const char* const kStates[] = {"booting", "ready", "dead"};
      guests.push_back({{"name", guest->name()},
                        {"state", kStates[static_cast<int>(guest->state())]},
                        {"ip", guest_ip(guest->index())},
                        {"mac", nic_mac(guest->index())},
                        {"pid", guest->pid()},
                        {"ready_s", guest->ready_seconds()},
                        {"log", guest->log_file()}});
    }
    Json ports = Json::array();
    for (const auto& port : wire_.statistics()) {
      ports.push_back({{"name", port.name},
                       {"received", port.received},
                       {"sent", port.sent},
                       {"dropped", port.dropped}});
    }
    return {{"ok", true},       {"folder", folder_}, {"pid", getpid()}, {"virtio", options_.virtio},
            {"guests", guests}, {"ports", ports}};
  }

  // The command that waits for an adoption wants guests that answer, not only a daemon.
  void listen_if_adopted() {
    if (listener_ >= 0 || guests_.size() < static_cast<std::size_t>(options_.guests)) return;
    bool any_lives = false;
    for (const auto& guest : guests_) {
      if (guest->state() == Guest::State::kBooting) return;
      any_lives |= guest->state() == Guest::State::kReady;
    }
    any_lives ? listen() : g_main_loop_quit(loop_);
  }

  static gboolean on_adopt_timeout(gpointer data) {
    Daemon& daemon = *static_cast<Daemon*>(data);
    if (daemon.listener_ < 0) daemon.listen();
    return G_SOURCE_REMOVE;
  }

  void listen() {
    const std::string path = socket_path();
    const sockaddr_un address = unix_address(path);
    unlink(path.c_str());
    listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
        ::listen(listener_, 64) != 0) {
      throw_errno(path);
    }
    chmod(path.c_str(), 0600);
    g_unix_fd_add(listener_, G_IO_IN, on_connect, this);
  }

  static gboolean on_connect(gint fd, GIOCondition, gpointer data) {
    Daemon& daemon = *static_cast<Daemon*>(data);
    const int client = accept4(fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client >= 0) {
      daemon.clients_.push_back(std::make_unique<Client>(daemon, client, ++daemon.last_client_));
    }
    return G_SOURCE_CONTINUE;
  }

  static gboolean on_signal(gpointer data) {
    g_main_loop_quit(static_cast<Daemon*>(data)->loop_);
    return G_SOURCE_CONTINUE;
  }

  std::string folder_;
  LabOptions options_;
  bool adopt_;
  Segment wire_;
  GMainLoop* loop_ = nullptr;
  int listener_ = -1;
  std::uint64_t last_client_ = 0;
  std::vector<std::unique_ptr<Guest>> guests_;
  std::vector<std::unique_ptr<Client>> clients_;
};

Client::Client(Daemon& daemon, int fd, std::uint64_t number)
    : daemon_(daemon), fd_(fd), number_(number) {
  watch();
}

Client::~Client() {
  if (guest_ != nullptr && stream_ != 0) guest_->close_stream(stream_);
  if (source_ != 0) g_source_remove(source_);
  close(fd_);
}

void Client::watch() {
  if (source_ != 0) g_source_remove(source_);
  writing_ = !out_.empty();
  source_ = g_unix_fd_add(
      fd_, static_cast<GIOCondition>(G_IO_IN | G_IO_HUP | (writing_ ? G_IO_OUT : 0)), on_io, this);
}

gboolean Client::on_io(gint, GIOCondition, gpointer data) {
  Client& client = *static_cast<Client*>(data);
  const bool open = client.read_all();
  client.write_some();
  if (!open || (client.closing_ && client.out_.empty())) {
    client.source_ = 0;
    client.daemon_.remove(&client);
    return G_SOURCE_REMOVE;
  }
  return G_SOURCE_CONTINUE;
}

bool Client::read_all() {
  char buffer[65536];
  for (;;) {
    const ssize_t n = read(fd_, buffer, sizeof(buffer));
    if (n == 0) return false;
    if (n < 0) {
      if (errno == EAGAIN || errno == EINTR) break;
      return false;
    }
    in_.append(buffer, static_cast<std::size_t>(n));
    if (in_.size() > (4U << 20)) return false;
  }
  for (std::size_t end; !framed_ && (end = in_.find('\n')) != std::string::npos;) {
    const std::string line = in_.substr(0, end);
    in_.erase(0, end + 1);
    handle_line(line);
  }
  if (framed_) {
    try {
      handle_frames();
    } catch (const Error&) {
      return false;
    }
  }
  return true;
}

void Client::handle_line(const std::string& line) {
  const Json request = Json::parse(line, nullptr, false);
  if (!request.is_object()) {
    reply({{"error", "not a request"}});
    return;
  }
  try {
    if (request.value("op", "") != "stream") {
      const Json answer = daemon_.handle(*this, request);
      if (!answer.is_null()) reply(answer);
      return;
    }
    guest_ = daemon_.guest(request.value("guest", ""));
    if (guest_ == nullptr || guest_->state() != Guest::State::kReady) {
      const std::string name = request.value("guest", "?");
      reply({{"error",
              guest_ == nullptr ? "no guest " + name + "; see 'godwit status'" : not_up(*guest_)}});
      guest_ = nullptr;
      return;
    }
    stream_ = guest_->open_stream([this](FrameType type, const std::string& payload) {
      if (type == FrameType::kExit) stream_ = 0;
      send_frame(type, payload);
    });
    framed_ = true;
    reply({{"ok", true}});
  } catch (const std::exception& error) {
    reply({{"error", error.what()}});
  }
}

void Client::handle_frames() {
  Frame frame;
  while (take_frame(&in_, &frame)) {
    if (stream_ != 0) guest_->send(stream_, frame.type, frame.payload);
  }
}

void Client::reply(const Json& answer) {
  out_ += answer.dump() + "\n";
  write_some();
}

void Client::send_frame(FrameType type, const std::string& payload) {
  append_frame(1, type, payload, &out_);
  write_some();
}

void Client::write_some() {
  while (!out_.empty()) {
    const ssize_t n = ::send(fd_, out_.data(), out_.size(), MSG_NOSIGNAL);
    if (n <= 0) break;
    out_.erase(0, static_cast<std::size_t>(n));
  }
  if (writing_ != !out_.empty()) watch();
}

std::string options_file(const std::string& folder) { return folder + "/lab.json"; }

}  // namespace

void save_options(const std::string& folder, const LabOptions& options) {
  const std::string file = options_file(folder);
  std::ofstream out(file + ".new");
  out << Json{{"guests", options.guests},
              {"virtio", options.virtio},
              {"nic_options", options.nic_options},
              {"memory_mib", options.memory_mib}}
             .dump()
      << "\n";
  out.close();
  if (!out || rename((file + ".new").c_str(), file.c_str()) != 0) throw_errno(file);
}

int run_daemon(const std::string& folder, bool adopt) {
  std::ifstream in(options_file(folder));
  const Json saved = Json::parse(in);
  LabOptions options;
  options.guests = saved.at("guests");
  options.virtio = saved.at("virtio");
  options.nic_options = saved.at("nic_options");
  options.memory_mib = saved.at("memory_mib");
  if (!hold_pid_file(pid_file(folder, kDaemonName).c_str()))
    throw Error("the lab has another daemon");
  return Daemon(folder, options, adopt).run();
}

}  // namespace godwit::lab
