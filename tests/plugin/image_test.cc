// SPDX-License-Identifier: GPL-2.0-or-later
//
// The checkpoint image as hostile input: whatever the bytes, parse_image() gives
// an image that a restore can work with, or a sentence that says what is wrong.
#include "plugin/good_image.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <set>

namespace godwit::criu {
namespace {

image::Object* object(image::Image* image, int index) {
  return image->mutable_contexts(0)->mutable_objects(index);
}

std::string error_of(const image::Image& image) {
  image::Image parsed;
  return parse_image(serialize_image(image), &parsed);
}

// What the restore relies on without looking again.
void expect_usable(const image::Image& image) {
  for (const auto& context : image.contexts()) {
    ASSERT_FALSE(context.path().empty());
    std::set<std::uint32_t> handles;
    for (const auto& object : context.objects()) {
      EXPECT_LT(object.handle(), kMaxHandle);
      EXPECT_TRUE(handles.insert(object.handle()).second);
      EXPECT_GE(object.type(), unsigned{GODWIT_RECORD_PD});
      EXPECT_LE(object.type(), unsigned{GODWIT_RECORD_QP});
      const godwit_record record = to_record(object);
      EXPECT_EQ(record.length, object.length());
    }
  }
}

TEST(Image, GoesThereAndBack) {
  const image::Image before = good();
  image::Image after;
  ASSERT_EQ(parse_image(serialize_image(before), &after), "");
  EXPECT_EQ(after.SerializeAsString(), before.SerializeAsString());
}

TEST(Image, CutAnywhereIsRefused) {
  const std::string bytes = serialize_image(good());
  for (std::size_t length = 0; length < bytes.size(); length++) {
    image::Image image;
    EXPECT_NE(parse_image(bytes.substr(0, length), &image), "") << length;
  }
  image::Image image;
  EXPECT_NE(parse_image(bytes + '\0', &image), "");
}

TEST(Image, EveryChangedBitIsRefused) {
  const std::string bytes = serialize_image(good());
  for (std::size_t at = 0; at < bytes.size(); at++)
    for (int bit = 0; bit < 8; bit++) {
      std::string changed = bytes;
      changed[at] = static_cast<char>(changed[at] ^ 1 << bit);
      image::Image image;
      EXPECT_NE(parse_image(changed, &image), "") << "byte " << at << " bit " << bit;
    }
}

TEST(Image, AnotherVersionIsNamed) {
  std::string bytes = serialize_image(good());
  bytes[8] = 9;
  image::Image image;
  EXPECT_EQ(parse_image(bytes, &image), "image version 9, this plugin reads 1");
  image::Image other = good();
  other.set_driver_abi(GODWIT_UVERBS_ABI + 1);
  EXPECT_NE(error_of(other).find("driver ABI"), std::string::npos);
}

struct Change {
  const char* part_of_the_message;
  std::function<void(image::Image*)> apply;
};

TEST(Image, WrongContentIsRefusedAndNamed) {
  const Change changes[] = {
      {"move id", [](image::Image* i) { i->set_move(0); }},
      {"path", [](image::Image* i) { i->mutable_contexts(0)->set_path(""); }},
      {"path", [](image::Image* i) { i->mutable_contexts(0)->set_path("uverbs0"); }},
      {"path", [](image::Image* i) { i->mutable_contexts(0)->set_path(std::string("/a\0b", 4)); }},
      {"doorbell page", [](image::Image* i) { *i->add_contexts() = i->contexts(0); }},
      {"file id", [](image::Image* i) { i->mutable_contexts(0)->mutable_async()->set_id(10); }},
      {"handle too large", [](image::Image* i) { object(i, 3)->set_handle(~0u); }},
      {"handle used twice", [](image::Image* i) { object(i, 3)->set_handle(1); }},
      // Not an object: its handle would be reserved and never given back.
      {"context with handle 4294967295",
       [](image::Image* i) { add(i->mutable_contexts(0), GODWIT_RECORD_CONTEXT, ~0u); }},
      {"SRQ with handle 7",
       [](image::Image* i) { add(i->mutable_contexts(0), GODWIT_RECORD_SRQ, 7); }},
      {"unknown type", [](image::Image* i) { add(i->mutable_contexts(0), 77, 7); }},
      {"PD is missing", [](image::Image* i) { object(i, 1)->set_pd_handle(2); }},
      {"PD is missing", [](image::Image* i) { object(i, 3)->set_pd_handle(77); }},
      {"CQ is missing", [](image::Image* i) { object(i, 3)->set_send_cq_handle(1); }},
      {"CQ is missing", [](image::Image* i) { object(i, 3)->set_recv_cq_handle(5); }},
      {"channel is missing", [](image::Image* i) { object(i, 2)->set_channel(98); }},
      {"bad GID", [](image::Image* i) { object(i, 3)->set_own_gid("short"); }},
      {"bad GID", [](image::Image* i) { object(i, 3)->clear_peer_gid(); }},
      // Cut to a byte these would be harmless values.
      {"bad value of qp_type", [](image::Image* i) { object(i, 3)->set_qp_type(0x102); }},
      {"bad value of has_av", [](image::Image* i) { object(i, 3)->set_has_av(0x100); }},
      {"bad value of log2_sq_depth",
       [](image::Image* i) { object(i, 2)->set_log2_sq_depth(0x104); }},
      {"bad value of length", [](image::Image* i) { object(i, 2)->set_length(1ull << 32); }},
      {"unread events",
       [](image::Image* i) {
         for (std::size_t n = 0; n <= kMaxEvents; n++) {
           image::CompEvent* event = i->mutable_contexts(0)->add_comp_events();
           event->set_channel(99);
           event->set_user_handle(0x5555);
         }
       }},
  };
  for (const Change& change : changes) {
    image::Image image = good();
    change.apply(&image);
    const std::string error = error_of(image);
    EXPECT_NE(error.find(change.part_of_the_message), std::string::npos)
        << "expected '" << change.part_of_the_message << "', got '" << error << "'";
  }
}

// Behind a check sum that fits: the parser and the checks are alone.
TEST(Image, RandomChangesAreRefusedOrUsable) {
  const std::string message = good().SerializeAsString();
  unsigned refused = 0, taken = 0;
  for (unsigned seed = 1; seed <= 20000; seed++) {
    std::mt19937 random(seed);
    std::string changed = message;
    for (unsigned n = 1 + random() % 4; n > 0; n--) {
      const std::size_t at = random() % changed.size();
      switch (random() % 4) {
        case 0:
          changed[at] = static_cast<char>(random());
          break;
        case 1:
          changed[at] = static_cast<char>(changed[at] ^ 1 << random() % 8);
          break;
        case 2:
          changed.erase(at, 1 + random() % 8);
          break;
        default:
          changed.insert(at, changed.substr(random() % changed.size(), random() % 32));
          break;
      }
      if (changed.empty()) changed = "x";
    }
    image::Image image, parsed;
    if (!image.ParsePartialFromString(changed) || !image.IsInitialized() ||
        !parse_image(serialize_image(image), &parsed).empty()) {
      refused++;
      continue;
    }
    taken++;
    expect_usable(parsed);
    if (HasFailure()) FAIL() << "seed " << seed;
  }
  EXPECT_GT(refused, 1000u);
  EXPECT_GT(taken, 1000u);  // else nothing was tried
}

class ImageFile : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/godwit-image-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    path_ = name;
    directory_ = open(name, O_RDONLY | O_DIRECTORY);
    ASSERT_GE(directory_, 0);
  }
  void TearDown() override {
    unlinkat(directory_, kImageName, 0);
    close(directory_);
    rmdir(path_.c_str());
  }
  std::string path_;
  int directory_ = -1;
};

