#include "virtio/vhost_net.h"

#define VIRTIO_RING_NO_LEGACY
#include <fcntl.h>
#include <linux/vhost.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdarg>
#include <map>

#include "core/error.h"
#include "virtio_mock_driver.h"

namespace tsvmm::virtio_test {
namespace {

/// What /dev/vhost-net answers, without a kernel that has it.
class FakeVhost {
 public:
  static FakeVhost* on(int descriptor) {
    return current != nullptr && current->fd.get() == descriptor ? current : nullptr;
  }
  FakeVhost() { current = this; }
  ~FakeVhost() { current = nullptr; }

  int answer(unsigned long request, const void* argument) {
    ++calls[request];
    if (request == VHOST_GET_FEATURES) {
      *static_cast<uint64_t*>(const_cast<void*>(argument)) = kAllRingFeatures;
    }
    if (request == VHOST_SET_VRING_ERR) {
      // The kernel keeps the eventfd alive, too.
      const int error = static_cast<const vhost_vring_file*>(argument)->fd;
      broken = UniqueFd(::fcntl(error, F_DUPFD_CLOEXEC, 0));
    }
    if (request == VHOST_SET_VRING_BASE) {
      const auto& base = *static_cast<const vhost_vring_state*>(argument);
      bases[base.index] = base.num;
    }
    if (request == VHOST_GET_VRING_BASE) {
      auto& base = *static_cast<vhost_vring_state*>(const_cast<void*>(argument));
      base.num = bases[base.index];
    }
    if (request == VHOST_SET_MEM_TABLE) {
      const auto& table = *static_cast<const vhost_memory*>(argument);
      if (table.nregions > max_regions) {
        errno = E2BIG;
        return -1;
      }
      memory.clear();
      for (uint32_t i = 0; i < table.nregions; ++i) {
        const vhost_memory_region& region = table.regions[i];
        memory[region.guest_phys_addr] = {region.memory_size, region.userspace_addr};
      }
    }
    if (request == VHOST_NET_SET_BACKEND) {
      const auto& file = *static_cast<const vhost_vring_file*>(argument);
      if (refuse_backend && file.fd >= 0) {
        errno = EBUSY;
        return -1;
      }
      backends[file.index] = file.fd;
    }
    return 0;
  }

  UniqueFd fd{::open("/dev/null", O_RDWR | O_CLOEXEC)};
  UniqueFd broken;
  bool refuse_backend = false;
  std::map<unsigned long, int> calls;
  std::map<unsigned, int> backends;    ///< by ring
  std::map<unsigned, unsigned> bases;  ///< where in them it goes on
  uint32_t max_regions = 64;
  std::map<uint64_t, std::pair<uint64_t, uint64_t>> memory;  ///< by address: size, where it is here

 private:
  static inline FakeVhost* current = nullptr;
};

}  // namespace
}  // namespace tsvmm::virtio_test

// In place of the C library's, for all of the test program.
extern "C" int ioctl(int fd, unsigned long request, ...) noexcept {
  va_list arguments;
  va_start(arguments, request);
  const void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  using tsvmm::virtio_test::FakeVhost;
  if (FakeVhost* vhost = FakeVhost::on(fd)) return vhost->answer(request, argument);
  return static_cast<int>(::syscall(SYS_ioctl, fd, request, argument));
}

namespace tsvmm::virtio_test {
namespace {

constexpr int kTap = 77;

/// An interrupt with a way past this process's threads.
class ExternalInterrupt : public CountingInterrupt {
 public:
  const EventFd* external() noexcept override { return &event; }
  EventFd event;
};

class VhostNetTest : public testing::Test {
 protected:
  std::unique_ptr<NetPair> make() {
    const NetPairSetup pair{.memory = memory,
                            .features = kAllRingFeatures,
                            .receive = &receive,
                            .transmit = &transmit,
                            .transport = host};
    return VhostNetPair::make(pair, vhost.fd.get(), kTap, loop);
  }
  void expect_backends(int tap) {
    EXPECT_EQ(vhost.backends, (std::map<unsigned, int>{{0, tap}, {1, tap}}));
  }

  void expect_memory(const std::vector<GuestAddress>& addresses) {
    std::vector<GuestAddress> known;
    for (const auto& [address, place] : vhost.memory) known.push_back(address);
    EXPECT_EQ(known, addresses);
  }

