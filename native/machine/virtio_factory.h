#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/cancellation.h"
#include "core/event_loop.h"
#include "device/char_backend.h"
#include "machine/device_specs.h"
#include "machine/rate_limiter_groups.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// What devices of a machine share.
struct DeviceContext {
  GuestMemory& memory;  ///< outlives them
  EventLoop& loop;      ///< of the devices that need no thread of their own; outlives them
  std::function<void()> watchdog_expired;
  /// For the host end of the device with this id.
  std::function<CharBackendReports(const std::string& id)> reports_of;
  RateLimiterGroups& rate_limiters;
  const Cancellation& cancellation;  ///< of what takes long at making them
};

/// Makes the device that `spec` describes; its descriptors may be taken. Throws Error.
std::shared_ptr<VirtioDevice> make_virtio_device(PciFunctionSpec& spec,
                                                 const DeviceContext& context);

}  // namespace tsvmm
