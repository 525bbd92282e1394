#include "disk/vhdx/log_replay.h"

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

#include "core/bytes.h"
#include "core/crc32c.h"
#include "core/error.h"
#include "disk/vhdx/damage.h"

namespace tsvmm::vhdx {
namespace {

constexpr size_t kChecksumOffset = 4;
/// Logs have 1 MiB almost always. They are read into memory.
constexpr uint64_t kMaxLogLength = 16 << 20;
/// Bytes that may be looked at, as a multiple of the log's: entries that claim each other's bytes
/// would take for ever.
constexpr uint64_t kMaxChecksumFactor = 16;
/// Zeros that a log may ask for, far more than metadata has.
constexpr uint64_t kMaxZeros = 1ULL << 30;

LogDescriptor descriptor_of(std::span<const uint8_t> entry, uint32_t index) {
  return load<LogDescriptor>(entry, sizeof(LogEntryHeader) + index * sizeof(LogDescriptor));
}

/// A ring of sectors, read into memory. Its entries are known by the number of their first sector.
class Log {
 public:
  Log(Container& container, const Header& header, const Cancellation& cancellation)
      : region_{header.log_offset, header.log_length},
        guid_(header.log_guid),
        cancellation_(cancellation) {
    if (region_.length == 0 || region_.length > kMaxLogLength) throw damage("its log has no size");
    bytes_.resize(region_.length);
    entries_.resize(sectors());
    budget_ = region_.length * kMaxChecksumFactor;
    check(container.read(region_.offset, bytes_), "reading the VHDX log");
  }

  [[nodiscard]] const Region& region() const { return region_; }
  [[nodiscard]] uint64_t sectors() const { return region_.length / kSectorSize; }

  /// The header of the entry at a sector, if there is one that is whole.
  [[nodiscard]] const std::optional<LogEntryHeader>& entry(uint64_t sector) {
    Known& known = entries_[sector];
    if (!known.read) known = {.read = true, .header = read_entry(sector * kSectorSize)};
    return known.header;
  }

  /// An entry's bytes in one piece.
  [[nodiscard]] std::vector<uint8_t> copy(uint64_t offset, uint64_t length) const {
    std::vector<uint8_t> copied(length);
    const uint64_t first = std::min(length, bytes_.size() - offset);
    std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(offset), first, copied.begin());
    std::copy_n(bytes_.begin(), length - first, copied.begin() + static_cast<ptrdiff_t>(first));
    return copied;
  }

 private:
  struct Known {
    bool read = false;
    std::optional<LogEntryHeader> header;
  };

  [[nodiscard]] std::optional<LogEntryHeader> read_entry(uint64_t offset) {
    const auto header = load<LogEntryHeader>(bytes_, offset);
    if (header.signature != kLogEntrySignature || header.log_guid != guid_ ||
        header.sequence_number == 0 || header.entry_length % kSectorSize != 0 ||
        header.entry_length > region_.length || header.tail % kSectorSize != 0 ||
        header.tail >= region_.length ||
        log_descriptors_length(header.descriptor_count) > header.entry_length) {
      return std::nullopt;
    }
    if (header.entry_length > budget_) throw damage("its log has no order");
    budget_ -= header.entry_length;
    cancellation_.check();
    std::vector<uint8_t> bytes = copy(offset, header.entry_length);
    store<uint32_t>(bytes, 0, kChecksumOffset);
    if (crc32c(bytes) != header.checksum || !is_consistent(header, bytes)) return std::nullopt;
    return header;
  }

  /// Every descriptor and data sector is one, and of this entry.
  static bool is_consistent(const LogEntryHeader& header, std::span<const uint8_t> bytes) {
    const uint64_t sequence = header.sequence_number;
    uint64_t data = log_descriptors_length(header.descriptor_count);
    for (uint32_t i = 0; i < header.descriptor_count; ++i) {
      const LogDescriptor descriptor = descriptor_of(bytes, i);
      if (descriptor.sequence_number != sequence || descriptor.file_offset % kSectorSize != 0) {
        return false;
      }
      if (descriptor.signature == kLogZeroSignature) continue;
      if (descriptor.signature != kLogDataSignature || data >= bytes.size()) return false;
      const auto sector = load<LogDataSector>(bytes, data);
      if (sector.signature != kLogDataSectorSignature || sector.sequence_high != sequence >> 32 ||
          sector.sequence_low != (sequence & UINT32_MAX)) {
        return false;
      }
      data += kSectorSize;
    }
    return true;
  }

