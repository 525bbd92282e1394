#include "virtio/pci_transport.h"

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>

#include "core/bytes.h"
#include "core/cbor_writer.h"
#include "core/message.h"
#include "virtio/iommu/tables.h"
#include "virtio/pci_layout.h"

namespace tsvmm {
namespace {

PciIdentity identity(const VirtioType& type) {
  const auto device = static_cast<uint16_t>(virtio_pci::kDeviceIdBase + type.id);
  return {.vendor = virtio_pci::kVendorId,
          .device = device,
          .revision = 1,  // Not a transitional device (§4.1.2.1).
          .class_code = type.pci_class,
          .subclass = type.pci_subclass,
          .subsystem_vendor = virtio_pci::kVendorId,
          .subsystem = device};
}

/// Of a device's own memory; BAR 0 may take up two.
constexpr unsigned kDeviceMemoryBar = 2;

/// A driver that goes on without reading the status is right nearly always.
constexpr std::chrono::seconds kResetTime{1};

/// Behind an IOMMU, addresses are translated whatever the driver accepts (§6.1): one that does not
/// know the feature gets on as long as the IOMMU lets it pass.
uint64_t transport_features(const VirtioPciFunction::Options& options) {
  return virtio_feature::kVersion1 |
         (options.iommu == nullptr ? 0 : virtio_feature::kAccessPlatform);
}

uint16_t vector_count(const VirtioDevice& device) {
  return static_cast<uint16_t>(device.queue_sizes().size() + 1);
}

}  // namespace

/// A queue's two signals: the vector that announces its used buffers, and the doorbell.
class VirtioPciFunction::QueueSignals final : public VirtqueueInterrupt {
 public:
  explicit QueueSignals(VirtioPciFunction& function) : function_(function) {}

  void trigger() noexcept override {
    function_.interrupt(vector.load(std::memory_order_relaxed), virtio_pci::kIsrQueue);
  }

  const EventFd* external() noexcept override {
    const std::lock_guard lock(mutex_);
    if (source_) return &*source_;
    try {
      source_.emplace();
    } catch (const std::exception&) {
      return nullptr;
    }
    if (function_.msix_.add_source(vector.load(std::memory_order_relaxed), *source_)) {
      return &*source_;
    }
    source_.reset();
    return nullptr;
  }

  void set_vector(uint16_t value) noexcept {
    const std::lock_guard lock(mutex_);
    if (vector.exchange(value, std::memory_order_relaxed) == value || !source_) return;
    function_.msix_.remove_source(*source_);
    (void)function_.msix_.add_source(value, *source_);
  }

  /// No server outside of this process signals any more.
  void end_external() noexcept {
    const std::lock_guard lock(mutex_);
    if (!source_) return;
    function_.msix_.remove_source(*source_);
    source_.reset();
  }

  std::atomic<uint16_t> vector = kNoVector;
  std::optional<EventFd> doorbell;  ///< from the first activation on
  std::unique_ptr<DoorbellRegistration> registration;

