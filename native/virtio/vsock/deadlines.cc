#include "virtio/vsock/deadlines.h"

namespace tsvmm::vsock {

void Deadlines::move(uint64_t id, uint64_t from, uint64_t to) {
  if (from != 0) waiting_.erase({from, id});
  if (to != 0) waiting_.emplace(to, id);
}

std::optional<uint64_t> Deadlines::pop_expired(uint64_t now) noexcept {
  if (waiting_.empty() || waiting_.begin()->first > now) return std::nullopt;
  const uint64_t id = waiting_.begin()->second;
  waiting_.erase(waiting_.begin());
  return id;
}

void Deadlines::shift(uint64_t by) {
  std::set<std::pair<uint64_t, uint64_t>> shifted;
  for (const auto& [time, id] : waiting_) shifted.emplace_hint(shifted.end(), time + by, id);
  waiting_.swap(shifted);
}

void Deadlines::arm() noexcept {
  if (waiting_.empty()) return;
  const uint64_t first = waiting_.begin()->first;
  // A timer that goes off for nothing costs less than taking every deadline back that was met.
  if (armed_ != 0 && armed_ <= first) return;
  armed_ = first;
  timer_.start_at(first);
}

}  // namespace tsvmm::vsock
