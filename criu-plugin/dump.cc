// SPDX-License-Identifier: GPL-2.0-or-later
#include "dump.h"

#include <fcntl.h>
#include <poll.h>
#include <rdma/ib_user_verbs.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <set>
#include <string>
#include <vector>

#include "criu_api.h"
#include "image.h"
#include "proc.h"
#include "uverbs.h"

namespace godwit::criu {
namespace {

struct Frozen {
  Fd context;
  // Kept until this process ends, however it ends: CRIU has let the tasks go by then, or killed
  // them, and the driver decides by that between thaw and tombstones.
  Fd lease;
  Fd async;  // its asynchronous event descriptor
  std::uint64_t cookie = 0;
  image::Context* image = nullptr;
};

struct Dump {
  bool scanned = false;
  image::Image image;
  std::vector<Frozen> contexts;
};

Dump& state() {
  static Dump dump;
  return dump;
}

constexpr char kEventLink[] = "anon_inode:[infinibandevent]";

struct Found {
  Fd fd;
  int pid = 0;
  int number = 0;
  std::string device;  // empty: an event descriptor
  std::string path;
};

struct Tasks {
  std::set<int> pids;
  std::vector<Found> contexts;
  std::vector<Found> events;
};

int find_descriptor(int pid, int pidfd, int number, Tasks* tasks) {
  struct stat st;
  if (stat(fd_path(pid, number).c_str(), &st)) return 0;
  if (is_rdma_cm(st)) {
    godwit_error(
        "process %d has an rdma_cm descriptor open (number %d): connections made by "
        "rdma_cm cannot be checkpointed, connect over TCP instead",
        pid, number);
    return -EOPNOTSUPP;
  }
  Found item;
  item.device = godwit_device_of(st);
  item.path = link_of(fd_path(pid, number));
  if (item.device.empty() && item.path != kEventLink) return 0;
  item.fd.reset(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd, number, 0)));
  if (!item.fd.valid()) {
    int error = errno;
    godwit_error("cannot take descriptor %d of process %d: %s", number, pid, strerror(error));
    return -error;
  }
  item.pid = pid;
  item.number = number;
  (item.device.empty() ? tasks->events : tasks->contexts).push_back(std::move(item));
  return 0;
}

// The tasks being dumped are exactly those that this process traces.
int find_tasks(Tasks* tasks) {
  for (int pid : numbers_in("/proc")) {
    if (pid == getpid() || tracer_of(pid) != getpid()) continue;
    tasks->pids.insert(pid);
    Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    if (!pidfd.valid()) {
      int error = errno;
      if (error == ESRCH) continue;
      godwit_error("cannot look into process %d: %s", pid, strerror(error));
      return -error;
    }
    for (int number : numbers_in("/proc/" + std::to_string(pid) + "/fd"))
      if (int ret = find_descriptor(pid, pidfd.get(), number, tasks)) return ret;
  }
  return 0;
}

// A process outside the dump that holds one of the files would keep it, frozen for ever.
int refuse_foreign_holders(const Tasks& tasks) {
  for (int pid : numbers_in("/proc")) {
    if (pid == getpid() || tasks.pids.count(pid)) continue;
    for (int number : numbers_in("/proc/" + std::to_string(pid) + "/fd")) {
      struct stat st;
      if (stat(fd_path(pid, number).c_str(), &st) || godwit_device_of(st).empty()) continue;
      for (const Found& item : tasks.contexts)
        if (same_file(pid, number, item.fd.get())) {
          godwit_error(
              "process %d, which is not being dumped, shares the verbs context of process "
              "%d (descriptor %d there, %d here): end it, or dump it as well",
              pid, item.pid, number, item.number);
          return -EBUSY;
        }
    }
  }
  return 0;
}

int add_context(Found& item) {
  Dump& dump = state();
  std::uint64_t cookie = 0;
  int ret = context_cookie(item.fd.get(), &cookie);
  if (ret == -EINVAL) {
    godwit_error(
        "process %d, descriptor %d: a uverbs file without a context cannot be checkpointed",
        item.pid, item.number);
    return -EOPNOTSUPP;
  }
  if (ret) {
    godwit_error("process %d, descriptor %d: cannot read its verbs context: %s", item.pid,
                 item.number, strerror(-ret));
    return ret;
  }
  for (const Frozen& other : dump.contexts)
    if (other.cookie == cookie) return 0;  // inherited, or duplicated
  Frozen frozen;
  frozen.context = std::move(item.fd);
  frozen.cookie = cookie;
  frozen.image = dump.image.add_contexts();
  frozen.image->set_path(item.path);
  frozen.image->set_doorbell_page(0);
  if (!dump.image.device().empty() && dump.image.device() != item.device) {
    godwit_error(
        "process %d uses %s, and another context is on %s: contexts of two NICs cannot be "
        "checkpointed together",
        item.pid, item.device.c_str(), dump.image.device().c_str());
    return -EOPNOTSUPP;
  }
  dump.image.set_device(item.device);
  dump.contexts.push_back(std::move(frozen));
  return 0;
}

