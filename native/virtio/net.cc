#include "virtio/net.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "core/message.h"
#include "core/shared_member.h"
#include "net/stream_backend.h"
#include "net/tap.h"
#include "virtio/config_bytes.h"
#include "virtio/device_kind.h"
#include "virtio/net_protocol.h"
#include "virtio/net_queue_pair.h"
#include "virtio/vhost_net.h"

namespace tsvmm {
namespace {

using namespace virtio_net;

constexpr int kCommandsPerTurn = 16;
constexpr uint64_t kGuestOffloads = kFeatureGuestChecksum | kFeatureGuestTso4 | kFeatureGuestTso6 |
                                    kFeatureGuestEcn | kFeatureGuestUfo | kFeatureGuestUso4 |
                                    kFeatureGuestUso6;

uint64_t pack(const MacAddress& mac) {
  uint64_t packed = 0;
  std::memcpy(&packed, mac.data(), mac.size());
  return packed;
}

/// Both directions' feature bits for what a network and the options allow.
uint64_t offload_features(const NetOffloads& offloads) {
  if (!offloads.checksum) return 0;
  uint64_t features = kFeatureChecksum | kFeatureGuestChecksum | kFeatureControlGuestOffloads;
  const auto add = [&features](bool wanted, uint64_t bits) {
    if (wanted) features |= bits;
  };
  add(offloads.tso4, kFeatureHostTso4 | kFeatureGuestTso4);
  add(offloads.tso6, kFeatureHostTso6 | kFeatureGuestTso6);
  add(offloads.ecn, kFeatureHostEcn | kFeatureGuestEcn);
  add(offloads.ufo, kFeatureHostUfo | kFeatureGuestUfo);
  add(offloads.uso, kFeatureHostUso | kFeatureGuestUso4 | kFeatureGuestUso6);
  return features;
}

NetOffloads guest_offloads(uint64_t features) {
  constexpr uint64_t kUso = kFeatureGuestUso4 | kFeatureGuestUso6;
  return {.checksum = (features & kFeatureGuestChecksum) != 0,
          .tso4 = (features & kFeatureGuestTso4) != 0,
          .tso6 = (features & kFeatureGuestTso6) != 0,
          .ecn = (features & kFeatureGuestEcn) != 0,
          .ufo = (features & kFeatureGuestUfo) != 0,
          .uso = (features & kUso) == kUso};
}

}  // namespace

VirtioNet::VirtioNet(std::unique_ptr<NetBackend> network, Options options)
    : options_(std::move(options)),
      network_(std::move(network)),
      pair_count_(network_->pairs()),
      state_{.mac = pack(options_.mac)} {
  if (!std::has_single_bit(options_.queue_size) || options_.queue_size < 2 ||
      options_.queue_size > 32768) {
    throw Error("EINVAL", options_.id + ": queue size must be a power of two from 2 to 32768");
  }
  for (uint16_t i = 0; i < pair_count_; ++i) counters_.push_back(std::make_unique<NetCounters>());
  loops_.resize(pair_count_);
  pairs_.resize(pair_count_);
  network_->set_active_pairs(1);
}

VirtioNet::~VirtioNet() { reset(); }

uint64_t VirtioNet::features() const noexcept {
  NetOffloads offloads = network_->offloads();
  offloads.checksum = offloads.checksum && options_.checksum;
  offloads.tso4 = offloads.tso4 && options_.tso;
  offloads.tso6 = offloads.tso6 && options_.tso;
  offloads.ecn = offloads.ecn && options_.tso;
  offloads.ufo = offloads.ufo && options_.ufo;
  offloads.uso = offloads.uso && options_.ufo;
  uint64_t features = offload_features(offloads) | kFeatureMac | kFeatureMergeableBuffers |
                      kFeatureStatus | kFeatureControlQueue | kFeatureControlReceive |
                      kFeatureControlMac | kFeatureGuestAnnounce |
                      virtio_feature::kIndirectDescriptors | virtio_feature::kEventIndex;
  if (options_.mtu) features |= kFeatureMtu;
  if (pair_count_ > 1) features |= kFeatureMultiQueue;
  return features;
}

std::vector<uint16_t> VirtioNet::queue_sizes() const {
  return std::vector<uint16_t>(2 * size_t{pair_count_} + 1, options_.queue_size);
}

uint32_t VirtioNet::config_size() const noexcept { return kConfigSize; }

void VirtioNet::read_config(uint32_t offset, std::span<uint8_t> data) noexcept {
  Config config{};
  const uint64_t mac = load_shared(state_.mac);
  std::memcpy(config.mac, &mac, sizeof config.mac);
  if (!network_lost_) config.status |= kStatusLinkUp;
  if (load_shared(state_.is_to_announce)) config.status |= kStatusAnnounce;
  config.max_virtqueue_pairs = pair_count_;
  config.mtu = options_.mtu.value_or(0);
  copy_config(config, offset, data);
}

/// The control queue is the last one, of those that the driver knows of (§5.1.2).
uint16_t VirtioNet::control_index(uint64_t features) const noexcept {
  return (features & kFeatureMultiQueue) != 0 ? 2 * pair_count_ : 2;
}

void VirtioNet::activate(const Activation& activation) {
  active_.emplace(Active{activation.memory, activation.features, activation.queues});
  network_->set_guest_offloads(
      guest_offloads(state_.offloads.value_or(activation.features) & activation.features));
  if ((activation.features & kFeatureMultiQueue) == 0) state_.pairs = 1;
  if (state_.pairs != 1) network_->set_active_pairs(state_.pairs);
  for (uint16_t i = 0; i < state_.pairs; ++i) start_pair(i);
  start_control(activation);
}

void VirtioNet::start_control(const Activation& activation) {
  if ((activation.features & kFeatureControlQueue) == 0) return;
  const VirtqueueSetup* setup = activation.queue(control_index(activation.features));
  if (setup == nullptr) return;
  control_ = std::make_unique<QueueServer>(
      loop(0), activation, *setup, transport(), kCommandsPerTurn,
      [this, features = activation.features](const DescriptorChain& chain) {
        return run_net_command(chain, features, *this);
      });
}

EventLoop& VirtioNet::loop(uint16_t index) {
  auto& loop = loops_.at(index);
  if (!loop) loop = std::make_unique<EventLoop>(options_.id + "_qp" + std::to_string(index));
  return *loop;
}

void VirtioNet::start_pair(uint16_t index) {
  const auto find = [&](int queue) -> const VirtqueueSetup* {
    const auto found = std::ranges::find(active_->queues, queue, &VirtqueueSetup::index);
    return found == active_->queues.end() ? nullptr : &*found;
  };
  const NetPairSetup setup{.index = index,
                           .memory = active_->memory,
                           .features = active_->features,
                           .receive = find(2 * index),
                           .transmit = find(2 * index + 1),
                           .transport = transport()};
  if (setup.receive == nullptr && setup.transmit == nullptr) return;
  if (options_.make_pair) pairs_[index] = options_.make_pair(setup);
  if (pairs_[index]) return;
  NetQueuePair::Context context{.loop = loop(index),
                                .receive_limiter = options_.receive_limiter.get(),
                                .transmit_limiter = options_.transmit_limiter.get(),
                                .counters = *counters_.at(index),
                                .network_gone = [this] { lose_network(); }};
  pairs_[index] =
      std::make_unique<NetQueuePair>(setup, network_->make_queue(index), std::move(context));
}

/// On the loop's thread of each pair; again after a reset.
void VirtioNet::lose_network() noexcept {
  if (!network_lost_.exchange(true)) transport().warn("the network is gone, and the link is down");
  transport().config_changed();
}

bool VirtioNet::try_reset(const Deadline& deadline) noexcept {
  // A machine may be deleted while it is paused, or half paused because another device was not.
  resume();
  if (!teardown_.in_progress() && !active_) return true;
  if (!loops_[0]) {
    stop_pairs();
    return true;
  }
  return teardown_.run(
      *loops_[0], [this] { stop_pairs(); }, deadline);
}

void VirtioNet::stop_pairs() noexcept {
  control_.reset();
  for (auto& pair : pairs_) pair.reset();
  active_.reset();
  network_->set_active_pairs(1);
  shared(state_.mac) = pack(options_.mac);
  shared(state_.is_to_announce) = false;
  state_.pairs = 1;
  state_.offloads.reset();
}

/// At once: nothing that was sent has to be waited for. The tap is free for another device then,
/// and the process at the other end of a stream sees its end.
bool VirtioNet::try_close(const Deadline& /*deadline*/) noexcept {
  options_.make_pair = nullptr;  // It has descriptors of the network's.
  network_.reset();
  return true;
}

void VirtioNet::begin_pause() noexcept {
  if (loops_[0]) loops_[0]->begin_pause();
}

bool VirtioNet::wait_paused(const Deadline& deadline) {
  // The first loop's thread starts and ends pairs, and waits for their loops then: it goes first,
  // and until it is held the others are its own.
  if (loops_[0] && !loops_[0]->wait_paused(deadline)) return false;
  held_ = true;
  for (const auto& loop : loops_) {
    if (!loop) continue;
    loop->begin_pause();
    if (!loop->wait_paused(deadline)) return false;
  }
  for (const auto& pair : pairs_) {
    if (pair) pair->pause();
  }
  return true;
}

void VirtioNet::resume() noexcept {
  if (std::exchange(held_, false)) {
    for (const auto& pair : pairs_) {
      if (pair) pair->resume();
    }
    for (size_t i = loops_.size(); i-- > 1;) {
      if (loops_[i]) loops_[i]->resume();
    }
  }
  // Last, because a command of the guest may change all of them as soon as it runs.
  if (loops_[0]) loops_[0]->resume();
}

void VirtioNet::save(CborWriter& state) const {
  const auto* mac = reinterpret_cast<const uint8_t*>(&state_.mac);
  state.map(state_.offloads ? 4 : 3);
  state.key("mac").bytes({mac, sizeof(MacAddress)});
  state.key("announce").boolean(load_shared(state_.is_to_announce));
  state.field("pairs", state_.pairs);
  if (state_.offloads) state.field("offloads", *state_.offloads);
}

void VirtioNet::restore(Fields& state) {
  state_ = {.mac = pack(state["mac"].exactly<sizeof(MacAddress)>()),
            .is_to_announce = state["announce"].boolean(),
            .pairs = static_cast<uint16_t>(state["pairs"].number(pair_count_, 1))};
  if (state.has("offloads")) state_.offloads = state["offloads"].number(UINT64_MAX);
}

bool VirtioNet::set_pairs(uint16_t count) noexcept {
  if (count == 0 || count > pair_count_) return false;
  for (size_t i = count; i < pairs_.size(); ++i) {
    if (!pairs_[i]) continue;
    pairs_[i]->stop();
    pairs_[i].reset();
  }
  state_.pairs = count;
  network_->set_active_pairs(count);
  try {
    for (uint16_t i = 0; i < count; ++i) {
      if (!pairs_[i]) start_pair(i);
    }
  } catch (const std::exception& error) {
    transport().failed(error.what());
    return false;
  }
  return true;
}

bool VirtioNet::set_guest_offloads(uint64_t features) noexcept {
  // Only what was negotiated can be switched (§5.1.6.5.6.2).
  if ((features & ~(active_->features & kGuestOffloads)) != 0) return false;
  state_.offloads = features;
  network_->set_guest_offloads(guest_offloads(features));
  return true;
}

void VirtioNet::set_mac(const MacAddress& mac) noexcept { shared(state_.mac) = pack(mac); }

void VirtioNet::acknowledge_announcement() noexcept { shared(state_.is_to_announce) = false; }

void VirtioNet::announce() noexcept {
  shared(state_.is_to_announce) = true;
  transport().config_changed();
}

std::vector<Counter> VirtioNet::counters() const { return summarize(counters_); }

namespace {

using namespace std::string_view_literals;

/// What a network device is plugged into, and who moves its frames if not the device's own threads.
struct Network {
  std::unique_ptr<NetBackend> backend;
  MakeNetPair make_pair;
};

std::vector<UniqueFd> read_descriptors(const Value& list) {
  std::vector<UniqueFd> descriptors;
  list.each([&](const Value& fd) { descriptors.push_back(fd.descriptor()); });
  return descriptors;
}

struct NetSpec : DeviceSpec {
  explicit NetSpec(Fields& fields)
      : mac(fields["mac"].exactly<6>()),
        queue_size(fields["queueSize"].narrow<uint16_t>()),
        checksum(fields["checksum"].boolean()),
        tso(fields["tso"].boolean()),
        ufo(fields["ufo"].boolean()),
        rate_limiter(read_rate_limiter(fields, "rateLimiter")) {
    if (fields.has("mtu")) mtu = fields["mtu"].narrow<uint16_t>();
    fields["network"].map([this](Fields& network) { read_network(network); });
  }

