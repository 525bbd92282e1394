#include "machine/event_gate.h"

#include <utility>

namespace tsvmm {

void EventGate::report(MachineEvent event) noexcept {
  if (event.ends_run()) {
    {
      const std::lock_guard lock(mutex_);
      if (std::exchange(run_ended_, true)) return;
    }
    if (stop_) stop_();
  }
  const std::lock_guard lock(mutex_);
  if (sink_ != nullptr) sink_->emit(std::move(event));
}

void EventGate::end_run() noexcept {
  const std::lock_guard lock(mutex_);
  run_ended_ = true;
}

void EventGate::close() noexcept {
  const std::lock_guard lock(mutex_);
  run_ended_ = true;
  sink_ = nullptr;
}

}  // namespace tsvmm
