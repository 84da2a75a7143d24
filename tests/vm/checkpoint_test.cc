// SPDX-License-Identifier: GPL-2.0-or-later
//
// CRIU takes a checkpoint of a program with verbs objects and restores it in place:
// what must come back, what must be refused, and that a failure costs nothing.
#include "guests.h"
#include "image.h"

namespace godwit::vm {
namespace {

constexpr char kFolder[] = "/tmp/cr";

// godwit-objects in a guest, under CRIU. Nothing of it outlives the object.
class Application {
 public:
  Application(std::string guest, const std::string& name) : guest_(std::move(guest)) {
    try {
      pid_ = std::stoi(in_folder(
          "setsid godwit-objects --case " + name +
              " --go go --ready ready < /dev/null > app.log 2>&1 &\n"
              "for i in $(seq 300); do [ -e ready ] && break; kill -0 $! 2> /dev/null || break; "
              "sleep 0.1; done\n"
              "[ -e ready ] || { cat app.log; exit 1; }\nsed -n 's/READY pid //p' app.log",
          true));
    } catch (...) {
      clean_up();
      throw;
    }
  }
  ~Application() { clean_up(); }
  Application(const Application&) = delete;
  Application& operator=(const Application&) = delete;

  // `more`: options of criu; `env`: before it, NAME=value.
  ExecResult dump(const std::string& more = "", const std::string& env = "") {
    return criu("rm -rf image; mkdir image; " + env + " criu dump -t " + std::to_string(pid_) +
                " -D image -o dump.log -v4 --manage-cgroups=ignore --tcp-established " + more);
  }
  // A dump at the end of which an action script does this.
  ExecResult dump_and_then(const std::string& what) {
    in_folder("printf '#!/bin/sh\\n[ \"$CRTOOLS_SCRIPT_ACTION\" = post-dump ] && " + what +
              "\\nexit 0\\n' > act; chmod +x act");
    return dump("--action-script " + std::string(kFolder) + "/act");
  }
  ExecResult restore(const std::string& env = "") {
    return criu(env +
                " criu restore -d -D image -o restore.log -v4 --manage-cgroups=ignore "
                "--tcp-established");
  }

  // Neither running nor a zombie: its process ids are free for a restore.
  [[nodiscard]] bool gone() const {
    return shell(guest_,
                 "for i in $(seq 50); do pgrep -x godwit-objects > /dev/null || exit 0; sleep 0.1; "
                 "done; exit 1")
               .code == 0;
  }
  // Told to go on, it checks everything and ends. True: it found all as it was.
  testing::AssertionResult verifies() {
    const ExecResult result = shell(guest_,
                                    "cd " + std::string(kFolder) +
                                        "; touch go\n"
                                        "for i in $(seq 600); do grep -q RESULT app.log && break\n"
                                        "  kill -0 " +
                                        std::to_string(pid_) +
                                        " 2> /dev/null || break; sleep 0.1; done\n"
                                        "for i in $(seq 50); do kill -0 " +
                                        std::to_string(pid_) +
                                        " 2> /dev/null || break; sleep 0.1; done\n"
                                        "cat app.log; grep -q 'RESULT PASS' app.log",
                                    90);
    if (result.code == 0) return testing::AssertionSuccess();
    return testing::AssertionFailure() << result.out;
  }

  // What the plugin said in CRIU's log.
  [[nodiscard]] std::string said(const std::string& log) const {
    return shell(guest_, "grep -E 'godwit|Error' " + std::string(kFolder) + "/image/" + log +
                             " | tail -n 20")
        .out;
  }

  [[nodiscard]] std::string image_bytes() const { return the_lab().get(guest_, image_file()); }
  void put_image(const std::string& bytes) const {
    the_lab().put(guest_, image_file(), bytes, 0600);
  }

  std::string in_folder(const std::string& script, bool fresh = false) const {
    return must(guest_,
                (fresh ? "rm -rf " + std::string(kFolder) + "; mkdir -p " + kFolder + "\n" : "") +
                    "cd " + kFolder + "\n" + script,
                90);
  }

 private:
  [[nodiscard]] static std::string image_file() {
    return std::string(kFolder) + "/image/godwit.img";
  }

  void clean_up() const {
    try {
      shell(guest_, "killall -q -9 godwit-objects; cd " + std::string(kFolder) +
                        " 2> /dev/null && id=$(godwit-cr move-id image 2> /dev/null) && "
                        "godwit-cr drop --move $id; rm -rf " +
                        kFolder);
    } catch (const std::exception& error) {
      ADD_FAILURE() << error.what();
    }
  }

