// SPDX-License-Identifier: GPL-2.0-or-later
//
// The checkpoint image that CRIU hands to the plugin: any bytes, messages behind a header that
// fits, and good images that were changed. It is refused with a sentence, or a restore can work
// with it.
#include <google/protobuf/stubs/logging.h>

#include <cstring>
#include <set>
#include <string>

#include "fuzz/input.h"
#include "plugin/good_image.h"
#include "wire/icrc.h"

namespace godwit::fuzz {
namespace {

using image::Context;
using image::Image;
using image::Object;

// image.cc, Header.
constexpr std::size_t kHeaderBytes = 24;
constexpr std::size_t kLengthAt = 12;
constexpr std::size_t kCrcAt = 16;

std::string with_header(const std::string& message) {
  std::string bytes = criu::serialize_image(criu::good()).substr(0, kHeaderBytes) + message;
  const auto length = static_cast<std::uint32_t>(message.size());
  const std::uint32_t crc =
      ~wire::crc32(~0U, {reinterpret_cast<const std::uint8_t*>(message.data()), message.size()});
  std::memcpy(&bytes[kLengthAt], &length, sizeof(length));
  std::memcpy(&bytes[kCrcAt], &crc, sizeof(crc));
  return bytes;
}

// What a restore relies on without looking again.
void check_usable(const Image& image) {
  require(image.move() != 0 && image.version() == criu::kImageVersion, "the image has a name");
  std::set<std::uint32_t> pages;
  std::set<std::uint32_t> files;
  std::size_t events = 0;
  for (const Context& context : image.contexts()) {
    require(pages.insert(context.doorbell_page()).second, "a doorbell page is of one context");
    require(context.path().size() == std::strlen(context.path().c_str()) &&
                context.path().starts_with("/"),
            "a path is a path");
    if (context.has_file()) require(files.insert(context.file().id()).second, "files differ");
    if (context.has_async()) require(files.insert(context.async().id()).second, "files differ");
    std::set<std::uint64_t> channels;
    for (const auto& channel : context.channels()) channels.insert(channel.cookie());
    std::set<std::uint32_t> pds;
    std::set<std::uint32_t> cqs;
    std::set<std::uint32_t> handles;
    for (const Object& object : context.objects()) {
      require(object.handle() < criu::kMaxHandle && handles.insert(object.handle()).second,
              "handles are small and differ");
      if (object.type() == GODWIT_RECORD_PD) pds.insert(object.handle());
      if (object.type() == GODWIT_RECORD_CQ) cqs.insert(object.handle());
      const godwit_record record = criu::to_record(object);
      require(record.length == object.length() && record.iova == object.iova() &&
                  record.access == object.access() && record.qp_type == object.qp_type(),
              "no value is cut");
    }
    for (const Object& object : context.objects()) {
      const bool qp = object.type() == GODWIT_RECORD_QP;
      if (qp || object.type() == GODWIT_RECORD_MR) {
        require(pds.contains(object.pd_handle()), "a PD is there");
      }
      if (qp) {
        require(cqs.contains(object.send_cq_handle()) && cqs.contains(object.recv_cq_handle()),
                "CQs are there");
      }
      if (object.type() == GODWIT_RECORD_CQ && object.channel() != 0) {
        require(channels.contains(object.channel()), "a channel is there");
      }
    }
    events += static_cast<std::size_t>(context.comp_events_size() + context.async_events_size());
  }
  require(events <= criu::kMaxEvents, "no more events than can be kept");
}

void parse(const std::string& bytes) {
  Image image;
  const std::string error = criu::parse_image(bytes, &image);
  if (!error.empty()) {
    require(error.size() < 400 && error.find('\n') == std::string::npos, "an error is a sentence");
    return;
  }
  check_usable(image);
  Image again;
  require(criu::parse_image(criu::serialize_image(image), &again).empty(),
          "what was taken can be written and taken again");
  require(again.SerializeAsString() == image.SerializeAsString(), "and is the same");
}

std::string changed_message(Input* in) {
  std::string message = criu::good().SerializeAsString();
  for (unsigned n = in->byte() % 8; n > 0; --n) {
    const std::size_t at = in->half() % message.size();
    switch (in->byte() % 4) {
      case 0:
        message[at] = static_cast<char>(in->byte());
        break;
      case 1:
        message.erase(at, 1 + in->byte() % 8);
        break;
      case 2: {
        const auto bytes = in->bytes(in->byte() % 32);
        message.insert(message.begin() + static_cast<std::ptrdiff_t>(at), bytes.begin(),
                       bytes.end());
        break;
      }
      default:
        message.insert(at, message.substr(in->half() % message.size(), in->byte()));
        break;
    }
    if (message.empty()) message = "x";
  }
  return message;
}

// Objects that name each other, rightly or not.
Image made_image(Input* in) {
  Image image = criu::good();
  if (in->byte() == 0) image.set_move(0);
  if (in->byte() == 0) image.set_driver_abi(in->byte());
  for (unsigned contexts = in->byte() % 3; contexts > 0; --contexts) {
    Context* context = in->chance() ? image.add_contexts() : image.mutable_contexts(0);
    context->set_doorbell_page(in->byte() % 8);
    context->set_path(in->byte() != 0 ? "/dev/infiniband/uverbs1" : std::string("x\0y", 3));
    if (in->chance()) {
      context->mutable_file()->set_id(in->byte());
      context->mutable_file()->set_flags(2);
    }
    if (in->chance()) context->add_channels()->set_cookie(in->byte() % 4);
    for (unsigned n = in->byte() % 8; n > 0; --n) {
      Object* object = criu::add(context, in->byte() % 10, in->byte() % 16);
      if (in->byte() == 0) object->set_handle(in->word());
      object->set_pd_handle(in->byte() % 8);
      object->set_send_cq_handle(in->byte() % 8);
      object->set_recv_cq_handle(in->byte() % 8);
      if (in->chance()) object->set_channel(in->byte() % 4);
      switch (in->byte() % 8) {
        case 0:
          object->set_qp_type(in->word());
          break;
        case 1:
          object->set_length(in->quad());
          break;
        case 2:
          object->set_has_av(in->byte());
          object->set_own_gid(std::string(in->byte() % 18, '\1'));
          object->set_peer_gid(std::string(16, '\2'));
          break;
        case 3:
          object->set_log2_sq_stride(in->half());
          break;
        case 4:
          object->set_state(std::string(in->half() % 2000, '\3'));
          break;
        default:
          break;
      }
    }
  }
  return image;
}

}  // namespace
}  // namespace godwit::fuzz

// What protobuf has to say about it would be most of the output.
extern "C" int LLVMFuzzerInitialize(int*, char***) {
  google::protobuf::SetLogHandler(nullptr);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace godwit::fuzz;
  Input in(data, size);
  const std::uint8_t how = in.byte();
  const auto rest = [&] {
    const auto bytes = in.bytes(size);
    return std::string(bytes.begin(), bytes.end());
  };
  switch (how % 4) {
    case 0:
      parse(rest());
      break;
    case 1:
      parse(with_header(rest()));
      break;
    case 2:
      parse(with_header(changed_message(&in)));
      break;
    default:
      parse(godwit::criu::serialize_image(made_image(&in)));
      break;
  }
  return 0;
}
