#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/unique_fd.h"
#include "net/net_backend.h"

namespace tsvmm {

/// A tap (or macvtap) interface of the host, by one descriptor for each queue pair.
class TapBackend final : public NetBackend {
 public:
  /// The descriptors are of one interface with IFF_VNET_HDR and, if there are several, with
  /// IFF_MULTI_QUEUE. They become non-blocking. Throws Error.
  explicit TapBackend(std::vector<UniqueFd> queues);

  [[nodiscard]] uint16_t pairs() const noexcept override {
    return static_cast<uint16_t>(queues_.size());
  }
  [[nodiscard]] std::unique_ptr<NetQueue> make_queue(uint16_t index) override;
  [[nodiscard]] NetOffloads offloads() const noexcept override { return offloads_; }
  void set_guest_offloads(const NetOffloads& offloads) noexcept override;
  void set_active_pairs(uint16_t count) noexcept override;

  /// The descriptor of pair `index`, for who serves it by other means (vhost).
  [[nodiscard]] int fd(uint16_t index) const { return queues_.at(index).get(); }

 private:
  const std::vector<UniqueFd> queues_;
  NetOffloads offloads_;
  uint16_t active_pairs_;
};

}  // namespace tsvmm
