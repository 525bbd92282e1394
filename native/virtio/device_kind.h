#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "core/cancellation.h"
#include "core/event_loop.h"
#include "core/message.h"
#include "core/rate_limiter_groups.h"
#include "device/char_backend.h"
#include "virtio/iommu/tables.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// What devices of a machine share.
struct DeviceContext {
  GuestMemory& memory;  ///< outlives them
  EventLoop& loop;      ///< of the devices that need no thread of their own; outlives them
  /// Resets the machine as a guest can; `cause` is a ResetCause (src/boundary/machineEvents.ts).
  /// Any thread.
  std::function<void(const char* cause)> reset_machine;
  /// For the host end of the device with this id.
  std::function<CharBackendReports(const std::string& id)> reports_of;
  RateLimiterGroups& rate_limiters;
  const Cancellation& cancellation;           ///< of long operations in making them
  const std::shared_ptr<IommuTables>& iommu;  ///< of the machine's IOMMU, if it has one
};

/// What a device is to be, read and checked.
class DeviceSpec {
 public:
  virtual ~DeviceSpec() = default;
  /// Once: the specification's descriptors may become the device's. Throws Error.
  virtual std::shared_ptr<VirtioDevice> make(const std::string& id,
                                             const DeviceContext& context) = 0;
};

/// A kind of device.
struct DeviceKind {
  std::string_view name;  ///< in specifications
  /// Reads what a specification has for this kind alone. Throws Error.
  std::unique_ptr<DeviceSpec> (*read)(Fields& fields);
};

/// DeviceKind::read for a specification that is made from the fields.
template <typename Spec>
std::unique_ptr<DeviceSpec> read_device_spec(Fields& fields) {
  return std::make_unique<Spec>(fields);
}

/// All of them.
[[nodiscard]] std::span<const DeviceKind> device_kinds();

}  // namespace tsvmm
