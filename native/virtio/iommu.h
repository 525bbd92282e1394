#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/cancellation.h"
#include "core/event_loop.h"
#include "virtio/iommu/protocol.h"
#include "virtio/iommu/tables.h"
#include "virtio/loop_teardown.h"
#include "virtio/queue_server.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// A virtio IOMMU (virtio 1.2 §5.13): how the guest changes the tables that translate what devices
/// behind it access. What is not attached to a domain uses guest physical addresses (bypass) until
/// the driver changes that.
///
/// It has a thread of its own, because a request may have to wait for other devices.
class VirtioIommu : public VirtioDevice {
 public:
  static constexpr VirtioType kType{.id = 23};
  static constexpr unsigned kMaxAddressBits = 64;

  /// `address_bits`, 12 to 64: of what endpoints access. `id` names the thread.
  VirtioIommu(std::shared_ptr<IommuTables> tables, unsigned address_bits, const std::string& id);
  ~VirtioIommu() override;

  [[nodiscard]] VirtioType type() const noexcept override { return kType; }
  [[nodiscard]] uint64_t features() const noexcept override;
  [[nodiscard]] std::vector<uint16_t> queue_sizes() const override;
  [[nodiscard]] uint32_t config_size() const noexcept override {
    return sizeof(virtio_iommu::Config);
  }
  void read_config(uint32_t offset, std::span<uint8_t> data) noexcept override;
  void write_config(uint32_t offset, std::span<const uint8_t> data) noexcept override;
  void activate(const Activation& activation) override;
  [[nodiscard]] bool try_reset(const Deadline& deadline) noexcept override;
  void begin_pause() noexcept override { loop_.begin_pause(); }
  [[nodiscard]] bool wait_paused(const Deadline& deadline) override {
    return loop_.wait_paused(deadline);
  }
  void resume() noexcept override { loop_.resume(); }
  [[nodiscard]] const char* waits_for() const noexcept override {
    return "a device behind the IOMMU does not end what it has begun";
  }
  void save(CborWriter& state) const override;
  void restore(Fields& state) override;
  [[nodiscard]] std::vector<Counter> counters() const override;
  [[nodiscard]] std::vector<Counter> status() const override;

 private:
  using Status = virtio_iommu::Status;

  [[nodiscard]] std::optional<uint32_t> answer(const DescriptorChain& chain) noexcept;
  [[nodiscard]] Status carry_out(std::span<const uint8_t> request, std::span<uint8_t> properties);
  [[nodiscard]] Status attach(std::span<const uint8_t> operands);
  [[nodiscard]] Status detach(std::span<const uint8_t> operands);
  [[nodiscard]] Status map(std::span<const uint8_t> operands);
  [[nodiscard]] Status unmap(std::span<const uint8_t> operands);
  [[nodiscard]] Status probe(std::span<const uint8_t> operands, std::span<uint8_t> properties);
  [[nodiscard]] std::optional<uint32_t> tell_fault(const DescriptorChain& chain) noexcept;
  [[nodiscard]] Deadline end_of_accesses() const;

  const std::shared_ptr<IommuTables> tables_;
  const uint64_t last_address_;
  EventLoop loop_;
  std::optional<Cancellation> called_off_;  ///< while active
  std::unique_ptr<QueueServer> requests_;   ///< the same
  std::unique_ptr<QueueServer> events_;
  LoopTeardown teardown_;
  std::atomic<uint64_t> served_ = 0;
  std::atomic<uint64_t> refused_ = 0;
};

}  // namespace tsvmm
