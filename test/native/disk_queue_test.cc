#include "disk/disk_queue.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <thread>

#include "core/io_uring.h"
#include "disk/raw_image.h"
#include "disk/sync_io.h"
#include "disk_test_support.h"

namespace tsvmm::disk_test {
namespace {

using Kind = DiskOperation::Kind;

constexpr size_t kImageSize = 1 << 20;
constexpr uint16_t kDepth = 8;

/// A buffer cut into pieces, and the operation on it.
struct Transfer {
  Transfer(Kind kind, uint64_t offset, const std::vector<size_t>& pieces, size_t misalign = 0) {
    size_t total = 0;
    for (const size_t piece : pieces) total += piece;
    storage.resize(total + 2 * 4096);
    const size_t pad = 4096 - reinterpret_cast<uintptr_t>(storage.data()) % 4096 + misalign;
    bytes = {storage.data() + pad, total};
    size_t at = 0;
    for (const size_t piece : pieces) {
      buffers.push_back({bytes.data() + at, piece});
      at += piece;
    }
    operation.kind = kind;
    operation.offset = offset;
    operation.length = total;
    operation.buffers = buffers;
  }

  std::vector<uint8_t> storage;
  std::span<uint8_t> bytes;
  std::vector<iovec> buffers;
  DiskOperation operation;
};

enum class Engine { kUring, kAio, kSync };

DiskEngines allowing(Engine engine) {
  return {.io_uring = engine == Engine::kUring, .linux_aio = engine == Engine::kAio};
}

std::string name_of(const testing::TestParamInfo<Engine>& info) {
  static const std::array<std::string, 3> names{"IoUring", "LinuxAio", "Synchronous"};
  return names.at(static_cast<size_t>(info.param));
}

constexpr std::string_view kInMemory = "plain system calls (nothing waits in memory)";

/// All engines do the same.
class DiskQueueTest : public testing::TestWithParam<Engine> {
 protected:
  void SetUp() override {
    if (GetParam() == Engine::kUring && !IoUring::create(1)) {
      GTEST_SKIP() << "this host refuses io_uring";
    }
    queue = make_disk_queue(image, kDepth);
  }
  /// Waits for `count` operations to end.
  std::vector<DiskOperation*> finish(size_t count) {
    std::vector<DiskOperation*> ended;
    queue->submit();
    EXPECT_FALSE(queue->needs_submit());
    for (;;) {
      while (DiskOperation* operation = queue->next_completed()) ended.push_back(operation);
      if (ended.size() >= count) return ended;
      queue->wait();
    }
  }
  int run(Transfer& transfer) {
    queue->start(transfer.operation);
    const auto ended = finish(1);
    EXPECT_EQ(ended, std::vector<DiskOperation*>{&transfer.operation});
    return transfer.operation.error;
  }
  bool same(std::span<const uint8_t> bytes, uint64_t offset) const {
    return std::ranges::equal(bytes, std::span(file.content).subspan(offset, bytes.size()));
  }

