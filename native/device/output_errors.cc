#include "device/output_errors.h"

namespace tsvmm {

void OutputErrors::report(File file, int error) noexcept {
  count_.fetch_add(1, std::memory_order_relaxed);
  {
    const std::lock_guard lock(mutex_);
    if (!told_.emplace(file, error).second) return;
  }
  tell_(file, error);
}

}  // namespace tsvmm
