#include "core/linux/sched_attr.h"
#include "core/thread.h"

namespace tsvmm {
namespace {

/// The shortest slice that Linux accepts, in nanoseconds. A thread that wakes preempts one with a
/// longer slice, but waits for the rest of one of equal length: 1.4 to 3 ms by default.
constexpr uint64_t kSlice = 100'000;

}  // namespace

void prefer_short_slices() noexcept {
  std::optional<SchedAttributes> attributes = sched_attributes();
  if (!attributes) return;
  const auto policy = static_cast<int>(attributes->policy);
  if (policy != SCHED_OTHER && policy != SCHED_BATCH) return;
  attributes->runtime = kSlice;
  // Best effort: Linux before 6.12 has no slices per thread, and a sandbox may refuse the call.
  (void)::syscall(SYS_sched_setattr, 0, &*attributes, 0);
}

}  // namespace tsvmm
