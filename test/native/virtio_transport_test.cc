#include <thread>

#include "core/error.h"
#include "virtio/common_config.h"
#include "virtio_mock_driver.h"

namespace tsvmm::virtio_test {
namespace {

constexpr unsigned kSlot = 3;
constexpr GuestAddress kBar = PciBench::kWindow + 0x80000;
constexpr uint64_t kFeature = 1 << 3;
constexpr uint64_t kGood = kFeature | virtio_feature::kVersion1;

/// A device that remembers what is asked of it.
class TestDevice : public VirtioDevice {
 public:
  VirtioType type() const noexcept override {
    return {.id = 2, .pci_class = 0x01, .pci_subclass = 0x80};
  }
  uint64_t features() const noexcept override { return kFeature; }
  std::vector<uint16_t> queue_sizes() const override { return {16, 8}; }
  uint32_t config_size() const noexcept override { return 6; }
  void read_config(uint32_t offset, std::span<uint8_t> data) noexcept override {
    ASSERT_LE(offset + data.size(), 6u);
    for (size_t i = 0; i < data.size(); ++i) data[i] = config[offset + i];
  }
  void write_config(uint32_t offset, std::span<const uint8_t> data) noexcept override {
    ASSERT_LE(offset + data.size(), 6u);
    for (size_t i = 0; i < data.size(); ++i) config[offset + i] = data[i];
  }
  void activate(const Activation& activation) override {
    EXPECT_FALSE(active);
    active = true;
    if (refuse) throw Error("EINVAL", "not today");
    features_seen = activation.features;
    queues = activation.queues;
  }
  bool try_reset(const Deadline& deadline) noexcept override {
    std::unique_lock lock(mutex);
    const bool done = deadline.wait(lock, changed, [this] { return !stuck; });
    if (done) active = false;
    return done;
  }
  void answer() {
    const std::lock_guard lock(mutex);
    stuck = false;
    changed.notify_all();
  }
  using VirtioDevice::transport;

  std::array<uint8_t, 6> config{1, 2, 3, 4, 5, 6};
  bool refuse = false;
  bool active = false;
  bool stuck = false;  ///< something is in flight
  std::mutex mutex;
  std::condition_variable changed;
  uint64_t features_seen = 0;
  std::vector<VirtqueueSetup> queues;
};

class TransportTest : public testing::Test {
 protected:
  void enable_msix() {
    const uint32_t at = bench.capability(kSlot, 0x11);
    bench.config_write<uint16_t>(kSlot, at + 2, 0x8000);
    for (uint32_t vector = 0; vector < 3; ++vector) {
      driver.write<uint32_t>(0x8000 + 16 * vector, 0xfee00000);
      driver.write<uint32_t>(0x8000 + 16 * vector + 8, 0x40 + vector);
      driver.write<uint32_t>(0x8000 + 16 * vector + 12, 0);
    }
  }
  void bring_up() {
    driver.negotiate(kGood);
    driver.set_up(0, queue0.config(), 1);
    driver.set_up(1, queue1.config(), 2);
    driver.start();
  }
  std::vector<std::string> events() { return bench.events.take(); }
  using Strings = std::vector<std::string>;

