#pragma once

#include <atomic>

namespace tsvmm {

/// A member of a plain struct that several threads use, or a field in memory that the guest uses,
/// too: like std::atomic, but the struct can be copied.
template <typename T>
std::atomic_ref<T> shared(T& member) noexcept {
  return std::atomic_ref<T>(member);
}

/// Its value.
template <typename T>
T load_shared(const T& member) noexcept {
  // For loads alone: std::atomic_ref of what is const comes with C++26.
  return std::atomic_ref<T>(const_cast<T&>(member)).load();
}

}  // namespace tsvmm