TEST_F(ImageFile, IsWrittenAndRead) {
  image::Image image;
  std::string error;
  EXPECT_EQ(read_image(directory_, &image, &error), ReadResult::kAbsent);
  ASSERT_EQ(write_image(directory_, good()), "");
  ASSERT_EQ(read_image(directory_, &image, &error), ReadResult::kOk) << error;
  EXPECT_EQ(image.SerializeAsString(), good().SerializeAsString());
}

TEST_F(ImageFile, IsNotWrittenIfNoRestoreWouldTakeIt) {
  image::Image image = good();
  object(&image, 3)->set_send_cq_handle(77);
  EXPECT_NE(write_image(directory_, image), "");
  std::string error;
  EXPECT_EQ(read_image(directory_, &image, &error), ReadResult::kAbsent);
}

TEST(Record, StateOutsideTheAreaIsNotTaken) {
  godwit_record record = {};
  record.type = GODWIT_RECORD_QP;
  const std::vector<std::uint8_t> area(64, 1);
  record.state_length = 32;
  for (std::uint32_t offset : {33u, 64u, 65u, 0xffffffffu}) {
    record.state_offset = offset;
    image::Object object;
    to_object(record, area, &object);
    EXPECT_FALSE(object.has_state()) << offset;
  }
  record.state_offset = 32;
  image::Object object;
  to_object(record, area, &object);
  EXPECT_EQ(object.state().size(), 32u);
}

}  // namespace
}  // namespace godwit::criu
