#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <functional>
#include <mutex>
#include <thread>

#include "core/error.h"
#include "core/thread.h"
#include "device_test_support.h"
#include "hypervisor/kvm/kvm_vm.h"
#include "hypervisor/kvm/x86_64/host_processor.h"
#include "hypervisor/x86_64/access_handler.h"
#include "hypervisor/x86_64/vcpu_setup.h"

namespace tsvmm {
namespace {

constexpr GuestAddress kGdt = 0x500;
constexpr GuestAddress kCode = 0x1000;
constexpr GuestAddress kMmio = 0xd0000000;
constexpr uint16_t kPort = 0x80;

/// Remembers the guest's writes and answers its reads by one byte.
class Recorder final : public AccessHandler {
 public:
  void port_read(uint16_t, std::span<uint8_t> data) override { fill(data); }
  void port_write(uint16_t port, std::span<const uint8_t> data) override { note(port, data); }
  void mmio_read(GuestAddress, std::span<uint8_t> data) override { fill(data); }
  void mmio_write(GuestAddress address, std::span<const uint8_t> data) override {
    note(address, data);
  }
  void end_of_interrupt(uint8_t) override {}

  std::vector<std::pair<uint64_t, uint8_t>> writes() {
    const std::lock_guard lock(mutex_);
    return writes_;
  }

  std::atomic<uint8_t> answer = 0;

 private:
  void fill(std::span<uint8_t> data) const { std::ranges::fill(data, answer.load()); }
  void note(uint64_t address, std::span<const uint8_t> data) {
    const std::lock_guard lock(mutex_);
    writes_.emplace_back(address, data[0]);
  }

