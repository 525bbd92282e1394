#include "device/serial.h"

#include <algorithm>

namespace tsvmm {
namespace {

// PC16550D data sheet §8, by offset.
constexpr uint64_t kReceiverTransmitter = 0;
constexpr uint64_t kInterruptEnable = 1;
constexpr uint64_t kInterruptIdentification = 2;  // write: FIFO control
constexpr uint64_t kLineControl = 3;
constexpr uint64_t kModemControl = 4;
constexpr uint64_t kLineStatus = 5;
constexpr uint64_t kModemStatus = 6;
constexpr uint64_t kScratch = 7;

constexpr uint8_t kIerReceived = 1U << 0;
constexpr uint8_t kIerTransmitterEmpty = 1U << 1;
constexpr uint8_t kIerLineStatus = 1U << 2;
constexpr uint8_t kIerModemStatus = 1U << 3;
constexpr uint8_t kIerMask = 0x0F;

constexpr uint8_t kIirNone = 0x01;
constexpr uint8_t kIirModemStatus = 0x00;
constexpr uint8_t kIirTransmitterEmpty = 0x02;
constexpr uint8_t kIirReceived = 0x04;
constexpr uint8_t kIirLineStatus = 0x06;
constexpr uint8_t kIirTimeout = 0x0C;
constexpr uint8_t kIirFifos = 0xC0;

constexpr uint8_t kFcrEnable = 1U << 0;
constexpr uint8_t kFcrClearReceiver = 1U << 1;
constexpr uint8_t kFcrTriggerMask = 0xC0;
constexpr unsigned kFcrTriggerShift = 6;

constexpr uint8_t kLcrDivisorLatch = 1U << 7;

constexpr uint8_t kMcrDtr = 1U << 0;
constexpr uint8_t kMcrRts = 1U << 1;
constexpr uint8_t kMcrOut1 = 1U << 2;
constexpr uint8_t kMcrOut2 = 1U << 3;
constexpr uint8_t kMcrLoopback = 1U << 4;
constexpr uint8_t kMcrMask = 0x1F;

constexpr uint8_t kLsrDataReady = 1U << 0;
constexpr uint8_t kLsrOverrun = 1U << 1;
constexpr uint8_t kLsrTransmitterEmpty = 1U << 5 | 1U << 6;  // THRE and TEMT

constexpr uint8_t kMsrCts = 1U << 4;
constexpr uint8_t kMsrDsr = 1U << 5;
constexpr uint8_t kMsrRi = 1U << 6;
constexpr uint8_t kMsrDcd = 1U << 7;
constexpr unsigned kMsrDeltaShift = 4;

}  // namespace

Serial::Serial(Interrupt& interrupt, std::unique_ptr<CharBackend> backend, const SerialState& state)
    : ByteDevice(kSize), interrupt_(interrupt), backend_(std::move(backend)), state_(state) {
  backend_->attach(this);
  // What the host's end before had not taken.
  if (state.held_count != 0) output_ready();
}

SerialState Serial::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

Serial::~Serial() {
  backend_->attach(nullptr);
  flush_held();  // a last try: nobody will wait for the reader
}

uint8_t Serial::read_register(uint64_t offset) {
  const std::lock_guard lock(mutex_);
  switch (offset) {
    case kReceiverTransmitter:
      return divisor_latch() ? static_cast<uint8_t>(state_.divisor) : read_receiver();
    case kInterruptEnable:
      return divisor_latch() ? static_cast<uint8_t>(state_.divisor >> 8) : state_.interrupt_enable;
    case kInterruptIdentification:
      return read_interrupt_identification();
    case kLineControl:
      return state_.line_control;
    case kModemControl:
      return state_.modem_control;
    case kLineStatus:
      return read_line_status();
    case kModemStatus:
      return read_modem_status();
    default:
      return state_.scratch;
  }
}

void Serial::write_register(uint64_t offset, uint8_t value) {
  const std::lock_guard lock(mutex_);
  switch (offset) {
    case kReceiverTransmitter:
      if (divisor_latch()) {
        state_.divisor = static_cast<uint16_t>((state_.divisor & 0xFF00) | value);
      } else {
        write_transmitter(value);
      }
      break;
    case kInterruptEnable:
      if (divisor_latch()) {
        state_.divisor = static_cast<uint16_t>((state_.divisor & 0x00FF) | value << 8);
      } else {
        write_interrupt_enable(value);
      }
      break;
    case kInterruptIdentification:
      write_fifo_control(value);
      break;
    case kLineControl:
      state_.line_control = value;
      break;
    case kModemControl:
      write_modem_control(value);
      break;
    case kScratch:
      state_.scratch = value;
      break;
    default:  // the status registers are for factory tests only
      break;
  }
  update_interrupt();
}

bool Serial::divisor_latch() const { return (state_.line_control & kLcrDivisorLatch) != 0; }

bool Serial::fifo_enabled() const { return (state_.fifo_control & kFcrEnable) != 0; }

bool Serial::loopback() const { return (state_.modem_control & kMcrLoopback) != 0; }

uint8_t Serial::capacity() const { return fifo_enabled() ? SerialState::kFifoSize : 1; }

uint8_t Serial::trigger_level() const {
  static constexpr std::array<uint8_t, 4> kLevels{1, 4, 8, 14};
  return fifo_enabled() ? kLevels[state_.fifo_control >> kFcrTriggerShift] : 1;
}

uint8_t Serial::read_receiver() {
  if (state_.received_count == 0) return 0;
  const uint8_t value = state_.received[state_.received_begin];
  state_.received_begin = (state_.received_begin + 1) % SerialState::kFifoSize;
  --state_.received_count;
  // Not for each byte: the backend costs a system call to wake.
  if (state_.received_count == 0) ask_for_input();
  update_interrupt();
  return value;
}

/// The first that applies, in the data sheet's order of priority (§8.6.3).
uint8_t Serial::read_interrupt_identification() {
  const uint8_t fifos = fifo_enabled() ? kIirFifos : 0;
  const uint8_t causes = pending_causes();
  if ((causes & kIerLineStatus) != 0) return fifos | kIirLineStatus;
  if ((causes & kIerReceived) != 0) {
    // No byte is ever on its way, so the character timeout of a FIFO below its trigger level is
    // over at once.
    const bool triggered = state_.received_count >= trigger_level();
    return fifos | (triggered ? kIirReceived : kIirTimeout);
  }
  if ((causes & kIerTransmitterEmpty) != 0) {
    state_.transmitter_empty_pending = false;
    update_interrupt();
    return fifos | kIirTransmitterEmpty;
  }
  if ((causes & kIerModemStatus) != 0) return fifos | kIirModemStatus;
  return fifos | kIirNone;
}

uint8_t Serial::read_line_status() {
  uint8_t value = state_.line_errors;
  if (state_.received_count > 0) value |= kLsrDataReady;
  if (state_.held_count == 0) value |= kLsrTransmitterEmpty;
  state_.line_errors = 0;
  update_interrupt();
  return value;
}

uint8_t Serial::read_modem_status() {
  const uint8_t value = modem_lines() | state_.modem_delta;
  state_.modem_delta = 0;
  update_interrupt();
  return value;
}

void Serial::write_transmitter(uint8_t value) {
  // The condition goes and may come back: that is a new edge, on which drivers that send from the
  // handler rely.
  state_.transmitter_empty_pending = false;
  update_interrupt();
  if (loopback()) {
    push_received(value);
    state_.transmitter_empty_pending = state_.held_count == 0;
    return;
  }
  if (state_.held_count == 0 && backend_->write({&value, 1}) == 1) {
    state_.transmitter_empty_pending = true;
    return;
  }
  if (state_.held_count < capacity()) ++state_.held_count;
  state_.held[state_.held_count - 1] = value;
}

void Serial::write_interrupt_enable(uint8_t value) {
  const uint8_t enabled = value & kIerMask & ~state_.interrupt_enable;
  state_.interrupt_enable = value & kIerMask;
  // Enabling it while THR is empty interrupts at once; Linux's driver tests for it.
  if ((enabled & kIerTransmitterEmpty) != 0 && state_.held_count == 0) {
    state_.transmitter_empty_pending = true;
  }
}

/// Transmitted bytes stay even when the guest clears their FIFO: on a line this fast they had left
/// before.
void Serial::write_fifo_control(uint8_t value) {
  const bool toggled = ((value ^ state_.fifo_control) & kFcrEnable) != 0;
  const bool enable = (value & kFcrEnable) != 0;
  // The other bits count only together with the enable bit (§8.5).
  state_.fifo_control = enable ? value & (kFcrEnable | kFcrTriggerMask) : 0;
  if (toggled || (enable && (value & kFcrClearReceiver) != 0)) clear_received();
}

void Serial::write_modem_control(uint8_t value) {
  const uint8_t before = modem_lines();
  const bool was_loopback = loopback();
  state_.modem_control = value & kMcrMask;
  const uint8_t after = modem_lines();
  // Each delta bit lies four below its line; RI's reports only the trailing edge (§8.8).
  uint8_t changed = before ^ after;
  if ((after & kMsrRi) != 0) changed &= ~kMsrRi;
  state_.modem_delta |= changed >> kMsrDeltaShift;
  if (was_loopback && !loopback()) ask_for_input();
}

uint8_t Serial::modem_lines() const {
  if (!loopback()) return kMsrCts | kMsrDsr | kMsrDcd;
  const uint8_t control = state_.modem_control;
  uint8_t lines = 0;
  if ((control & kMcrRts) != 0) lines |= kMsrCts;
  if ((control & kMcrDtr) != 0) lines |= kMsrDsr;
  if ((control & kMcrOut1) != 0) lines |= kMsrRi;
  if ((control & kMcrOut2) != 0) lines |= kMsrDcd;
  return lines;
}

void Serial::push_received(uint8_t value) {
  if (state_.received_count >= capacity()) {
    state_.line_errors |= kLsrOverrun;
    // A full FIFO keeps what it has; the single register takes the new byte (§8.4).
    if (!fifo_enabled()) state_.received[state_.received_begin] = value;
    return;
  }
  const size_t at = (state_.received_begin + state_.received_count) % SerialState::kFifoSize;
  state_.received[at] = value;
  ++state_.received_count;
}

void Serial::clear_received() {
  state_.received_count = 0;
  ask_for_input();
}

void Serial::ask_for_input() {
  if (!input_refused_ || loopback()) return;
  input_refused_ = false;
  backend_->input_wanted();
}

uint8_t Serial::pending_causes() const {
  uint8_t causes = 0;
  if (state_.received_count > 0) causes |= kIerReceived;
  if (state_.transmitter_empty_pending) causes |= kIerTransmitterEmpty;
  if (state_.line_errors != 0) causes |= kIerLineStatus;
  if (state_.modem_delta != 0) causes |= kIerModemStatus;
  return causes & state_.interrupt_enable;
}

void Serial::update_interrupt() {
  const uint8_t causes = pending_causes();
  const bool arisen = (causes & ~state_.interrupt_causes) != 0;
  state_.interrupt_causes = causes;
  if (arisen) interrupt_.trigger();
}

size_t Serial::input_room() {
  const std::lock_guard lock(mutex_);
  const size_t room = loopback() || state_.received_count >= capacity()
                          ? 0
                          : size_t{capacity()} - state_.received_count;
  input_refused_ = room == 0;
  return room;
}

void Serial::input(std::span<const uint8_t> bytes) {
  const std::lock_guard lock(mutex_);
  for (const uint8_t byte : bytes) push_received(byte);
  // New bytes are a new event even if older ones still wait: a driver may take one byte an
  // interrupt.
  state_.interrupt_causes &= ~kIerReceived;
  update_interrupt();
}

void Serial::output_ready() {
  const std::lock_guard lock(mutex_);
  flush_held();
  update_interrupt();
}

void Serial::flush_held() {
  if (state_.held_count == 0) return;
  const size_t written = backend_->write({state_.held.data(), state_.held_count});
  std::move(state_.held.begin() + written, state_.held.begin() + state_.held_count,
            state_.held.begin());
  state_.held_count -= static_cast<uint8_t>(written);
  if (state_.held_count == 0) state_.transmitter_empty_pending = true;
}

}  // namespace tsvmm
