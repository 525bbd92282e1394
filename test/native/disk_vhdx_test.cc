#include <csignal>
#include <random>

#include "core/bytes.h"
#include "core/crc32c.h"
#include "disk/vhdx/format.h"
#include "image_test_support.h"

namespace tsvmm::disk_test {
namespace {

using namespace vhdx;  // NOLINT(google-build-using-namespace): the format under test

constexpr uint64_t kSize = 20 << 20;

class Vhdx : public testing::Test {
 protected:
  explicit Vhdx(bool in_memory = true) : folder(in_memory) {}
  void SetUp() override { REQUIRE_QEMU_IMG(); }

  void create(const std::string& options = "block_size=1M", const std::string& size = "20M") {
    must("qemu-img create -q -f vhdx -o " + options + " " + path + " " + size);
  }
  Disk open(ImageOptions options = {}) { return Disk::open(path, ImageFormat::kVhdx, options); }
  std::string refusal(ImageOptions options = {}) {
    try {
      open(options);
      return "opened";
    } catch (const Error& error) {
      return error.what();
    }
  }
  void expect_content(const Bytes& expected) {
    must("qemu-img check -q -f vhdx " + path);
    EXPECT_TRUE(same(content_by_qemu("vhdx", path), expected)) << "for QEMU";
    EXPECT_TRUE(same(open({.read_only = true}).content(), expected)) << "for ourselves";
  }
  template <typename T>
  T read_at(uint64_t offset) {
    Bytes bytes(sizeof(T));
    const UniqueFd fd(check_errno(::open(path.c_str(), O_RDONLY | O_CLOEXEC), path.c_str()));
    EXPECT_EQ(::pread(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)),
              static_cast<ssize_t>(bytes.size()));
    return load<T>(bytes);
  }
  template <typename T>
  void write_at(uint64_t offset, const T& value) {
    Bytes bytes(sizeof value);
    store(std::span(bytes), value);
    patch_file(path, offset, bytes);
  }
  /// The header that counts.
  Header header() {
    const auto first = read_at<Header>(kHeaderOffsets[0]);
    const auto second = read_at<Header>(kHeaderOffsets[1]);
    return first.sequence_number > second.sequence_number ? first : second;
  }

