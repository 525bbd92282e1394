#include "virtio/mem.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/bytes.h"
#include "core/cbor_writer.h"
#include "core/error.h"
#include "core/message.h"
#include "virtio/chain_bytes.h"
#include "virtio/config_bytes.h"
#include "virtio/device_kind.h"

namespace tsvmm {
namespace {

// virtio 1.2 §5.15.3.
constexpr uint64_t kFeatureAcpiPxm = 1 << 0;
constexpr uint64_t kFeatureUnpluggedInaccessible = 1 << 1;

constexpr uint16_t kQueueSize = 128;
/// Each can take long, and a pause waits for those of one turn.
constexpr int kRequestsPerTurn = 1;
/// Until the host is asked again for what it has refused.
constexpr uint64_t kRetryNs = 100'000'000;

/// struct virtio_mem_config, §5.15.4.
struct Config {
  uint64_t block_size;
  uint16_t node_id;
  std::array<uint8_t, 6> padding;
  uint64_t addr;
  uint64_t region_size;
  uint64_t usable_region_size;
  uint64_t plugged_size;
  uint64_t requested_size;
};
static_assert(sizeof(Config) == 56);

// §5.15.6: struct virtio_mem_req and struct virtio_mem_resp.
constexpr size_t kRequestSize = 24;
constexpr size_t kAddressOffset = 8;
constexpr size_t kBlocksOffset = 16;
constexpr size_t kAnswerSize = 10;
constexpr size_t kStateOffset = 8;

constexpr uint16_t kPlug = 0;
constexpr uint16_t kUnplug = 1;
constexpr uint16_t kUnplugAll = 2;
constexpr uint16_t kState = 3;

constexpr uint16_t kAck = 0;
constexpr uint16_t kNack = 1;
constexpr uint16_t kBusy = 2;
constexpr uint16_t kError = 3;

constexpr uint16_t kStatePlugged = 0;
constexpr uint16_t kStateUnplugged = 1;
constexpr uint16_t kStateMixed = 2;

}  // namespace

VirtioMem::VirtioMem(std::unique_ptr<MemoryBlocks> blocks, const Options& options,
                     const VirtioMemState& state)
    : blocks_(std::move(blocks)),
      node_(options.node),
      plugged_(blocks_->size() / blocks_->block_size()),
      loop_(options.id) {
  adopt(state);
}

/// Of a device that has nothing plugged in.
void VirtioMem::adopt(const VirtioMemState& state) {
  check_size(state.requested_size);
  requested_size_ = state.requested_size;
  if (state.plugged.size() > plugged_.size()) {
    throw Error("EINVAL", "more blocks are plugged in than there are");
  }
  const bool all = PluggedBlocks::each_run(state.plugged, [this](const Range& run) {
    if (!blocks_->plug(bytes(run.first), bytes(run.count))) return false;
    plugged_.mark(true, run);
    plugged_size_ += bytes(run.count);
    return true;
  });
  if (!all) throw Error("ENOMEM", "the host lacks memory for what is plugged in");
  if (state.unplugging) {
    const auto& [range, done] = *state.unplugging;
    const bool is_range = range.first <= plugged_.size() &&
                          range.count <= plugged_.size() - range.first && done < range.count;
    if (!is_range || !plugged_.all_are(true, {range.first + done, range.count - done})) {
      throw Error("EINVAL", "blocks are being unplugged that are not plugged in");
    }
  }
  unplugging_ = state.unplugging;
}

VirtioMem::~VirtioMem() { reset(); }

void VirtioMem::save(CborWriter& state) const {
  const VirtioMemState now = this->state();
  std::vector<uint8_t> bits((now.plugged.size() + 7) / 8);
  for (size_t i = 0; i < now.plugged.size(); ++i) {
    if (now.plugged[i]) bits[i / 8] |= static_cast<uint8_t>(1U << i % 8);
  }
  state.map(now.unplugging ? 3 : 2);
  state.field("requestedSize", now.requested_size).key("plugged").bytes(bits);
  if (!now.unplugging) return;
  state.key("unplugging").map(3).field("first", now.unplugging->range.first);
  state.field("count", now.unplugging->range.count).field("done", now.unplugging->done);
}

void VirtioMem::restore(Fields& state) {
  VirtioMemState other{.requested_size = state["requestedSize"].number(UINT64_MAX)};
  const std::vector<uint8_t> bits = state["plugged"].bytes();
  if (bits.size() != (plugged_.size() + 7) / 8) {
    throw Error("EINVAL", "the memory device's state is of a region of another size");
  }
  for (size_t i = 0; i < bits.size() * 8; ++i) {
    const bool plugged = (bits[i / 8] >> i % 8 & 1) != 0;
    if (plugged || i < plugged_.size()) other.plugged.push_back(plugged);
  }
  if (state.has("unplugging")) {
    other.unplugging = state["unplugging"].map([](Fields& fields) {
      return VirtioMemState::Unplugging{
          .range = {.first = fields["first"].number(), .count = fields["count"].number()},
          .done = fields["done"].number()};
    });
  }
  adopt(other);
}

VirtioMemState VirtioMem::state() const {
  return {.requested_size = requested_size_, .plugged = plugged_.copy(), .unplugging = unplugging_};
}

void VirtioMem::resize(uint64_t size) {
  check_size(size);
  if (requested_size_.exchange(size) != size) transport().config_changed();
}

void VirtioMem::check_size(uint64_t size) const {
  if (size % blocks_->block_size() != 0) {
    throw Error("EINVAL", "the requested size is not a multiple of " +
                              std::to_string(blocks_->block_size()) + " bytes");
  }
  if (size > blocks_->size()) {
    throw Error("EINVAL", "the requested size is more than the " + std::to_string(blocks_->size()) +
                              " bytes that there can be");
  }
}

uint64_t VirtioMem::bytes(size_t blocks) const noexcept { return blocks * blocks_->block_size(); }

uint64_t VirtioMem::features() const noexcept {
  // What is unplugged can be read and written for all that, so nothing depends on the driver's
  // accepting the second one: it keeps kernels that know it from taking such memory for RAM.
  return kFeatureUnpluggedInaccessible | (node_ ? kFeatureAcpiPxm : 0) |
         virtio_feature::kIndirectDescriptors | virtio_feature::kEventIndex;
}

std::vector<uint16_t> VirtioMem::queue_sizes() const { return {kQueueSize}; }

uint32_t VirtioMem::config_size() const noexcept { return sizeof(Config); }

void VirtioMem::read_config(uint32_t offset, std::span<uint8_t> data) noexcept {
  const Config config{.block_size = blocks_->block_size(),
                      .node_id = node_.value_or(0),
                      .padding = {},
                      .addr = blocks_->address(),
                      .region_size = blocks_->size(),
                      .usable_region_size = blocks_->size(),
                      .plugged_size = plugged_size_,
                      .requested_size = requested_size_};
  copy_config(config, offset, data);
}

void VirtioMem::activate(const Activation& activation) {
  const VirtqueueSetup* setup = activation.queue(0);
  if (setup == nullptr) return;
  doorbell_ = setup->doorbell;
  retry_.emplace();
  loop_.add(retry_->fd(), io::kReadable, [this](IoEvents) {
    retry_->consume();
    doorbell_->signal();
    release_later();
  });
  server_ =
      std::make_unique<QueueServer>(loop_, activation, *setup, transport(), kRequestsPerTurn,
                                    [this](const DescriptorChain& chain) { return serve(chain); });
}

bool VirtioMem::try_reset(const Deadline& deadline) noexcept {
  // A machine may be deleted while it is paused.
  loop_.resume();
  if (!teardown_.in_progress() && !retry_) return true;
  const auto work = [this] {
    server_.reset();
    loop_.remove(retry_->fd());
    retry_.reset();
    unplugging_.reset();
  };
  return teardown_.run(loop_, work, deadline);
}

uint32_t VirtioMem::serve(const DescriptorChain& chain) noexcept {
  std::array<uint8_t, kRequestSize> request{};
  const bool whole = gather(chain.readable, request) == request.size();
  // What cannot be answered is not done.
  if (total_length(chain.writable) < kAnswerSize) return 0;
  const std::optional<Answer> given = whole ? answer(request) : Answer{.type = kError};
  if (!given) return QueueServer::kLater;
  if (given->type == kBusy) ++busy_;
  if (given->type == kNack || given->type == kError) ++refused_;
  std::array<uint8_t, kAnswerSize> bytes{};
  store(std::span<uint8_t>(bytes), given->type);
  store(std::span<uint8_t>(bytes), given->state, kStateOffset);
  return scatter(bytes, chain.writable);
}

/// nullopt: the request has begun, and is to come again.
std::optional<VirtioMem::Answer> VirtioMem::answer(std::span<const uint8_t> request) noexcept {
  const auto type = load<uint16_t>(request);
  const auto range = range_of(request);
  // One that has begun comes again, unless the driver puts another one in its place.
  const auto begun = std::exchange(unplugging_, std::nullopt);
  if (type == kUnplugAll) return unplug_all();
  if (!range) return Answer{.type = kError};
  switch (type) {
    case kPlug:
      return Answer{.type = plug(*range)};
    case kUnplug:
      return unplug(*range, begun && begun->range == *range ? begun->done : 0);
    case kState:
      return Answer{.type = kAck, .state = state_of(*range)};
    default:
      return Answer{.type = kError};
  }
}

uint16_t VirtioMem::state_of(const Range& range) const noexcept {
  if (plugged_.all_are(true, range)) return kStatePlugged;
  return plugged_.all_are(false, range) ? kStateUnplugged : kStateMixed;
}

std::optional<VirtioMem::Range> VirtioMem::range_of(
    std::span<const uint8_t> request) const noexcept {
  const auto address = load<uint64_t>(request, kAddressOffset);
  const size_t count = load<uint16_t>(request, kBlocksOffset);
  if (address < blocks_->address() || count == 0) return std::nullopt;
  const uint64_t offset = address - blocks_->address();
  if (offset % blocks_->block_size() != 0) return std::nullopt;
  const uint64_t first = offset / blocks_->block_size();
  if (first >= plugged_.size() || count > plugged_.size() - first) return std::nullopt;
  return Range{first, count};
}

uint16_t VirtioMem::plug(const Range& range) noexcept {
  if (!plugged_.all_are(false, range)) return kError;
  const uint64_t requested = requested_size_;
  if (plugged_size_ >= requested || bytes(range.count) > requested - plugged_size_) return kNack;
  // Linux asks again after a while.
  if (plugged_.scatters(true, range)) return kBusy;
  if (!blocks_->plug(bytes(range.first), bytes(range.count), is_wanted_)) {
    release_later();
    return kBusy;
  }
  plugged_.mark(true, range);
  plugged_size_ += bytes(range.count);
  plugged_in_ += bytes(range.count);
  return kAck;
}

/// Of a range of which the first `done` blocks are gone.
std::optional<VirtioMem::Answer> VirtioMem::unplug(const Range& range, size_t done) noexcept {
  const Range rest{range.first + done, range.count - done};
  if (!plugged_.all_are(true, rest)) return Answer{.type = kError};
  if (done == 0 && plugged_.scatters(false, range)) return Answer{.type = kBusy};
  done += take_out(rest);
  if (done == range.count) return Answer{.type = kAck};
  if (done == 0) return Answer{.type = kBusy};  // The driver still has all of it.
  unplugging_ = {.range = range, .done = done};
  go_on_later();
  return std::nullopt;
}

std::optional<VirtioMem::Answer> VirtioMem::unplug_all() noexcept {
  bool begun = false;
  const auto take_next = [&](const Range& run) {
    if (begun && loop_.is_wanted()) return false;
    const size_t taken = take_out(run);
    begun = begun || taken != 0;
    return taken == run.count;
  };
  if (plugged_.each_run(take_next)) return Answer{.type = kAck};
  if (!begun) return Answer{.type = kBusy};
  go_on_later();
  return std::nullopt;
}

/// Unplugs blocks from the front of a range until another user waits for the loop, but one piece at
/// least. Returns how many, 0 if the host refuses.
size_t VirtioMem::take_out(const Range& range) noexcept {
  size_t done = 0;
  while (done < range.count && !(done != 0 && loop_.is_wanted())) {
    const Range rest{range.first + done, range.count - done};
    const uint64_t taken = blocks_->unplug(bytes(rest.first), bytes(rest.count));
    if (taken == 0) break;
    const size_t count = taken / blocks_->block_size();
    plugged_.mark(false, {rest.first, count});
    plugged_size_ -= taken;
    plugged_out_ += taken;
    done += count;
  }
  return done;
}

/// Serves the request again after other users of the loop have had their turn; if there is none,
/// the host has refused, and is asked again after a while.
void VirtioMem::go_on_later() noexcept {
  if (loop_.is_wanted()) {
    doorbell_->signal();
  } else {
    retry_->start_after(kRetryNs);
  }
}

/// Frees the rest of a plug request that failed or was called off, after other users of the loop
/// have had their turn; a host that refuses is asked again after a while.
void VirtioMem::release_later() noexcept {
  if (blocks_->is_released() || std::exchange(release_posted_, true)) return;
  loop_.post([this] {
    release_posted_ = false;
    if (blocks_->release(is_wanted_)) return;
    if (loop_.is_wanted()) {
      release_later();
    } else if (retry_) {
      retry_->start_after(kRetryNs);
    }
  });
}

std::vector<Counter> VirtioMem::counters() const {
  return {{"requested_bytes", requested_size_},
          {"plugged_bytes", plugged_size_},
          {"plugged_in_bytes", plugged_in_},
          {"plugged_out_bytes", plugged_out_},
          {"busy_requests", busy_},
          {"refused_requests", refused_}};
}

std::vector<Counter> VirtioMem::status() const { return {{"plugged", plugged_size_}}; }

std::optional<DeviceOperation> VirtioMem::operation(std::string_view name, Fields& arguments) {
  if (name != "resize") return std::nullopt;
  return DeviceOperation{
      .run = [this, size = arguments["size"].number()](
                 CborWriter& /*answer*/, const Deadline& /*deadline*/) { resize(size); }};
}

namespace {

struct MemSpec : DeviceSpec {
  explicit MemSpec(Fields& fields)
      : zone(fields["zone"].text()),
        block_size(fields["blockSize"].number()),
        requested_size(fields["requestedSize"].number()) {
    if (fields.has("node")) node = fields["node"].narrow<uint16_t>();
  }

  std::shared_ptr<VirtioDevice> make(const std::string& id, const DeviceContext& context) override {
    const auto backing = context.memory.hotplug_backing(zone);
    if (!backing) throw Error("EINVAL", "the memory zone " + zone + " has no region to hand out");
    return std::make_shared<VirtioMem>(std::make_unique<MemoryBlocks>(*backing, block_size),
                                       VirtioMem::Options{.id = id, .node = node},
                                       VirtioMemState{.requested_size = requested_size});
  }

  std::string zone;
  uint64_t block_size;
  uint64_t requested_size;
  std::optional<uint16_t> node;
};

}  // namespace

DeviceKind mem_kind() { return {"mem", read_device_spec<MemSpec>}; }

}  // namespace tsvmm
