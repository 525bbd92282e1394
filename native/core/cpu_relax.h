#pragma once

namespace tsvmm {

/// For a loop that waits for another processor: leaves this one's shared resources to others for a
/// moment. An architecture's folder has it.
void cpu_relax() noexcept;

}  // namespace tsvmm
