// Images that QEMU made, and what QEMU says of them afterwards.
#include <cstring>

#include "qcow2_test_support.h"

namespace tsvmm::qcow2_test {
namespace {

constexpr size_t kSize = 4 << 20;

struct Kind {
  const char* name;
  const char* options;
};

class Qcow2Image : public testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    REQUIRE_QEMU_IMG();
    must("qemu-img create -q -f qcow2 -o " + std::string(GetParam().options) + " " + path + " 4M");
    model.resize(kSize);
  }
  void write(Disk& disk, uint64_t offset, size_t size, uint64_t seed) {
    const Bytes bytes = random_bytes(size, seed);
    ASSERT_EQ(disk.write(offset, bytes), 0);
    std::ranges::copy(bytes, model.begin() + static_cast<ptrdiff_t>(offset));
  }
  void zero_model(uint64_t offset, size_t size) {
    std::fill_n(model.begin() + static_cast<ptrdiff_t>(offset), size, 0);
  }

  TempFolder folder;
  std::string path = folder / "disk.qcow2";
  Bytes model;
};

TEST_P(Qcow2Image, ReadsWhatQemuWrote) {
  model = random_bytes(kSize, 1);
  // Holes, zeros and data.
  zero_model(1 << 20, 1 << 20);
  const std::string raw = folder / "disk.raw";
  write_file(raw, model);
  must("qemu-img convert -n -f raw -O qcow2 " + raw + " " + path);
  must("qemu-io -f qcow2 -c 'write -z 512k 128k' -c 'discard 3M 64k' " + path);
  zero_model(512 << 10, 128 << 10);
  Disk disk = Disk::open(path, {.read_only = true});
  Bytes content = disk.content();
  zero_model(3 << 20, 64 << 10);
  std::fill_n(content.begin() + (3 << 20), 64 << 10, 0);
  EXPECT_TRUE(same(content, model));
}

TEST_P(Qcow2Image, QemuReadsWhatWeWrote) {
  {
    Disk disk = Disk::open(path);
    EXPECT_EQ(disk.image().size(), kSize);
    write(disk, 0, 512, 1);
    write(disk, 66048, 200000 / 512 * 512, 2);
    write(disk, kSize - 4096, 4096, 3);
    write(disk, 1 << 20, 1 << 20, 4);
    write(disk, (1 << 20) + 7 * 512, 3 * 512, 5);
    EXPECT_TRUE(same(disk.content(), model));
    EXPECT_EQ(disk.flush(), 0);
    EXPECT_TRUE(same(content_by_qemu(path), model)) << "after a flush";
    write(disk, 3 << 20, 5120, 6);
  }
  expect_clean(path);
  EXPECT_TRUE(same(content_by_qemu(path), model));
  Disk disk = Disk::open(path);
  EXPECT_TRUE(same(disk.content(), model));
}

TEST_P(Qcow2Image, ZeroesAndDiscards) {
  {
    Disk disk = Disk::open(path);
    write(disk, 0, kSize / 2, 1);
    for (const bool unmap : {false, true}) {
      const uint64_t base = unmap ? 1 << 20 : 0;
      ASSERT_EQ(disk.write_zeroes(base + 512, 300 * 512, unmap), 0);
      zero_model(base + 512, 300 * 512);
      ASSERT_EQ(disk.write_zeroes(base + (512 << 10), 128 << 10, unmap), 0);
      zero_model(base + (512 << 10), 128 << 10);
    }
    EXPECT_TRUE(same(disk.content(), model));
    ASSERT_EQ(disk.flush(), 0);
    write(disk, 512 << 10, 1024, 2);
    write(disk, (1 << 20) + (512 << 10), 1024, 3);
    EXPECT_TRUE(same(disk.content(), model));
    const uint32_t granule = disk.image().limits().discard_granularity;
    ASSERT_NE(granule, 0u);
    ASSERT_EQ(disk.discard(0, granule), 0);
    ASSERT_EQ(disk.discard(3 << 20, 1 << 20), 0);
    zero_model(0, granule);
    EXPECT_TRUE(same(disk.content(), model));
    // Space that was given back is used again.
    ASSERT_EQ(disk.flush(), 0);
    write(disk, kSize - (256 << 10), 256 << 10, 4);
  }
  expect_clean(path);
  EXPECT_TRUE(same(content_by_qemu(path), model));
}

