#include "core/cpu_relax.h"

namespace tsvmm {

void cpu_relax() noexcept { __builtin_ia32_pause(); }

}  // namespace tsvmm
