#include <fcntl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <thread>

#include "core/error.h"
#include "host_calls.h"
#include "image_test_support.h"
#include "memory/lost_pages.h"
#include "virtio/pmem.h"
#include "virtio_mock_driver.h"

namespace tsvmm::virtio_test {
namespace {

constexpr uint64_t kSize = 2 << 20;
constexpr GuestAddress kData = 0x100000;
constexpr GuestAddress kBar0 = PciBench::kWindow64;
constexpr GuestAddress kBar2 = PciBench::kWindow64 + 0x800000;

UniqueFd make_file(uint64_t size) {
  UniqueFd file(::memfd_create("pmem", MFD_CLOEXEC));
  EXPECT_EQ(::ftruncate(file.get(), static_cast<off_t>(size)), 0);
  return file;
}

/// Hears of memory as KVM does.
class RecordingListener : public MemoryListener {
 public:
  void region_added(const MemoryRegion& region) override {
    if (refuse && !region.ram) throw Error("EINVAL", "no more slots");
    seen.push_back((region.ram ? "ram " : "device ") + std::to_string(region.address));
  }
  void region_removed(const MemoryRegion& region) override {
    seen.push_back("gone " + std::to_string(region.address));
  }
  std::vector<std::string> seen;
  bool refuse = false;
};

TEST(DeviceMemory, WhoFoundItBeforeItWasRemovedHarmsNobody) {
  GuestMemory memory({range(0, 1 << 20)}, {});
  RecordingListener listener;
  memory.add_listener(listener);
  const UniqueFd file = make_file(kSize);
  auto* host = static_cast<uint8_t*>(
      ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0));
  const std::shared_ptr<DeviceMemory> window = memory.add_device_memory(host, kSize, file.get());
  window->show(0x40000000);
  const auto held = memory.slice(0x40000000, kSize).value();
  held[0] = 1;
  memory.remove_device_memory(*window);
  EXPECT_EQ(listener.seen.back(), "gone 1073741824");
  EXPECT_FALSE(memory.slice(0x40000000, 1));
  held[0] = 2;
  held[kSize - 1] = 3;
  EXPECT_EQ(held[0], 2) << "the address is somebody's until the end";
  std::array<uint8_t, 1> kept{};
  ASSERT_EQ(::pread(file.get(), kept.data(), 1, 0), 1);
  EXPECT_EQ(kept[0], 1);
  ASSERT_EQ(::pread(file.get(), kept.data(), 1, kSize - 1), 1);
  EXPECT_EQ(kept[0], 0);
  EXPECT_THROW(window->show(0x50000000), Error);
  EXPECT_FALSE(memory.slice(0x50000000, 1));
  memory.remove_listener(listener);
}

TEST(DeviceMemory, ComeAndGoWhileOthersLookForThem) {
  GuestMemory memory({range(0, 1 << 20)}, {});
  std::atomic<bool> done = false;
  std::thread device([&] {
    while (!done) {
      if (const auto bytes = memory.slice(0x40000000, 4096)) {
        std::atomic_ref<uint8_t>((*bytes)[0]).fetch_add(1);
      }
    }
  });
  for (int round = 0; round < 200; ++round) {
    auto* host = static_cast<uint8_t*>(
        ::mmap(nullptr, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    const auto window = memory.add_device_memory(host, 1 << 16, -1);
    window->show(0x40000000);
    memory.remove_device_memory(*window);
  }
  done = true;
  device.join();
}

TEST(DeviceMemory, IsMemoryWhereItIsShown) {
  GuestMemory memory({range(0, 1 << 20)}, {});
  RecordingListener listener;
  memory.add_listener(listener);
  std::vector<uint8_t> bytes(8192, 7);
  DeviceMemory& window = *memory.add_device_memory(bytes.data(), bytes.size(), -1);
  EXPECT_FALSE(memory.slice(0x40000000, 1));
  EXPECT_FALSE(memory.slice(~GuestAddress{0}, 1));
  window.show(0x40000000);
  EXPECT_EQ(memory.read<uint8_t>(0x40000000), 7);
  ASSERT_TRUE(memory.write<uint32_t>(0x40001ffc, 5));
  EXPECT_EQ(bytes[8188], 5);
  EXPECT_FALSE(memory.slice(0x40001ffd, 4));
  EXPECT_FALSE(memory.slice(0x40002000, 0));
  EXPECT_FALSE(memory.slice(0x40000010, UINT64_MAX));
  EXPECT_FALSE(memory.slice(0x3fffffff, 2));
  window.show(0x50000000);
  EXPECT_FALSE(memory.slice(0x40000000, 1));
  EXPECT_TRUE(memory.slice(0x50000000, 8192));
  window.hide();
  window.hide();
  EXPECT_FALSE(memory.slice(0x50000000, 1));
  EXPECT_EQ(listener.seen,
            (std::vector<std::string>{"ram 0", "device 1073741824", "gone 1073741824",
                                      "device 1342177280", "gone 1342177280"}));
  EXPECT_EQ(memory.regions().size(), 1U) << "RAM only";
  EXPECT_EQ(memory.discard(bytes.data(), bytes.size()), 0U) << "not RAM, not given back";
  memory.remove_listener(listener);
}

TEST(DeviceMemory, StaysHiddenIfItCannotBeMapped) {
  GuestMemory memory({range(0, 1 << 20)}, {});
  RecordingListener listener;
  memory.add_listener(listener);
  std::vector<uint8_t> bytes(4096);
  DeviceMemory& window = *memory.add_device_memory(bytes.data(), bytes.size(), -1);
  listener.refuse = true;
  EXPECT_THROW(window.show(0x40000000), Error);
  EXPECT_FALSE(memory.slice(0x40000000, 1));
  memory.remove_listener(listener);
}

uint64_t counter(const VirtioPmem& device, std::string_view name) {
  for (const Counter& counter : device.counters()) {
    if (name == counter.name) return counter.value;
  }
  ADD_FAILURE() << name;
  return 0;
}

class PmemTest : public testing::Test {
 protected:
  PmemTest() { bench.memory.add_listener(listener); }
  ~PmemTest() override { bench.memory.remove_listener(listener); }

  /// A device with a driver that has set its queue up.
  std::shared_ptr<VirtioPmem> add(uint64_t size = kSize, bool discard_writes = false) {
    file = make_file(size);
    auto device = std::make_shared<VirtioPmem>(
        UniqueFd::duplicate(file.get()), bench.memory,
        VirtioPmem::Options{.id = "pmem", .size = size, .discard_writes = discard_writes});
    auto function = std::make_shared<VirtioPciFunction>(
        VirtioPciFunction::Options{
            .id = "pmem", .bar0 = kBar0, .bar0_is_64bit = true, .bar2 = kBar2},
        device, bench.memory, bench.fabric, bench.events.report());
    bench.root.add(1, function);
    driver.negotiate(kAllRingFeatures);
    driver.set_up(0, queue.config());
    driver.start();
    return device;
  }
  uint32_t request(const std::vector<DriverQueue::Buffer>& buffers) {
    const uint16_t before = queue.used_index();
    queue.add(buffers);
    driver.kick(0);
    EXPECT_TRUE(eventually([&] { return queue.used_index() != before; }));
    return queue.used_length(before);
  }
  uint8_t file_byte(uint64_t offset) const {
    uint8_t byte = 0;
    EXPECT_EQ(::pread(file.get(), &byte, 1, static_cast<off_t>(offset)), 1);
    return byte;
  }
  uint64_t config_start() { return driver.read<uint64_t>(0x4000); }

  PciBench bench;
  RecordingListener listener;
  PciDriver driver{bench, kBar0};
  DriverQueue queue{bench.memory, 0x1000, 8};
  UniqueFd file;
};

TEST_F(PmemTest, ItsFileIsMemoryOfTheGuest) {
  add();
  EXPECT_EQ(config_start(), kBar2);
  EXPECT_EQ(driver.read<uint64_t>(0x4008), kSize);
  ASSERT_TRUE(bench.memory.write<uint8_t>(kBar2 + kSize - 1, 0x42));
  EXPECT_EQ(file_byte(kSize - 1), 0x42);
  EXPECT_EQ(listener.seen.back(), "device " + std::to_string(kBar2));
}

TEST_F(PmemTest, DiscardedWritesDoNotReachTheFile) {
  const auto device = add(kSize, true);
  ASSERT_TRUE(bench.memory.write<uint8_t>(kBar2, 0x42));
  EXPECT_EQ(bench.memory.read<uint8_t>(kBar2), 0x42);
  EXPECT_EQ(file_byte(0), 0);
  ASSERT_TRUE(bench.memory.write<uint32_t>(kData, 0));
  EXPECT_EQ(request({{kData, 4}, {kData + 16, 4, kWrite}}), 4U);
  EXPECT_EQ(bench.memory.read<uint32_t>(kData + 16), 0U);
}

TEST_F(PmemTest, FollowsItsBar) {
  add();
  // The guest finds the size, with decoding off.
  bench.config_write<uint16_t>(1, 4, 0);
  EXPECT_FALSE(bench.memory.slice(kBar2, 1));
  bench.config_write<uint32_t>(1, 0x18, ~0U);
  EXPECT_EQ(bench.config_read<uint32_t>(1, 0x18) & ~0xfU, ~uint32_t{kSize - 1});
  const GuestAddress moved = kBar2 + 4 * kSize;
  bench.config_write<uint32_t>(1, 0x18, static_cast<uint32_t>(moved));
  bench.config_write<uint16_t>(1, 4, 2);
  EXPECT_EQ(config_start(), moved);
  EXPECT_TRUE(bench.memory.slice(moved, kSize));
  EXPECT_FALSE(bench.memory.slice(kBar2, 1));
}

TEST_F(PmemTest, WhatTheBarHasBeyondTheFileIsNothing) {
  add(3 * kSize);
  EXPECT_FALSE(bench.memory.slice(kBar2 + 3 * kSize, 1));
  EXPECT_EQ(bench.mmio_read<uint32_t>(kBar2 + 3 * kSize), ~0U);
  bench.mmio_write<uint32_t>(kBar2 + 4 * kSize - 4, 1);
}

TEST_F(PmemTest, FailsIfItsMemoryCannotBeMapped) {
  listener.refuse = true;
  add();
  EXPECT_EQ(bench.events.take().front(), "failed pmem: no more slots");
  EXPECT_FALSE(bench.memory.slice(kBar2, 1));
}

TEST_F(PmemTest, FlushesAndRefusesWhatItDoesNotKnow) {
  const auto device = add();
  const auto answer = [&] { return bench.memory.read<uint32_t>(kData + 16).value(); };
  const auto ask = [&](uint32_t type) {
    EXPECT_TRUE(bench.memory.write<uint32_t>(kData, type));
    EXPECT_TRUE(bench.memory.write<uint32_t>(kData + 16, 0xdeadbeef));
    return request({{kData, 4}, {kData + 16, 4, kWrite}});
  };
  EXPECT_EQ(ask(0), 4U);
  EXPECT_EQ(answer(), 0U);
  EXPECT_EQ(ask(1), 4U);
  EXPECT_EQ(answer(), 1U);
  // A request cut short, one without room for the answer, one with room for half of it, one in
  // pieces.
  EXPECT_EQ(request({{kData, 3}, {kData + 16, 4, kWrite}}), 4U);
  EXPECT_EQ(answer(), 1U);
  EXPECT_EQ(request({{kData, 4}}), 0U);
  ASSERT_TRUE(bench.memory.write<uint32_t>(kData, 0));
  EXPECT_EQ(request({{kData, 4}, {kData + 16, 2, kWrite}}), 2U);
  EXPECT_EQ(request({{kData, 1}, {kData + 1, 3}, {kData + 32, 1, kWrite}, {kData + 40, 3, kWrite}}),
            4U);
  EXPECT_EQ(request({{kData + 16, 4, kWrite}}), 4U);
  EXPECT_EQ(counter(*device, "flushes"), 3U);
}

TEST_F(PmemTest, AFailedFlushIsAnError) {
  // A pipe cannot be synchronized: EINVAL, as an I/O error would be EIO.
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reader(ends[0]);
  const UniqueFd writer(ends[1]);
  const auto device = add();
  // What the device has duplicated is found by its content: replace it in place.
  for (int fd = 3; fd < 256; ++fd) {
    struct stat of_file {};
    struct stat candidate {};
    ASSERT_EQ(::fstat(file.get(), &of_file), 0);
    if (fd == file.get() || ::fstat(fd, &candidate) != 0 || candidate.st_ino != of_file.st_ino)
      continue;
    ASSERT_GE(::dup3(writer.get(), fd, O_CLOEXEC), 0);
  }
  ASSERT_TRUE(bench.memory.write<uint32_t>(kData, 0));
  EXPECT_EQ(request({{kData, 4}, {kData + 16, 4, kWrite}}), 4U);
  EXPECT_EQ(bench.memory.read<uint32_t>(kData + 16), 1U);
}

/// The host's sync fails once, as Linux reports it.
TEST_F(PmemTest, AFailedFlushIsForGood) {
  class FailingOnce final : public disk_test::HostCalls {
   public:
    int sync(int fd) override {
      if (fails-- <= 0) return HostCalls::sync(fd);
      errno = error;
      return -1;
    }
    int fails = 0;
    int error = EIO;
  };
  const auto device = add();
  const auto flush = [&] {
    EXPECT_TRUE(bench.memory.write<uint32_t>(kData, 0));
    EXPECT_EQ(request({{kData, 4}, {kData + 16, 4, kWrite}}), 4U);
    return bench.memory.read<uint32_t>(kData + 16).value();
  };
  FailingOnce host;
  host.error = EINTR;
  host.fails = 2;
  EXPECT_EQ(flush(), 0U) << "interrupted, and made again";
  host.error = EIO;
  host.fails = 1;
  bench.events.take();
  EXPECT_EQ(flush(), 1U);
  EXPECT_EQ(flush(), 1U) << "the next one would be believed in vain";
  const auto events = bench.events.take();
  ASSERT_EQ(events.size(), 1U);
  EXPECT_TRUE(events[0].starts_with("warning pmem: flushing its file failed")) << events[0];
  EXPECT_EQ(counter(*device, "failed_flushes"), 2U);
}

/// Somebody makes the file shorter: the device stops, and whoever touches it lives on.
TEST_F(PmemTest, OutlivesItsFile) {
  const auto device = add(2 * kSize);
  ASSERT_TRUE(bench.memory.write<uint8_t>(kBar2, 0x42));
  ASSERT_EQ(::ftruncate(file.get(), kSize), 0);
  bench.events.take();
  EXPECT_EQ(bench.memory.read<uint8_t>(kBar2), 0x42) << "what is there still is";
  EXPECT_EQ(bench.memory.read<uint8_t>(kBar2 + kSize), 0) << "what is not reads as zeros";
  ASSERT_TRUE(bench.memory.write<uint8_t>(kBar2 + 2 * kSize - 1, 1));
  EXPECT_EQ(bench.memory.read<uint8_t>(kBar2 + 2 * kSize - 1), 1);
  EXPECT_TRUE(eventually([&] { return (driver.status() & 64) != 0; }));
  EXPECT_TRUE(eventually([&] {
    const auto events = bench.events.take();
    return std::ranges::find(events, "failed pmem: persistent memory without its file") !=
           events.end();
  }));
  // A driver that starts it anew hears the same.
  driver.set_status(0);
  driver.negotiate(kAllRingFeatures);
  driver.set_up(0, queue.config());
  driver.start();
  EXPECT_TRUE(eventually([&] { return (driver.status() & 64) != 0; }));
}

/// What KVM could not reach for a guest does not end in a signal: it asks.
TEST_F(PmemTest, GivesTheHypervisorWhatItLacks) {
  const auto device = add(2 * kSize);
  EXPECT_TRUE(device->repair_device_memory()) << "there is room, perhaps by now";
  ASSERT_EQ(::ftruncate(file.get(), 4096), 0);
  EXPECT_TRUE(device->repair_device_memory());
  EXPECT_EQ(bench.memory.read<uint8_t>(kBar2 + 4096), 0);
  EXPECT_TRUE(device->repair_device_memory()) << "another vCPU was on its way to it";
  int asked = 0;
  while (device->repair_device_memory() && asked < 100'000) ++asked;
  EXPECT_LT(asked, 100'000) << "it does not go on for ever";
}

/// A process may have 65,530 of them (vm.max_map_count), which a guest must not use up.
size_t mappings() {
  std::ifstream maps("/proc/self/maps");
  return static_cast<size_t>(std::ranges::count(std::istreambuf_iterator<char>(maps),
                                                std::istreambuf_iterator<char>(), '\n'));
}

/// A hole in a file whose file system is full.
TEST(PmemOnAFullFileSystem, LivesOn) {
  const disk_test::TempFolder folder(false);
  const std::string path = folder / "";
  if (::mount("none", path.c_str(), "tmpfs", 0, "size=64k") != 0) {
    GTEST_SKIP() << "cannot mount a small tmpfs: " << std::strerror(errno);
  }
  // Touched by ourselves, and by the hypervisor.
  for (const bool asks : {false, true}) {
    SCOPED_TRACE(asks);
    UniqueFd file(::open((path + "/file").c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    ASSERT_EQ(::ftruncate(file.get(), kSize), 0);
    GuestMemory memory({range(0, 1 << 20)}, {});
    VirtioPmem device(std::move(file), memory, {.id = "pmem", .size = kSize});
    device.device_memory()->show(kBar2);
    if (asks) EXPECT_TRUE(device.repair_device_memory());
    const size_t before = mappings();
    for (uint64_t at = 0; at < kSize; at += 8192) {
      ASSERT_TRUE(memory.write<uint8_t>(kBar2 + at, 7));
    }
    EXPECT_LT(mappings(), before + 100) << "not one for each of 256 pages";
    for (uint64_t at = 0; at < kSize; at += 4096) {
      ASSERT_TRUE(memory.write<uint8_t>(kBar2 + at, 7));
      ASSERT_EQ(memory.read<uint8_t>(kBar2 + at), 7);
    }
  }
  ::umount2(path.c_str(), MNT_DETACH);
}

/// The handler is there only while it is needed, and leaves to others what is theirs.
TEST(LostPages, KeepsOutOfTheWay) {
  static std::atomic<int> passed_on = 0;
  struct sigaction before {};
  struct sigaction mine {};
  mine.sa_handler = [](int) { ++passed_on; };
  ASSERT_EQ(::sigaction(SIGBUS, &mine, &before), 0);
  {
    std::vector<uint8_t> bytes(8192);
    const UniqueFd fd = make_file(kSize);
    const LostPages one(bytes.data(), bytes.size(), fd.get(), 0, LostPages::Holes::kAtOnce);
    const LostPages other(bytes.data(), bytes.size(), fd.get(), 0, LostPages::Holes::kAtOnce);
    ::raise(SIGBUS);
    EXPECT_EQ(passed_on, 1);
  }
  struct sigaction after {};
  ASSERT_EQ(::sigaction(SIGBUS, &before, &after), 0);
  EXPECT_EQ(after.sa_handler, mine.sa_handler);
}

/// Somebody whose handler was in front of ours has taken it away again.
TEST(LostPages, IsNotTakenForWhatWasThereBefore) {
  static std::atomic<int> passed_on = 0;
  struct sigaction before {};
  struct sigaction mine {};
  mine.sa_handler = [](int) { ++passed_on; };
  ASSERT_EQ(::sigaction(SIGBUS, &mine, &before), 0);
  std::vector<uint8_t> bytes(8192);
  const UniqueFd fd = make_file(kSize);
  struct sigaction ours {};
  {
    const LostPages first(bytes.data(), bytes.size(), fd.get(), 0, LostPages::Holes::kAtOnce);
    ASSERT_EQ(::sigaction(SIGBUS, &mine, &ours), 0);
  }
  ASSERT_EQ(::sigaction(SIGBUS, &ours, nullptr), 0);
  {
    const LostPages second(bytes.data(), bytes.size(), fd.get(), 0, LostPages::Holes::kAtOnce);
    ::raise(SIGBUS);
    EXPECT_EQ(passed_on, 1);
  }
  struct sigaction after {};
  ASSERT_EQ(::sigaction(SIGBUS, &before, &after), 0);
  EXPECT_EQ(after.sa_handler, mine.sa_handler);
}

/// A file that was cut off under its mapping.
class CutFile : public testing::Test {
 protected:
  CutFile() {
    EXPECT_NE(host, MAP_FAILED);
    lost.emplace(host, kCutSize, file.get(), 0, LostPages::Holes::kAtOnce);
    EXPECT_EQ(::ftruncate(file.get(), 0), 0);
  }
  ~CutFile() override {
    lost.reset();
    ::munmap(host, kCutSize);
  }
  static constexpr uint64_t kCutSize = 8 << 20;
  UniqueFd file = make_file(kCutSize);
  uint8_t* host = static_cast<uint8_t*>(
      ::mmap(nullptr, kCutSize, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0));
  std::optional<LostPages> lost;
};

TEST_F(CutFile, TakesFewMappingsHoweverItIsTouched) {
  const size_t before = mappings();
  for (uint64_t at = 0; at < kCutSize; at += 8192) host[at] = 1;
  EXPECT_LT(mappings(), before + 100) << "not one for each of 1,024 pages";
}

TEST_F(CutFile, IsReplacedOnce) {
  host[4096] = 1;
  EXPECT_TRUE(lost->replace()) << "another vCPU was on its way to it";
  EXPECT_EQ(host[4096], 1) << "and finds what was written meanwhile";
}

/// As memory that is handed out is, and taken back: whoever touches it must not get the same signal
/// for ever.
TEST_F(CutFile, IsReplacedAgainWhereItIsMappedAgain) {
  host[4096] = 1;
  constexpr int kFlags = MAP_SHARED | MAP_FIXED;
  ASSERT_EQ(::mmap(host + 8192, 8192, PROT_READ | PROT_WRITE, kFlags, file.get(), 8192),
            host + 8192);
  host[8192] = 2;
  EXPECT_EQ(host[8192], 2);
  EXPECT_EQ(host[4096], 1);
}

TEST_F(PmemTest, OtherDevicesReachIt) {
  add();
  // A ring of this very device whose answers go to persistent memory.
  ASSERT_TRUE(bench.memory.write<uint32_t>(kBar2 + 64, 0));
  EXPECT_EQ(request({{kBar2 + 64, 4}, {kBar2 + 128, 4, kWrite}}), 4U);
  EXPECT_EQ(bench.memory.read<uint32_t>(kBar2 + 128), 0U);
  // Half in it, half beyond: a broken ring.
  queue.add({{kBar2 + kSize - 2, 4}});
  driver.kick(0);
  EXPECT_TRUE(eventually([&] { return (driver.status() & 64) != 0; }));
}

TEST_F(PmemTest, MovesWhileOthersTransfer) {
  add();
  std::atomic<bool> done = false;
  std::thread transfer([&] {
    while (!done) {
      if (const auto bytes = bench.memory.slice(kBar2 + 4096, 4096))
        std::ranges::fill(*bytes, uint8_t{1});
    }
  });
  for (int i = 0; i < 500; ++i) {
    bench.config_write<uint16_t>(1, 4, 0);
    bench.config_write<uint16_t>(1, 4, 2);
  }
  done = true;
  transfer.join();
}

TEST_F(PmemTest, GoesWhilePaused) {
  const auto device = add();
  pause(*device);
  device->reset();
}

}  // namespace
}  // namespace tsvmm::virtio_test
