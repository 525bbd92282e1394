#include "disk/vhdx/log_writer.h"

#include <algorithm>

#include "core/bytes.h"
#include "core/crc32c.h"
#include "disk/vhdx/damage.h"

namespace tsvmm::vhdx {

LogWriter::LogWriter(Container& container, const Region& log, const Guid& guid)
    : container_(container), log_(log), guid_(guid) {
  // A new entry must not lie where the one before it is.
  const uint64_t longest = log_descriptors_length(kMaxUpdates) + kMaxUpdates * kSectorSize;
  if (log.length / 2 < longest || log.end() > container.size()) throw damage("it has no log");
  entry_.resize(longest);
}

int LogWriter::append(std::span<const Update> updates, uint64_t file_size) noexcept {
  const auto count = static_cast<uint32_t>(updates.size());
  const uint64_t data = log_descriptors_length(count);
  const uint64_t length = data + updates.size() * kSectorSize;
  if (position_ + length > log_.length) position_ = 0;
  const std::span<uint8_t> bytes = std::span(entry_).first(length);
  std::ranges::fill(bytes.first(data), 0);
  LogEntryHeader header{.signature = kLogEntrySignature,
                        .checksum = 0,
                        .entry_length = static_cast<uint32_t>(length),
                        .tail = static_cast<uint32_t>(position_),
                        .sequence_number = sequence_number_,
                        .descriptor_count = count,
                        .reserved = 0,
                        .log_guid = guid_,
                        .flushed_file_offset = file_size,
                        .last_file_offset = file_size};
  for (size_t i = 0; i < updates.size(); ++i) {
    const std::span<const uint8_t> content = updates[i].bytes;
    store(bytes,
          LogDescriptor{.signature = kLogDataSignature,
                        .trailing_bytes = load<uint32_t>(content, kSectorSize - kTrailingBytes),
                        .leading_bytes = load<uint64_t>(content),
                        .file_offset = updates[i].file_offset,
                        .sequence_number = sequence_number_},
          sizeof header + i * sizeof(LogDescriptor));
    LogDataSector sector{.signature = kLogDataSectorSignature,
                         .sequence_high = static_cast<uint32_t>(sequence_number_ >> 32),
                         .data = {},
                         .sequence_low = static_cast<uint32_t>(sequence_number_)};
    std::copy_n(content.begin() + kLeadingBytes, sector.data.size(), sector.data.begin());
    store(bytes, sector, data + i * kSectorSize);
  }
  store(bytes, header);
  header.checksum = crc32c(bytes);
  store(bytes, header);
  if (const int error = container_.write_bytes(log_.offset + position_, bytes)) return error;
  position_ += length;
  ++sequence_number_;
  return 0;
}

}  // namespace tsvmm::vhdx
