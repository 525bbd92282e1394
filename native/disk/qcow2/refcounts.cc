#include "disk/qcow2/refcounts.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace tsvmm::qcow2 {
namespace {

constexpr uint64_t kBlockCacheBytes = 1 << 20;
constexpr size_t kMinBlocks = 8;
/// Ranges of free clusters that are remembered; others are found when the image is opened again.
constexpr size_t kMaxReusable = 65536;
/// Reserved bits of a refcount table entry.
constexpr uint64_t kReservedTable = 0x1ff;

/// Where a count of less than a byte is (qcow2 spec, "Refcount blocks").
struct BitField {
  BitField(uint32_t order, uint64_t slot)
      : byte((slot << order) / 8),
        shift(static_cast<uint32_t>((slot << order) % 8)),
        mask((1U << (1U << order)) - 1) {}

  uint64_t byte;
  uint32_t shift;
  uint32_t mask;
};

}  // namespace

Refcounts::Refcounts(Container& container, Header& header, MetadataMap& metadata)
    : container_(container),
      header_(header),
      metadata_(metadata),
      geometry_(header.geometry),
      block_bits_(geometry_.refcount_block_bits()),
      max_blocks_(std::max<size_t>(kBlockCacheBytes >> geometry_.cluster_bits, kMinBlocks)) {}

void Refcounts::open() {
  const uint64_t bytes = uint64_t{header_.refcount_table_clusters} << geometry_.cluster_bits;
  table_.resize(bytes / sizeof(uint64_t));
  const std::span<uint8_t> raw(reinterpret_cast<uint8_t*>(table_.data()), bytes);
  if (const int error = container_.read(header_.refcount_table_offset, raw)) {
    throw Error::from_errno("reading the qcow2 image's refcount table", error);
  }
  metadata_.collect(header_.refcount_table_offset >> geometry_.cluster_bits,
                    header_.refcount_table_clusters);
  for (uint64_t& entry : table_) {
    entry = big_endian(entry);
    if (entry == 0) continue;
    if ((entry & kReservedTable) != 0 || (entry & geometry_.cluster_mask()) != 0 ||
        entry >= kMaxHostOffset || entry >= container_.size()) {
      throw Error("EINVAL", "qcow2 image: an entry of its refcount table is damaged");
    }
    metadata_.collect(entry >> geometry_.cluster_bits, 1);
  }
  fresh_from_ = geometry_.clusters(container_.size());
  used_end_ = fresh_from_;
}

int Refcounts::reach(uint64_t first, uint64_t count) noexcept {
  const uint64_t end = first + count;
  if (end > (kMaxHostOffset >> geometry_.cluster_bits)) return EFBIG;
  const int error = container_.grow(end << geometry_.cluster_bits);
  if (error == 0) used_end_ = std::max(used_end_, end);
  return error;
}

uint64_t Refcounts::capacity() const noexcept {
  return std::min<uint64_t>(table_.size() << block_bits_, kMaxHostOffset >> geometry_.cluster_bits);
}

uint64_t Refcounts::count_in(const Block& block, uint64_t slot) const noexcept {
  const uint8_t* bytes = block.bytes.get();
  switch (geometry_.refcount_order) {
    case 0:
    case 1:
    case 2: {
      const BitField field(geometry_.refcount_order, slot);
      return (bytes[field.byte] >> field.shift) & field.mask;
    }
    case 3:
      return bytes[slot];
    case 4:
      return load_be<uint16_t>({bytes + slot * 2, 2}, 0);
    case 5:
      return load_be<uint32_t>({bytes + slot * 4, 4}, 0);
    default:
      return load_be<uint64_t>({bytes + slot * 8, 8}, 0);
  }
}

void Refcounts::set_in(Block& block, uint64_t slot, uint64_t count) const noexcept {
  uint8_t* bytes = block.bytes.get();
  switch (geometry_.refcount_order) {
    case 0:
    case 1:
    case 2: {
      const BitField field(geometry_.refcount_order, slot);
      const uint32_t others = bytes[field.byte] & ~(field.mask << field.shift);
      bytes[field.byte] = static_cast<uint8_t>(others | count << field.shift);
      break;
    }
    case 3:
      bytes[slot] = static_cast<uint8_t>(count);
      break;
    case 4:
      store_be({bytes + slot * 2, 2}, 0, static_cast<uint16_t>(count));
      break;
    case 5:
      store_be({bytes + slot * 4, 4}, 0, static_cast<uint32_t>(count));
      break;
    default:
      store_be({bytes + slot * 8, 8}, 0, count);
  }
  block.dirty = true;
}

int Refcounts::write_block(uint64_t index, Block& block) noexcept {
  const int error =
      container_.write_bytes(table_[index], {block.bytes.get(), geometry_.cluster_size()});
  if (error == 0) block.dirty = false;
  return error;
}

int Refcounts::make_room() noexcept {
  if (blocks_.size() < max_blocks_) return 0;
  const auto oldest =
      std::ranges::min_element(blocks_, {}, [](const auto& entry) { return entry.second.used; });
  if (oldest->second.dirty) {
    if (const int error = write_block(oldest->first, oldest->second)) return error;
  }
  blocks_.erase(oldest);
  return 0;
}

