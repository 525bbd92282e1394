#include "host/file_probes.h"

#include <memory>
#include <utility>

#include "core/error.h"
#include "core/thread.h"

namespace tsvmm {
namespace {

bool is_ready(const std::future<void>& future, std::chrono::milliseconds wait = {}) {
  return future.wait_for(wait) == std::future_status::ready;
}

}  // namespace

bool FileProbes::answers(const std::string& path) {
  const Clock::time_point now = Clock::now();
  if (const auto found = probes_.find(path); found != probes_.end()) {
    const Clock::time_point asked = std::exchange(found->second.asked, now);
    if (!is_ready(found->second.read)) return false;
    probes_.erase(found);
    // Else who asked then has given up, and the store may have stopped answering since.
    if (now - asked < kForgetAfter) return true;
  }
  if (is_cached_(path)) return true;
  std::erase_if(probes_, [](const auto& probe) { return is_ready(probe.second.read); });
  if (probes_.size() == kMaxProbes) {
    throw Error("EAGAIN", std::to_string(kMaxProbes) + " files do not answer, such as " +
                              probes_.begin()->first);
  }
  Probe probe = begin(path);
  if (is_ready(probe.read, kMoment)) return true;
  probes_.emplace(path, std::move(probe));
  return false;
}

FileProbes::Probe FileProbes::begin(const std::string& path) const {
  const auto read = std::make_shared<std::promise<void>>();
  spawn_thread("file-probe", [path, read, work = read_] {
    work(path);
    read->set_value();
  }).detach();
  return {.read = read->get_future(), .asked = Clock::now()};
}

}  // namespace tsvmm
