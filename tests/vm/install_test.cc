// SPDX-License-Identifier: GPL-2.0-or-later
//
// make install-guest: what it installs, that the module can be built from it alone, and that a
// guest can use it.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "command.h"

namespace godwit::vm {
namespace {

namespace fs = std::filesystem;

// Registered like this, it comes after the other tests of guests: it loads another driver.
class InstallGuest : public GuestTest, public testing::WithParamInterface<std::string> {
 protected:
  void SetUp() override {
    GuestTest::SetUp();
    folder_ = fs::path(lab_folder()) / "install-guest";
    fs::remove_all(folder_);
    root_ = folder_ / "root";
    fs::create_directories(root_);
    kernel_ = text_of(fs::path(lab::build_folder()) / "kernel-version");
    kernel_.erase(kernel_.find('\n'));
  }

  void TearDown() override {
    fs::remove_all(folder_);
    GuestTest::TearDown();
  }

  static std::string text_of(const fs::path& path) {
    std::ifstream in(path);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  // Without what a make above us has told its children.
  static HostResult host(const std::string& script) {
    return run_on_host({"bash", "-c", "set -e\n" + script}, 400,
                       {{"MAKEFLAGS", ""}, {"MFLAGS", ""}, {"MAKELEVEL", "0"}, {"CDPATH", ""}});
  }

  static std::string must_on_host(const std::string& script) {
    const HostResult result = host(script);
    EXPECT_EQ(result.code, 0) << script << "\n" << result.out << result.err;
    return result.out;
  }

  // Relative paths with their modes, sorted.
  static std::vector<std::string> files_below(const fs::path& folder) {
    std::vector<std::string> found;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      if (entry.is_directory()) continue;
      char mode[8];
      std::snprintf(mode, sizeof(mode), " %03o",
                    static_cast<unsigned>(entry.status().permissions()));
      found.push_back(fs::relative(entry.path(), folder).string() + mode);
    }
    std::sort(found.begin(), found.end());
    return found;
  }

  fs::path folder_, root_;
  std::string kernel_;
};

TEST_P(InstallGuest, TheModuleIsBuiltAsDkmsDoesAndAGuestRunsWithAll) {
  const std::string make = "make -C " GODWIT_SOURCE " install-guest ";
  EXPECT_NE(host(make).code, 0) << "without DESTDIR it must not touch this machine";
  // What an older version has left is not taken for a part of this one.
  const std::string version =
      must_on_host("modinfo -F version " + lab::build_folder() + "/kernel/godwit.ko | tr -d '\\n'");
  const std::string sources = "usr/src/godwit-" + version + "/";
  must_on_host("mkdir -p " + (root_ / sources).string() + " && touch " +
               (root_ / sources / "old.h").string());
  const std::string said = must_on_host(make + "DESTDIR=" + root_.string());
  EXPECT_NE(said.find("dkms install godwit/" + version), std::string::npos) << said;

  std::vector<std::string> expected = {
      "etc/libibverbs.d/godwit.driver 644",
      "usr/bin/godwit-cr 755",
      "usr/lib/criu/godwit_plugin.so 755",
      "usr/lib/x86_64-linux-gnu/libibverbs/libgodwit-rdmav34.so 644",
      sources + "Kbuild 644",
      sources + "dkms.conf 644",
      sources + "include/godwit_uapi.h 644",
  };
  for (const auto& [from, to] :
       {std::pair{"/abi", "include/"}, std::pair{"/guest-driver/kernel", ""}}) {
    for (const auto& entry : fs::directory_iterator(GODWIT_SOURCE + std::string(from))) {
      const std::string kind = entry.path().extension();
      if (kind != ".c" && kind != ".h") continue;
      expected.push_back(sources + to + entry.path().filename().string() + " 644");
    }
  }
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(files_below(root_), expected);

  // DKMS reads the file by its shell, copies the sources, and calls make like this.
  EXPECT_EQ(must_on_host(". " + (root_ / sources / "dkms.conf").string() +
                         "\necho $PACKAGE_NAME $PACKAGE_VERSION ${BUILT_MODULE_NAME[0]} "
                         "${DEST_MODULE_LOCATION[0]} "
                         "$AUTOINSTALL ${MAKE[0]:-its own}"),
            "godwit " + version + " godwit /updates/dkms yes its own\n");
  const fs::path build = folder_ / "build";
  must_on_host("cp -a " + (root_ / sources).string() + " " + build.string() + "\n" +
               "headers=$(" GODWIT_SOURCE "/images/fetch-kernel-headers --cache-dir " GODWIT_CACHE
               " --kernel " +
               kernel_ + ")\n" + "cd /\nmake KERNELRELEASE=" + kernel_ +
               " -C $headers M=" + build.string());
  const fs::path module = build / "godwit.ko";
  ASSERT_TRUE(fs::exists(module));
  // Nothing of it comes from the tree.
  EXPECT_EQ(must_on_host("grep -rlF " GODWIT_SOURCE " " + build.string() + " || true"), "");
  EXPECT_EQ(must_on_host("modinfo -F vermagic " + module.string() + " | cut -d' ' -f1"),
            kernel_ + "\n");

  // In a guest: the files over its own, that module for the one of the image.
  const std::string guest = GetParam();
  must_on_host("install -D -m 644 " + module.string() + " " +
               (root_ / "usr/lib/modules" / kernel_).string() + "/updates/dkms/godwit.ko\ntar -C " +
               root_.string() + " -cf " + (folder_ / "root.tar").string() +
               " --owner=0 --group=0 .");
  ASSERT_EQ(godwit({"cp", folder_ / "root.tar", guest + ":/run/root.tar"}).code, 0);
  must(guest,
       "set -e\ntar -C / -xf /run/root.tar\nrm /run/root.tar\ndepmod -a\nmodinfo -n godwit | grep "
       "updates/dkms\n"
       "rmmod godwit\nmodprobe godwit\nip link set $(ls /sys/bus/pci/drivers/godwit/*/net) name "
       "gw0 mtu 4200\n"
       "ip link set gw0 up\nip addr add " +
           ip_of(guest) + "/16 dev gw0\nip addr add " + ip6_of(guest) +
           "/64 dev gw0 nodad\n"
           "for i in $(seq 100); do ibv_devinfo -d godwit0 | grep -q PORT_ACTIVE && exit 0; sleep "
           "0.1; done; exit 1");
  const int port = fresh_port();
  const auto command = [port](const std::string& on) {
    return "ibv_rc_pingpong -c -d godwit0 -n 50 -p " + std::to_string(port) + " -g " +
           std::to_string(gid_index(on, "godwit0", ip_of(on)));
  };
  EXPECT_TRUE(
      good(talk({guest, command(guest)}, {kHome, command(kHome) + " " + ip_of(guest)}, port)));
  EXPECT_EQ(shell(guest, "godwit-cr list").code, 0);
}

INSTANTIATE_TEST_SUITE_P(Lab, InstallGuest, testing::Values(kPeer));

}  // namespace
}  // namespace godwit::vm
