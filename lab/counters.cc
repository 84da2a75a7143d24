// SPDX-License-Identifier: GPL-2.0-or-later
#include "counters.h"

#include "error.h"
#include "plan.h"

namespace godwit::lab {

using Json = nlohmann::json;

Counters read_counters(const Lab& lab, const std::string& guest) {
  const Json reply = lab.request(
      {{"op", "qmp"},
       {"guest", guest},
       {"command",
        {{"execute", "qom-get"}, {"arguments", {{"path", "nic"}, {"property", "counters"}}}}}});
  const Json& answer = reply.at("answer");
  Counters counters{};
  if (!answer.is_object() || !answer.contains("return") || !answer["return"].is_array() ||
      answer["return"].size() != counters.size()) {
    throw Error(guest + ": the NIC's counters: " + answer.dump());
  }
  for (std::size_t i = 0; i < counters.size(); ++i) {
    counters[i] = answer["return"][i].get<std::uint64_t>();
  }
  return counters;
}

Counters sum_counters(const Lab& lab, int guests) {
  Counters sum{};
  for (int guest = 1; guest <= guests; ++guest) {
    const Counters one = read_counters(lab, guest_name(guest));
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += one[i];
  }
  return sum;
}

Counters difference(const Counters& after, const Counters& before) {
  Counters result{};
  for (std::size_t i = 0; i < result.size(); ++i) result[i] = after[i] - before[i];
  return result;
}

}  // namespace godwit::lab
