#include "net/tap.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <string>

#include "core/error.h"
#include "net/tap_queue.h"

namespace tsvmm {
namespace {

/// struct virtio_net_hdr_v1, which every virtio 1.x device has in front of a frame (§5.1.6).
constexpr int kHeaderSize = 12;
// Of kernel 6.2, which the headers that this is built with may lack.
constexpr unsigned kOffloadUso = 0x20 | 0x40;

unsigned flags_of(const NetOffloads& offloads) {
  if (!offloads.checksum) return 0;  // The others are refused without it.
  unsigned flags = TUN_F_CSUM;
  if (offloads.tso4) flags |= TUN_F_TSO4;
  if (offloads.tso6) flags |= TUN_F_TSO6;
  if (offloads.ecn && (offloads.tso4 || offloads.tso6)) flags |= TUN_F_TSO_ECN;
  if (offloads.ufo) flags |= TUN_F_UFO;
  if (offloads.uso) flags |= kOffloadUso;
  return flags;
}

bool set_offloads(int fd, const NetOffloads& offloads) {
  return ::ioctl(fd, TUNSETOFFLOAD, flags_of(offloads)) == 0;
}

void prepare(int fd) {
  ifreq request{};
  check_errno(::ioctl(fd, TUNGETIFF, &request), "asking a descriptor for its tap interface");
  const auto flags = static_cast<unsigned short>(request.ifr_flags);
  if ((flags & IFF_TAP) == 0) throw Error("EINVAL", "the interface is no tap");
  if ((flags & IFF_VNET_HDR) == 0) {
    throw Error("EINVAL", "the tap was opened without IFF_VNET_HDR");
  }
  check_errno(::ioctl(fd, TUNSETVNETHDRSZ, &kHeaderSize), "TUNSETVNETHDRSZ");
  const int status = check_errno(::fcntl(fd, F_GETFL), "fcntl");
  check_errno(::fcntl(fd, F_SETFL, status | O_NONBLOCK), "fcntl");
}

/// What the kernel takes in frames that it receives is what it knows of in those it delivers.
NetOffloads probe(int fd) {
  NetOffloads all{
      .checksum = true, .tso4 = true, .tso6 = true, .ecn = true, .ufo = true, .uso = true};
  for (bool NetOffloads::*doubtful : {&NetOffloads::uso, &NetOffloads::ufo, &NetOffloads::ecn}) {
    if (set_offloads(fd, all)) break;
    all.*doubtful = false;
  }
  if (!set_offloads(fd, all)) all = {};
  (void)set_offloads(fd, {});
  return all;
}

}  // namespace

TapBackend::TapBackend(std::vector<UniqueFd> queues)
    : queues_(std::move(queues)), active_pairs_(pairs()) {
  if (queues_.empty()) throw Error("EINVAL", "a tap needs a descriptor");
  for (const UniqueFd& queue : queues_) prepare(queue.get());
  offloads_ = probe(queues_.front().get());
}

std::unique_ptr<NetQueue> TapBackend::make_queue(uint16_t index) {
  return make_tap_queue(fd(index));
}

void TapBackend::set_guest_offloads(const NetOffloads& offloads) noexcept {
  // The device offers nothing that offloads() lacks, so this fails only where the tap is gone.
  (void)set_offloads(queues_.front().get(), offloads);
}

void TapBackend::set_active_pairs(uint16_t count) noexcept {
  const auto change = [this](uint16_t index, short flag) {
    ifreq request{};
    request.ifr_flags = flag;
    (void)::ioctl(queues_[index].get(), TUNSETQUEUE, &request);
  };
  for (uint16_t i = active_pairs_; i < count; ++i) change(i, IFF_ATTACH_QUEUE);
  for (uint16_t i = count; i < active_pairs_; ++i) change(i, IFF_DETACH_QUEUE);
  active_pairs_ = count;
}

}  // namespace tsvmm
