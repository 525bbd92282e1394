#include "addon/environment.h"

#include <sys/stat.h>

#include <chrono>
#include <future>
#include <utility>

namespace tsvmm {
namespace {

/// How long the ends of all machines may take together. A disk that does not answer keeps what it
/// uses of its machine for longer: its threads then stay, which is why the library is never
/// unloaded.
constexpr std::chrono::seconds kCloseLimit{10};

/// 0 if it is no descriptor.
ino_t inode_of(int fd) {
  struct stat info {};
  return ::fstat(fd, &info) == 0 ? info.st_ino : 0;
}

/// What environments of a thread have lent to the runtime and never got back. Bun closes the
/// descriptors of its handles only after the cleanup hooks, so whether nobody has closed one is
/// known when the thread ends. Closed any sooner, its number may be another's when Bun closes it.
class LentByThread {
 public:
  LentByThread() = default;
  ~LentByThread() {
    for (const auto& [fd, inode] : lent_) {
      if (inode != 0 && inode_of(fd) == inode) const UniqueFd closing(fd);
    }
  }
  LentByThread(const LentByThread&) = delete;
  LentByThread& operator=(const LentByThread&) = delete;

  void add(int fd, ino_t inode) { lent_.insert_or_assign(fd, inode); }

 private:
  std::map<int, ino_t> lent_;
};

thread_local LentByThread lent_by_thread;

}  // namespace

void Environment::attach(Napi::Env env) {
  auto* environment = new Environment;
  environment->set_immediate_ =
      Napi::Persistent(env.Global().Get("setImmediate").As<Napi::Function>());
  env.SetInstanceData(environment);
  // The runtime calls these hooks, the latest first, before it drops references, thread-safe
  // functions and instance data; Bun never finalizes externals of a worker thread.
  const auto close = [](void* data) { static_cast<Environment*>(data)->close(); };
  if (napi_add_env_cleanup_hook(env, close, environment) != napi_ok) {
    throw Napi::Error::New(env, "no cleanup hook can be added");
  }
}

void Environment::precreate_vm(bool soon) {
  if (precreated_) return;
  auto precreated = std::make_shared<PrecreatedVm>();
  if (host_) {
    control().submit([precreated] { precreated->make(); }, soon);
  } else {
    look_at_host(precreated, soon);
  }
  precreated_ = std::move(precreated);
}

const HostFacts& Environment::host() {
  if (host_ && host_->failed()) {
    host_.reset();
    precreated_.reset();
  }
  if (!host_) look_at_host(nullptr, false);
  return *host_;
}

void Environment::look_at_host(std::shared_ptr<PrecreatedVm> precreated, bool linger) {
  auto host = std::make_shared<HostFacts>();
  control().submit([host, precreated = std::move(precreated)] { host->find_out(precreated.get()); },
                   linger);
  host_ = std::move(host);
}

ControlThread& Environment::control() {
  if (!control_) control_ = std::make_unique<ControlThread>();
  return *control_;
}

std::unique_ptr<ControlThread> Environment::take_control() {
  (void)control();
  return std::move(control_);
}

int Environment::give(UniqueFd fd) {
  descriptors_.insert(fd.get());
  return fd.release();
}

UniqueFd Environment::take_back(int fd) {
  descriptors_.erase(fd);
  return UniqueFd(fd);
}

void Environment::lend(int fd) {
  std::erase_if(lent_, [](const auto& one) { return inode_of(one.first) != one.second; });
  lent_[fd] = inode_of(fd);
  (void)take_back(fd).release();
}

void Environment::close() noexcept {
  // All begin to end before the first is waited for.
  std::vector<std::pair<std::shared_ptr<MachineHandle>, std::future<void>>> ending;
  for (auto& machine : machines_.take_all()) {
    std::future<void> ended = machine->leave();
    ending.emplace_back(std::move(machine), std::move(ended));
  }
  for (const auto& server : stream_servers_.take_all()) server->cut();
  record_fifos_.take_all();
  const auto deadline = std::chrono::steady_clock::now() + kCloseLimit;
  for (const auto& [machine, ended] : ending) {
    if (ended.wait_until(deadline) == std::future_status::ready) machine->join();
  }
  ending.clear();
  precreated_.reset();
  control_.reset();
  host_.reset();
  for (const int fd : std::exchange(descriptors_, {})) const UniqueFd closing(fd);
  for (const auto& [fd, inode] : std::exchange(lent_, {})) lent_by_thread.add(fd, inode);
}

}  // namespace tsvmm
