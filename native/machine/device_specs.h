#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/rate_limiter.h"
#include "core/unique_fd.h"
#include "device/char_backend.h"
#include "disk/image_spec.h"
#include "memory/guest_memory.h"

namespace tsvmm {

// What the layer above decides about devices, as plain values. src/native.ts documents each field.
// All descriptors belong to the specification.

/// A character device's host end, and the descriptors that it names.
struct CharBackendSource {
  CharBackendSpec spec;
  std::vector<UniqueFd> descriptors;
};

/// Limits of one device, or of a direction of it; those of a group are shared by its members.
struct RateLimiterSpec {
  std::string group;  ///< empty: the device's own
  RateLimiterConfig config;
};

struct BlockSpec {
  std::vector<ImageLayer> layers;
  ImageOptions image;
  uint16_t num_queues = 1;
  uint16_t queue_size = 128;
  std::string serial;
  bool protect_sector0 = false;
  std::vector<std::vector<int>> queue_cpus;  ///< by queue; empty: any host CPU
  RateLimiterSpec rate_limiter;
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

struct VsockSpec {
  UniqueFd listener;
  uint32_t cid = 0;
  std::string path;
  bool any_owner = false;
};

struct BalloonSpec {
  uint64_t size = 0;
  bool deflate_on_oom = false;
  bool free_page_reporting = false;
};

/// A tap by one descriptor for each queue pair.
struct TapSpec {
  std::vector<UniqueFd> queues;
  std::vector<UniqueFd> vhost;  ///< /dev/vhost-net for each queue pair, or none
};

/// A connected stream socket, with each frame behind its length.
struct StreamSpec {
  UniqueFd fd;
};

struct NetSpec {
  std::variant<TapSpec, StreamSpec> network;
  std::array<uint8_t, 6> mac{};
  std::optional<uint16_t> mtu;
  uint16_t queue_size = 256;
  bool checksum = true;
  bool tso = true;
  bool ufo = true;
  RateLimiterSpec rate_limiter;  ///< of each direction
};

struct PmemSpec {
  UniqueFd fd;
  uint64_t size = 0;
  bool discard_writes = false;
};

struct ClockSpec {};

struct PciFunctionSpec {
  std::string id;
  unsigned slot = 0;
  GuestAddress bar0 = 0;
  bool bar0_is_64bit = false;
  GuestAddress bar2 = 0;  ///< of a device with memory of its own
  std::variant<BlockSpec, NetSpec, RngSpec, ConsoleSpec, WatchdogSpec, BalloonSpec, VsockSpec,
               PmemSpec, ClockSpec>
      device;
};

}  // namespace tsvmm
