#include "virtio/rng.h"

#include <poll.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "core/error.h"
#include "virtio/device_kind.h"

namespace tsvmm {
namespace {

constexpr uint16_t kQueueSize = 256;
/// A driver may be given less than it asked for (virtio 1.2 §5.4.6.1); what one buffer gets is
/// bounded, as the loop serves other devices, too.
constexpr size_t kMaxBytes = 4096;
constexpr int kChainsPerTurn = 32;

/// Linux's Documentation/admin-guide/devices.txt: /dev/random and /dev/urandom.
constexpr unsigned kMemoryMajor = 1;
constexpr unsigned kRandomMinor = 8;
constexpr unsigned kUrandomMinor = 9;

bool is_kernels_generator(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISCHR(info.st_mode) || major(info.st_rdev) != kMemoryMajor) {
    return false;
  }
  return minor(info.st_rdev) == kRandomMinor || minor(info.st_rdev) == kUrandomMinor;
}

}  // namespace

VirtioRng::VirtioRng(int source_fd, EventLoop& loop, const std::string& id)
    : source_(UniqueFd::duplicate(source_fd)),
      own_loop_(is_kernels_generator(source_.get()) ? nullptr : std::make_unique<EventLoop>(id)),
      loop_(own_loop_ ? *own_loop_ : loop) {}

VirtioRng::~VirtioRng() { reset(); }

uint64_t VirtioRng::features() const noexcept {
  return virtio_feature::kIndirectDescriptors | virtio_feature::kEventIndex;
}

std::vector<uint16_t> VirtioRng::queue_sizes() const { return {kQueueSize}; }

void VirtioRng::activate(const Activation& activation) {
  const VirtqueueSetup* setup = activation.queue(0);
  if (setup == nullptr) return;
  if (own_loop_) {
    watches_ = loop_.add(source_.get(), io::kOnce,
                         [doorbell = setup->doorbell](IoEvents) { doorbell->signal(); });
  }
  server_ =
      std::make_unique<QueueServer>(loop_, activation, *setup, transport(), kChainsPerTurn,
                                    [this](const DescriptorChain& chain) { return fill(chain); });
}

bool VirtioRng::try_reset(const Deadline& deadline) noexcept {
  if (own_loop_) own_loop_->resume();
  if (!teardown_.in_progress() && !server_ && !watches_) return true;
  const auto work = [this] {
    server_.reset();
    if (std::exchange(watches_, false)) loop_.remove(source_.get());
  };
  return teardown_.run(loop_, work, deadline);
}

void VirtioRng::begin_pause() noexcept {
  if (own_loop_) own_loop_->begin_pause();
}

bool VirtioRng::wait_paused(const Deadline& deadline) {
  return !own_loop_ || own_loop_->wait_paused(deadline);
}

void VirtioRng::resume() noexcept {
  if (own_loop_) own_loop_->resume();
}

/// Of a source that has nothing yet, the doorbell tells when it has. What cannot be watched (a
/// file) never waits, or does so in the read.
bool VirtioRng::source_is_ready() noexcept {
  if (!watches_) return true;
  pollfd source{.fd = source_.get(), .events = POLLIN, .revents = 0};
  if (::poll(&source, 1, 0) != 0) return true;
  watch_source();
  return false;
}

void VirtioRng::watch_source() noexcept { loop_.modify(source_.get(), io::kReadable | io::kOnce); }

std::optional<uint32_t> VirtioRng::fill(const DescriptorChain& chain) noexcept {
  size_t total = 0;
  for (const GuestBuffer& buffer : chain.writable) {
    const size_t wanted = std::min<size_t>(buffer.length, kMaxBytes - total);
    if (wanted == 0) break;
    if (!source_is_ready()) {
      // A driver may be given less than it asked for (§5.4.6.1), but not nothing.
      if (total == 0) return QueueServer::kLater;
      break;
    }
    ssize_t result;
    do {
      result = ::read(source_.get(), buffer.host, wanted);
    } while (result < 0 && errno == EINTR);
    if (result <= 0) {
      if (total != 0) break;
      if (result < 0 && errno == EAGAIN && watches_) {
        watch_source();
        return QueueServer::kLater;
      }
      transport().failed(result == 0 ? std::string("the entropy source has ended")
                                     : "reading the entropy source: " + errno_text(errno));
      return std::nullopt;
    }
    total += static_cast<size_t>(result);
    if (static_cast<size_t>(result) < wanted) break;
  }
  ++requests_;
  bytes_ += total;
  return static_cast<uint32_t>(total);
}

std::vector<Counter> VirtioRng::counters() const {
  return {{"requests", requests_}, {"bytes", bytes_}};
}

namespace {

struct RngSpec : DeviceSpec {
  explicit RngSpec(Fields& fields) : fd(fields["fd"].descriptor()) {}

  std::shared_ptr<VirtioDevice> make(const std::string& id, const DeviceContext& context) override {
    return std::make_shared<VirtioRng>(fd.get(), context.loop, id);
  }

  UniqueFd fd;
};

}  // namespace

DeviceKind rng_kind() { return {"rng", read_device_spec<RngSpec>}; }

}  // namespace tsvmm
