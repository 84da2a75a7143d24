// SPDX-License-Identifier: GPL-2.0-or-later
#include "restore.h"

#include <fcntl.h>
#include <linux/kcmp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "criu_api.h"
#include "gate.h"
#include "image.h"
#include "proc.h"
#include "uverbs.h"

namespace godwit::criu {
namespace {

/*
 * Shared between criu and the tasks that it forks: what has been restored. Ids
 * are those of CRIU's fdstore; 0 is a valid one, so they are kept plus one.
 */
struct SharedContext {
  int context_store;
  std::uint64_t doorbell_offset;
};
struct SharedFile {
  std::uint32_t id;
  std::uint32_t flags;
  int store;
};
struct Shared {
  pthread_mutex_t lock;
  std::size_t contexts;
  std::size_t files;
  // SharedContext[contexts], then SharedFile[files]
};

image::Image g_image;
Shared* g_shared = nullptr;
bool g_resumed = false;
std::set<int> g_tasks;  // that CRIU has shown us

SharedContext* shared_contexts() { return reinterpret_cast<SharedContext*>(g_shared + 1); }
SharedFile* shared_files() {
  return reinterpret_cast<SharedFile*>(shared_contexts() + g_shared->contexts);
}

class Lock {
 public:
  Lock() {
    // A task that died in the middle has failed the restore; the others only have to notice.
    if (pthread_mutex_lock(&g_shared->lock) == EOWNERDEAD)
      pthread_mutex_consistent(&g_shared->lock);
  }
  ~Lock() { pthread_mutex_unlock(&g_shared->lock); }
};

SharedFile* find_file(std::uint32_t id) {
  for (std::size_t i = 0; i < g_shared->files; i++)
    if (shared_files()[i].id == id) return &shared_files()[i];
  return nullptr;
}

int store(const Fd& fd) {
  int id = fdstore_add(fd.get());
  return id < 0 ? 0 : id + 1;
}

int store_file(const image::File& file, const Fd& fd) {
  SharedFile* shared = find_file(file.id());
  if (!shared) return -EINVAL;
  shared->store = store(fd);
  return shared->store ? 0 : -EIO;
}

struct Restore {
  explicit Restore(const image::Context& from) : image(from) {}
  const image::Context& image;
  Fd context;
  Fd async;
  std::vector<Fd> channels;
  std::uint64_t doorbell_offset = 0;
};

int failed(const char* what, int ret) {
  godwit_error("%s: %s", what, strerror(-ret));
  return ret;
}

int failed(const char* what, const image::Object& object, int ret) {
  godwit_error("%s %s with handle %u (number %#x): %s", what, object_name(object.type()),
               object.handle(), object.number(), strerror(-ret));
  return ret;
}

/*
 * The context's own node first; where the numbering differs, the first on which our
 * driver answers. The mount namespace is the task's, so that sysfs may not be there.
 */
int open_node(Restore* restore) {
  std::vector<std::string> paths = {restore->image.path()};
  for (int i = 0; i < 32; i++) paths.push_back("/dev/infiniband/uverbs" + std::to_string(i));
  int ret = -ENODEV;
  for (const std::string& path : paths) {
    Fd fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
    struct stat st;
    if (!fd.valid() || fstat(fd.get(), &st) || !S_ISCHR(st.st_mode)) continue;
    godwit_uresp_context response = {};
    int error = get_context(fd.get(), true, &response);
    if (!error) {
      restore->context = std::move(fd);
      restore->doorbell_offset = response.doorbell_offset;
      return 0;
    }
    if (ret == -ENODEV) ret = error;
  }
  return ret;
}

int open_context(Restore* restore) {
  int ret = open_node(restore);
  if (ret) return failed("cannot make a context", ret);
  ret = async_event_alloc(restore->context.get(), &restore->async);
  if (ret) return failed("cannot make the asynchronous event descriptor", ret);
  for (int i = 0; i < restore->image.channels_size(); i++) {
    Fd channel;
    ret = create_channel(restore->context.get(), &channel);
    if (ret) return failed("cannot make a completion channel", ret);
    restore->channels.push_back(std::move(channel));
  }
  return 0;
}

int channel_of(const Restore& restore, std::uint64_t cookie) {
  for (int i = 0; i < restore.image.channels_size(); i++)
    if (restore.image.channels(i).cookie() == cookie)
      return restore.channels[static_cast<std::size_t>(i)].get();
  return -1;
}

int set_device_state(const Restore& restore, const image::Object& object) {
  if (object.type() != GODWIT_RECORD_CQ && object.type() != GODWIT_RECORD_QP) return 0;
  godwit_set_state in = {};
  in.state = reinterpret_cast<std::uintptr_t>(object.state().data());
  in.length = static_cast<__u32>(object.state().size());
  in.own_gid_index = object.own_gid_index();
  in.record = to_record(object);
  int fd = restore.context.get();
  int ret = object.type() == GODWIT_RECORD_CQ ? set_cq(fd, object.handle(), in)
                                              : set_qp(fd, object.handle(), in);
  return ret ? failed("cannot load the state of", object, ret) : 0;
}

int create_object(const Restore& restore, const image::Object& object) {
  const godwit_record record = to_record(object);
  const int fd = restore.context.get();
  std::uint32_t handle = ~0u;
  int ret = -EINVAL;
  switch (object.type()) {
    case GODWIT_RECORD_PD:
      ret = alloc_pd(fd, &handle);
      break;
    case GODWIT_RECORD_MR:
      ret = reg_mr(fd, record, &handle);
      break;
    case GODWIT_RECORD_CQ: {
      int channel = object.channel() ? channel_of(restore, object.channel()) : -1;
      ret = create_cq(fd, record, channel, &handle);
      break;
    }
    case GODWIT_RECORD_QP:
      ret = create_qp(fd, record, g_image.move(), &handle);
      break;
    default:
      break;
  }
  if (!ret && handle != object.handle()) ret = -EBUSY;
  if (ret) return failed("cannot restore", object, ret);
  return set_device_state(restore, object);
}

/*
 * A handle is the lowest free number of its context, and handles are not in order
 * of dependency. So: a placeholder in every number up to the highest; then, in order of
 * dependency, each object into the one number that is freed for it; then the gaps are freed.
 */
int create_objects(const Restore& restore) {
  const int fd = restore.context.get();
  std::set<std::uint32_t> wanted;
  for (const auto& object : restore.image.objects()) wanted.insert(object.handle());
  const std::uint32_t end = wanted.empty() ? 0 : *wanted.rbegin() + 1;
  for (std::uint32_t expected = 0; expected < end; expected++) {
    std::uint32_t handle = 0;
    int ret = placeholder_alloc(fd, &handle);
    if (!ret && handle != expected) ret = -EBUSY;
    if (ret) return failed("cannot reserve a handle", ret);
  }
  for (std::uint32_t type = GODWIT_RECORD_PD; type <= GODWIT_RECORD_QP; type++)
    for (const auto& object : restore.image.objects()) {
      if (object.type() != type) continue;
      int ret = placeholder_free(fd, object.handle());
      if (ret) return failed("cannot free a handle for", object, ret);
      ret = create_object(restore, object);
      if (ret) return ret;
    }
  for (std::uint32_t handle = 0; handle < end; handle++)
    if (!wanted.count(handle))
      if (int ret = placeholder_free(fd, handle)) return failed("cannot free a handle", ret);
  return 0;
}

const image::Object* by_user_handle(const image::Context& context, std::uint32_t type,
                                    std::uint64_t user_handle) {
  for (const auto& object : context.objects())
    if (object.type() == type && object.user_handle() == user_handle) return &object;
  return nullptr;
}

int inject_events(const Restore& restore) {
  const int fd = restore.context.get();
  for (const auto& saved : restore.image.comp_events()) {
    const auto* cq = by_user_handle(restore.image, GODWIT_RECORD_CQ, saved.user_handle());
    if (!cq) continue;
    godwit_event_in in = {.what = GODWIT_EVENT_INJECT | GODWIT_EVENT_COMP, .event_type = 0};
    if (int ret = event(fd, GODWIT_RECORD_CQ, cq->handle(), in))
      return failed("cannot give back a completion event", ret);
  }
  for (const auto& saved : restore.image.async_events()) {
    godwit_event_in in = {.what = GODWIT_EVENT_INJECT, .event_type = saved.type()};
    const std::uint32_t owner = event_owner(saved.type());
    const auto* object = owner ? by_user_handle(restore.image, owner, saved.element()) : nullptr;
    if (owner && !object) continue;
    if (int ret = event(fd, owner, object ? object->handle() : 0, in))
      return failed("cannot give back an asynchronous event", ret);
  }
  return 0;
}

int publish(const Restore& restore, SharedContext* shared) {
  shared->doorbell_offset = restore.doorbell_offset;
  if (restore.image.has_async())
    if (int ret = store_file(restore.image.async(), restore.async)) return ret;
  for (int i = 0; i < restore.image.channels_size(); i++)
    if (restore.image.channels(i).has_file())
      if (int ret = store_file(restore.image.channels(i).file(),
                               restore.channels[static_cast<std::size_t>(i)]))
        return ret;
  if (int ret = store_file(restore.image.file(), restore.context)) return ret;
  shared->context_store = store(restore.context);
  return shared->context_store ? 0 : -EIO;
}

// Whichever descriptor of a context comes first brings the whole context.
int restore_context(std::size_t index) {
  Restore restore(g_image.contexts(static_cast<int>(index)));
  if (int ret = open_context(&restore)) return ret;
  if (int ret = create_objects(restore)) return ret;
  if (int ret = inject_events(restore)) return ret;
  if (int ret = publish(restore, &shared_contexts()[index]))
    return failed("cannot keep the descriptors of a context", ret);
  godwit_info("context of doorbell page %u restored: %d objects", restore.image.doorbell_page(),
              restore.image.objects_size());
  return 0;
}

// -1: not ours.
int context_of_file(std::uint32_t id) {
  for (int i = 0; i < g_image.contexts_size(); i++) {
    for (const image::File* file : files_of(g_image.contexts(i)))
      if (file->id() == id) return i;
  }
  return -1;
}

/*
 * CRIU duplicates the descriptor that it is given for a mapping and leaves ours
 * open for ever, so it gets the number under which this task has the file anyway.
 */
int own_descriptor(int store_id) {
  Fd reference(fdstore_get(store_id - 1));
  if (!reference.valid()) return -1;
  const int self = getpid();
  const long limit = sysconf(_SC_OPEN_MAX);
  for (int fd = 0; fd < limit; fd++)
    if (fd != reference.get() && fcntl(fd, F_GETFD) >= 0 &&
        syscall(SYS_kcmp, self, self, KCMP_FILE, fd, reference.get()) == 0)
      return fd;
  godwit_warn("a task has closed its context but kept the doorbell mapping: one descriptor stays");
  return reference.release();
}

unsigned count_qps() {
  unsigned qps = 0;
  for (const auto& context : g_image.contexts())
    for (const auto& object : context.objects()) qps += object.type() == GODWIT_RECORD_QP;
  return qps;
}

// 0: not a number of an attempt. A guess could be one that peers have seen already.
std::uint32_t attempt() {
  const char* text = getenv("GODWIT_ATTEMPT");
  if (!text || !*text) return 1;
  char* end = nullptr;
  unsigned long value = strtoul(text, &end, 10);
  return *end == 0 && value <= 1000000 ? static_cast<std::uint32_t>(value) : 0;
}

// An owner that never comes would leave its contexts frozen for ever. CRIU traces all tasks by now.
int check_owners() {
  std::set<int> tasks;
  for (int pid : numbers_in("/proc"))
    if (tracer_of(pid) == getpid()) tasks.insert(inner_pid(pid));
  for (const auto& context : g_image.contexts())
    for (const auto& object : context.objects())
      if (object.type() != GODWIT_RECORD_PD && !tasks.count(object.owner())) {
        godwit_error("%s with handle %u: its memory belongs to process %d, which is not restored",
                     object_name(object.type()), object.handle(), object.owner());
        return -ESRCH;
      }
  return 0;
}

// True in *complete when no object of any context waits for another task.
int program_task(int pid, bool* complete) {
  *complete = true;
  for (std::size_t i = 0; i < g_shared->contexts; i++) {
    const int id = shared_contexts()[i].context_store;
    if (!id) {
      godwit_error("a context of the image belongs to no task");
      return -EINVAL;
    }
    Fd context(fdstore_get(id - 1));
    godwit_program_out out = {};
    int ret = program(context.get(), static_cast<std::uint32_t>(pid), &out);
    if (ret == -ESRCH) {  // a zombie or a helper: owns nothing
      *complete = false;
      return 0;
    }
    if (ret) {
      godwit_error("cannot pin and program the memory of process %d: %s", pid, strerror(-ret));
      return ret;
    }
    godwit_info("process %d: %u objects programmed, %u left", pid, out.programmed, out.left);
    if (out.left) *complete = false;
  }
  return 0;
}

int resume_all() {
  Gate gate;
  std::string error = gate.open();
  godwit_info("ready: %u QPs", count_qps());
  if (error.empty()) error = gate.wait_for_go(count_qps());
  if (!error.empty()) {
    godwit_error("%s", error.c_str());
    gate.report("error " + error);
    return -ECANCELED;
  }
  // What comes now is read by who has to find out how far a restore has got:
  // docs/spec/checkpoint.md.
  godwit_info("go: resuming %zu contexts", g_shared->contexts);
  for (std::size_t i = 0; i < g_shared->contexts; i++) {
    Fd context(fdstore_get(shared_contexts()[i].context_store - 1));
    if (int ret = resume(context.get(), attempt())) {
      gate.report(std::string("error RESUME: ") + strerror(-ret));
      return failed("cannot resume a context", ret);
    }
    godwit_info("resumed: context %zu", i);
  }
  gate.report("resumed");
  return 0;
}

}  // namespace

int begin_restore() {
  std::string error;
  switch (read_image(criu_get_image_dir(), &g_image, &error)) {
    case ReadResult::kAbsent:
      return 0;
    case ReadResult::kBad:
      godwit_error("%s: %s", kImageName, error.c_str());
      return -1;
    case ReadResult::kOk:
      break;
  }
  if (attempt() == 0) {
    godwit_error("GODWIT_ATTEMPT is not a number from 1 to 1000000: %s", getenv("GODWIT_ATTEMPT"));
    return -1;
  }
  std::vector<const image::File*> files;
  for (const auto& context : g_image.contexts()) {
    if (!context.has_file()) {
      godwit_error("%s is incomplete: the dump did not finish", kImageName);
      return -1;
    }
    for (const image::File* file : files_of(context)) files.push_back(file);
  }
  const std::size_t contexts = static_cast<std::size_t>(g_image.contexts_size());
  const std::size_t bytes =
      sizeof(Shared) + contexts * sizeof(SharedContext) + files.size() * sizeof(SharedFile);
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return -1;
  g_shared = static_cast<Shared*>(memory);
  g_shared->contexts = contexts;
  g_shared->files = files.size();
  for (std::size_t i = 0; i < files.size(); i++)
    shared_files()[i] = {.id = files[i]->id(), .flags = files[i]->flags(), .store = 0};
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&g_shared->lock, &attributes);
  pthread_mutexattr_destroy(&attributes);
  return 0;
}