TEST_P(Qcow2Image, Grows) {
  {
    Disk disk = Disk::open(path);
    write(disk, kSize - 512, 512, 1);
    disk.image().resize((8 << 20) + 512);
    EXPECT_EQ(disk.image().size(), (8u << 20) + 512);
    model.resize((8 << 20) + 512);
    write(disk, 7 << 20, 4096, 2);
    write(disk, 8 << 20, 512, 3);
    EXPECT_TRUE(same(disk.content(), model));
    EXPECT_THROW(disk.image().resize(512), Error);
  }
  expect_clean(path);
  EXPECT_TRUE(same(content_by_qemu(path), model));
}

TEST_P(Qcow2Image, KeepsSnapshots) {
  {
    Disk disk = Disk::open(path);
    write(disk, 0, kSize / 2, 1);
  }
  const Bytes before = model;
  if (std::string(GetParam().name) == "OneBit") {
    EXPECT_NE(shell("qemu-img snapshot -c one " + path), 0) << "a bit cannot count to two";
    return;
  }
  must("qemu-img snapshot -c one " + path);
  {
    Disk disk = Disk::open(path);
    write(disk, 512, 1024, 2);
    write(disk, 1 << 20, 256 << 10, 3);
    ASSERT_EQ(disk.write_zeroes(256 << 10, 128 << 10, true), 0);
    zero_model(256 << 10, 128 << 10);
    ASSERT_EQ(disk.flush(), 0);
    write(disk, 512 << 10, 2048, 4);
    EXPECT_TRUE(same(disk.content(), model));
  }
  expect_clean(path);
  EXPECT_TRUE(same(content_by_qemu(path), model));
  must("qemu-img snapshot -a one " + path);
  EXPECT_TRUE(same(content_by_qemu(path), before));
  must("qemu-img snapshot -d one " + path);
  expect_clean(path);
  Disk disk = Disk::open(path);
  EXPECT_TRUE(same(disk.content(), before));
}

INSTANTIATE_TEST_SUITE_P(
    Options, Qcow2Image,
    testing::Values(Kind{"Default", "cluster_size=65536"}, Kind{"Version2", "compat=0.10"},
                    Kind{"Smallest", "cluster_size=512"}, Kind{"Small", "cluster_size=4k"},
                    Kind{"Largest", "cluster_size=2M"}, Kind{"Lazy", "lazy_refcounts=on"},
                    Kind{"OneBit", "refcount_bits=1,cluster_size=4k"},
                    Kind{"FourBits", "refcount_bits=4,cluster_size=512"},
                    Kind{"SixtyFourBits", "refcount_bits=64,cluster_size=512"},
                    Kind{"Subclusters", "extended_l2=on"},
                    Kind{"SmallSubclusters", "extended_l2=on,cluster_size=16k"},
                    Kind{"Preallocated", "preallocation=metadata"},
                    Kind{"FullyPreallocated", "preallocation=falloc,cluster_size=4k"}),
    [](const auto& info) { return info.param.name; });

TEST(Qcow2Direct, WorksPastThePageCache) {
  REQUIRE_QEMU_IMG();
  // Not in memory, where there is no direct I/O.
  std::string folder = "/var/tmp/tsvmm-qcow2-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const std::string path = folder + "/disk.qcow2";
  must("qemu-img create -q -f qcow2 " + path + " 4M");
  const UniqueFd probe(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_DIRECT));
  if (probe.valid()) {
    Bytes model(4 << 20);
    {
      Disk disk = Disk::open(path, {.direct = true});
      for (const size_t at : {0, 4096, 512, (1 << 20) - 1024, 3 << 20}) {
        for (const size_t size : {4096, 512, 200 << 10}) {
          const Bytes bytes = random_bytes(size, at + size);
          ASSERT_EQ(disk.write(at, bytes, size == 512), 0);
          std::ranges::copy(bytes, model.begin() + static_cast<ptrdiff_t>(at));
        }
      }
      ASSERT_EQ(disk.write_zeroes(64 << 10, 64 << 10, true), 0);
      std::fill_n(model.begin() + (64 << 10), 64 << 10, 0);
      ASSERT_EQ(disk.flush(), 0);
      EXPECT_TRUE(same(disk.content(), model));
    }
    expect_clean(path);
    EXPECT_TRUE(same(content_by_qemu(path), model));
  }
  std::filesystem::remove_all(folder);
  if (!probe.valid()) GTEST_SKIP() << "no direct I/O on this file system";
}

