#include <atomic>
#include <thread>

#include "disk_test_support.h"
#include "machine_kvm_guest.h"
#include "table_guest.h"

/// Machines that are paused, changed, asked and ended from several threads while their guests are
/// busy. The thread sanitizer is what these tests are for.
namespace tsvmm::machine_test {
namespace {

using Type = MachineEvent::Type;
using disk_test::TempImage;
using namespace virtio_test;

/// Whatever a command may answer that others get in the way of.
constexpr std::array<std::string_view, 5> kInTheWay{"", "EBUSY", "EINVAL", "ERR_TSVMM_NO_MACHINE",
                                                    "ECANCELED"};

class MachineLoadTest : public MachineTest {
 protected:
  ~MachineLoadTest() override { finish(); }

  /// Calls `action` again and again, on a thread of its own.
  void again_and_again(std::function<void()> action) {
    threads.emplace_back([this, action = std::move(action)] {
      while (!over) {
        EXPECT_TRUE(std::ranges::count(kInTheWay, refusal(action))) << refusal(action);
        ++rounds;
        std::this_thread::yield();
      }
    });
  }
  void finish() {
    over = true;
    for (std::thread& thread : threads) thread.join();
    threads.clear();
  }
  /// All that may come from any thread.
  void ask_for_everything() {
    again_and_again([this] { (void)machine->counters(); });
    again_and_again([this] {
      (void)machine->vcpu_statistics();
      (void)machine->post_code();
      machine->press_power_button();
      std::array<uint8_t, 16> id{};
      machine->set_vm_generation(id);
      std::array<uint8_t, 64> bytes{};
      (void)machine->debug_read(0x1000, bytes);
    });
  }
  /// Pauses and resumes, as the one thread that may.
  void pause_and_resume(int times) {
    for (int i = 0; i < times; ++i) {
      machine->pause();
      machine->resume();
      if (i % 4 == 0) {
        machine->debug_stop();
        machine->debug_resume({VcpuGroup::DebugOrder::kRun, VcpuGroup::DebugOrder::kRun}, {});
      }
    }
  }

  std::vector<std::thread> threads;
  std::atomic<bool> over = false;
  std::atomic<int> rounds = 0;

 private:
  /// code_of() keeps the message for one thread.
  static std::string refusal(const std::function<void()>& action) {
    try {
      action();
      return "";
    } catch (const Error& error) {
      return error.code();
    }
  }
};

constexpr GuestAddress kRings = 0x10000;
constexpr unsigned kSlot = 1;

/// A guest that writes to its disk, on vCPUs without a hypervisor.
class DiskLoadTest : public MachineLoadTest {
 protected:
  ~DiskLoadTest() override {
    finish();
    machine.reset();
  }
  void boot() {
    build(2);
    BootSpec boot = boot_spec();
    boot.pci.functions.push_back({.id = "_disk1",
                                  .place = {0, kSlot},
                                  .bar0 = bar_of(kSlot),
                                  .device = disk_on(file.fd(), kQueueSize)});
    machine->boot(std::move(boot));
    guest.begin(0, [this](AccessHandler& devices) { activate(devices); });
  }
  void activate(AccessHandler& devices) {
    DriverQueue queue(*memory, kRings, kQueueSize);
    queue.put(kHeader, virtio_block::RequestHeader{virtio_block::kRequestOut, 0, 0});
    VcpuDriver driver(devices, bar_of(kSlot));
    driver->negotiate(kAllRingFeatures | virtio_block::kFeatureFlush);
    driver->set_up(0, queue.config());
    driver->start();
    write_some(queue, devices, 0);
  }
  /// One request at a time, with a look in between at whether the vCPU is to stop.
  void write_some(DriverQueue queue, AccessHandler& devices, uint16_t begun) {
    served = queue.used_index();
    if (served == begun) {
      queue.add({{kHeader, 16}, {kData, 512}, {kStatus, 1, kWrite}});
      VcpuDriver driver(devices, bar_of(kSlot));
      driver.mmio_write<uint16_t>(bar_of(kSlot) + virtio_pci::kNotifyOffset, 0);
      ++begun;
    }
    guest.begin(0, [this, queue, begun](AccessHandler& again) { write_some(queue, again, begun); });
  }

