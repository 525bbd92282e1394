#pragma once

#include <napi.h>

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <optional>

#include "addon/event_channel.h"
#include "core/error.h"
#include "hypervisor/kvm/empty_vm.h"
#include "machine/control_thread.h"
#include "machine/machine.h"

namespace tsvmm {

/// What a MachineHandle of JavaScript holds: a machine, its event stream, and the thread for its
/// slow operations.
class MachineHandle : public std::enable_shared_from_this<MachineHandle> {
 public:
  MachineHandle(MachineSpec spec, std::shared_ptr<EventChannel> channel);

  /// Begins building, in `spare` if there is one; a failure is kept for boot().
  void start_building(std::shared_ptr<SpareVm> spare);
  Napi::Promise boot(Napi::Env env, BootSpec spec);
  Napi::Promise pause(Napi::Env env);
  Napi::Promise resume(Napi::Env env);
  Napi::Promise resize_disk(Napi::Env env, std::string id, uint64_t bytes);
  Napi::Promise debug_stop(Napi::Env env);
  /// What is in progress is called off, and fails as soon as it can.
  Napi::Promise destroy(Napi::Env env, std::chrono::milliseconds timeout);
  /// Whether the machine keeps the event loop alive; it does at first.
  void keep_alive(Napi::Env env, bool alive) noexcept { channel_->keep_alive(env, alive); }
  /// JavaScript thread, when the handle was collected: nobody can call destroy() any more.
  void abandon() noexcept;
  /// JavaScript thread, when its environment ends: like destroy(), but nothing reaches JavaScript
  /// any more and no promise is settled. The future is ready once the machine is gone.
  std::future<void> leave() noexcept;
  /// After leave(), when its future is ready: waits for the last moments of the handle's thread.
  void join() noexcept { control_.reset(); }

  [[nodiscard]] Machine& machine() { return machine_; }

 private:
  /// What the JavaScript thread does when an operation has ended, with its failure if it has one.
  using Settle = std::function<void(Napi::Env env, const std::optional<Error>& failure)>;

  Napi::Promise run(Napi::Env env, std::function<void()> operation);
  void submit(std::function<void()> operation, Settle settle);
  void close_when_done() noexcept;

  std::shared_ptr<EventChannel> channel_;
  Machine machine_;
  std::optional<Error> build_failure_;  ///< control thread only
  unsigned pending_ = 0;  ///< JavaScript thread: operations that have not been settled
  bool ending_ = false;   ///< JavaScript thread: destroy() was called, or nobody can
  /// Last, so that it ends first. JavaScript thread; gone after join().
  std::unique_ptr<ControlThread> control_ = std::make_unique<ControlThread>();
};

/// Wraps a handle for JavaScript, tagged so that no other object passes for it.
Napi::Value wrap(Napi::Env env, const std::shared_ptr<MachineHandle>& handle);
/// Throws Napi::TypeError.
MachineHandle& unwrap(const Napi::Value& value);

}  // namespace tsvmm
