#include "image_test_support.h"

namespace tsvmm::disk_test {
namespace {

constexpr size_t kSize = 4 << 20;
constexpr size_t kFooter = 512;

class Vhd : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    REQUIRE_QEMU_IMG();
    create("fixed");
  }
  void create(const std::string& subformat) {
    must("qemu-img create -q -f vpc -o subformat=" + subformat + ",force_size=on " + path + " 4M");
  }
  Disk open(bool read_only = false) {
    return Disk::open(path, ImageFormat::kFixedVhd, {.read_only = read_only, .direct = GetParam()});
  }
  std::string refusal() {
    try {
      open();
      return "opened";
    } catch (const Error& error) {
      return error.what();
    }
  }
  void change(size_t offset, uint8_t byte) {
    Bytes bytes = read_file(path);
    bytes.at(bytes.size() - kFooter + offset) = byte;
    write_file(path, bytes);
  }

  TempFolder folder{!GetParam()};
  const std::string path = folder / "disk.vhd";
};

TEST_P(Vhd, IsDataWithAFooterThatNobodyWrites) {
  const Bytes before = read_file(path);
  const Bytes data = random_bytes(kSize, 1);
  {
    Disk disk = open();
    EXPECT_EQ(disk.image().size(), kSize);
    EXPECT_EQ(disk.write(0, data), 0);
    // The last bytes, which share a block with the footer.
    EXPECT_EQ(disk.write(kSize - 512, std::span(data).last(512)), 0);
    EXPECT_EQ(disk.flush(), 0);
    EXPECT_EQ(disk.content(), data);
  }
  const Bytes after = read_file(path);
  ASSERT_EQ(after.size(), before.size());
  EXPECT_TRUE(std::equal(after.end() - kFooter, after.end(), before.end() - kFooter));
  EXPECT_EQ(content_by_qemu("vpc", path), data);
}

TEST_P(Vhd, HasItsSizeForGood) {
  Disk disk = open();
  EXPECT_THROW(disk.image().resize(2 * kSize), Error);
  EXPECT_EQ(disk.image().size(), kSize);
}

TEST_P(Vhd, IsCheckedBeforeItIsBelieved) {
  const Bytes good = read_file(path);
  const auto expect = [&](const std::string& message) {
    EXPECT_NE(refusal().find(message), std::string::npos) << refusal();
    write_file(path, good);
  };
  change(0, 'k');
  expect("it has no footer");
  change(100, 1);
  expect("the checksum of its footer is wrong");
  write_file(path, Bytes(512));
  expect("it is too short");
  write_file(path, std::span(good).last(kFooter + 512));
  expect("its disk cannot have that size");
}

TEST_P(Vhd, IsFixed) {
  std::filesystem::remove(path);
  create("dynamic");
  EXPECT_EQ(refusal(), "only fixed VHD images are supported");
}

INSTANTIATE_TEST_SUITE_P(, Vhd, testing::Bool(),
                         [](const auto& info) { return info.param ? "Direct" : "Cached"; });

}  // namespace
}  // namespace tsvmm::disk_test
