#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <optional>
#include <vector>

#include "core/error.h"
#include "core/unique_fd.h"
#include "hypervisor/kvm/x86_64/kvm_vcpu_debug.h"
#include "hypervisor/kvm/x86_64/kvm_x86_abi.h"

namespace tsvmm {
namespace {

constexpr uint32_t kDb = 1;
constexpr uint32_t kBp = 3;
/// Those that are always set (SDM vol. 3 §18.2.3).
constexpr uint64_t kDr6Fixed = 0xffff0ff0;
constexpr uint64_t kDr6Step = 1 << 14;

/// A vCPU of the host's KVM that never runs, and the exits that a test makes up for it.
class KvmVcpuDebugTest : public testing::Test {
 protected:
  void SetUp() override {
    kvm.reset(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
    if (!kvm.valid()) GTEST_SKIP() << "there is no KVM: errno " << errno;
    vm.reset(::ioctl(kvm.get(), KVM_CREATE_VM, 0));
    ASSERT_TRUE(vm.valid());
    ASSERT_EQ(::ioctl(vm.get(), KVM_CREATE_IRQCHIP, 0), 0);
    vcpu.reset(::ioctl(vm.get(), KVM_CREATE_VCPU, 0));
    ASSERT_TRUE(vcpu.valid());
    debug.emplace(kvm.get(), vcpu.get(), run);
    debug->set_traps({.hardware = {{.address = 0x1000}}, .software = {0x2000}}, false);
  }
  void exits(uint32_t exception, uint64_t pc, uint64_t dr6) {
    run.exit_reason = KVM_EXIT_DEBUG;
    run.debug.arch = {};
    run.debug.arch.exception = exception;
    run.debug.arch.pc = pc;
    run.debug.arch.dr6 = dr6;
  }
  /// Gives the vCPU all that the host has: KVM keeps no state of what the guest cannot use.
  void tell_of_host_cpu() {
    KvmEntryList<kvm_cpuid_entry2> cpuid(256);
    cpuid.header().count = 256;
    ASSERT_EQ(::ioctl(kvm.get(), kKvmGetSupportedCpuid, cpuid.request()), 0);
    ASSERT_EQ(::ioctl(vcpu.get(), kKvmSetCpuid2, cpuid.request()), 0);
  }
  kvm_debugregs registers() const {
    kvm_debugregs now{};
    EXPECT_EQ(::ioctl(vcpu.get(), KVM_GET_DEBUGREGS, &now), 0);
    return now;
  }
  void set_dr6(uint64_t value) const {
    kvm_debugregs changed = registers();
    changed.dr6 = value;
    ASSERT_EQ(::ioctl(vcpu.get(), KVM_SET_DEBUGREGS, &changed), 0);
  }
  /// The exception, but for those of an instruction, that the guest's next run begins with; -1 if
  /// there is none.
  int given() const {
    kvm_vcpu_events events{};
    EXPECT_EQ(::ioctl(vcpu.get(), KVM_GET_VCPU_EVENTS, &events), 0);
    const bool any = events.exception.injected != 0 || events.exception.pending != 0;
    return any ? events.exception.nr : -1;
  }

  UniqueFd kvm;
  UniqueFd vm;
  UniqueFd vcpu;
  kvm_run run{};
  std::optional<KvmVcpuDebug> debug;
};

TEST_F(KvmVcpuDebugTest, TheDebuggersOwnIsNotGivenToTheGuest) {
  exits(kDb, 0x1000, kDr6Fixed | 1);
  ASSERT_TRUE(debug->own_stop());
  EXPECT_EQ(debug->own_stop()->cause, DebugStop::Cause::kHardwareBreakpoint);
  exits(kBp, 0x2000, 0);
  ASSERT_TRUE(debug->own_stop());
  EXPECT_EQ(debug->own_stop()->cause, DebugStop::Cause::kBreakpoint);
  EXPECT_EQ(given(), -1);
}

TEST_F(KvmVcpuDebugTest, VectorRegistersThatTheGuestHasNotUsedCanBeWritten) {
  constexpr size_t kXmm3 = 160 + 3 * 16;
  constexpr size_t kUpperYmm3 = 576 + 3 * 16;
  std::vector<uint8_t> bytes = debug->registers(RegisterSet::kVector);
  ASSERT_EQ(bytes.size(), 832U);
  EXPECT_EQ(bytes[0] | bytes[1] << 8, 0x37f);  // FCW (SDM vol. 3 §10.1.1)
  bytes[kXmm3 + 15] = 0xaa;
  debug->set_registers(RegisterSet::kVector, bytes);
  EXPECT_EQ(debug->registers(RegisterSet::kVector)[kXmm3 + 15], 0xaa);
  if (!__builtin_cpu_supports("avx")) GTEST_SKIP() << "this processor has no AVX";
  tell_of_host_cpu();
  bytes[kUpperYmm3] = 0xbb;
  debug->set_registers(RegisterSet::kVector, bytes);
  bytes = debug->registers(RegisterSet::kVector);
  EXPECT_EQ(bytes[kUpperYmm3], 0xbb);
  EXPECT_EQ(bytes[kXmm3 + 15], 0xaa);
  bytes.pop_back();
  EXPECT_THROW(debug->set_registers(RegisterSet::kVector, bytes), Error);
}

TEST_F(KvmVcpuDebugTest, AGuestThatStepsItselfIsToldSoInDr6) {
  set_dr6(kDr6Fixed | 0b1010);
  exits(kDb, 0x3000, kDr6Fixed | kDr6Step);
  ASSERT_FALSE(debug->own_stop());
  EXPECT_EQ(debug->give_to_guest(), 0);
  EXPECT_EQ(given(), static_cast<int>(kDb));
  EXPECT_EQ(registers().dr6, kDr6Fixed | kDr6Step);
}

TEST_F(KvmVcpuDebugTest, WhatDr6ToldBeforeStaysUntilTheGuestClearsIt) {
  set_dr6(kDr6Fixed | kDr6Step);
  exits(kDb, 0x3000, kDr6Fixed | 0b0100);
  ASSERT_FALSE(debug->own_stop());
  EXPECT_EQ(debug->give_to_guest(), 0);
  EXPECT_EQ(registers().dr6, kDr6Fixed | kDr6Step | 0b0100);
}

TEST_F(KvmVcpuDebugTest, ABreakpointInstructionOfTheGuestsLeavesDr6Alone) {
  set_dr6(kDr6Fixed | kDr6Step);
  exits(kBp, 0x3000, 0);
  ASSERT_FALSE(debug->own_stop());
  EXPECT_EQ(debug->give_to_guest(), 0);
  EXPECT_EQ(registers().dr6, kDr6Fixed | kDr6Step);
}

TEST_F(KvmVcpuDebugTest, AnExceptionThatCannotBeGivenIsAnError) {
  // KVM does not show that it has this one (KVM_GET_VCPU_EVENTS), but takes no other.
  exits(kBp, 0x3000, 0);
  EXPECT_EQ(debug->give_to_guest(), 0);
  exits(kDb, 0x3000, kDr6Fixed | kDr6Step);
  EXPECT_EQ(debug->give_to_guest(), EBUSY);
}

}  // namespace
}  // namespace tsvmm
