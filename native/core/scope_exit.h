#pragma once

#include <utility>

namespace tsvmm {

/// Runs `action`, which must not throw, at the end of the scope that it is declared in.
template <typename Action>
class [[nodiscard]] ScopeExit {
 public:
  explicit ScopeExit(Action action) : action_(std::move(action)) {}
  ~ScopeExit() { action_(); }
  ScopeExit(const ScopeExit&) = delete;
  ScopeExit& operator=(const ScopeExit&) = delete;

 private:
  const Action action_;
};

}  // namespace tsvmm
