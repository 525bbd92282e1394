#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <future>
#include <vector>

#include "core/error.h"
#include "device_test_support.h"
#include "machine/control_thread.h"
#include "threads_named.h"

namespace tsvmm {
namespace {

/// Of the control threads only: other tests' threads, and the kernel's, may still be on their way
/// out.
bool becomes(size_t count) {
  return eventually([count] { return threads_named("machine-control") == count; });
}

void run_and_wait(ControlThread& control, bool linger = false) {
  std::promise<void> done;
  control.submit([&done] { done.set_value(); }, linger);
  done.get_future().wait();
}

TEST(ControlThread, RunsOperationsInOrder) {
  std::vector<int> order;
  {
    ControlThread control;
    for (int i = 0; i < 100; ++i) control.submit([&order, i] { order.push_back(i); });
  }
  ASSERT_EQ(order.size(), 100U);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[i], i);
}

TEST(ControlThread, LeavesNoThreadBehindWhenIdle) {
  ControlThread control;
  run_and_wait(control);
  EXPECT_TRUE(becomes(0));
  run_and_wait(control);  // and a new one when there is work again
}

TEST(ControlThread, LingersForTheNextOperationAndEndsWithItsOwner) {
  ASSERT_TRUE(becomes(0));
  auto control = std::make_unique<ControlThread>();
  run_and_wait(*control, true);
  ::usleep(5000);
  EXPECT_TRUE(becomes(1));
  control.reset();
  EXPECT_TRUE(becomes(0));
}

TEST(ControlThread, AnOperationMayHoldTheLastReferenceToItsOwner) {
  std::promise<void> destroyed;
  struct Owner {
    explicit Owner(std::promise<void>& destroyed) : destroyed_(destroyed) {}
    ~Owner() { destroyed_.set_value(); }
    std::promise<void>& destroyed_;
    ControlThread control;
  };
  auto owner = std::make_shared<Owner>(destroyed);
  std::promise<void> released;
  ControlThread& control = owner->control;
  control.submit([owner, future = released.get_future().share()] { future.wait(); });
  owner.reset();
  released.set_value();
  EXPECT_EQ(destroyed.get_future().wait_for(kTestTimeout), std::future_status::ready);
}

/// In a process of its own, which may make no more threads.
int submit_without_threads() {
  if (::setgid(65534) != 0 || ::setuid(65534) != 0) return 0;
  int failed = 0;
  int ran = 0;
  {
    ControlThread control;
    rlimit none{};
    ::getrlimit(RLIMIT_NPROC, &none);
    const rlimit before = none;
    none.rlim_cur = 0;
    ::setrlimit(RLIMIT_NPROC, &none);
    try {
      control.submit([&] { ++failed; });
      return 1;
    } catch (const Error&) {
    }
    ::setrlimit(RLIMIT_NPROC, &before);
    control.submit([&] { ++ran; });
  }
  return failed == 0 && ran == 1 ? 0 : 2;
}

TEST(ControlThread, WhatIsReportedAsFailedNeverRuns) {
  if (::getuid() != 0) GTEST_SKIP() << "only root can become a user without threads";
  EXPECT_EXIT(std::_Exit(submit_without_threads()), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace tsvmm
