#include "disk/qcow2/mapping.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/error.h"

namespace tsvmm::qcow2 {
namespace {

/// L2 slices kept in memory at most: of 128 GiB with clusters of 64 KiB.
constexpr size_t kL2CacheBytes = 16 << 20;
constexpr uint64_t kL1PieceEntries = 512;
/// What an entry that makes no sense becomes in memory. Nothing is written to such an image.
constexpr uint64_t kDamagedWord = 2;

}  // namespace

Mapping::Mapping(Container& container, const Header& header, MetadataMap* metadata)
    : container_(container),
      header_(header),
      geometry_(header.geometry),
      metadata_(metadata),
      max_slices_(kL2CacheBytes / geometry_.slice_bytes()) {}

void Mapping::open() {
  l1_.resize(header_.l1_entries);
  const std::span<uint8_t> raw(reinterpret_cast<uint8_t*>(l1_.data()), l1_.size() * 8);
  if (const int error = container_.read(header_.l1_offset, raw)) {
    throw Error::from_errno("reading the qcow2 image's L1 table", error);
  }
  for (uint64_t& word : l1_) {
    word = big_endian(word);
    const uint64_t table = word & kOffsetMask;
    if ((word & kReservedL1) != 0 || (table & geometry_.cluster_mask()) != 0 ||
        (table != 0 && table >= container_.size())) {
      throw Error("EINVAL", "qcow2 image: an entry of its L1 table is damaged");
    }
    if (table != 0 && metadata_ != nullptr) {
      metadata_->collect(table >> geometry_.cluster_bits, 1);
    }
  }
}

Mapping::Slice* Mapping::slice_at(uint64_t index) const noexcept {
  if (last_ != nullptr && last_->index == index) return last_;
  const auto found = slices_.find(index);
  if (found == slices_.end()) return nullptr;
  last_ = found->second.get();
  return last_;
}

Extent Mapping::find(uint64_t offset, uint64_t length, InFlight& in_flight) noexcept {
  const std::lock_guard guard(lock_);
  Extent extent;
  while (extent.length < length) {
    const uint64_t at = offset + extent.length;
    Extent next;
    if ((l1_[l1_index(at)] & kOffsetMask) == 0) {
      const uint64_t span = uint64_t{1} << geometry_.table_span_bits();
      next = {.kind = Extent::Kind::kUnallocated, .length = span - (at & (span - 1))};
    } else if (Slice* slice = slice_at(at >> geometry_.slice_span_bits())) {
      slice->recent = true;
      next = extent_in(*slice, at, length - extent.length);
    }
    if (extent.length == 0) {
      extent = next;
    } else if (next.kind == extent.kind && next.writable == extent.writable &&
               (next.kind == Extent::Kind::kUnallocated || next.kind == Extent::Kind::kZero ||
                (next.kind == Extent::Kind::kData && next.host == extent.host + extent.length))) {
      extent.length += next.length;
    } else {
      break;
    }
    if (next.length == 0) break;
  }
  extent.length = std::min(extent.length, length);
  if (extent.kind == Extent::Kind::kData || extent.kind == Extent::Kind::kCompressed) {
    extent.epoch = in_flight.enter();
  }
  return extent;
}

Extent Mapping::extent_in(const Slice& slice, uint64_t offset, uint64_t length) const noexcept {
  const uint64_t span = uint64_t{1} << geometry_.slice_span_bits();
  const uint64_t end = std::min(length, span - (offset & (span - 1)));
  Extent extent = granule(slice, offset);
  if (extent.kind == Extent::Kind::kCompressed || extent.kind == Extent::Kind::kDamaged) {
    return extent;
  }
  while (extent.length < end) {
    const Extent next = granule(slice, offset + extent.length);
    if (next.kind != extent.kind || next.writable != extent.writable) break;
    if (next.kind == Extent::Kind::kData && next.host != extent.host + extent.length) break;
    extent.length += next.length;
  }
  return extent;
}

Extent Mapping::granule(const Slice& slice, uint64_t offset) const noexcept {
  const uint64_t slot = (offset >> geometry_.cluster_bits) & (geometry_.slice_entries() - 1);
  const uint64_t word = slice.words[slot * geometry_.entry_words()];
  const uint64_t inside = offset & geometry_.cluster_mask();
  Extent extent{.length = geometry_.cluster_size() - inside};
  if (word == kDamagedWord) {
    extent.kind = Extent::Kind::kDamaged;
  } else if ((word & kCompressed) != 0) {
    extent.kind = Extent::Kind::kCompressed;
    extent.host = word;
  } else if (geometry_.extended) {
    const uint64_t bitmap = slice.words[slot * 2 + 1];
    const uint32_t bit = static_cast<uint32_t>(inside >> geometry_.granule_bits());
    extent.length = geometry_.granule_size() - (offset & (geometry_.granule_size() - 1));
    extent.kind = (bitmap >> bit & 1) != 0          ? Extent::Kind::kData
                  : (bitmap >> (bit + 32) & 1) != 0 ? Extent::Kind::kZero
                                                    : Extent::Kind::kUnallocated;
  } else {
    extent.kind = (word & kZeroFlag) != 0     ? Extent::Kind::kZero
                  : (word & kOffsetMask) != 0 ? Extent::Kind::kData
                                              : Extent::Kind::kUnallocated;
  }
  if (extent.kind == Extent::Kind::kData) {
    extent.host = (word & kOffsetMask) + inside;
    extent.writable = (word & kCopied) != 0;
  }
  return extent;
}

uint64_t Mapping::slice_place(uint64_t index) const noexcept {
  const uint64_t slices_a_table = uint64_t{1} << (geometry_.table_bits() - geometry_.slice_bits());
  const uint64_t table = l1_[index / slices_a_table] & kOffsetMask;
  return table + index % slices_a_table * geometry_.slice_bytes();
}

bool Mapping::evict() noexcept {
  if (clock_.size() < max_slices_) return true;
  // Two rounds: the first one takes away the second chances.
  for (size_t i = 0; i < 2 * clock_.size(); ++i) {
    hand_ = (hand_ + 1) % clock_.size();
    Slice* slice = clock_[hand_];
    if (slice->dirty || std::exchange(slice->recent, false)) continue;
    clock_[hand_] = clock_.back();
    clock_.pop_back();
    if (last_ == slice) last_ = nullptr;
    slices_.erase(slice->index);
    return true;
  }
  return false;
}

int Mapping::load(uint64_t offset) noexcept {
  const uint64_t index = offset >> geometry_.slice_span_bits();
  {
    const std::lock_guard guard(lock_);
    if ((l1_[l1_index(offset)] & kOffsetMask) == 0 || slice_at(index) != nullptr) return 0;
    if (!evict()) return EBUSY;
  }
  auto slice = std::make_unique<Slice>();
  slice->index = index;
  const size_t words = geometry_.slice_entries() * geometry_.entry_words();
  slice->words = std::make_unique_for_overwrite<uint64_t[]>(words);
  const std::span<uint8_t> raw(reinterpret_cast<uint8_t*>(slice->words.get()), words * 8);
  if (const int error = container_.read(slice_place(index), raw)) return error;
  for (size_t i = 0; i < words; ++i) slice->words[i] = big_endian(slice->words[i]);
  const bool sound = check(*slice);
  const std::lock_guard guard(lock_);
  clock_.push_back(slice.get());
  slices_.emplace(index, std::move(slice));
  return sound || metadata_ == nullptr ? 0 : EUCLEAN;
}

bool Mapping::check(Slice& slice) noexcept {
  bool sound = true;
  for (uint64_t slot = 0; slot < geometry_.slice_entries(); ++slot) {
    uint64_t* words = &slice.words[slot * geometry_.entry_words()];
    if (words[0] == 0 && !geometry_.extended) continue;
    const Entry entry{words[0], geometry_.extended ? words[1] : 0};
    if (is_sound(entry)) {
      if (entry.host() != 0) {
        data_end_ = std::max(data_end_, (entry.host() >> geometry_.cluster_bits) + 1);
      }
      continue;
    }
    words[0] = kDamagedWord;
    sound = false;
  }
  return sound;
}

bool Mapping::is_sound(const Entry& entry) const noexcept {
  uint64_t first = 0;
  uint64_t count = 1;
  if (entry.compressed()) {
    if ((entry.word & kCopied) != 0) return false;
    const CompressedRange range = compressed_range(geometry_, entry.word);
    if (range.offset >= kMaxHostOffset) return false;
    first = range.offset >> geometry_.cluster_bits;
    count = ((range.offset + range.length - 1) >> geometry_.cluster_bits) - first + 1;
  } else {
    if ((entry.word & kReservedL2) != 0) return false;
    const bool zero_flag_allowed = header_.version >= 3 && !geometry_.extended;
    if ((entry.word & kZeroFlag) != 0 && !zero_flag_allowed) return false;
    if ((entry.allocated() & entry.zeroes()) != 0) return false;
    const uint64_t host = entry.host();
    if (host == 0) return (entry.word & kCopied) == 0 && entry.allocated() == 0;
    if ((host & geometry_.cluster_mask()) != 0) return false;
    first = host >> geometry_.cluster_bits;
  }
  return metadata_ == nullptr || !metadata_->overlaps(first, count);
}

Entry Mapping::entry(uint64_t cluster) const noexcept {
  const std::lock_guard guard(lock_);
  const Slice* slice = slice_at(cluster >> geometry_.slice_bits());
  const uint64_t slot = cluster & (geometry_.slice_entries() - 1);
  const uint64_t* words = &slice->words[slot * geometry_.entry_words()];
  return {words[0], geometry_.extended ? words[1] : 0};
}

void Mapping::set_entry(uint64_t cluster, const Entry& entry) noexcept {
  const std::lock_guard guard(lock_);
  Slice* slice = slice_at(cluster >> geometry_.slice_bits());
  const uint64_t slot = cluster & (geometry_.slice_entries() - 1);
  uint64_t* words = &slice->words[slot * geometry_.entry_words()];
  words[0] = entry.word;
  if (geometry_.extended) words[1] = entry.bitmap;
  if (!std::exchange(slice->dirty, true)) dirty_slices_.push_back(slice);
}

void Mapping::set_l1(uint64_t index, uint64_t word) noexcept {
  const std::lock_guard guard(lock_);
  l1_[index] = word;
  const uint64_t piece = index / kL1PieceEntries;
  if (std::ranges::find(dirty_l1_, piece) == dirty_l1_.end()) dirty_l1_.push_back(piece);
}

void Mapping::resize_l1(uint64_t entries) {
  const std::lock_guard guard(lock_);
  l1_.resize(entries);
}

int Mapping::write_l1_piece(uint64_t piece) noexcept {
  const uint64_t first = piece * kL1PieceEntries;
  const uint64_t count = std::min<uint64_t>(kL1PieceEntries, l1_.size() - first);
  std::vector<uint64_t> raw(count);
  for (uint64_t i = 0; i < count; ++i) raw[i] = big_endian(l1_[first + i]);
  return container_.write_bytes(header_.l1_offset + first * 8,
                                {reinterpret_cast<const uint8_t*>(raw.data()), count * 8});
}

int Mapping::write_l1(uint64_t offset) noexcept {
  std::vector<uint64_t> raw(l1_.size());
  std::ranges::transform(l1_, raw.begin(), big_endian<uint64_t>);
  return container_.write_bytes(offset,
                                {reinterpret_cast<const uint8_t*>(raw.data()), raw.size() * 8});
}

int Mapping::write_back() noexcept {
  const size_t words = geometry_.slice_entries() * geometry_.entry_words();
  std::vector<uint64_t> raw(words);
  for (const Slice* slice : dirty_slices_) {
    for (size_t i = 0; i < words; ++i) raw[i] = big_endian(slice->words[i]);
    const int error = container_.write_bytes(
        slice_place(slice->index), {reinterpret_cast<const uint8_t*>(raw.data()), words * 8});
    if (error != 0) return error;
  }
  for (const uint64_t piece : dirty_l1_) {
    if (const int error = write_l1_piece(piece)) return error;
  }
  return 0;
}

void Mapping::set_clean() noexcept {
  const std::lock_guard guard(lock_);
  for (Slice* slice : dirty_slices_) slice->dirty = false;
  dirty_slices_.clear();
  dirty_l1_.clear();
}

}  // namespace tsvmm::qcow2
