#include "virtio/iommu.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <new>
#include <utility>

#include "core/bytes.h"
#include "core/error.h"
#include "core/message.h"
#include "hypervisor/msi_range.h"
#include "virtio/chain_bytes.h"
#include "virtio/device_kind.h"

namespace tsvmm {
namespace {

using virtio_iommu::RequestType;

constexpr uint16_t kRequestQueue = 0;
constexpr uint16_t kEventQueue = 1;
constexpr uint16_t kQueueSize = 256;
constexpr int kChainsPerTurn = 64;

/// Mappings of pages and of large pages; the smallest is what all must be multiples of.
constexpr uint64_t kPageSizes = IommuTables::kPageSize | 2UL * 1024 * 1024;
constexpr unsigned kMinAddressBits = 12;

/// Type and reserved bytes.
constexpr size_t kHeadSize = 4;
constexpr size_t kLargestRequest = kHeadSize + sizeof(virtio_iommu::Probe);
constexpr size_t kProbeSize = 64;  ///< room for properties, of which one is used
static_assert(sizeof(virtio_iommu::ReservedMemory) <= kProbeSize);

/// How long a request waits for chains in flight, and a vCPU for rings in use. A driver that takes
/// mappings away from a device that still works has to expect an error: others have waited for
/// their buffers, or reset it.
constexpr std::chrono::seconds kDrainTime{1};

/// nullopt if the driver sent less.
template <typename T>
std::optional<T> operands_of(std::span<const uint8_t> bytes) {
  if (bytes.size() < sizeof(T)) return std::nullopt;
  return load<T>(bytes);
}

}  // namespace

VirtioIommu::VirtioIommu(std::shared_ptr<IommuTables> tables, unsigned address_bits,
                         const std::string& id)
    : tables_(std::move(tables)),
      last_address_(UINT64_MAX >> (kMaxAddressBits - address_bits)),
      loop_(id) {}

VirtioIommu::~VirtioIommu() { reset(); }

uint64_t VirtioIommu::features() const noexcept {
  const uint64_t range = last_address_ == UINT64_MAX ? 0 : virtio_iommu::kFeatureInputRange;
  return virtio_iommu::kFeatureMapUnmap | virtio_iommu::kFeatureProbe |
         virtio_iommu::kFeatureBypassConfig | range | virtio_feature::kEventIndex |
         virtio_feature::kIndirectDescriptors;
}

std::vector<uint16_t> VirtioIommu::queue_sizes() const { return {kQueueSize, kQueueSize}; }

void VirtioIommu::read_config(uint32_t offset, std::span<uint8_t> data) noexcept {
  const virtio_iommu::Config config{.page_size_mask = kPageSizes,
                                    .input_start = 0,
                                    .input_end = last_address_,
                                    .domain_start = 0,
                                    .domain_end = UINT32_MAX,
                                    .probe_size = kProbeSize,
                                    .bypass = static_cast<uint8_t>(tables_->bypass() ? 1 : 0),
                                    .reserved = {}};
  std::memcpy(data.data(), reinterpret_cast<const uint8_t*>(&config) + offset, data.size());
}

/// Of all fields the driver writes `bypass` only, with 0 or 1 (§5.13.4).
void VirtioIommu::write_config(uint32_t offset, std::span<const uint8_t> data) noexcept {
  if (offset != offsetof(virtio_iommu::Config, bypass) || data.size() != 1 || data[0] > 1) return;
  if (!tables_->set_bypass(data[0] == 1, Deadline::after(kDrainTime)))
    transport().note(waits_for());
}

void VirtioIommu::activate(const Activation& activation) {
  called_off_.emplace();
  if (const VirtqueueSetup* setup = activation.queue(kEventQueue)) {
    events_ = std::make_unique<QueueServer>(
        loop_, activation, *setup, transport(), kChainsPerTurn,
        [this](const DescriptorChain& chain) { return tell_fault(chain); });
    tables_->set_fault_listener([doorbell = setup->doorbell] { doorbell->signal(); });
  }
  if (const VirtqueueSetup* setup = activation.queue(kRequestQueue)) {
    requests_ = std::make_unique<QueueServer>(
        loop_, activation, *setup, transport(), kChainsPerTurn,
        [this](const DescriptorChain& chain) { return answer(chain); });
  }
}

bool VirtioIommu::try_reset(const Deadline& deadline) noexcept {
  loop_.resume();
  if (!teardown_.in_progress() && !called_off_) return true;
  if (called_off_) called_off_->request();
  const auto work = [this] {
    tables_->set_fault_listener(nullptr);
    requests_.reset();
    events_.reset();
    tables_->clear();
  };
  if (!teardown_.run(loop_, work, deadline)) return false;
  called_off_.reset();
  return true;
}

// Requests (§5.13.6): a head and operands that the driver wrote, and behind them, after properties
// if it is a probe, four bytes for the status.

std::optional<uint32_t> VirtioIommu::answer(const DescriptorChain& chain) noexcept {
  std::array<uint8_t, kLargestRequest> request{};
  const size_t size = gather(chain.readable, request);
  const bool is_probe = size != 0 && request[0] == static_cast<uint8_t>(RequestType::kProbe);
  std::array<uint8_t, kProbeSize + sizeof(virtio_iommu::Tail)> response{};
  const size_t properties = is_probe ? kProbeSize : 0;
  const size_t length = properties + sizeof(virtio_iommu::Tail);
  ++served_;
  if (total_length(chain.writable) < length) {
    ++refused_;
    return 0;  // No room to say so.
  }
  Status status = Status::kNoMemory;
  try {
    status = carry_out(std::span<const uint8_t>(request).first(size),
                       std::span(response).first(properties));
  } catch (const std::bad_alloc&) {
    // That is what the status says.
  }
  if (status != Status::kOk) ++refused_;
  response[properties] = static_cast<uint8_t>(status);
  return scatter(std::span<const uint8_t>(response).first(length), chain.writable);
}

VirtioIommu::Status VirtioIommu::carry_out(std::span<const uint8_t> request,
                                           std::span<uint8_t> properties) {
  if (request.size() < kHeadSize) return Status::kInvalid;
  const auto operands = request.subspan(kHeadSize);
  switch (static_cast<RequestType>(request[0])) {
    case RequestType::kAttach:
      return attach(operands);
    case RequestType::kDetach:
      return detach(operands);
    case RequestType::kMap:
      return map(operands);
    case RequestType::kUnmap:
      return unmap(operands);
    case RequestType::kProbe:
      return probe(operands, properties);
  }
  return Status::kUnsupported;
}

VirtioIommu::Status VirtioIommu::attach(std::span<const uint8_t> operands) {
  const auto attach = operands_of<virtio_iommu::Attach>(operands);
  if (!attach || attach->reserved != 0) return Status::kInvalid;
  return tables_->attach(attach->domain, attach->endpoint, attach->flags, end_of_accesses());
}

VirtioIommu::Status VirtioIommu::detach(std::span<const uint8_t> operands) {
  const auto detach = operands_of<virtio_iommu::Detach>(operands);
  if (!detach || detach->reserved[0] != 0 || detach->reserved[1] != 0) return Status::kInvalid;
  return tables_->detach(detach->domain, detach->endpoint, end_of_accesses());
}

VirtioIommu::Status VirtioIommu::map(std::span<const uint8_t> operands) {
  const auto map = operands_of<virtio_iommu::Map>(operands);
  if (!map || (map->flags & ~(virtio_iommu::kMapRead | virtio_iommu::kMapWrite)) != 0) {
    return Status::kInvalid;
  }
  const IommuMapping mapping{
      .first = map->first, .last = map->last, .address = map->address, .flags = map->flags};
  const MsiRange msi = msi_range();
  const bool is_msi = mapping.first <= msi.last && mapping.last >= msi.first;
  if (mapping.last < mapping.first || is_msi) return Status::kInvalid;
  if (!IommuTables::is_whole_pages(mapping) || mapping.last > last_address_) return Status::kRange;
  return tables_->map(map->domain, mapping);
}

VirtioIommu::Status VirtioIommu::unmap(std::span<const uint8_t> operands) {
  const auto unmap = operands_of<virtio_iommu::Unmap>(operands);
  if (!unmap || unmap->reserved != 0) return Status::kInvalid;
  return tables_->unmap(unmap->domain, unmap->first, unmap->last, end_of_accesses());
}

VirtioIommu::Status VirtioIommu::probe(std::span<const uint8_t> operands,
                                       std::span<uint8_t> properties) {
  const auto probe = operands_of<virtio_iommu::Probe>(operands);
  if (!probe || std::ranges::any_of(probe->reserved, [](uint8_t byte) { return byte != 0; })) {
    return Status::kInvalid;
  }
  if (!tables_->has_endpoint(probe->endpoint)) return Status::kNoEntry;
  constexpr size_t kPropertyHead = 4;
  const MsiRange msi = msi_range();
  const virtio_iommu::ReservedMemory window{
      .type = virtio_iommu::kPropertyReservedMemory,
      .length = sizeof(virtio_iommu::ReservedMemory) - kPropertyHead,
      .subtype = virtio_iommu::kReservedForMsi,
      .reserved = {},
      .first = msi.first,
      .last = msi.last};
  store(properties, window);  // and zeros behind it, which end the list
  return Status::kOk;
}

Deadline VirtioIommu::end_of_accesses() const {
  return Deadline::after(kDrainTime).unless(*called_off_);
}

/// One for each buffer of the event queue (§5.13.6.9). Until there is one the driver's buffers
/// wait.
std::optional<uint32_t> VirtioIommu::tell_fault(const DescriptorChain& chain) noexcept {
  if (total_length(chain.writable) < sizeof(virtio_iommu::Fault)) return 0;
  const auto fault = tables_->take_fault();
  if (!fault) return QueueServer::kLater;
  std::array<uint8_t, sizeof *fault> bytes{};
  store(std::span<uint8_t>(bytes), *fault);
  return scatter(bytes, chain.writable);
}

// The tables are the device's state, as bytes where they are long.

namespace {

template <typename T>
std::span<const uint8_t> bytes_of(const std::vector<T>& plain) {
  return {reinterpret_cast<const uint8_t*>(plain.data()), plain.size() * sizeof(T)};
}

template <typename T>
std::vector<T> plain_of(const std::vector<uint8_t>& bytes) {
  std::vector<T> plain(bytes.size() / sizeof(T));
  if (bytes.size() % sizeof(T) != 0) throw Error("EINVAL", "a part of an IOMMU's state is cut");
  if (!bytes.empty()) std::memcpy(plain.data(), bytes.data(), bytes.size());
  return plain;
}

}  // namespace

void VirtioIommu::save(CborWriter& state) const {
  const IommuState tables = tables_->state();
  state.map(3);
  state.key("bypass").boolean(tables.bypass);
  state.key("domains").array(tables.domains.size());
  for (const IommuState::Domain& domain : tables.domains) {
    state.map(3).field("id", uint64_t{domain.id});
    state.key("bypass").boolean(domain.bypass);
    state.key("mappings").bytes(bytes_of(domain.mappings));
  }
  state.key("attachments").bytes(bytes_of(tables.attachments));
}

void VirtioIommu::restore(Fields& state) {
  IommuState tables;
  tables.bypass = state["bypass"].boolean();
  state["domains"].each([&tables](const Value& domain) {
    tables.domains.push_back(domain.map([](Fields& fields) {
      return IommuState::Domain{.id = fields["id"].narrow<uint32_t>(),
                                .bypass = fields["bypass"].boolean(),
                                .mappings = plain_of<IommuMapping>(fields["mappings"].bytes())};
    }));
  });
  tables.attachments = plain_of<IommuState::Attachment>(state["attachments"].bytes());
  tables_->restore(tables);
}

std::vector<Counter> VirtioIommu::counters() const {
  return {{"requests", served_}, {"refused_requests", refused_}, {"faults", tables_->faults()}};
}

std::vector<Counter> VirtioIommu::status() const { return {{"mappings", tables_->mappings()}}; }

namespace {

struct IommuSpec : DeviceSpec {
  explicit IommuSpec(Fields& fields)
      : address_bits(static_cast<unsigned>(
            fields["addressBits"].number(VirtioIommu::kMaxAddressBits, kMinAddressBits))) {}

  std::shared_ptr<VirtioDevice> make(const std::string& id, const DeviceContext& context) override {
    return std::make_shared<VirtioIommu>(context.iommu, address_bits, id);
  }

  unsigned address_bits;
};

}  // namespace

DeviceKind iommu_kind() { return {"iommu", read_device_spec<IommuSpec>}; }

}  // namespace tsvmm
