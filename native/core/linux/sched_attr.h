#pragma once

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <optional>

namespace tsvmm {

/// struct sched_attr of Linux's UAPI (linux/sched/types.h) in its first version: that header and
/// glibc's cannot be included together, and glibc has no names for its calls before 2.41.
struct SchedAttributes {
  uint32_t size;
  uint32_t policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime;  ///< of SCHED_OTHER and SCHED_BATCH: the slice, 0 before Linux 6.12
  uint64_t deadline;
  uint64_t period;
};
static_assert(sizeof(SchedAttributes) == 48);

/// Of the calling thread.
inline std::optional<SchedAttributes> sched_attributes() noexcept {
  SchedAttributes found{};
  if (::syscall(SYS_sched_getattr, 0, &found, sizeof found, 0) != 0) return std::nullopt;
  return found;
}

}  // namespace tsvmm
