#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "core/unique_fd.h"
#include "device/char_backend.h"
#include "memory/guest_memory.h"

namespace tsvmm {

// What the layer above decides about devices, as plain values. src/native.ts documents each field.
// All descriptors belong to the specification.

/// A character device's host end, and the descriptors that it names.
struct CharBackendSource {
  CharBackendSpec spec;
  std::vector<UniqueFd> descriptors;
};

struct BlockSpec {
  UniqueFd fd;
  bool readonly = false;
  bool direct = false;
  uint16_t num_queues = 1;
  uint16_t queue_size = 128;
  std::string serial;
  bool protect_sector0 = false;
};

struct RngSpec {
  UniqueFd fd;
};

struct ConsoleSpec {
  CharBackendSource backend;
  uint16_t columns = 0;
  uint16_t rows = 0;
};

struct WatchdogSpec {};

struct PciFunctionSpec {
  std::string id;
  unsigned slot = 0;
  GuestAddress bar0 = 0;
  bool bar0_is_64bit = false;
  std::variant<BlockSpec, RngSpec, ConsoleSpec, WatchdogSpec> device;
};

}  // namespace tsvmm
