#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <mutex>
#include <optional>
#include <vector>

#include "core/error.h"
#include "device_test_support.h"
#include "hypervisor/kvm/kvm_vm.h"
#include "hypervisor/kvm/x86_64/host_processor.h"
#include "hypervisor/x86_64/access_handler.h"
#include "hypervisor/x86_64/vcpu_setup.h"
#include "machine/vcpu_group.h"

/// A vCPU that comes, is started, leaves and comes again, on the host's KVM.
namespace tsvmm {
namespace {

constexpr GuestAddress kGdt = 0x500;
constexpr GuestAddress kCode = 0x1000;
constexpr GuestAddress kStartCode = 0x2000;
constexpr GuestAddress kFlag = 0x3000;

/// vCPU 0, in protected mode: starts APIC id 1 at kStartCode whenever kFlag is set.
constexpr std::array<uint8_t, 48> kStarter{
    0x80, 0x3d, 0x00, 0x30, 0x00, 0x00, 0x00,                    // cmpb $0, kFlag
    0x74, 0xf7,                                                  // je .
    0xc6, 0x05, 0x00, 0x30, 0x00, 0x00, 0x00,                    // movb $0, kFlag
    0xc7, 0x05, 0x10, 0x03, 0xe0, 0xfe, 0x00, 0x00, 0x00, 0x01,  // APIC id 1
    0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x00, 0x45, 0x00, 0x00,  // INIT
    0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x02, 0x46, 0x00, 0x00,  // SIPI, vector 2
    0xeb, 0xd0,
};
/// vCPU 1, in real mode: tells of its APIC's mode, which an INIT leaves as it is, and changes it.
constexpr std::array<uint8_t, 33> kStarted{
    0x66, 0xb9, 0x1b, 0x00, 0x00, 0x00,  // mov $0x1b, %ecx (IA32_APIC_BASE)
    0x0f, 0x32,                          // rdmsr
    0x66, 0x89, 0xc6,                    // mov %eax, %esi
    0x66, 0xc1, 0xe8, 0x08,              // shr $8, %eax
    0xe6, 0x80,                          // out %al, $0x80
    0x66, 0x89, 0xf0,                    // mov %esi, %eax
    0x66, 0x0d, 0x00, 0x04, 0x00, 0x00,  // or $0x400, %eax (x2APIC)
    0x0f, 0x30,                          // wrmsr
    0xf4,                                // hlt
    0xeb, 0xfd,                          // jmp to it
};
constexpr uint8_t kEnabled = 1U << 3;  // bit 11

class KvmVcpuResetTest : public testing::Test, public AccessHandler {
 protected:
  void port_read(uint16_t, std::span<uint8_t>) override {}
  void port_write(uint16_t, std::span<const uint8_t> data) override {
    const std::lock_guard lock(mutex_);
    told_.push_back(data[0]);
  }
  void mmio_read(GuestAddress, std::span<uint8_t>) override {}
  void mmio_write(GuestAddress, std::span<const uint8_t>) override {}
  void end_of_interrupt(uint8_t) override {}

  void SetUp() override {
    std::optional<EmptyVm> empty;
    try {
      empty.emplace();
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
    cpuid_ = read_supported_cpuid(empty->kvm);
    vm_.emplace(std::move(*empty), memory_, 1);
    constexpr std::array<uint64_t, 5> gdt{0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff,
                                          0x00008b0000000067};
    ASSERT_TRUE(memory_.write(kGdt, gdt));
    ASSERT_TRUE(memory_.write(kCode, kStarter));
    ASSERT_TRUE(memory_.write(kStartCode, kStarted));
    group_.emplace(*vm_, [this](unsigned index, const VcpuExit& exit) {
      if (exit.reason == VcpuExit::Reason::kStarted && index == 1) {
        ++starts_;
        return;
      }
      ADD_FAILURE() << "vCPU " << index << " came back: " << exit.detail;
      group_->stop();
    });
    group_->create({vcpu(0)});
    group_->enter(std::make_shared<const VcpuEntry>(
        VcpuEntry{.rip = kCode, .rsp = 0x8000, .gdt_address = kGdt, .gdt_limit = 5 * 8 - 1}));
    EXPECT_EQ(group_->start(*this, soon()), std::nullopt);
  }
  [[nodiscard]] VcpuSpec vcpu(uint32_t id) const {
    return {.id = id,
            .affinity = {},
            .setup = std::make_shared<const VcpuSetup>(VcpuSetup{.cpuid = cpuid_, .msrs = {}})};
  }
  void add() { group_->add({{.index = 1, .vcpu = vcpu(1)}}, soon()); }
  void set_flag() { ASSERT_TRUE(memory_.write(kFlag, uint8_t{1})); }
  std::vector<uint8_t> told() {
    const std::lock_guard lock(mutex_);
    return told_;
  }
  static Deadline soon() { return Deadline::after(std::chrono::seconds(20)); }

  GuestMemory memory_{{{0, 1 << 20}}, {}};
  std::vector<uint8_t> cpuid_;
  std::mutex mutex_;
  std::vector<uint8_t> told_;
  std::atomic<unsigned> starts_ = 0;
  std::optional<KvmVm> vm_;
  std::optional<VcpuGroup> group_;
};

TEST_F(KvmVcpuResetTest, EachTimeItIsANewOneThatTheGuestStarts) {
  for (size_t round = 1; round <= 5; ++round) {
    add();
    EXPECT_EQ(told().size(), round - 1) << "it waits";
    set_flag();
    EXPECT_TRUE(eventually([&] { return told().size() == round; }));
    EXPECT_EQ(told().back(), kEnabled) << "xAPIC mode";
    EXPECT_EQ(starts_, round);
    group_->remove(1);
    // What the guest sends one that is gone starts neither it nor the one that comes.
    set_flag();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_EQ(told().size(), round);
  }
}

}  // namespace
}  // namespace tsvmm
