#include "machine/virtio_factory.h"

#include "core/error.h"
#include "disk/open_image.h"
#include "net/stream_backend.h"
#include "net/tap.h"
#include "virtio/balloon.h"
#include "virtio/block.h"
#include "virtio/clock.h"
#include "virtio/console.h"
#include "virtio/net.h"
#include "virtio/pmem.h"
#include "virtio/rng.h"
#include "virtio/vhost_net.h"
#include "virtio/vsock.h"
#include "virtio/watchdog.h"

namespace tsvmm {
namespace {

using Device = std::shared_ptr<VirtioDevice>;

/// Whoever hears of a failure has to know which disk is meant.
std::unique_ptr<DiskImage> open_named_image(BlockSpec& spec, const std::string& id,
                                            const Cancellation& cancellation) {
  try {
    return open_image(std::move(spec.layers), spec.image, cancellation);
  } catch (const Error& error) {
    throw Error(error.code(), id + ": " + error.what());
  }
}

Device make(BlockSpec& spec, const std::string& id, const DeviceContext& context) {
  auto image = open_named_image(spec, id, context.cancellation);
  return std::make_shared<VirtioBlock>(
      std::move(image),
      VirtioBlock::Options{.id = id,
                           .read_only = spec.image.read_only,
                           .num_queues = spec.num_queues,
                           .queue_size = spec.queue_size,
                           .serial = spec.serial,
                           .protect_sector0 = spec.protect_sector0,
                           .sparse = spec.image.sparse,
                           .queue_cpus = std::move(spec.queue_cpus),
                           .rate_limiter = context.rate_limiters.get(spec.rate_limiter)});
}

/// A network, and who moves its frames if not the device's own threads.
struct Network {
  std::unique_ptr<NetBackend> backend;
  MakeNetPair make_pair;
};

Network make_network(TapSpec& spec, const DeviceContext& context) {
  auto tap = std::make_unique<TapBackend>(std::move(spec.queues));
  if (spec.vhost.size() < tap->pairs()) return {std::move(tap), {}};
  // Copied along with the function that uses them.
  auto vhost = std::make_shared<std::vector<UniqueFd>>(std::move(spec.vhost));
  auto make_pair = [vhost, &tap = *tap, &loop = context.loop](const NetPairSetup& setup) {
    return VhostNetPair::make(setup, vhost->at(setup.index).get(), tap.fd(setup.index), loop);
  };
  return {std::move(tap), std::move(make_pair)};
}

Network make_network(StreamSpec& spec, const DeviceContext& /*context*/) {
  return {std::make_unique<StreamBackend>(std::move(spec.fd)), {}};
}

Device make(NetSpec& spec, const std::string& id, const DeviceContext& context) {
  auto [network, make_pair] =
      std::visit([&](auto& kind) { return make_network(kind, context); }, spec.network);
  return std::make_shared<VirtioNet>(
      std::move(network),
      VirtioNet::Options{.id = id,
                         .mac = spec.mac,
                         .mtu = spec.mtu,
                         .queue_size = spec.queue_size,
                         .checksum = spec.checksum,
                         .tso = spec.tso,
                         .ufo = spec.ufo,
                         .receive_limiter = context.rate_limiters.get(spec.rate_limiter),
                         .transmit_limiter = context.rate_limiters.get(spec.rate_limiter),
                         .make_pair = std::move(make_pair)});
}

Device make(const RngSpec& spec, const std::string& id, const DeviceContext& context) {
  return std::make_shared<VirtioRng>(spec.fd.get(), context.loop, id);
}

Device make(const ConsoleSpec& spec, const std::string& id, const DeviceContext& context) {
  return std::make_shared<VirtioConsole>(
      make_char_backend(spec.backend.spec, context.loop, context.reports_of(id)), context.loop,
      spec.columns, spec.rows);
}

Device make(const WatchdogSpec& /*spec*/, const std::string& /*id*/, const DeviceContext& context) {
  return std::make_shared<VirtioWatchdog>(context.loop, context.watchdog_expired);
}

Device make(const BalloonSpec& spec, const std::string& /*id*/, const DeviceContext& context) {
  return std::make_shared<VirtioBalloon>(
      context.loop, VirtioBalloon::Options{.size = spec.size,
                                           .deflate_on_oom = spec.deflate_on_oom,
                                           .free_page_reporting = spec.free_page_reporting});
}

Device make(const VsockSpec& spec, const std::string& id, const DeviceContext& /*context*/) {
  return std::make_shared<VirtioVsock>(VirtioVsock::Options{.id = id,
                                                            .guest_cid = spec.cid,
                                                            .listener = spec.listener.get(),
                                                            .path = spec.path,
                                                            .any_owner = spec.any_owner});
}

Device make(PmemSpec& spec, const std::string& id, const DeviceContext& context) {
  return std::make_shared<VirtioPmem>(
      std::move(spec.fd), context.memory,
      VirtioPmem::Options{.id = id, .size = spec.size, .discard_writes = spec.discard_writes});
}

Device make(const ClockSpec& /*spec*/, const std::string& /*id*/, const DeviceContext& context) {
  return std::make_shared<VirtioClock>(context.loop);
}

}  // namespace

std::shared_ptr<VirtioDevice> make_virtio_device(PciFunctionSpec& spec,
                                                 const DeviceContext& context) {
  return std::visit([&](auto& device) { return make(device, spec.id, context); }, spec.device);
}

}  // namespace tsvmm