 private:
  VirtioPciFunction& function_;
  std::mutex mutex_;  ///< after the function's, before MsixTable's
  std::optional<EventFd> source_;
};

class VirtioPciFunction::Padding final : public BusDevice {
 public:
  void read(uint64_t /*offset*/, std::span<uint8_t> data) override {
    std::ranges::fill(data, uint8_t{0xff});
  }
  void write(uint64_t /*offset*/, std::span<const uint8_t> /*data*/) override {}
};

VirtioPciFunction::VirtioPciFunction(Options options, std::shared_ptr<VirtioDevice> device,
                                     const GuestMemory& memory, InterruptFabric& fabric,
                                     EventReport report)
    : options_(std::move(options)),
      device_(std::move(device)),
      memory_(memory),
      fabric_(fabric),
      report_(std::move(report)),
      msix_(fabric, vector_count(*device_)),
      config_(identity(device_->type())),
      common_(device_->features() | transport_features(options_), device_->queue_sizes(),
              msix_.vectors()) {
  for (size_t i = 0; i < common_.queues().size(); ++i) {
    signals_.push_back(std::make_unique<QueueSignals>(*this));
  }
  config_.add_memory_bar(0, virtio_pci::kBarSize, options_.bar0_is_64bit, options_.bar0);
  if (const DeviceMemory* memory = device_->device_memory()) {
    padding_ = std::make_unique<Padding>();
    config_.add_memory_bar(kDeviceMemoryBar, std::bit_ceil(memory->size()), true, options_.bar2);
  }
  add_capabilities();
  if (options_.decoded) config_.set_command(kPciCommandMemory);
  device_->connect(*this);
}

VirtioPciFunction::~VirtioPciFunction() {
  if (begun_) device_->reset();
  for (const auto& signals : signals_) signals->end_external();
  device_->disconnect();
}

uint32_t VirtioPciFunction::add_virtio_capability(uint8_t type, uint32_t offset, uint32_t length,
                                                  std::span<const uint8_t> tail, bool writable) {
  // struct virtio_pci_cap without the two bytes that every capability begins with (§4.1.4).
  std::vector<uint8_t> body(virtio_pci::kCapabilitySize - 2);
  body[0] = static_cast<uint8_t>(virtio_pci::kCapabilitySize + tail.size());
  body[1] = type;
  store(std::span(body), offset, virtio_pci::kCapabilityOffset - 2);
  store(std::span(body), length, virtio_pci::kCapabilityLength - 2);
  body.insert(body.end(), tail.begin(), tail.end());
  std::vector<uint8_t> mask;
  if (writable) {
    mask.resize(body.size(), 0xff);
    std::fill_n(mask.begin(), 2, uint8_t{0});
    std::fill_n(mask.begin() + virtio_pci::kCapabilityBar - 2 + 1, 3, uint8_t{0});
  }
  return config_.add_capability(virtio_pci::kCapabilityVendor, body, mask);
}

void VirtioPciFunction::add_capabilities() {
  const auto queues = static_cast<uint32_t>(signals_.size());
  add_virtio_capability(virtio_pci::kCapCommon, virtio_pci::kCommonOffset, CommonConfig::kSize, {},
                        false);
  add_virtio_capability(virtio_pci::kCapIsr, virtio_pci::kIsrOffset, 1, {}, false);
  if (device_->config_size() != 0) {
    add_virtio_capability(virtio_pci::kCapDevice, virtio_pci::kDeviceOffset, device_->config_size(),
                          {}, false);
  }
  std::array<uint8_t, 4> word{};
  store(std::span<uint8_t>(word), virtio_pci::kNotifyMultiplier);
  add_virtio_capability(virtio_pci::kCapNotify, virtio_pci::kNotifyOffset,
                        queues * virtio_pci::kNotifyMultiplier, word, false);
  word = {};
  indirect_capability_ = add_virtio_capability(virtio_pci::kCapPciConfig, 0, 0, word, true);

  std::array<uint8_t, 10> msix{};
  std::array<uint8_t, 10> writable{};
  store(std::span<uint8_t>(msix), static_cast<uint16_t>(msix_.vectors() - 1));
  store(std::span<uint8_t>(msix), virtio_pci::kMsixTableOffset, 2);
  store(std::span<uint8_t>(msix), virtio_pci::kMsixPendingOffset, 6);
  store(std::span<uint8_t>(writable),
        static_cast<uint16_t>(virtio_pci::kMsixEnable | virtio_pci::kMsixFunctionMask));
  msix_capability_ = config_.add_capability(virtio_pci::kCapabilityMsix, msix, writable);
}

// State.

VirtioPciState VirtioPciFunction::state() {
  const std::lock_guard lock(mutex_);
  VirtioPciState state{.config = config_.state(),
                       .msix = msix_.state(),
                       .common = common_.state(),
                       .isr = isr_,
                       .device = {}};
  if (resetting_) {
    // Nothing is in flight while the device is paused: its reset has only to be told to the driver.
    state.common = common_.cleared();
    state.isr = 0;
    return state;
  }
  // One that failed is not to do anything before its driver has reset it (virtio 1.2 §2.1.2).
  if ((state.common.status & virtio_status::kNeedsReset) != 0) return state;
  CborWriter writer;
  device_->save(writer);
  state.device = writer.take();
  return state;
}

void VirtioPciFunction::restore(const VirtioPciState& state) {
  const std::lock_guard lock(mutex_);
  common_.restore(state.common);
  msix_.restore(state.msix);
  config_.restore(state.config);
  isr_ = state.isr;
  if (!state.device.empty()) {
    MessageReader reader(state.device, {});
    reader.value().map([this](Fields& fields) { device_->restore(fields); });
  }
  update_vectors();
  const auto life = common_.status() & (virtio_status::kDriverOk | virtio_status::kNeedsReset);
  if (life == virtio_status::kDriverOk) activate();
}

// Configuration space, under the root's lock.

bool VirtioPciFunction::is_indirect_data(uint32_t offset, size_t size) const noexcept {
  const uint32_t data = indirect_capability_ + virtio_pci::kCapabilitySize;
  return offset < data + 4 && offset + size > data;
}

std::optional<VirtioPciFunction::IndirectAccess> VirtioPciFunction::indirect_access()
    const noexcept {
  // §4.1.4.9.1: offset a multiple of the length, which is 1, 2 or 4.
  const auto bar = config_.get<uint8_t>(indirect_capability_ + virtio_pci::kCapabilityBar);
  const auto offset = config_.get<uint32_t>(indirect_capability_ + virtio_pci::kCapabilityOffset);
  const auto length = config_.get<uint32_t>(indirect_capability_ + virtio_pci::kCapabilityLength);
  if (bar != 0 || (length != 1 && length != 2 && length != 4)) return std::nullopt;
  if (offset % length != 0 || offset >= virtio_pci::kBarSize) return std::nullopt;
  return IndirectAccess{offset, length};
}

void VirtioPciFunction::config_read(uint32_t offset, std::span<uint8_t> data) noexcept {
  config_.read(offset, data);
  if (!is_indirect_data(offset, data.size())) return;
  const auto target = indirect_access();
  if (!target || offset != indirect_capability_ + virtio_pci::kCapabilitySize) return;
  std::array<uint8_t, 4> value{};
  read(target->offset, std::span(value).first(target->length));
  std::copy_n(value.begin(), std::min(value.size(), data.size()), data.begin());
}

void VirtioPciFunction::config_write(uint32_t offset, std::span<const uint8_t> data) noexcept {
  config_.write(offset, data);
  const uint32_t control = msix_capability_ + 2;
  if (offset < control + 2 && offset + data.size() > control) update_msix_control();
  if (!is_indirect_data(offset, data.size())) return;
  const auto target = indirect_access();
  if (!target || offset != indirect_capability_ + virtio_pci::kCapabilitySize) return;
  if (data.size() >= target->length) write(target->offset, data.first(target->length));
}

void VirtioPciFunction::update_msix_control() noexcept {
  const auto control = config_.get<uint16_t>(msix_capability_ + 2);
  msix_.set_control((control & virtio_pci::kMsixEnable) != 0,
                    (control & virtio_pci::kMsixFunctionMask) != 0);
}

std::optional<BarRequest> VirtioPciFunction::bar(unsigned index) const noexcept {
  return config_.bar(index);
}

BusDevice* VirtioPciFunction::bar_device(unsigned index) noexcept {
  if (index == kDeviceMemoryBar) return padding_.get();
  return this;
}

void VirtioPciFunction::bar_mapped(unsigned index, uint64_t address) noexcept {
  const std::lock_guard lock(mutex_);
  if (index == kDeviceMemoryBar) return show_device_memory(address);
  bar_address_ = address;
  if (active_) connect_doorbells();
}

void VirtioPciFunction::show_device_memory(uint64_t address) noexcept {
  if (removed_) return;
  try {
    device_->device_memory()->show(address);
    device_->device_memory_moved(address);
  } catch (const std::exception& error) {
    failed(error.what());
  }
}

void VirtioPciFunction::bar_unmapped(unsigned index) noexcept {
  const std::lock_guard lock(mutex_);
  if (index == kDeviceMemoryBar) {
    device_->device_memory()->hide();
    device_->device_memory_moved(std::nullopt);
    return;
  }
  bar_address_.reset();
  for (const auto& signals : signals_) signals->registration.reset();
}

void VirtioPciFunction::removed() noexcept {
  const std::lock_guard lock(mutex_);
  removed_ = true;
  if (DeviceMemory* memory = device_->device_memory()) memory->hide();
}

// BAR 0, from any vCPU.

void VirtioPciFunction::read(uint64_t offset, std::span<uint8_t> data) {
  std::ranges::fill(data, uint8_t{0});
  if (offset >= virtio_pci::kMsixPendingOffset) {
    msix_.read_pending(offset - virtio_pci::kMsixPendingOffset, data);
  } else if (offset >= virtio_pci::kMsixTableOffset) {
    msix_.read_table(offset - virtio_pci::kMsixTableOffset, data);
  } else if (offset >= virtio_pci::kNotifyOffset) {
    return;
  } else if (offset >= virtio_pci::kDeviceOffset) {
    read_device_config(offset - virtio_pci::kDeviceOffset, data);
  } else if (offset == virtio_pci::kIsrOffset) {
    data[0] = isr_.exchange(0);  // Reading clears (§4.1.4.5).
  } else if (offset < virtio_pci::kIsrOffset) {
    const std::lock_guard lock(mutex_);
    // Status 0: a driver that resets what is not there any more waits for that.
    if (removed_) return;
    continue_reset(Deadline::now());
    common_.read(offset - virtio_pci::kCommonOffset, data);
  }
}

void VirtioPciFunction::write(uint64_t offset, std::span<const uint8_t> data) {
  if (offset >= virtio_pci::kMsixPendingOffset) return;
  if (offset >= virtio_pci::kMsixTableOffset) {
    msix_.write_table(offset - virtio_pci::kMsixTableOffset, data);
  } else if (offset >= virtio_pci::kNotifyOffset) {
    notify(offset - virtio_pci::kNotifyOffset);
  } else if (offset >= virtio_pci::kDeviceOffset) {
    write_device_config(offset - virtio_pci::kDeviceOffset, data);
  } else if (offset < virtio_pci::kIsrOffset) {
    write_common(offset - virtio_pci::kCommonOffset, data);
  }
}

void VirtioPciFunction::write_common(uint64_t offset, std::span<const uint8_t> data) noexcept {
  const std::lock_guard lock(mutex_);
  if (removed_) return;
  continue_reset(Deadline::now());
  if (resetting_) return;
  const CommonConfig::Effect effect = common_.write(offset, data);
  if (offset == CommonConfig::kQueueVector) update_vectors();
  if (effect == CommonConfig::Effect::kActivate) activate();
  if (effect == CommonConfig::Effect::kReset) begin_reset();
}

void VirtioPciFunction::read_device_config(uint64_t offset, std::span<uint8_t> data) noexcept {
  const uint32_t size = device_->config_size();
  if (offset >= size) return;
  const std::lock_guard lock(mutex_);
  if (removed_) return;
  device_->read_config(static_cast<uint32_t>(offset),
                       data.first(std::min<size_t>(data.size(), size - offset)));
}

void VirtioPciFunction::write_device_config(uint64_t offset,
                                            std::span<const uint8_t> data) noexcept {
  const uint32_t size = device_->config_size();
  if (offset >= size || data.size() > size - offset) return;
  const std::lock_guard lock(mutex_);
  if (!removed_) device_->write_config(static_cast<uint32_t>(offset), data);
}

/// A doorbell that came as MMIO: no ioeventfd on this host, or one of another vCPU's stores raced
/// its removal.
void VirtioPciFunction::notify(uint64_t offset) noexcept {
  const uint64_t queue = offset / virtio_pci::kNotifyMultiplier;
  if (queue >= signals_.size() || offset % virtio_pci::kNotifyMultiplier != 0) return;
  const std::lock_guard lock(mutex_);
  if (active_ && !removed_ && signals_[queue]->doorbell) signals_[queue]->doorbell->signal();
}

// The device's life, under `mutex_`.

void VirtioPciFunction::activate() noexcept {
  try {
    Activation activation{memory_, common_.driver_features(), {}};
    for (size_t i = 0; i < signals_.size(); ++i) {
      const CommonConfig::Queue& queue = common_.queues()[i];
      if (!queue.enabled) continue;
      QueueSignals& signals = *signals_[i];
      if (!signals.doorbell) signals.doorbell.emplace();
      (void)signals.doorbell->consume();  // A ring from before a reset.
      activation.queues.push_back({.index = static_cast<uint16_t>(i),
                                   .rings = queue.rings,
                                   .doorbell = &*signals.doorbell,
                                   .interrupt = &signals,
                                   .state = &common_.progress(i),
                                   .iommu = options_.iommu.get()});
    }
    begun_ = true;
    device_->activate(activation);
  } catch (const std::exception& error) {
    // What has begun ends at once, or when the driver asks for the reset that it needs now.
    (void)end_device(Deadline::now());
    failed(error.what());
    return;
  }
  active_ = true;
  connect_doorbells();
  tell(MachineEvent::Type::kDeviceActivated);
}

void VirtioPciFunction::begin_reset() noexcept {
  resetting_ = true;
  continue_reset(Deadline::after(kResetTime));
  if (resetting_) note(std::string(device_->waits_for()) + ": its reset waits for that");
}

/// True once the device does nothing, until the next activation.
bool VirtioPciFunction::end_device(const Deadline& deadline) noexcept {
  if (!begun_) return true;
  if (!device_->try_reset(deadline)) return false;
  for (const auto& signals : signals_) signals->end_external();
  begun_ = false;
  return true;
}

void VirtioPciFunction::continue_reset(const Deadline& deadline) noexcept {
  if (!resetting_ || !end_device(deadline)) return;
  if (std::exchange(active_, false)) tell(MachineEvent::Type::kDeviceReset);
  common_.clear();
  update_vectors();
  isr_ = 0;
  resetting_ = false;
}

/// Doorbells stay connected over resets, until the BAR moves: each costs a system call, and writes
/// between a reset and the next activation signal an eventfd that is cleared then.
void VirtioPciFunction::connect_doorbells() noexcept {
  if (!bar_address_) return;
  for (size_t i = 0; i < signals_.size(); ++i) {
    QueueSignals& signals = *signals_[i];
    if (!common_.queues()[i].enabled || signals.registration) continue;
    try {
      signals.registration = fabric_.register_doorbell(
          *bar_address_ + virtio_pci::kNotifyOffset + i * virtio_pci::kNotifyMultiplier,
          *signals.doorbell);
    } catch (const std::exception&) {
      signals.registration.reset();  // Its stores then come as MMIO.
    }
  }
}

void VirtioPciFunction::update_vectors() noexcept {
  for (size_t i = 0; i < signals_.size(); ++i) {
    signals_[i]->set_vector(common_.queues()[i].vector);
  }
}

// Signals to the driver, from any thread and without `mutex_`.

void VirtioPciFunction::interrupt(uint16_t vector, uint8_t isr_bit) noexcept {
  // The ISR is for drivers without MSI-X, who poll it here as there is no INTx; the configuration
  // bit is always set (§4.1.4.5.1).
  if (isr_bit == virtio_pci::kIsrConfig || !msix_.enabled()) isr_.fetch_or(isr_bit);
  msix_.trigger(vector);
}

void VirtioPciFunction::config_changed() noexcept {
  common_.changed();
  if ((common_.status() & virtio_status::kDriverOk) == 0) return;
  interrupt(common_.config_vector(), virtio_pci::kIsrConfig);
}

void VirtioPciFunction::tell(MachineEvent::Type type, std::string_view text) noexcept {
  report_(device_event(type, options_.id, std::string(text)));
}

void VirtioPciFunction::failed(std::string_view reason) noexcept {
  if (!common_.fail()) return;
  tell(MachineEvent::Type::kDeviceFailed, reason);
  if ((common_.status() & virtio_status::kDriverOk) != 0) {
    interrupt(common_.config_vector(), virtio_pci::kIsrConfig);
  }
}

}  // namespace tsvmm