  std::shared_ptr<TestDevice> device = std::make_shared<TestDevice>();
  PciBench bench;
  VirtioPciFunction& function = bench.add(kSlot, "dev", device, kBar);
  PciDriver driver{bench, kBar};
  DriverQueue queue0{bench.memory, 0x1000, 16};
  DriverQueue queue1{bench.memory, 0x2000, 8};
};

TEST_F(TransportTest, IdentifiesItself) {
  EXPECT_EQ(bench.config_read<uint32_t>(kSlot, 0), 0x10421af4U);
  EXPECT_EQ(bench.config_read<uint32_t>(kSlot, 8), 0x01800001U);
  EXPECT_EQ(bench.config_read<uint32_t>(kSlot, 0x2c), 0x10421af4U);
}

TEST_F(TransportTest, CapabilitiesInOrder) {
  struct Expected {
    uint8_t type;
    uint32_t offset;
    uint32_t length;
  };
  const Expected expected[] = {
      {1, 0, 56}, {3, 0x2000, 1}, {4, 0x4000, 6}, {2, 0x6000, 8}, {5, 0, 0}};
  uint32_t at = bench.config_read<uint8_t>(kSlot, 0x34);
  for (const auto& [type, offset, length] : expected) {
    EXPECT_EQ(bench.config_read<uint8_t>(kSlot, at), 9);
    EXPECT_EQ(bench.config_read<uint8_t>(kSlot, at + 2), type == 2 || type == 5 ? 20 : 16);
    EXPECT_EQ(bench.config_read<uint8_t>(kSlot, at + 3), type);
    EXPECT_EQ(bench.config_read<uint8_t>(kSlot, at + 4), 0);
    EXPECT_EQ(bench.config_read<uint32_t>(kSlot, at + 8), offset);
    EXPECT_EQ(bench.config_read<uint32_t>(kSlot, at + 12), length);
    if (type == 2) {
      EXPECT_EQ(bench.config_read<uint32_t>(kSlot, at + 16), 4U);
    }
    at = bench.config_read<uint8_t>(kSlot, at + 1);
  }
  EXPECT_EQ(bench.config_read<uint16_t>(kSlot, at) & 0xff, 0x11);
  EXPECT_EQ(bench.config_read<uint16_t>(kSlot, at + 2), 2) << "three vectors";
  EXPECT_EQ(bench.config_read<uint32_t>(kSlot, at + 4), 0x8000U);
  EXPECT_EQ(bench.config_read<uint32_t>(kSlot, at + 8), 0x48000U);
  EXPECT_EQ(bench.config_read<uint8_t>(kSlot, at + 1), 0);
}

/// §2.4.1: the driver considers the reset complete when it reads 0.
TEST_F(TransportTest, AResetThatTakesLongHoldsNoVcpu) {
  bring_up();
  const uint8_t before = driver.status();
  ASSERT_NE(before, 0);
  device->stuck = true;
  events();
  driver.set_status(0);
  EXPECT_EQ(driver.status(), before) << "not before the device is through with it";
  EXPECT_EQ(events(),
            Strings{"note dev: the device does not come to rest: its reset waits for that"});
  // Whatever else the driver does meanwhile changes nothing.
  driver.set_status(1);
  driver.set_status(0);
  EXPECT_EQ(driver.status(), before);
  EXPECT_TRUE(device->active);
  device->answer();
  EXPECT_EQ(driver.status(), 0);
  EXPECT_FALSE(device->active);
  EXPECT_EQ(events(), Strings{"reset dev"});
  bring_up();
  EXPECT_TRUE(device->active);
}

TEST_F(TransportTest, ShowsPowerOnValues) {
  EXPECT_EQ(driver.device_features(), kGood);
  driver.write<uint32_t>(0, 2);
  EXPECT_EQ(driver.read<uint32_t>(4), 0U);
  EXPECT_EQ(driver.read<uint16_t>(0x10), 0xffff);
  EXPECT_EQ(driver.read<uint16_t>(0x12), 2);
  EXPECT_EQ(driver.status(), 0);
  EXPECT_EQ(driver.read<uint16_t>(0x18), 16);
  driver.write<uint16_t>(0x16, 1);
  EXPECT_EQ(driver.read<uint16_t>(0x18), 8);
  EXPECT_EQ(driver.read<uint16_t>(0x1e), 1);
  driver.write<uint16_t>(0x16, 2);
  EXPECT_EQ(driver.read<uint16_t>(0x18), 0) << "there is no queue 2";
}

TEST_F(TransportTest, ActivatesAtDriverOk) {
  bring_up();
  EXPECT_TRUE(device->active);
  EXPECT_EQ(driver.status(), 15);
  EXPECT_EQ(device->features_seen, kGood);
  ASSERT_EQ(device->queues.size(), 2u);
  EXPECT_EQ(device->queues[1].rings.size, 8);
  EXPECT_EQ(device->queues[1].rings.used_ring, queue1.config().used_ring);
  EXPECT_EQ(events(), Strings{"activated dev"});
  driver.start();
  EXPECT_EQ(events(), Strings{}) << "once is enough";
}

TEST_F(TransportTest, OnlyEnabledQueuesAreServed) {
  driver.negotiate(kGood);
  driver.set_up(1, queue1.config());
  driver.start();
  ASSERT_EQ(device->queues.size(), 1u);
  EXPECT_EQ(device->queues[0].index, 1);
}

TEST_F(TransportTest, RefusesFeatures) {
  driver.negotiate(kFeature);
  EXPECT_EQ(driver.status(), 3) << "VERSION_1 is missing";
  driver.negotiate(kGood | 1 << 20);
  EXPECT_EQ(driver.status(), 3) << "not offered";
  driver.negotiate(kGood);
  EXPECT_EQ(driver.status(), 11);
  driver.set_status(0);
  driver.set_status(3);
  driver.set_features(kGood);
  driver.write<uint32_t>(8, 7);
  driver.write<uint32_t>(0xc, 1);
  driver.set_status(11);
  EXPECT_EQ(driver.status(), 3) << "bits beyond 64";
}

TEST_F(TransportTest, FeaturesAreFixedAfterFeaturesOk) {
  driver.negotiate(kGood);
  driver.set_features(virtio_feature::kVersion1);
  driver.start();
  EXPECT_EQ(device->features_seen, kGood);
}

TEST_F(TransportTest, IllegalStatusOrders) {
  driver.set_features(kGood);
  driver.set_status(4);
  EXPECT_EQ(driver.status(), 0) << "DRIVER_OK alone";
  driver.set_status(2);
  EXPECT_EQ(driver.status(), 0) << "DRIVER without ACKNOWLEDGE";
  driver.set_status(9);
  EXPECT_EQ(driver.status(), 1) << "FEATURES_OK without DRIVER";
  driver.set_status(7);
  EXPECT_EQ(driver.status(), 3) << "DRIVER_OK without FEATURES_OK";
  driver.set_status(64 | 3);
  EXPECT_EQ(driver.status(), 3) << "NEEDS_RESET is the device's";
  driver.set_status(1);
  EXPECT_EQ(driver.status(), 3) << "bits do not go away";
  driver.set_status(128 | 3);
  driver.set_status(128 | 15);
  EXPECT_EQ(driver.status(), 128 | 11) << "a driver that gave up cannot start";
  EXPECT_FALSE(device->active);
  driver.set_status(0);
  EXPECT_EQ(driver.status(), 0);
}

TEST_F(TransportTest, RingsAreFixedOnceEnabledOrRunning) {
  bring_up();
  driver.write<uint16_t>(0x16, 0);
  driver.write<uint16_t>(0x18, 4);
  driver.write<uint64_t>(0x20, 0xdead0000);
  driver.write<uint64_t>(0x28, 0xdead0000);
  driver.write<uint32_t>(0x30, 0xdead0000);
  driver.write<uint16_t>(0x1c, 0);
  EXPECT_EQ(driver.read<uint16_t>(0x18), 16);
  EXPECT_EQ(driver.read<uint64_t>(0x20), queue0.config().descriptor_table);
  EXPECT_EQ(driver.read<uint64_t>(0x28), queue0.config().available_ring);
  EXPECT_EQ(driver.read<uint64_t>(0x30), queue0.config().used_ring);
  EXPECT_EQ(driver.read<uint16_t>(0x1c), 1);
}

TEST_F(TransportTest, QueueFieldsTakeHalvesAndBounds) {
  driver.write<uint16_t>(0x16, 0);
  driver.write<uint32_t>(0x20, 0x11223340);
  driver.write<uint32_t>(0x24, 5);
  EXPECT_EQ(driver.read<uint64_t>(0x20), 0x511223340U);
  driver.write<uint16_t>(0x18, 32);
  EXPECT_EQ(driver.read<uint16_t>(0x18), 16) << "more than the device's maximum";
  driver.write<uint16_t>(0x1a, 3);
  EXPECT_EQ(driver.read<uint16_t>(0x1a), 0xffff) << "no such vector";
  driver.write<uint16_t>(0x1a, 2);
  EXPECT_EQ(driver.read<uint16_t>(0x1a), 2);
  driver.write<uint16_t>(0x10, 9);
  EXPECT_EQ(driver.read<uint16_t>(0x10), 0xffff);
}

TEST_F(TransportTest, ResetClearsEverything) {
  bring_up();
  (void)events();
  driver.set_status(0);
  EXPECT_FALSE(device->active);
  EXPECT_EQ(driver.status(), 0);
  driver.write<uint16_t>(0x16, 0);
  EXPECT_EQ(driver.read<uint16_t>(0x1c), 0);
  EXPECT_EQ(driver.read<uint16_t>(0x1a), 0xffff);
  EXPECT_EQ(events(), Strings{"reset dev"});
  driver.set_status(0);
  EXPECT_EQ(events(), Strings{}) << "nothing to reset";
  bring_up();
  EXPECT_TRUE(device->active);
}

TEST_F(TransportTest, FailedActivationNeedsReset) {
  enable_msix();
  driver.write<uint16_t>(0x10, 0);
  device->refuse = true;
  driver.negotiate(kGood);
  driver.write<uint16_t>(0x10, 0);
  driver.start();
  EXPECT_EQ(driver.status(), 64 | 15);
  EXPECT_EQ(bench.fabric.lines[0]->triggers, 1) << "configuration interrupt";
  EXPECT_EQ(events(), Strings{"failed dev: not today"});
  device->refuse = false;
  bring_up();
  EXPECT_EQ(driver.status(), 15);
}

/// Half of its queues may be served by then, and have requests in flight that the host does not
/// end.
TEST_F(TransportTest, WhatAFailedActivationBeganIsNotWaitedFor) {
  device->refuse = device->stuck = true;
  driver.negotiate(kGood);
  driver.start();
  EXPECT_EQ(driver.status(), 64 | 15);
  EXPECT_TRUE(device->active) << "it is on its way";
  driver.set_status(0);
  EXPECT_EQ(driver.status(), 64 | 15) << "until the device has come to its end";
  device->refuse = false;
  device->answer();
  EXPECT_EQ(driver.status(), 0);
  EXPECT_FALSE(device->active);
  bring_up();
  EXPECT_EQ(driver.status(), 15);
}

TEST_F(TransportTest, FailureShowsOnceUntilReset) {
  enable_msix();
  bring_up();
  driver.write<uint16_t>(0x10, 0);
  (void)events();
  device->transport().failed("broken ring");
  device->transport().failed("broken ring");
  EXPECT_EQ(driver.status(), 64 | 15);
  EXPECT_EQ(events(), Strings{"failed dev: broken ring"});
  EXPECT_EQ(bench.fabric.lines[0]->triggers, 1);
  EXPECT_EQ(driver.read<uint8_t>(0x2000) & 2, 2);
  driver.set_status(0);
  EXPECT_EQ(driver.status(), 0);
}

TEST_F(TransportTest, QueueInterruptGoesToItsVector) {
  enable_msix();
  bring_up();
  device->queues[0].interrupt->trigger();
  device->queues[1].interrupt->trigger();
  device->queues[1].interrupt->trigger();
  EXPECT_EQ(bench.fabric.lines[1]->triggers, 1);
  EXPECT_EQ(bench.fabric.lines[2]->triggers, 2);
  EXPECT_EQ(bench.fabric.lines[2]->message.data, 0x42U);
  driver.write<uint16_t>(0x16, 1);
  driver.write<uint16_t>(0x1a, 0xffff);
  device->queues[1].interrupt->trigger();
  EXPECT_EQ(bench.fabric.triggers(), 3) << "no vector, no interrupt";
}

TEST_F(TransportTest, SignalsFromOutsideFollowTheQueuesVector) {
  enable_msix();
  bring_up();
  VirtqueueInterrupt& interrupt = *device->queues[0].interrupt;
  const EventFd* source = interrupt.external();
  ASSERT_NE(source, nullptr);
  EXPECT_EQ(interrupt.external(), source);
  EXPECT_EQ(bench.fabric.lines[1]->sources, std::vector{source});
  driver.write<uint16_t>(0x16, 0);
  driver.write<uint16_t>(0x1a, 2);
  EXPECT_TRUE(bench.fabric.lines[1]->sources.empty());
  EXPECT_EQ(bench.fabric.lines[2]->sources, std::vector{source});
  driver.set_status(0);
  EXPECT_TRUE(bench.fabric.lines[2]->sources.empty());
}

TEST_F(TransportTest, WithoutAVectorNothingIsSignalledFromOutside) {
  bring_up();
  EXPECT_EQ(device->queues[0].interrupt->external(), nullptr) << "MSI-X is disabled";
  driver.set_status(0);
  enable_msix();
  driver.negotiate(kGood);
  driver.set_up(0, queue0.config(), 0xffff);
  driver.start();
  EXPECT_EQ(device->queues[0].interrupt->external(), nullptr);
}

TEST_F(TransportTest, WithoutMsixTheIsrTells) {
  bring_up();
  EXPECT_EQ(driver.read<uint8_t>(0x2000), 0);
  device->queues[0].interrupt->trigger();
  device->transport().config_changed();
  EXPECT_EQ(driver.read<uint8_t>(0x2000), 3);
  EXPECT_EQ(driver.read<uint8_t>(0x2000), 0) << "reading clears";
}

TEST_F(TransportTest, ConfigChangeBumpsTheGeneration) {
  enable_msix();
  const uint8_t before = driver.read<uint8_t>(0x15);
  device->transport().config_changed();
  EXPECT_EQ(bench.fabric.triggers(), 0) << "no driver yet";
  bring_up();
  driver.write<uint16_t>(0x10, 0);
  device->transport().config_changed();
  EXPECT_EQ(driver.read<uint8_t>(0x15), static_cast<uint8_t>(before + 2));
  EXPECT_EQ(bench.fabric.lines[0]->triggers, 1);
}

TEST_F(TransportTest, DeviceConfigIsBounded) {
  EXPECT_EQ(driver.read<uint32_t>(0x4000), 0x04030201U);
  EXPECT_EQ(driver.read<uint32_t>(0x4004), 0x00000605U);
  EXPECT_EQ(driver.read<uint64_t>(0x4006), 0U);
  driver.write<uint16_t>(0x4004, 0xbbaa);
  EXPECT_EQ(device->config[5], 0xbb);
  driver.write<uint32_t>(0x4004, 0);
  EXPECT_EQ(device->config[5], 0xbb) << "reaches beyond the end";
}

TEST_F(TransportTest, DoorbellsAppearWithTheDriver) {
  EXPECT_TRUE(bench.fabric.doorbells.empty());
  bring_up();
  ASSERT_EQ(bench.fabric.doorbells.size(), 2u);
  EXPECT_EQ(bench.fabric.doorbells[1].first, kBar + 0x6004);
  driver.kick(1);
  EXPECT_EQ(device->queues[1].doorbell->consume(), 1U);
  EXPECT_EQ(device->queues[0].doorbell->consume(), 0U);
}

TEST_F(TransportTest, NotifyByMmioSignalsTheSameEvent) {
  bench.fabric.no_doorbells = true;
  bring_up();
  driver.write<uint16_t>(0x6004, 1);
  driver.write<uint32_t>(0x6000, 0);
  driver.write<uint16_t>(0x6002, 0);
  driver.write<uint16_t>(0x6008, 2);
  driver.write<uint16_t>(0x7ffc, 2);
  EXPECT_EQ(device->queues[0].doorbell->consume(), 1U);
  EXPECT_EQ(device->queues[1].doorbell->consume(), 1U);
}

TEST_F(TransportTest, DoorbellsMoveWithTheBar) {
  bring_up();
  const GuestAddress moved = PciBench::kWindow64 + 0x100000;
  bench.config_write<uint16_t>(kSlot, 4, 0);
  EXPECT_TRUE(bench.fabric.doorbells.empty());
  bench.config_write<uint32_t>(kSlot, 0x10, static_cast<uint32_t>(moved));
  bench.config_write<uint32_t>(kSlot, 0x14, static_cast<uint32_t>(moved >> 32));
  bench.config_write<uint16_t>(kSlot, 4, 6);
  driver.bar = moved;
  ASSERT_EQ(bench.fabric.doorbells.size(), 2u);
  EXPECT_EQ(bench.fabric.doorbells[0].first, moved + 0x6000);
  EXPECT_EQ(driver.status(), 15) << "the device runs on";
}

TEST_F(TransportTest, ConfigurationWindowReachesTheBar) {
  const uint32_t at = bench.capability(kSlot, 9, 4);
  const auto aim = [&](uint32_t offset, uint32_t length) {
    bench.config_write<uint32_t>(kSlot, at + 8, offset);
    bench.config_write<uint32_t>(kSlot, at + 12, length);
  };
  bench.config_write<uint16_t>(kSlot, 4, 0);  // Works with decoding off.
  aim(0x14, 1);
  bench.config_write<uint8_t>(kSlot, at + 16, 1);
  EXPECT_EQ(bench.config_read<uint8_t>(kSlot, at + 16), 1);
  aim(0x12, 2);
  EXPECT_EQ(bench.config_read<uint16_t>(kSlot, at + 16), 2);
  aim(0x4000, 4);
  EXPECT_EQ(bench.config_read<uint32_t>(kSlot, at + 16), 0x04030201U);
}

TEST_F(TransportTest, ConfigurationWindowIsBounded) {
  const uint32_t at = bench.capability(kSlot, 9, 4);
  for (const uint8_t bar : {0, 1, 6, 255}) {
    bench.config_write<uint8_t>(kSlot, at + 4, bar);
    for (const uint32_t offset : {0U, 1U, 0x7fffcU, 0x7fffeU, 0x80000U, 0xfffffffcU, 0xffffffffU}) {
      for (const uint32_t length : {0U, 1U, 2U, 3U, 4U, 8U, 0xffffffffU}) {
        bench.config_write<uint32_t>(kSlot, at + 8, offset);
        bench.config_write<uint32_t>(kSlot, at + 12, length);
        for (uint32_t where = at + 12; where < at + 24; ++where) {
          (void)bench.config_read<uint32_t>(kSlot, where);
          (void)bench.config_read<uint64_t>(kSlot, where);
        }
        bench.config_write<uint32_t>(kSlot, at + 16, 0);
        bench.config_write<uint8_t>(kSlot, at + 19, 0);
      }
    }
  }
  EXPECT_EQ(driver.status(), 0);
}

TEST_F(TransportTest, EveryOffsetWithEveryWidth) {
  bring_up();
  for (const uint8_t fill : {0x00, 0xff, 0x01, 0x5a}) {
    for (const size_t width : {1, 2, 3, 4, 8}) {
      std::vector<uint8_t> data(width, fill);
      for (const auto& [start, end] : {std::pair<uint64_t, uint64_t>{0, 0x100},
                                       {0x1fe0, 0x2020},
                                       {0x3ff0, 0x4020},
                                       {0x5ff0, 0x6020},
                                       {0x7ff0, 0x8060},
                                       {0x47ff0, 0x48020},
                                       {0x7fff0, 0x80000}}) {
        for (uint64_t offset = start; offset < end; ++offset) {
          bench.mmio.write(kBar + offset, data);
          bench.mmio.read(kBar + offset, data);
        }
      }
    }
  }
  driver.set_status(0);
  bring_up();
  EXPECT_EQ(driver.status(), 15);
}

TEST_F(TransportTest, OddWidthsDoNotWriteCommonFields) {
  const auto poke = [&](uint64_t offset, size_t width) {
    bench.mmio.write(kBar + offset, std::vector<uint8_t>(width, 1));
  };
  for (const size_t width : {2, 3, 4, 8}) poke(0x14, width);
  EXPECT_EQ(driver.status(), 0);
  for (const size_t width : {1, 3, 4, 8}) poke(0x16, width);
  EXPECT_EQ(driver.read<uint16_t>(0x16), 0);
  for (const size_t width : {1, 2, 3, 8}) poke(0x08, width);
  EXPECT_EQ(driver.read<uint32_t>(0x08), 0U);
  for (const size_t width : {1, 2, 3}) poke(0x20, width);
  poke(0x22, 4);
  poke(0x24, 8);
  EXPECT_EQ(driver.read<uint64_t>(0x20), 0U);
}

/// A copy of the function, on another host.
class CopiedTransportTest : public TransportTest {
 protected:
  void copy(const VirtioPciState& state) { other.add(kSlot, "copy", copied, kBar, true, &state); }
  std::shared_ptr<TestDevice> copied = std::make_shared<TestDevice>();
  PciHost other{bench.memory};
  BarDriver<PciHost> other_driver{other, kBar};
};

TEST_F(CopiedTransportTest, BeginsWithTheQueuesThatItsDriverSetUp) {
  bring_up();
  device->queues[1].state->next_available = 5;
  device->queues[1].state->next_used = 4;
  copy(function.state());
  ASSERT_TRUE(copied->active);
  EXPECT_EQ(copied->features_seen, kGood);
  ASSERT_EQ(copied->queues.size(), 2u);
  EXPECT_EQ(copied->queues[1].rings.used_ring, queue1.config().used_ring);
  EXPECT_EQ(copied->queues[1].state->next_available, 5);
  EXPECT_EQ(copied->queues[1].state->next_used, 4);
  EXPECT_EQ(other.events.take(), Strings{"activated copy"});
  ASSERT_EQ(other.fabric.doorbells.size(), 2u) << "its BAR is mapped";
  other_driver.set_status(0);
  other_driver.negotiate(kGood);
  other_driver.set_up(1, queue1.config());
  other_driver.start();
  EXPECT_EQ(copied->queues.at(0).state->next_available, 0) << "a new driver begins anew";
}

TEST_F(CopiedTransportTest, OfADriverThatIsStillSettingUpIsNotActive) {
  driver.negotiate(kGood);
  driver.set_up(0, queue0.config(), 1);
  copy(function.state());
  EXPECT_FALSE(copied->active);
  other_driver.start();
  EXPECT_TRUE(copied->active);
  EXPECT_EQ(copied->queues.at(0).rings.size, 16);
}

TEST_F(CopiedTransportTest, OfADeviceThatFailedWaitsForItsReset) {
  bring_up();
  device->transport().failed("broken ring");
  copy(function.state());
  EXPECT_FALSE(copied->active);
  EXPECT_EQ(other_driver.status(), 64 | 15);
  other_driver.set_status(0);
  EXPECT_EQ(other_driver.status(), 0);
}

TEST_F(CopiedTransportTest, OfADeviceThatIsBeingResetHasBeen) {
  bring_up();
  device->stuck = true;
  driver.set_status(0);
  ASSERT_NE(driver.status(), 0);
  copy(function.state());
  EXPECT_EQ(other_driver.status(), 0);
  EXPECT_FALSE(copied->active);
  device->answer();
}

TEST_F(CopiedTransportTest, RefusesWhatNoDriverCouldHaveSetUp) {
  bring_up();
  const auto refuses = [&](const auto& change) {
    VirtioPciState state = function.state();
    change(state);
    EXPECT_THROW(copy(state), Error);
  };
  refuses([](VirtioPciState& state) { state.msix.vectors.pop_back(); });
  refuses([](VirtioPciState& state) { state.common.driver_features = kFeature; });
  refuses([](VirtioPciState& state) {
    state.common.status = virtio_status::kDriverOk;
    state.common.driver_features = ~uint64_t{0};
  });
  refuses([](VirtioPciState& state) { state.device = {0xff}; });
  refuses([](VirtioPciState& state) { state.device = {0xa1, 0x61, 'x', 0x01}; });
  EXPECT_FALSE(copied->active);
}

TEST_F(TransportTest, ResetAndMoveFromManyThreads) {
  std::atomic<bool> done = false;
  std::thread mover([&] {
    for (uint32_t i = 0; !done; ++i) {
      bench.config_write<uint32_t>(kSlot, 0x10, static_cast<uint32_t>(kBar));
      bench.config_write<uint32_t>(kSlot, 0x14, i % 2 == 0 ? 0 : 0x40);
    }
  });
  std::thread window([&] {
    const uint32_t at = bench.capability(kSlot, 9, 4);
    bench.config_write<uint32_t>(kSlot, at + 8, 0x14);
    bench.config_write<uint32_t>(kSlot, at + 12, 1);
    while (!done) {
      bench.config_write<uint8_t>(kSlot, at + 16, 0);
      device->transport().config_changed();
    }
  });
  for (int i = 0; i < 500; ++i) bring_up();
  done = true;
  mover.join();
  window.join();
  bench.config_write<uint32_t>(kSlot, 0x14, 0);
  bring_up();
  EXPECT_EQ(driver.status(), 15);
}

}  // namespace
}  // namespace tsvmm::virtio_test
