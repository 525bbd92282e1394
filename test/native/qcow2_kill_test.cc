// A process that uses an image with two threads is killed, again and again.
#include <sys/mman.h>
#include <sys/wait.h>

#include <array>
#include <atomic>
#include <csignal>
#include <thread>

#include "qcow2_test_support.h"

namespace tsvmm::qcow2_test {
namespace {

using Kind = DiskOperation::Kind;
constexpr size_t kSector = 512;
constexpr size_t kSectors = 4096;
constexpr size_t kThreads = 2;
constexpr int kRounds = 6;

/// What a sector may hold, in memory that outlives the process: each write has a higher number.
struct Sector {
  std::atomic<uint64_t> started;
  std::atomic<uint64_t> stable;
  std::atomic<bool> may_be_zero;
};

struct Shared {
  std::atomic<uint64_t> flushes;
  std::array<Sector, kSectors> sectors;
};

struct Options {
  const char* name;
  const char* create;
};

class Qcow2Kill : public testing::TestWithParam<Options> {
 protected:
  void SetUp() override {
    REQUIRE_QEMU_IMG();
    void* memory =
        ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    shared = static_cast<Shared*>(memory);
    for (size_t i = 0; i < kSectors; ++i) shared->sectors[i].may_be_zero = true;
    must("qemu-img create -q -f qcow2 -o " + std::string(GetParam().create) + " " + path + " " +
         std::to_string(kSectors * kSector));
  }
  void TearDown() override {
    if (shared != nullptr) ::munmap(shared, sizeof(Shared));
  }

  [[noreturn]] void use(uint64_t seed);
  void use_half(DiskImage& image, size_t half, uint64_t seed);
  void expect_sound();

  TempFolder folder;
  const std::string path = folder / "disk.qcow2";
  Shared* shared = nullptr;
};

void run(DiskQueue& queue, DiskOperation& operation) {
  queue.start(operation);
  for (;;) {
    queue.submit();
    if (queue.next_completed() == &operation) break;
    queue.wait();
  }
  if (operation.error != 0) ::_exit(1);
}

void Qcow2Kill::use_half(DiskImage& image, size_t half, uint64_t seed) {
  std::mt19937_64 random(seed + half);
  const auto queue = image.make_queue(4);
  const size_t base = half * (kSectors / kThreads);
  std::array<uint64_t, kSectors / kThreads> done{};
  Bytes bytes(64 * kSector);
  for (uint64_t number = seed << 32 | half << 31 | 1;; ++number) {
    DiskOperation operation;
    const uint64_t what = random() % 16;
    if (what == 0) {
      operation.kind = Kind::kFlush;
      run(*queue, operation);
      for (size_t i = 0; i < done.size(); ++i) {
        if (done[i] == 0) continue;
        shared->sectors[base + i].stable = done[i];
        shared->sectors[base + i].may_be_zero = false;
        done[i] = 0;
      }
      ++shared->flushes;
      continue;
    }
    const size_t first = random() % done.size();
    const size_t count = std::min<size_t>(1 + random() % 64, done.size() - first);
    operation.offset = (base + first) * kSector;
    operation.length = count * kSector;
    if (what <= 3) {
      operation.kind = what == 1 ? Kind::kWriteZeroes : Kind::kDiscard;
      operation.may_unmap = random() % 2 == 0;
      for (size_t i = first; i < first + count; ++i) {
        shared->sectors[base + i].may_be_zero = true;
        done[i] = 0;
      }
      run(*queue, operation);
      continue;
    }
    operation.kind = Kind::kWrite;
    for (size_t i = 0; i < count * kSector; i += 8) std::memcpy(&bytes[i], &number, 8);
    iovec buffer{bytes.data(), operation.length};
    operation.buffers = {&buffer, 1};
    for (size_t i = first; i < first + count; ++i) shared->sectors[base + i].started = number;
    run(*queue, operation);
    for (size_t i = first; i < first + count; ++i) done[i] = number;
  }
}

void Qcow2Kill::use(uint64_t seed) {
  std::vector<ImageLayer> layers;
  layers.push_back({UniqueFd(::open(path.c_str(), O_RDWR | O_CLOEXEC)), ImageFormat::kQcow2});
  const auto image = open_image(std::move(layers), {});
  std::thread other([&] { use_half(*image, 1, seed); });
  use_half(*image, 0, seed);
  ::_exit(2);
}

void Qcow2Kill::expect_sound() {
  const bool lazy = std::string(GetParam().create).find("lazy") != std::string::npos;
  std::string output;
  const Check found = check(path, &output);
  if (!lazy) ASSERT_NE(found, Check::kCorrupt) << output;
  Disk disk = Disk::open(path);
  const Bytes content = disk.content();
  for (size_t i = 0; i < kSectors; ++i) {
    uint64_t number = 0;
    std::memcpy(&number, &content[i * kSector], 8);
    if (number == 0) {
      ASSERT_TRUE(shared->sectors[i].may_be_zero) << "sector " << i;
    } else {
      ASSERT_GE(number, shared->sectors[i].stable.load()) << "sector " << i;
      ASSERT_LE(number, shared->sectors[i].started.load()) << "sector " << i;
    }
  }
}

TEST_P(Qcow2Kill, LosesNothingThatWasFlushed) {
  for (uint64_t round = 1; round <= kRounds; ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) use(round);
    // At some moment after it has got going.
    const uint64_t flushes = shared->flushes + 2 + round * 7 % 5;
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::minutes(2);
    while (shared->flushes < flushes && std::chrono::steady_clock::now() < give_up) {
      std::this_thread::sleep_for(std::chrono::microseconds(100 + round * 997 % 1000));
    }
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "it ended by itself, with " << WEXITSTATUS(status);
    expect_sound();
    if (HasFatalFailure()) return;
    ASSERT_GE(shared->flushes, flushes) << "it did not get going";
  }
  (void)shell("qemu-img check -r all " + path);
  expect_clean(path);
}

INSTANTIATE_TEST_SUITE_P(Images, Qcow2Kill,
                         testing::Values(Options{"Default", "cluster_size=64k"},
                                         Options{"Small", "cluster_size=512"},
                                         Options{"Version2", "compat=0.10,cluster_size=4k"},
                                         Options{"Subclusters", "cluster_size=16k,extended_l2=on"},
                                         Options{"Lazy", "cluster_size=4k,lazy_refcounts=on"}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace tsvmm::qcow2_test