TEST(Qcow2Bitmaps, BecomeInconsistent) {
  REQUIRE_QEMU_IMG();
  const TempFolder folder;
  const std::string path = folder / "disk.qcow2";
  must("qemu-img create -q -f qcow2 " + path + " 4M && qemu-img bitmap --add " + path + " changes");
  Disk::open(path).content();
  std::string info;
  ASSERT_EQ(shell("qemu-img info " + path, &info), 0);
  EXPECT_EQ(info.find("bitmaps:"), std::string::npos) << info;
  // What they occupied is leaked, as the specification leaves it.
  std::string output;
  EXPECT_NE(check(path, &output), Check::kCorrupt) << output;
}

struct Chain {
  const char* name;
  const char* base;     ///< options of the one below
  const char* overlay;  ///< options of the overlay
};

class Qcow2Chain : public testing::TestWithParam<Chain> {};

TEST_P(Qcow2Chain, OverlaysABackingImage) {
  REQUIRE_QEMU_IMG();
  const TempFolder folder;
  const std::string raw = folder / "base.raw";
  const std::string base = folder / "base.qcow2";
  const std::string path = folder / "disk.qcow2";
  // The one below ends inside a cluster of the overlay.
  Bytes model = random_bytes((2 << 20) + 1536, 1);
  write_file(raw, model);
  must("qemu-img create -q -f qcow2 -F raw -b " + raw + " -o " + GetParam().base + " " + base);
  must("qemu-io -f qcow2 -c 'write -P 17 64k 4k' " + base);
  std::fill_n(model.begin() + (64 << 10), 4096, 17);
  must("qemu-img create -q -f qcow2 -F qcow2 -b " + base + " -o " + GetParam().overlay + " " +
       path + " 4M");
  model.resize(4 << 20);
  const auto open = [&](ImageOptions options = {}) {
    return Disk::open(
        {{path, ImageFormat::kQcow2}, {base, ImageFormat::kQcow2}, {raw, ImageFormat::kRaw}},
        options);
  };
  const Bytes base_before = read_file(base);
  {
    Disk disk = open({.read_only = true});
    EXPECT_TRUE(same(disk.content(), model));
  }
  {
    Disk disk = open();
    const auto write = [&](uint64_t offset, size_t size) {
      const Bytes bytes = random_bytes(size, offset);
      ASSERT_EQ(disk.write(offset, bytes), 0);
      std::ranges::copy(bytes, model.begin() + static_cast<ptrdiff_t>(offset));
    };
    write(1024, 512);
    write((64 << 10) + 512, 512);
    write(1 << 20, 300 << 10);
    write((2 << 20) + 512, 4096);
    write(3 << 20, 512);
    for (const bool unmap : {false, true}) {
      const size_t at = (512 + (unmap ? 256 : 0)) << 10;
      ASSERT_EQ(disk.write_zeroes(at + 512, 140 << 10, unmap), 0);
      std::fill_n(model.begin() + static_cast<ptrdiff_t>(at) + 512, 140 << 10, 0);
    }
    EXPECT_TRUE(same(disk.content(), model));
    const Bytes before = disk.content();
    ASSERT_EQ(disk.discard(0, 2 << 20), 0);
    // Only what had clusters of its own may change, and only to zeros.
    model = disk.content();
    for (size_t i = 0; i < model.size(); i += 512) {
      const bool same = std::memcmp(&model[i], &before[i], 512) == 0;
      const bool zero = std::all_of(&model[i], &model[i] + 512, [](uint8_t b) { return b == 0; });
      ASSERT_TRUE(same || zero) << "at " << i;
    }
  }
  expect_clean(path);
  EXPECT_TRUE(same(content_by_qemu(path), model));
  EXPECT_TRUE(same(read_file(base), base_before)) << "a backing file was written";
}

