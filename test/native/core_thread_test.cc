#include <gtest/gtest.h>
#include <sched.h>

#include <vector>

#include "core/error.h"
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
