// SPDX-License-Identifier: GPL-2.0-or-later
#include "fault_point.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "error.h"

namespace godwit::lab {
namespace {

struct Step {
  std::string_view name;
  std::string_view mark;  // in CRIU's log, if none is given; empty: CRIU does not do it
  std::vector<std::string_view> hows;
};

const std::vector<Step>& steps() {
  static const std::vector<Step> all = {
      {"preflight", "", {"error", "hang", "kill", "daemon", "guest"}},
      {"prepare", "", {"error", "hang", "kill", "daemon", "guest"}},
      {"checkpoint",
       "Dumping task",
       {"error", "hang", "kill", "full", "command", "daemon", "guest"}},
      {"copy",
       "",
       {"error", "hang", "kill", "full", "cut", "corrupt", "command", "daemon", "guest"}},
      {"restore", "Restore via sigreturn", {"error", "hang", "kill", "command", "daemon", "guest"}},
      {"hand-over", "", {"error", "hang", "kill", "daemon", "guest"}},
      {"go", "godwit: go", {"error", "hang", "kill", "command", "daemon", "guest"}},
      {"commit", "", {"error", "hang", "kill", "daemon", "guest"}},
      {"roll-back", "", {"error", "kill", "daemon"}},
  };
  return all;
}

template <typename Range, typename Name>
std::string list_of(const Range& range, Name name) {
  std::string text;
  for (const auto& one : range) text += (text.empty() ? "" : ", ") + std::string(name(one));
  return text;
}

}  // namespace

FaultPoint parse_fault_point(const std::string& text) {
  FaultPoint fault;
  std::string rest = text;
  if (const std::size_t colon = rest.rfind(':'); colon != std::string::npos) {
    fault.how = rest.substr(colon + 1);
    rest.resize(colon);
  }
  if (const std::size_t at = rest.find('@'); at != std::string::npos) {
    fault.mark = rest.substr(at + 1);
    rest.resize(at);
  }
  fault.step = rest;
  const auto step = std::find_if(steps().begin(), steps().end(),
                                 [&](const Step& s) { return s.name == fault.step; });
  if (step == steps().end()) {
    throw Error("--fail-at: no step " + fault.step + "; there are " +
                list_of(steps(), [](const Step& s) { return s.name; }));
  }
  if (std::find(step->hows.begin(), step->hows.end(), fault.how) == step->hows.end()) {
    throw Error("--fail-at: " + fault.step + " has no :" + fault.how + "; there are " +
                list_of(step->hows, [](std::string_view how) { return how; }));
  }
  if (!fault.mark.empty() && step->mark.empty()) {
    throw Error("--fail-at: " + fault.step +
                " has no log of CRIU: @ is for checkpoint, restore and go");
  }
  if (fault.mark.empty()) fault.mark = step->mark;
  return fault;
}

}  // namespace godwit::lab
