#include "virtio/vsock.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <utility>

#include "core/error.h"
#include "core/message.h"
#include "virtio/config_bytes.h"
#include "virtio/device_kind.h"
#include "virtio/vsock/guest_link.h"
#include "virtio/vsock/protocol.h"

namespace tsvmm {
namespace {

constexpr uint16_t kQueueSize = 256;
/// Clients that may wait to be accepted; many come at once, or before the guest's driver does.
constexpr int kWaitingClients = 1024;

}  // namespace

VirtioVsock::VirtioVsock(Options options)
    : options_(std::move(options)), listener_(UniqueFd::duplicate(options_.listener)) {
  const int flags = check_errno(::fcntl(listener_.get(), F_GETFL), "examining the vsock's socket");
  check_errno(::fcntl(listener_.get(), F_SETFL, flags | O_NONBLOCK),
              "preparing the vsock's socket");
  check_errno(::listen(listener_.get(), kWaitingClients), "listening on the vsock's socket");
}

VirtioVsock::~VirtioVsock() { reset(); }

uint64_t VirtioVsock::features() const noexcept {
  return vsock::kFeatureStream | virtio_feature::kIndirectDescriptors |
         virtio_feature::kEventIndex | virtio_feature::kInOrder;
}

std::vector<uint16_t> VirtioVsock::queue_sizes() const {
  return {kQueueSize, kQueueSize, kQueueSize};
}

uint32_t VirtioVsock::config_size() const noexcept { return vsock::kConfigSize; }

void VirtioVsock::read_config(uint32_t offset, std::span<uint8_t> data) noexcept {
  copy_config(uint64_t{options_.guest_cid}, offset, data);
}

void VirtioVsock::activate(const Activation& activation) {
  if (!loop_) loop_ = std::make_unique<EventLoop>(options_.id);
  link_ = std::make_unique<vsock::GuestLink>(
      vsock::StreamHub::Options{.guest_cid = options_.guest_cid,
                                .listener = listener_.get(),
                                .path = options_.path,
                                .any_owner = options_.any_owner,
                                .timeout = static_cast<uint64_t>(options_.timeout.count())},
      counters_, activation, transport(), *loop_);
  if (std::exchange(streams_lost_, false)) reset_transport();
}

bool VirtioVsock::try_reset(const Deadline& deadline) noexcept {
  // A machine may be deleted while it is paused.
  if (loop_) loop_->resume();
  if (!teardown_.in_progress() && !link_) return true;
  const auto work = [this] {
    link_.reset();
    counters_.streams.set(0);
  };
  return teardown_.run(*loop_, work, deadline);
}

/// Clients that the guest's driver never came for see the end of their wait.
bool VirtioVsock::try_close(const Deadline& /*deadline*/) noexcept {
  listener_.reset();
  return true;
}

void VirtioVsock::begin_pause() noexcept {
  if (teardown_.in_progress() || !link_) return;
  holding_ = loop_->begin([link = link_.get()] { link->begin_pause(); });
}

bool VirtioVsock::wait_paused(const Deadline& deadline) {
  if (!loop_) return true;
  if (holding_ && !holding_->wait(deadline)) return false;
  loop_->begin_pause();
  return loop_->wait_paused(deadline);
}

void VirtioVsock::resume() noexcept {
  if (!loop_) return;
  // Runs before the loop handles a timer that has expired meanwhile.
  if (std::exchange(holding_, nullptr)) {
    loop_->post([link = link_.get()] { link->end_pause(); });
  }
  loop_->resume();
}

void VirtioVsock::save(CborWriter& state) const {
  state.map(1).key("active").boolean(link_ != nullptr);
}

void VirtioVsock::restore(Fields& state) { streams_lost_ = state["active"].boolean(); }

void VirtioVsock::reset_transport() {
  if (link_) link_->reset_transport();
}

std::vector<Counter> VirtioVsock::counters() const { return counters_.list(); }

namespace {

struct VsockSpec : DeviceSpec {
  explicit VsockSpec(Fields& fields)
      : listener(fields["listener"].descriptor()),
        cid(fields["cid"].narrow<uint32_t>()),
        path(fields["path"].text()),
        any_owner(fields["anyOwner"].boolean()) {}

  std::shared_ptr<VirtioDevice> make(const std::string& id,
                                     const DeviceContext& /*context*/) override {
    return std::make_shared<VirtioVsock>(VirtioVsock::Options{.id = id,
                                                              .guest_cid = cid,
                                                              .listener = listener.get(),
                                                              .path = path,
                                                              .any_owner = any_owner});
  }

  UniqueFd listener;
  uint32_t cid;
  std::string path;
  bool any_owner;
};

}  // namespace

DeviceKind vsock_kind() { return {"vsock", read_device_spec<VsockSpec>}; }

}  // namespace tsvmm
