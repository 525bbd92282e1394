#include "virtio/console.h"

#include <algorithm>
#include <utility>

#include "core/message.h"
#include "core/shared_member.h"
#include "device/char_backend_source.h"
#include "virtio/config_bytes.h"
#include "virtio/device_kind.h"

namespace tsvmm {
namespace {

constexpr uint16_t kQueueSize = 256;
constexpr uint8_t kSizeAnnouncements = 16;
constexpr uint64_t kFeatureSize = 1 << 0;  // virtio 1.2 §5.3.3

/// struct virtio_console_config, §5.3.4; the last two fields belong to features that are not
/// offered.
struct Config {
  uint16_t columns;
  uint16_t rows;
  uint32_t max_ports;
  uint32_t emergency_write;
};
static_assert(sizeof(Config) == 12);

uint32_t pack(uint16_t columns, uint16_t rows) { return uint32_t{rows} << 16 | columns; }

}  // namespace

VirtioConsole::VirtioConsole(std::unique_ptr<CharBackend> backend, EventLoop& loop,
                             uint16_t columns, uint16_t rows)
    : loop_(loop),
      backend_(std::move(backend)),
      state_{.size = pack(columns, rows)},
      port_(
          std::make_shared<ConsolePort>(*backend_, loop_, [this](uint16_t width, uint16_t height) {
            const uint32_t size = pack(width, height);
            return shared(state_.size).exchange(size) != size;
          })) {
  backend_->attach(port_.get());
}

VirtioConsole::~VirtioConsole() {
  reset();
  backend_->attach(nullptr);
}

void VirtioConsole::resize(uint16_t columns, uint16_t rows) noexcept {
  const uint32_t size = pack(columns, rows);
  if (shared(state_.size).exchange(size) != size) transport().config_changed();
}

uint64_t VirtioConsole::features() const noexcept {
  return kFeatureSize | virtio_feature::kIndirectDescriptors | virtio_feature::kEventIndex;
}

std::vector<uint16_t> VirtioConsole::queue_sizes() const { return {kQueueSize, kQueueSize}; }

uint32_t VirtioConsole::config_size() const noexcept { return sizeof(Config); }

void VirtioConsole::read_config(uint32_t offset, std::span<uint8_t> data) noexcept {
  const uint32_t size = load_shared(state_.size);
  const Config config{.columns = static_cast<uint16_t>(size),
                      .rows = static_cast<uint16_t>(size >> 16),
                      .max_ports = 1,
                      .emergency_write = 0};
  copy_config(config, offset, data);
}

void VirtioConsole::watch(const std::optional<ConsoleQueues::Side>& side,
                          void (ConsolePort::*rung)()) {
  if (!side) return;
  loop_.add(side->doorbell.fd(), io::kReadable,
            [port = port_, rung](IoEvents) { (*port.*rung)(); });
}

void VirtioConsole::unwatch(const std::optional<ConsoleQueues::Side>& side) noexcept {
  if (side) loop_.remove(side->doorbell.fd());
}

void VirtioConsole::activate(const Activation& activation) {
  if (!state_.progress) {
    const bool sized = (activation.features & kFeatureSize) != 0 && load_shared(state_.size) != 0;
    state_.progress.emplace().size_announcements = sized ? kSizeAnnouncements : 0;
  }
  queues_ = std::make_shared<ConsoleQueues>(activation, *state_.progress);
  watch(queues_->receive, &ConsolePort::receive_rung);
  watch(queues_->transmit, &ConsolePort::transmit_rung);
  // The port works on the loop's thread only, which a vCPU need not wait for.
  loop_.post([port = port_, queues = queues_, &transport = transport()] {
    port->start(queues, transport);
  });
}

bool VirtioConsole::try_reset(const Deadline& deadline) noexcept {
  if (!teardown_.in_progress() && !queues_) {
    state_.progress.reset();
    return true;
  }
  const auto work = [this] {
    unwatch(queues_->receive);
    unwatch(queues_->transmit);
    port_->stop();
    queues_.reset();
    state_.progress.reset();
  };
  return teardown_.run(loop_, work, deadline);
}

void VirtioConsole::save(CborWriter& state) const {
  const auto& progress = state_.progress;
  state.map(progress ? 3 : 1).field("size", load_shared(state_.size));
  if (!progress) return;
  state.field("sent", progress->sent);
  state.field("sizeAnnouncements", progress->size_announcements);
}

void VirtioConsole::restore(Fields& state) {
  state_ = {.size = state["size"].narrow<uint32_t>()};
  if (!state.has("sent")) return;
  state_.progress = ConsoleProgress{.sent = state["sent"].number(UINT64_MAX),
                                    .size_announcements = static_cast<uint8_t>(
                                        state["sizeAnnouncements"].number(kSizeAnnouncements))};
}

std::vector<Counter> VirtioConsole::counters() const {
  return {{"input_bytes", port_->received()}, {"output_bytes", port_->sent()}};
}

std::optional<DeviceOperation> VirtioConsole::operation(std::string_view name, Fields& arguments) {
  if (name != "resize") return std::nullopt;
  return DeviceOperation{
      .run = [this, columns = arguments["columns"].narrow<uint16_t>(),
              rows = arguments["rows"].narrow<uint16_t>()](
                 CborWriter& /*answer*/, const Deadline& /*deadline*/) { resize(columns, rows); }};
}

namespace {

struct ConsoleSpec : DeviceSpec {
  explicit ConsoleSpec(Fields& fields)
      : backend(read_char_backend(fields["backend"])),
        columns(fields["columns"].narrow<uint16_t>()),
        rows(fields["rows"].narrow<uint16_t>()) {}

  std::shared_ptr<VirtioDevice> make(const std::string& id, const DeviceContext& context) override {
    return std::make_shared<VirtioConsole>(
        make_char_backend(backend.spec, context.loop, context.reports_of(id)), context.loop,
        columns, rows);
  }

  CharBackendSource backend;
  uint16_t columns;
  uint16_t rows;
};

}  // namespace

DeviceKind console_kind() { return {"console", read_device_spec<ConsoleSpec>}; }

}  // namespace tsvmm
