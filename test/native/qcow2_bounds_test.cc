// Images that ask for much in little: what opening them takes is bounded by the file, and what they
// name beyond its end is kept.
#include <random>
#include <set>

#include "core/cancellation.h"
#include "disk/qcow2/image.h"
#include "disk/qcow2/metadata_map.h"
#include "qcow2_memory_container.h"
#include "qcow2_test_support.h"

namespace tsvmm::qcow2_test {
namespace {

void put(Bytes& bytes, size_t offset, uint64_t value, size_t size) {
  if (bytes.size() < offset + size) bytes.resize(offset + size);
  for (size_t i = 0; i < size; ++i) {
    bytes[offset + i] = static_cast<uint8_t>(value >> (8 * (size - 1 - i)));
  }
}

struct HeaderFields {
  uint32_t cluster_bits = 16;
  uint64_t size = 0;
  uint32_t l1_entries = 1;
  uint64_t l1 = 0;
  uint64_t refcounts = 0;
  uint32_t refcount_clusters = 1;
  uint32_t snapshots = 0;
  uint64_t snapshot_table = 0;
  bool dirty = false;
  uint32_t refcount_order = 4;
};

Bytes header(const HeaderFields& fields) {
  Bytes bytes(104);
  put(bytes, 0, 0x514649fb, 4);
  put(bytes, 4, 3, 4);
  put(bytes, 20, fields.cluster_bits, 4);
  put(bytes, 24, fields.size, 8);
  put(bytes, 36, fields.l1_entries, 4);
  put(bytes, 40, fields.l1, 8);
  put(bytes, 48, fields.refcounts, 8);
  put(bytes, 56, fields.refcount_clusters, 4);
  put(bytes, 60, fields.snapshots, 4);
  put(bytes, 64, fields.snapshot_table, 8);
  put(bytes, 72, fields.dirty ? 1 : 0, 8);
  put(bytes, 80, fields.dirty ? 1 : 0, 8);
  put(bytes, 96, fields.refcount_order, 4);
  put(bytes, 100, 104, 4);
  return bytes;
}

Bytes snapshot(uint64_t l1, uint32_t entries) {
  Bytes bytes(40);
  put(bytes, 0, l1, 8);
  put(bytes, 8, entries, 4);
  return bytes;
}

/// A sparse file.
class SparseFile {
 public:
  explicit SparseFile(uint64_t size) { must("truncate -s " + std::to_string(size) + " " + path()); }
  std::string path() const { return folder_ / "disk"; }
  void put(uint64_t offset, const Bytes& bytes) const { patch_file(path(), offset, bytes); }

 private:
  const TempFolder folder_;
};

/// Counts what is read.
class CountingContainer final : public Container {
 public:
  CountingContainer(const std::string& path, uint64_t& bytes_read)
      : inner_(UniqueFd(::open(path.c_str(), O_RDWR | O_CLOEXEC)).get(), false),
        bytes_read_(bytes_read) {}
  uint64_t size() const noexcept override { return inner_.size(); }
  DiskLimits limits() const noexcept override { return inner_.limits(); }
  bool grows() const noexcept override { return true; }
  int read(uint64_t offset, std::span<uint8_t> bytes) noexcept override {
    bytes_read_ += bytes.size();
    return inner_.read(offset, bytes);
  }
  int write(uint64_t offset, std::span<iovec> buffers) noexcept override {
    return inner_.write(offset, buffers);
  }
  int sync() noexcept override { return inner_.sync(); }
  int grow(uint64_t bytes) noexcept override { return inner_.grow(bytes); }
  int truncate(uint64_t bytes) noexcept override { return inner_.truncate(bytes); }
  void discard(uint64_t offset, uint64_t length) noexcept override {
    inner_.discard(offset, length);
  }
  std::unique_ptr<DiskQueue> make_queue(uint16_t depth) override {
    return inner_.make_queue(depth);
  }

