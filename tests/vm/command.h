// SPDX-License-Identifier: GPL-2.0-or-later
//
// The godwit command, run on the lab of the tests.
#ifndef GODWIT_TESTS_VM_COMMAND_H
#define GODWIT_TESTS_VM_COMMAND_H

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "guests.h"
#include "plan.h"

namespace godwit::vm {

using Json = nlohmann::json;

inline HostResult godwit(Argv args, double seconds = 90) {
  args.insert(args.begin(), lab::build_folder() + "/bin/godwit");
  return run_on_host(args, seconds, {{"GODWIT_LAB", lab_folder()}});
}

inline Json parsed(const HostResult& result) {
  EXPECT_EQ(result.code, 0) << result.out << result.err;
  const Json json = Json::parse(result.out, nullptr, false);
  EXPECT_FALSE(json.is_discarded()) << result.out;
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 1) << result.out;
  return json;
}

// Exit code 1, nothing on stdout, and one message that says this.
inline testing::AssertionResult fails_saying(const HostResult& result, const std::string& what) {
  if (result.code == 1 && result.out.empty() && result.err.find(what) != std::string::npos) {
    return testing::AssertionSuccess();
  }
  return testing::AssertionFailure() << "exit code " << result.code << ", not \"" << what << "\":\n"
                                     << result.out << result.err;
}

}  // namespace godwit::vm

#endif  // GODWIT_TESTS_VM_COMMAND_H
