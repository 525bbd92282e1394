#include <gtest/gtest.h>
#include <sched.h>

#include <optional>
#include <vector>

#include "core/error.h"
#include "core/event_loop.h"
#include "core/linux/sched_attr.h"
#include "core/thread.h"

namespace tsvmm {
namespace {

std::vector<int> usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  EXPECT_EQ(::sched_getaffinity(0, sizeof set, &set), 0);
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

void run(const std::function<void()>& body) { spawn_thread("test", body).join(); }

TEST(Thread, MadeByAPinnedOneRunsWhereThatBegan) {
  const std::vector<int> all = usable_cpus();
  if (all.size() < 2) GTEST_SKIP() << "this process may use one CPU only";
  std::vector<int> pinned;
  std::vector<int> child;
  std::vector<int> grandchild;
  run([&] {
    pin_current_thread({all.back()});
    pinned = usable_cpus();
    run([&] {
      child = usable_cpus();
      pin_current_thread({all.front()});
      run([&] { grandchild = usable_cpus(); });
    });
  });
  EXPECT_EQ(pinned, std::vector<int>{all.back()});
  EXPECT_EQ(child, all);
  EXPECT_EQ(grandchild, all);
}

TEST(Thread, InheritsWhatItsCreatorOutsideWasGiven) {
  const std::vector<int> all = usable_cpus();
  if (all.size() < 2) GTEST_SKIP() << "this process may use one CPU only";
  std::vector<int> child;
  std::thread([&] {
    pin_current_thread({all.back()});
    run([&] { child = usable_cpus(); });
  }).join();
  EXPECT_EQ(child, std::vector<int>{all.back()});
}

TEST(Thread, OfALoopHasShortSlicesAndTheNiceValueThatItHad) {
  const auto before = sched_attributes();
  ASSERT_TRUE(before);
  if (static_cast<int>(before->policy) != SCHED_OTHER) GTEST_SKIP() << "this process is not fair";
  if (before->runtime == 0) GTEST_SKIP() << "no slices of a thread's own before Linux 6.12";
  EventLoop loop("loop");
  std::optional<SchedAttributes> within;
  loop.call([&] { within = sched_attributes(); });
  ASSERT_TRUE(within);
  EXPECT_EQ(within->policy, before->policy);
  EXPECT_EQ(within->nice, before->nice);
  EXPECT_LT(within->runtime, before->runtime);
  EXPECT_EQ(sched_attributes()->runtime, before->runtime);
}

TEST(Thread, AtRealTimePriorityKeepsIt) {
  std::optional<SchedAttributes> within;
  run([&] {
    const sched_param priority{.sched_priority = 1};
    if (::sched_setscheduler(0, SCHED_RR, &priority) != 0) return;
    prefer_short_slices();
    within = sched_attributes();
  });
  if (!within) GTEST_SKIP() << "this process may not have real-time priority";
  EXPECT_EQ(static_cast<int>(within->policy), SCHED_RR);
  EXPECT_EQ(within->priority, 1U);
}

TEST(Error, OfNumbersThatOnlyTheKernelKnows) {
  const Error known = Error::from_errno("reading", ENOENT);
  EXPECT_EQ(known.code(), "ENOENT");
  EXPECT_STREQ(known.what(), "reading: No such file or directory");
  // ENOTSUPP, which NFS and others let out.
  const Error unknown = Error::from_errno("reading", 524);
  EXPECT_EQ(unknown.code(), "EUNKNOWN");
  EXPECT_STREQ(unknown.what(), "reading: unknown error 524");
}

}  // namespace
}  // namespace tsvmm