TEST_P(Qcow2Chain, GrowsOverALongerBackingImage) {
  REQUIRE_QEMU_IMG();
  const TempFolder folder;
  const std::string base = folder / "base.raw";
  const std::string path = folder / "disk.qcow2";
  Bytes model = random_bytes(1 << 20, 1);
  write_file(base, model);
  must("qemu-img create -q -f qcow2 -F raw -b " + base + " -o " + GetParam().overlay + " " + path +
       " 513k");
  model.resize(513 << 10);
  {
    Disk disk = Disk::open({{path, ImageFormat::kQcow2}, {base, ImageFormat::kRaw}});
    EXPECT_TRUE(same(disk.content(), model));
    disk.image().resize(2 << 20);
    model.resize(2 << 20);
    EXPECT_TRUE(same(disk.content(), model));
  }
  expect_clean(path);
  EXPECT_TRUE(same(content_by_qemu(path), model));
}

INSTANTIATE_TEST_SUITE_P(Options, Qcow2Chain,
                         testing::Values(Chain{"Default", "cluster_size=64k", "cluster_size=64k"},
                                         Chain{"Version2", "compat=0.10", "compat=0.10"},
                                         Chain{"Mixed", "cluster_size=4k", "cluster_size=512"},
                                         Chain{"Large", "cluster_size=512", "cluster_size=2M"},
                                         Chain{"Subclusters", "cluster_size=64k",
                                               "extended_l2=on,cluster_size=128k"}),
                         [](const auto& info) { return info.param.name; });

class Qcow2Compressed : public testing::TestWithParam<Kind> {};

TEST_P(Qcow2Compressed, ReadsAndReplacesCompressedClusters) {
  REQUIRE_QEMU_IMG();
  const TempFolder folder;
  const std::string raw = folder / "disk.raw";
  const std::string path = folder / "disk.qcow2";
  Bytes model(kSize);
  for (size_t i = 0; i < kSize; ++i) model[i] = static_cast<uint8_t>((i >> 9) * 7 + (i >> 15));
  // What does not compress is stored as it is.
  std::ranges::copy(random_bytes(256 << 10, 1), model.begin() + (2 << 20));
  write_file(raw, model);
  must("qemu-img convert -c -f raw -O qcow2 -o " + std::string(GetParam().options) + " " + raw +
       " " + path);
  {
    Disk disk = Disk::open(path, {.read_only = true});
    EXPECT_TRUE(same(disk.content(), model));
    Bytes piece(4096);
    EXPECT_EQ(disk.read(12288, piece), 0);
    EXPECT_TRUE(std::ranges::equal(piece, std::span(model).subspan(12288, 4096)));
  }
  {
    Disk disk = Disk::open(path);
    for (const size_t at : {512, 70 << 10, 1 << 20, (2 << 20) + 1024}) {
      const Bytes bytes = random_bytes(8192, at);
      ASSERT_EQ(disk.write(at, bytes), 0);
      std::ranges::copy(bytes, model.begin() + static_cast<ptrdiff_t>(at));
    }
    ASSERT_EQ(disk.write_zeroes(3 << 20, 600 << 10, true), 0);
    std::fill_n(model.begin() + (3 << 20), 600 << 10, 0);
    EXPECT_TRUE(same(disk.content(), model));
  }
  expect_clean(path);
  EXPECT_TRUE(same(content_by_qemu(path), model));
}

INSTANTIATE_TEST_SUITE_P(Options, Qcow2Compressed,
                         testing::Values(Kind{"Zlib", "compression_type=zlib"},
                                         Kind{"Zstd", "compression_type=zstd"},
                                         Kind{"SmallZlib", "cluster_size=4k"},
                                         Kind{"LargeZstd", "compression_type=zstd,cluster_size=2M"},
                                         Kind{"Subclusters", "extended_l2=on"}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace tsvmm::qcow2_test
