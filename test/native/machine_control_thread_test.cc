#include <dirent.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <future>
#include <vector>

#include "machine/control_thread.h"

namespace tsvmm {
namespace {

size_t thread_count() {
  size_t count = 0;
  DIR* tasks = ::opendir("/proc/self/task");
  while (const dirent* entry = ::readdir(tasks)) count += entry->d_name[0] != '.' ? 1 : 0;
  ::closedir(tasks);
  return count;
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
  const size_t before = thread_count();
  ControlThread control;
  run_and_wait(control);
  for (int i = 0; i < 200 && thread_count() > before; ++i) ::usleep(1000);
  EXPECT_EQ(thread_count(), before);
  run_and_wait(control);  // and a new one when there is work again
}

TEST(ControlThread, LingersForTheNextOperationAndEndsWithItsOwner) {
  const size_t before = thread_count();
  auto control = std::make_unique<ControlThread>();
  run_and_wait(*control, true);
  ::usleep(5000);
  EXPECT_EQ(thread_count(), before + 1);
  control.reset();
  EXPECT_EQ(thread_count(), before);
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
  EXPECT_EQ(destroyed.get_future().wait_for(std::chrono::seconds(5)), std::future_status::ready);
}

}  // namespace
}  // namespace tsvmm
