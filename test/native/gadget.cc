/// A kind of device that no machine has: what a new one takes in the core is this file and a line
/// in the list of kinds. The tests have that list with the line (CMakeLists.txt), and so has the
/// addon that test/kvm/newDevice.test.ts builds.
#include <algorithm>
#include <atomic>
#include <memory>

#include "core/error.h"
#include "core/unique_fd.h"
#include "virtio/config_bytes.h"
#include "virtio/device_kind.h"
#include "virtio/loop_teardown.h"
#include "virtio/queue_server.h"

namespace tsvmm {
namespace {

constexpr uint16_t kQueueSize = 64;
constexpr int kChainsPerTurn = 8;

/// Fills all buffers with its level, which its configuration has as well.
class VirtioGadget final : public VirtioDevice {
 public:
  VirtioGadget(EventLoop& loop, uint8_t level) : loop_(loop), level_(level) {}
  ~VirtioGadget() override { reset(); }

  /// None of virtio 1.2 §5.
  [[nodiscard]] VirtioType type() const noexcept override { return {.id = 62}; }
  [[nodiscard]] uint64_t features() const noexcept override { return 0; }
  [[nodiscard]] std::vector<uint16_t> queue_sizes() const override { return {kQueueSize}; }
  [[nodiscard]] uint32_t config_size() const noexcept override { return sizeof(uint8_t); }
  void read_config(uint32_t offset, std::span<uint8_t> data) noexcept override {
    copy_config(level_.load(), offset, data);
  }
  void activate(const Activation& activation) override {
    const VirtqueueSetup* setup = activation.queue(0);
    if (setup == nullptr) return;
    server_ =
        std::make_unique<QueueServer>(loop_, activation, *setup, transport(), kChainsPerTurn,
                                      [this](const DescriptorChain& chain) { return fill(chain); });
  }
  [[nodiscard]] bool try_reset(const Deadline& deadline) noexcept override {
    if (!teardown_.in_progress() && !server_) return true;
    return teardown_.run(
        loop_, [this] { server_.reset(); }, deadline);
  }
  void save(CborWriter& state) const override {
    state.map(2).field("level", uint64_t{level_}).field("filled", filled_.load());
  }
  void restore(Fields& state) override {
    level_ = state["level"].narrow<uint8_t>();
    filled_ = state["filled"].number();
  }
  [[nodiscard]] std::vector<Counter> counters() const override { return {{"filled", filled_}}; }
  [[nodiscard]] std::optional<DeviceOperation> operation(std::string_view name,
                                                         Fields& arguments) override {
    if (name != "set-level") return std::nullopt;
    const auto level = arguments["level"].narrow<uint8_t>();
    return DeviceOperation{.run = [this, level](CborWriter&, const Deadline&) {
      level_ = level;
      transport().config_changed();
    }};
  }

 private:
  std::optional<uint32_t> fill(const DescriptorChain& chain) noexcept {
    uint32_t bytes = 0;
    for (const GuestBuffer& buffer : chain.writable) {
      std::fill_n(buffer.host, buffer.length, level_.load());
      bytes += static_cast<uint32_t>(buffer.length);
    }
    ++filled_;
    return bytes;
  }

  EventLoop& loop_;
  std::atomic<uint8_t> level_;
  std::atomic<uint64_t> filled_ = 0;
  std::unique_ptr<QueueServer> server_;
  LoopTeardown teardown_;
};

struct GadgetSpec : DeviceSpec {
  explicit GadgetSpec(Fields& fields)
      : source(fields["fd"].descriptor()), level(fields["level"].narrow<uint8_t>()) {}

  std::shared_ptr<VirtioDevice> make(const std::string& /*id*/,
                                     const DeviceContext& context) override {
    return std::make_shared<VirtioGadget>(context.loop, level);
  }

  UniqueFd source;
  uint8_t level;
};

}  // namespace

DeviceKind gadget_kind() { return {"gadget", read_device_spec<GadgetSpec>}; }

}  // namespace tsvmm
