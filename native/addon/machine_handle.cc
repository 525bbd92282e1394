#include "addon/machine_handle.h"

#include <exception>
#include <utility>

#include "addon/convert.h"
#include "hypervisor/kvm/kvm_vm.h"

namespace tsvmm {
namespace {

constexpr napi_type_tag kMachineTag{0x7473766d6d2d6d61, 0x6368696e652d3031};

/// How long an environment that ends waits for its machines' disks.
constexpr std::chrono::seconds kLeaveTimeout{3};

/// What an operation ended with.
std::optional<Error> attempt(const std::function<void()>& operation) noexcept {
  try {
    operation();
    return std::nullopt;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return Error("ENOMEM", "out of memory");
  } catch (const std::exception& error) {
    return Error("ERR_TSVMM_INTERNAL", error.what());
  }
}

}  // namespace

MachineHandle::MachineHandle(MachineSpec spec, std::shared_ptr<EventChannel> channel)
    : channel_(std::move(channel)), machine_(std::move(spec), *channel_) {}

void MachineHandle::start_building(std::shared_ptr<SpareVm> spare) {
  // The operation is at work on this object only until the control thread ends, which the
  // destructor waits for.
  control_->submit(
      [this, spare = std::move(spare)] {
        build_failure_ = attempt([&] { machine_.build(kvm_maker(spare)); });
      },
      true);
}

Napi::Promise MachineHandle::boot(Napi::Env env, BootSpec spec) {
  auto shared = std::make_shared<BootSpec>(std::move(spec));
  const bool ended = ending_;
  return run(env, [this, shared, ended] {
    // What called the building off says less than that there is no machine any more.
    if (build_failure_ && !ended) throw *build_failure_;
    machine_.boot(std::move(*shared));
  });
}

Napi::Promise MachineHandle::pause(Napi::Env env) {
  return run(env, [this] { machine_.pause(); });
}

Napi::Promise MachineHandle::resume(Napi::Env env) {
  return run(env, [this] { machine_.resume(); });
}

Napi::Promise MachineHandle::resize_disk(Napi::Env env, std::string id, uint64_t bytes) {
  return run(env, [this, id = std::move(id), bytes] { machine_.resize_disk(id, bytes); });
}

Napi::Promise MachineHandle::debug_stop(Napi::Env env) {
  return run(env, [this] { machine_.debug_stop(); });
}

Napi::Promise MachineHandle::destroy(Napi::Env env, std::chrono::milliseconds timeout) {
  ending_ = true;
  machine_.cancel();
  return run(env, [this, timeout] { machine_.destroy(timeout); });
}

void MachineHandle::abandon() noexcept {
  channel_->mute();
  if (std::exchange(ending_, true)) return;
  machine_.cancel();
  try {
    submit([this] { machine_.destroy(); }, [](Napi::Env, const std::optional<Error>&) {});
  } catch (const Error&) {
    (void)attempt([this] { machine_.destroy(); });
  }
}

std::future<void> MachineHandle::leave() noexcept {
  channel_->cut();
  ending_ = true;
  machine_.cancel();
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

Napi::Promise MachineHandle::run(Napi::Env env, std::function<void()> operation) {
  const auto deferred = Napi::Promise::Deferred::New(env);
  const auto settle = [deferred](Napi::Env settle_env, const std::optional<Error>& failure) {
    if (failure) {
      deferred.Reject(from_error(settle_env, *failure).Value());
    } else {
      deferred.Resolve(settle_env.Undefined());
    }
  };
  if (channel_->closed()) {
    // Nothing is left that could fail or take time.
    settle(env, attempt(operation));
  } else {
    submit(std::move(operation), settle);
  }
  return deferred.Promise();
}

void MachineHandle::submit(std::function<void()> operation, Settle settle) {
  // The operation keeps the handle alive; the reference is dropped on the JavaScript thread, with
  // the task.
  control_->submit([self = shared_from_this(), operation = std::move(operation),
                    settle = std::move(settle)]() mutable {
    std::optional<Error> failure = attempt(operation);
    auto& channel = *self->channel_;
    channel.post([self = std::move(self), failure = std::move(failure),
                  settle = std::move(settle)](Napi::Env env) {
      --self->pending_;
      self->close_when_done();
      settle(env, failure);
    });
  });
  ++pending_;
}

void MachineHandle::close_when_done() noexcept {
  if (ending_ && pending_ == 0) channel_->close();
}

Napi::Value wrap(Napi::Env env, const std::shared_ptr<MachineHandle>& handle) {
  using Holder = std::shared_ptr<MachineHandle>;
  auto external =
      Napi::External<Holder>::New(env, new Holder(handle), [](Napi::Env, Holder* holder) {
        (*holder)->abandon();
        delete holder;
      });
  external.TypeTag(&kMachineTag);
  return external;
}

MachineHandle& unwrap(const Napi::Value& value) {
  if (!value.IsExternal() || !value.As<Napi::External<void>>().CheckTypeTag(&kMachineTag)) {
    throw Napi::TypeError::New(value.Env(), "this is not a machine");
  }
  return **value.As<Napi::External<std::shared_ptr<MachineHandle>>>().Data();
}

}  // namespace tsvmm
