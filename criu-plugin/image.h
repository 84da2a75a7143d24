// SPDX-License-Identifier: GPL-2.0-or-later
//
// The image file: a header with length and check sum, then the protobuf message.
// Everything read is hostile until check_image() has passed it.
#ifndef GODWIT_CRIU_IMAGE_H
#define GODWIT_CRIU_IMAGE_H

#include <cstdint>
#include <string>
#include <vector>

#include "godwit.pb.h"
#include "godwit_uapi.h"

namespace godwit::criu {

inline constexpr std::uint32_t kImageVersion = 1;
inline constexpr char kImageName[] = "godwit.img";
inline constexpr std::size_t kMaxImageBytes = 512u << 20;
inline constexpr std::uint32_t kMaxHandle = 1u << 20;
inline constexpr std::size_t kMaxEvents = 1u << 18;

// Empty, or a plain sentence that says what is wrong. `directory` is a descriptor.
std::string write_image(int directory, const image::Image& image);
enum class ReadResult { kOk, kAbsent, kBad };
ReadResult read_image(int directory, image::Image* image, std::string* error);
// The same for bytes in memory (fuzzing, tests).
std::string parse_image(const std::string& bytes, image::Image* image);
std::string serialize_image(const image::Image& image);

// Record (and its device state) <-> message.
void to_object(const godwit_record& record, const std::vector<std::uint8_t>& state_area,
               image::Object* object);
godwit_record to_record(const image::Object& object);

// All that a context holds, but for its descriptors and unread events.
void to_context(const std::vector<godwit_record>& records,
                const std::vector<std::uint8_t>& state_area, image::Context* context);

// Those descriptors of a context that CRIU has dumped.
std::vector<const image::File*> files_of(const image::Context& context);

const char* object_name(std::uint32_t type);

}  // namespace godwit::criu

#endif  // GODWIT_CRIU_IMAGE_H
