// SPDX-License-Identifier: GPL-2.0-or-later
#include "sim/workers.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>

namespace godwit::sim {
namespace {

constexpr std::size_t kFailuresWanted = 5;
constexpr std::size_t kLongestText = 3000;  // a write of it to a pipe is atomic
constexpr unsigned kMaxWorkers = 64;
constexpr time_t kProgressSeconds = 10;

// Memory that the workers and their parent share.
struct Shared {
  std::atomic<std::uint64_t> next{0};
  std::atomic<std::uint64_t> done{0};
  std::atomic<bool> stop{false};
  struct Worker {
    std::uint64_t item = 0;  // at hand
    Totals totals;
  } workers[kMaxWorkers];
};

struct Message {
  std::uint64_t item;
  char text[kLongestText];
};

volatile std::sig_atomic_t g_interrupted = 0;

void work(Shared& shared, unsigned self, int pipe, std::uint64_t first, std::uint64_t count,
          const std::function<std::string(std::uint64_t, Totals*)>& simulate) {
  std::signal(SIGINT, SIG_IGN);
  Shared::Worker& mine = shared.workers[self];
  while (!shared.stop.load(std::memory_order_relaxed)) {
    const std::uint64_t n = shared.next.fetch_add(1);
    if (n >= count) break;
    mine.item = first + n;
    const std::string error = simulate(mine.item, &mine.totals);
    if (!error.empty()) {
      Message message{mine.item, {}};
      std::strncpy(message.text, error.c_str(), kLongestText - 1);
      if (write(pipe, &message, sizeof(message)) != sizeof(message)) _exit(3);
    }
    shared.done.fetch_add(1);
  }
  _exit(0);
}

void add(Totals* sum, const Totals& part) {
  static_assert(sizeof(Totals) % sizeof(std::uint64_t) == 0);
  constexpr std::size_t kNumbers = sizeof(Totals) / sizeof(std::uint64_t);
  std::uint64_t a[kNumbers];
  std::uint64_t b[kNumbers];
  std::memcpy(a, sum, sizeof(a));
  std::memcpy(b, &part, sizeof(b));
  for (std::size_t i = 0; i < kNumbers; ++i) a[i] += b[i];
  std::memcpy(sum, a, sizeof(a));
}

}  // namespace

Outcome run_all(std::uint64_t first, std::uint64_t count, unsigned workers, bool progress,
                const std::function<std::string(std::uint64_t, Totals*)>& simulate) {
  Outcome outcome;
  workers = std::min(std::max(workers, 1u), kMaxWorkers);
  void* memory =
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int ends[2];
  if (memory == MAP_FAILED || pipe(ends) != 0) {
    outcome.failures.push_back({first, "no memory or pipe for the workers"});
    return outcome;
  }
  auto* shared = new (memory) Shared;
  std::fflush(nullptr);
  std::vector<pid_t> children;
  for (unsigned i = 0; i < workers; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      close(ends[0]);
      work(*shared, i, ends[1], first, count, simulate);
    }
    if (child < 0) {
      outcome.failures.push_back({first, "cannot fork"});
      break;
    }
    children.push_back(child);
  }
  close(ends[1]);
  g_interrupted = 0;
  struct sigaction action = {};
  struct sigaction before = {};
  action.sa_handler = [](int) { g_interrupted = 1; };
  sigaction(SIGINT, &action, &before);

  const time_t start = time(nullptr);
  time_t said = start;
  for (;;) {
    pollfd wait = {ends[0], POLLIN, 0};
    const int ready = poll(&wait, 1, 1000);
    if (g_interrupted != 0 || outcome.failures.size() >= kFailuresWanted) shared->stop = true;
    if (ready > 0) {
      Message message;
      const ssize_t got = read(ends[0], &message, sizeof(message));
      if (got == 0) break;  // all workers have ended
      if (got == sizeof(message)) outcome.failures.push_back({message.item, message.text});
    }
    const time_t now = time(nullptr);
    if (progress && now - said >= kProgressSeconds) {
      said = now;
      std::printf("%" PRIu64 " of %" PRIu64 " after %lld s\n", shared->done.load(), count,
                  static_cast<long long>(now - start));
      std::fflush(stdout);
    }
  }
  close(ends[0]);
  sigaction(SIGINT, &before, nullptr);
  for (std::size_t i = 0; i < children.size(); ++i) {
    int status = 0;
    while (waitpid(children[i], &status, 0) < 0 && errno == EINTR) {
    }
    if (status != 0) {
      outcome.failures.push_back(
          {shared->workers[i].item,
           "the simulator itself ended with wait status " + std::to_string(status)});
    }
    add(&outcome.totals, shared->workers[i].totals);
  }
  outcome.done = shared->done;
  outcome.interrupted = g_interrupted != 0;
  munmap(memory, sizeof(Shared));
  return outcome;
}

}  // namespace godwit::sim
