// The host fails once, at every call of a disk's life: what was flushed before is there, whether
// the host goes down afterwards or not, and nothing is believed that is not.
#include <linux/falloc.h>

#include <array>
#include <atomic>
#include <optional>
#include <set>
#include <thread>

#include "disk/raw_image.h"
#include "disk/sync_io.h"
#include "host_calls.h"
#include "image_test_support.h"

namespace tsvmm::disk_test {
namespace {

constexpr size_t kSector = 512;

/// What the host does at one call.
enum class Fault { kIoError, kNoSpace, kInterrupted, kShort };

/// A page cache as Linux has it, on top of a file: a sync that fails says so once, and calls clean
/// what it could not write. What is on stable storage is kept beside.
class FaultyHost final : public HostCalls {
 public:
  FaultyHost(const std::string& path, std::optional<Fault> fault, uint64_t at)
      : stable(read_file(path)), fault_(fault), at_(at) {}

  ssize_t read(int fd, const iovec* buffers, int count, off_t offset, int flags) override {
    if (flags != 0) return HostCalls::read(fd, buffers, count, offset, flags);
    switch (strike()) {
      case Strike::kFail:
        return -1;
      case Strike::kHalf:
        return half(buffers, [&](const iovec& piece) {
          return HostCalls::read(fd, &piece, 1, offset, flags);
        });
      case Strike::kNone:
        break;
    }
    return HostCalls::read(fd, buffers, count, offset, flags);
  }
  ssize_t write(int fd, const iovec* buffers, int count, off_t offset, int flags) override {
    switch (strike()) {
      case Strike::kFail: {
        const int error = errno;
        // Some sectors got there, as far as who reads them can tell; a lack of space shows at once.
        if (error == EIO) {
          const size_t whole = (kSector - static_cast<size_t>(offset) % kSector) % kSector;
          const iovec piece{buffers->iov_base, whole + kSector};
          if (buffers->iov_len >= piece.iov_len) (void)put(fd, &piece, 1, offset, 0);
          if (flags != 0) drop();
        }
        errno = error;
        return -1;
      }
      case Strike::kHalf:
        return half(buffers, [&](const iovec& piece) { return put(fd, &piece, 1, offset, flags); });
      case Strike::kNone:
        break;
    }
    return put(fd, buffers, count, offset, flags);
  }
  int sync(int /*fd*/) override {
    if (strike() == Strike::kFail) {
      const int error = errno;
      if (error != EINTR) {
        drop();
        sync_failed = true;
      }
      errno = error;
      return -1;
    }
    for (const auto& change : pending_) change();
    pending_.clear();
    return 0;
  }
  int allocate(int fd, int mode, off_t offset, off_t length) override {
    if (strike() == Strike::kFail) return -1;
    const int result = HostCalls::allocate(fd, mode, offset, length);
    if (result == 0 && (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0) {
      pending_.push_back([this, offset, length] {
        for (off_t i = offset; i < offset + length && i < static_cast<off_t>(stable.size()); ++i) {
          stable[static_cast<size_t>(i)] = 0;
        }
      });
    }
    return result;
  }
  int resize(int fd, off_t size) override {
    if (strike() == Strike::kFail) return -1;
    pending_.push_back([this, size] { stable.resize(static_cast<size_t>(size)); });
    return HostCalls::resize(fd, size);
  }

  uint64_t calls() const { return calls_; }
  Bytes stable;
  bool sync_failed = false;

 private:
  enum class Strike { kNone, kFail, kHalf };

  Strike strike() {
    if (calls_++ != at_ || !fault_) return Strike::kNone;
    if (*fault_ == Fault::kShort) return Strike::kHalf;
    errno = *fault_ == Fault::kIoError ? EIO : *fault_ == Fault::kNoSpace ? ENOSPC : EINTR;
    return Strike::kFail;
  }
  template <typename Call>
  static ssize_t half(const iovec* buffers, Call call) {
    const iovec piece{buffers->iov_base, (buffers->iov_len + 1) / 2};
    return call(piece);
  }
  ssize_t put(int fd, const iovec* buffers, int count, off_t offset, int flags) {
    const ssize_t written = HostCalls::write(fd, buffers, count, offset, 0);
    if (written <= 0) return written;
    Bytes bytes;
    for (const iovec* buffer = buffers; bytes.size() < static_cast<size_t>(written); ++buffer) {
      const auto* from = static_cast<const uint8_t*>(buffer->iov_base);
      bytes.insert(bytes.end(), from, from + buffer->iov_len);
    }
    bytes.resize(static_cast<size_t>(written));
    const auto change = [this, offset, bytes = std::move(bytes)] {
      const auto end = static_cast<size_t>(offset) + bytes.size();
      if (stable.size() < end) stable.resize(end);
      std::ranges::copy(bytes, stable.begin() + offset);
    };
    if (flags != 0) {
      change();
    } else {
      pending_.emplace_back(change);
    }
    return written;
  }
  /// All that waits is clean from now on, and never written.
  void drop() { pending_.clear(); }

  const std::optional<Fault> fault_;
  const uint64_t at_;
  uint64_t calls_ = 0;
  std::vector<std::function<void()>> pending_;
};

struct Case {
  const char* name;
  ImageFormat format;
  const char* create;  ///< options of `qemu-img create`
  bool ranges = true;  ///< can discard and zero
  bool backing = false;
};

/// What the sectors of a disk may hold, each of which is written whole: the number of its write.
class Model {
 public:
  explicit Model(uint64_t size) : sectors_(size / kSector) {}

