#include "virtio/vsock/receiver.h"

#include <algorithm>

#include "virtio/chain_bytes.h"
#include "virtio/vsock/packet.h"

namespace tsvmm::vsock {
namespace {

constexpr int kPacketsPerTurn = 256;
constexpr uint64_t kBytesPerTurn = 512 * 1024;
/// A stream's share while others wait.
constexpr uint32_t kFairShare = 64 * 1024;
/// Of one readv; the kernel allows 1024 pieces.
constexpr size_t kMaxPieces = 1024;

}  // namespace

Receiver::Receiver(const Activation& activation, const VirtqueueSetup& setup, StreamHub& hub,
                   Counters& counters)
    : hub_(hub), counters_(counters), side_(activation, setup) {
  slots_.reserve(side_.queue.size());
  header_pieces_.reserve(kMaxPieces + side_.queue.size());
  data_pieces_.reserve(kMaxPieces + side_.queue.size());
}

Turn Receiver::turn() {
  if (error_ != nullptr) return Turn::kBroken;
  moved_ = 0;
  Turn result = Turn::kMore;
  for (int i = 0; i < kPacketsPerTurn && moved_ < kBytesPerTurn; ++i) {
    bool served;
    if (hub_.has_reset()) {
      served = take_slot(0);
      if (served) finish_slot(slots_.front(), hub_.take_reset());
    } else if (Stream* const stream = hub_.take_ready()) {
      served = serve(*stream);
    } else {
      served = false;
    }
    clear_slots();
    if (!served) {
      result = Turn::kIdle;
      break;
    }
  }
  side_.publish();
  return error_ != nullptr ? Turn::kBroken : result;
}

/// False if there is no buffer.
bool Receiver::serve(Stream& stream) {
  if (!stream.has_control() && stream.has_data()) return send_data(stream);
  const bool served = take_slot(0);
  if (served) finish_slot(slots_.front(), hub_.take_control(stream));
  hub_.schedule(stream);
  return served;
}

bool Receiver::send_data(Stream& stream) {
  const uint32_t share = hub_.several_ready() ? kFairShare : Stream::kMaxRead;
  const uint64_t wanted = std::min({stream.peer.available(), stream.read_size, share});
  uint64_t room = 0;
  while (room < wanted && data_pieces_.size() <= kMaxPieces - side_.queue.size() &&
         header_pieces_.size() < kMaxPieces && take_slot(wanted - room)) {
    room += slots_.back().room;
  }
  if (slots_.empty()) {
    hub_.schedule(stream);
    return false;
  }
  const int64_t count = stream.read(data_pieces_);
  if (count > 0) fill_slots(stream, static_cast<uint64_t>(count));
  if (count <= 0) side_.queue.undo_pop(static_cast<uint16_t>(slots_.size()));
  hub_.was_read(stream, count);
  return true;
}

/// Turns what was read into packets, and gives the buffers that stayed empty back.
void Receiver::fill_slots(Stream& stream, uint64_t bytes) {
  size_t used = 0;
  for (uint64_t rest = bytes; rest != 0; ++used) {
    const auto length = static_cast<uint32_t>(std::min(rest, slots_[used].room));
    finish_slot(slots_[used], hub_.data_header(stream, length));
    rest -= length;
  }
  side_.queue.undo_pop(static_cast<uint16_t>(slots_.size() - used));
  counters_.rx_packets.add(used);
  moved_ += bytes;
  side_.publish();
}

void Receiver::finish_slot(const Slot& slot, const Header& header) noexcept {
  write_header(std::span(header_pieces_).subspan(slot.first_header_piece, slot.header_pieces),
               header);
  side_.queue.push_used(slot.head, kHeaderSize + header.len);
}

void Receiver::clear_slots() noexcept {
  slots_.clear();
  header_pieces_.clear();
  data_pieces_.clear();
}

/// Takes a buffer, of which `wanted` bytes are to be filled with data. False if there is none.
bool Receiver::take_slot(uint64_t wanted) {
  DescriptorChain chain;
  for (;;) {
    const SplitQueue::Pop popped = side_.queue.pop(chain);
    if (popped == SplitQueue::Pop::kChain) break;
    if (popped == SplitQueue::Pop::kBroken) {
      error_ = side_.queue.error();
      return false;
    }
    starved_ = true;
    if (!side_.queue.enable_notifications()) return false;
  }
  if (starved_) {
    starved_ = false;
    side_.queue.disable_notifications();
  }
  const uint64_t total = tsvmm::total_length(chain.writable);
  if (total <= kHeaderSize) {
    error_ = "a receive buffer has no room for a packet";
    return false;
  }
  Slot slot{.head = chain.head,
            .first_header_piece = static_cast<uint32_t>(header_pieces_.size()),
            .header_pieces = 0,
            .room = 0};
  (void)append_pieces(chain.writable, 0, kHeaderSize, header_pieces_);
  slot.header_pieces = static_cast<uint32_t>(header_pieces_.size()) - slot.first_header_piece;
  if (wanted != 0) slot.room = append_pieces(chain.writable, kHeaderSize, wanted, data_pieces_);
  slots_.push_back(slot);
  return true;
}

}  // namespace tsvmm::vsock
