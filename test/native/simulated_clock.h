#pragma once

#include <cstdint>

namespace tsvmm {

constexpr uint64_t kLookNs = 100;

/// Time that passes when a test says so, and a little with each look at it.
inline uint64_t now_ns = 0;
inline uint64_t test_clock() noexcept { return now_ns += kLookNs; }

}  // namespace tsvmm
