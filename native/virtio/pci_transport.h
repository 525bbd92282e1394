#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bus/bus_device.h"
#include "device/event_report.h"
#include "hypervisor/hypervisor.h"
#include "memory/guest_memory.h"
#include "pci/config_space.h"
#include "pci/msix.h"
#include "pci/pci_function.h"
#include "virtio/common_config.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// What a guest sees of a virtio function and of the device behind it, as plain data.
struct VirtioPciState {
  ConfigSpaceState config;
  MsixState msix;
  CommonConfigState common;
  uint8_t isr = 0;
  std::vector<uint8_t> device;  ///< by VirtioDevice::save; empty: as the device was made
};

/// A virtio device as a modern PCI function (virtio 1.2 §4.1): one 512 KiB memory BAR with all
/// structures, MSI-X only. BAR 2 is the memory of a device that has some.
///
/// Locks, outermost first: PciRoot's, `mutex_`, a queue's signals', MsixTable's. A device's own
/// threads take the last two only, so a reset may wait for them with the others held. It does so
/// for a second at most, on the vCPU that asked for it: a driver knows that the device has been
/// reset when it reads the status 0 (§2.4.1); until the device has finished it, the status keeps
/// its value.
class VirtioPciFunction final : public PciFunction, private BusDevice, private VirtioTransport {
 public:
  struct Options {
    std::string id;
    uint64_t bar0 = 0;  ///< assigned from the start
    bool bar0_is_64bit = true;
    uint64_t bar2 = 0;    ///< of a device with memory of its own; 64-bit, assigned from the start
    bool decoded = true;  ///< both, from the start
    std::shared_ptr<IommuEndpoint> iommu = nullptr;  ///< what translates the device's accesses
  };

  /// `memory` and `fabric` outlive the function. `report` is called with locks held. Throws Error.
  VirtioPciFunction(Options options, std::shared_ptr<VirtioDevice> device,
                    const GuestMemory& memory, InterruptFabric& fabric, EventReport report);
  ~VirtioPciFunction() override;

  [[nodiscard]] const std::string& id() const { return options_.id; }
  [[nodiscard]] VirtioDevice& device() const { return *device_; }

  /// While the machine is paused: no vCPU runs, and the device is paused with its loops.
  [[nodiscard]] VirtioPciState state();
  /// Goes on where another function with a device of the same kind and options was. Before it is
  /// added to a root, once. Throws Error; the function is then not to be used.
  void restore(const VirtioPciState& state);

  void config_read(uint32_t offset, std::span<uint8_t> data) noexcept override;
  void config_write(uint32_t offset, std::span<const uint8_t> data) noexcept override;
  [[nodiscard]] std::optional<BarRequest> bar(unsigned index) const noexcept override;
  BusDevice* bar_device(unsigned index) noexcept override;
  void bar_mapped(unsigned index, uint64_t address) noexcept override;
  void bar_unmapped(unsigned index) noexcept override;
  void removed() noexcept override;

 private:
  class QueueSignals;
  /// What is left of BAR 2, a power of two, behind the device's memory: accesses to that itself do
  /// not get here.
  class Padding;

  // BusDevice: BAR 0.
  void read(uint64_t offset, std::span<uint8_t> data) override;
  void write(uint64_t offset, std::span<const uint8_t> data) override;
  // VirtioTransport.
  void config_changed() noexcept override;
  void failed(std::string_view reason) noexcept override;
  void note(std::string_view text) noexcept override {
    tell(MachineEvent::Type::kDeviceNote, text);
  }
  void warn(std::string_view text) noexcept override {
    tell(MachineEvent::Type::kDeviceWarning, text);
  }

  void tell(MachineEvent::Type type, std::string_view text = {}) noexcept;

  void add_capabilities();
  uint32_t add_virtio_capability(uint8_t type, uint32_t offset, uint32_t length,
                                 std::span<const uint8_t> tail, bool writable);
  void write_common(uint64_t offset, std::span<const uint8_t> data) noexcept;
  void read_device_config(uint64_t offset, std::span<uint8_t> data) noexcept;
  void write_device_config(uint64_t offset, std::span<const uint8_t> data) noexcept;
  void notify(uint64_t offset) noexcept;
  void activate() noexcept;
  void begin_reset() noexcept;
  [[nodiscard]] bool end_device(const Deadline& deadline) noexcept;
  void continue_reset(const Deadline& deadline) noexcept;
  void connect_doorbells() noexcept;
  void show_device_memory(uint64_t address) noexcept;
  void update_vectors() noexcept;
  void update_msix_control() noexcept;
  void interrupt(uint16_t vector, uint8_t isr_bit) noexcept;

  /// An access through VIRTIO_PCI_CAP_PCI_CFG: where in BAR 0 it goes, and how wide.
  struct IndirectAccess {
    uint64_t offset;
    uint32_t length;
  };
  [[nodiscard]] std::optional<IndirectAccess> indirect_access() const noexcept;
  [[nodiscard]] bool is_indirect_data(uint32_t offset, size_t size) const noexcept;

  const Options options_;
  const std::shared_ptr<VirtioDevice> device_;
  const GuestMemory& memory_;
  InterruptFabric& fabric_;
  const EventReport report_;
  MsixTable msix_;

  ConfigSpace config_;  ///< under PciRoot's lock
  uint32_t msix_capability_ = 0;
  uint32_t indirect_capability_ = 0;

  std::mutex mutex_;  ///< the device's configuration and life, doorbells
  CommonConfig common_;
  std::vector<std::unique_ptr<QueueSignals>> signals_;  ///< by queue
  std::unique_ptr<Padding> padding_;                    ///< if the device has memory of its own
  std::optional<uint64_t> bar_address_;                 ///< while decoded
  bool begun_ = false;   ///< an activation, after which the device has to be reset
  bool active_ = false;  ///< it has been activated
  bool removed_ = false;
  bool resetting_ = false;  ///< the driver has requested it, and the device has not finished it

  std::atomic<uint8_t> isr_ = 0;
};

}  // namespace tsvmm
