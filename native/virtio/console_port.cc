#include "virtio/console_port.h"

#include <algorithm>

#include "core/monotonic.h"
#include "virtio/chain_bytes.h"

namespace tsvmm {
namespace {

/// What one turn of the shared loop may send, so that a chatty guest leaves the other devices their
/// turn.
constexpr size_t kBytesPerTurn = 64UL * 1024;
constexpr int kChainsPerTurn = 64;
/// A kernel that writes its whole log at once is not done with setting up.
constexpr uint64_t kAnnouncementIntervalNs = 50'000'000;

std::optional<ConsoleQueues::Side> make_side(const Activation& activation, uint16_t index) {
  const VirtqueueSetup* setup = activation.queue(index);
  if (setup == nullptr) return std::nullopt;
  return std::optional<ConsoleQueues::Side>(std::in_place, activation, *setup);
}

}  // namespace

ConsoleQueues::ConsoleQueues(const Activation& activation, ConsoleProgress& going_on)
    : receive(make_side(activation, kReceive)),
      transmit(make_side(activation, kTransmit)),
      progress(going_on) {}

void ConsolePort::start(std::shared_ptr<ConsoleQueues> queues,
                        VirtioTransport& transport) noexcept {
  transport_ = &transport;
  queues_ = std::move(queues);
  transmit();
  backend_.input_wanted();
}

void ConsolePort::fail(const char* reason) noexcept {
  queues_->failed = true;
  for (const auto* side : {&queues_->receive, &queues_->transmit}) {
    if (*side) loop_.modify((*side)->doorbell.fd(), 0);
  }
  transport_->failed(reason);
}

/// Takes the next chain; false if there is none, and then the driver will ring.
bool ConsolePort::take(ConsoleQueues::Side& side, DescriptorChain& chain) noexcept {
  side.queue.disable_notifications();
  do {
    const SplitQueue::Pop popped = side.queue.pop(chain);
    if (popped == SplitQueue::Pop::kChain) return true;
    if (popped == SplitQueue::Pop::kBroken) {
      fail(side.queue.error());
      return false;
    }
  } while (side.queue.enable_notifications());
  return false;
}

void ConsolePort::receive_rung() noexcept {
  if (!queues_ || queues_->failed) return;
  (void)queues_->receive->doorbell.consume();
  backend_.input_wanted();
}

size_t ConsolePort::input_room() {
  if (!queues_ || queues_->failed || !queues_->receive) return 0;
  ConsoleQueues::Side& side = *queues_->receive;
  // Buffers without room are handed back, at most a queue full of them.
  for (uint32_t i = 0; i < side.queue.size(); ++i) {
    DescriptorChain chain;
    if (!take(side, chain)) break;
    const uint64_t room = total_length(chain.writable);
    if (room != 0) {
      // Until there is something to put into it.
      side.queue.undo_pop();
      return static_cast<size_t>(std::min<uint64_t>(room, kBytesPerTurn));
    }
    side.queue.push_used(chain.head, 0);
  }
  if (side.queue.publish()) side.interrupt.trigger();
  return 0;
}

void ConsolePort::input(std::span<const uint8_t> bytes) {
  if (!queues_ || queues_->failed || !queues_->receive) return;
  ConsoleQueues::Side& side = *queues_->receive;
  DescriptorChain chain;
  if (!take(side, chain)) return;
  const uint32_t copied = scatter(bytes, chain.writable);
  side.queue.push_used(chain.head, copied);
  received_ += copied;
  if (side.queue.publish()) side.interrupt.trigger();
}

void ConsolePort::transmit_rung() noexcept {
  if (!queues_ || queues_->failed) return;
  (void)queues_->transmit->doorbell.consume();
  announce_size();
  if (!queues_->output_blocked) transmit();
}

void ConsolePort::announce_size() noexcept {
  if (queues_->progress.size_announcements == 0) return;
  const uint64_t now = monotonic_ns();
  if (now < queues_->next_announcement_ns) return;
  queues_->next_announcement_ns = now + kAnnouncementIntervalNs;
  --queues_->progress.size_announcements;
  transport_->config_changed();
}

void ConsolePort::resized(uint16_t columns, uint16_t rows) {
  if (take_size_(columns, rows) && queues_) transport_->config_changed();
}

void ConsolePort::output_ready() {
  if (!queues_ || queues_->failed || !queues_->output_blocked) return;
  transmit();
}

void ConsolePort::transmit() noexcept {
  if (!queues_->transmit) return;
  ConsoleQueues::Side& side = *queues_->transmit;
  queues_->output_blocked = false;
  size_t budget = kBytesPerTurn;
  bool more = true;
  for (int i = 0; i < kChainsPerTurn; ++i) {
    DescriptorChain chain;
    more = take(side, chain);
    if (!more) break;
    if (!send(chain, budget)) {
      side.queue.undo_pop();
      break;
    }
    side.queue.push_used(chain.head, 0);
    queues_->progress.sent = 0;
  }
  if (side.queue.publish()) side.interrupt.trigger();
  if (more && !queues_->output_blocked) side.doorbell.signal();  // The next turn goes on.
}

/// Sends what of a chain has not been sent. False if the backend or the turn's budget did not take
/// all of it.
bool ConsolePort::send(const DescriptorChain& chain, size_t& budget) noexcept {
  uint64_t skip = queues_->progress.sent;
  for (const GuestBuffer& buffer : chain.readable) {
    if (skip >= buffer.length) {
      skip -= buffer.length;
      continue;
    }
    const size_t rest = buffer.length - skip;
    const size_t offered = std::min(rest, budget);
    if (offered == 0) return false;
    const size_t taken = backend_.write({buffer.host + skip, offered});
    queues_->progress.sent += taken;
    sent_ += taken;
    budget -= taken;
    queues_->output_blocked = taken < offered;
    if (taken < rest) return false;
    skip = 0;
  }
  return true;
}

}  // namespace tsvmm
