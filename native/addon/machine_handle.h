#pragma once

#include <napi.h>

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <vector>

#include "addon/event_channel.h"
#include "core/message.h"
#include "hypervisor/kvm/empty_vm.h"
#include "machine/control_thread.h"
#include "machine/machine.h"

namespace tsvmm {

/// What a MachineHandle of JavaScript holds: a machine, its event stream, and the thread for its
/// slow operations.
class MachineHandle : public std::enable_shared_from_this<MachineHandle> {
 public:
  static constexpr napi_type_tag kTag{0x7473766d6d2d6d61, 0x6368696e652d3031};
  static constexpr const char* kName = "machine";

  MachineHandle(MachineSpec spec, std::shared_ptr<EventChannel> channel,
                std::unique_ptr<ControlThread> control);

  /// Begins building, in `precreated` if there is one; a failure is kept for the boot.
  void start_building(std::shared_ptr<PrecreatedVm> precreated);
  /// Carries out a command; the promise resolves with the answer's bytes.
  Napi::Promise call(Napi::Env env, Message message);
  /// Answers a question at once. The answer's bytes.
  [[nodiscard]] std::vector<uint8_t> ask(std::vector<uint8_t> question);
  /// Answers questions as ask() does, and keeps the answers here, in place of those before: most
  /// are never looked at, and would only be garbage to JavaScript.
  void keep(std::vector<std::vector<uint8_t>> questions);
  /// The kept answer to the question of that index. Throws Error ENOENT.
  [[nodiscard]] const std::vector<uint8_t>& kept(size_t index) const;
  /// Whether the machine keeps the event loop alive; it does at first.
  void keep_alive(Napi::Env env, bool alive) noexcept { channel_->keep_alive(env, alive); }
  /// JavaScript thread, when the handle was collected: nobody can end the machine any more.
  void abandon() noexcept;
  /// JavaScript thread, when its environment ends: ends the machine, but nothing reaches JavaScript
  /// any more and no promise is settled. The future is ready once the machine is gone.
  std::future<void> leave() noexcept;
  /// After leave(), when its future is ready: waits for the last moments of the handle's thread.
  void join() noexcept { control_.reset(); }

  [[nodiscard]] Machine& machine() { return machine_; }

 private:
  /// Its result is the answer.
  using Operation = std::function<std::vector<uint8_t>()>;
  /// What the JavaScript thread does when an operation has ended.
  using Settle = std::function<void(Napi::Env env, const std::vector<uint8_t>& answer)>;

  void begin_end() noexcept;
  void submit(Operation operation, Settle settle);
  void close_when_done() noexcept;

  std::shared_ptr<EventChannel> channel_;
  Machine machine_;
  std::vector<std::vector<uint8_t>> kept_;  ///< JavaScript thread
  unsigned pending_ = 0;  ///< JavaScript thread: operations that have not been settled
  bool ending_ = false;   ///< JavaScript thread: the last command was given, or nobody can give it
  /// Last, so that it ends first. JavaScript thread; gone after join().
  std::unique_ptr<ControlThread> control_;
};

}  // namespace tsvmm
