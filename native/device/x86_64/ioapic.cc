#include "device/x86_64/ioapic.h"

#include <string>

#include "core/bytes.h"
#include "core/error.h"

namespace tsvmm {
namespace {

// 82093AA data sheet §3.1, §3.2.
constexpr uint64_t kSelectOffset = 0x00;
constexpr uint64_t kWindowOffset = 0x10;
constexpr uint8_t kIdRegister = 0x00;
constexpr uint8_t kVersionRegister = 0x01;
constexpr uint8_t kArbitrationRegister = 0x02;
constexpr uint8_t kFirstEntryRegister = 0x10;
constexpr uint32_t kVersion = (IoApic::kPins - 1) << 16 | 0x11;
constexpr unsigned kIdShift = 24;
constexpr uint8_t kIdMask = 0x0F;

constexpr uint64_t kVectorMask = 0xFF;
constexpr unsigned kDeliveryModeShift = 8;
constexpr uint64_t kDeliveryModeMask = 7;
constexpr uint64_t kLogicalDestination = 1U << 11;
constexpr uint64_t kDeliveryStatus = 1U << 12;
constexpr uint64_t kRemoteIrr = 1U << 14;
constexpr uint64_t kLevel = 1U << 15;
constexpr uint64_t kMasked = 1U << 16;
constexpr unsigned kExtendedDestinationShift = 49;
constexpr uint64_t kExtendedDestinationMask = 0x7F;
constexpr unsigned kDestinationShift = 56;
constexpr uint64_t kReadOnly = kDeliveryStatus | kRemoteIrr;
/// Bits 17 to 48 are reserved and read as zero.
constexpr uint64_t kImplemented = 0x1FFFF | kExtendedDestinationMask << kExtendedDestinationShift |
                                  uint64_t{0xFF} << kDestinationShift;

// SDM vol. 3 §11.11.1, §11.11.2.
constexpr unsigned kMsiDestinationShift = 12;
constexpr unsigned kMsiExtendedDestinationShift = 5;
constexpr uint64_t kMsiLogicalDestination = 1U << 2;
constexpr uint32_t kMsiAssert = 1U << 14;
constexpr uint32_t kMsiLevel = 1U << 15;

bool is_level(uint64_t entry) { return (entry & kLevel) != 0; }

/// Delivery modes 3 and 6 are reserved; hypervisors complain about them in the host's log, so they
/// never get there.
bool deliverable(uint64_t entry) {
  const uint64_t mode = entry >> kDeliveryModeShift & kDeliveryModeMask;
  return (entry & kMasked) == 0 && mode != 3 && mode != 6;
}

}  // namespace

MsiMessage ioapic_entry_to_msi(uint64_t entry) {
  const uint64_t extended = entry >> kExtendedDestinationShift & kExtendedDestinationMask;
  uint64_t address = kLocalApicAddress | (entry >> kDestinationShift) << kMsiDestinationShift |
                     extended << kMsiExtendedDestinationShift;
  if ((entry & kLogicalDestination) != 0) address |= kMsiLogicalDestination;
  auto data =
      static_cast<uint32_t>(entry & (kVectorMask | kDeliveryModeMask << kDeliveryModeShift));
  if (is_level(entry)) data |= kMsiLevel | kMsiAssert;
  return {.address = address, .data = data};
}

/// What a device at a pin holds.
class IoApic::Pin final : public Interrupt {
 public:
  Pin(IoApic& ioapic, unsigned number, std::unique_ptr<Interrupt> line)
      : line(std::move(line)), ioapic_(ioapic), number_(number) {}

  void trigger() noexcept override { ioapic_.pulse(number_); }
  bool set_message(const MsiMessage& /*message*/) noexcept override { return false; }
  void clear() noexcept override {}

  const std::unique_ptr<Interrupt> line;
  MsiMessage message;
  bool routed = false;

