// SPDX-License-Identifier: GPL-2.0-or-later
//
// Ctrl-C, SIGTERM and SIGHUP, for commands that must not end in the middle of something.
#ifndef GODWIT_LAB_INTERRUPT_H
#define GODWIT_LAB_INTERRUPT_H

namespace godwit::lab {

// From now on they only set a flag, and system calls are interrupted by them.
void catch_interrupts();

// One came since catch_interrupts().
[[nodiscard]] bool interrupted();

}  // namespace godwit::lab

#endif  // GODWIT_LAB_INTERRUPT_H
