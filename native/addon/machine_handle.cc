#include "addon/machine_handle.h"

#include <string>
#include <utility>

#include "addon/arguments.h"
#include "core/error.h"
#include "hypervisor/kvm/kvm_vm.h"
#include "machine/answer.h"
#include "machine/machine_commands.h"

namespace tsvmm {
namespace {

/// How long an environment that ends waits for its machines' disks.
constexpr std::chrono::seconds kLeaveTimeout{3};

}  // namespace

MachineHandle::MachineHandle(MachineSpec spec, std::shared_ptr<EventChannel> channel,
                             std::unique_ptr<ControlThread> control)
    : channel_(std::move(channel)),
      machine_(std::move(spec), *channel_),
      control_(std::move(control)) {}

void MachineHandle::start_building(std::shared_ptr<PrecreatedVm> precreated) {
  // The operation is at work on this object only until the control thread ends, which the
  // destructor waits for.
  control_->submit(
      [this, precreated = std::move(precreated)] { machine_.try_build(kvm_maker(precreated)); },
      true);
}

Napi::Promise MachineHandle::call(Napi::Env env, Message message) {
  const auto deferred = Napi::Promise::Deferred::New(env);
  const Settle settle = [deferred](Napi::Env settle_env, const std::vector<uint8_t>& bytes) {
    deferred.Resolve(from_bytes(settle_env, bytes));
  };
  std::shared_ptr<MachineCommand> command;
  const auto refusal =
      answer([&](CborWriter&) { command = std::make_shared<MachineCommand>(std::move(message)); });
  if (!command) {
    settle(env, refusal);
    return deferred.Promise();
  }
  const Operation operation = [this, command] {
    return answer([&](CborWriter& writer) { command->run(machine_, writer); });
  };
  if (command->turn() == MachineCommand::Turn::kLast) begin_end();
  // Of a machine that has ended nothing is left that could fail or take time.
  if (command->turn() == MachineCommand::Turn::kAtOnce || channel_->closed()) {
    settle(env, operation());
  } else {
    submit(operation, settle);
  }
  return deferred.Promise();
}

std::vector<uint8_t> MachineHandle::ask(std::vector<uint8_t> question) {
  return answer([&](CborWriter& writer) {
    MessageReader reader(question, {});
    answer_question(machine_, reader.value(), writer);
  });
}

void MachineHandle::keep(std::vector<std::vector<uint8_t>> questions) {
  kept_.clear();
  for (std::vector<uint8_t>& question : questions) kept_.push_back(ask(std::move(question)));
}

const std::vector<uint8_t>& MachineHandle::kept(size_t index) const {
  if (index < kept_.size()) return kept_[index];
  throw Error("ENOENT", "no answer " + std::to_string(index) + " is kept");
}

void MachineHandle::begin_end() noexcept {
  ending_ = true;
  machine_.cancel();
}

void MachineHandle::abandon() noexcept {
  channel_->mute();
  if (ending_) return;
  begin_end();
  const Operation end = [this] { return answer([this](CborWriter&) { machine_.destroy(); }); };
  const auto nobody = [](Napi::Env, const std::vector<uint8_t>&) {};
  if (attempt([&] { submit(end, nobody); })) (void)end();
}

std::future<void> MachineHandle::leave() noexcept {
  channel_->cut();
  begin_end();
  const auto end = [this] {
    // What does not come to its end keeps what it needs, and needs nothing of an environment.
    (void)attempt([this] { machine_.destroy(kLeaveTimeout); });
  };
  auto ended = std::make_shared<std::promise<void>>();
  std::future<void> future = ended->get_future();
  try {
    control_->submit([self = shared_from_this(), end, ended] {
      end();
      ended->set_value();
    });
  } catch (const Error&) {
    end();
    ended->set_value();
  }
  return future;
}

void MachineHandle::submit(Operation operation, Settle settle) {
  // The operation keeps the handle alive; the reference is dropped on the JavaScript thread, with
  // the task.
  control_->submit([self = shared_from_this(), operation = std::move(operation),
                    settle = std::move(settle)]() mutable {
    std::vector<uint8_t> bytes = operation();
    auto& channel = *self->channel_;
    channel.post([self = std::move(self), bytes = std::move(bytes),
                  settle = std::move(settle)](Napi::Env env) {
      --self->pending_;
      self->close_when_done();
      settle(env, bytes);
    });
  });
  ++pending_;
}

void MachineHandle::close_when_done() noexcept {
  if (ending_ && pending_ == 0) channel_->close();
}

}  // namespace tsvmm
