#pragma once

#include <napi.h>

#include <memory>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace tsvmm {

/// The handles of one kind that the JavaScript of one environment holds. JavaScript thread only.
///
/// Each is held by an external, whose finalizer abandons it. A runtime need not call the finalizers
/// of an environment that ends (Bun does not for a worker thread), so take_all() takes from the
/// externals what they hold.
///
/// `Handle` has kTag, which no other object passes for it with, kName for messages, and abandon().
template <typename Handle>
class HandleRegistry {
 public:
  HandleRegistry() = default;
  ~HandleRegistry() { take_all(); }
  HandleRegistry(const HandleRegistry&) = delete;
  HandleRegistry& operator=(const HandleRegistry&) = delete;

  /// Makes the external that holds `handle`.
  Napi::Value wrap(Napi::Env env, std::shared_ptr<Handle> handle) {
    auto holder = std::make_unique<Holder>(Holder{std::move(handle), this});
    auto external = Napi::External<Holder>::New(env, holder.get(), finalize);
    holders_.insert(holder.release());
    external.TypeTag(&Handle::kTag);
    return external;
  }

  /// Throws Napi::TypeError.
  static Handle& unwrap(const Napi::Value& value) {
    if (value.IsExternal() && value.As<Napi::External<void>>().CheckTypeTag(&Handle::kTag)) {
      const Holder* holder = value.As<Napi::External<Holder>>().Data();
      if (holder->handle) return *holder->handle;
    }
    throw Napi::TypeError::New(value.Env(), std::string("this is not a ") + Handle::kName);
  }

  /// When the environment ends: all that is held, which is held by nobody else from then on.
  std::vector<std::shared_ptr<Handle>> take_all() noexcept {
    std::vector<std::shared_ptr<Handle>> handles;
    handles.reserve(holders_.size());
    for (Holder* holder : std::exchange(holders_, {})) {
      handles.push_back(std::move(holder->handle));
    }
    return handles;
  }

 private:
  /// The external's. Without a handle the registry may be gone.
  struct Holder {
    std::shared_ptr<Handle> handle;
    HandleRegistry* registry;
  };

  static void finalize(Napi::Env /*env*/, Holder* holder) {
    const std::unique_ptr<Holder> owned(holder);
    if (!holder->handle) return;
    holder->registry->holders_.erase(holder);
    holder->handle->abandon();
  }

  std::unordered_set<Holder*> holders_;
};

}  // namespace tsvmm
