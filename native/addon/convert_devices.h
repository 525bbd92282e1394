#pragma once

#include <napi.h>

#include "machine/device_specs.h"

namespace tsvmm {

// Device descriptions of JavaScript. They throw Napi::TypeError naming the field.

CharBackendSource to_backend(const Napi::Object& object);
/// Field `name`, which may be left out: no limits.
RateLimiterSpec to_rate_limiter(const Napi::Object& object, const char* name);
PciFunctionSpec to_pci_function(const Napi::Object& object);

}  // namespace tsvmm