 private:
  IoApic& ioapic_;
  const unsigned number_;
};

IoApic::IoApic(InterruptFabric& fabric) : fabric_(fabric) { state_.redirection.fill(kMasked); }

IoApic::IoApic(InterruptFabric& fabric, const IoApicState& state)
    : fabric_(fabric), state_(state) {}

IoApic::~IoApic() = default;

IoApicState IoApic::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

Interrupt& IoApic::pin_line(unsigned pin) {
  if (pin >= kPins) throw Error("EINVAL", "the I/O APIC has no pin " + std::to_string(pin));
  const std::lock_guard lock(mutex_);
  if (!pins_[pin]) {
    pins_[pin] = std::make_unique<Pin>(*this, pin, fabric_.create_wired_interrupt(pin));
    route(pin);
  }
  return *pins_[pin];
}

void IoApic::set_level(unsigned pin, bool asserted) noexcept {
  if (pin >= kPins) return;
  const std::lock_guard lock(mutex_);
  const uint32_t bit = 1U << pin;
  const bool rises = asserted && (state_.asserted & bit) == 0;
  state_.asserted = asserted ? state_.asserted | bit : state_.asserted & ~bit;
  if (rises) deliver(pin);
}

void IoApic::pulse(unsigned pin) noexcept {
  const std::lock_guard lock(mutex_);
  deliver(pin);
}

/// One interrupt, unless a level-triggered one is still in service. An edge at a masked pin is lost
/// (data sheet §3.2.4).
void IoApic::deliver(unsigned pin) noexcept {
  uint64_t& entry = state_.redirection[pin];
  if (!pins_[pin] || !pins_[pin]->routed || !deliverable(entry)) return;
  if (is_level(entry)) {
    if ((entry & kRemoteIrr) != 0) return;
    entry |= kRemoteIrr;
  }
  pins_[pin]->line->trigger();
}

void IoApic::eoi(uint8_t vector) noexcept {
  const std::lock_guard lock(mutex_);
  for (unsigned pin = 0; pin < kPins; ++pin) {
    uint64_t& entry = state_.redirection[pin];
    if (!is_level(entry) || (entry & kRemoteIrr) == 0 || (entry & kVectorMask) != vector) continue;
    entry &= ~kRemoteIrr;
    route(pin);
    if ((state_.asserted & 1U << pin) != 0) deliver(pin);
  }
}

/// Tells the hypervisor what the pin delivers, if that changed: a new route is expensive. A pin
/// that is masked while its interrupt is in service keeps its route, without which the hypervisor
/// would not report the end of it.
void IoApic::route(unsigned pin) noexcept {
  if (!pins_[pin]) return;
  Pin& target = *pins_[pin];
  const uint64_t entry = state_.redirection[pin];
  if (!deliverable(entry)) {
    if (target.routed && is_level(entry) && (entry & kRemoteIrr) != 0) return;
    if (target.routed) target.line->clear();
    target.routed = false;
    return;
  }
  const MsiMessage message = ioapic_entry_to_msi(entry);
  if (target.routed && message.address == target.message.address &&
      message.data == target.message.data) {
    return;
  }
  target.message = message;
  target.routed = target.line->set_message(message);
}

uint32_t IoApic::read_window() const {
  const uint8_t select = state_.select;
  if (select == kIdRegister || select == kArbitrationRegister) {
    return uint32_t{state_.id} << kIdShift;
  }
  if (select == kVersionRegister) return kVersion;
  if (select < kFirstEntryRegister) return 0;
  const unsigned pin = (select - kFirstEntryRegister) / 2U;
  if (pin >= kPins) return 0;
  return static_cast<uint32_t>(state_.redirection[pin] >> (select % 2 * 32));
}

void IoApic::write_window(uint32_t value) {
  const uint8_t select = state_.select;
  if (select == kIdRegister) {
    state_.id = value >> kIdShift & kIdMask;
    return;
  }
  if (select < kFirstEntryRegister) return;
  const unsigned pin = (select - kFirstEntryRegister) / 2U;
  if (pin >= kPins) return;
  const unsigned shift = select % 2 * 32;
  const uint64_t kept = state_.redirection[pin] & ~(uint64_t{0xFFFFFFFF} << shift);
  write_entry(pin, kept | uint64_t{value} << shift);
}

void IoApic::write_entry(unsigned pin, uint64_t value) {
  uint64_t& entry = state_.redirection[pin];
  entry = (value & kImplemented & ~kReadOnly) | (entry & kReadOnly);
  // Linux ends an interrupt of an old I/O APIC by making its pin edge-triggered for a moment.
  if (!is_level(entry)) entry &= ~kRemoteIrr;
  route(pin);
  if (is_level(entry) && (state_.asserted & 1U << pin) != 0) deliver(pin);
}

void IoApic::read(uint64_t offset, std::span<uint8_t> data) {
  const std::lock_guard lock(mutex_);
  uint32_t value = 0;
  if (offset == kSelectOffset) value = state_.select;
  if (offset == kWindowOffset) value = read_window();
  store_uint(data, value);
}

void IoApic::write(uint64_t offset, std::span<const uint8_t> data) {
  const std::lock_guard lock(mutex_);
  const auto value = static_cast<uint32_t>(load_uint(data));
  if (offset == kSelectOffset) state_.select = static_cast<uint8_t>(value);
  if (offset == kWindowOffset) write_window(value);
}

}  // namespace tsvmm
