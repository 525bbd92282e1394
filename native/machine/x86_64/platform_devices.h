#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bus/address_space.h"
#include "core/cancellation.h"
#include "core/event_loop.h"
#include "device/acpi_events.h"
#include "device/char_backend.h"
#include "device/ged.h"
#include "device/ioapic.h"
#include "device/output_errors.h"
#include "device/post_code.h"
#include "hypervisor/hypervisor.h"
#include "machine/machine_event.h"
#include "machine/machine_spec.h"
#include "machine/rate_limiter_groups.h"
#include "pci/pci_root.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// All devices of an x86 machine on their buses, built from the specification.
class PlatformDevices : public AccessHandler {
 public:
  /// What devices report: a guest that turns itself off or resets, and the life of virtio devices.
  /// Any thread.
  using Report = std::function<void(MachineEvent event)>;

  /// Takes the descriptors out of `boot`. `fabric` and `memory` outlive the devices. Throws Error.
  PlatformDevices(BootSpec& boot, GuestMemory& memory, InterruptFabric& fabric,
                  const Cancellation& cancellation, const Report& report);
  ~PlatformDevices() override;

  void port_read(uint16_t port, std::span<uint8_t> data) override { ports_.read(port, data); }
  void port_write(uint16_t port, std::span<const uint8_t> data) override {
    ports_.write(port, data);
  }
  void mmio_read(GuestAddress address, std::span<uint8_t> data) override {
    mmio_.read(address, data);
  }
  void mmio_write(GuestAddress address, std::span<const uint8_t> data) override {
    mmio_.write(address, data);
  }
  void end_of_interrupt(uint8_t vector) override { ioapic_->eoi(vector); }

  /// Asks all devices to finish what is in flight and to hold their threads. While no vCPU runs.
  void begin_pause() noexcept;
  /// Waits for that. Throws Error, ETIMEDOUT with the device and what it waits for.
  void wait_paused(const Deadline& deadline);
  /// Lets all devices go on, or takes a begin_pause() back.
  void resume() noexcept;
  /// Ends what the devices do and closes the host's files, while no vCPU runs and for good. Those
  /// that have not come to their end at the deadline, each with what it waits for.
  [[nodiscard]] std::vector<std::string> stop(const Deadline& deadline) noexcept;
  /// The hypervisor could not reach guest memory. True if a device's was to blame and is whole
  /// again. Any thread.
  [[nodiscard]] bool repair_memory() noexcept;
  void press_power_button() noexcept;
  /// A multiple of 512. Throws Error.
  void resize_disk(const std::string& id, uint64_t bytes, const Deadline& deadline);
  /// Tells the guest that the VM generation id is another one.
  void vm_generation_changed() noexcept { ged_->notify(Ged::kVmGeneration); }
  /// Without effect on a machine without a console.
  void resize_console(uint16_t columns, uint16_t rows) noexcept;
  /// False on a machine without a balloon.
  [[nodiscard]] bool resize_balloon(uint64_t size) noexcept;
  /// Bytes that the guest has put into its balloon, 0 without one.
  [[nodiscard]] uint64_t balloon_size() const noexcept;

  struct DeviceCounters {
    std::string id;
    std::vector<Counter> counters;
  };
  [[nodiscard]] std::vector<DeviceCounters> counters() const;
  [[nodiscard]] PostCodeState post_code() const { return post_code_->state(); }

 private:
  struct Named {
    std::string id;
    std::shared_ptr<VirtioDevice> device;
  };
  struct NamedOutput {
    std::string id;
    std::shared_ptr<OutputErrors> errors;
  };
  class Events;
  struct Ending;

  /// The first of its kind, nullptr if there is none.
  template <typename T>
  [[nodiscard]] T* find() const noexcept {
    for (const Named& named : virtio_) {
      if (auto* device = dynamic_cast<T*>(named.device.get())) return device;
    }
    return nullptr;
  }
  [[nodiscard]] static bool may_close(const Ending& ending,
                                      const std::vector<Ending>& all) noexcept;
  static void advance(Ending& ending, const std::vector<Ending>& all,
                      const Deadline& deadline) noexcept;
  void add_legacy_devices(BootSpec& boot, const Report& report);
  void add_acpi_devices(const BootSpec& boot, const Report& report);
  void add_pci(PciSpec& pci, GuestMemory& memory, InterruptFabric& fabric,
               const Cancellation& cancellation, const Report& report);
  [[nodiscard]] CharBackendReports reports_of(const std::string& id, const Report& report);
  void add_pvpanic(const PvpanicSpec& spec, const Report& report);
  void map_ports(uint16_t base, uint64_t size, std::shared_ptr<BusDevice> device);

  // Declared in the order in which they are needed: a device goes before the loop and the interrupt
  // line it uses. The buses own devices, and input from the host may reach those until they are
  // gone.
  EventLoop loop_;
  std::unique_ptr<Events> events_;
  std::shared_ptr<IoApic> ioapic_;
  AddressSpace ports_;
  AddressSpace mmio_;
  std::shared_ptr<AcpiEvents> acpi_events_;
  std::shared_ptr<Ged> ged_;
  std::shared_ptr<PostCode> post_code_;
  RateLimiterGroups rate_limiters_;
  std::vector<Named> virtio_;
  std::vector<NamedOutput> outputs_;  ///< of the serial port and the consoles
  std::unique_ptr<PciRoot> pci_;
};

}  // namespace tsvmm