  TempFolder folder;
  std::string path = folder / "disk.vhdx";
};

struct Operation {
  uint64_t offset;
  size_t length;
};

/// Ranges of any size up to a little more than two blocks.
Operation random_operation(std::mt19937_64& random, uint64_t size) {
  constexpr uint64_t kSector = 512;
  const uint64_t most = random() % 8 == 0 ? (2 << 20) + 4096 : 64 << 10;
  const uint64_t length = (1 + random() % (most / kSector)) * kSector;
  const uint64_t offset = random() % ((size - length) / kSector + 1) * kSector;
  return {offset, length};
}

struct Variant {
  const char* name;
  const char* options;
  bool direct;
};

class VhdxVariant : public Vhdx, public testing::WithParamInterface<Variant> {
 protected:
  VhdxVariant() : Vhdx(!GetParam().direct) {}
};

TEST_P(VhdxVariant, HoldsWhatIsWritten) {
  create(GetParam().options);
  Bytes expected(kSize);
  std::mt19937_64 random(7);
  for (int session = 0; session < 3; ++session) {
    Disk disk = open({.direct = GetParam().direct});
    ASSERT_EQ(disk.image().size(), kSize);
    for (int i = 0; i < 60; ++i) {
      const auto [offset, length] = random_operation(random, kSize);
      const auto place = std::span(expected).subspan(offset, length);
      if (random() % 3 == 0) {
        Bytes found(length);
        ASSERT_EQ(disk.read(offset, found), 0);
        ASSERT_TRUE(std::ranges::equal(found, place)) << offset << " " << length;
        continue;
      }
      const Bytes data = random_bytes(length, random());
      ASSERT_EQ(disk.write(offset, data, random() % 10 == 0), 0);
      std::ranges::copy(data, place.begin());
      if (random() % 10 == 0) ASSERT_EQ(disk.flush(), 0);
    }
  }
  EXPECT_TRUE(header().log_guid.is_null());
  expect_content(expected);
}

TEST_P(VhdxVariant, ReadsWhatQemuWrote) {
  const Bytes expected = random_bytes(kSize, 3);
  write_file(folder / "raw", expected);
  must("qemu-img convert -f raw -O vhdx -o " + std::string(GetParam().options) + " " +
       (folder / "raw") + " " + path);
  const Bytes before = read_file(path);
  EXPECT_TRUE(open({.read_only = true, .direct = GetParam().direct}).content() == expected);
  EXPECT_TRUE(open({.direct = GetParam().direct}).content() == expected);
  EXPECT_TRUE(read_file(path) == before) << "reading changes nothing";
}

INSTANTIATE_TEST_SUITE_P(
    , VhdxVariant,
    testing::Values(Variant{"Dynamic1M", "block_size=1M", false},
                    Variant{"Dynamic1MDirect", "block_size=1M", true},
                    Variant{"Dynamic16M", "block_size=16M", false},
                    Variant{"Fixed", "subformat=fixed", false},
                    Variant{"ZeroBlocks", "block_size=1M,block_state_zero=on", false},
                    Variant{"NotPresent", "block_size=1M,block_state_zero=off", false},
                    Variant{"LargeLog", "block_size=1M,log_size=8M", false}),
    [](const auto& info) { return info.param.name; });

TEST_F(Vhdx, SeveralQueuesShareTheTable) {
  create();
  Disk disk = open();
  const auto second = disk.image().make_queue(16);
  Bytes data = random_bytes(1 << 20, 5);
  std::vector<DiskOperation> operations(16);
  std::vector<iovec> buffers(16);
  // All of them in blocks that are new, two in each.
  for (size_t i = 0; i < operations.size(); ++i) {
    buffers[i] = {data.data() + i * 65536, 65536};
    operations[i].kind = DiskOperation::Kind::kWrite;
    operations[i].offset = i / 2 * kMib + i % 2 * 65536;
    operations[i].length = 65536;
    operations[i].buffers = {&buffers[i], 1};
    (i % 2 == 0 ? disk.queue() : *second).start(operations[i]);
  }
  for (DiskQueue* queue : {&disk.queue(), second.get()}) {
    for (int ended = 0; ended < 8;) {
      queue->submit();
      while (const DiskOperation* operation = queue->next_completed()) {
        EXPECT_EQ(operation->error, 0);
        ++ended;
      }
      if (ended < 8) queue->wait();
    }
  }
  for (uint64_t i = 0; i < operations.size(); ++i) {
    Bytes found(65536);
    EXPECT_EQ(disk.read(i / 2 * kMib + i % 2 * 65536, found), 0);
    EXPECT_TRUE(std::ranges::equal(found, std::span(data).subspan(i * 65536, 65536))) << i;
  }
}

/// Runs in a child, which is killed; `written` is what it had flushed by then.
void write_until_killed(const std::string& path, int reports, uint64_t seed) {
  Disk disk = Disk::open(path, ImageFormat::kVhdx);
  std::mt19937_64 random(seed);
  for (;;) {
    const uint64_t value = random();
    const Operation operation = random_operation(random, kSize);
    if (disk.write(operation.offset, random_bytes(operation.length, value)) != 0) ::_exit(1);
    const bool flushed = random() % 4 == 0;
    if (flushed && disk.flush() != 0) ::_exit(1);
    const char report = flushed ? 'f' : 'w';
    if (::write(reports, &report, 1) != 1) ::_exit(1);
  }
}

/// What a child with that seed has written and flushed after so many reports; `open` gets the
/// ranges that it has written since, of which nobody can tell what they hold.
Bytes flushed_content(const std::string& reports, uint64_t seed, std::vector<Operation>& open) {
  std::mt19937_64 random(seed);
  Bytes content(kSize);
  Bytes flushed(kSize);
  const size_t last_flush = reports.rfind('f') == std::string::npos ? 0 : reports.rfind('f') + 1;
  // The operation in progress may or may not have taken place.
  for (size_t i = 0; i <= reports.size(); ++i) {
    const uint64_t value = random();
    const Operation operation = random_operation(random, kSize);
    const Bytes data = random_bytes(operation.length, value);
    (void)random();
    std::ranges::copy(data, content.begin() + static_cast<ptrdiff_t>(operation.offset));
    if (i < last_flush) {
      flushed = content;
    } else {
      open.push_back(operation);
    }
  }
  return flushed;
}

TEST_F(Vhdx, SurvivesBeingKilled) {
  std::mt19937_64 random(11);
  for (uint64_t round = 0; round < 6; ++round) {
    std::filesystem::remove(path);
    create();
    int pipe_fds[2];
    ASSERT_EQ(::pipe(pipe_fds), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      ::close(pipe_fds[0]);
      write_until_killed(path, pipe_fds[1], round);
    }
    ::close(pipe_fds[1]);
    std::string reports;
    const size_t enough = 1 + random() % 40;
    char report;
    while (reports.size() < enough && ::read(pipe_fds[0], &report, 1) == 1) reports += report;
    ::usleep(static_cast<useconds_t>(random() % 3000));
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child failed";
    while (::read(pipe_fds[0], &report, 1) == 1) reports += report;
    ::close(pipe_fds[0]);

    std::vector<Operation> open_ranges;
    Bytes flushed = flushed_content(reports, round, open_ranges);
    must("cp " + path + " " + path + ".copy");
    must("qemu-img check -q -r all -f vhdx " + path + ".copy");
    Bytes by_qemu = content_by_qemu("vhdx", path + ".copy");
    Bytes by_us = open().content();
    for (const auto& [offset, length] : open_ranges) {
      for (Bytes* content : {&flushed, &by_qemu, &by_us}) {
        std::fill_n(content->begin() + static_cast<ptrdiff_t>(offset), length, 0);
      }
    }
    ASSERT_TRUE(same(by_us, flushed)) << "in round " << round;
    ASSERT_TRUE(same(by_qemu, flushed)) << "in round " << round << ", for QEMU";
    must("qemu-img check -q -f vhdx " + path);
  }
}

/// An image whose log is as a crash leaves it: the table in the file does not know of the block.
class VhdxLog : public Vhdx {
 protected:
  void SetUp() override {
    REQUIRE_QEMU_IMG();
    create();
    const Bytes empty = read_file(path);
    bat = read_at<RegionEntry>(kRegionTableOffsets[0] + sizeof(RegionTableHeader));
    ASSERT_EQ(bat.id, kBatRegion);
    const pid_t child = ::fork();
    if (child == 0) {
      Disk disk = Disk::open(path, ImageFormat::kVhdx);
      const bool good = disk.write(0, data) == 0 && disk.flush() == 0;
      ::_exit(good ? 0 : 1);  // without the destructors
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
    Bytes bytes = read_file(path);
    std::copy_n(empty.begin() + static_cast<ptrdiff_t>(bat.file_offset), bat.length,
                bytes.begin() + static_cast<ptrdiff_t>(bat.file_offset));
    write_file(path, bytes);
    ASSERT_FALSE(header().log_guid.is_null());
    entry = header().log_offset;
    ASSERT_EQ(read_at<LogEntryHeader>(entry).signature, kLogEntrySignature);
  }
  Bytes start(Disk& disk) {
    Bytes found(data.size());
    EXPECT_EQ(disk.read(0, found), 0);
    return found;
  }
  /// Writes the entry's checksum anew.
  void seal(uint64_t at) {
    Bytes bytes = read_file(path);
    store<uint32_t>(std::span(bytes), 0, at + 4);
    const uint32_t length = load<LogEntryHeader>(bytes, at).entry_length;
    store(std::span(bytes), crc32c(std::span(bytes).subspan(at, length)), at + 4);
    write_file(path, bytes);
  }

  const Bytes data = random_bytes(4096, 9);
  RegionEntry bat{};
  uint64_t entry = 0;
};

TEST_F(VhdxLog, IsReplayed) {
  {
    Disk disk = open();
    EXPECT_TRUE(header().log_guid.is_null());
    EXPECT_EQ(start(disk), data);
  }
  Bytes expected(kSize);
  std::ranges::copy(data, expected.begin());
  expect_content(expected);
}

TEST_F(VhdxLog, NeedsWriting) {
  EXPECT_NE(refusal({.read_only = true}).find("was not closed by its last user"),
            std::string::npos);
}

TEST_F(VhdxLog, WithoutAnEntryThatIsWholeChangesNothing) {
  write_at<uint8_t>(entry + kSectorSize + 100, 0x77);
  Disk disk = open();
  EXPECT_EQ(start(disk), Bytes(data.size()));
}

TEST_F(VhdxLog, OfAnotherFileChangesNothing) {
  write_at(entry + offsetof(LogEntryHeader, log_guid), Guid{});
  seal(entry);
  Disk disk = open();
  EXPECT_EQ(start(disk), Bytes(data.size()));
}

TEST_F(VhdxLog, NewestEntryCounts) {
  // A second entry behind the first, which wants zeros where the first puts the block.
  const auto first = read_at<LogEntryHeader>(entry);
  Bytes bytes = read_file(path);
  const uint64_t at = entry + first.entry_length;
  LogEntryHeader second = first;
  second.sequence_number += 1;
  second.entry_length = kSectorSize;
  second.tail = 0;
  second.descriptor_count = 1;
  const LogDescriptor zero{.signature = kLogZeroSignature,
                           .trailing_bytes = 0,
                           .leading_bytes = kSectorSize,
                           .file_offset = bat.file_offset,
                           .sequence_number = second.sequence_number};
  std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(at), kSectorSize, 0);
  store(std::span(bytes), second, at);
  store(std::span(bytes), zero, at + sizeof second);
  write_file(path, bytes);
  seal(at);
  Disk disk = open();
  EXPECT_EQ(start(disk), Bytes(data.size()));
}

TEST_F(VhdxLog, MustNotReachBeyondItsPlace) {
  const Bytes good = read_file(path);
  const uint64_t target = entry + sizeof(LogEntryHeader) + offsetof(LogDescriptor, file_offset);
  for (const uint64_t offset :
       {uint64_t{0}, kHeaderOffsets[0], header().log_offset, uint64_t{1} << 60, ~uint64_t{4095}}) {
    write_at(target, offset);
    seal(entry);
    EXPECT_NE(refusal().find("its log would change what it must not"), std::string::npos) << offset;
    write_file(path, good);
  }
  write_at(entry + offsetof(LogEntryHeader, flushed_file_offset), uint64_t{1} << 40);
  seal(entry);
  EXPECT_NE(refusal().find("it is shorter than its log says"), std::string::npos);
}

class VhdxDamaged : public Vhdx {
 protected:
  void SetUp() override {
    REQUIRE_QEMU_IMG();
    create();
    good = read_file(path);
    bat = read_at<RegionEntry>(kRegionTableOffsets[0] + sizeof(RegionTableHeader)).file_offset;
    metadata = read_at<RegionEntry>(kRegionTableOffsets[0] + sizeof(RegionTableHeader) +
                                    sizeof(RegionEntry))
                   .file_offset;
  }
  /// Changes the region table, both copies, and seals them.
  template <typename T>
  void change_regions(uint64_t offset, const T& value) {
    Bytes bytes = read_file(path);
    for (const uint64_t table : kRegionTableOffsets) {
      store(std::span(bytes), value, table + offset);
      store<uint32_t>(std::span(bytes), 0, table + 4);
      store(std::span(bytes), crc32c(std::span(bytes).subspan(table, kRegionTableSize)), table + 4);
    }
    write_file(path, bytes);
  }
  /// Where the data of a metadata item is.
  uint64_t item(const Guid& id) {
    const auto count = read_at<MetadataTableHeader>(metadata).entry_count;
    for (uint32_t i = 0; i < count; ++i) {
      const auto entry = read_at<MetadataEntry>(metadata + 32 + i * 32);
      if (entry.id == id) return metadata + entry.offset;
    }
    ADD_FAILURE() << "no such item";
    return 0;
  }
  void expect(const std::string& message) {
    EXPECT_NE(refusal().find(message), std::string::npos) << refusal();
    write_file(path, good);
  }

