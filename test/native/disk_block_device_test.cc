// Images on block devices: with sectors that are larger than the guest's, and on a host that fails.
#include "loop_device.h"
#include "qcow2_test_support.h"
#include "small_file_system.h"

namespace tsvmm::disk_test {
namespace {

struct OnDevice {
  const char* name;
  ImageFormat format;
  const char* qemu;
  const char* create;
};

class ImageOnLargeSectors : public testing::TestWithParam<OnDevice> {};

TEST_P(ImageOnLargeSectors, HasSectorsOf512Bytes) {
  REQUIRE_QEMU_IMG();
  const TempFolder folder(false);
  const std::string file = folder / "blocks";
  const OnDevice& image = GetParam();
  must("qemu-img create -q -f " + std::string(image.create) + " " + file + " 4M");
  // A VHDX image grows at the end of its file, which a device does not do: all blocks are there.
  if (image.format == ImageFormat::kVhdx) {
    must("qemu-io -f vhdx -c 'write -P 0 0 4M' " + file);
  }
  // A fixed VHD ends where its device does.
  if (image.format != ImageFormat::kFixedVhd) must("truncate -s 16M " + file);
  if (image.format == ImageFormat::kFixedVhd) {
    Bytes bytes = read_file(file);
    const Bytes footer(bytes.end() - 512, bytes.end());
    bytes.resize((bytes.size() + 4095) / 4096 * 4096);
    std::ranges::copy(footer, bytes.end() - 512);
    write_file(file, bytes);
  }
  const LoopDevice device(file, 4096);
  REQUIRE_LOOP_DEVICE(device);
  for (const bool direct : {false, true}) {
    SCOPED_TRACE(direct);
    Disk disk = Disk::open(device.path(), image.format, {.direct = direct});
    EXPECT_EQ(disk.image().limits().logical_block_size, 512U);
    EXPECT_EQ(disk.image().limits().physical_block_size, 4096U);
    const Bytes data = random_bytes(5 * 512, direct ? 1 : 2);
    for (const uint64_t sector : {1U, 9U, 2051U}) {
      ASSERT_EQ(disk.write(sector * 512, data), 0);
    }
    ASSERT_EQ(disk.flush(), 0);
    Bytes found(data.size());
    for (const uint64_t sector : {1U, 9U, 2051U}) {
      ASSERT_EQ(disk.read(sector * 512, found), 0);
      EXPECT_TRUE(same(found, data)) << sector;
    }
    Bytes first(512, 1);
    ASSERT_EQ(disk.read(0, first), 0);
    EXPECT_TRUE(same(first, Bytes(512)));
  }
  const Bytes content = content_by_qemu(image.qemu, device.path());
  const Bytes data = random_bytes(5 * 512, 1);
  EXPECT_TRUE(same({content.begin() + 512, content.begin() + 512 + 5 * 512}, data));
}

INSTANTIATE_TEST_SUITE_P(Formats, ImageOnLargeSectors,
                         testing::Values(OnDevice{"Qcow2", ImageFormat::kQcow2, "qcow2", "qcow2"},
                                         OnDevice{"FixedVhd", ImageFormat::kFixedVhd, "vpc",
                                                  "vpc -o subformat=fixed,force_size=on"},
                                         OnDevice{"Vhdx", ImageFormat::kVhdx, "vhdx",
                                                  "vhdx -o block_size=1M"}),
                         [](const auto& info) { return info.param.name; });

TEST(DiskOnLargeSectors, IsAsItsDeviceIfItIsRaw) {
  const TempFolder folder(false);
  write_file(folder / "blocks", Bytes(1 << 20));
  const LoopDevice device(folder / "blocks", 4096);
  REQUIRE_LOOP_DEVICE(device);
  const Disk disk = Disk::open(device.path(), ImageFormat::kRaw);
  EXPECT_EQ(const_cast<Disk&>(disk).image().limits().logical_block_size, 4096U);
}

/// A logical volume that its host extends or reduces: nobody else can change what a device has.
TEST(DiskOnDeviceThatChanges, HasItsSizeOnceAsked) {
  const TempFolder folder(false);
  const std::string file = folder / "blocks";
  write_file(file, Bytes(1 << 20));
  const LoopDevice device(file, 512);
  REQUIRE_LOOP_DEVICE(device);
  Disk disk = Disk::open(device.path(), ImageFormat::kRaw);
  EXPECT_THROW(disk.image().resize(2 << 20), Error);
  for (const uint64_t bytes : {uint64_t{3} << 20, uint64_t{1} << 19}) {
    device.resize(file, bytes);
    EXPECT_NE(disk.image().size(), bytes);
    disk.image().resize(bytes);
    EXPECT_EQ(disk.image().size(), bytes);
    EXPECT_EQ(disk.write(bytes - 512, Bytes(512, 7)), 0);
  }
  EXPECT_EQ(disk.flush(), 0);
  EXPECT_EQ(read_file(file).back(), 7);
}

/// Space that is given out as it is needed.
TEST(DiskOnDeviceThatChanges, GrowsIntoWhatHasCome) {
  REQUIRE_QEMU_IMG();
  const TempFolder folder(false);
  const std::string file = folder / "blocks";
  must("qemu-img create -q -f qcow2 " + file + " 16M && truncate -s 1M " + file);
  const LoopDevice device(file, 512);
  REQUIRE_LOOP_DEVICE(device);
  const Bytes data = random_bytes(2 << 20, 3);
  {
    Disk disk = Disk::open(device.path(), ImageFormat::kQcow2);
    EXPECT_EQ(disk.write(0, data), ENOSPC);
    device.resize(file, 8 << 20);
    EXPECT_EQ(disk.write(0, data), 0);
    EXPECT_EQ(disk.flush(), 0);
  }
  Bytes content = content_by_qemu("qcow2", device.path());
  content.resize(data.size());
  EXPECT_TRUE(same(content, data));
}

/// A block device whose blocks have no room: what is written to the page cache cannot be kept, and
/// the kernel says so to the next sync, once.
class FullDevice : public testing::Test {
 protected:
  void SetUp() override {
    REQUIRE_MOUNTED(file_system);
    ASSERT_TRUE(file_system.file("blocks", 64 << 20).valid());
  }