  void write(uint64_t offset, uint64_t length, uint64_t tag, bool lasts) {
    for (uint64_t i = offset / kSector; i < (offset + length) / kSector; ++i) {
      if (lasts) {
        sectors_[i] = {tag, tag, {}};
      } else {
        sectors_[i].since.insert(tag);
        sectors_[i].now = tag;
        sectors_[i].is_known = true;
      }
    }
  }
  /// It may have been done, in part, or not.
  void try_to_write(uint64_t offset, uint64_t length, uint64_t tag) {
    for (uint64_t i = offset / kSector; i < (offset + length) / kSector; ++i) {
      sectors_[i].since.insert({tag, sectors_[i].now});
      sectors_[i].is_known = false;
    }
  }
  /// The range holds anything that it held before, or zeros.
  void discard(uint64_t offset, uint64_t length) { try_to_write(offset, length, 0); }
  void flush() {
    for (Sector& sector : sectors_) {
      if (sector.is_known) sector = {sector.now, sector.now, {}};
    }
  }

  /// `may_lack`: what was written since the last flush may be missing.
  testing::AssertionResult allows(const Bytes& content, bool may_lack) const {
    for (size_t i = 0; i < sectors_.size(); ++i) {
      uint64_t tag;
      std::memcpy(&tag, &content[i * kSector], sizeof tag);
      const uint8_t* bytes = &content[i * kSector];
      if (std::memcmp(bytes, bytes + 8, kSector - 8) != 0) {
        return testing::AssertionFailure() << "sector " << i << " is torn";
      }
      const Sector& sector = sectors_[i];
      const bool may_be_older = may_lack || !sector.is_known;
      const bool fits = tag == sector.now ||
                        (may_be_older && (tag == sector.stable || sector.since.contains(tag)));
      if (!fits) {
        return testing::AssertionFailure() << "sector " << i << " holds " << tag << ", not "
                                           << sector.now << " or " << sector.stable;
      }
    }
    return testing::AssertionSuccess();
  }

 private:
  struct Sector {
    uint64_t now = 0;
    uint64_t stable = 0;
    std::set<uint64_t> since;
    bool is_known = true;
  };
  std::vector<Sector> sectors_;
};

class DiskHostFaults : public testing::TestWithParam<Case> {
 protected:
  static constexpr uint64_t kBaseTag = 77;

  void SetUp() override {
    REQUIRE_QEMU_IMG();
    const Case& format = GetParam();
    if (format.format == ImageFormat::kRaw) {
      write_file(path, Bytes(size));
    } else {
      std::string create = "qemu-img create -q " + std::string(format.create);
      if (format.backing) {
        Bytes base(size / 2);
        for (size_t i = 0; i < base.size(); i += 8) std::memcpy(&base[i], &kBaseTag, 8);
        write_file(folder / "base", base);
        create += " -F raw -b " + (folder / "base");
      }
      must(create + " " + path + " " + std::to_string(size));
    }
    before = read_file(path);
  }

