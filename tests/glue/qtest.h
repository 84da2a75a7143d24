// SPDX-License-Identifier: GPL-2.0-or-later
//
// QEMU with the NIC in it and a CPU that does nothing: the test drives the machine over
// QEMU's qtest protocol.
#ifndef GODWIT_TESTS_GLUE_QTEST_H
#define GODWIT_TESTS_GLUE_QTEST_H

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace godwit::test {

class Qtest {
 public:
  // More of QEMU's command line; the NIC is at 00:04.0 unless it is among them.
  explicit Qtest(const std::vector<std::string>& more = {});
  ~Qtest();
  Qtest(const Qtest&) = delete;
  Qtest& operator=(const Qtest&) = delete;

  [[nodiscard]] bool alive();
  [[nodiscard]] int exit_code();  // of a QEMU that is not alive; -1: killed by a signal
  std::uint64_t ask(const std::string& command);  // the number in the answer, or 0
  void write(std::uint64_t addr, std::uint64_t value, unsigned size);
  std::uint64_t read(std::uint64_t addr, unsigned size);
  // The function whose configuration space the next lines use; at first the NIC's, 00:04.0.
  void choose(unsigned bus, unsigned device) { function_ = 0x80000000u | bus << 16 | device << 11; }
  std::uint32_t config_read(unsigned offset);
  void config_write(unsigned offset, std::uint32_t value);
  unsigned find_capability(unsigned id);
  std::string qmp(const std::string& command);  // a JSON object, and its answer

  // As firmware does: the three BARs at the addresses below, memory and bus master on.
  void map_bars();
  static constexpr std::uint64_t kRegisters = 0xe0000000;
  static constexpr std::uint64_t kDoorbells = 0xe4000000;
  static constexpr std::uint64_t kMsix = 0xe0010000;

 private:
  std::string line(int fd, std::string* rest);

  std::uint32_t function_ = 0x80002000;
  pid_t pid_ = -1;
  int qtest_ = -1, qmp_ = -1;
  std::string qtest_rest_, qmp_rest_;
};

}  // namespace godwit::test

#endif  // GODWIT_TESTS_GLUE_QTEST_H
