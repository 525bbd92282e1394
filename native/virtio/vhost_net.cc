#include "virtio/vhost_net.h"

// Of <linux/virtio_ring.h>, which comes along, only the numbers are C++.
#define VIRTIO_RING_NO_LEGACY
#include <linux/vhost.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "virtio/net_protocol.h"

namespace tsvmm {
namespace {

/// Of the negotiated features those that concern who moves frames: the rest is the tap's or the
/// control queue's affair.
constexpr uint64_t kServersFeatures =
    virtio_feature::kVersion1 | virtio_feature::kIndirectDescriptors | virtio_feature::kEventIndex |
    virtio_net::kFeatureMergeableBuffers;

constexpr int kNoBackend = -1;

uint64_t host_address(const GuestMemory& memory, GuestAddress address, uint64_t length) {
  const auto bytes = memory.slice(address, length);
  if (!bytes) throw Error("EINVAL", "a ring lies outside guest memory");
  return reinterpret_cast<uintptr_t>(bytes->data());
}

/// What is adjacent for the guest and here is one: the kernel takes 64 regions unless its
/// administrator says otherwise, and memory may have more zones.
std::vector<vhost_memory_region> joined(std::vector<MemoryRegion> regions) {
  std::ranges::sort(regions, {}, &MemoryRegion::address);
  std::vector<vhost_memory_region> all;
  for (const MemoryRegion& region : regions) {
    const auto host = reinterpret_cast<uintptr_t>(region.host);
    vhost_memory_region* last = all.empty() ? nullptr : &all.back();
    if (last != nullptr && last->guest_phys_addr + last->memory_size == region.address &&
        last->userspace_addr + last->memory_size == host) {
      last->memory_size += region.size;
    } else {
      all.push_back({.guest_phys_addr = region.address,
                     .memory_size = region.size,
                     .userspace_addr = host,
                     .flags_padding = 0});
    }
  }
  return all;
}

}  // namespace

std::unique_ptr<NetPair> VhostNetPair::make(const NetPairSetup& setup, int vhost, int tap,
                                            EventLoop& loop) {
  for (const VirtqueueSetup* queue : {setup.receive, setup.transmit}) {
    // The kernel would have to ask for each address that an IOMMU translates.
    if (queue == nullptr || queue->iommu != nullptr) return nullptr;
    if (queue->interrupt->external() == nullptr) return nullptr;
  }
  return std::make_unique<VhostNetPair>(setup, vhost, tap, loop);
}

VhostNetPair::VhostNetPair(const NetPairSetup& setup, int vhost, int tap, EventLoop& loop)
    : vhost_(vhost), tap_(tap), loop_(loop), transport_(setup.transport), memory_(setup.memory) {
  for (unsigned i = 0; i < rings_.size(); ++i) {
    const VirtqueueSetup& queue = i == 0 ? *setup.receive : *setup.transmit;
    rings_[i] = {queue.rings, queue.state, queue.doorbell, queue.interrupt->external()};
  }
  control(VHOST_SET_OWNER, nullptr, "VHOST_SET_OWNER");
  try {
    set_features(setup.features);
    memory_.add_listener(*this);
    for (unsigned i = 0; i < rings_.size(); ++i) set_ring(i, setup.memory);
    loop_.add(broken_.fd(), io::kReadable, [this](IoEvents) {
      if (broken_.consume() != 0) transport_.failed("the kernel found a broken ring");
    });
    set_backend(tap_);
  } catch (...) {
    give_up();
    throw;
  }
  // The driver may have made buffers available without ringing.
  for (const Ring& ring : rings_) ring.doorbell->signal();
}

VhostNetPair::~VhostNetPair() { give_up(); }

void VhostNetPair::give_up() noexcept {
  memory_.remove_listener(*this);
  loop_.remove(broken_.fd());
  // Waits for what is in flight; the next driver begins with a new owner.
  ::ioctl(vhost_, VHOST_RESET_OWNER, nullptr);
}

void VhostNetPair::control(unsigned long request, const void* argument, const char* what) const {
  if (::ioctl(vhost_, request, argument) < 0) throw Error::from_errno(what, errno);
}

void VhostNetPair::set_features(uint64_t negotiated) const {
  uint64_t offered = 0;
  control(VHOST_GET_FEATURES, &offered, "VHOST_GET_FEATURES");
  const uint64_t wanted = negotiated & kServersFeatures;
  if ((wanted & ~offered) != 0) throw Error("ENOTSUP", "vhost-net lacks a negotiated feature");
  control(VHOST_SET_FEATURES, &wanted, "VHOST_SET_FEATURES");
}

void VhostNetPair::region_added(const MemoryRegion& region) {
  regions_.push_back(region);
  try {
    set_memory();
  } catch (...) {
    regions_.pop_back();
    throw;
  }
}

void VhostNetPair::region_removed(const MemoryRegion& region) {
  std::erase_if(regions_, [&](const MemoryRegion& one) { return one.address == region.address; });
  try {
    set_memory();
  } catch (const Error&) {
    // What is left is no more than the kernel had. Where it was is mapped for as long as the pair
    // is.
  }
}

void VhostNetPair::set_memory() const {
  const std::vector<vhost_memory_region> regions = joined(regions_);
  // struct vhost_memory ends in an array.
  std::vector<uint64_t> table(
      (sizeof(vhost_memory) + regions.size() * sizeof(vhost_memory_region)) / sizeof(uint64_t));
  auto* header = reinterpret_cast<vhost_memory*>(table.data());
  header->nregions = static_cast<uint32_t>(regions.size());
  std::ranges::copy(regions, header->regions);
  control(VHOST_SET_MEM_TABLE, table.data(), "VHOST_SET_MEM_TABLE");
}

void VhostNetPair::set_ring(unsigned index, const GuestMemory& memory) const {
  const auto& [config, state, doorbell, interrupt] = rings_[index];
  const vhost_vring_state size{index, config.size};
  control(VHOST_SET_VRING_NUM, &size, "VHOST_SET_VRING_NUM");
  const vhost_vring_state start{index, state->next_available};
  control(VHOST_SET_VRING_BASE, &start, "VHOST_SET_VRING_BASE");
  // Lengths with the event indexes behind the rings (virtio 1.2 §2.7.6, §2.7.8).
  const uint64_t entries = config.size;
  const vhost_vring_addr places{
      .index = index,
      .flags = 0,
      .desc_user_addr = host_address(memory, config.descriptor_table, 16 * entries),
      .used_user_addr = host_address(memory, config.used_ring, 6 + 8 * entries),
      .avail_user_addr = host_address(memory, config.available_ring, 6 + 2 * entries),
      .log_guest_addr = 0};
  control(VHOST_SET_VRING_ADDR, &places, "VHOST_SET_VRING_ADDR");
  const vhost_vring_file kick{index, doorbell->fd()};
  control(VHOST_SET_VRING_KICK, &kick, "VHOST_SET_VRING_KICK");
  const vhost_vring_file call{index, interrupt->fd()};
  control(VHOST_SET_VRING_CALL, &call, "VHOST_SET_VRING_CALL");
  const vhost_vring_file error{index, broken_.fd()};
  control(VHOST_SET_VRING_ERR, &error, "VHOST_SET_VRING_ERR");
}

/// With kNoBackend the kernel finishes what it has begun, and holds.
void VhostNetPair::set_backend(int tap) const {
  for (unsigned i = 0; i < rings_.size(); ++i) {
    const vhost_vring_file backend{i, tap};
    control(VHOST_NET_SET_BACKEND, &backend, "VHOST_NET_SET_BACKEND");
  }
}

void VhostNetPair::pause() {
  held_ = true;
  set_backend(kNoBackend);
  read_states();
}

void VhostNetPair::read_states() const noexcept {
  for (unsigned i = 0; i < rings_.size(); ++i) {
    vhost_vring_state state{i, 0};
    ::ioctl(vhost_, VHOST_GET_VRING_BASE, &state);
    // The kernel returns what it takes before it holds.
    const auto next = static_cast<uint16_t>(state.num);
    *rings_[i].state = {.next_available = next, .next_used = next};
  }
}

void VhostNetPair::stop() noexcept {
  for (unsigned i = 0; i < rings_.size(); ++i) {
    const vhost_vring_file nothing{i, kNoBackend};
    ::ioctl(vhost_, VHOST_NET_SET_BACKEND, &nothing);
  }
  read_states();
}

void VhostNetPair::resume() noexcept {
  if (!std::exchange(held_, false)) return;
  try {
    set_backend(tap_);
  } catch (const Error& error) {
    return transport_.failed(error.what());
  }
  // What the driver made available meanwhile.
  for (const Ring& ring : rings_) ring.doorbell->signal();
}

}  // namespace tsvmm