  Bytes good;
  uint64_t bat = 0;
  uint64_t metadata = 0;
};

TEST_F(VhdxDamaged, HeadersAreRefused) {
  write_at<uint8_t>(0, 'V');
  expect("this is no VHDX image");
  for (const uint64_t offset : kHeaderOffsets) write_at<uint8_t>(offset + 100, 1);
  expect("it has no header that is whole");
  for (const uint64_t offset : kRegionTableOffsets) write_at<uint8_t>(offset + 1000, 1);
  expect("it has no region table that is whole");
  write_file(path, std::span(good).first(100 << 10));
  expect("it has no");
  write_file(path, std::span(good).first(100));
  expect("it has no header");
}

TEST_F(VhdxDamaged, OneHeaderIsEnough) {
  for (const uint64_t offset : kHeaderOffsets) {
    write_at<uint8_t>(offset + 100, 1);
    EXPECT_EQ(refusal(), "opened");
    write_file(path, good);
  }
}

TEST_F(VhdxDamaged, RegionsAreRefused) {
  constexpr uint64_t kFirst = sizeof(RegionTableHeader);
  constexpr uint64_t kSecond = kFirst + sizeof(RegionEntry);
  change_regions(kFirst + offsetof(RegionEntry, file_offset), uint64_t{512} << 10);
  expect("a region is not where it can be");
  change_regions(kFirst + offsetof(RegionEntry, file_offset), ~uint64_t{0} << 20);
  expect("a region is not where it can be");
  change_regions(kFirst + offsetof(RegionEntry, length), uint32_t{0});
  expect("a region is not where it can be");
  change_regions(kSecond, kBatRegion);
  expect("a region is there twice");
  change_regions(kSecond, RegionEntry{.id = Guid{}, .file_offset = 0, .length = 0, .required = 1});
  expect("unknown region");
  change_regions(kSecond + offsetof(RegionEntry, file_offset), bat);
  expect("its regions overlap");
  change_regions(8, uint32_t{1});
  expect("a region is missing");
  change_regions(8, uint32_t{2048});
  expect("it has no region table");
}

TEST_F(VhdxDamaged, MetadataIsRefused) {
  write_at<uint8_t>(metadata, 'M');
  expect("it has no metadata table");
  write_at<uint16_t>(metadata + 10, 2048);
  expect("it has no metadata table");
  write_at<uint16_t>(metadata + 10, 1);
  expect("it lacks metadata");
  write_at<uint32_t>(metadata + 32 + offsetof(MetadataEntry, offset), 100);
  expect("its metadata is not where it can be");
  write_at<uint32_t>(metadata + 32 + offsetof(MetadataEntry, offset), 0xfffffff0);
  expect("its metadata is not where it can be");
  write_at(metadata + 32 + 5 * 32,
           MetadataEntry{.id = Guid{}, .offset = 0, .length = 0, .flags = 4, .reserved = 0});
  write_at<uint16_t>(metadata + 10, 6);
  expect("needs metadata that is not supported");
  write_at<uint32_t>(item(kFileParameters) + 4, kHasParent);
  expect("differencing VHDX images are not supported");
  for (const uint32_t size : {0U, 512U << 10, 3U << 20, 512U << 20, 1U << 31}) {
    write_at(item(kFileParameters), size);
    expect("its block size is no power of two");
  }
  for (const uint64_t size : {uint64_t{0}, uint64_t{513}, uint64_t{65} << 40, ~uint64_t{511}}) {
    write_at(item(kVirtualDiskSize), size);
    expect("its disk cannot have that size");
  }
  write_at(item(kVirtualDiskSize), uint64_t{1} << 40);
  expect("its block allocation table is too short");
  for (const uint32_t size : {0U, 1U, 513U, 8192U}) {
    write_at(item(kLogicalSector), size);
    expect("its sector sizes");
  }
}

TEST_F(VhdxDamaged, BlocksOutOfPlaceAreErrorsOfTheirOwn) {
  constexpr uint64_t kPresent = 6;
  Bytes bytes(4096);
  for (const uint64_t entry :
       {uint64_t{0} | kPresent, bat | kPresent, metadata | kPresent, header().log_offset | kPresent,
        (uint64_t{1} << 50) | kPresent, kOffsetMask | kPresent, uint64_t{7}, uint64_t{4}}) {
    write_at(bat, entry);
    Disk disk = open();
    EXPECT_NE(disk.read(0, bytes), 0) << entry;
    if ((entry & kStateMask) == kPresent) EXPECT_NE(disk.write(0, bytes), 0) << entry;
    // Its neighbour is none the worse.
    EXPECT_EQ(disk.write(kMib, bytes), 0);
    EXPECT_EQ(disk.flush(), 0);
    write_file(path, good);
  }
}

TEST_F(Vhdx, HasItsSizeForGood) {
  create();
  EXPECT_THROW(open().image().resize(2 * kSize), Error);
}

TEST_F(Vhdx, ReadOnlyImagesStayAsTheyAre) {
  create();
  const Bytes before = read_file(path);
  {
    Disk disk = open({.read_only = true});
    EXPECT_NE(disk.write(0, Bytes(4096)), 0);
    EXPECT_EQ(disk.flush(), 0);
  }
  EXPECT_TRUE(read_file(path) == before);
}

TEST_F(Vhdx, FileWriteGuidChangesWithTheFirstWriteOnly) {
  create();
  const Guid before = header().file_write_guid;
  {
    Disk disk = open();
    Bytes bytes(512);
    EXPECT_EQ(disk.read(0, bytes), 0);
    EXPECT_EQ(header().file_write_guid, before);
    EXPECT_EQ(disk.write(0, bytes), 0);
    const Guid after = header().file_write_guid;
    EXPECT_NE(after, before);
    EXPECT_EQ(disk.write(kMib, bytes), 0);
    EXPECT_EQ(header().file_write_guid, after);
  }
}

TEST_F(Vhdx, LargeDisksTakeNoMemoryForWhatIsNotUsed) {
  create("block_size=1M", "16T");
  Disk disk = open();
  const Bytes data = random_bytes(4096, 1);
  for (const uint64_t offset : {uint64_t{0}, uint64_t{7} << 40, (uint64_t{16} << 40) - 4096}) {
    Bytes found(4096);
    EXPECT_EQ(disk.write(offset, data), 0);
    EXPECT_EQ(disk.read(offset, found), 0);
    EXPECT_EQ(found, data);
  }
  EXPECT_EQ(disk.flush(), 0);
}

}  // namespace
}  // namespace tsvmm::disk_test
