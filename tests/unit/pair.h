// SPDX-License-Identifier: GPL-2.0-or-later
//
// What most tests of the device begin with.
#ifndef GODWIT_TESTS_UNIT_PAIR_H
#define GODWIT_TESTS_UNIT_PAIR_H

#include <gtest/gtest.h>

#include "support/pair.h"

#endif  // GODWIT_TESTS_UNIT_PAIR_H