  TempImage file{kImageSize};
  RawImage image{file.fd(), false, allowing(GetParam())};
  std::unique_ptr<DiskQueue> queue;
};

TEST_P(DiskQueueTest, Reads) {
  Transfer transfer(Kind::kRead, 4096, {512, 1024, 8192});
  EXPECT_EQ(run(transfer), 0);
  EXPECT_TRUE(same(transfer.bytes, 4096));
}

TEST_P(DiskQueueTest, Writes) {
  for (const bool durable : {false, true}) {
    Transfer transfer(Kind::kWrite, 512, {512, 4096});
    std::ranges::fill(transfer.bytes, durable ? 0x11 : 0x22);
    transfer.operation.durable = durable;
    EXPECT_EQ(run(transfer), 0);
    EXPECT_EQ(file.read(512, 4608), std::vector<uint8_t>(4608, durable ? 0x11 : 0x22));
    EXPECT_TRUE(same(file.read(0, 512), 0));
    EXPECT_TRUE(same(file.read(512 + 4608, 512), 512 + 4608));
  }
}

TEST_P(DiskQueueTest, Flushes) {
  Transfer transfer(Kind::kFlush, 0, {});
  EXPECT_EQ(run(transfer), 0);
}

TEST_P(DiskQueueTest, MoreBuffersThanOneCallTakes) {
  Transfer transfer(Kind::kRead, 0, std::vector<size_t>(3000, 16));
  EXPECT_EQ(run(transfer), 0);
  EXPECT_TRUE(same(transfer.bytes, 0));
}

TEST_P(DiskQueueTest, ManyAtOnce) {
  std::vector<std::unique_ptr<Transfer>> transfers;
  for (size_t i = 0; i < kDepth; ++i) {
    transfers.push_back(
        std::make_unique<Transfer>(Kind::kRead, i * 65536, std::vector<size_t>{4096}));
    queue->start(transfers.back()->operation);
  }
  EXPECT_EQ(finish(kDepth).size(), size_t{kDepth});
  for (size_t i = 0; i < kDepth; ++i) EXPECT_TRUE(same(transfers[i]->bytes, i * 65536));
}

TEST_P(DiskQueueTest, TruncatedFileIsAnError) {
  ASSERT_EQ(::ftruncate(file.fd(), 8192), 0);
  Transfer beyond(Kind::kRead, 65536, {512});
  EXPECT_EQ(run(beyond), EIO);
  Transfer across(Kind::kRead, 4096, {4096, 4096});
  EXPECT_EQ(run(across), EIO);
}

TEST_P(DiskQueueTest, ErrorsComeBack) {
  const std::string path = "/proc/self/fd/" + std::to_string(file.fd());
  const UniqueFd readable(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const RawImage read_only(readable.get(), false, allowing(GetParam()));
  queue = make_disk_queue(read_only, kDepth);
  Transfer transfer(Kind::kWrite, 0, {512});
  EXPECT_EQ(run(transfer), EBADF);
}

TEST_P(DiskQueueTest, CompletionsCanBePolledFor) {
  if (GetParam() == Engine::kUring && image.reads_without_waiting()) {
    EXPECT_GE(queue->completion_fd(), 0);
  } else {
    EXPECT_EQ(queue->completion_fd(), -1);
  }
}

TEST_P(DiskQueueTest, SaysHowItWorks) {
  if (image.is_in_memory()) {
    EXPECT_EQ(queue->engine(), kInMemory);
  } else if (GetParam() == Engine::kUring && !image.reads_without_waiting()) {
    EXPECT_EQ(queue->engine(),
              "plain system calls (the file system cannot tell which reads would wait)");
  } else if (GetParam() == Engine::kUring) {
    EXPECT_EQ(queue->engine(), "io_uring");
  } else {
    EXPECT_EQ(queue->engine(), "plain system calls (io_uring is disabled)");
  }
}

TEST_P(DiskQueueTest, DiscardsMakeHoles) {
  Transfer discard(Kind::kDiscard, 65536, {});
  discard.operation.length = 65536;
  EXPECT_EQ(run(discard), 0);
  EXPECT_EQ(file.next_hole(0), 65536);
  EXPECT_EQ(file.next_data(65536), 131072);
  EXPECT_EQ(file.size(), static_cast<off_t>(kImageSize));
}

TEST_P(DiskQueueTest, DiscardsOfPartsOfBlocks) {
  Transfer discard(Kind::kDiscard, 512, {});
  discard.operation.length = 10240;
  EXPECT_EQ(run(discard), 0);
  EXPECT_TRUE(same(file.read(0, 512), 0));
  EXPECT_TRUE(same(file.read(10752, 512), 10752));
}

TEST_P(DiskQueueTest, WritesZeroes) {
  for (const bool may_unmap : {false, true}) {
    for (const bool durable : {false, true}) {
      file.restore();
      Transfer zeroes(Kind::kWriteZeroes, 512 * 3, {});
      zeroes.operation.length = 512 * 21;
      zeroes.operation.may_unmap = may_unmap;
      zeroes.operation.durable = durable;
      EXPECT_EQ(run(zeroes), 0);
      EXPECT_EQ(file.read(512 * 3, 512 * 21), std::vector<uint8_t>(512 * 21));
      EXPECT_TRUE(same(file.read(0, 512 * 3), 0));
      EXPECT_TRUE(same(file.read(512 * 24, 4096), 512 * 24));
      EXPECT_EQ(file.size(), static_cast<off_t>(kImageSize));
    }
  }
}

TEST_P(DiskQueueTest, WritesZeroesWhereTheFileSystemHasNoWayToThem) {
  // A memory file punches holes and nothing else; sealed against writing it does not even that.
  const UniqueFd memory(::memfd_create("disk", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(memory.get(), 65536), 0);
  ASSERT_EQ(::pwrite(memory.get(), file.content.data(), 65536, 0), 65536);
  const RawImage shared(memory.get(), false, allowing(GetParam()));
  queue = make_disk_queue(shared, kDepth);
  Transfer zeroes(Kind::kWriteZeroes, 4096, {});
  zeroes.operation.length = 8192;
  EXPECT_EQ(run(zeroes), 0);
  std::vector<uint8_t> bytes(8192, 1);
  ASSERT_EQ(::pread(memory.get(), bytes.data(), bytes.size(), 4096), 8192);
  EXPECT_EQ(bytes, std::vector<uint8_t>(8192));

  ASSERT_EQ(::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_WRITE), 0);
  Transfer refused(Kind::kWriteZeroes, 4096, {});
  refused.operation.length = 8192;
  EXPECT_EQ(run(refused), EPERM);
}

TEST_P(DiskQueueTest, FilesInMemoryNeedNoEngine) {
  const UniqueFd memory(::memfd_create("disk", MFD_CLOEXEC));
  ASSERT_EQ(::pwrite(memory.get(), file.content.data(), kImageSize, 0), ssize_t{kImageSize});
  for (const bool direct : {false, true}) {
    const RawImage in_memory(memory.get(), direct, allowing(GetParam()));
    queue = make_disk_queue(in_memory, kDepth);
    EXPECT_EQ(queue->engine(), kInMemory);
    EXPECT_EQ(queue->completion_fd(), -1);
    Transfer transfer(Kind::kRead, 4096, {4096});
    EXPECT_EQ(run(transfer), 0);
    EXPECT_TRUE(same(transfer.bytes, 4096));
  }
}

INSTANTIATE_TEST_SUITE_P(Engines, DiskQueueTest, testing::Values(Engine::kUring, Engine::kSync),
                         name_of);

/// Direct I/O as far as the directory's file system has it.
class DirectDiskTest : public DiskQueueTest {
 protected:
  void SetUp() override {
    const std::string path = "/proc/self/fd/" + std::to_string(odd.fd());
    direct_fd.reset(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_DIRECT));
    if (!direct_fd.valid()) GTEST_SKIP() << "no direct I/O on this file system";
    direct = std::make_unique<RawImage>(direct_fd.get(), true, allowing(GetParam()));
    queue = make_disk_queue(*direct, kDepth);
  }
  bool same_odd(std::span<const uint8_t> bytes, uint64_t offset) const {
    return std::ranges::equal(bytes, std::span(odd.content).subspan(offset, bytes.size()));
  }

  static constexpr size_t kOddSize = (1 << 20) + 512;
  TempImage odd{kOddSize, "/var/tmp"};
  UniqueFd direct_fd;
  std::unique_ptr<RawImage> direct;
};

TEST_P(DirectDiskTest, AlignedTransfers) {
  Transfer transfer(Kind::kRead, 8192, {4096, 8192});
  EXPECT_EQ(run(transfer), 0);
  EXPECT_TRUE(same_odd(transfer.bytes, 8192));
}

TEST_P(DirectDiskTest, MisalignedMemory) {
  Transfer read(Kind::kRead, 8192, {1000, 3096, 524288}, 3);
  EXPECT_EQ(run(read), 0);
  EXPECT_TRUE(same_odd(read.bytes, 8192));
  Transfer write(Kind::kWrite, 4096, {100, 3996}, 1);
  std::ranges::fill(write.bytes, 0x77);
  EXPECT_EQ(run(write), 0);
  EXPECT_EQ(odd.read(4096, 4096), std::vector<uint8_t>(4096, 0x77));
}

TEST_P(DirectDiskTest, PartsOfBlocks) {
  Transfer write(Kind::kWrite, 512 * 3, {512 * 3}, 1);
  std::ranges::fill(write.bytes, 0x55);
  EXPECT_EQ(run(write), 0);
  EXPECT_EQ(odd.read(512 * 3, 512 * 3), std::vector<uint8_t>(512 * 3, 0x55));
  EXPECT_TRUE(same_odd(odd.read(0, 512 * 3), 0));
  EXPECT_TRUE(same_odd(odd.read(512 * 6, 4096), 512 * 6));
}

TEST_P(DirectDiskTest, TheLastPartOfAFile) {
  Transfer read(Kind::kRead, kOddSize - 1024, {1024});
  EXPECT_EQ(run(read), 0);
  EXPECT_TRUE(same_odd(read.bytes, kOddSize - 1024));
  Transfer write(Kind::kWrite, kOddSize - 512, {512});
  std::ranges::fill(write.bytes, 0x66);
  EXPECT_EQ(run(write), 0);
  EXPECT_EQ(odd.read(kOddSize - 512, 512), std::vector<uint8_t>(512, 0x66));
  EXPECT_EQ(odd.size(), static_cast<off_t>(kOddSize)) << "the file must not grow";
}

TEST_P(DirectDiskTest, SaysHowItWorks) {
  if (direct->is_in_memory()) {
    EXPECT_EQ(queue->engine(), kInMemory);
    return;
  }
  switch (GetParam()) {
    case Engine::kUring:
      EXPECT_EQ(queue->engine(), "io_uring");
      break;
    case Engine::kAio:
      EXPECT_EQ(queue->engine(), "Linux AIO (io_uring is disabled)");
      break;
    case Engine::kSync:
      EXPECT_EQ(queue->engine(),
                "plain system calls (io_uring is disabled, Linux AIO is disabled)");
      break;
  }
}

TEST_P(DirectDiskTest, ManyAtOnce) {
  std::vector<std::unique_ptr<Transfer>> transfers;
  for (size_t i = 0; i < kDepth; ++i) {
    transfers.push_back(
        std::make_unique<Transfer>(Kind::kRead, i * 65536, std::vector<size_t>{4096, 4096}));
    queue->start(transfers.back()->operation);
  }
  EXPECT_EQ(finish(kDepth).size(), size_t{kDepth});
  for (size_t i = 0; i < kDepth; ++i) EXPECT_TRUE(same_odd(transfers[i]->bytes, i * 65536));
}

/// From now on, in this thread.
void refuse_system_call(uint32_t number, uint32_t error) {
  std::array<sock_filter, 4> program{
      sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const sock_fprog filter{.len = program.size(), .filter = program.data()};
  ASSERT_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  ASSERT_EQ(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
}

/// For lack of memory, or as a sandbox forbids it that was put around us when there was a queue.
TEST_P(DirectDiskTest, WhatTheKernelDoesNotTakeIsDoneAllTheSame) {
  for (const uint32_t error : {EAGAIN, EPERM}) {
    std::vector<std::unique_ptr<Transfer>> transfers;
    for (size_t i = 0; i < kDepth; ++i) {
      transfers.push_back(
          std::make_unique<Transfer>(Kind::kRead, i * 65536, std::vector<size_t>{4096, 4096}));
    }
    size_t ended = 0;
    std::thread([&] {
      refuse_system_call(SYS_io_uring_enter, error);
      refuse_system_call(SYS_io_submit, error);
      for (const auto& transfer : transfers) queue->start(transfer->operation);
      for (int tries = 0; tries < 100; ++tries) {
        queue->submit();
        while (queue->next_completed() != nullptr) ++ended;
      }
    }).join();
    ASSERT_EQ(ended, transfers.size());
    EXPECT_FALSE(queue->needs_submit());
    for (size_t i = 0; i < kDepth; ++i) {
      EXPECT_EQ(transfers[i]->operation.error, 0);
      EXPECT_TRUE(same_odd(transfers[i]->bytes, i * 65536));
    }
  }
  // Somebody else's thread has no such policy.
  Transfer transfer(Kind::kRead, 8192, {4096, 8192});
  EXPECT_EQ(run(transfer), 0);
  EXPECT_TRUE(same_odd(transfer.bytes, 8192));
}

/// The thread may sleep meanwhile, and nothing is left behind.
TEST_P(DirectDiskTest, WhatTheKernelRefusesBesideOthersWaitsForTheEndOfOne) {
  if (queue->completion_fd() < 0) GTEST_SKIP() << "nothing is on the way then";
  Transfer taken(Kind::kRead, 0, {4096});
  Transfer refused(Kind::kRead, 65536, {4096});
  std::thread([&] {
    queue->start(taken.operation);
    queue->submit();
    refuse_system_call(SYS_io_uring_enter, EAGAIN);
    refuse_system_call(SYS_io_submit, EAGAIN);
    queue->start(refused.operation);
    EXPECT_TRUE(queue->needs_submit()) << "it has not been handed on yet";
    queue->submit();
    EXPECT_FALSE(queue->needs_submit());
    pollfd end{.fd = queue->completion_fd(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(::poll(&end, 1, 60'000), 1);
    EXPECT_EQ(queue->next_completed(), &taken.operation);
    EXPECT_EQ(queue->next_completed(), nullptr);
    EXPECT_TRUE(queue->needs_submit());
    queue->submit();
    EXPECT_EQ(queue->next_completed(), &refused.operation);
    EXPECT_FALSE(queue->needs_submit());
  }).join();
  EXPECT_EQ(refused.operation.error, 0);
  EXPECT_TRUE(same_odd(refused.bytes, 65536));
}

TEST_P(DirectDiskTest, TruncatedFileIsAnError) {
  ASSERT_EQ(::ftruncate(odd.fd(), 8192 + 512), 0);
  Transfer beyond(Kind::kRead, 65536, {4096});
  EXPECT_EQ(run(beyond), EIO);
  Transfer across(Kind::kRead, 8192, {512, 512}, 1);
  EXPECT_EQ(run(across), EIO);
}

TEST_P(DirectDiskTest, WritesZeroesInPartsOfBlocks) {
  Transfer zeroes(Kind::kWriteZeroes, 512, {});
  zeroes.operation.length = 512 * 11;
  EXPECT_EQ(run(zeroes), 0);
  EXPECT_EQ(odd.read(512, 512 * 11), std::vector<uint8_t>(512 * 11));
  EXPECT_TRUE(same_odd(odd.read(0, 512), 0));
  EXPECT_TRUE(same_odd(odd.read(512 * 12, 4096), 512 * 12));
}

INSTANTIATE_TEST_SUITE_P(Engines, DirectDiskTest,
                         testing::Values(Engine::kUring, Engine::kAio, Engine::kSync), name_of);

/// Alignment rules that this host's file systems may not have: the bounce path on an ordinary file.
TEST(SyncIo, AdvanceConsumesBuffers) {
  Transfer transfer(Kind::kRead, 100, {10, 20, 30});
  advance(transfer.operation, 15);
  EXPECT_EQ(transfer.operation.offset, 115u);
  EXPECT_EQ(transfer.operation.length, 45u);
  ASSERT_EQ(transfer.operation.buffers.size(), 2u);
  EXPECT_EQ(transfer.operation.buffers[0].iov_len, 15u);
  advance(transfer.operation, 45);
  EXPECT_TRUE(transfer.operation.buffers.empty());
}

TEST(RawImage, RefusesWhatIsNoDisk) {
  const UniqueFd directory(::open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  EXPECT_THROW(RawImage(directory.get(), false), Error);
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  EXPECT_THROW(RawImage(null.get(), false), Error);
  EXPECT_THROW(RawImage(-1, false), Error);
}

TEST(RawImage, ReportsItsSize) {
  const TempImage file(12345);
  const RawImage image(file.fd(), false);
  EXPECT_EQ(image.size(), 12345u);
  EXPECT_EQ(image.offset_alignment(), 1u);
  EXPECT_EQ(image.limits().logical_block_size, 512u);
}

}  // namespace
}  // namespace tsvmm::disk_test
