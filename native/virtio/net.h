#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/event_loop.h"
#include "core/rate_limiter.h"
#include "net/net_backend.h"
#include "virtio/loop_teardown.h"
#include "virtio/net_control.h"
#include "virtio/net_counters.h"
#include "virtio/net_pair.h"
#include "virtio/queue_server.h"
#include "virtio/virtio_device.h"

namespace tsvmm {

/// What a guest sees of a network device, but for whether its link is up.
struct NetState {
  uint64_t mac = 0;             ///< as the first six bytes lie in memory; any thread's
  bool is_to_announce = false;  ///< and has not acknowledged it; any thread's
  // The first pair's thread's, from an activation on.
  uint16_t pairs = 1;                     ///< as the driver switched them
  std::optional<uint64_t> offloads = {};  ///< likewise, of what the guest takes; else as negotiated
};

/// A virtio network device (virtio 1.2 §5.1).
///
/// Each pair of queues has a thread of its own, `<id>_qp<n>`, made when the driver first uses the
/// pair. The first one's serves the control queue, too.
class VirtioNet final : public VirtioDevice, private NetControlHandler {
 public:
  static constexpr VirtioType kType{
      .id = 1, .pci_class = 0x02 /* network */, .pci_subclass = 0x00 /* Ethernet */};

  struct Options {
    std::string id;
    MacAddress mac{};
    std::optional<uint16_t> mtu;  ///< what the network carries, if known
    uint16_t queue_size = 256;    ///< a power of two from 2 to 32768
    bool checksum = true;         ///< offer checksum offloads, which the next two need
    bool tso = true;
    bool ufo = true;                                ///< and UDP segmentation
    std::shared_ptr<RateLimiter> receive_limiter;   ///< nullptr: none
    std::shared_ptr<RateLimiter> transmit_limiter;  ///< nullptr: none
    /// Serves pairs instead of a thread here, if it is set and does not decline.
    MakeNetPair make_pair;
  };

  /// As many pairs as the network has. Throws Error.
  VirtioNet(std::unique_ptr<NetBackend> network, Options options);
  ~VirtioNet() override;

  /// Asks the guest to make itself known on its network, which it has come to anew (§5.1.6.5.4).
  /// Any thread.
  void announce() noexcept;

  [[nodiscard]] VirtioType type() const noexcept override { return kType; }
  [[nodiscard]] uint64_t features() const noexcept override;
  [[nodiscard]] std::vector<uint16_t> queue_sizes() const override;
  [[nodiscard]] uint32_t config_size() const noexcept override;
  void read_config(uint32_t offset, std::span<uint8_t> data) noexcept override;
  void activate(const Activation& activation) override;
  [[nodiscard]] bool try_reset(const Deadline& deadline) noexcept override;
  void begin_pause() noexcept override;
  [[nodiscard]] bool wait_paused(const Deadline& deadline) override;
  void resume() noexcept override;
  void save(CborWriter& state) const override;
  void restore(Fields& state) override;
  [[nodiscard]] bool try_close(const Deadline& deadline) noexcept override;
  [[nodiscard]] std::vector<Counter> counters() const override;

 private:
  /// What is kept of an activation, for pairs that are switched on later.
  struct Active {
    const GuestMemory& memory;
    uint64_t features;
    std::vector<VirtqueueSetup> queues;
  };

  // NetControlHandler, on the first pair's loop.
  bool set_pairs(uint16_t count) noexcept override;
  bool set_guest_offloads(uint64_t features) noexcept override;
  void set_mac(const MacAddress& mac) noexcept override;
  void acknowledge_announcement() noexcept override;

  void start_pair(uint16_t index);
  void start_control(const Activation& activation);
  void stop_pairs() noexcept;
  void lose_network() noexcept;
  [[nodiscard]] EventLoop& loop(uint16_t index);
  [[nodiscard]] uint16_t control_index(uint64_t features) const noexcept;

  Options options_;
  std::unique_ptr<NetBackend> network_;  ///< until it is closed
  const uint16_t pair_count_;
  NetState state_;
  std::atomic<bool> network_lost_ = false;              ///< and told
  std::vector<std::unique_ptr<NetCounters>> counters_;  ///< by pair
  /// By pair, made when first needed. From an activation on, the first one's thread is the only one
  /// that changes this and what follows.
  std::vector<std::unique_ptr<EventLoop>> loops_;
  std::optional<Active> active_;
  std::vector<std::unique_ptr<NetPair>> pairs_;  ///< by pair, nullptr for those not in use
  std::unique_ptr<QueueServer> control_;
  LoopTeardown teardown_;
  bool held_ = false;  ///< loops and pairs do not change: the first loop is held
};

}  // namespace tsvmm
