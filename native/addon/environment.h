#pragma once

#include <napi.h>
#include <sys/types.h>

#include <map>
#include <memory>
#include <set>
#include <utility>

#include "addon/handle_registry.h"
#include "addon/machine_handle.h"
#include "addon/record_fifo_handle.h"
#include "addon/stream_server_handle.h"
#include "core/unique_fd.h"
#include "host/file_probes.h"
#include "hypervisor/kvm/x86_64/host_facts.h"
#include "machine/control_thread.h"

namespace tsvmm {

using Machines = HandleRegistry<MachineHandle>;
using StreamServers = HandleRegistry<StreamServerHandle>;
using RecordFifos = HandleRegistry<RecordFifoHandle>;

/// What one JavaScript environment (the main thread's, or a worker thread's) has of the core.
///
/// An environment can end at any moment, whatever its JavaScript was about: a worker thread is
/// terminated, throws, or exits. close() then ends what is left, on the environment's own thread,
/// while calls into the runtime are still safe. On the JavaScript thread only.
class Environment {
 public:
  /// Makes the environment's own, which close() is called for when it ends.
  static void attach(Napi::Env env);
  static Environment& of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

  ~Environment() { close(); }
  Environment() = default;
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  /// Has a VM made for the next machine, unless there is one, and the host looked at, while the
  /// caller goes on. `soon`: the thread for that waits for the machine.
  void precreate_vm(bool soon);
  /// Looks at the host if nobody has. What is in it may throw Error.
  const HostFacts& host();
  /// Of precreate_vm(), once.
  std::shared_ptr<PrecreatedVm> take_precreated() { return std::move(precreated_); }
  /// For the next machine: the thread that looked at the host, as making another takes long.
  std::unique_ptr<ControlThread> take_control();

  Machines& machines() { return machines_; }
  StreamServers& stream_servers() { return stream_servers_; }
  RecordFifos& record_fifos() { return record_fifos_; }
  FileProbes& file_probes() { return file_probes_; }

  /// Calls `callback` in the event loop's next turn, with the setImmediate() that there was when
  /// the addon was loaded: tests replace it. Throws Napi::Error.
  void set_immediate(const Napi::Function& callback) const { set_immediate_.Call({callback}); }

  /// Hands a descriptor to JavaScript, which is to close() it; close() does what it does not get
  /// round to.
  int give(UniqueFd fd);
  /// Takes one back; any other is just wrapped.
  UniqueFd take_back(int fd);
  /// Leaves the closing of one to the runtime, which is about to make a handle of it. An
  /// environment that ends before it does has nobody else to close it.
  void lend(int fd);

 private:
  void close() noexcept;
  ControlThread& control();
  void look_at_host(std::shared_ptr<PrecreatedVm> precreated, bool linger);

  Napi::FunctionReference set_immediate_;
  std::shared_ptr<HostFacts> host_;  ///< they do not change, unless they could not be found out
  std::shared_ptr<PrecreatedVm> precreated_;
  std::unique_ptr<ControlThread> control_;
  Machines machines_;
  StreamServers stream_servers_;
  RecordFifos record_fifos_;
  FileProbes file_probes_;
  std::set<int> descriptors_;
  /// By number, the inode: tells a descriptor that nobody has closed from another's with its
  /// number.
  std::map<int, ino_t> lent_;
};

/// Gives a descriptor to the caller of a function.
inline Napi::Number give_fd(Napi::Env env, UniqueFd fd) {
  return Napi::Number::New(env, Environment::of(env).give(std::move(fd)));
}

}  // namespace tsvmm