  static constexpr GuestAddress kGrowth = 2 << 20;
  GuestMemory memory{
      {{.ranges = {range(0, 1 << 20)}}}, Cancellation::never(), range(kGrowth, 16 << 20)};
  EventLoop loop{"test-loop"};
  FakeVhost vhost;
  RecordingTransport host;
  DriverQueue queues[2]{{memory, 0x1000, 16}, {memory, 0x2000, 16}};
  EventFd doorbells[2];
  ExternalInterrupt interrupts[2];
  SplitQueueState states[2];
  VirtqueueSetup receive{0, queues[0].config(), &doorbells[0], &interrupts[0], &states[0]};
  VirtqueueSetup transmit{1, queues[1].config(), &doorbells[1], &interrupts[1], &states[1]};
};

TEST_F(VhostNetTest, ServesPausesAndStops) {
  const auto pair = make();
  ASSERT_TRUE(pair);
  expect_backends(kTap);
  EXPECT_NE(doorbells[0].consume(), 0u) << "buffers may be there already";
  pair->pause();
  expect_backends(-1);
  pair->resume();
  expect_backends(kTap);
  EXPECT_NE(doorbells[1].consume(), 0u);
  pair->stop();
  expect_backends(-1);
}

TEST_F(VhostNetTest, LeavesWhereTheKernelWasToTheNextServer) {
  states[0] = {.next_available = 7, .next_used = 7};
  const auto pair = make();
  EXPECT_EQ(vhost.bases, (std::map<unsigned, unsigned>{{0, 7}, {1, 0}}));
  vhost.bases = {{0, 9}, {1, 65535}};
  pair->pause();
  EXPECT_EQ(states[0].next_available, 9);
  EXPECT_EQ(states[1].next_used, 65535);
  pair->resume();
  vhost.bases[1] = 3;
  pair->stop();
  EXPECT_EQ(states[1].next_available, 3);
}

TEST_F(VhostNetTest, KnowsMemoryThatComesWhileItServes) {
  std::vector<uint8_t> bytes(4096);
  const auto window = memory.add_device_memory(bytes.data(), bytes.size(), -1);
  constexpr GuestAddress kWindow = 0x40000000;
  window->show(kWindow);
  auto pair = make();
  expect_memory({0, kWindow});
  const MemoryRegion& added = memory.add(4 << 20);
  expect_memory({0, kGrowth, kWindow});
  EXPECT_EQ(vhost.memory[kGrowth],
            std::pair(added.size, uint64_t{reinterpret_cast<uintptr_t>(added.host)}));
  window->hide();
  expect_memory({0, kGrowth});
  const int tables = vhost.calls[VHOST_SET_MEM_TABLE];
  pair.reset();
  memory.add(4 << 20);
  EXPECT_EQ(vhost.calls[VHOST_SET_MEM_TABLE], tables) << "nobody serves any more";
  pair = make();
  expect_memory({0, kGrowth});
  EXPECT_EQ(vhost.memory[kGrowth].first, 8U << 20) << "both";
}

/// Their memory is in one piece, and the kernel's table is short.
TEST_F(VhostNetTest, ManyZonesAreOneRegionOfTheKernels) {
  constexpr uint64_t kZone = 64 << 10;
  std::vector<MemoryZone> zones;
  for (uint64_t i = 0; i < 100; ++i) zones.push_back({.ranges = {{i * kZone, kZone}}});
  const GuestMemory zoned(std::move(zones));
  const NetPairSetup setup{.memory = zoned,
                           .features = kAllRingFeatures,
                           .receive = &receive,
                           .transmit = &transmit,
                           .transport = host};
  const auto pair = VhostNetPair::make(setup, vhost.fd.get(), kTap, loop);
  expect_memory({0});
  EXPECT_EQ(vhost.memory[0].first, 100 * kZone);
}

TEST_F(VhostNetTest, RefusesMemoryThatTheKernelHasNoRoomFor) {
  vhost.max_regions = 1;
  const auto pair = make();
  ASSERT_TRUE(pair);
  EXPECT_THROW(memory.add(4 << 20), Error);
  EXPECT_EQ(memory.regions().size(), 1U);
  EXPECT_FALSE(memory.slice(kGrowth, 1));
  expect_memory({0});
  expect_backends(kTap);
}

TEST_F(VhostNetTest, AResumeWithoutAPauseChangesNothing) {
  const auto pair = make();
  const int before = vhost.calls[VHOST_NET_SET_BACKEND];
  pair->resume();
  EXPECT_EQ(vhost.calls[VHOST_NET_SET_BACKEND], before);
}

TEST_F(VhostNetTest, ATapThatIsLostWhilePausedFailsTheDevice) {
  const auto pair = make();
  pair->pause();
  vhost.refuse_backend = true;
  pair->resume();
  EXPECT_EQ(host.failure(), "VHOST_NET_SET_BACKEND: Device or resource busy");
}

TEST_F(VhostNetTest, ABrokenRingFailsTheDevice) {
  const auto pair = make();
  const uint64_t one = 1;
  ASSERT_EQ(::write(vhost.broken.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
  EXPECT_TRUE(eventually([&] { return host.failure() == "the kernel found a broken ring"; }));
}

TEST_F(VhostNetTest, OneThatCannotBeginLeavesNothingBehind) {
  vhost.refuse_backend = true;
  EXPECT_THROW((void)make(), Error);
  EXPECT_EQ(vhost.calls[VHOST_RESET_OWNER], 1);
  // Its watch would use what is gone.
  const uint64_t one = 1;
  ASSERT_EQ(::write(vhost.broken.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  loop.call([] {});
  EXPECT_EQ(host.failure(), "");
}

TEST_F(VhostNetTest, LeavesAPairWithoutInterruptsToTheDevice) {
  CountingInterrupt plain;
  receive.interrupt = &plain;
  EXPECT_FALSE(make());
}

}  // namespace
}  // namespace tsvmm::virtio_test