Refcounts::Block& Refcounts::new_block(uint64_t index) {
  Block& block = blocks_[index];
  block.bytes = std::make_unique<uint8_t[]>(geometry_.cluster_size());
  block.used = ++clock_;
  return block;
}

int Refcounts::load(uint64_t index, Block*& block) noexcept {
  if (const auto found = blocks_.find(index); found != blocks_.end()) {
    found->second.used = ++clock_;
    block = &found->second;
    return 0;
  }
  if (const int error = make_room()) return error;
  Block& made = new_block(index);
  if (const int error =
          container_.read(table_[index], {made.bytes.get(), geometry_.cluster_size()})) {
    blocks_.erase(index);
    return error;
  }
  block = &made;
  return 0;
}

int Refcounts::get(uint64_t cluster, uint64_t& count) noexcept {
  const uint64_t index = cluster >> block_bits_;
  count = 0;
  if (index >= table_.size() || table_[index] == 0) return 0;
  Block* block = nullptr;
  if (const int error = load(index, block)) return error;
  count = count_in(*block, cluster & (block_entries() - 1));
  return 0;
}

int Refcounts::set(uint64_t cluster, uint64_t count) noexcept {
  const uint64_t index = cluster >> block_bits_;
  if (index >= table_.size()) return EUCLEAN;
  if (table_[index] == 0) {
    if (count == 0) return 0;
    if (const int error = add_block(index)) return error;
  }
  Block* block = nullptr;
  if (const int error = load(index, block)) return error;
  set_in(*block, cluster & (block_entries() - 1), count);
  return 0;
}

int Refcounts::add_block(uint64_t index) noexcept {
  // A new block lies in the first of the clusters that it counts, and so counts itself.
  const uint64_t cluster = index << block_bits_;
  if (metadata_.overlaps(cluster, 1)) return EUCLEAN;
  if (const int error = make_room()) return error;
  if (const int error = reach(cluster, 1)) return error;
  set_in(new_block(index), 0, 1);
  table_[index] = cluster << geometry_.cluster_bits;
  table_dirty_ = true;
  metadata_.insert(cluster, 1);
  return 0;
}

int Refcounts::take(uint64_t first, uint64_t count) noexcept {
  if (metadata_.overlaps(first, count)) return EUCLEAN;
  if (const int error = reach(first, count)) return error;
  for (uint64_t i = 0; i < count; ++i) {
    if (const int error = set(first + i, 1)) return error;
  }
  return 0;
}

bool Refcounts::take_reusable(uint64_t wanted, ClusterRun& run) noexcept {
  if (reusable_.empty()) return false;
  const auto lowest = reusable_.begin();
  const auto [first, count] = *lowest;
  run = {first, std::min(wanted, count), false};
  reusable_.erase(lowest);
  if (run.count < count) reusable_.emplace(first + run.count, count - run.count);
  return true;
}

int Refcounts::allocate(uint64_t wanted, ClusterRun& run) noexcept {
  if (take_reusable(wanted, run)) return take(run.first, run.count);
  for (;;) {
    const uint64_t index = scan_ >> block_bits_;
    if (index >= table_.size()) {
      if (const int error = grow_table()) return error;
      continue;
    }
    if (table_[index] == 0) {
      if (const int error = add_block(index)) return error;
    }
    Block* block = nullptr;
    if (const int error = load(index, block)) return error;
    const uint64_t base = index << block_bits_;
    uint64_t slot = scan_ - base;
    while (slot < block_entries() && count_in(*block, slot) != 0) ++slot;
    scan_ = base + slot;
    if (slot == block_entries()) continue;
    uint64_t end = slot + 1;
    // A run is all fresh or not at all.
    const uint64_t limit = scan_ < fresh_from_ ? fresh_from_ - base : block_entries();
    while (end < std::min(block_entries(), limit) && end - slot < wanted &&
           count_in(*block, end) == 0) {
      ++end;
    }
    run = {scan_, end - slot, container_.grows() && scan_ >= fresh_from_};
    if (const int error = take(run.first, run.count)) return error;
    scan_ += run.count;
    return 0;
  }
}

int Refcounts::allocate_row(uint64_t count, ClusterRun& run) noexcept {
  scan_ = std::max(scan_, fresh_from_);
  for (;;) {
    // Makes the blocks that count the row first, as they may lie where it would.
    const uint64_t first_block = scan_ >> block_bits_;
    const uint64_t last_block = (scan_ + count - 1) >> block_bits_;
    for (uint64_t index = first_block; index <= last_block; ++index) {
      while (index >= table_.size()) {
        if (const int error = grow_table()) return error;
      }
      if (table_[index] != 0) continue;
      if (const int error = add_block(index)) return error;
    }
    uint64_t found = 0;
    while (found < count) {
      uint64_t used = 0;
      if (const int error = get(scan_ + found, used)) return error;
      if (used != 0) break;
      ++found;
    }
    if (found == count) break;
    scan_ += found + 1;
  }
  run = {scan_, count, container_.grows()};
  if (const int error = take(run.first, run.count)) return error;
  scan_ += count;
  return 0;
}