  const Region region_;
  const Guid guid_;
  const Cancellation& cancellation_;
  std::vector<uint8_t> bytes_;
  std::vector<Known> entries_;  ///< by sector
  uint64_t budget_ = 0;
};

/// Entries that follow each other.
struct Sequence {
  uint64_t first = 0;  ///< sector
  uint64_t count = 0;
  uint64_t newest = 0;  ///< sequence number of the last
};

uint64_t next_sector(const Log& log, uint64_t sector, const LogEntryHeader& entry) {
  return (sector + entry.entry_length / kSectorSize) % log.sectors();
}

/// The entries from `start` on with rising numbers, if the newest of them has that one for its tail
/// (§2.3.2).
std::optional<Sequence> sequence_at(Log& log, uint64_t start) {
  Sequence sequence{.first = start};
  uint64_t covered = 0;
  uint64_t tail = 0;
  for (uint64_t sector = start;;) {
    const std::optional<LogEntryHeader>& entry = log.entry(sector);
    if (!entry) break;
    covered += entry->entry_length;
    const bool follows = sequence.count == 0 || entry->sequence_number == sequence.newest + 1;
    if (!follows || covered > log.region().length) break;
    sequence.newest = entry->sequence_number;
    tail = entry->tail / kSectorSize;
    ++sequence.count;
    sector = next_sector(log, sector, *entry);
  }
  const bool counts = sequence.count != 0 && tail == start;
  return counts ? std::optional(sequence) : std::nullopt;
}

/// The one that counts: that with the newest entry. Where the newest entry's tail lies among others
/// that follow each other, the search comes to it in its turn.
std::optional<Sequence> active_sequence(Log& log) {
  std::optional<Sequence> active;
  for (uint64_t sector = 0; sector < log.sectors(); ++sector) {
    const std::optional<Sequence> found = sequence_at(log, sector);
    if (found && (!active || found->newest > active->newest)) active = found;
  }
  return active;
}

/// What an entry may change: everything behind the headers but the log itself.
void check_target(const Log& log, const LogEntryHeader& header, const Region& target) {
  if (target.offset < kRegionTableOffsets[0] || target.length > kMaxFileSize ||
      target.offset > kMaxFileSize || target.end() > header.last_file_offset ||
      target.overlaps(log.region())) {
    throw damage("its log would change what it must not");
  }
}

void check_entry(const Log& log, const Container& container, std::span<const uint8_t> entry,
                 uint64_t& zeros) {
  const auto header = load<LogEntryHeader>(entry);
  if (header.flushed_file_offset > container.size() || header.last_file_offset > kMaxFileSize) {
    throw damage("it is shorter than its log says");
  }
  for (uint32_t i = 0; i < header.descriptor_count; ++i) {
    const LogDescriptor descriptor = descriptor_of(entry, i);
    const bool is_zero = descriptor.signature == kLogZeroSignature;
    const uint64_t length = is_zero ? descriptor.leading_bytes : kSectorSize;
    check_target(log, header, {descriptor.file_offset, length});
    if (is_zero) zeros += length;
    if (zeros > kMaxZeros) throw damage("its log asks for too many zeros");
  }
}

void write_zeros(Container& container, uint64_t offset, uint64_t length,
                 const Cancellation& cancellation) {
  const std::vector<uint8_t> zeros(std::min<uint64_t>(length, kMib));
  while (length != 0) {
    cancellation.check();
    const uint64_t size = std::min<uint64_t>(length, zeros.size());
    check(container.write_bytes(offset, std::span(zeros).first(size)), "replaying the VHDX log");
    offset += size;
    length -= size;
  }
}

void write_sector(Container& container, const LogDescriptor& descriptor,
                  const LogDataSector& sector) {
  std::array<uint8_t, kSectorSize> bytes{};
  store(std::span<uint8_t>(bytes), descriptor.leading_bytes);
  std::ranges::copy(sector.data, bytes.begin() + kLeadingBytes);
  store(std::span<uint8_t>(bytes), descriptor.trailing_bytes, kSectorSize - kTrailingBytes);
  check(container.write_bytes(descriptor.file_offset, bytes), "replaying the VHDX log");
}

void replay(Container& container, std::span<const uint8_t> entry,
            const Cancellation& cancellation) {
  const auto header = load<LogEntryHeader>(entry);
  check(container.grow(header.last_file_offset), "making the VHDX image longer");
  uint64_t data = log_descriptors_length(header.descriptor_count);
  for (uint32_t i = 0; i < header.descriptor_count; ++i) {
    const LogDescriptor descriptor = descriptor_of(entry, i);
    if (descriptor.signature == kLogZeroSignature) {
      write_zeros(container, descriptor.file_offset, descriptor.leading_bytes, cancellation);
    } else {
      write_sector(container, descriptor, load<LogDataSector>(entry, data));
      data += kSectorSize;
    }
  }
}

template <typename Each>
void for_each_entry(Log& log, const Sequence& sequence, const Each& each) {
  uint64_t sector = sequence.first;
  for (uint64_t i = 0; i < sequence.count; ++i) {
    const LogEntryHeader& header = *log.entry(sector);
    each(log.copy(sector * kSectorSize, header.entry_length));
    sector = next_sector(log, sector, header);
  }
}

}  // namespace

void replay_log(Container& container, const Header& header, const Cancellation& cancellation) {
  if (header.log_version != 0) throw Error("ENOTSUP", "the VHDX image has an unknown log version");
  Log log(container, header, cancellation);
  const std::optional<Sequence> sequence = active_sequence(log);
  if (!sequence) return;
  uint64_t zeros = 0;
  for_each_entry(log, *sequence, [&](std::span<const uint8_t> entry) {
    check_entry(log, container, entry, zeros);
  });
  for_each_entry(log, *sequence,
                 [&](std::span<const uint8_t> entry) { replay(container, entry, cancellation); });
  check(container.barrier(), "replaying the VHDX log");
}

}  // namespace tsvmm::vhdx