  ExecResult criu(const std::string& command) const {
    return shell(guest_, "cd " + std::string(kFolder) + "; " + command, 120);
  }

  std::string guest_;
  int pid_ = 0;
};

class Checkpoint : public GuestTest {
 protected:
  static testing::AssertionResult succeeded(const ExecResult& result, const Application& app,
                                            const char* log) {
    if (result.code == 0) return testing::AssertionSuccess();
    return testing::AssertionFailure() << "exit code " << result.code << "\n"
                                       << result.out << app.said(log);
  }
  // It failed, and the log says why in these words.
  static testing::AssertionResult refused(const ExecResult& result, const Application& app,
                                          const char* log, const std::string& why) {
    const std::string said = app.said(log);
    if (result.code != 0 && said.find(why) != std::string::npos) return testing::AssertionSuccess();
    return testing::AssertionFailure()
           << "exit code " << result.code << ", and no \"" << why << "\" in\n"
           << said << result.out;
  }
};

#define ASSERT_DUMPED(app, ...) ASSERT_TRUE(succeeded((app).dump(__VA_ARGS__), app, "dump.log"))
#define ASSERT_RESTORED(app, ...) \
  ASSERT_TRUE(succeeded((app).restore(__VA_ARGS__), app, "restore.log"))

class InPlace : public Checkpoint, public testing::WithParamInterface<const char*> {};

TEST_P(InPlace, ComesBackAsItWas) {
  Application app(kHome, GetParam());
  ASSERT_DUMPED(app);
  EXPECT_TRUE(app.gone());
  ASSERT_RESTORED(app);
  EXPECT_TRUE(app.verifies());
}

// "asleep" is a thread in ibv_get_cq_event; "all" is every case that fits in one process.
INSTANTIATE_TEST_SUITE_P(Checkpoint, InPlace,
                         testing::Values("basic", "events", "fork", "chanfirst", "asleep", "all"),
                         [](const auto& info) { return std::string(info.param); });

TEST_F(Checkpoint, ComesBackTwice) {
  Application app(kHome, "all");
  for (int i = 0; i < 2; ++i) {
    ASSERT_DUMPED(app);
    EXPECT_TRUE(app.gone());
    ASSERT_RESTORED(app);
  }
  EXPECT_TRUE(app.verifies());
}

TEST_F(Checkpoint, ComesBackAfterPreDump) {
  Application app(kHome, "basic");
  app.in_folder(
      "mkdir pre; criu pre-dump -t $(pgrep -xo godwit-objects) -D pre -o pre.log -v4 "
      "--track-mem --manage-cgroups=ignore --tcp-established || { grep Error pre/pre.log; exit 1; "
      "}");
  ASSERT_DUMPED(app, "--track-mem --prev-images-dir ../pre");
  EXPECT_TRUE(app.gone());
  ASSERT_RESTORED(app);
  EXPECT_TRUE(app.verifies());
}

// ------------------------------------------------ the dump ends in a thaw

TEST_F(Checkpoint, LeaveRunningGoesOn) {
  Application app(kHome, "all");
  ASSERT_DUMPED(app, "--leave-running");
  EXPECT_TRUE(app.verifies());
}

TEST_F(Checkpoint, GoesOnWhenThePostDumpScriptFails) {
  Application app(kHome, "events");
  EXPECT_NE(app.dump_and_then("exit 7").code, 0);
  EXPECT_TRUE(app.verifies());
}

TEST_F(Checkpoint, GoesOnWhenTheDumpFails) {
  Application app(kHome, "events");
  // CRIU's own fault injection: an error while it writes pages.
  EXPECT_NE(app.dump("", "CRIU_FAULT=3").code, 0);
  EXPECT_TRUE(app.verifies());
}

TEST_F(Checkpoint, GoesOnWhenCriuIsKilled) {
  Application app(kHome, "events");
  EXPECT_NE(app.dump_and_then("kill -9 $PPID").code, 0);
  EXPECT_TRUE(app.verifies());
}

// ------------------------------------------------ refusals, before anything is stopped

TEST_F(Checkpoint, RdmaCmDescriptorIsRefused) {
  must(kHome,
       "modprobe rdma_ucm; for i in $(seq 50); do [ -c /dev/infiniband/rdma_cm ] && exit 0; sleep "
       "0.1; done; exit 1");
  Application app(kHome, "rdmacm");
  EXPECT_TRUE(refused(app.dump(), app, "dump.log", "rdma_cm descriptor"));
  EXPECT_TRUE(app.verifies());
}

TEST_F(Checkpoint, ForeignProcessWithTheDescriptorIsRefused) {
  Application app(kHome, "foreign");
  EXPECT_TRUE(
      refused(app.dump(), app, "dump.log", "which is not being dumped, shares the verbs context"));
  EXPECT_TRUE(app.verifies());
}

// ------------------------------------------------ the restore fails: the image is still good

TEST_F(Checkpoint, ImageThatIsDamagedIsRefused) {
  Application app(kHome, "basic");
  ASSERT_DUMPED(app);
  const std::string good = app.image_bytes();
  struct Damage {
    const char* why;
    std::string bytes;
  };
  const auto flipped = [&good](std::size_t at) {
    std::string bytes = good;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
    return bytes;
  };
  const auto version = [&good](char number) {
    std::string bytes = good;
    bytes[8] = number;
    return bytes;
  };
  const Damage all[] = {{"not a godwit image", flipped(0)},
                        {"image version 2, this plugin reads 1", version(2)},
                        {"cut or grown", good.substr(0, good.size() / 2)},
                        {"cut or grown", good + "x"},
                        {"too short for an image", good.substr(0, 11)},
                        {"check sum does not match", flipped(good.size() - 1)},
                        {"check sum does not match", flipped(good.size() / 2)}};
  for (const Damage& damage : all) {
    SCOPED_TRACE(damage.why);
    app.put_image(damage.bytes);
    EXPECT_TRUE(refused(app.restore(), app, "restore.log", damage.why));
    EXPECT_TRUE(app.gone());
  }
  app.put_image(good);
  ASSERT_RESTORED(app);
  EXPECT_TRUE(app.verifies());
}

// Well-formed images with a right check sum that say what cannot be.
TEST_F(Checkpoint, ImageThatLiesIsRefused) {
  Application app(kHome, "basic");
  ASSERT_DUMPED(app);
  const std::string good = app.image_bytes();
  const auto changed = [&good](const std::function<void(image::Image&)>& change) {
    image::Image image;
    EXPECT_EQ(criu::parse_image(good, &image), "");
    change(image);
    return criu::serialize_image(image);
  };
  // The first object of a kind that satisfies.
  const auto first = [](image::Image& image, std::uint32_t type) -> image::Object& {
    for (auto& context : *image.mutable_contexts()) {
      for (auto& object : *context.mutable_objects()) {
        if (object.type() == type) return object;
      }
    }
    throw std::runtime_error("no such object in the image");
  };
  struct Lie {
    const char* why;
    std::string bytes;
  };
  const Lie all[] = {
      {"image version 9", changed([](image::Image& i) { i.set_version(9); })},
      {"its PD is missing",
       changed([&](image::Image& i) { first(i, GODWIT_RECORD_QP).set_pd_handle(4000); })},
      {"handle too large",
       changed([&](image::Image& i) { first(i, GODWIT_RECORD_PD).set_handle(1u << 30); })},
      {"cannot load the state of QP", changed([&](image::Image& i) {
         std::string* state = first(i, GODWIT_RECORD_QP).mutable_state();
         std::fill(state->begin() + static_cast<long>(state->size() / 2), state->end(), '\xff');
       })},
      {"cannot load the state of QP",
       changed([&](image::Image& i) { first(i, GODWIT_RECORD_QP).mutable_state()->resize(8); })},
      // The driver refuses to pin what is not mapped: the restored task has to go.
      {"cannot pin and program", changed([&](image::Image& i) {
         first(i, GODWIT_RECORD_MR).set_start(0x10000);
         first(i, GODWIT_RECORD_MR).set_iova(0x10000);
       })}};
  for (const Lie& lie : all) {
    SCOPED_TRACE(lie.why);
    app.put_image(lie.bytes);
    EXPECT_TRUE(refused(app.restore(), app, "restore.log", lie.why));
    EXPECT_TRUE(app.gone());
  }
  app.put_image(good);
  ASSERT_RESTORED(app, "GODWIT_ATTEMPT=2");
  EXPECT_TRUE(app.verifies());
}

TEST_F(Checkpoint, RestoresAgainWhenNobodyOpensTheGate) {
  Application app(kHome, "all");
  ASSERT_DUMPED(app);
  EXPECT_TRUE(refused(app.restore("GODWIT_GATE=/tmp/cr/no-such-socket"), app, "restore.log",
                      "GODWIT_GATE /tmp/cr/no-such-socket"));
  EXPECT_TRUE(app.gone());
  ASSERT_RESTORED(app, "GODWIT_ATTEMPT=2");
  EXPECT_TRUE(app.verifies());
}

}  // namespace
}  // namespace godwit::vm
