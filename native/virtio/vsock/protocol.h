#pragma once

#include <cstdint>

/// Numbers and layouts of the socket device (virtio 1.2 §5.10).
namespace tsvmm::vsock {

/// The host's context id, §5.10.4.
inline constexpr uint64_t kHostCid = 2;

/// Feature bits, §5.10.3.
inline constexpr uint64_t kFeatureStream = 1ULL << 0;

/// Queues, §5.10.2.
inline constexpr uint16_t kReceiveQueue = 0;
inline constexpr uint16_t kTransmitQueue = 1;
inline constexpr uint16_t kEventQueue = 2;

/// struct virtio_vsock_config, §5.10.4: the guest's context id.
inline constexpr uint32_t kConfigSize = 8;

/// enum virtio_vsock_op, §5.10.6.
enum class Operation : uint16_t {
  kInvalid = 0,
  kRequest = 1,
  kResponse = 2,
  kReset = 3,
  kShutdown = 4,
  kData = 5,  ///< VIRTIO_VSOCK_OP_RW
  kCreditUpdate = 6,
  kCreditRequest = 7,
};

/// Socket types, §5.10.6.
inline constexpr uint16_t kTypeStream = 1;

/// Flags of kShutdown, §5.10.6.5: what the packet's sender will not do any more.
inline constexpr uint32_t kWillNotReceive = 1;
inline constexpr uint32_t kWillNotSend = 2;
inline constexpr uint32_t kShutdownBoth = kWillNotReceive | kWillNotSend;

/// struct virtio_vsock_hdr, §5.10.6.
struct [[gnu::packed]] Header {
  uint64_t src_cid;
  uint64_t dst_cid;
  uint32_t src_port;
  uint32_t dst_port;
  uint32_t len;  ///< bytes of payload that follow
  uint16_t type;
  uint16_t op;
  uint32_t flags;
  uint32_t buf_alloc;
  uint32_t fwd_cnt;
};
inline constexpr uint32_t kHeaderSize = 44;
static_assert(sizeof(Header) == kHeaderSize);

/// struct virtio_vsock_event with VIRTIO_VSOCK_EVENT_TRANSPORT_RESET, §5.10.6.7.
inline constexpr uint32_t kEventTransportReset = 0;
inline constexpr uint32_t kEventSize = 4;

}  // namespace tsvmm::vsock
