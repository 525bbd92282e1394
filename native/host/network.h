#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/unique_fd.h"

namespace tsvmm {

/// Taps and the settings of network interfaces. All of these throw Error.

struct OpenTap {
  std::vector<UniqueFd> queues;
  std::string name;
  bool created = false;  ///< it was not there before, and goes with its last descriptor
};

/// Opens `queue_count` queues of the tap `name` with vnet headers; makes it if it is not there. A
/// `name` with %d in it makes a new one with a number in that place.
OpenTap open_tap(const std::string& name, unsigned queue_count);

/// The interface that a tap's descriptor belongs to.
struct TapQueueInfo {
  std::string name;
  bool tap = false;          ///< Ethernet frames, not IP packets
  bool vnet_header = false;  ///< IFF_VNET_HDR
  bool multi_queue = false;
};
TapQueueInfo tap_queue_info(int fd);

/// Settings of an interface; nullopt if there is none of that name in this network namespace.
struct InterfaceInfo {
  bool up = false;
  uint32_t mtu = 0;  ///< bytes
  std::array<uint8_t, 6> mac{};
};
std::optional<InterfaceInfo> interface_info(const std::string& name);

/// These change a setting only if it differs, which needs CAP_NET_ADMIN.
void bring_interface_up(const std::string& name);
void set_interface_mtu(const std::string& name, uint32_t mtu);
void set_interface_mac(const std::string& name, const std::array<uint8_t, 6>& mac);
/// `address` and `mask` in their usual notation, both IPv4 or both IPv6.
void set_interface_address(const std::string& name, const std::string& address,
                           const std::string& mask);
/// Makes the interface a port of a bridge; one that is so already stays.
void put_into_bridge(const std::string& name, const std::string& bridge);

}  // namespace tsvmm
