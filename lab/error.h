// SPDX-License-Identifier: GPL-2.0-or-later
#ifndef GODWIT_LAB_ERROR_H
#define GODWIT_LAB_ERROR_H

#include <stdexcept>
#include <string>

namespace godwit::lab {

// Says what went wrong, where, and what to do; shown to the user as it is.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// "what: strerror(errno)"
[[noreturn]] void throw_errno(const std::string& what);

}  // namespace godwit::lab

#endif  // GODWIT_LAB_ERROR_H