int Refcounts::release(uint64_t cluster, bool& is_free) noexcept {
  uint64_t count = 0;
  if (const int error = get(cluster, count)) return error;
  if (count == 0) return EUCLEAN;
  is_free = count == 1;
  return set(cluster, count - 1);
}

void Refcounts::reuse(uint64_t cluster) noexcept {
  metadata_.erase(cluster);
  // What lies ahead will be found there.
  if (cluster >= scan_) {
    fresh_from_ = std::max(fresh_from_, cluster + 1);
    return;
  }
  auto next = reusable_.upper_bound(cluster);
  if (next != reusable_.begin()) {
    auto before = std::prev(next);
    if (before->first + before->second == cluster) {
      ++before->second;
      return;
    }
  }
  if (next != reusable_.end() && next->first == cluster + 1) {
    const uint64_t count = next->second + 1;
    reusable_.erase(next);
    reusable_.emplace(cluster, count);
    return;
  }
  if (reusable_.size() < kMaxReusable) reusable_.emplace(cluster, 1);
}

int Refcounts::write_blocks() noexcept {
  for (auto& [index, block] : blocks_) {
    if (!block.dirty) continue;
    if (const int error = write_block(index, block)) return error;
  }
  return 0;
}

int Refcounts::write_table() noexcept {
  std::vector<uint64_t> raw(table_.size());
  std::ranges::transform(table_, raw.begin(), big_endian<uint64_t>);
  const int error =
      container_.write_bytes(header_.refcount_table_offset,
                             {reinterpret_cast<const uint8_t*>(raw.data()), raw.size() * 8});
  if (error == 0) table_dirty_ = false;
  return error;
}

int Refcounts::grow_table() noexcept {
  const uint64_t most = kMaxRefcountTableBytes >> geometry_.cluster_bits;
  const uint64_t clusters = std::min<uint64_t>(uint64_t{header_.refcount_table_clusters} * 2, most);
  if (clusters <= header_.refcount_table_clusters) return EFBIG;
  // The new table comes right after what the old one can count, behind the blocks that count both.
  uint64_t blocks = 1;
  while ((blocks << block_bits_) < blocks + clusters) ++blocks;
  // Those are entries of the new table, of which a table near its largest size gains only a few.
  const uint64_t entries = (clusters << geometry_.cluster_bits) / sizeof(uint64_t);
  if (table_.size() + blocks > entries) return EFBIG;
  return move_table(clusters, blocks);
}

int Refcounts::move_table(uint64_t new_clusters, uint64_t new_blocks) noexcept {
  const uint64_t first_block = table_.size();
  const uint64_t start = first_block << block_bits_;
  const uint64_t count = new_blocks + new_clusters;
  if (metadata_.overlaps(start, count)) return EUCLEAN;
  if (const int error = reach(start, count)) return error;
  // What the table refers to has to be there before it.
  if (const int error = write_blocks()) return error;

  const uint64_t old_offset = header_.refcount_table_offset;
  const uint32_t old_clusters = header_.refcount_table_clusters;
  const Header old_header = header_;
  table_.resize((new_clusters << geometry_.cluster_bits) / sizeof(uint64_t));
  for (uint64_t i = 0; i < new_blocks; ++i) {
    table_[first_block + i] = (start + i) << geometry_.cluster_bits;
  }
  int error = 0;
  for (uint64_t i = 0; i < new_blocks && error == 0; ++i) {
    error = make_room();
    if (error != 0) break;
    Block& block = new_block(first_block + i);
    const uint64_t base = i << block_bits_;
    for (uint64_t slot = 0; slot < block_entries() && base + slot < count; ++slot) {
      set_in(block, slot, 1);
    }
    error = write_block(first_block + i, block);
  }
  header_.refcount_table_offset = (start + new_blocks) << geometry_.cluster_bits;
  header_.refcount_table_clusters = static_cast<uint32_t>(new_clusters);
  if (error == 0) error = write_table();
  if (error == 0) error = container_.barrier();
  if (error == 0) {
    render_header(header_);
    error = container_.write_bytes(0, header_.sector);
    // The file may have either header now.
    if (error != 0) container_.syncs().fail(error);
  }
  if (error == 0) error = container_.barrier();
  if (error != 0) {
    // The old table is good as long as the header says so; if it might not, neither may be touched.
    for (uint64_t i = 0; i < new_blocks; ++i) blocks_.erase(first_block + i);
    table_.resize(first_block);
    header_ = old_header;
    return error;
  }
  metadata_.insert(start, count);
  abandoned_.push_back({old_offset >> geometry_.cluster_bits, old_clusters, false});
  return 0;
}

std::vector<ClusterRun> Refcounts::take_abandoned() noexcept {
  return std::exchange(abandoned_, {});
}

}  // namespace tsvmm::qcow2
