#include <gtest/gtest.h>

#include "core/error.h"
#include "hypervisor/kvm/empty_vm.h"
#include "hypervisor/kvm/irq_router.h"
#include "hypervisor/kvm/kvm_arch.h"

namespace tsvmm {
namespace {

constexpr unsigned kWired = 24;
constexpr unsigned kLimit = kWired + 3;
constexpr MsiMessage kMessage{.address = 0xfee00000, .data = 0x41};

TEST(IrqRouter, HandsOutWhatIsNotWiredAndNoMoreThanThereIs) {
  IrqRouter router(-1, kWired, kLimit);
  for (uint32_t gsi = kWired; gsi < kLimit; ++gsi) EXPECT_EQ(router.allocate(), gsi);
  EXPECT_THROW((void)router.allocate(), Error);
  router.release(kWired + 1);
  EXPECT_EQ(router.allocate(), kWired + 1);
}

TEST(IrqRouter, ARouteThatIsRefusedIsNone) {
  IrqRouter router(-1, kWired, kLimit);  // no VM: each table is refused
  const uint32_t gsi = router.allocate();
  EXPECT_FALSE(router.set(gsi, kMessage));
  EXPECT_FALSE(router.set(gsi, kMessage)) << "the same again is tried again";
}

TEST(IrqRouter, AVmAtItsEndIsToldNothing) {
  IrqRouter router(-1, kWired, kLimit);
  router.abandon();
  EXPECT_TRUE(router.abandoned());
  EXPECT_TRUE(router.set(router.allocate(), kMessage));
}

/// With KVM's own table.
class KvmLineTest : public testing::Test {
 protected:
  void SetUp() override {
    try {
      vm.emplace();
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
    kvm_arch::create_interrupt_controllers(vm->fd.get(), 0);
    router = std::make_shared<IrqRouter>(vm->fd.get(), kvm_arch::wired_interrupts(), kLimit);
  }
  std::unique_ptr<KvmInterrupt> line() {
    return std::make_unique<KvmInterrupt>(router, vm->fd.get(), router->allocate(), true);
  }

  std::optional<EmptyVm> vm;
  std::shared_ptr<IrqRouter> router;
};

TEST_F(KvmLineTest, GivesItsNumberBack) {
  for (unsigned i = 0; i < 3 * kLimit; ++i) {
    const auto made = line();
    EXPECT_TRUE(made->set_message(kMessage));
    made->trigger();
    made->clear();
  }
  EXPECT_EQ(router->allocate(), kvm_arch::wired_interrupts());
}

TEST_F(KvmLineTest, WhatIsSignalledReachesKvmOnlyWhileItIsConnected) {
  const auto made = line();
  ASSERT_TRUE(made->set_message(kMessage));
  const EventFd source;
  ASSERT_TRUE(made->connect(source));
  EXPECT_FALSE(made->connect(source)) << "it is connected already";
  source.signal();
  EXPECT_FALSE(source.signalled()) << "KVM has taken it";
  made->disconnect(source);
  source.signal();
  EXPECT_TRUE(source.signalled());
}

TEST_F(KvmLineTest, WiredLinesKeepTheirNumber) {
  const KvmInterrupt wired(router, vm->fd.get(), 4, false);
  EXPECT_EQ(router->allocate(), kvm_arch::wired_interrupts());
}

}  // namespace
}  // namespace tsvmm
