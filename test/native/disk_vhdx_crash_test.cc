// What is left of a VHDX image when its host goes down: everything up to the last flush, whatever
// of the later writes got to the disk.
#include "disk/vhdx/image.h"
#include "image_test_support.h"
#include "qcow2_memory_container.h"

namespace tsvmm::disk_test {
namespace {

using qcow2_test::MemoryContainer;

constexpr size_t kSector = 512;
constexpr uint64_t kSize = 12 << 20;

/// Something that was done, and which part of the container's log it made.
struct Step {
  uint64_t offset = 0;
  Bytes data;  ///< none: a flush
  size_t log_before = 0;
  size_t log_after = 0;
};

class VhdxCrash : public testing::Test {
 protected:
  void SetUp() override {
    REQUIRE_QEMU_IMG();
    must("qemu-img create -q -f vhdx -o block_size=1M " + path + " 12M");
    file = read_file(path);
  }

  /// Writes and flushes at random; `log` and `end_size` are the container's afterwards, before the
  /// image is closed.
  void work() {
    auto memory = std::make_unique<MemoryContainer>(file, random());
    MemoryContainer& container = *memory;
    Disk disk(std::make_unique<vhdx::Image>(std::move(memory), false));
    for (int i = 0; i < 50; ++i) {
      Step step{.log_before = container.log().size()};
      if (random() % 4 == 0) {
        ASSERT_EQ(disk.flush(), 0);
      } else {
        const bool durable = random() % 8 == 0;
        const uint64_t most = random() % 6 == 0 ? (2 << 20) : 16384;
        step.data = random_bytes((1 + random() % (most / kSector)) * kSector, random());
        step.offset = random() % ((kSize - step.data.size()) / kSector + 1) * kSector;
        ASSERT_EQ(disk.write(step.offset, step.data, durable), 0);
      }
      step.log_after = container.log().size();
      steps.push_back(std::move(step));
    }
    log = container.log();
    end_size = container.bytes().size();
  }

  /// The file, of which all is there that was synced before the log's event `end`, and some sectors
  /// of what came after.
  Bytes crashed_file(size_t end) {
    Bytes bytes = file;
    bytes.resize(end_size);
    size_t synced = end;
    while (synced > 0 && !log[synced - 1].bytes.empty()) --synced;
    for (size_t i = 0; i < end; ++i) {
      for (size_t at = 0; at < log[i].bytes.size(); at += kSector) {
        if (i >= synced && random() % 2 == 0) continue;
        const size_t size = std::min(kSector, log[i].bytes.size() - at);
        std::memcpy(&bytes[log[i].offset + at], &log[i].bytes[at], size);
      }
    }
    return bytes;
  }

  /// What the disk must hold if the host goes down at the event `end`, but for `open_ranges`.
  Bytes flushed_content(size_t end, std::vector<std::pair<uint64_t, size_t>>& open_ranges) {
    size_t flushed = 0;
    for (size_t i = 0; i < steps.size(); ++i) {
      if (steps[i].data.empty() && steps[i].log_after <= end) flushed = i + 1;
    }
    Bytes content(kSize);
    for (size_t i = 0; i < steps.size() && steps[i].log_before < end; ++i) {
      const Step& step = steps[i];
      if (step.data.empty()) continue;
      if (i < flushed) {
        std::ranges::copy(step.data, content.begin() + static_cast<ptrdiff_t>(step.offset));
      } else {
        open_ranges.emplace_back(step.offset, step.data.size());
      }
    }
    return content;
  }