// An event descriptor is restored together with the one context that it belongs to.
int refuse_unknown_events(Tasks* tasks) {
  for (Found& item : tasks->events) {
    godwit_identify_out what = {};
    Frozen* owner = nullptr;
    for (Frozen& frozen : state().contexts)
      if (identify(frozen.context.get(), item.fd.get(), &what) == 0) {
        owner = &frozen;
        break;
      }
    if (!owner) {
      godwit_error(
          "process %d, descriptor %d: an event descriptor whose context has been closed, or "
          "is of another driver, cannot be checkpointed",
          item.pid, item.number);
      return -EOPNOTSUPP;
    }
    if (what.kind != GODWIT_IDENTIFY_ASYNC) continue;
    if (!owner->async.valid()) {
      owner->async = std::move(item.fd);
    } else if (!same_file(getpid(), item.fd.get(), owner->async.get())) {
      godwit_error(
          "process %d, descriptor %d: a second asynchronous event descriptor of one context "
          "cannot be checkpointed",
          item.pid, item.number);
      return -EOPNOTSUPP;
    }
  }
  return 0;
}

int refuse_unknown_objects(const Frozen& frozen) {
  std::vector<godwit_record> records;
  std::vector<std::uint8_t> area;
  godwit_dump_out out;
  int ret = dump(frozen.context.get(), &records, &area, &out);
  if (ret) {
    godwit_error("cannot read the objects of a context: %s", strerror(-ret));
    return ret;
  }
  for (const godwit_record& record : records)
    if (record.type < GODWIT_RECORD_CONTEXT || record.type > GODWIT_RECORD_QP) {
      godwit_error("%s with handle %u cannot be checkpointed", object_name(record.type),
                   record.handle);
      return -EOPNOTSUPP;
    }
  return 0;
}

int freeze(Frozen* frozen, std::uint64_t move) {
  godwit_lease_info info = {};
  info.move = move;
  int ret = lease(frozen->context.get(), &info, &frozen->lease);
  if (ret) {
    const char* hint =
        ret == -ETXTBSY || ret == -EOPNOTSUPP ? ": the kernel's log names the process" : "";
    godwit_error("cannot freeze a context: %s%s", strerror(-ret), hint);
    return ret;
  }
  std::vector<godwit_record> records;
  std::vector<std::uint8_t> area;
  godwit_dump_out out;
  ret = dump(frozen->context.get(), &records, &area, &out);
  if (ret) {
    godwit_error("cannot dump a frozen context: %s", strerror(-ret));
    return ret;
  }
  to_context(records, area, frozen->image);
  godwit_info("context at doorbell page %u frozen: %zu objects", frozen->image->doorbell_page(),
              records.size());
  return 0;
}

// An orchestrator that has reserved QPNs for this move says under which id. 0: any will do.
std::uint64_t wanted_move() {
  const char* text = getenv("GODWIT_MOVE");
  return text ? std::strtoull(text, nullptr, 16) : 0;
}

/*
 * The hook is told neither the task nor what else it has open, and an event
 * descriptor may come before its context. So the first call looks at all tasks,
 * refuses what it must while everything still runs in the device, and freezes all
 * contexts before the first page of any task is read.
 */
int scan() {
  Dump& dump = state();
  Tasks tasks;
  if (int ret = find_tasks(&tasks)) return ret;
  if (int ret = refuse_foreign_holders(tasks)) return ret;
  for (Found& item : tasks.contexts)
    if (int ret = add_context(item)) return ret;
  if (int ret = refuse_unknown_events(&tasks)) return ret;
  for (const Frozen& frozen : dump.contexts)
    if (int ret = refuse_unknown_objects(frozen)) return ret;
  std::uint64_t move = wanted_move();
  while (move == 0)
    if (getrandom(&move, sizeof(move), 0) != sizeof(move)) return -EIO;
  dump.image.set_version(kImageVersion);
  dump.image.set_move(move);
  dump.image.set_driver_abi(GODWIT_UVERBS_ABI);
  dump.image.set_state_version(state_version_of(dump.image.device()));
  for (Frozen& frozen : dump.contexts)
    if (int ret = freeze(&frozen, move)) return ret;
  return 0;
}

image::Object* object_by_user_handle(image::Context* context, std::uint32_t type,
                                     std::uint64_t user_handle) {
  for (auto& object : *context->mutable_objects())
    if (object.type() == type && object.user_handle() == user_handle) return &object;
  return nullptr;
}

bool readable(int fd) {
  pollfd entry = {.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&entry, 1, 0) == 1 && (entry.revents & POLLIN);
}

