#pragma once

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <memory>
#include <optional>
#include <vector>

#include "core/error.h"
#include "core/unique_fd.h"
#include "net/net_backend.h"
#include "net/tap_queue.h"

/// Networks for tests.
namespace tsvmm::net_test {

using Bytes = std::vector<uint8_t>;

/// A network whose other end the test holds: a packet is a frame behind its virtio header.
class SocketNetwork : public NetBackend {
 public:
  explicit SocketNetwork(uint16_t pairs = 1, NetOffloads offloads = {}, bool one_by_one = false)
      : offloads_(offloads), one_by_one_(one_by_one), active(pairs) {
    std::signal(SIGPIPE, SIG_IGN);
    for (uint16_t i = 0; i < pairs; ++i) {
      std::array<int, 2> ends{};
      check_errno(
          ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data()),
          "socketpair");
      constexpr int kRoom = 8 << 20;
      for (const int end : ends) {
        ::setsockopt(end, SOL_SOCKET, SO_SNDBUFFORCE, &kRoom, sizeof kRoom);
      }
      near_.emplace_back(ends[0]);
      far_.emplace_back(ends[1]);
    }
  }

  [[nodiscard]] uint16_t pairs() const noexcept override {
    return static_cast<uint16_t>(near_.size());
  }
  [[nodiscard]] std::unique_ptr<NetQueue> make_queue(uint16_t index) override {
    const int fd = near_.at(index).get();
    return one_by_one_ ? make_sync_tap_queue(fd) : make_tap_queue(fd);
  }
  [[nodiscard]] NetOffloads offloads() const noexcept override { return offloads_; }
  void set_guest_offloads(const NetOffloads& offloads) noexcept override { guest = offloads; }
  void set_active_pairs(uint16_t count) noexcept override { active = count; }

  /// What the guest sent, if anything is there.
  std::optional<Bytes> take(uint16_t pair = 0) {
    Bytes packet(NetQueue::kMaxFrameSize + 1);
    const ssize_t size = ::recv(far_.at(pair).get(), packet.data(), packet.size(), MSG_DONTWAIT);
    if (size <= 0) return std::nullopt;
    packet.resize(static_cast<size_t>(size));
    return packet;
  }
  /// Brings the guest a packet; false if there is no room for it.
  [[nodiscard]] bool give(const Bytes& packet, uint16_t pair = 0) {
    return ::send(far_.at(pair).get(), packet.data(), packet.size(), MSG_DONTWAIT) ==
           static_cast<ssize_t>(packet.size());
  }
  void hang_up() { far_.front().reset(); }
  /// Tells of the first pair when the network is gone.
  [[nodiscard]] UniqueFd other_end() const { return UniqueFd::duplicate(far_.front().get()); }

 private:
  const NetOffloads offloads_;
  const bool one_by_one_;
  std::vector<UniqueFd> near_;
  std::vector<UniqueFd> far_;

 public:
  std::atomic<uint16_t> active;
  NetOffloads guest;
};

}  // namespace tsvmm::net_test
