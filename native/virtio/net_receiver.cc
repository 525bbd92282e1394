#include "virtio/net_receiver.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

#include "core/error.h"
#include "core/monotonic.h"
#include "memory/page_size.h"
#include "net/io_vectors.h"
#include "virtio/net_protocol.h"

namespace tsvmm {
namespace {

constexpr size_t kSpareSlot =
    (NetQueue::kMaxFrameSize + kHostPageSize - 1) / kHostPageSize * kHostPageSize;
constexpr size_t kSpareSize = kSpareSlot * NetQueue::kMaxBatch;
/// readv takes 1024 (IOV_MAX), one of which is the spare memory.
constexpr size_t kMaxVectorsPerRead = 1000;
constexpr size_t kMaxVectors = 2048;
/// Frames that the expected size is derived from.
constexpr size_t kSampleFrames = 256;

}  // namespace

NetReceiver::NetReceiver(const GuestMemory& memory, const VirtqueueSetup& setup, uint64_t features,
                         NetQueue& network, RateLimiter* limiter, NetCounters::Direction& counters)
    : queue_(memory, setup, features),
      interrupt_(*setup.interrupt),
      network_(network),
      limiter_(limiter),
      counters_(counters),
      mergeable_((features & virtio_net::kFeatureMergeableBuffers) != 0),
      takes_checksums_((features & virtio_net::kFeatureGuestChecksum) != 0),
      pool_(queue_),
      vectors_(std::make_unique_for_overwrite<iovec[]>(kMaxVectors)) {
  void* spare = ::mmap(nullptr, kSpareSize, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (spare == MAP_FAILED) throw Error::from_errno("memory for received frames", errno);
  // A huge page would be touched as a whole.
  (void)::madvise(spare, kSpareSize, MADV_NOHUGEPAGE);
  spare_ = static_cast<uint8_t*>(spare);
}

NetReceiver::~NetReceiver() { ::munmap(spare_, kSpareSize); }

uint8_t* NetReceiver::spare(size_t index) const noexcept { return spare_ + index * kSpareSlot; }

NetReceiver::Turn NetReceiver::run() noexcept {
  Turn turn = Turn::kMore;
  if (next_ == received_) turn = receive();
  if (next_ != received_) {
    const Turn delivered = deliver();
    if (delivered != Turn::kMore) turn = delivered;
    if (queue_.publish()) interrupt_.trigger();
  }
  return turn;
}

NetReceiver::Turn NetReceiver::receive() noexcept {
  next_ = 0;
  received_ = 0;
  next_chain_ = 0;
  const Turn prepared = prepare();
  if (prepared != Turn::kMore) return prepared;
  const size_t asked = batch_;
  const NetQueue::State state = network_.receive(std::span(frames_).first(asked), received_);
  if (received_ != 0) counters_.batch();
  if (state == NetQueue::State::kReady) {
    batch_ = std::min(2 * asked, NetQueue::kMaxBatch);
    return Turn::kMore;
  }
  batch_ = std::max<size_t>((asked + received_) / 2, 1);
  return state == NetQueue::State::kGone ? Turn::kGone : Turn::kEmpty;
}

/// Finds room for a batch; makes it smaller when buffers are short.
NetReceiver::Turn NetReceiver::prepare() noexcept {
  if (limiter_ != nullptr) batch_ = 1;
  batch_ = std::min(batch_, NetQueue::kBatchBytes / expected_ + 1);
  size_t next_chain = 0;
  size_t next_vector = 0;
  for (size_t i = 0; i < batch_; ++i) {
    const size_t first_vector = next_vector;
    Read read{.chain = next_chain};
    const Turn turn = prepare_one(next_chain, next_vector);
    if (turn == Turn::kBroken) return turn;
    if (turn != Turn::kMore) {
      batch_ = i;
      break;
    }
    for (size_t v = first_vector; v < next_vector; ++v) read.capacity += vectors_[v].iov_len;
    if (read.capacity < NetQueue::kMaxFrameSize) {
      vectors_[next_vector++] = {spare(i) + read.capacity, NetQueue::kMaxFrameSize - read.capacity};
    }
    reads_[i] = read;
    frames_[i].buffers = std::span(&vectors_[first_vector], next_vector - first_vector);
  }
  if (batch_ != 0) return Turn::kMore;
  batch_ = 1;
  return Turn::kNoBuffers;
}

/// Takes the chains that one frame is read into from `next_chain` on.
NetReceiver::Turn NetReceiver::prepare_one(size_t& next_chain, size_t& next_vector) noexcept {
  const size_t wanted = mergeable_ ? expected_ : 1;
  const size_t first_chain = next_chain;
  size_t chain_index = next_chain;
  size_t vector = next_vector;
  size_t capacity = 0;
  while (capacity < wanted) {
    if (chain_index == pool_.size()) {
      const NetBufferPool::Take take = pool_.take();
      if (take == NetBufferPool::Take::kBroken) return Turn::kBroken;
      if (take != NetBufferPool::Take::kTaken) break;
    }
    const NetBufferPool::Chain chain = pool_.chain(chain_index);
    const size_t vectors = vector - next_vector + chain.buffers.size();
    if (vectors > kMaxVectorsPerRead || vector + chain.buffers.size() >= kMaxVectors) break;
    for (const iovec& buffer : chain.buffers) {
      if (vector != next_vector && extend_vector(vectors_[vector - 1], buffer)) continue;
      vectors_[vector++] = buffer;
    }
    capacity += chain.capacity;
    ++chain_index;
  }
  if (capacity == 0) return Turn::kNoBuffers;
  // One that may turn out too large is read alone: it can wait for more buffers.
  if (capacity < wanted && first_chain != 0) return Turn::kNoBuffers;
  next_chain = chain_index;
  next_vector = vector;
  return Turn::kMore;
}

/// Whether the driver can be expected to make more buffers available before those in the pool have
/// come back to it: drivers refill a queue that is half empty, sooner or later.
bool NetReceiver::can_wait() const noexcept { return undelivered() < queue_.size() / 2U; }

NetReceiver::Turn NetReceiver::deliver() noexcept {
  for (; next_ != received_; ++next_) {
    const int32_t result = frames_[next_].result;
    if (result <= static_cast<int32_t>(virtio_net::kHeaderSize)) {
      counters_.drop();
      continue;
    }
    const auto size = static_cast<size_t>(result);
    size_t chains = 0;
    const Turn room = find_room(size, chains);
    if (room != Turn::kMore) return room;
    if (chains == 0) {
      counters_.drop();
      continue;
    }
    if (!admitted(size)) return Turn::kLimited;
    learn(size);
    put(next_, size, chains);
    counters_.frame(size - virtio_net::kHeaderSize);
  }
  pool_.remove(next_chain_);
  next_chain_ = 0;
  return Turn::kMore;
}

/// Finds how many chains the next frame takes: 0 if it has to be dropped.
NetReceiver::Turn NetReceiver::find_room(size_t size, size_t& chains) noexcept {
  const size_t most = mergeable_ ? SIZE_MAX : 1;
  size_t room = 0;
  for (chains = 0; room < size; ++chains) {
    if (chains == most) break;
    if (next_chain_ + chains == pool_.size()) {
      const NetBufferPool::Take take = pool_.take();
      if (take == NetBufferPool::Take::kBroken) return Turn::kBroken;
      if (take == NetBufferPool::Take::kEmpty && can_wait()) return Turn::kNoBuffers;
      if (take != NetBufferPool::Take::kTaken) break;
    }
    room += pool_.chain(next_chain_ + chains).capacity;
  }
  if (room < size) chains = 0;
  return Turn::kMore;
}

/// Puts a frame that has been read into the next `chains` chains and returns these to the driver.
void NetReceiver::put(size_t index, size_t size, size_t chains) noexcept {
  for (size_t i = index + 1; i < received_ && reads_[i].chain < next_chain_ + chains; ++i) {
    move_to_spare(i);
  }
  move_to_chains(index, size, chains);
  size_t done = 0;
  for (size_t i = 0; i < chains; ++i) {
    const NetBufferPool::Chain chain = pool_.chain(next_chain_ + i);
    const size_t part = std::min<size_t>(chain.capacity, size - done);
    if (i == 0) complete_header(chain.buffers, static_cast<uint16_t>(chains));
    queue_.push_used(chain.head, static_cast<uint32_t>(part));
    done += part;
  }
  next_chain_ += chains;
}

/// Copies what of a frame is not in the next `chains` chains already.
void NetReceiver::move_to_chains(size_t index, size_t size, size_t chains) noexcept {
  // Frames before this one may have taken chains of its own.
  if (reads_[index].chain < next_chain_) move_to_spare(index);
  const Read& read = reads_[index];
  const bool in_place = !read.is_spare && read.chain == next_chain_;
  const size_t placed = in_place ? std::min(read.capacity, size) : 0;
  if (placed == size) return;
  const iovec rest{spare(index) + placed, size - placed};
  // Or they have left chains over: then this one moves towards the front.
  const bool shift = !in_place && !read.is_spare;
  copy_vectors(shift ? frames_[index].buffers : std::span(&rest, 1),
               pool_.buffers(next_chain_, chains), size - placed, placed);
}

/// What the network leaves to be filled in (§5.1.6.4.1).
void NetReceiver::complete_header(std::span<const iovec> buffers, uint16_t chains) const noexcept {
  std::array<uint8_t, 2> count{static_cast<uint8_t>(chains), static_cast<uint8_t>(chains >> 8)};
  const iovec count_vector{count.data(), count.size()};
  copy_vectors({&count_vector, 1}, buffers, count.size(), virtio_net::kNumBuffersOffset);
  if (takes_checksums_) return;
  uint8_t flags = 0;
  const iovec flags_vector{&flags, 1};
  copy_vectors({&flags_vector, 1}, buffers, 1);
}

/// Brings a whole frame together in the spare memory, out of chains that others need.
void NetReceiver::move_to_spare(size_t index) noexcept {
  Read& read = reads_[index];
  const int32_t size = frames_[index].result;
  if (read.is_spare || size <= 0) return;
  const iovec to{spare(index), std::min<size_t>(static_cast<size_t>(size), read.capacity)};
  copy_vectors(frames_[index].buffers, {&to, 1}, to.iov_len);
  read.is_spare = true;
}

void NetReceiver::learn(size_t size) noexcept {
  largest_ = std::max(largest_, size);
  expected_ = std::max(expected_, size);
  if (++counted_ < kSampleFrames) return;
  expected_ = largest_;
  largest_ = 1;
  counted_ = 0;
}

bool NetReceiver::admitted(size_t size) noexcept {
  if (limiter_ == nullptr) return true;
  limited_ns_ = limiter_->admit(size - virtio_net::kHeaderSize, monotonic_ns());
  return limited_ns_ == 0;
}

}  // namespace tsvmm
