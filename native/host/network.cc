#include "host/network.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <climits>
#include <cstring>
#include <memory>

#include "core/error.h"

namespace tsvmm {
namespace {

/// struct in6_ifreq of linux/ipv6.h, which cannot be included beside netinet/in.h.
struct Ipv6Request {
  in6_addr address;
  uint32_t prefix_length;
  int index;
};

UniqueFd control_socket(int family) {
  return UniqueFd(check_errno(::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0), "making a socket"));
}

ifreq request_for(const std::string& name) {
  ifreq request{};
  if (name.empty() || name.size() >= sizeof request.ifr_name ||
      name.find('\0') != std::string::npos) {
    throw Error("EINVAL", "an interface has a name of 1 to 15 characters");
  }
  name.copy(request.ifr_name, name.size());
  return request;
}

/// Asks for one setting, or changes it.
void control(unsigned long command, ifreq& request, const char* what) {
  check_errno(::ioctl(control_socket(AF_INET).get(), command, &request), what);
}

UniqueFd open_queue(const std::string& name, unsigned flags, std::string& actual_name) {
  UniqueFd fd(
      check_errno(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), "opening /dev/net/tun"));
  ifreq request = request_for(name);
  request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | flags);
  check_errno(::ioctl(fd.get(), TUNSETIFF, &request), "TUNSETIFF");
  actual_name = request.ifr_name;
  return fd;
}

UniqueFd open_first_queue(const std::string& name, bool many, std::string& actual_name) {
  try {
    return open_queue(name, many ? IFF_MULTI_QUEUE : 0, actual_name);
  } catch (const Error& error) {
    // One queue of a tap that was made for many.
    if (many || error.code() != "EINVAL") throw;
  }
  return open_queue(name, IFF_MULTI_QUEUE, actual_name);
}

using Interfaces = std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)>;

Interfaces all_addresses() {
  ifaddrs* list = nullptr;
  check_errno(::getifaddrs(&list), "getifaddrs");
  return {list, &::freeifaddrs};
}

template <typename Address>
bool same(const sockaddr* socket_address, const Address& wanted, size_t offset) {
  return socket_address != nullptr &&
         std::memcmp(reinterpret_cast<const uint8_t*>(socket_address) + offset, &wanted,
                     sizeof wanted) == 0;
}

template <typename Address>
bool has_address(const std::string& name, int family, const Address& address, const Address& mask,
                 size_t offset) {
  const Interfaces list = all_addresses();
  for (const ifaddrs* entry = list.get(); entry != nullptr; entry = entry->ifa_next) {
    if (name != entry->ifa_name || entry->ifa_addr == nullptr) continue;
    if (entry->ifa_addr->sa_family != family) continue;
    if (same(entry->ifa_addr, address, offset) && same(entry->ifa_netmask, mask, offset)) {
      return true;
    }
  }
  return false;
}

void set_ipv4(const std::string& name, const in_addr& address, const in_addr& mask) {
  if (has_address(name, AF_INET, address, mask, offsetof(sockaddr_in, sin_addr))) return;
  ifreq request = request_for(name);
  sockaddr_in value{};
  value.sin_family = AF_INET;
  value.sin_addr = address;
  std::memcpy(&request.ifr_addr, &value, sizeof value);
  control(SIOCSIFADDR, request, "setting an interface's address");
  value.sin_addr = mask;
  std::memcpy(&request.ifr_netmask, &value, sizeof value);
  control(SIOCSIFNETMASK, request, "setting an interface's network mask");
}

uint32_t prefix_of(const in6_addr& mask) {
  uint32_t length = 0;
  for (const uint8_t byte : mask.s6_addr) {
    length += static_cast<uint32_t>(std::countl_one(byte));
    if (byte != 0xff) break;
  }
  return length;
}

void set_ipv6(const std::string& name, const in6_addr& address, const in6_addr& mask) {
  if (has_address(name, AF_INET6, address, mask, offsetof(sockaddr_in6, sin6_addr))) return;
  const Ipv6Request request{address, prefix_of(mask),
                            static_cast<int>(::if_nametoindex(name.c_str()))};
  check_errno(::ioctl(control_socket(AF_INET6).get(), SIOCSIFADDR, &request),
              "setting an interface's address");
}

