#include "virtio/vsock/stream_table.h"

#include <algorithm>

namespace tsvmm::vsock {
namespace {

/// What a stream may have in flight from the guest. Streams beyond the first ones get less, which
/// bounds what a guest can make us hold (to about 80 MiB, all of it unread by the host).
constexpr size_t kGenerousStreams = 64;
constexpr uint32_t kGenerousAllocation = 256 * 1024;
constexpr uint32_t kAllocation = 64 * 1024;

uint64_t number_of(StreamKey key) { return uint64_t{key.host_port} << 32 | key.guest_port; }

bool has_key(const Stream& stream) { return stream.state != Stream::State::kHandshake; }

}  // namespace

Stream& StreamTable::add(Stream::State state, UniqueFd socket) {
  uint32_t slot = static_cast<uint32_t>(slots_.size());
  if (free_.empty()) {
    slots_.emplace_back();
  } else {
    slot = free_.back();
    free_.pop_back();
  }
  const uint64_t id = uint64_t{++generation_} << 32 | slot;
  slots_[slot] = std::make_unique<Stream>(
      id, state, std::move(socket), size_ < kGenerousStreams ? kGenerousAllocation : kAllocation);
  ++size_;
  return *slots_[slot];
}

void StreamTable::bind(Stream& stream, StreamKey key) {
  stream.key = key;
  keys_.emplace(number_of(key), &stream);
  host_ports_.insert(key.host_port);
}

uint32_t StreamTable::free_host_port() noexcept {
  for (;;) {
    const uint32_t port = next_host_port_++;
    // All ones means any port, and is none.
    if (next_host_port_ == UINT32_MAX) next_host_port_ = kFirstHostPort;
    if (!host_ports_.contains(port)) return port;
  }
}

void StreamTable::remove(Stream& stream) noexcept {
  if (has_key(stream)) {
    keys_.erase(number_of(stream.key));
    host_ports_.erase(host_ports_.find(stream.key.host_port));
  }
  const auto slot = static_cast<uint32_t>(stream.id);
  slots_[slot].reset();
  free_.push_back(slot);
  --size_;
}

Stream* StreamTable::by_id(uint64_t id) const noexcept {
  const auto slot = static_cast<uint32_t>(id);
  if (slot >= slots_.size() || !slots_[slot] || slots_[slot]->id != id) return nullptr;
  return slots_[slot].get();
}

Stream* StreamTable::by_key(StreamKey key) const noexcept {
  const auto found = keys_.find(number_of(key));
  return found == keys_.end() ? nullptr : found->second;
}

}  // namespace tsvmm::vsock