// Unread events go into the image, in order. Each is noted with the driver, which gives it back if
// the dump ends in a thaw, and is no longer counted as raised.
int drain_channel(const Frozen& frozen, int fd, std::uint64_t cookie) {
  ib_uverbs_comp_event_desc event;
  while (readable(fd)) {
    if (read(fd, &event, sizeof(event)) != sizeof(event)) return -EIO;
    image::Object* cq = object_by_user_handle(frozen.image, GODWIT_RECORD_CQ, event.cq_handle);
    if (!cq) continue;  // destroyed meanwhile
    godwit_event_in note = {.what = GODWIT_EVENT_NOTE | GODWIT_EVENT_COMP, .event_type = 0};
    if (int ret = criu::event(frozen.context.get(), GODWIT_RECORD_CQ, cq->handle(), note))
      return ret;
    cq->set_comp_events(cq->comp_events() - 1);
    auto* saved = frozen.image->add_comp_events();
    saved->set_channel(cookie);
    saved->set_user_handle(event.cq_handle);
  }
  return 0;
}

int drain_async(const Frozen& frozen, int fd) {
  ib_uverbs_async_event_desc event;
  while (readable(fd)) {
    if (read(fd, &event, sizeof(event)) != sizeof(event)) return -EIO;
    const std::uint32_t owner = event_owner(event.event_type);
    godwit_event_in note = {.what = GODWIT_EVENT_NOTE, .event_type = event.event_type};
    std::uint32_t handle = 0;
    if (owner) {
      image::Object* object = object_by_user_handle(frozen.image, owner, event.element);
      if (!object) continue;
      handle = object->handle();
      object->set_async_events(object->async_events() - 1);
    }
    if (int ret = criu::event(frozen.context.get(), owner, handle, note)) return ret;
    auto* saved = frozen.image->add_async_events();
    saved->set_element(event.element);
    saved->set_type(event.event_type);
  }
  return 0;
}

void set_file(image::File* file, int fd, int id) {
  file->set_id(static_cast<std::uint32_t>(id));
  file->set_flags(static_cast<std::uint32_t>(fcntl(fd, F_GETFL)));
}

int dump_context_file(int fd, int id) {
  std::uint64_t cookie = 0;
  int ret = context_cookie(fd, &cookie);
  if (ret) {
    godwit_error("a uverbs descriptor without a context (file %#x) cannot be checkpointed", id);
    return -EOPNOTSUPP;
  }
  for (Frozen& frozen : state().contexts)
    if (frozen.cookie == cookie) {
      set_file(frozen.image->mutable_file(), fd, id);
      return 0;
    }
  godwit_error("file %#x: its context was not found among the tasks", id);
  return -EINVAL;
}

int dump_event_file(int fd, int id) {
  for (Frozen& frozen : state().contexts) {
    godwit_identify_out what = {};
    if (identify(frozen.context.get(), fd, &what)) continue;
    if (what.kind == GODWIT_IDENTIFY_ASYNC) {
      set_file(frozen.image->mutable_async(), fd, id);
      return drain_async(frozen, fd);
    }
    image::Channel* channel = nullptr;
    for (auto& known : *frozen.image->mutable_channels())
      if (known.cookie() == what.cookie) channel = &known;
    if (!channel) {  // a channel that no CQ uses
      channel = frozen.image->add_channels();
      channel->set_cookie(what.cookie);
    }
    set_file(channel->mutable_file(), fd, id);
    return drain_channel(frozen, fd, what.cookie);
  }
  godwit_error("file %#x: an event descriptor of a context that is not being dumped", id);
  return -EINVAL;
}

}  // namespace

int dump_file(int fd, int id) {
  struct stat st;
  if (fstat(fd, &st)) return -errno;
  if (is_rdma_cm(st)) {
    godwit_error("an rdma_cm descriptor (file %#x) cannot be checkpointed", id);
    return -EOPNOTSUPP;
  }
  bool context = !godwit_device_of(st).empty();
  bool event = !context && link_of(fd_path(getpid(), fd)) == kEventLink;
  if (!context && !event) return -ENOTSUP;
  Dump& dump = state();
  if (!dump.scanned) {
    dump.scanned = true;
    if (int ret = scan()) {
      dump.contexts.clear();  // closes the leases: everything goes on
      return ret;
    }
  }
  int ret = context ? dump_context_file(fd, id) : dump_event_file(fd, id);
  if (ret) return ret;
  // Written anew after every file, while a failure can still end the dump: at the end of the dump
  // CRIU no longer asks.
  std::string error = write_image(criu_get_image_dir(), dump.image);
  if (!error.empty()) {
    godwit_error("%s", error.c_str());
    return -EIO;
  }
  return 0;
}

void finish_dump(int ret) {
  Dump& dump = state();
  bool complete = ret == 0;
  for (const Frozen& frozen : dump.contexts)
    if (!frozen.image->has_file()) {
      godwit_error(
          "the context at doorbell page %u was frozen, but CRIU dumped no descriptor of it",
          frozen.image->doorbell_page());
      complete = false;
    }
  if (!dump.contexts.empty() && !complete) unlinkat(criu_get_image_dir(), kImageName, 0);
  // The leases stay open: see Frozen.
}

}  // namespace godwit::criu
