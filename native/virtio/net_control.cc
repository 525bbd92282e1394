#include "virtio/net_control.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "core/bytes.h"
#include "virtio/chain_bytes.h"
#include "virtio/net_protocol.h"

namespace tsvmm {
namespace {

/// Class and command, and the data of the largest one whose content matters.
constexpr size_t kPrefix = 2;
constexpr size_t kMaxCommand = kPrefix + 8;

struct Command {
  uint8_t command_class;
  uint8_t command;
  std::span<const uint8_t> data;  ///< the first bytes of it
  uint64_t data_size;
};

/// The data of a command that has exactly this.
template <typename T>
std::optional<T> only(const Command& command) {
  if (command.data_size != sizeof(T)) return std::nullopt;
  return load<T>(command.data);
}

/// Tables of addresses to receive: two counts, each with as many addresses behind (§5.1.6.5.2). All
/// frames are delivered, so it is their form alone that can be wrong; it is not copied as a whole.
bool is_mac_table(const Command& command) {
  return command.data_size >= 8 && (command.data_size - 8) % sizeof(MacAddress) == 0;
}

bool carry_out(const Command& command, uint64_t features, NetControlHandler& handler) {
  using namespace virtio_net;
  const auto negotiated = [features](uint64_t bits) { return (features & bits) == bits; };
  const auto is = [&command](uint8_t command_class, uint8_t number) {
    return command.command_class == command_class && command.command == number;
  };
  if (command.command_class == kClassReceive) {
    // The device delivers everything in any mode.
    const auto on = only<uint8_t>(command);
    return negotiated(kFeatureControlReceive) && command.command <= kReceiveNoBroadcast && on &&
           *on <= 1;
  }
  if (is(kClassMac, kMacTableSet))
    return negotiated(kFeatureControlReceive) && is_mac_table(command);
  if (is(kClassMac, kMacAddressSet)) {
    const auto mac = only<MacAddress>(command);
    if (!negotiated(kFeatureControlMac) || !mac) return false;
    handler.set_mac(*mac);
    return true;
  }
  if (is(kClassAnnounce, kAnnounceAck)) {
    if (!negotiated(kFeatureGuestAnnounce) || command.data_size != 0) return false;
    handler.acknowledge_announcement();
    return true;
  }
  if (is(kClassMultiQueue, kMultiQueuePairsSet)) {
    const auto count = only<uint16_t>(command);
    return negotiated(kFeatureMultiQueue) && count && handler.set_pairs(*count);
  }
  if (is(kClassGuestOffloads, kGuestOffloadsSet)) {
    const auto offloads = only<uint64_t>(command);
    return negotiated(kFeatureControlGuestOffloads) && offloads &&
           handler.set_guest_offloads(*offloads);
  }
  return false;
}

}  // namespace

uint32_t run_net_command(const DescriptorChain& chain, uint64_t features,
                         NetControlHandler& handler) noexcept {
  if (chain.writable.empty()) return 0;
  // Copied before it is looked at, wherever the driver cut it into buffers.
  std::array<uint8_t, kMaxCommand> bytes{};
  (void)gather(chain.readable, bytes);
  const uint64_t size = total_length(chain.readable);
  uint8_t answer = virtio_net::kAckError;
  if (size >= kPrefix) {
    const Command command{bytes[0], bytes[1], std::span(bytes).subspan(kPrefix), size - kPrefix};
    if (carry_out(command, features, handler)) answer = virtio_net::kAckOk;
  }
  *chain.writable[0].host = answer;
  return 1;
}

}  // namespace tsvmm
