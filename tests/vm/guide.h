// SPDX-License-Identifier: GPL-2.0-or-later
//
// The commands of a page of docs/guide/, as they stand there.
#ifndef GODWIT_TESTS_VM_GUIDE_H
#define GODWIT_TESTS_VM_GUIDE_H

#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace godwit::vm {

struct GuideBlock {
  std::string section;  // heading that it stands under
  std::string script;
};

// All blocks marked as `sh`, in their order.
inline std::vector<GuideBlock> guide_blocks(const std::string& page) {
  std::ifstream guide(GODWIT_GUIDES "/" + page);
  std::vector<GuideBlock> blocks;
  std::string line, section;
  while (std::getline(guide, line)) {
    if (line.rfind("## ", 0) == 0) section = line.substr(3);
    if (line != "```sh") continue;
    std::string script;
    while (std::getline(guide, line) && line != "```") script += line + "\n";
    blocks.push_back({section, script});
  }
  if (blocks.empty()) throw std::runtime_error(page + " has no commands");
  return blocks;
}

}  // namespace godwit::vm

#endif  // GODWIT_TESTS_VM_GUIDE_H