  TempImage file{1 << 20};
  std::atomic<uint16_t> served = 0;
};

TEST_F(DiskLoadTest, IsPausedResizedAndAskedMeanwhile) {
  boot();
  ASSERT_TRUE(eventually([&] { return served > 0; }));
  ask_for_everything();
  for (uint64_t sectors = 2048; sectors < 2058; ++sectors) {
    pause_and_resume(4);
    resize_disk("_disk1", sectors * 512);
  }
  const uint16_t before = served;
  EXPECT_TRUE(eventually([&] { return served != before; })) << "it goes on";
  EXPECT_GT(rounds, 0);
}

TEST_F(DiskLoadTest, EndsMeanwhile) {
  for (int i = 0; i < 10; ++i) {
    boot();
    over = false;
    ask_for_everything();
    ASSERT_TRUE(eventually([&] { return served > 0; }));
    if (i % 2 == 0) machine->pause();
    if (i % 3 == 0) {
      guest.begin(1, [](AccessHandler& devices) {
        const std::array<uint8_t, 1> reset{0xfe};
        devices.port_write(0x64, reset);
      });
    }
    machine->cancel();
    machine->destroy();
    finish();
    guest.forget();
    served = 0;
  }
}

/// The host's KVM, with a guest that is nothing but accesses: its first vCPU starts the second, and
/// both go round.
class KvmLoadTest : public MachineLoadTest {
 protected:
  static constexpr GuestAddress kSecondCode = 0x2000;

  void SetUp() override {
    try {
      cpuid = read_supported_cpuid(KvmDevice());
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
  }
  void boot() {
    BootSpec boot = boot_spec();
    boot.load.emplace_back(LoadBytes{kSecondCode, kSecond});
    start(std::move(boot), kFirst);
    EXPECT_TRUE(eventually([this] { return machine->post_code().count > 100; }));
  }
  /// With its first vCPU at `code`.
  void start(BootSpec boot, const std::vector<uint8_t>& code) {
    machine = std::make_unique<Machine>(with_cpuid(machine_spec(2), cpuid), sink);
    machine->build(kvm_maker(nullptr));
    put_flat_guest(boot, code);
    machine->boot(std::move(boot));
  }

  std::vector<uint8_t> cpuid;
  const std::vector<uint8_t> kFirst{
      // The local APIC's interrupt command: INIT, then SIPI to kSecondCode (SDM vol. 3 §11.6.1).
      0xc7, 0x05, 0x10, 0x03, 0xe0, 0xfe, 0x00, 0x00, 0x00, 0x01,  // movl $1 << 24, ICR + 16
      0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x00, 0x45, 0x00, 0x00,  // movl $0x4500, ICR
      0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x02, 0x46, 0x00, 0x00,  // movl $0x4602, ICR
      0xe6, 0x80,                                                  // 1: out %al, $0x80
      0xa1, 0x00, 0x00, 0x00, 0xd0,                                // mov ECAM, %eax
      0x66, 0xba, 0x08, 0x06,                                      // mov $0x608, %dx
      0xed,                                                        // in %dx, %eax
      0xb0, 0x0c, 0xe6, 0x70, 0xe4, 0x71,                          // register C of the clock
      0xeb, 0xec,                                                  // jmp 1b
  };
  const std::vector<uint8_t> kSecond{0xe6, 0x80, 0xe4, 0x71, 0xeb, 0xfa};
};

TEST_F(KvmLoadTest, IsPausedAndAskedMeanwhile) {
  boot();
  ask_for_everything();
  pause_and_resume(40);
  const uint64_t before = machine->post_code().count;
  EXPECT_TRUE(eventually([&] { return machine->post_code().count > before; })) << "it goes on";
  const auto statistics = machine->vcpu_statistics();
  ASSERT_EQ(statistics.size(), 2U);
  finish();
  machine->destroy();
  EXPECT_EQ(sink.of(Type::kVcpuError).size(), 0U);
}

TEST_F(KvmLoadTest, EndsMeanwhile) {
  for (int i = 0; i < 6; ++i) {
    boot();
    over = false;
    ask_for_everything();
    if (i % 2 == 0) machine->pause();
    machine->destroy();
    finish();
  }
  EXPECT_EQ(sink.of(Type::kVcpuError).size(), 0U);
}

/// A guest that brings its disk up and writes to it, with the host's KVM, and in the end asks for a
/// reset.
class KvmDiskLoadTest : public KvmLoadTest {
 protected:
  void boot(uint32_t rounds) {
    BootSpec boot = boot_spec();
    boot.pci.functions.push_back({.id = "_disk1",
                                  .place = {0, kSlot},
                                  .bar0 = bar_of(kSlot),
                                  .device = disk_on(file.fd(), kQueueSize)});
    boot.load.emplace_back(LoadBytes{kTable, set_up(rounds)});
    boot.load.emplace_back(LoadBytes{kQueue.descriptors, write_request()});
    boot.load.emplace_back(LoadBytes{kHeader, write_header()});
    start(std::move(boot), player(kQueue, bar_of(kSlot) + virtio_pci::kNotifyOffset, kEnd));
  }
  /// How many requests have been served.
  uint64_t served() {
    for (const auto& [id, counters] : machine->counters()) {
      const auto found = std::ranges::find(counters, std::string_view("write_ops"), &Counter::name);
      if (id == "_disk1" && found != counters.end()) return found->value;
    }
    return 0;
  }