  std::shared_ptr<VirtioDevice> make(const std::string& id, const DeviceContext& context) override {
    auto [network, make_pair] = make_network(context.loop);
    return std::make_shared<VirtioNet>(
        std::move(network),
        VirtioNet::Options{.id = id,
                           .mac = mac,
                           .mtu = mtu,
                           .queue_size = queue_size,
                           .checksum = checksum,
                           .tso = tso,
                           .ufo = ufo,
                           .receive_limiter = context.rate_limiters.get(rate_limiter),
                           .transmit_limiter = context.rate_limiters.get(rate_limiter),
                           .make_pair = std::move(make_pair)});
  }

  void read_network(Fields& network) {
    if (network["kind"].choice(std::array{"stream"sv, "tap"sv}) == 0) {
      stream = network["fd"].descriptor();
    } else {
      tap_queues = read_descriptors(network["fds"]);
      vhost = read_descriptors(network["vhost"]);
    }
  }

  Network make_network(EventLoop& loop) {
    if (stream.valid()) return {std::make_unique<StreamBackend>(std::move(stream)), {}};
    auto tap = std::make_unique<TapBackend>(std::move(tap_queues));
    if (vhost.size() < tap->pairs()) return {std::move(tap), {}};
    // Copied along with the function that uses them.
    auto shared = std::make_shared<std::vector<UniqueFd>>(std::move(vhost));
    auto make_pair = [shared, &tap = *tap, &loop](const NetPairSetup& setup) {
      return VhostNetPair::make(setup, shared->at(setup.index).get(), tap.fd(setup.index), loop);
    };
    return {std::move(tap), std::move(make_pair)};
  }

  MacAddress mac;
  std::optional<uint16_t> mtu;
  uint16_t queue_size;
  bool checksum;
  bool tso;
  bool ufo;
  RateLimiterSpec rate_limiter;  ///< of each direction
  UniqueFd stream;               ///< a connected socket with each frame behind its length, or none
  std::vector<UniqueFd> tap_queues;  ///< else a tap, by a descriptor for each pair of queues
  std::vector<UniqueFd> vhost;       ///< /dev/vhost-net for each pair of queues, or none
};

}  // namespace

DeviceKind net_kind() { return {"net", read_device_spec<NetSpec>}; }

}  // namespace tsvmm
