#include "virtio/net_queue_pair.h"

#include <algorithm>
#include <utility>

namespace tsvmm {
namespace {

/// Batches in each direction before the loop gets its turn (to be paused, for one).
constexpr int kRoundsPerWake = 32;
/// The longest time to poll for frames while none come.
constexpr uint64_t kLongestPollNs = 32'000;
/// Looks at the transmit ring for one at the network, which takes a system call.
constexpr unsigned kLooksForOneAtNetwork = 32;

}  // namespace

NetQueuePair::NetQueuePair(const NetPairSetup& setup, std::unique_ptr<NetQueue> network,
                           Context context)
    : transport_(setup.transport),
      context_(std::move(context)),
      network_(std::move(network)),
      poll_(kLongestPollNs) {
  NetCounters& counters = context_.counters;
  if (setup.receive != nullptr) {
    receiver_.emplace(setup.memory, *setup.receive, setup.features, *network_,
                      context_.receive_limiter, counters.received);
    receive_doorbell_ = setup.receive->doorbell;
  }
  if (setup.transmit != nullptr) {
    transmitter_.emplace(setup.memory, *setup.transmit, setup.features, *network_,
                         context_.transmit_limiter, counters.sent);
    transmit_doorbell_ = setup.transmit->doorbell;
  }
  if (context_.receive_limiter != nullptr || context_.transmit_limiter != nullptr) {
    timer_.emplace();
  }
  try {
    add_watches();
  } catch (...) {
    remove_watches();
    throw;
  }
}

NetQueuePair::~NetQueuePair() { remove_watches(); }

void NetQueuePair::pause() {
  if (receiver_ && !std::exchange(paused_, true)) receiver_->give_back();
}

void NetQueuePair::resume() noexcept {
  if (receiver_ && std::exchange(paused_, false)) receiver_->take_back();
}

void NetQueuePair::stop() noexcept {
  remove_watches();
  if (receiver_) receiver_->give_back();
}

void NetQueuePair::add_watches() {
  EventLoop& loop = context_.loop;
  if (timer_) {
    loop.add(timer_->fd(), io::kReadable, [this](IoEvents) {
      if (timer_->consume()) work();
    });
  }
  watched_ = receiver_ ? io::kReadable : 0U;
  // Said before, because the handler may run at once.
  watching_network_ = true;
  if (!loop.add(network_->fd(), watched_, [this](IoEvents events) { network_ready(events); })) {
    watching_network_ = false;
  }
  // A look of our own to begin with: the driver may have made buffers available without ringing.
  for (const EventFd* doorbell : {receive_doorbell_, transmit_doorbell_}) {
    if (doorbell == nullptr) continue;
    loop.add(doorbell->fd(), io::kReadable, [this, doorbell](IoEvents) {
      (void)doorbell->consume();
      poll_.woken();
      work();
    });
    doorbell->signal();
  }
}

void NetQueuePair::remove_watches() noexcept {
  // In one go on the loop's thread, so that no handler runs in between. A loop that has stopped
  // runs nothing any more.
  context_.loop.call([this] {
    EventLoop& loop = context_.loop;
    for (const EventFd* doorbell : {receive_doorbell_, transmit_doorbell_}) {
      if (doorbell != nullptr) loop.remove(doorbell->fd());
    }
    if (watching_network_) loop.remove(network_->fd());
    if (timer_) loop.remove(timer_->fd());
  });
}

void NetQueuePair::network_ready(IoEvents events) noexcept {
  poll_.woken();
  work();
  // An error that reading does not clear would bring us back here for ever.
  if ((events & (io::kError | io::kHangUp)) != 0) lose_network();
}

/// Moves frames until there is nothing to do, then arranges to be woken.
void NetQueuePair::work() noexcept {
  for (int round = 0; round < kRoundsPerWake; ++round) {
    const bool sent = transmit();
    const bool received = receive();
    if (stopped_) return;
    if (!sent && !received && !poll() && sleep()) return;
  }
  // There is more to do: come back after the loop's other handlers.
  (transmit_doorbell_ != nullptr ? transmit_doorbell_ : receive_doorbell_)->signal();
}

/// True if it is worth another look at once.
bool NetQueuePair::transmit() noexcept {
  if (!transmitter_ || stopped_) return false;
  transmitter_->queue().disable_notifications();
  const bool both_ways = receiver_ && receiver_->received() != 0;
  transmitted_ = transmitter_->run(both_ways ? NetQueue::kBatchBytes : SIZE_MAX);
  if (transmitted_ == NetTransmitter::Turn::kBroken) fail(transmitter_->queue().error());
  return transmitted_ == NetTransmitter::Turn::kMore;
}

/// True if it is worth another look at once.
bool NetQueuePair::receive() noexcept {
  if (!receiver_ || stopped_ || received_ == NetReceiver::Turn::kGone) return false;
  receiver_->queue().disable_notifications();
  received_ = receiver_->run();
  if (received_ == NetReceiver::Turn::kBroken) fail(receiver_->error());
  if (received_ == NetReceiver::Turn::kGone) lose_network();
  return received_ == NetReceiver::Turn::kMore;
}

/// Looks for frames a little longer, as long as that pays. True if there are any.
bool NetQueuePair::poll() noexcept {
  if (!transmitter_ || transmitted_ != NetTransmitter::Turn::kEmpty) return false;
  const bool may_receive = receiver_ && received_ == NetReceiver::Turn::kEmpty;
  unsigned looks = 0;
  return poll_.wait([&] {
    if (transmitter_->queue().has_available()) return true;
    if (!may_receive || ++looks % kLooksForOneAtNetwork != 0) return false;
    return receive() || stopped_ || receiver_->received() != 0;
  });
}

/// Arranges to be woken for whatever each direction waits for. False if that is there by now.
bool NetQueuePair::sleep() noexcept {
  IoEvents wanted = 0;
  uint64_t limited_ns = UINT64_MAX;
  if (transmitter_) {
    if (transmitted_ == NetTransmitter::Turn::kBlocked) wanted |= io::kWritable;
    if (transmitted_ == NetTransmitter::Turn::kLimited) limited_ns = transmitter_->limited_ns();
    if (transmitted_ == NetTransmitter::Turn::kEmpty &&
        transmitter_->queue().enable_notifications()) {
      return false;
    }
  }
  if (receiver_) {
    if (received_ == NetReceiver::Turn::kEmpty) wanted |= io::kReadable;
    if (received_ == NetReceiver::Turn::kLimited) {
      limited_ns = std::min(limited_ns, receiver_->limited_ns());
    }
    if (received_ == NetReceiver::Turn::kNoBuffers && receiver_->queue().enable_notifications()) {
      return false;
    }
  }
  watch_network(wanted);
  if (limited_ns != UINT64_MAX) timer_->start_after(limited_ns);
  return true;
}

void NetQueuePair::watch_network(IoEvents wanted) noexcept {
  if (wanted == watched_ || !watching_network_) return;
  watched_ = wanted;
  context_.loop.modify(network_->fd(), wanted);
}

/// Frames that the guest sends are dropped from now on.
void NetQueuePair::lose_network() noexcept {
  received_ = NetReceiver::Turn::kGone;
  if (!watching_network_) return;
  watching_network_ = false;
  context_.loop.remove(network_->fd());
  if (context_.network_gone) context_.network_gone();
}

void NetQueuePair::fail(const char* reason) noexcept {
  if (stopped_) return;
  stopped_ = true;
  for (const EventFd* doorbell : {receive_doorbell_, transmit_doorbell_}) {
    if (doorbell != nullptr) context_.loop.modify(doorbell->fd(), 0);
  }
  watch_network(0);
  transport_.failed(reason);
}

}  // namespace tsvmm
