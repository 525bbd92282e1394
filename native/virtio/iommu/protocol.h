#pragma once

#include <cstdint>

/// What driver and device of an IOMMU exchange (virtio 1.2 §5.13.4 to §5.13.6). Guest formats are
/// little-endian.
namespace tsvmm::virtio_iommu {

inline constexpr uint64_t kFeatureInputRange = 1ULL << 0;
inline constexpr uint64_t kFeatureMapUnmap = 1ULL << 2;
inline constexpr uint64_t kFeatureProbe = 1ULL << 4;
inline constexpr uint64_t kFeatureBypassConfig = 1ULL << 6;

struct Config {
  uint64_t page_size_mask;
  uint64_t input_start;
  uint64_t input_end;
  uint32_t domain_start;
  uint32_t domain_end;
  uint32_t probe_size;
  uint8_t bypass;
  uint8_t reserved[3];
};
static_assert(sizeof(Config) == 40);

enum class RequestType : uint8_t { kAttach = 1, kDetach = 2, kMap = 3, kUnmap = 4, kProbe = 5 };

enum class Status : uint8_t {
  kOk = 0,
  kUnsupported = 2,
  kDeviceError = 3,
  kInvalid = 4,
  kRange = 5,
  kNoEntry = 6,
  kNoMemory = 8,
};

/// Behind the four bytes that all requests begin with: the type and reserved ones.
struct Attach {
  uint32_t domain;
  uint32_t endpoint;
  uint32_t flags;
  uint32_t reserved;
};
inline constexpr uint32_t kAttachBypass = 1;

struct Detach {
  uint32_t domain;
  uint32_t endpoint;
  uint32_t reserved[2];
};

struct [[gnu::packed]] Map {
  uint32_t domain;
  uint64_t first;
  uint64_t last;
  uint64_t address;
  uint32_t flags;
};
inline constexpr uint32_t kMapRead = 1;
inline constexpr uint32_t kMapWrite = 2;

struct [[gnu::packed]] Unmap {
  uint32_t domain;
  uint64_t first;
  uint64_t last;
  uint32_t reserved;
};

struct Probe {
  uint32_t endpoint;
  uint8_t reserved[64];
};

struct Tail {
  Status status;
  uint8_t reserved[3];
};

/// The property that names a range of addresses with a use of its own.
struct [[gnu::packed]] ReservedMemory {
  uint16_t type;
  uint16_t length;  ///< of what follows
  uint8_t subtype;
  uint8_t reserved[3];
  uint64_t first;
  uint64_t last;
};
inline constexpr uint16_t kPropertyReservedMemory = 1;
inline constexpr uint8_t kReservedForMsi = 1;

enum class FaultReason : uint8_t { kUnknown = 0, kDomain = 1, kMapping = 2 };
inline constexpr uint32_t kFaultRead = 1;
inline constexpr uint32_t kFaultWrite = 2;
inline constexpr uint32_t kFaultAddress = 1U << 8;

struct Fault {
  FaultReason reason;
  uint8_t reserved[3];
  uint32_t flags;
  uint32_t endpoint;
  uint32_t reserved2;
  uint64_t address;
};
static_assert(sizeof(Fault) == 24);

}  // namespace tsvmm::virtio_iommu
