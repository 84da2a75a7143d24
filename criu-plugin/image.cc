// SPDX-License-Identifier: GPL-2.0-or-later
#include "image.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <set>

#include "uverbs.h"

namespace godwit::criu {
namespace {

// On disk, little-endian: this project runs on x86-64 only, like the images of CRIU itself.
struct Header {
  char magic[8];
  std::uint32_t version;
  std::uint32_t length;  // of the message
  std::uint32_t crc32;   // of the message
  std::uint32_t reserved;
};
constexpr char kMagic[8] = {'G', 'D', 'W', 'T', 'I', 'M', 'G', '\n'};

std::uint32_t crc32(const std::string& bytes) {
  static const auto table = [] {
    std::array<std::uint32_t, 256> t{};
    for (std::uint32_t i = 0; i < 256; i++) {
      std::uint32_t c = i;
      for (int k = 0; k < 8; k++) c = (c >> 1) ^ ((c & 1) ? 0xedb88320u : 0);
      t[i] = c;
    }
    return t;
  }();
  std::uint32_t crc = ~0u;
  for (unsigned char byte : bytes) crc = table[(crc ^ byte) & 0xff] ^ (crc >> 8);
  return ~crc;
}

std::string system_error(const char* what) {
  return std::string(what) + " " + kImageName + ": " + std::strerror(errno);
}

bool write_all(int fd, const char* data, std::size_t length) {
  while (length > 0) {
    ssize_t n = write(fd, data, length);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    data += n;
    length -= static_cast<std::size_t>(n);
  }
  return true;
}

std::string describe(const image::Object& object) {
  return std::string(object_name(object.type())) + " with handle " +
         std::to_string(object.handle());
}

// Members that have the same name and meaning on both sides. (clang-format breaks such a list anew
// in each run.)
// clang-format off
#define GODWIT_SAME_MEMBERS(X) \
  X(user_handle) X(pd_handle) X(number) X(owner) X(access) X(start) X(length) X(iova) X(channel) \
  X(comp_events) X(async_events) X(send_cq_handle) X(recv_cq_handle) X(srq_handle) X(cqe) \
  X(comp_vector) X(record_offset) X(sq_offset) X(rq_offset) X(max_send_wr) X(max_recv_wr) \
  X(max_send_sge) X(max_recv_sge) X(max_inline) X(qp_type) X(qp_state) X(sq_sig_all) X(has_srq) \
  X(log2_sq_depth) X(log2_rq_depth) X(log2_sq_stride) X(log2_rq_stride) X(has_av) X(path_mtu) \
  X(port) X(extended_peer) X(own_gid_index) X(peer_qpn)
// clang-format on

// Every value as wide as the driver takes it: a cut one could pass for another.
std::string check_values(const image::Object& object) {
  const godwit_record record = to_record(object);
#define X(member) \
  if (record.member != object.member()) return describe(object) + ": bad value of " #member;
  GODWIT_SAME_MEMBERS(X)
#undef X
  const bool queue = object.type() == GODWIT_RECORD_CQ || object.type() == GODWIT_RECORD_QP;
  if (queue && object.length() > UINT32_MAX) return describe(object) + ": bad value of length";
  if (object.has_av() && (object.own_gid().size() != 16 || object.peer_gid().size() != 16))
    return describe(object) + ": bad GID";
  return {};
}

// Handles are unique, and what an object names exists and is of the right type.
std::string check_objects(const image::Context& context) {
  std::map<std::uint32_t, std::uint32_t> types;
  std::set<std::uint64_t> channels;
  for (const auto& channel : context.channels()) channels.insert(channel.cookie());
  for (const auto& object : context.objects()) {
    if (object.handle() >= kMaxHandle) return describe(object) + ": handle too large";
    if (std::string error = check_values(object); !error.empty()) return error;
    if (!types.emplace(object.handle(), object.type()).second)
      return describe(object) + ": handle used twice";
  }
  auto is = [&](std::uint32_t handle, std::uint32_t type) {
    auto found = types.find(handle);
    return found != types.end() && found->second == type;
  };
  for (const auto& object : context.objects()) {
    switch (object.type()) {
      case GODWIT_RECORD_PD:
        break;
      case GODWIT_RECORD_MR:
        if (!is(object.pd_handle(), GODWIT_RECORD_PD))
          return describe(object) + ": its PD is missing";
        break;
      case GODWIT_RECORD_CQ:
        if (object.channel() && !channels.count(object.channel()))
          return describe(object) + ": its completion channel is missing";
        break;
      case GODWIT_RECORD_QP:
        if (!is(object.pd_handle(), GODWIT_RECORD_PD))
          return describe(object) + ": its PD is missing";
        if (!is(object.send_cq_handle(), GODWIT_RECORD_CQ) ||
            !is(object.recv_cq_handle(), GODWIT_RECORD_CQ))
          return describe(object) + ": its CQ is missing";
        break;
      default:
        return describe(object) + ": this version cannot restore it";
    }
  }
  return {};
}

std::string check_image(const image::Image& image) {
  if (image.version() != kImageVersion)
    return "image version " + std::to_string(image.version()) + ", this plugin reads " +
           std::to_string(kImageVersion);
  if (image.driver_abi() != GODWIT_UVERBS_ABI)
    return "image for driver ABI " + std::to_string(image.driver_abi()) + ", this plugin has " +
           std::to_string(GODWIT_UVERBS_ABI);
  if (image.move() == 0) return "image without a move id";
  std::set<std::uint32_t> pages, ids;
  std::size_t events = 0;
  for (const auto& context : image.contexts()) {
    if (!pages.insert(context.doorbell_page()).second) return "two contexts with one doorbell page";
    if (context.path().empty() || context.path().front() != '/' ||
        context.path().find('\0') != std::string::npos)
      return "context without the path of its device node";
    for (const image::File* file : files_of(context))
      if (!ids.insert(file->id()).second) return "file id used twice";
    if (std::string error = check_objects(context); !error.empty()) return error;
    events += static_cast<std::size_t>(context.comp_events_size() + context.async_events_size());
  }
  if (events > kMaxEvents) return std::to_string(events) + " unread events: too many";
  return {};
}

}  // namespace

std::vector<const image::File*> files_of(const image::Context& context) {
  std::vector<const image::File*> files;
  if (context.has_file()) files.push_back(&context.file());
  if (context.has_async()) files.push_back(&context.async());
  for (const auto& channel : context.channels())
    if (channel.has_file()) files.push_back(&channel.file());
  return files;
}

const char* object_name(std::uint32_t type) {
  switch (type) {
    case GODWIT_RECORD_CONTEXT:
      return "context";
    case GODWIT_RECORD_PD:
      return "PD";
    case GODWIT_RECORD_MR:
      return "MR";
    case GODWIT_RECORD_CQ:
      return "CQ";
    case GODWIT_RECORD_QP:
      return "QP";
    case GODWIT_RECORD_SRQ:
      return "SRQ";
    case GODWIT_RECORD_MW:
      return "MW";
    case GODWIT_RECORD_AH:
      return "AH";
    default:
      return "object of an unknown type";
  }
}

std::string serialize_image(const image::Image& image) {
  std::string message = image.SerializeAsString();
  Header header = {};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.version = kImageVersion;
  header.length = static_cast<std::uint32_t>(message.size());
  header.crc32 = crc32(message);
  return std::string(reinterpret_cast<const char*>(&header), sizeof(header)) + message;
}

std::string write_image(int directory, const image::Image& image) {
  const std::string temporary = std::string(kImageName) + ".new";
  // What no restore would take is refused now, while the application can go on.
  if (std::string error = check_image(image); !error.empty()) return error;
  std::string bytes = serialize_image(image);
  if (bytes.size() > kMaxImageBytes) return "image too large";
  Fd fd(openat(directory, temporary.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600));
  if (!fd.valid()) return system_error("cannot create");
  if (!write_all(fd.get(), bytes.data(), bytes.size())) {
    std::string error = system_error("cannot write");
    unlinkat(directory, temporary.c_str(), 0);
    return error;
  }
  if (renameat(directory, temporary.c_str(), directory, kImageName)) return system_error("rename");
  return {};
}

std::string parse_image(const std::string& bytes, image::Image* image) {
  Header header;
  if (bytes.size() < sizeof(header)) return "too short for an image";
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (std::memcmp(header.magic, kMagic, sizeof(kMagic))) return "not a godwit image";
  if (header.version != kImageVersion)
    return "image version " + std::to_string(header.version) + ", this plugin reads " +
           std::to_string(kImageVersion);
  if (header.reserved) return "unknown header";
  std::string message = bytes.substr(sizeof(header));
  if (header.length != message.size()) return "cut or grown: length does not match";
  if (header.crc32 != crc32(message)) return "check sum does not match";
  if (!image->ParseFromString(message)) return "message cannot be parsed";
  return check_image(*image);
}

ReadResult read_image(int directory, image::Image* image, std::string* error) {
  Fd fd(openat(directory, kImageName, O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    if (errno == ENOENT) return ReadResult::kAbsent;
    *error = system_error("cannot open");
    return ReadResult::kBad;
  }
  struct stat st;
  if (fstat(fd.get(), &st) || st.st_size < 0 ||
      static_cast<std::size_t>(st.st_size) > kMaxImageBytes) {
    *error = "image too large";
    return ReadResult::kBad;
  }
  std::string bytes(static_cast<std::size_t>(st.st_size), '\0');
  std::size_t done = 0;
  while (done < bytes.size()) {
    ssize_t n = read(fd.get(), bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    done += static_cast<std::size_t>(n);
  }
  bytes.resize(done);
  *error = parse_image(bytes, image);
  return error->empty() ? ReadResult::kOk : ReadResult::kBad;
}

void to_object(const godwit_record& record, const std::vector<std::uint8_t>& state_area,
               image::Object* object) {
  object->set_type(record.type);
  object->set_handle(record.handle);
#define X(member) \
  if (record.member) object->set_##member(record.member);
  GODWIT_SAME_MEMBERS(X)
#undef X
  if (record.has_av) {
    object->set_own_gid(record.own_gid, sizeof(record.own_gid));
    object->set_peer_gid(record.peer_gid, sizeof(record.peer_gid));
  }
  // The driver's numbers, but checked: an offset must not reach beyond the area.
  if (record.state_length && record.state_offset <= state_area.size() &&
      record.state_length <= state_area.size() - record.state_offset)
    object->set_state(state_area.data() + record.state_offset, record.state_length);
}

void to_context(const std::vector<godwit_record>& records,
                const std::vector<std::uint8_t>& state_area, image::Context* context) {
  for (const godwit_record& record : records) {
    if (record.type == GODWIT_RECORD_CONTEXT) {
      context->set_doorbell_page(record.number);
      continue;
    }
    to_object(record, state_area, context->add_objects());
    if (record.type != GODWIT_RECORD_CQ || !record.channel) continue;
    bool known = false;
    for (const auto& channel : context->channels()) known |= channel.cookie() == record.channel;
    if (!known) context->add_channels()->set_cookie(record.channel);
  }
}

godwit_record to_record(const image::Object& object) {
  godwit_record record = {};
  record.type = object.type();
  record.handle = object.handle();
#define X(member) record.member = static_cast<decltype(record.member)>(object.member());
  GODWIT_SAME_MEMBERS(X)
#undef X
  if (object.own_gid().size() == sizeof(record.own_gid))
    std::memcpy(record.own_gid, object.own_gid().data(), sizeof(record.own_gid));
  if (object.peer_gid().size() == sizeof(record.peer_gid))
    std::memcpy(record.peer_gid, object.peer_gid().data(), sizeof(record.peer_gid));
  return record;
}

}  // namespace godwit::criu
