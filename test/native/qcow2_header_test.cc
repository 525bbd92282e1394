// Headers that no honest program writes, and features that mean something.
#include <functional>

#include "disk/qcow2/header.h"
#include "disk/qcow2/image.h"
#include "qcow2_memory_container.h"
#include "qcow2_test_support.h"

namespace tsvmm::qcow2_test {
namespace {

using qcow2::store_be;

constexpr uint64_t kFileSize = 8 << 20;
constexpr uint32_t kCluster = 65536;

/// A version 3 header of a disk of 1 GiB, with an L1 table in cluster 3 and refcounts in 1 and 2.
Bytes make_header() {
  Bytes bytes(qcow2::kHeaderBytes);
  store_be<uint32_t>(bytes, 0, qcow2::kMagic);
  store_be<uint32_t>(bytes, 4, 3);
  store_be<uint32_t>(bytes, 20, 16);
  store_be<uint64_t>(bytes, 24, 1 << 30);
  store_be<uint32_t>(bytes, 36, 2);
  store_be<uint64_t>(bytes, 40, 3 * kCluster);
  store_be<uint64_t>(bytes, 48, kCluster);
  store_be<uint32_t>(bytes, 56, 1);
  store_be<uint32_t>(bytes, 96, 4);
  store_be<uint32_t>(bytes, 100, 104);
  return bytes;
}

/// A whole image with that header.
Bytes make_image() {
  Bytes bytes = make_header();
  bytes.resize(5 * kCluster);
  store_be<uint64_t>(bytes, kCluster, 2 * kCluster);
  for (int i = 0; i < 4; ++i) store_be<uint16_t>(bytes, 2 * kCluster + 2 * i, 1);
  return bytes;
}

std::string refusal(const Bytes& bytes, uint64_t file_size = kFileSize) {
  try {
    (void)qcow2::parse_header(bytes, file_size);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(Qcow2Header, IsParsed) {
  const qcow2::Header header = qcow2::parse_header(make_header(), kFileSize);
  EXPECT_EQ(header.size, 1u << 30);
  EXPECT_EQ(header.geometry.cluster_size(), kCluster);
  EXPECT_EQ(header.l1_entries, 2u);
  EXPECT_FALSE(header.has_backing);
}

struct Patch {
  const char* name;
  size_t offset;
  size_t width;
  uint64_t value;
  const char* says;
};

class HostileHeader : public testing::TestWithParam<Patch> {};

TEST_P(HostileHeader, IsRefused) {
  const Patch& patch = GetParam();
  Bytes bytes = make_header();
  if (patch.width == 4) store_be(bytes, patch.offset, static_cast<uint32_t>(patch.value));
  if (patch.width == 8) store_be(bytes, patch.offset, patch.value);
  EXPECT_NE(refusal(bytes).find(patch.says), std::string::npos) << refusal(bytes);
}

INSTANTIATE_TEST_SUITE_P(
    Fields, HostileHeader,
    testing::Values(
        Patch{"Magic", 0, 4, 0x514649fa, "does not begin with"},
        Patch{"Version1", 4, 4, 1, "version 1"}, Patch{"Version4", 4, 4, 4, "version 4"},
        Patch{"TinyClusters", 20, 4, 8, "clusters"}, Patch{"HugeClusters", 20, 4, 22, "clusters"},
        Patch{"ClusterBitsWrap", 20, 4, 0xffffffff, "clusters"},
        Patch{"LargerThanItsL1Table", 24, 8, (1 << 30) + 1, "too small"},
        Patch{"LargestSize", 24, 8, UINT64_MAX, "too small"},
        Patch{"Encrypted", 32, 4, 1, "encryption"}, Patch{"Luks", 32, 4, 2, "encryption"},
        Patch{"HugeL1", 36, 4, 0xffffffff, "L1 table is too large"},
        Patch{"L1BeyondTheEnd", 40, 8, kFileSize, "beyond the end"},
        Patch{"L1AcrossTheEnd", 36, 4, 0x400000, "beyond the end"},
        Patch{"L1Misaligned", 40, 8, kCluster + 512, "aligned"},
        Patch{"L1OffsetWraps", 40, 8, UINT64_MAX - kCluster + 1, "beyond the end"},
        Patch{"L1OverTheHeader", 40, 8, 0, "overlaps the header"},
        Patch{"NoRefcountTable", 56, 4, 0, "no refcount table"},
        Patch{"HugeRefcountTable", 56, 4, 0x10000, "refcount table is too large"},
        Patch{"RefcountTableMisaligned", 48, 8, 1, "aligned"},
        Patch{"RefcountTableBeyondTheEnd", 48, 8, 1ULL << 60, "beyond the end"},
        Patch{"ManySnapshots", 60, 4, 65537, "too many snapshots"},
        Patch{"SnapshotsOverTheHeader", 60, 4, 1, "overlaps the header"},
        Patch{"WideRefcounts", 96, 4, 7, "too wide"},
        Patch{"ShortHeader", 100, 4, 96, "impossible length"},
        Patch{"OddHeader", 100, 4, 108, "impossible length"},
        Patch{"LongHeader", 100, 4, 0xfffffff8, "impossible length"},
        Patch{"LongBackingName", 16, 4, 1024, ""},
        Patch{"ExternalData", 72, 8, 4, "external data file"},
        Patch{"CompressionWithoutAType", 72, 8, 8, "disagree"},
        Patch{"UnknownFeature", 72, 8, 1ULL << 40, "incompatible feature bit 40"}),
    [](const auto& info) { return info.param.name; });

TEST(Qcow2Header, BackingNameMustFit) {
  Bytes bytes = make_header();
  store_be<uint64_t>(bytes, 8, kCluster - 10);
  store_be<uint32_t>(bytes, 16, 11);
  EXPECT_NE(refusal(bytes).find("backing"), std::string::npos);
  store_be<uint64_t>(bytes, 8, UINT64_MAX);
  EXPECT_NE(refusal(bytes).find("backing"), std::string::npos);
}

TEST(Qcow2Header, SubclustersNeedLargeClusters) {
  Bytes bytes = make_header();
  store_be<uint64_t>(bytes, 72, qcow2::kExtendedL2);
  store_be<uint32_t>(bytes, 20, 13);
  store_be<uint32_t>(bytes, 36, 1024);
  EXPECT_NE(refusal(bytes).find("subclusters"), std::string::npos) << refusal(bytes);
}

TEST(Qcow2Header, UnknownCompressionIsRefused) {
  Bytes bytes = make_header();
  store_be<uint32_t>(bytes, 100, 112);
  bytes[104] = 2;
  store_be<uint64_t>(bytes, 72, qcow2::kCompressionType);
  EXPECT_NE(refusal(bytes).find("compression type 2"), std::string::npos);
  bytes[104] = 1;
  EXPECT_EQ(refusal(bytes), "");
  store_be<uint64_t>(bytes, 72, 0);
  EXPECT_NE(refusal(bytes).find("disagree"), std::string::npos);
}

TEST(Qcow2Header, UnknownFeaturesAreNamed) {
  Bytes bytes = make_header();
  store_be<uint64_t>(bytes, 72, uint64_t{1} << 33);
  store_be<uint32_t>(bytes, 104, 0x6803f857);
  store_be<uint32_t>(bytes, 108, 96);
  bytes[112 + 48] = 0;
  bytes[112 + 49] = 33;
  const std::string name = "time\ntravel";
  std::ranges::copy(name, bytes.begin() + 112 + 50);
  EXPECT_NE(refusal(bytes).find("'time?travel' (incompatible feature bit 33)"), std::string::npos)
      << refusal(bytes);
}

TEST(Qcow2Header, ExtensionsOfAnyLengthAreSkipped) {
  for (const uint32_t length : {0U, 1U, 0x1000U, 0x7fffffffU, 0xffffffffU}) {
    Bytes bytes = make_header();
    store_be<uint32_t>(bytes, 104, 0x12345678);
    store_be<uint32_t>(bytes, 108, length);
    EXPECT_EQ(refusal(bytes), "");
  }
}

TEST(Qcow2Header, EveryPrefixIsHandled) {
  const Bytes whole = make_header();
  for (size_t size = 0; size < 520; ++size) {
    const Bytes cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_EQ(refusal(cut, size).empty(), false);
  }
}

// Images.

struct Opened {
  Bytes left;  ///< the file after the disk has been closed
  std::unique_ptr<Disk> disk;
  std::string refusal;
};

std::unique_ptr<Opened> open(const Bytes& bytes, bool read_only = false) {
  auto opened = std::make_unique<Opened>();
  try {
    auto image =
        std::make_unique<qcow2::Image>(std::make_unique<MemoryContainer>(bytes, 1, &opened->left),
                                       nullptr, qcow2::ImageSettings{.read_only = read_only});
    opened->disk = std::make_unique<Disk>(std::move(image));
  } catch (const Error& error) {
    opened->refusal = error.what();
  }
  return opened;
}

uint64_t incompatible(const Bytes& bytes) { return qcow2::load_be<uint64_t>(bytes, 72); }

TEST(Qcow2Features, ACorruptImageIsOnlyRead) {
  Bytes bytes = make_image();
  store_be<uint64_t>(bytes, 72, qcow2::kCorrupt);
  EXPECT_NE(open(bytes)->refusal.find("marked as corrupt"), std::string::npos);
  const auto opened = open(bytes, true);
  ASSERT_EQ(opened->refusal, "");
  Bytes sector(512, 1);
  EXPECT_EQ(opened->disk->read(4096, sector), 0);
  EXPECT_EQ(sector, Bytes(512));
  EXPECT_EQ(opened->disk->write(4096, sector), EROFS);
  EXPECT_EQ(opened->disk->discard(0, kCluster), EROFS);
  EXPECT_EQ(opened->disk->flush(), 0);
  opened->disk.reset();
  EXPECT_EQ(opened->left, bytes) << "what is only read must stay as it is";
}

TEST(Qcow2Features, UnknownAutoclearBitsAreClearedBeforeWriting) {
  Bytes bytes = make_image();
  store_be<uint64_t>(bytes, 88, 0xff00ff00ff00ff03);
  auto opened = open(bytes, true);
  opened->disk.reset();
  EXPECT_EQ(qcow2::load_be<uint64_t>(opened->left, 88), 0xff00ff00ff00ff03);
  opened = open(bytes);
  opened->disk.reset();
  EXPECT_EQ(qcow2::load_be<uint64_t>(opened->left, 88), 0u);
}

TEST(Qcow2Features, LazyRefcountsSetAndClearTheDirtyBit) {
  Bytes bytes = make_image();
  store_be<uint64_t>(bytes, 80, qcow2::kLazyRefcounts);
  Bytes left;
  auto memory = std::make_unique<MemoryContainer>(bytes, 1, &left);
  MemoryContainer& container = *memory;
  Bytes crashed;
  const Bytes data(512, 7);
  {
    Disk disk(std::make_unique<qcow2::Image>(std::move(memory), nullptr, qcow2::ImageSettings{}));
    EXPECT_EQ(incompatible(container.bytes()), 0u) << "nothing has changed yet";
    ASSERT_EQ(disk.write(0, data), 0);
    ASSERT_EQ(disk.flush(), 0);
    EXPECT_EQ(incompatible(container.bytes()), qcow2::kDirty);
    crashed = container.bytes();
  }
  EXPECT_EQ(incompatible(left), 0u);
  // What was not closed is repaired.
  const auto opened = open(crashed);
  ASSERT_EQ(opened->refusal, "");
  Bytes sector(512);
  EXPECT_EQ(opened->disk->read(0, sector), 0);
  EXPECT_EQ(sector, data);
  opened->disk.reset();
  EXPECT_EQ(incompatible(opened->left), 0u);
  if (!has_qemu_img()) return;
  const TempFolder folder;
  for (const Bytes& file : {left, opened->left}) {
    write_file(folder / "disk", file);
    expect_clean(folder / "disk");
  }
}

/// An image with one L2 table in cluster 4, whose first entry is `entry`.
Bytes make_damaged(uint64_t entry) {
  Bytes bytes = make_image();
  bytes.resize(8 * kCluster);
  store_be<uint64_t>(bytes, 3 * kCluster, qcow2::kCopied | 4 * kCluster);
  store_be<uint64_t>(bytes, 4 * kCluster, entry);
  store_be<uint64_t>(bytes, 4 * kCluster + 8, qcow2::kCopied | 5 * kCluster);
  store_be<uint16_t>(bytes, 2 * kCluster + 8, 1);
  store_be<uint16_t>(bytes, 2 * kCluster + 10, 1);
  bytes[5 * kCluster] = 0x77;
  return bytes;
}

class DamagedEntry : public testing::TestWithParam<uint64_t> {};

TEST_P(DamagedEntry, MarksTheImageCorrupt) {
  const auto opened = open(make_damaged(GetParam()));
  ASSERT_EQ(opened->refusal, "");
  Bytes sector(512);
  EXPECT_EQ(opened->disk->read(0, sector), EIO);
  EXPECT_EQ(opened->disk->read(kCluster, sector), 0) << "the other cluster is sound";
  EXPECT_EQ(sector[0], 0x77);
  EXPECT_EQ(opened->disk->write(0, sector), EIO);
  EXPECT_EQ(opened->disk->write(kCluster, sector), EIO) << "nothing is written any more";
  EXPECT_EQ(opened->disk->write(10 * kCluster, sector), EIO);
  EXPECT_EQ(opened->disk->write_zeroes(0, 10 * kCluster, true), EIO);
  EXPECT_EQ(opened->disk->flush(), 0) << "nothing has been lost";
  opened->disk.reset();
  Bytes expected = make_damaged(GetParam());
  store_be<uint64_t>(expected, 72, qcow2::kCorrupt);
  opened->left.resize(expected.size());
  EXPECT_EQ(opened->left, expected) << "only the header has changed";
}

INSTANTIATE_TEST_SUITE_P(Entries, DamagedEntry,
                         testing::Values(qcow2::kCopied,                 // no cluster
                                         qcow2::kCopied | 3 * kCluster,  // the L1 table
                                         qcow2::kCopied | 4 * kCluster,  // its own table
                                         uint64_t{2 * kCluster},         // a refcount block, shared
                                         qcow2::kCopied | (5 * kCluster + 512),  // misaligned
                                         qcow2::kCopied | 5 * kCluster | 0x10,   // reserved bits
                                         qcow2::kCopied | 5 * kCluster | 1ULL << 60,
                                         qcow2::kCompressed | qcow2::kCopied | 5 * kCluster,
                                         qcow2::kCompressed | kCluster));  // in the refcount table

TEST(Qcow2Damage, ACompressedClusterThatIsNone) {
  const auto opened = open(make_damaged(qcow2::kCompressed | 5 * kCluster));
  Bytes sector(512);
  EXPECT_EQ(opened->disk->read(0, sector), EIO);
  EXPECT_EQ(opened->disk->write(0, sector), EIO) << "its rest would be lost";
  EXPECT_EQ(opened->disk->write(0, Bytes(kCluster)), 0) << "nothing of it is needed";
}

TEST(Qcow2Damage, ClustersFarBeyondTheEnd) {
  const auto opened = open(make_damaged(qcow2::kCopied | (uint64_t{1} << 55)));
  Bytes sector(512, 1);
  EXPECT_EQ(opened->disk->read(0, sector), 0);
  EXPECT_EQ(sector, Bytes(512)) << "what is not there reads as zeros";
  EXPECT_EQ(opened->disk->write(0, sector), EIO);
}

TEST(Qcow2Damage, TablesInTheSamePlace) {
  Bytes bytes = make_image();
  store_be<uint64_t>(bytes, 3 * kCluster, qcow2::kCopied | 2 * kCluster);
  EXPECT_NE(open(bytes)->refusal.find("same place"), std::string::npos);
  bytes = make_image();
  store_be<uint64_t>(bytes, 40, kCluster);
  EXPECT_NE(open(bytes)->refusal.find(""), std::string::npos);
}

TEST(Qcow2Damage, TableEntriesThatCannotBe) {
  for (const uint64_t entry :
       {uint64_t{1}, 4 * uint64_t{kCluster} + 512, uint64_t{1} << 50, uint64_t{1} << 60}) {
    Bytes bytes = make_image();
    store_be<uint64_t>(bytes, 3 * kCluster, entry);
    EXPECT_NE(open(bytes)->refusal.find("L1 table is damaged"), std::string::npos) << entry;
    EXPECT_NE(open(bytes, true)->refusal.find("L1 table is damaged"), std::string::npos);
    bytes = make_image();
    store_be<uint64_t>(bytes, kCluster + 8, entry);
    EXPECT_NE(open(bytes)->refusal.find("refcount table is damaged"), std::string::npos) << entry;
  }
}

TEST(Qcow2Damage, MetadataWithoutRefcounts) {
  // Cluster 4 is counted as free but has the L2 table.
  Bytes bytes = make_damaged(0);
  store_be<uint16_t>(bytes, 2 * kCluster + 8, 0);
  const auto opened = open(bytes);
  EXPECT_EQ(opened->disk->write(0, Bytes(512)), EIO);
  opened->disk.reset();
  EXPECT_EQ(incompatible(opened->left), qcow2::kCorrupt);
}

TEST(Qcow2Damage, FailingWritesAreReported) {
  for (uint32_t count = 1; count < 12; ++count) {
    Bytes left;
    auto memory = std::make_unique<MemoryContainer>(make_image(), 1, &left);
    MemoryContainer& container = *memory;
    Disk disk(std::make_unique<qcow2::Image>(std::move(memory), nullptr, qcow2::ImageSettings{}));
    container.fail_after(count);
    int failed = 0;
    bool flush_failed = false;
    for (int i = 0; i < 4; ++i) {
      if (disk.write(static_cast<uint64_t>(i) << 28, Bytes(1024, 5)) != 0) ++failed;
      if (disk.flush() != 0) {
        ++failed;
        flush_failed = true;
      }
    }
    EXPECT_NE(failed, 0) << count;
    container.fail_after(0);
    // What was not committed stays so; what was refused before anything was at stake goes on.
    if (flush_failed) {
      EXPECT_EQ(disk.flush(), EIO);
      EXPECT_EQ(disk.write((uint64_t{3} << 28) + (1 << 20), Bytes(1024, 5)), EIO)
          << "needs a new cluster";
    } else {
      EXPECT_EQ(disk.write(0, Bytes(1024, 5)), 0);
      EXPECT_EQ(disk.flush(), 0);
    }
  }
}

TEST(Qcow2Queue, OperationsStayInsideTheDisk) {
  const auto opened = open(make_image());
  const Bytes bytes(1024);
  EXPECT_EQ(opened->disk->write((1 << 30) - 512, bytes), EINVAL);
  EXPECT_EQ(opened->disk->write(UINT64_MAX - 511, bytes), EINVAL);
  EXPECT_EQ(opened->disk->discard(0, UINT64_MAX), EINVAL);
}

}  // namespace
}  // namespace tsvmm::qcow2_test