 private:
  FileContainer inner_;
  uint64_t& bytes_read_;
};

/// The code of what opening it throws, with how much it read.
std::string refusal(const std::string& path, uint64_t& bytes_read,
                    const Cancellation& cancellation = Cancellation::never()) {
  try {
    const qcow2::Image image(std::make_unique<CountingContainer>(path, bytes_read), nullptr, {},
                             cancellation);
    return "";
  } catch (const Error& error) {
    return error.code();
  }
}

TEST(Qcow2Bounds, SnapshotsWhoseTablesLieInOnePlaceAreRefused) {
  constexpr uint32_t kCount = 65536;
  constexpr uint64_t kTable = 4 << 20;
  const SparseFile file(kTable + (32 << 20) + 512);
  file.put(0, header({.cluster_bits = 9,
                      .size = 32768,
                      .l1 = 2 << 20,
                      .refcounts = 512,
                      .snapshots = kCount,
                      .snapshot_table = 1 << 20}));
  Bytes entry(8);
  put(entry, 0, 1024, 8);
  file.put(512, entry);
  const Bytes one = snapshot(kTable, 4 << 20);
  Bytes table(kCount * one.size());
  for (size_t i = 0; i < kCount; ++i) std::memcpy(&table[i * one.size()], one.data(), one.size());
  file.put(1 << 20, table);
  uint64_t bytes_read = 0;
  EXPECT_EQ(refusal(file.path(), bytes_read), "EUCLEAN");
  EXPECT_LT(bytes_read, 2 * table.size());
}

/// A snapshot's L1 table of `entries` entries that all name the same L2 table, and a dirty bit.
class DirtyImage : public SparseFile {
 public:
  static constexpr uint64_t kCluster = 2 << 20;
  explicit DirtyImage(uint32_t entries) : SparseFile(6 * kCluster + (32 << 20)) {
    put(0, header({.cluster_bits = 21,
                   .size = kCluster,
                   .l1 = 3 * kCluster,
                   .refcounts = kCluster,
                   .snapshots = 1,
                   .snapshot_table = 4 * kCluster,
                   .dirty = true}));
    Bytes word(8);
    qcow2_test::put(word, 0, 2 * kCluster, 8);
    put(kCluster, word);
    put(4 * kCluster, snapshot(6 * kCluster, entries));
    qcow2_test::put(word, 0, 5 * kCluster, 8);
    Bytes l1(entries * word.size());
    for (size_t i = 0; i < entries; ++i)
      std::memcpy(&l1[i * word.size()], word.data(), word.size());
    put(6 * kCluster, l1);
  }
};

TEST(Qcow2Bounds, ATableIsReadOnceHoweverOftenItIsNamed) {
  uint64_t bytes_read = 0;
  const DirtyImage often(1000);
  EXPECT_EQ(refusal(often.path(), bytes_read), "") << "a thousand times fit into a refcount";
  EXPECT_LT(bytes_read, 16 * DirtyImage::kCluster);
  bytes_read = 0;
  const DirtyImage too_often(4 << 20);
  EXPECT_EQ(refusal(too_often.path(), bytes_read), "EUCLEAN");
  EXPECT_LT(bytes_read, 64 * DirtyImage::kCluster);
}

TEST(Qcow2Bounds, OpeningEndsWhenItIsCalledOff) {
  const DirtyImage image(1000);
  Cancellation cancellation;
  cancellation.request();
  uint64_t bytes_read = 0;
  EXPECT_EQ(refusal(image.path(), bytes_read, cancellation), "ECANCELED");
}

TEST(Qcow2Bounds, ARefcountTableThatGainsTooLittleDoesNotGrow) {
  // One cluster less than the largest: the 64 entries that it would gain are fewer than the blocks
  // that would count the new table.
  constexpr uint64_t kCluster = 512;
  constexpr uint64_t kTableClusters = (8 << 20) / kCluster - 1;
  constexpr uint64_t kBlockClusters = 64;  // of 64 bits each
  constexpr uint64_t kCounted = kTableClusters * (kCluster / 8) * kBlockClusters;
  const SparseFile file(kCounted * kCluster);
  file.put(0, header({.cluster_bits = 9,
                      .size = 32768,
                      .l1 = 16 << 20,
                      .refcounts = kCluster,
                      .refcount_clusters = kTableClusters,
                      .refcount_order = 6}));
  uint64_t bytes_read = 0;
  qcow2::Image image(std::make_unique<CountingContainer>(file.path(), bytes_read), nullptr, {});
  try {
    image.resize(64 << 20);
    FAIL() << "it has no room for a larger L1 table";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "EFBIG");
  }
}

TEST(Qcow2MetadataMap, IsTheSetOfItsClusters) {
  std::mt19937_64 random(1);
  qcow2::MetadataMap map;
  std::set<uint64_t> clusters;
  for (uint64_t at = 0; at < 60; at += 6) {
    map.collect(at, 3);
    for (uint64_t i = 0; i < 3; ++i) clusters.insert(at + i);
  }
  ASSERT_TRUE(map.seal());
  for (int i = 0; i < 20'000; ++i) {
    const uint64_t first = random() % 64;
    const uint64_t count = 1 + random() % 4;
    const auto next = clusters.lower_bound(first);
    const bool taken = next != clusters.end() && *next < first + count;
    ASSERT_EQ(map.overlaps(first, count), taken) << first << " " << count;
    if (random() % 2 == 0) {
      map.erase(first);
      clusters.erase(first);
    } else if (!taken) {
      map.insert(first, count);
      for (uint64_t at = first; at < first + count; ++at) clusters.insert(at);
    }
  }
}

TEST(Qcow2MetadataMap, TellsOfTwoInOnePlace) {
  for (const auto& [first, count] :
       {std::pair<uint64_t, uint64_t>{9, 2}, {10, 1}, {14, 1}, {5, 99}}) {
    qcow2::MetadataMap map;
    map.collect(10, 5);
    map.collect(first, count);
    EXPECT_FALSE(map.seal()) << first << " " << count;
  }
  qcow2::MetadataMap map;
  map.collect(10, 5);
  map.collect(8, 2);
  map.collect(15, 1);
  EXPECT_TRUE(map.seal());
}

/// The L2 entry of the disk's first cluster.
uint64_t first_entry_place(const Bytes& file) {
  const auto word = [&](uint64_t at) {
    uint64_t value;
    std::memcpy(&value, &file[at], sizeof value);
    return __builtin_bswap64(value) & 0x00fffffffffffe00;
  };
  return word(word(40));
}

TEST(Qcow2Bounds, WhatLiesBeyondTheEndIsKept) {
  REQUIRE_QEMU_IMG();
  const TempFolder folder;
  const std::string path = folder / "disk";
  must("qemu-img create -q -f qcow2 " + path + " 8M");
  const Bytes old = random_bytes(65536, 1);
  const Bytes data = random_bytes(65536, 2);
  ASSERT_EQ(Disk::open(path).write(0, old), 0);
  for (const bool grown_before : {false, true}) {
    SCOPED_TRACE(grown_before);
    Bytes file = read_file(path);
    Bytes entry(8);
    put(entry, 0, file.size() + (3 << 16) | uint64_t{1} << 63, 8);
    std::ranges::copy(entry, file.begin() + static_cast<ptrdiff_t>(first_entry_place(file)));
    Bytes left;
    {
      Disk disk(std::make_unique<qcow2::Image>(std::make_unique<MemoryContainer>(file, 1, &left),
                                               nullptr, qcow2::ImageSettings{}));
      // Which makes the file longer, by more than it needs.
      if (grown_before) {
        ASSERT_EQ(static_cast<qcow2::Image&>(disk.image()).container().grow(file.size() << 1), 0);
      }
      ASSERT_EQ(disk.write(0, data), 0);
      ASSERT_EQ(disk.flush(), 0);
    }
    Disk again(std::make_unique<qcow2::Image>(std::make_unique<MemoryContainer>(left, 1), nullptr,
                                              qcow2::ImageSettings{}));
    Bytes found(data.size());
    ASSERT_EQ(again.read(0, found), 0);
    EXPECT_TRUE(same(found, data));
  }
}

TEST(Qcow2WriteThrough, ZeroesOfAPartOfAClusterLast) {
  REQUIRE_QEMU_IMG();
  const TempFolder folder;
  must("qemu-img create -q -f qcow2 " + (folder / "disk") + " 8M");
  auto memory = std::make_unique<MemoryContainer>(read_file(folder / "disk"), 1);
  MemoryContainer& container = *memory;
  Disk disk(std::make_unique<qcow2::Image>(std::move(memory), nullptr, qcow2::ImageSettings{}));
  ASSERT_EQ(disk.write(0, random_bytes(65536, 1)), 0);
  ASSERT_EQ(disk.flush(), 0);
  for (const uint64_t length : {512U, 4096U, 65536U}) {
    DiskOperation zeroes{
        .kind = DiskOperation::Kind::kWriteZeroes, .durable = true, .length = length};
    ASSERT_EQ(disk.run(zeroes), 0);
    ASSERT_FALSE(container.log().empty());
    EXPECT_TRUE(container.log().back().bytes.empty()) << length << ": a sync comes last";
  }
}

}  // namespace
}  // namespace tsvmm::qcow2_test
