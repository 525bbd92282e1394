#include "virtio/vsock/transmitter.h"

#include "virtio/vsock/packet.h"

namespace tsvmm::vsock {
namespace {

constexpr int kPacketsPerTurn = 256;
/// Of one sendmsg; the kernel allows 1024 pieces.
constexpr size_t kMaxPieces = 1024;
constexpr uint64_t kMaxBatch = 256 * 1024;
/// How long other streams' packets may wait behind a socket that is full.
constexpr uint64_t kHoldNs = 500'000;

}  // namespace

Transmitter::Transmitter(const Activation& activation, const VirtqueueSetup& setup, StreamHub& hub)
    : hub_(hub), side_(activation, setup) {
  pieces_.reserve(kMaxPieces + side_.queue.size());
  heads_.reserve(side_.queue.size());
}

Turn Transmitter::turn() {
  if (error_ != nullptr) return Turn::kBroken;
  side_.queue.disable_notifications();
  Turn result = Turn::kMore;
  DescriptorChain chain;
  for (int i = 0; i < kPacketsPerTurn && result == Turn::kMore; ++i) {
    if (hub_.congested() || (holding_ && !flush())) {
      result = Turn::kWaiting;
      break;
    }
    const SplitQueue::Pop popped = side_.queue.pop(chain);
    if (popped == SplitQueue::Pop::kBroken) {
      error_ = side_.queue.error();
      return Turn::kBroken;
    }
    if (popped == SplitQueue::Pop::kEmpty) {
      if (!flush()) {
        result = Turn::kWaiting;
      } else if (!side_.queue.enable_notifications()) {
        result = Turn::kIdle;
      } else {
        side_.queue.disable_notifications();
      }
      continue;
    }
    const Taken taken = take(chain);
    if (taken == Taken::kBroken) return Turn::kBroken;
    if (taken == Taken::kNotNow) {
      side_.queue.undo_pop();
      result = Turn::kWaiting;
    }
  }
  if (result != Turn::kIdle && !flush()) result = Turn::kWaiting;
  side_.publish();
  return result;
}

Transmitter::Taken Transmitter::take(const DescriptorChain& chain) {
  const auto header = read_header(chain.readable);
  if (!header) {
    error_ = "a transmitted packet is shorter than its header";
    return Taken::kBroken;
  }
  if (header->op == static_cast<uint16_t>(Operation::kData)) return take_data(chain, *header);
  // What a stream's other packets say comes after its data.
  if (!flush()) return Taken::kNotNow;
  hub_.control(*header);
  give_back(chain.head);
  return Taken::kYes;
}

Transmitter::Taken Transmitter::take_data(const DescriptorChain& chain, const Header& header) {
  if (!joins_batch(chain, header) && !flush()) return Taken::kNotNow;
  Stream* const stream = hub_.data_target(header);
  if (stream == nullptr) {
    give_back(chain.head);
    return Taken::kYes;
  }
  if (append_pieces(chain.readable, kHeaderSize, header.len, pieces_) < header.len) {
    // Its data cannot be told from other bytes any more.
    hub_.end(*stream);
    pieces_.clear();
    bytes_ = 0;
    give_back(chain.head);
    return Taken::kYes;
  }
  stream_ = stream->id;
  host_port_ = header.dst_port;
  guest_port_ = header.src_port;
  bytes_ += header.len;
  heads_.push_back(chain.head);
  return Taken::kYes;
}

bool Transmitter::joins_batch(const DescriptorChain& chain, const Header& header) const noexcept {
  if (pieces_.empty()) return true;
  return header.dst_port == host_port_ && header.src_port == guest_port_ &&
         bytes_ + header.len <= kMaxBatch && pieces_.size() + chain.readable.size() <= kMaxPieces;
}

/// Chains are returned in the order in which they came.
void Transmitter::give_back(uint16_t head) {
  if (heads_.empty()) {
    side_.queue.push_used(head, 0);
  } else {
    heads_.push_back(head);
  }
}

/// Hands the batch to the host. False if its socket does not take all of it.
bool Transmitter::flush() {
  if (heads_.empty()) return true;
  Stream* const stream = hub_.stream(stream_);
  if (stream != nullptr && first_piece_ < pieces_.size()) {
    const auto rest = std::span(pieces_).subspan(first_piece_);
    const uint64_t taken = hub_.deliver(*stream, rest);
    first_piece_ = advance(pieces_, first_piece_, taken);
    if (first_piece_ < pieces_.size()) {
      if (!holding_ || taken != 0) hold();
      return false;
    }
  }
  finish_batch();
  return true;
}

void Transmitter::finish_batch() {
  for (const uint16_t head : heads_) side_.queue.push_used(head, 0);
  heads_.clear();
  pieces_.clear();
  first_piece_ = 0;
  bytes_ = 0;
  holding_ = false;
  side_.publish();
}

void Transmitter::hold() noexcept {
  holding_ = true;
  hold_timer_.start_after(kHoldNs);
}

void Transmitter::stop_holding() {
  if (!holding_) return;
  if (Stream* const stream = hub_.stream(stream_)) {
    hub_.keep(*stream, std::span(pieces_).subspan(first_piece_));
  }
  finish_batch();
}

}  // namespace tsvmm::vsock
