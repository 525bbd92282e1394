#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "virtio/virtio_device.h"

namespace tsvmm::vsock {

/// A count that one thread makes and any reads.
class Count {
 public:
  void add(uint64_t value) noexcept {
    value_.store(value_.load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
  }
  void set(uint64_t value) noexcept { value_.store(value, std::memory_order_relaxed); }
  [[nodiscard]] uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_ = 0;
};

/// What a socket device has done; "rx" is to the guest, "tx" from it.
struct Counters {
  Count rx_bytes;  ///< payload
  Count rx_packets;
  Count tx_bytes;
  Count tx_packets;
  Count streams;         ///< present now, clients that have not asked for a port yet included
  Count streams_opened;  ///< connected since the start
  Count resets_sent;
  Count resets_received;

  [[nodiscard]] std::vector<Counter> list() const {
    return {{"rx_bytes", rx_bytes.value()},       {"rx_packets", rx_packets.value()},
            {"tx_bytes", tx_bytes.value()},       {"tx_packets", tx_packets.value()},
            {"streams", streams.value()},         {"streams_opened", streams_opened.value()},
            {"resets_sent", resets_sent.value()}, {"resets_received", resets_received.value()}};
  }
};

}  // namespace tsvmm::vsock
