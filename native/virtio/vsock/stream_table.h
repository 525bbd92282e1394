#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "virtio/vsock/stream.h"

namespace tsvmm::vsock {

/// The streams of a device: by the id that events carry, and by the ports that packets carry.
class StreamTable {
 public:
  static constexpr size_t kMaxStreams = 1023;
  /// Where the ports begin that this side chooses.
  static constexpr uint32_t kFirstHostPort = 1U << 30;

  [[nodiscard]] bool full() const noexcept { return size_ == kMaxStreams; }
  [[nodiscard]] size_t size() const noexcept { return size_; }

  /// A new stream, which has no key yet; the table must not be full.
  Stream& add(Stream::State state, UniqueFd socket);
  /// Gives it a key that no other stream has.
  void bind(Stream& stream, StreamKey key);
  /// The next port from kFirstHostPort on that no stream uses on this side.
  [[nodiscard]] uint32_t free_host_port() noexcept;
  void remove(Stream& stream) noexcept;

  /// nullptr if there is none (any more).
  [[nodiscard]] Stream* by_id(uint64_t id) const noexcept;
  [[nodiscard]] Stream* by_key(StreamKey key) const noexcept;

  void for_each(auto&& function) {
    for (const auto& slot : slots_) {
      if (slot) function(*slot);
    }
  }

 private:
  std::vector<std::unique_ptr<Stream>> slots_;  ///< an id's low half is the index
  std::vector<uint32_t> free_;
  size_t size_ = 0;
  uint32_t generation_ = 0;  ///< an id's high half, so that ids do not come twice
  std::unordered_map<uint64_t, Stream*> keys_;
  std::unordered_multiset<uint32_t> host_ports_;
  uint32_t next_host_port_ = kFirstHostPort;
};

}  // namespace tsvmm::vsock