  Disk open(const std::string& file, bool read_only) {
    std::vector<std::pair<std::string, ImageFormat>> layers{{file, GetParam().format}};
    if (GetParam().backing) layers.emplace_back(folder / "base", ImageFormat::kRaw);
    return Disk::open(layers,
                      {.read_only = read_only, .engines = {.io_uring = false, .linux_aio = false}});
  }

  void write(Disk& disk, uint64_t offset, uint64_t length, bool durable = false) {
    const uint64_t tag = ++last_tag;
    Bytes bytes(length);
    for (size_t i = 0; i < length; i += 8) std::memcpy(&bytes[i], &tag, 8);
    if (disk.write(offset, bytes, durable) != 0) {
      model.try_to_write(offset, length, tag);
    } else {
      EXPECT_FALSE(durable && host->sync_failed) << "a durable write after a sync that failed";
      model.write(offset, length, tag, durable);
    }
  }
  void flush(Disk& disk) {
    const bool failed_before = host->sync_failed || flush_failed;
    if (disk.flush() != 0) {
      flush_failed = true;
      return;
    }
    EXPECT_FALSE(failed_before) << "a flush was believed after one that failed";
    model.flush();
  }
  void zero(Disk& disk, uint64_t offset, uint64_t length, bool may_unmap) {
    if (!GetParam().ranges) return;
    if (disk.write_zeroes(offset, length, may_unmap) != 0) {
      model.try_to_write(offset, length, 0);
    } else {
      model.write(offset, length, 0, false);
    }
  }
  void discard(Disk& disk, uint64_t offset, uint64_t length) {
    if (!GetParam().ranges) return;
    (void)disk.discard(offset, length);
    model.discard(offset, length);
  }

  /// A disk's life: new clusters, old ones, parts of them, ranges, and flushes between.
  void live() {
    Disk disk = open(path, false);
    write(disk, 0, 8 * kSector);
    write(disk, unit, 65536);
    flush(disk);
    write(disk, 3 * kSector, kSector);
    write(disk, unit + 4096, 4 * kSector, true);
    write(disk, 2 * unit, 3 * 65536);
    flush(disk);
    zero(disk, unit, 65536, true);
    zero(disk, 2 * unit + 4096, 4096, false);
    write(disk, 3 * unit, 4096, true);
    discard(disk, 2 * unit + 65536, 65536);
    flush(disk);
    write(disk, unit, 4096);
    write(disk, 4 * unit - 4096, 4096);
    flush(disk);
    write(disk, 0, 65536);
  }

  /// One life with one fault; what there is afterwards. False if it ended before the fault.
  bool live_with(std::optional<Fault> fault, uint64_t at) {
    write_file(path, before);
    model = Model(size);
    if (GetParam().backing) model.write(0, size / 2, kBaseTag, true);
    last_tag = 1000;
    flush_failed = false;
    FaultyHost faulty(path, fault, at);
    host = &faulty;
    try {
      live();
    } catch (const Error&) {
      // It was refused at opening.
    }
    host = nullptr;
    stable = std::move(faulty.stable);
    return faulty.calls() > at;
  }

  void check(const Bytes& file, bool may_lack) {
    // Most faults leave what others have left already.
    const std::string after = folder / "after";
    write_file(after, file);
    expect_sound(after, file);
    EXPECT_TRUE(model.allows(open(after, false).content(), may_lack));
  }

  void expect_sound(const std::string& file, const Bytes& bytes) {
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (!checked.insert(std::hash<std::string_view>()(text)).second) return;
    std::string output;
    const std::string copy = file + ".copy";
    const std::string check = "qemu-img check -f ";
    if (GetParam().format == ImageFormat::kQcow2) {
      // With lazy refcounts the dirty bit says that they are to be counted anew.
      constexpr size_t kIncompatible = 79;
      const bool is_dirty = (bytes[kIncompatible] & 1) != 0;
      write_file(copy, bytes);
      if (is_dirty) (void)shell(check + "qcow2 -r all " + copy);
      const int found = shell(check + "qcow2 " + copy, &output);
      EXPECT_TRUE(found == 0 || found == 3) << output;
    } else if (GetParam().format == ImageFormat::kVhdx) {
      // QEMU replays the log as well, of a copy that is its own.
      write_file(copy, bytes);
      EXPECT_EQ(shell(check + "vhdx -r all " + copy, &output), 0) << output;
    }
  }

