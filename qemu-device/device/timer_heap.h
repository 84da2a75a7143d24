// SPDX-License-Identifier: GPL-2.0-or-later
//
// QPs by deadline: a binary heap whose members know their place in it.
#ifndef GODWIT_DEVICE_TIMER_HEAP_H
#define GODWIT_DEVICE_TIMER_HEAP_H

#include <cstdint>
#include <vector>

#include "device/queue_pair.h"

namespace godwit::device {

class TimerHeap {
 public:
  void reserve(std::size_t n) { heap_.reserve(n); }
  QueuePair* top() const { return heap_.empty() ? nullptr : heap_.front(); }

  // UINT64_MAX takes it out.
  void set(QueuePair& qp, std::uint64_t deadline_ns) {
    const bool inside = qp.heap_index != SIZE_MAX;
    if (deadline_ns == UINT64_MAX) {
      if (inside) remove(qp);
      qp.deadline_ns = deadline_ns;
      return;
    }
    if (inside && deadline_ns == qp.deadline_ns) return;
    qp.deadline_ns = deadline_ns;
    if (!inside) {
      qp.heap_index = heap_.size();
      heap_.push_back(&qp);
    }
    down(up(qp.heap_index));
  }

  void clear() { heap_.clear(); }

 private:
  void put(std::size_t i, QueuePair* qp) {
    heap_[i] = qp;
    qp->heap_index = i;
  }
  std::size_t up(std::size_t i) {
    QueuePair* qp = heap_[i];
    while (i > 0) {
      const std::size_t parent = (i - 1) / 2;
      if (heap_[parent]->deadline_ns <= qp->deadline_ns) break;
      put(i, heap_[parent]);
      i = parent;
    }
    put(i, qp);
    return i;
  }
  void down(std::size_t i) {
    QueuePair* qp = heap_[i];
    for (;;) {
      std::size_t child = 2 * i + 1;
      if (child >= heap_.size()) break;
      if (child + 1 < heap_.size() && heap_[child + 1]->deadline_ns < heap_[child]->deadline_ns) {
        ++child;
      }
      if (qp->deadline_ns <= heap_[child]->deadline_ns) break;
      put(i, heap_[child]);
      i = child;
    }
    put(i, qp);
  }
  void remove(QueuePair& qp) {
    const std::size_t i = qp.heap_index;
    QueuePair* last = heap_.back();
    heap_.pop_back();
    qp.heap_index = SIZE_MAX;
    if (last == &qp) return;
    put(i, last);
    down(up(i));
  }

  std::vector<QueuePair*> heap_;
};

}  // namespace godwit::device

#endif  // GODWIT_DEVICE_TIMER_HEAP_H
