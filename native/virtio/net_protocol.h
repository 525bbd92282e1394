#pragma once

#include <cstdint>

/// Numbers and layouts of the network device (virtio 1.2 §5.1; USO: virtio 1.3 §5.1.3).
namespace tsvmm::virtio_net {

// Feature bits, §5.1.3. HOST_... is what the device takes, GUEST_... what the driver takes.
inline constexpr uint64_t kFeatureChecksum = 1ULL << 0;
inline constexpr uint64_t kFeatureGuestChecksum = 1ULL << 1;
inline constexpr uint64_t kFeatureControlGuestOffloads = 1ULL << 2;
inline constexpr uint64_t kFeatureMtu = 1ULL << 3;
inline constexpr uint64_t kFeatureMac = 1ULL << 5;
inline constexpr uint64_t kFeatureGuestTso4 = 1ULL << 7;
inline constexpr uint64_t kFeatureGuestTso6 = 1ULL << 8;
inline constexpr uint64_t kFeatureGuestEcn = 1ULL << 9;
inline constexpr uint64_t kFeatureGuestUfo = 1ULL << 10;
inline constexpr uint64_t kFeatureHostTso4 = 1ULL << 11;
inline constexpr uint64_t kFeatureHostTso6 = 1ULL << 12;
inline constexpr uint64_t kFeatureHostEcn = 1ULL << 13;
inline constexpr uint64_t kFeatureHostUfo = 1ULL << 14;
inline constexpr uint64_t kFeatureMergeableBuffers = 1ULL << 15;
inline constexpr uint64_t kFeatureStatus = 1ULL << 16;
inline constexpr uint64_t kFeatureControlQueue = 1ULL << 17;
inline constexpr uint64_t kFeatureControlReceive = 1ULL << 18;
inline constexpr uint64_t kFeatureGuestAnnounce = 1ULL << 21;
inline constexpr uint64_t kFeatureMultiQueue = 1ULL << 22;
inline constexpr uint64_t kFeatureControlMac = 1ULL << 23;
inline constexpr uint64_t kFeatureGuestUso4 = 1ULL << 54;
inline constexpr uint64_t kFeatureGuestUso6 = 1ULL << 55;
inline constexpr uint64_t kFeatureHostUso = 1ULL << 56;

/// struct virtio_net_config, §5.1.4, up to the fields of the offered features.
struct Config {
  uint8_t mac[6];
  uint16_t status;
  uint16_t max_virtqueue_pairs;
  uint16_t mtu;
};
inline constexpr uint32_t kConfigSize = 12;
static_assert(sizeof(Config) == kConfigSize);

inline constexpr uint16_t kStatusLinkUp = 1;
inline constexpr uint16_t kStatusAnnounce = 2;

/// struct virtio_net_hdr, §5.1.6, in front of each frame.
struct Header {
  uint8_t flags;
  uint8_t gso_type;
  uint16_t hdr_len;
  uint16_t gso_size;
  uint16_t csum_start;
  uint16_t csum_offset;
  uint16_t num_buffers;
};
inline constexpr uint32_t kHeaderSize = 12;
static_assert(sizeof(Header) == kHeaderSize);
inline constexpr uint32_t kNumBuffersOffset = 10;

// Control commands, §5.1.6.5: class, command, data, and a byte for the answer.
inline constexpr uint8_t kAckOk = 0;
inline constexpr uint8_t kAckError = 1;
inline constexpr uint8_t kClassReceive = 0;
inline constexpr uint8_t kReceiveNoBroadcast = 5;  ///< the last of the receive modes
inline constexpr uint8_t kClassMac = 1;
inline constexpr uint8_t kMacTableSet = 0;
inline constexpr uint8_t kMacAddressSet = 1;
inline constexpr uint8_t kClassAnnounce = 3;
inline constexpr uint8_t kAnnounceAck = 0;
inline constexpr uint8_t kClassMultiQueue = 4;
inline constexpr uint8_t kMultiQueuePairsSet = 0;
inline constexpr uint8_t kClassGuestOffloads = 5;
inline constexpr uint8_t kGuestOffloadsSet = 0;

}  // namespace tsvmm::virtio_net
