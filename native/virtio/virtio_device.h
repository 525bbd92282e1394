#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/cbor_writer.h"
#include "core/deadline.h"
#include "core/event_fd.h"
#include "memory/guest_memory.h"

namespace tsvmm {

class IommuEndpoint;

/// How drivers, and tools that list a PCI bus, identify a device.
struct VirtioType {
  uint16_t id;  ///< virtio 1.2 §5
  // Of its PCI function (PCI Code and ID Assignment 1.11 §1); 0xff: in none of the classes.
  uint8_t pci_class = 0xff;
  uint8_t pci_subclass = 0xff;
};

/// Feature bits that concern the transport and the rings (virtio 1.2 §6).
namespace virtio_feature {
inline constexpr uint64_t kIndirectDescriptors = 1ULL << 28;
inline constexpr uint64_t kEventIndex = 1ULL << 29;
inline constexpr uint64_t kVersion1 = 1ULL << 32;
/// Addresses of the driver go through an IOMMU.
inline constexpr uint64_t kAccessPlatform = 1ULL << 33;
inline constexpr uint64_t kInOrder = 1ULL << 35;
}  // namespace virtio_feature

/// Where a split virtqueue lies: plain data, so that any server (a thread here, the kernel,
/// another process) can take it.
struct VirtqueueConfig {
  uint16_t size = 0;  ///< entries, a power of two
  GuestAddress descriptor_table = 0;
  GuestAddress available_ring = 0;
  GuestAddress used_ring = 0;
};

/// How far the server of a split virtqueue has come in its rings. In a cache line of its own: each
/// queue of a device may have another thread.
struct alignas(64) SplitQueueState {
  uint16_t next_available = 0;
  uint16_t next_used = 0;
};

/// How a used buffer is announced to the guest. Any thread.
class VirtqueueInterrupt {
 public:
  virtual ~VirtqueueInterrupt() = default;
  virtual void trigger() noexcept = 0;
  /// What a server outside of this process's threads (vhost) signals instead of trigger(): such a
  /// signal reaches the guest without passing through here, and waits while the guest masks it.
  /// Valid until after the device's reset(). nullptr where the hypervisor has no such path, or the
  /// driver no vector for the queue.
  [[nodiscard]] virtual const EventFd* external() noexcept { return nullptr; }
};

/// A virtqueue that the driver has enabled, with its two signals. What is pointed to is the
/// transport's and lives until after the device's reset().
struct VirtqueueSetup {
  uint16_t index = 0;
  VirtqueueConfig rings;
  const EventFd* doorbell = nullptr;
  VirtqueueInterrupt* interrupt = nullptr;
  /// Where the server goes on, and keeps how far it is. While the device is paused all that it has
  /// taken and not returned counts as not taken, but for what its own state names.
  SplitQueueState* state = nullptr;
  IommuEndpoint* iommu = nullptr;  ///< what translates its addresses; nullptr: nothing
};

/// What a device starts to work with at DRIVER_OK.
struct Activation {
  const GuestMemory& memory;
  uint64_t features;  ///< negotiated, including virtio_feature::kVersion1
  std::vector<VirtqueueSetup> queues;

  /// nullptr if the driver has not enabled queue `index`.
  [[nodiscard]] const VirtqueueSetup* queue(uint16_t index) const {
    for (const VirtqueueSetup& setup : queues) {
      if (setup.index == index) return &setup;
    }
    return nullptr;
  }
};

/// What a device tells its transport. Any thread, also during activate() and reset().
class VirtioTransport {
 public:
  virtual ~VirtioTransport() = default;
  /// The device configuration has new values (virtio 1.2 §2.3).
  virtual void config_changed() noexcept = 0;
  /// The device cannot go on: DEVICE_NEEDS_RESET (virtio 1.2 §2.1.2).
  virtual void failed(std::string_view reason) noexcept = 0;
  /// Information about the device's work for the log.
  virtual void note([[maybe_unused]] std::string_view text) noexcept {}
  /// A warning for the log. The caller bounds how often each text is sent.
  virtual void warn([[maybe_unused]] std::string_view text) noexcept {}
};

struct Counter {
  const char* name;
  uint64_t value;
};

class Fields;

/// A control operation on a device, with its arguments read.
struct DeviceOperation {
  /// It may take long, and nothing else is done to the machine meanwhile.
  bool exclusive = false;
  /// Throws Error, ETIMEDOUT at the deadline. May write one item as its answer.
  std::function<void(CborWriter& answer, const Deadline& deadline)> run;
};

/// A virtio device behind any transport.
///
/// The transport serializes read_config, write_config, activate and try_reset, and calls activate
/// only after construction or a reset. They run on vCPU threads.
///
/// What may take long is begun, waited for until a deadline, and can be taken back: no call waits
/// for the host's disks or files without end.
class VirtioDevice {
 public:
  virtual ~VirtioDevice() = default;

