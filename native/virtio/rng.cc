#include "virtio/rng.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

namespace tsvmm {
namespace {

constexpr uint16_t kQueueSize = 256;
/// A driver may be given less than it asked for (virtio 1.2 §5.4.6.1); what one buffer gets is
/// bounded, as the loop serves other devices, too.
constexpr size_t kMaxBytes = 4096;
constexpr int kChainsPerTurn = 32;

}  // namespace

VirtioRng::VirtioRng(int source_fd, EventLoop& loop)
    : source_(UniqueFd::duplicate(source_fd)), loop_(loop) {}

VirtioRng::~VirtioRng() = default;

uint64_t VirtioRng::features() const noexcept {
  return virtio_feature::kIndirectDescriptors | virtio_feature::kEventIndex;
}

std::vector<uint16_t> VirtioRng::queue_sizes() const { return {kQueueSize}; }

void VirtioRng::activate(const Activation& activation) {
  const VirtqueueSetup* setup = activation.queue(0);
  if (setup == nullptr) return;
  server_ =
      std::make_unique<QueueServer>(loop_, activation, *setup, host(), kChainsPerTurn,
                                    [this](const DescriptorChain& chain) { return fill(chain); });
}

void VirtioRng::reset() noexcept { server_.reset(); }

std::optional<uint32_t> VirtioRng::fill(const DescriptorChain& chain) noexcept {
  size_t total = 0;
  for (const GuestBuffer& buffer : chain.writable) {
    const size_t wanted = std::min<size_t>(buffer.length, kMaxBytes - total);
    if (wanted == 0) break;
    ssize_t result;
    do {
      result = ::read(source_.get(), buffer.host, wanted);
    } while (result < 0 && errno == EINTR);
    if (result <= 0) {
      if (total != 0) break;
      host().failed(result == 0
                        ? std::string("the entropy source has ended")
                        : std::string("reading the entropy source: ") + ::strerrordesc_np(errno));
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

}  // namespace tsvmm