int restore_file(int id) {
  if (!g_shared) return -ENOTSUP;
  const int index = context_of_file(static_cast<std::uint32_t>(id));
  if (index < 0) return -ENOTSUP;
  Lock lock;
  if (!shared_contexts()[index].context_store)
    if (int ret = restore_context(static_cast<std::size_t>(index))) return ret;
  const SharedFile* file = find_file(static_cast<std::uint32_t>(id));
  if (!file || !file->store) return -EINVAL;
  int fd = fdstore_get(file->store - 1);
  if (fd >= 0 && fcntl(fd, F_SETFL, static_cast<int>(file->flags))) {
    close(fd);
    return -EINVAL;
  }
  return fd;
}

// How much of the path is seen depends on the mount namespace of who looks.
static std::string node_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

int update_mapping(const char* path, std::uint64_t old_offset, std::uint64_t* new_offset,
                   int* plugin_fd) {
  if (!g_shared) return -ENOTSUP;
  const std::uint64_t page = old_offset / static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  bool our_node = false;
  for (int i = 0; i < g_image.contexts_size(); i++) {
    const auto& context = g_image.contexts(i);
    if (node_name(context.path()) != node_name(path)) continue;
    our_node = true;
    if (context.doorbell_page() != page) continue;
    const SharedContext& shared = shared_contexts()[i];
    if (!shared.context_store) break;
    const int fd = own_descriptor(shared.context_store);
    if (fd < 0) return -EIO;
    *plugin_fd = fd;
    *new_offset = shared.doorbell_offset;
    return 1;
  }
  if (!our_node) return -ENOTSUP;
  godwit_error("a mapping of %s at offset %#llx belongs to no restored context", path,
               static_cast<unsigned long long>(old_offset));
  return -EINVAL;
}

int resume_task(int pid) {
  if (!g_shared || g_shared->contexts == 0) return -ENOTSUP;
  if (g_resumed) return 0;
  bool complete = false;
  int ret = g_tasks.empty() ? check_owners() : 0;
  g_tasks.insert(pid);
  if (!ret) ret = program_task(pid, &complete);
  if (!ret && complete) {
    ret = resume_all();
    g_resumed = ret == 0;
  }
  if (ret) {
    // CRIU does not look at what this hook returns; a dead task fails the restore.
    godwit_error("killing process %d: it cannot be resumed", pid);
    kill(pid, SIGKILL);
  }
  return ret;
}

void finish_restore(int ret) {
  if (!g_shared || g_shared->contexts == 0 || g_resumed || ret) return;
  godwit_error("no task brought the last of the contexts' memory: killing what was restored");
  for (int pid : g_tasks) kill(pid, SIGKILL);
}

}  // namespace godwit::criu