  [[nodiscard]] virtual VirtioType type() const noexcept = 0;
  /// Offered features; the transport adds virtio_feature::kVersion1.
  [[nodiscard]] virtual uint64_t features() const noexcept = 0;
  /// Each queue's largest size.
  [[nodiscard]] virtual std::vector<uint16_t> queue_sizes() const = 0;

  /// Bytes of device configuration, 0 if it has none.
  [[nodiscard]] virtual uint32_t config_size() const noexcept { return 0; }
  /// offset + data.size() is at most config_size().
  virtual void read_config([[maybe_unused]] uint32_t offset,
                           [[maybe_unused]] std::span<uint8_t> data) noexcept {}
  virtual void write_config([[maybe_unused]] uint32_t offset,
                            [[maybe_unused]] std::span<const uint8_t> data) noexcept {}

  /// Memory that the guest maps by a BAR of its own, nullptr if there is none.
  [[nodiscard]] virtual DeviceMemory* device_memory() noexcept { return nullptr; }
  /// The hypervisor could not reach some guest memory. True if that was this one, and what it
  /// lacked is there now. Any thread.
  [[nodiscard]] virtual bool repair_device_memory() noexcept { return false; }
  /// That memory is at another guest address now, or hidden.
  virtual void device_memory_moved([[maybe_unused]] std::optional<GuestAddress> address) noexcept {}

  /// Starts serving. Throws Error; the device is then to be reset, as one that serves.
  virtual void activate(const Activation& activation) = 0;
  /// Stops serving. True once nothing is in flight and guest memory is not touched any more; false
  /// if that is not so at the deadline: the device is on its way then, and is asked again. Also on
  /// a device whose threads are held.
  [[nodiscard]] virtual bool try_reset(const Deadline& deadline) noexcept = 0;
  /// The same, however long it takes.
  void reset() noexcept { (void)try_reset(Deadline::never()); }

  /// While the machine is being paused and no vCPU runs: asks the device to finish what is in
  /// flight and to hold its own threads. Loops that were passed in are their owner's to pause.
  virtual void begin_pause() noexcept {}
  /// True once that is done, until resume(). After begin_pause(). Throws Error.
  [[nodiscard]] virtual bool wait_paused([[maybe_unused]] const Deadline& deadline) { return true; }
  /// Lets the device go on, or takes a begin_pause() back that did not come to its end.
  virtual void resume() noexcept {}

  // What a guest sees of the device, and neither its transport nor guest memory holds, as bytes
  // that can be kept. What is in flight on the host's side alone is no part of it.

  /// Writes it as one map. While the device is paused, and the loops that were passed in are held.
  virtual void save(CborWriter& state) const { state.map(0); }
  /// Takes over what another device of this kind wrote. Before the first activation, which goes on
  /// where the other one was. Throws Error; the device is then not to be used.
  virtual void restore([[maybe_unused]] Fields& state) {}

  /// Gives up what the device holds of the host's files, which can mean to write to them. For good,
  /// after a reset; true once it is done.
  [[nodiscard]] virtual bool try_close([[maybe_unused]] const Deadline& deadline) noexcept {
    return true;
  }

  /// What the device still waits for when one of the waits above has timed out: a sentence that
  /// goes behind the device's id.
  [[nodiscard]] virtual const char* waits_for() const noexcept {
    return "the device does not come to rest";
  }

  /// What the device has counted so far. Any thread.
  [[nodiscard]] virtual std::vector<Counter> counters() const { return {}; }
  /// What is so at this moment, as numbers. Asks the guest for nothing. Any thread.
  [[nodiscard]] virtual std::vector<Counter> status() const { return {}; }
  /// A control operation by its name; nullopt if there is none of that name. It is run at once, on
  /// any thread, and while the device lives. Throws Error if its arguments are not right.
  [[nodiscard]] virtual std::optional<DeviceOperation> operation(
      [[maybe_unused]] std::string_view name, [[maybe_unused]] Fields& arguments) {
    return std::nullopt;
  }

  /// Called once by the transport, which outlives every use of it.
  void connect(VirtioTransport& transport) { transport_ = &transport; }
  /// The end of that, after reset().
  void disconnect() { transport_ = &no_transport_; }

 protected:
  [[nodiscard]] VirtioTransport& transport() const { return *transport_; }

 private:
  class NoTransport : public VirtioTransport {
    void config_changed() noexcept override {}
    void failed(std::string_view /*reason*/) noexcept override {}
  };
  static inline NoTransport no_transport_;
  VirtioTransport* transport_ = &no_transport_;
};

}  // namespace tsvmm