/// The bridge, or bond, that an interface is part of, as far as this process can see; else empty.
std::string master_of(const std::string& name) {
  std::array<char, PATH_MAX> target{};
  const std::string path = "/sys/class/net/" + name + "/master";
  const ssize_t length = ::readlink(path.c_str(), target.data(), target.size());
  if (length < 0) return {};
  const std::string link(target.data(), static_cast<size_t>(length));
  return link.substr(link.rfind('/') + 1);
}

}  // namespace

OpenTap open_tap(const std::string& name, unsigned queue_count) {
  OpenTap tap;
  tap.created = ::if_nametoindex(request_for(name).ifr_name) == 0;
  tap.queues.push_back(open_first_queue(name, queue_count > 1, tap.name));
  while (tap.queues.size() < queue_count) {
    tap.queues.push_back(open_queue(tap.name, IFF_MULTI_QUEUE, tap.name));
  }
  return tap;
}

TapQueueInfo tap_queue_info(int fd) {
  ifreq request{};
  check_errno(::ioctl(fd, TUNGETIFF, &request), "TUNGETIFF");
  const auto flags = static_cast<unsigned short>(request.ifr_flags);
  return {.name = request.ifr_name,
          .tap = (flags & IFF_TAP) != 0,
          .vnet_header = (flags & IFF_VNET_HDR) != 0,
          .multi_queue = (flags & IFF_MULTI_QUEUE) != 0};
}

std::optional<InterfaceInfo> interface_info(const std::string& name) {
  if (::if_nametoindex(request_for(name).ifr_name) == 0) return std::nullopt;
  InterfaceInfo info;
  ifreq request = request_for(name);
  control(SIOCGIFFLAGS, request, "asking for an interface's flags");
  info.up = (static_cast<unsigned short>(request.ifr_flags) & IFF_UP) != 0;
  request = request_for(name);
  control(SIOCGIFMTU, request, "asking for an interface's MTU");
  info.mtu = static_cast<uint32_t>(request.ifr_mtu);
  request = request_for(name);
  control(SIOCGIFHWADDR, request, "asking for an interface's MAC address");
  std::memcpy(info.mac.data(), request.ifr_hwaddr.sa_data, info.mac.size());
  return info;
}

void bring_interface_up(const std::string& name) {
  ifreq request = request_for(name);
  control(SIOCGIFFLAGS, request, "asking for an interface's flags");
  if ((static_cast<unsigned short>(request.ifr_flags) & IFF_UP) != 0) return;
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  control(SIOCSIFFLAGS, request, "switching an interface on");
}

void set_interface_mtu(const std::string& name, uint32_t mtu) {
  const auto info = interface_info(name);
  if (info && info->mtu == mtu) return;
  ifreq request = request_for(name);
  request.ifr_mtu = static_cast<int>(mtu);
  control(SIOCSIFMTU, request, "setting an interface's MTU");
}

void set_interface_mac(const std::string& name, const std::array<uint8_t, 6>& mac) {
  const auto info = interface_info(name);
  if (info && info->mac == mac) return;
  ifreq request = request_for(name);
  request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
  std::memcpy(request.ifr_hwaddr.sa_data, mac.data(), mac.size());
  control(SIOCSIFHWADDR, request, "setting an interface's MAC address");
}

void set_interface_address(const std::string& name, const std::string& address,
                           const std::string& mask) {
  in_addr address4{};
  in_addr mask4{};
  if (::inet_pton(AF_INET, address.c_str(), &address4) == 1 &&
      ::inet_pton(AF_INET, mask.c_str(), &mask4) == 1) {
    set_ipv4(name, address4, mask4);
    return;
  }
  in6_addr address6{};
  in6_addr mask6{};
  if (::inet_pton(AF_INET6, address.c_str(), &address6) == 1 &&
      ::inet_pton(AF_INET6, mask.c_str(), &mask6) == 1) {
    set_ipv6(name, address6, mask6);
    return;
  }
  throw Error("EINVAL", "not an IP address and a mask of the same kind");
}

void put_into_bridge(const std::string& name, const std::string& bridge) {
  const ifreq port = request_for(name);
  ifreq request = request_for(bridge);
  if (master_of(name) == bridge) return;
  request.ifr_ifindex = static_cast<int>(::if_nametoindex(port.ifr_name));
  control(SIOCBRADDIF, request, "putting an interface into a bridge");
}

}  // namespace tsvmm