  TempFolder folder;
  const std::string path = folder / "disk";
  /// A block of a VHDX image has 1 MiB at least.
  const uint64_t size = GetParam().format == ImageFormat::kVhdx ? 4 << 20 : 1 << 20;
  const uint64_t unit = size / 4;
  Bytes before;
  Bytes stable;
  Model model{size};
  FaultyHost* host = nullptr;
  uint64_t last_tag = 0;
  bool flush_failed = false;
  std::set<size_t> checked;
};

TEST_P(DiskHostFaults, LoseNothingThatWasFlushed) {
  for (const Fault fault : {Fault::kIoError, Fault::kNoSpace, Fault::kInterrupted, Fault::kShort}) {
    for (uint64_t at = 0;; ++at) {
      SCOPED_TRACE("fault " + std::to_string(static_cast<int>(fault)) + " at call " +
                   std::to_string(at));
      if (!live_with(fault, at)) {
        ASSERT_GT(at, 12U) << "calls of a disk's life";
        break;
      }
      const bool is_harmless = fault == Fault::kInterrupted || fault == Fault::kShort;
      if (is_harmless) {
        ASSERT_FALSE(flush_failed) << "a call that was cut short goes on";
      }
      check(read_file(path), !is_harmless);
      // A harmless one leaves what there would be without it.
      if (!is_harmless) check(stable, true);
      if (HasFailure()) return;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Formats, DiskHostFaults,
    testing::Values(
        Case{"Raw", ImageFormat::kRaw, ""},
        Case{"FixedVhd", ImageFormat::kFixedVhd, "-f vpc -o subformat=fixed,force_size=on"},
        Case{"Qcow2", ImageFormat::kQcow2, "-f qcow2"},
        Case{"Qcow2Small", ImageFormat::kQcow2, "-f qcow2 -o cluster_size=4k,refcount_bits=64"},
        Case{"Qcow2Lazy", ImageFormat::kQcow2, "-f qcow2 -o lazy_refcounts=on"},
        Case{"Qcow2Subclusters", ImageFormat::kQcow2, "-f qcow2 -o extended_l2=on"},
        Case{"Qcow2Overlay", ImageFormat::kQcow2, "-f qcow2", true, true},
        Case{"Qcow2Version2", ImageFormat::kQcow2, "-f qcow2 -o compat=0.10"},
        Case{"Vhdx", ImageFormat::kVhdx, "-f vhdx -o block_size=1M", false}),
    [](const auto& info) { return info.param.name; });

/// What the kernel answers to asynchronous engines is judged as what plain calls return is.
TEST(SyncFailures, OfAnyEngineAreForGood) {
  using Kind = DiskOperation::Kind;
  struct Answer {
    Kind kind;
    bool durable;
    int result;
    bool is_for_good;
  };
  const TempFolder folder;
  write_file(folder / "disk", Bytes(8192));
  const UniqueFd fd(::open((folder / "disk").c_str(), O_RDWR | O_CLOEXEC));
  Bytes data(4096);
  for (const Answer& answer :
       {Answer{Kind::kFlush, false, -EIO, true}, Answer{Kind::kFlush, false, -ENOSPC, true},
        Answer{Kind::kFlush, false, -EINTR, false}, Answer{Kind::kFlush, false, 0, false},
        Answer{Kind::kWrite, true, -EIO, true},
        // Not refused again without the sync: it was the sync.
        Answer{Kind::kWrite, true, -ENOSPC, true}, Answer{Kind::kWrite, true, -EINTR, false},
        Answer{Kind::kWrite, true, 512, false}, Answer{Kind::kWrite, false, -EIO, false},
        Answer{Kind::kRead, false, -EIO, false}}) {
    SCOPED_TRACE(std::to_string(static_cast<int>(answer.kind)) + " " +
                 std::to_string(answer.result));
    RawImage image(fd.get(), false);
    const ImageFile file(image);
    iovec buffer{data.data(), data.size()};
    DiskOperation operation{.kind = answer.kind, .durable = answer.durable};
    if (answer.kind == Kind::kFlush) {
      finish_flush(file, operation, answer.result);
    } else {
      operation.length = data.size();
      operation.buffers = {&buffer, 1};
      finish_transfer(file, operation, answer.result);
    }
    const bool fails = answer.result < 0 && answer.result != -EINTR;
    EXPECT_EQ(operation.error, fails ? -answer.result : 0);
    EXPECT_EQ(image.syncs().failure() != 0, answer.is_for_good);
    Disk disk(std::make_unique<RawImage>(fd.get(), false));
    EXPECT_EQ(disk.flush(), 0) << "who opens it anew";
    EXPECT_EQ(sync_file(file) != 0, answer.is_for_good);
  }
}

/// Blocks of 4 KiB for direct I/O, and somebody who waits after the first read of one.
class SlowBlocks final : public HostCalls {
 public:
  ssize_t read(int fd, const iovec* buffers, int count, off_t offset, int flags) override {
    const ssize_t result = HostCalls::read(fd, buffers, count, offset, flags);
    if (armed && !was_read.exchange(true)) {
      // Long enough for who does not wait for us; whoever does comes later.
      for (int i = 0; i < 50 && !others_are_done; ++i) ::usleep(10'000);
    }
    return result;
  }
  void describe(struct statx& answer) override {
#ifdef STATX_DIOALIGN
    answer.stx_mask |= STATX_DIOALIGN;
    answer.stx_dio_mem_align = 512;
    answer.stx_dio_offset_align = 4096;
#endif
  }
  std::atomic<bool> armed = false;
  std::atomic<bool> was_read = false;
  std::atomic<bool> others_are_done = false;
};

class BlocksInParts : public testing::TestWithParam<DiskOperation::Kind> {};

/// One queue writes a sector while another one zeroes or discards its neighbours in the block.
TEST_P(BlocksInParts, ZeroesBesideAWriteStayZeroes) {
  const TempFolder folder(false);
  const std::string path = folder / "disk";
  write_file(path, Bytes(1 << 20, 0xaa));
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
  if (!fd.valid()) GTEST_SKIP() << "no direct I/O in /tmp";
  SlowBlocks host;
  RawImage image(fd.get(), true, {.io_uring = false, .linux_aio = false});
  if (image.offset_alignment() != 4096) GTEST_SKIP() << "built without STATX_DIOALIGN";
  const auto run = [&](DiskOperation& operation) {
    const auto queue = image.make_queue(4);
    queue->start(operation);
    queue->submit();
    while (queue->next_completed() == nullptr) queue->wait();
  };
  alignas(4096) std::array<uint8_t, 512> data;
  data.fill(0x11);
  iovec buffer{data.data(), data.size()};
  DiskOperation write{.kind = DiskOperation::Kind::kWrite, .length = 512, .buffers = {&buffer, 1}};
  host.armed = true;
  std::thread writer([&] { run(write); });
  while (!host.was_read) std::this_thread::yield();
  DiskOperation range{.kind = GetParam(), .may_unmap = true, .offset = 512, .length = 7 * 512};
  run(range);
  host.others_are_done = true;
  writer.join();
  EXPECT_EQ(write.error, 0);
  EXPECT_EQ(range.error, 0);
  const Bytes content = read_file(path);
  EXPECT_EQ(content[0], 0x11);
  EXPECT_EQ(content[512], 0);
  EXPECT_EQ(content[4095], 0);
  EXPECT_EQ(content[4096], 0xaa);
}

INSTANTIATE_TEST_SUITE_P(Ranges, BlocksInParts,
                         testing::Values(DiskOperation::Kind::kWriteZeroes,
                                         DiskOperation::Kind::kDiscard));

}  // namespace
}  // namespace tsvmm::disk_test
