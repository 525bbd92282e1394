#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/cbor_writer.h"
#include "core/message.h"
#include "core/unique_fd.h"

namespace tsvmm::message_test {

inline std::vector<uint8_t> from_hex(std::string_view text) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    bytes.push_back(static_cast<uint8_t>(std::stoul(std::string(text.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

/// Builds messages with descriptors, as the layer above does.
class MessageBuilder {
 public:
  CborWriter& writer() { return writer_; }
  /// Writes a descriptor, a duplicate of one that stays the caller's.
  MessageBuilder& descriptor(int fd) {
    // The tag kDescriptorTag, and an index below 24.
    writer_.item(std::array<uint8_t, 4>{0xd9, 0xfd, 0x00,
                                        static_cast<uint8_t>(message_.descriptors.size())});
    message_.descriptors.push_back(UniqueFd::duplicate(fd));
    return *this;
  }
  Message take() {
    message_.bytes = writer_.take();
    return std::move(message_);
  }

 private:
  CborWriter writer_;
  Message message_;
};

/// What `read` makes of the fields of a message that is a map.
template <typename Read>
auto read_map(Message message, const Read& read) {
  MessageReader reader(message);
  return reader.value().map(read);
}

}  // namespace tsvmm::message_test
