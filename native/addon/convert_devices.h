#pragma once

#include <napi.h>

#include "machine/device_specs.h"

namespace tsvmm {

// Device descriptions of JavaScript. They throw Napi::TypeError naming the field.

CharBackendSource to_backend(const Napi::Object& object);
PciFunctionSpec to_pci_function(const Napi::Object& object);

}  // namespace tsvmm
