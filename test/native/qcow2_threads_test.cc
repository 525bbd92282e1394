// Several queues at once.
#include <thread>

#include "disk/qcow2/image.h"
#include "qcow2_memory_container.h"
#include "qcow2_test_support.h"

namespace tsvmm::qcow2_test {
namespace {

using Kind = DiskOperation::Kind;
constexpr size_t kSize = 2 << 20;
constexpr size_t kThreads = 3;

/// Uses every third cluster of 4 KiB, so that the threads meet in every table.
void use(DiskImage& image, size_t which, Bytes& model, int rounds) {
  constexpr size_t kPiece = 4096;
  std::mt19937_64 random(which);
  const auto queue = image.make_queue(2);
  for (int i = 0; i < rounds; ++i) {
    const size_t piece = random() % (kSize / kPiece / kThreads);
    const size_t offset = (piece * kThreads + which) * kPiece;
    DiskOperation operation;
    Bytes bytes(kPiece);
    iovec buffer{bytes.data(), bytes.size()};
    const uint64_t what = random() % 12;
    operation.kind = what < 6    ? Kind::kWrite
                     : what < 8  ? Kind::kRead
                     : what < 10 ? Kind::kWriteZeroes
                     : what < 11 ? Kind::kDiscard
                                 : Kind::kFlush;
    operation.may_unmap = i % 2 == 0;
    if (operation.kind != Kind::kFlush) {
      operation.offset = offset;
      operation.length = kPiece;
    }
    if (operation.kind == Kind::kWrite) bytes = random_bytes(kPiece, random());
    buffer.iov_base = bytes.data();
    if (what < 8) operation.buffers = {&buffer, 1};
    queue->start(operation);
    for (;;) {
      queue->submit();
      if (queue->next_completed() == &operation) break;
      queue->wait();
    }
    ASSERT_EQ(operation.error, 0);
    uint8_t* expected = &model[offset];
    if (what < 6) std::memcpy(expected, bytes.data(), kPiece);
    if (what == 6 || what == 7) ASSERT_EQ(std::memcmp(expected, bytes.data(), kPiece), 0);
    if (what >= 8 && what < 11) std::memset(expected, 0, kPiece);
  }
}

TEST(Qcow2Threads, ShareAnImage) {
  REQUIRE_QEMU_IMG();
  for (const char* options : {"cluster_size=4k", "cluster_size=64k", "extended_l2=on"}) {
    const TempFolder folder;
    const std::string path = folder / "disk.qcow2";
    must("qemu-img create -q -f qcow2 -o " + std::string(options) + " " + path + " " +
         std::to_string(kSize));
    Bytes model(kSize);
    std::vector<ImageLayer> layers;
    layers.push_back({UniqueFd(::open(path.c_str(), O_RDWR | O_CLOEXEC)), ImageFormat::kQcow2});
    auto image = open_image(std::move(layers), {});
    const bool discards = image->limits().discard_granularity <= 4096;
    EXPECT_EQ(discards, std::string(options) != "cluster_size=64k");
    std::vector<std::thread> threads;
    for (size_t which = 0; which < kThreads; ++which) {
      threads.emplace_back([&, which] { use(*image, which, model, 400); });
    }
    for (std::thread& thread : threads) thread.join();
    const Bytes content = Disk(std::move(image)).content();
    if (discards) EXPECT_TRUE(same(content, model)) << options;
    expect_clean(path);
    EXPECT_TRUE(same(Disk::open(path).content(), content)) << options;
  }
}

TEST(Qcow2Threads, AClusterIsNotReusedWhileItIsWrittenTo) {
  REQUIRE_QEMU_IMG();
  const TempFolder folder;
  const std::string path = folder / "disk.qcow2";
  must("qemu-img create -q -f qcow2 -o cluster_size=4k " + path + " 1M");
  qcow2::Image image(std::make_unique<MemoryContainer>(read_file(path), 1), nullptr, {});
  const auto slow = image.make_queue(4);
  const auto quick = image.make_queue(4);
  const auto finish = [](DiskQueue& queue, DiskOperation& operation) {
    while (queue.next_completed() != &operation) queue.wait();
    EXPECT_EQ(operation.error, 0);
  };
  const auto write = [](DiskOperation& operation, iovec& buffer, uint64_t offset) {
    operation.kind = Kind::kWrite;
    operation.offset = offset;
    operation.length = buffer.iov_len;
    operation.buffers = {&buffer, 1};
  };
  Bytes first(4096, 1);
  Bytes second(4096, 2);
  iovec buffer{first.data(), first.size()};
  DiskOperation allocating;
  write(allocating, buffer, 0);
  quick->start(allocating);
  finish(*quick, allocating);

  iovec slow_buffer{first.data(), first.size()};
  DiskOperation late;
  write(late, slow_buffer, 0);
  slow->start(late);
  DiskOperation discard;
  discard.kind = Kind::kDiscard;
  discard.length = 4096;
  quick->start(discard);
  finish(*quick, discard);
  std::array<DiskOperation, 8> others;
  std::array<iovec, 8> buffers;
  for (size_t i = 0; i < others.size(); ++i) {
    DiskOperation flush;
    flush.kind = Kind::kFlush;
    quick->start(flush);
    finish(*quick, flush);
    buffers[i] = {second.data(), second.size()};
    write(others[i], buffers[i], (i + 1) * 4096);
    quick->start(others[i]);
    finish(*quick, others[i]);
  }
  finish(*slow, late);
  for (size_t i = 0; i < others.size(); ++i) {
    Bytes bytes(4096);
    iovec read_buffer{bytes.data(), bytes.size()};
    DiskOperation read;
    read.offset = (i + 1) * 4096;
    read.length = bytes.size();
    read.buffers = {&read_buffer, 1};
    quick->start(read);
    finish(*quick, read);
    EXPECT_EQ(bytes, second) << "cluster " << i + 1;
  }
}

}  // namespace
}  // namespace tsvmm::qcow2_test
