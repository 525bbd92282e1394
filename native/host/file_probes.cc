#include "host/file_probes.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "core/error.h"
#include "core/thread.h"
#include "core/unique_fd.h"

namespace tsvmm {
namespace {

/// What the formats of disk images are told by, and more.
constexpr size_t kHeadSize = 4096;

}  // namespace

void read_file_head(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return;
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) return;
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  std::array<char, kHeadSize> head;
  if (file.valid()) (void)::pread(file.get(), head.data(), head.size(), 0);
}

bool FileProbes::answers(const std::string& path) {
  const Clock::time_point now = Clock::now();
  if (const auto found = probes_.find(path); found != probes_.end()) {
    const Clock::time_point asked = std::exchange(found->second.asked, now);
    if (!*found->second.read) return false;
    probes_.erase(found);
    // Else who asked then has given up, and the store may have stopped answering since.
    if (now - asked < kForgetAfter) return true;
  }
  std::erase_if(probes_, [](const auto& probe) { return probe.second.read->load(); });
  if (probes_.size() == kMaxProbes) {
    throw Error("EAGAIN", std::to_string(kMaxProbes) + " files do not answer, such as " +
                              probes_.begin()->first);
  }
  const auto read = std::make_shared<std::atomic<bool>>(false);
  spawn_thread("file-probe", [path, read, work = read_] {
    work(path);
    *read = true;
  }).detach();
  probes_.emplace(path, Probe{.read = read, .asked = now});
  return false;
}

}  // namespace tsvmm
