#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "core/event_loop.h"
#include "core/unique_fd.h"
#include "virtio/queue_server.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// A virtio entropy device (virtio 1.2 §5.4) that reads its bytes from a descriptor such as
/// /dev/urandom.
class VirtioRng : public VirtioDevice {
 public:
  /// `source_fd` is the caller's and duplicated; reads of it must not block for long. Throws Error.
  VirtioRng(int source_fd, EventLoop& loop);
  ~VirtioRng() override;

  [[nodiscard]] VirtioType type() const noexcept override { return VirtioType::kEntropy; }
  [[nodiscard]] uint64_t features() const noexcept override;
  [[nodiscard]] std::vector<uint16_t> queue_sizes() const override;
  void activate(const Activation& activation) override;
  void reset() noexcept override;
  [[nodiscard]] std::vector<Counter> counters() const override;

 private:
  [[nodiscard]] std::optional<uint32_t> fill(const DescriptorChain& chain) noexcept;

  UniqueFd source_;
  EventLoop& loop_;
  std::atomic<uint64_t> requests_ = 0;
  std::atomic<uint64_t> bytes_ = 0;
  std::unique_ptr<QueueServer> server_;  ///< while active
};

}  // namespace tsvmm
