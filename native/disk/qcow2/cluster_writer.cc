#include "disk/qcow2/cluster_writer.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/error.h"
#include "disk/buffers.h"

namespace tsvmm::qcow2 {
namespace {

constexpr size_t kZerosSize = 64 << 10;
/// Zeros that are written in one go.
constexpr uint64_t kMaxZeroWrite = 1 << 20;

/// `count` bits from `first` on.
uint32_t bits(uint64_t first, uint64_t count) noexcept {
  return static_cast<uint32_t>(((uint64_t{1} << count) - 1) << first);
}

uint64_t round_up(uint64_t value, uint64_t unit) noexcept {
  return (value + unit - 1) & ~(unit - 1);
}

uint64_t round_down(uint64_t value, uint64_t unit) noexcept { return value & ~(unit - 1); }

/// Runs one operation to its end.
int run(DiskQueue& queue, DiskOperation& operation) noexcept {
  queue.start(operation);
  while (queue.next_completed() == nullptr) queue.wait();
  return operation.error;
}

}  // namespace

ClusterWriter::ClusterWriter(Container& container, Metadata& metadata, DiskImage* backing)
    : container_(container),
      metadata_(metadata),
      geometry_(metadata.geometry()),
      backing_(backing),
      compressed_(container, metadata.header()) {}

int ClusterWriter::write(DiskOperation& operation) noexcept {
  Plan plan;
  if (const int error = this->plan(operation, plan)) return error;
  if (plan.count == 0) return 0;
  const int error = write_data(operation, plan);
  if (error != 0) {
    if (plan.run.count != 0) metadata_.cancel(plan.run);
    return error;
  }
  for (uint64_t i = 0; i < plan.count; ++i) {
    const uint64_t cluster = plan.first + i;
    metadata_.set_entry(cluster, new_entry(plan, cluster, metadata_.entry(cluster)), true);
  }
  return 0;
}

int ClusterWriter::plan(const DiskOperation& operation, Plan& plan) noexcept {
  plan.offset = operation.offset;
  const uint64_t slice_span = uint64_t{1} << geometry_.slice_span_bits();
  plan.length = std::min(operation.length, slice_span - (operation.offset & (slice_span - 1)));
  plan.first = plan.offset >> geometry_.cluster_bits;
  if (const int error = metadata_.own_table(plan.offset)) return error;
  const Entry entry = metadata_.entry(plan.first);
  if (entry.owned()) return plan_in_place(entry, plan);

  const uint64_t end = plan.offset + plan.length;
  const uint64_t wanted = count_clusters(plan, geometry_.clusters(end) - plan.first);
  if (const int error = metadata_.allocate(wanted, plan.run)) return error;
  plan.count = plan.run.count;
  plan.host = plan.run.first << geometry_.cluster_bits;
  plan.fresh = plan.run.fresh;
  const uint64_t last = plan.first + plan.count - 1;
  plan.length = std::min(plan.length, ((last + 1) << geometry_.cluster_bits) - plan.offset);
  plan_fill(plan, entry, metadata_.entry(last));
  return 0;
}

int ClusterWriter::plan_in_place(const Entry& entry, Plan& plan) noexcept {
  const uint64_t start = plan.first << geometry_.cluster_bits;
  plan.in_place = true;
  plan.host = entry.host();
  if (geometry_.extended) {
    // Only up to subclusters that have data: others may be writing to those right now.
    const uint64_t first = (plan.offset - start) >> geometry_.granule_bits();
    uint64_t end = first;
    while (end < kSubclusters && (entry.allocated() >> end & 1) == 0) ++end;
    if (end == first) return 0;
    const uint64_t limit = start + (end << geometry_.granule_bits());
    plan.length = std::min(plan.length, limit - plan.offset);
    plan.fill_start = round_down(plan.offset, geometry_.granule_size());
    plan.fill_end = round_up(plan.offset + plan.length, geometry_.granule_size());
  } else {
    if ((entry.word & kZeroFlag) == 0) return 0;
    plan.length = std::min(plan.length, start + geometry_.cluster_size() - plan.offset);
    plan.fill_start = start;
    plan.fill_end = start + geometry_.cluster_size();
  }
  plan.count = 1;
  return metadata_.reach(plan.host + geometry_.cluster_size());
}

uint64_t ClusterWriter::count_clusters(const Plan& plan, uint64_t wanted) const noexcept {
  uint64_t count = 1;
  while (count < wanted && !metadata_.entry(plan.first + count).owned()) ++count;
  return count;
}

void ClusterWriter::plan_fill(Plan& plan, const Entry& first, const Entry& last) const noexcept {
  const auto unit = [this](const Entry& entry) {
    // Subclusters can be added one by one only where the cluster had none before.
    const bool is_new = !entry.compressed() && entry.host() == 0;
    return is_new ? geometry_.granule_size() : geometry_.cluster_size();
  };
  plan.fill_start = round_down(plan.offset, unit(first));
  plan.fill_end = round_up(plan.offset + plan.length, unit(last));
}

int ClusterWriter::write_data(DiskOperation& operation, Plan& plan) noexcept {
  const uint64_t end = plan.offset + plan.length;
  bool head_is_zero = true;
  bool tail_is_zero = true;
  head_.resize(plan.offset - plan.fill_start);
  tail_.resize(plan.fill_end - end);
  if (const int error = read_old(plan.fill_start, head_, head_is_zero)) return error;
  if (const int error = read_old(end, tail_, tail_is_zero)) return error;

  uint64_t start = plan.offset;
  pieces_.clear();
  if (!head_.empty() && !(head_is_zero && plan.fresh)) {
    start = plan.fill_start;
    pieces_.push_back({head_.data(), head_.size()});
  }
  copy_front(operation, plan.length, SIZE_MAX, pieces_);
  if (!tail_.empty() && !(tail_is_zero && plan.fresh)) {
    pieces_.push_back({tail_.data(), tail_.size()});
  }
  const uint64_t place = plan.host + (start - (plan.first << geometry_.cluster_bits));
  if (const int error = container_.write(place, pieces_)) return error;
  advance(operation, plan.length);
  return 0;
}

Entry ClusterWriter::new_entry(const Plan& plan, uint64_t cluster,
                               const Entry& old) const noexcept {
  const uint64_t place = plan.host + ((cluster - plan.first) << geometry_.cluster_bits);
  Entry entry{.word = place | kCopied};
  if (!geometry_.extended) return entry;
  const uint64_t start = cluster << geometry_.cluster_bits;
  const uint64_t from = std::max(plan.fill_start, start) - start;
  const uint64_t to = std::min(plan.fill_end - start, geometry_.cluster_size());
  const uint32_t filled =
      bits(from >> geometry_.granule_bits(), (to - from) >> geometry_.granule_bits());
  const bool keeps_data = plan.in_place;
  const uint32_t allocated = (keeps_data ? old.allocated() : 0) | filled;
  const uint32_t zeroes = old.compressed() ? 0 : old.zeroes() & ~filled;
  entry.bitmap = uint64_t{zeroes} << 32 | allocated;
  return entry;
}

int ClusterWriter::read_old(uint64_t offset, std::span<uint8_t> bytes, bool& is_zero) noexcept {
  while (!bytes.empty()) {
    Extent extent = metadata_.find(offset, bytes.size());
    if (extent.kind == Extent::Kind::kMissing) {
      if (const int error = metadata_.load(offset)) return error;
      extent = metadata_.find(offset, bytes.size());
    }
    const auto part = bytes.first(extent.length);
    if (const int error = read_extent(extent, offset, part, is_zero)) return error;
    bytes = bytes.subspan(part.size());
    offset += part.size();
  }
  return 0;
}

int ClusterWriter::read_extent(const Extent& extent, uint64_t offset, std::span<uint8_t> bytes,
                               bool& is_zero) noexcept {
  int error = 0;
  switch (extent.kind) {
    case Extent::Kind::kZero:
      std::ranges::fill(bytes, 0);
      return 0;
    case Extent::Kind::kUnallocated:
      return read_backing(offset, bytes, is_zero);
    case Extent::Kind::kData:
      is_zero = false;
      error = container_.read(extent.host, bytes);
      break;
    case Extent::Kind::kCompressed: {
      is_zero = false;
      std::span<const uint8_t> cluster;
      error = compressed_.read(extent.host, cluster);
      if (error == 0) {
        std::ranges::copy(cluster.subspan(offset & geometry_.cluster_mask(), bytes.size()),
                          bytes.begin());
      }
      break;
    }
    case Extent::Kind::kMissing:
    case Extent::Kind::kDamaged:
      return EIO;
  }
  metadata_.in_flight().leave(extent.epoch);
  return error;
}

int ClusterWriter::read_backing(uint64_t offset, std::span<uint8_t> bytes, bool& is_zero) noexcept {
  const uint64_t there = backing_ != nullptr ? backing_->size() : 0;
  const size_t size = offset >= there ? 0 : std::min<uint64_t>(bytes.size(), there - offset);
  std::ranges::fill(bytes.subspan(size), 0);
  if (size == 0) return 0;
  is_zero = false;
  try {
    if (!backing_queue_) backing_queue_ = backing_->make_queue(1);
  } catch (const Error&) {
    return EIO;
  }
  iovec buffer{bytes.data(), size};
  DiskOperation operation{.kind = DiskOperation::Kind::kRead,
                          .offset = offset,
                          .length = size,
                          .buffers = {&buffer, 1}};
  return run(*backing_queue_, operation);
}

int ClusterWriter::write_zeroes(uint64_t offset, uint64_t length, bool unmap) noexcept {
  if (const int error = metadata_.writable()) return error;
  uint64_t end = offset + length;
  // What lies beyond the disk's end in its last cluster does not matter.
  if (end == metadata_.header().size) end = round_up(end, geometry_.granule_size());
  const uint64_t first = round_up(offset, geometry_.granule_size());
  const uint64_t last = round_down(end, geometry_.granule_size());
  if (first >= last) return write_zero_bytes(offset, end);
  if (const int error = write_zero_bytes(offset, first)) return error;
  if (const int error = zero_granules(first, last, unmap, false)) return error;
  return write_zero_bytes(last, end);
}

int ClusterWriter::discard(uint64_t offset, uint64_t length) noexcept {
  if (const int error = metadata_.writable()) return error;
  uint64_t end = offset + length;
  if (end == metadata_.header().size) end = round_up(end, geometry_.granule_size());
  const uint64_t first = round_up(offset, geometry_.granule_size());
  const uint64_t last = round_down(end, geometry_.granule_size());
  return first < last ? zero_granules(first, last, true, true) : 0;
}

int ClusterWriter::zero_granules(uint64_t offset, uint64_t end, bool unmap, bool discard) noexcept {
  const uint64_t table_span = uint64_t{1} << geometry_.table_span_bits();
  while (offset < end) {
    if (!metadata_.has_table(offset)) {
      if (discard || !is_backed(offset)) {
        offset = std::min(end, round_down(offset, table_span) + table_span);
        continue;
      }
      if (const int error = metadata_.own_table(offset)) return error;
    } else if (const int error = metadata_.load(offset)) {
      return error;
    }
    const uint64_t cluster = offset >> geometry_.cluster_bits;
    const uint64_t start = cluster << geometry_.cluster_bits;
    const uint64_t part_end = std::min(end, start + geometry_.cluster_size());
    const uint32_t granules = bits((offset - start) >> geometry_.granule_bits(),
                                   (part_end - offset) >> geometry_.granule_bits());
    bool needs_data = false;
    if (const int error = zero_cluster(cluster, granules, unmap, discard, needs_data)) return error;
    if (needs_data && !discard) {
      if (const int error = write_zero_bytes(offset, part_end)) return error;
    }
    offset = part_end;
  }
  return 0;
}

int ClusterWriter::zero_cluster(uint64_t cluster, uint32_t granules, bool unmap, bool discard,
                                bool& needs_data) noexcept {
  const Entry old = metadata_.entry(cluster);
  const uint64_t offset = cluster << geometry_.cluster_bits;
  if (discard) {
    const bool has_data = geometry_.extended && !old.compressed()
                              ? (old.allocated() & granules) != 0
                              : old.compressed() || old.host() != 0;
    if (!has_data) return 0;
  }
  bool possible = true;
  const Entry entry = zeroed(old, granules, unmap, is_backed(offset), possible);
  needs_data = !possible;
  if (!possible || entry == old) return 0;
  if (const int error = metadata_.own_table(offset)) return error;
  metadata_.set_entry(cluster, entry, false);
  return 0;
}

Entry ClusterWriter::zeroed(const Entry& old, uint32_t granules, bool unmap, bool has_backing,
                            bool& possible) const noexcept {
  const bool releases = unmap || !old.owned();
  if (geometry_.extended) {
    possible = !old.compressed() || granules == UINT32_MAX;
    if (!possible) return old;
    if (old.compressed()) return {.word = 0, .bitmap = uint64_t{granules} << 32};
    if (old.host() == 0 && !has_backing) return old;
    const uint32_t allocated = old.allocated() & ~granules;
    const uint32_t zeroes = old.zeroes() | granules;
    return {.word = allocated == 0 && releases ? 0 : old.word,
            .bitmap = uint64_t{zeroes} << 32 | allocated};
  }
  const bool is_mapped = old.compressed() || old.host() != 0;
  if (metadata_.header().version < 3) {
    // There is no zero flag.
    possible = !has_backing && releases;
    if (!is_mapped && !has_backing) possible = true;
    return possible ? Entry{} : old;
  }
  if (!is_mapped) return old.word == 0 && has_backing ? Entry{.word = kZeroFlag} : old;
  if (!releases) return {.word = old.host() | kCopied | kZeroFlag};
  return {.word = has_backing ? kZeroFlag : 0};
}

int ClusterWriter::write_zero_bytes(uint64_t offset, uint64_t end) noexcept {
  if (zeros_.empty() && offset < end) zeros_.resize(kZerosSize);
  while (offset < end) {
    const Extent extent = metadata_.find(offset, std::min(end - offset, kMaxZeroWrite));
    const bool is_data = extent.kind == Extent::Kind::kData;
    if (is_data || extent.kind == Extent::Kind::kCompressed) {
      metadata_.in_flight().leave(extent.epoch);  // nothing is given up under our lock
    }
    if (extent.kind == Extent::Kind::kMissing) {
      if (const int error = metadata_.load(offset)) return error;
      continue;
    }
    if (extent.kind == Extent::Kind::kDamaged) return EIO;
    if (extent.kind == Extent::Kind::kZero ||
        (extent.kind == Extent::Kind::kUnallocated && !is_backed(offset))) {
      offset += extent.length;
      continue;
    }
    std::vector<iovec> buffers;
    for (uint64_t left = extent.length; left != 0; left -= buffers.back().iov_len) {
      buffers.push_back({zeros_.data(), std::min<uint64_t>(left, kZerosSize)});
    }
    if (is_data && extent.writable) {
      if (const int error = metadata_.reach(extent.host + extent.length)) return error;
      if (const int error = container_.write(extent.host, buffers)) return error;
      offset += extent.length;
      continue;
    }
    DiskOperation operation{.kind = DiskOperation::Kind::kWrite,
                            .offset = offset,
                            .length = extent.length,
                            .buffers = buffers};
    if (const int error = write(operation)) return error;
    if (operation.offset == offset) return EIO;
    offset = operation.offset;
  }
  return 0;
}

}  // namespace tsvmm::qcow2