  TempFolder folder;
  const std::string path = folder / "disk.vhdx";
  std::mt19937_64 random{static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed())};
  Bytes file;
  std::vector<Step> steps;
  std::vector<MemoryContainer::Event> log;
  size_t end_size = 0;
};

TEST_F(VhdxCrash, LeavesWhatWasFlushed) {
  work();
  for (int crash = 0; crash < 40; ++crash) {
    const size_t end = random() % (log.size() + 1);
    SCOPED_TRACE("crash at event " + std::to_string(end) + " of " + std::to_string(log.size()));
    std::vector<std::pair<uint64_t, size_t>> open_ranges;
    Bytes expected = flushed_content(end, open_ranges);
    const Bytes bytes = crashed_file(end);
    std::vector<Bytes> found;
    found.push_back(
        Disk(std::make_unique<vhdx::Image>(std::make_unique<MemoryContainer>(bytes, 1), false))
            .content());
    if (crash % 8 == 0) {
      write_file(path, bytes);
      must("qemu-img check -q -r all -f vhdx " + path);
      found.push_back(content_by_qemu("vhdx", path));
    }
    for (Bytes& content : found) {
      for (const auto& [offset, length] : open_ranges) {
        std::fill_n(content.begin() + static_cast<ptrdiff_t>(offset), length, 0);
        std::fill_n(expected.begin() + static_cast<ptrdiff_t>(offset), length, 0);
      }
      ASSERT_TRUE(same(content, expected));
    }
  }
}

TEST_F(VhdxCrash, FailingWritesLoseNothingThatWasFlushed) {
  for (uint32_t good = 1; good < 26; good += 2) {
    Bytes left;
    const Bytes first = random_bytes(8192, 1);
    {
      auto memory = std::make_unique<MemoryContainer>(file, good, &left);
      MemoryContainer& container = *memory;
      Disk disk(std::make_unique<vhdx::Image>(std::move(memory), false));
      ASSERT_EQ(disk.write(0, first), 0);
      ASSERT_EQ(disk.flush(), 0);
      container.fail_after(good);
      bool failed = false;
      for (uint64_t block = 1; block < 10; ++block) {
        failed |= disk.write(block << 20, first) != 0;
        failed |= disk.flush() != 0;
      }
      EXPECT_TRUE(failed);
    }
    Disk disk(std::make_unique<vhdx::Image>(std::make_unique<MemoryContainer>(left, 1), false));
    Bytes found(first.size());
    ASSERT_EQ(disk.read(0, found), 0);
    EXPECT_EQ(found, first);
  }
}

/// Another queue makes the file longer while one syncs: the log may only tell of a size that is on
/// stable storage, or nobody opens the file after a crash.
TEST_F(VhdxCrash, TheLogTellsOfNoSizeThatIsNotDurable) {
  class GrowingContainer final : public Container {
   public:
    explicit GrowingContainer(Bytes bytes) : inner(std::move(bytes), 1) {}
    uint64_t size() const noexcept override { return inner.size(); }
    DiskLimits limits() const noexcept override { return inner.limits(); }
    bool grows() const noexcept override { return true; }
    int read(uint64_t offset, std::span<uint8_t> bytes) noexcept override {
      return inner.read(offset, bytes);
    }
    int write(uint64_t offset, std::span<iovec> buffers) noexcept override {
      return inner.write(offset, buffers);
    }
    int sync() noexcept override {
      // As a write of another queue does while the host is at it.
      if (image != nullptr && next_block < kSize) {
        vhdx::Extent extent;
        EXPECT_EQ(image->find(next_block, 512, true, extent), 0);
        next_block += 1 << 20;
      }
      return inner.sync();
    }
    int grow(uint64_t bytes) noexcept override { return inner.grow(bytes); }
    int truncate(uint64_t bytes) noexcept override { return inner.truncate(bytes); }
    void discard(uint64_t offset, uint64_t length) noexcept override {
      inner.discard(offset, length);
    }
    std::unique_ptr<DiskQueue> make_queue(uint16_t depth) override {
      return inner.make_queue(depth);
    }
    MemoryContainer inner;
    vhdx::Image* image = nullptr;
    uint64_t next_block = 4 << 20;
  };
  auto made = std::make_unique<GrowingContainer>(file);
  GrowingContainer& container = *made;
  auto opened = std::make_unique<vhdx::Image>(std::move(made), false);
  vhdx::Image& image = *opened;
  Disk disk(std::move(opened));
  ASSERT_EQ(disk.write(0, random_bytes(512, 1)), 0);
  container.image = &image;
  const uint64_t durable_size = container.size();
  ASSERT_EQ(disk.flush(), 0);
  container.image = nullptr;
  size_t entries = 0;
  for (const MemoryContainer::Event& event : container.inner.log()) {
    if (event.bytes.size() < sizeof(vhdx::LogEntryHeader)) continue;
    vhdx::LogEntryHeader header;
    std::memcpy(&header, event.bytes.data(), sizeof header);
    if (header.signature != vhdx::kLogEntrySignature) continue;
    ++entries;
    EXPECT_LE(header.flushed_file_offset, durable_size) << "what the file had before the sync";
    EXPECT_LE(header.last_file_offset, durable_size);
  }
  EXPECT_EQ(entries, 1U);
}

}  // namespace
}  // namespace tsvmm::disk_test