  std::mutex mutex_;
  std::vector<std::pair<uint64_t, uint8_t>> writes_;
};

/// A VM of the host's KVM with a few instructions, on one vCPU.
class KvmVmTest : public testing::Test {
 protected:
  void SetUp() override {
    std::optional<EmptyVm> empty;
    try {
      empty.emplace();
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
    cpuid = read_supported_cpuid(empty->kvm);
    vm.emplace(std::move(*empty), memory, 0);
    // Null, null, and flat segments of 4 GiB: code, data, a task's.
    constexpr std::array<uint64_t, 5> gdt{0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff,
                                          0x00008b0000000067};
    ASSERT_TRUE(memory.write(kGdt, gdt));
  }

  VcpuSetup setup() const {
    VcpuSetup made;
    made.cpuid = cpuid;
    return made;
  }
  /// Runs `code` until `until` holds, or its vCPU comes back by itself.
  VcpuExit run(const std::vector<uint8_t>& code, const std::function<bool()>& until) {
    EXPECT_TRUE(memory.write(kCode, std::span<const uint8_t>(code)));
    std::atomic<Vcpu*> made = nullptr;
    VcpuExit exit{};
    std::atomic<bool> over = false;
    std::thread thread = spawn_thread("vcpu0", [&] {
      const auto vcpu = vm->create_vcpu(0);
      vcpu->set_up(setup());
      vcpu->set_entry({.rip = kCode, .rsp = 0x8000, .gdt_address = kGdt, .gdt_limit = 5 * 8 - 1});
      made = vcpu.get();
      exit = vcpu->run(accesses);
      statistics = vcpu->statistics();
      over = true;
      EXPECT_TRUE(eventually([&] { return made.load() == nullptr; }));
    });
    EXPECT_TRUE(eventually([&] { return made.load() != nullptr && (over || until()); }));
    if (!over) made.load()->kick();
    EXPECT_TRUE(eventually([&] { return over.load(); }));
    made = nullptr;
    thread.join();
    return exit;
  }

  GuestMemory memory{{{0, 1 << 20}}, {}};
  Recorder accesses;
  std::vector<uint8_t> cpuid;
  VcpuStatistics statistics;
  std::optional<KvmVm> vm;
};

constexpr std::initializer_list<uint8_t> kPortAndMmio{
    0xb0, 0x42,                         // mov $0x42, %al
    0xe6, kPort,                        // out %al, $kPort
    0xe4, kPort,                        // in $kPort, %al
    0xa2, 0x00,      0x00, 0x00, 0xd0,  // mov %al, kMmio
    0xa0, 0x04,      0x00, 0x00, 0xd0,  // mov kMmio + 4, %al
    0xe6, kPort + 1,                    // out %al, $kPort + 1
    0xeb, 0xfe,                         // jmp .
};

TEST_F(KvmVmTest, ServesPortsAndMemoryMappedAccessesUntilItIsKicked) {
  accesses.answer = 0x5a;
  const VcpuExit exit = run(kPortAndMmio, [&] { return accesses.writes().size() == 3; });
  EXPECT_EQ(exit.reason, VcpuExit::Reason::kKicked);
  const std::vector<std::pair<uint64_t, uint8_t>> expected{
      {kPort, 0x42}, {kMmio, 0x5a}, {kPort + 1, 0x5a}};
  EXPECT_EQ(accesses.writes(), expected);
  EXPECT_NE(statistics.thread, 0);
  uint64_t ports = 0;
  for (const auto& [name, value] : statistics.exits) ports += name == "port" ? value : 0;
  EXPECT_EQ(ports, 3U);
}

TEST_F(KvmVmTest, AGuestWithoutInterruptTableEndsInATripleFault) {
  const VcpuExit exit = run({0x0f, 0x0b} /* ud2 */, [] { return false; });
  EXPECT_EQ(exit.reason, VcpuExit::Reason::kTripleFault);
  EXPECT_NE(exit.detail.find("rip=0x"), std::string::npos) << exit.detail;
}

/// From now on the calling thread can map no descriptor: ENOMEM.
void refuse_mappings_of_descriptors() {
  constexpr auto kNumber = static_cast<uint32_t>(offsetof(seccomp_data, nr));
  constexpr auto kDescriptor = static_cast<uint32_t>(offsetof(seccomp_data, args[4]));
  std::array<sock_filter, 6> filter{{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kNumber),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 2),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kDescriptor),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, UINT32_MAX, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOMEM),
  }};
  const sock_fprog program{.len = filter.size(), .filter = filter.data()};
  ASSERT_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  ASSERT_EQ(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

/// From now on the calling thread can open nothing: EMFILE.
void refuse_to_open() {
  constexpr auto kNumber = static_cast<uint32_t>(offsetof(seccomp_data, nr));
  std::array<sock_filter, 4> filter{{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kNumber),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EMFILE),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  }};
  const sock_fprog program{.len = filter.size(), .filter = filter.data()};
  ASSERT_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  ASSERT_EQ(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

/// A process that serves the API may wait for hours between the two.
TEST_F(KvmVmTest, AVmThatCouldNotBeMadeBeforehandIsMadeWhenItIsNeeded) {
  PrecreatedVm precreated;
  std::thread([&] {
    refuse_to_open();
    precreated.make();
  }).join();
  EXPECT_TRUE(precreated.take().fd.valid());
}

/// KVM creates a vCPU once only.
TEST_F(KvmVmTest, AVcpuThatCouldNotBeMadeIsMadeAtTheNextAttempt) {
  std::string code;
  spawn_thread("vcpu0", [&] {
    refuse_mappings_of_descriptors();
    try {
      (void)vm->create_vcpu(0);
    } catch (const Error& error) {
      code = error.code();
    }
  }).join();
  EXPECT_EQ(code, "ENOMEM");
  const VcpuExit exit = run(kPortAndMmio, [&] { return accesses.writes().size() == 3; });
  EXPECT_EQ(exit.reason, VcpuExit::Reason::kKicked);
}

TEST_F(KvmVmTest, AnMsrThatKvmDoesNotHaveIsNamed) {
  std::string code;
  std::string message;
  spawn_thread("vcpu0", [&] {
    const auto vcpu = vm->create_vcpu(0);
    VcpuSetup wrong = setup();
    wrong.msrs.resize(16);
    const uint32_t index = 0xdeadbeef;
    std::memcpy(wrong.msrs.data(), &index, sizeof index);
    try {
      vcpu->set_up(wrong);
    } catch (const Error& error) {
      code = error.code();
      message = error.what();
    }
  }).join();
  EXPECT_EQ(code, "ERR_TSVMM_MSR");
  EXPECT_EQ(message, "KVM refuses MSR 0xdeadbeef");
}

TEST_F(KvmVmTest, MemoryThatGoesLeavesItsSlotToTheNext) {
  for (int i = 0; i < 3; ++i) {
    const MemoryRegion region{.address = 0x10000000,
                              .size = 1 << 20,
                              .fd = -1,
                              .offset = 0,
                              .host = memory.regions()[0].host,
                              .page_size = 4096};
    vm->region_added(region);
    EXPECT_THROW(vm->region_added(region), Error) << "KVM refuses what overlaps";
    vm->region_removed(region);
  }
}

TEST_F(KvmVmTest, ADoorbellRingsWithoutAnExit) {
  const EventFd event;
  const auto doorbell = vm->register_doorbell(kMmio, event);
  ASSERT_NE(doorbell, nullptr);
  EXPECT_EQ(vm->register_doorbell(kMmio, event), nullptr) << "there is one already";
  (void)run(kPortAndMmio, [&] { return accesses.writes().size() == 2; });
  EXPECT_EQ(event.consume(), 1U);
  const std::vector<std::pair<uint64_t, uint8_t>> ports{{kPort, 0x42}, {kPort + 1, 0}};
  EXPECT_EQ(accesses.writes(), ports) << "the write did not come here";
}

}  // namespace
}  // namespace tsvmm