  const SmallFileSystem file_system{"size=1m"};
  const std::string blocks = file_system.path() + "/blocks";
};

TEST_F(FullDevice, OneFailedSyncIsForGood) {
  const LoopDevice device(blocks, 512);
  REQUIRE_LOOP_DEVICE(device);
  for (const bool io_uring : {true, false}) {
    SCOPED_TRACE(io_uring);
    Disk disk = Disk::open(device.path(), ImageFormat::kRaw, {.engines = {.io_uring = io_uring}});
    const Bytes data(4 << 20, 7);
    ASSERT_EQ(disk.write(io_uring ? 0 : 16 << 20, data), 0) << "it goes to the page cache";
    EXPECT_EQ(disk.flush(), EIO);
    EXPECT_EQ(disk.flush(), EIO) << "the kernel would say that all is well";
    EXPECT_EQ(disk.write(0, Bytes(512), true), EIO) << "a write that is to last";
    EXPECT_EQ(disk.write(0, Bytes(512)), 0);
  }
  Disk later = Disk::open(device.path(), ImageFormat::kRaw);
  EXPECT_EQ(later.flush(), 0) << "who opens it anew sees what is there";
}

/// Each queue hears of what the host lost, also of what another one's sync has heard of before.
TEST_F(FullDevice, EveryQueueHearsOfIt) {
  const LoopDevice device(blocks, 512);
  REQUIRE_LOOP_DEVICE(device);
  Disk disk = Disk::open(device.path(), ImageFormat::kRaw);
  const auto other = disk.image().make_queue(4);
  ASSERT_EQ(disk.write(0, Bytes(4 << 20, 7)), 0);
  EXPECT_EQ(disk.flush(), EIO);
  DiskOperation flush{.kind = DiskOperation::Kind::kFlush};
  other->start(flush);
  while (other->next_completed() == nullptr) other->wait();
  EXPECT_EQ(flush.error, EIO);
}

}  // namespace
}  // namespace tsvmm::disk_test
