#include "virtio/queue_server.h"

namespace tsvmm {

QueueServer::QueueServer(EventLoop& loop, const Activation& activation, const VirtqueueSetup& setup,
                         VirtioTransport& transport, int budget, Handler handler)
    : loop_(loop),
      transport_(transport),
      doorbell_(*setup.doorbell),
      interrupt_(*setup.interrupt),
      budget_(budget),
      handler_(std::move(handler)),
      queue_(activation.memory, setup, activation.features) {
  loop_.add(doorbell_.fd(), io::kReadable, [this](IoEvents) { serve(); });
  // A look of our own to begin with: the driver may have made requests available without ringing.
  doorbell_.signal();
}

QueueServer::~QueueServer() { loop_.remove(doorbell_.fd()); }

void QueueServer::serve() noexcept {
  (void)doorbell_.consume();
  queue_.disable_notifications();
  const Turn turn = take_turn();
  if (queue_.publish()) interrupt_.trigger();
  if (turn == Turn::kMore) doorbell_.signal();
  if (turn == Turn::kFailed) loop_.modify(doorbell_.fd(), 0);
}

QueueServer::Turn QueueServer::take_turn() noexcept {
  DescriptorChain chain;
  for (int i = 0; i < budget_; ++i) {
    // A request may take its time, and so many of them more than who waits for the loop has.
    if (i > 0 && loop_.is_wanted()) break;
    const SplitQueue::Pop popped = queue_.pop(chain);
    if (popped == SplitQueue::Pop::kBroken) {
      transport_.failed(queue_.error());
      return Turn::kFailed;
    }
    if (popped == SplitQueue::Pop::kEmpty) {
      if (!queue_.enable_notifications()) return Turn::kIdle;
      queue_.disable_notifications();
      continue;
    }
    const auto written = handler_(chain);
    if (!written) return Turn::kFailed;
    if (*written == kLater) {
      queue_.undo_pop();
      return Turn::kIdle;  // What else the driver makes available waits behind it.
    }
    queue_.push_used(chain.head, *written);
  }
  return Turn::kMore;
}

}  // namespace tsvmm
