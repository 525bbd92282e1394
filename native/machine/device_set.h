#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "bus/address_space.h"
#include "core/cancellation.h"
#include "core/event_loop.h"
#include "core/rate_limiter_groups.h"
#include "device/char_backend.h"
#include "device/output_errors.h"
#include "device/pci_hotplug.h"
#include "hypervisor/hypervisor.h"
#include "machine/machine_event.h"
#include "machine/machine_spec.h"
#include "pci/pci_root.h"
#include "virtio/iommu/tables.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// The counters, or the present figures, of one device.
struct DeviceCounters {
  std::string id;
  std::vector<Counter> counters;
};

/// A machine's devices that every architecture knows: those on PCI, virtio first of all, and what
/// they share with the board's own, which are memory-mapped accesses, an event loop, and the host's
/// ends of consoles.
class DeviceSet {
 public:
  /// PCI without functions. `memory`, `fabric` and `cancellation` outlive the devices. Throws
  /// Error.
  DeviceSet(const PciSpec& pci, GuestMemory& memory, InterruptFabric& fabric,
            const Cancellation& cancellation, EventReport report);
  ~DeviceSet();
  DeviceSet(const DeviceSet&) = delete;
  DeviceSet& operator=(const DeviceSet&) = delete;

  /// Makes the functions. Takes the descriptors out of `pci`. Throws Error.
  void add_functions(PciSpec& pci);
  /// Begins to serve what needs no thread of its own. The guest may run by then: making the thread
  /// takes a seventh of the time from the order to boot to the guest's first instruction. Throws
  /// Error.
  void start() { loop_.start(); }

  // For the board's devices.

  /// Of the devices that need no thread of their own.
  [[nodiscard]] EventLoop& loop() noexcept { return loop_; }
  [[nodiscard]] AddressSpace& mmio() noexcept { return mmio_; }
  /// Segment 0, which ports lead to as well.
  [[nodiscard]] PciRoot& pci() noexcept { return *segments_.front(); }
  /// Puts the hot-plug controller's registers at `address`; `interrupt` tells the guest to look at
  /// them, from any thread, and outlives the devices' use. Throws Error.
  void connect_hotplug(GuestAddress address, std::function<void()> interrupt);
  /// For the host's end of the device with this id.
  [[nodiscard]] CharBackendReports reports_of(const std::string& id);

  // Devices that come and go while the guest runs. One call at a time.

  /// Makes a function and notifies the guest, which assigns its BARs. Takes the descriptors out of
  /// `spec`. Throws Error; nothing is added then.
  void plug(PciFunctionSpec& spec);
  /// Asks the guest to give up the function of that id, which the event kDeviceEjected follows as
  /// soon as it has. Throws Error ERR_TSVMM_NO_DEVICE.
  void request_unplug(const std::string& id);
  /// Whether others may transfer to memory of the device's own. Throws Error ERR_TSVMM_NO_DEVICE.
  [[nodiscard]] bool has_memory(const std::string& id) const;
  /// Ends and frees what the guest has ejected or, with `force`, has not: its function then stays
  /// in the slot until the guest ejects it, as kDeviceEjected tells, and does nothing. Throws Error
  /// ERR_TSVMM_NO_DEVICE, EBUSY if it is still the guest's, ETIMEDOUT with what the device waits
  /// for: the call may be repeated. While no vCPU runs, if the device has_memory().
  void finish_unplug(const std::string& id, bool force, const Deadline& deadline);

  /// Asks all devices to finish what is in flight and to hold their threads. While no vCPU runs.
  void begin_pause() noexcept;
  /// Waits for that. Throws Error, ETIMEDOUT with the device and what it waits for.
  void wait_paused(const Deadline& deadline);
  /// Lets all devices go on, or takes a begin_pause() back.
  void resume() noexcept;
  /// Ends what the devices do and closes the host's files, while no vCPU runs and for good. Those
  /// that have not come to their end at the deadline, each with what it waits for.
  [[nodiscard]] std::vector<std::string> stop(const Deadline& deadline) noexcept;
  /// The hypervisor could not reach guest memory. True if that was a device's memory, which is
  /// accessible again. Any thread.
  [[nodiscard]] bool repair_memory() noexcept;
  /// A control operation on a device. Throws Error, ERR_TSVMM_NO_DEVICE if there is no such device.
  [[nodiscard]] DeviceOperation operation(const std::string& id, std::string_view name,
                                          Fields& arguments);
  /// By device, of those that have any.
  [[nodiscard]] std::vector<DeviceCounters> counters() const;
  [[nodiscard]] std::vector<DeviceCounters> status() const;

 private:
  struct Named {
    std::string id;
    PciPlace place;
    std::shared_ptr<VirtioDevice> device;
    std::shared_ptr<PciFunction> ejected;  ///< once it is out of its slot
  };
  struct NamedOutput {
    std::string id;
    std::shared_ptr<OutputErrors> errors;
  };
  /// A function that the guest has not ejected, with nothing behind it any more.
  struct Emptied {
    std::string id;
    PciPlace place;
  };
  struct Ending;

  [[nodiscard]] static bool may_close(const Ending& ending,
                                      const std::vector<Ending>& all) noexcept;
  static void advance(Ending& ending, const std::vector<Ending>& all,
                      const Deadline& deadline) noexcept;
  void add_pvpanic(const PvpanicSpec& spec);
  VirtioDevice& add_function(PciFunctionSpec& spec, bool decoded);
  [[nodiscard]] std::vector<DeviceCounters> collect(std::vector<Counter> (VirtioDevice::*figures)()
                                                        const) const;
  [[nodiscard]] std::vector<Named> devices() const;
  /// Throws Error ERR_TSVMM_NO_DEVICE.
  [[nodiscard]] Named named(const std::string& id) const;
  [[nodiscard]] std::optional<std::string> leave_slot(PciPlace place,
                                                      const std::shared_ptr<PciFunction>& function);
  void ejected(PciPlace place);
  /// Throws Error.
  [[nodiscard]] PciRoot& segment(unsigned number);
  void close(const Named& ended, const Deadline& deadline);
  void end_transfers(const Deadline& deadline);

  GuestMemory& memory_;
  InterruptFabric& fabric_;
  const Cancellation& cancellation_;
  const EventReport report_;
  // Declared in the order in which they are needed: a device goes before the loop that it uses. The
  // bus owns devices, and input from the host may reach those until they are gone.
  EventLoop loop_;
  AddressSpace mmio_;
  RateLimiterGroups rate_limiters_;
  const std::shared_ptr<IommuTables> iommu_ = std::make_shared<IommuTables>();
  mutable std::mutex mutex_;  ///< the list; not held while a device is called
  std::vector<Named> virtio_;
  std::vector<Emptied> emptied_;
  std::atomic<bool> paused_ = false;
  std::vector<NamedOutput> outputs_;  ///< of the serial port and the consoles
  std::vector<std::unique_ptr<PciRoot>> segments_;
  std::shared_ptr<PciHotplug> hotplug_;
};

}  // namespace tsvmm