  TempImage file{1 << 20};

 private:
  static constexpr Rings kQueue{kRings};
  static constexpr std::array<uint8_t, 7> kEnd{
      0xb0, 0xfe, 0xe6, 0x64,  // a reset by the i8042
      0xf4, 0xeb, 0xfd,        // 8: hlt; jmp 8b
  };

  /// What the guest is to write where, and how wide; then 0 and how often it goes round.
  static std::vector<uint8_t> set_up(uint32_t rounds) {
    struct Write {
      uint32_t offset;
      uint32_t value;
      uint32_t width;
    };
    constexpr std::array<Write, 16> kWrites{{{0x14, 0, 1},
                                             {0x14, 1, 1},
                                             {0x14, 3, 1},
                                             {0x08, 0, 4},
                                             {0x0c, virtio_block::kFeatureFlush, 4},
                                             {0x08, 1, 4},
                                             {0x0c, 1, 4},
                                             {0x14, 11, 1},
                                             {0x16, 0, 2},
                                             {0x18, kQueueSize, 2},
                                             {0x1a, kNoVector, 2},
                                             {0x20, kRings, 4},
                                             {0x28, kQueue.available(), 4},
                                             {0x30, kQueue.used(), 4},
                                             {0x1c, 1, 2},
                                             {0x14, 15, 1}}};
    WriteTable table;
    for (const auto& [offset, value, width] : kWrites) {
      table.add(bar_of(kSlot) + offset, value, width);
    }
    return table.finish(rounds);
  }
};

TEST_F(KvmDiskLoadTest, IsPausedResizedAndAskedMeanwhile) {
  boot(UINT32_MAX);
  ASSERT_TRUE(eventually([this] { return served() > 0; }));
  ask_for_everything();
  for (uint64_t sectors = 2048; sectors < 2053; ++sectors) {
    pause_and_resume(4);
    resize_disk("_disk1", sectors * 512);
  }
  const uint64_t before = served();
  EXPECT_TRUE(eventually([&] { return served() > before; })) << "it goes on";
  finish();
  machine->destroy();
  EXPECT_EQ(sink.of(Type::kDeviceFailed).size(), 0U);
  EXPECT_EQ(sink.of(Type::kVcpuError).size(), 0U);
}

TEST_F(KvmDiskLoadTest, IsResetMeanwhile) {
  for (size_t resets = 1; resets <= 5; ++resets) {
    boot(2000);
    over = false;
    ask_for_everything();
    EXPECT_TRUE(eventually([&] {
      machine->pause();
      machine->resume();
      return sink.of(Type::kReset).size() == resets;
    }));
    if (resets % 2 == 0) machine->pause();
    machine->destroy();
    finish();
  }
  EXPECT_EQ(sink.of(Type::kDeviceFailed).size(), 0U);
}

}  // namespace
}  // namespace tsvmm::machine_test
