#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>

#include "device/byte_device.h"
#include "device/char_backend.h"
#include "hypervisor/hypervisor.h"

namespace tsvmm {

/// Everything a 16550A knows, apart from its host end.
struct SerialState {
  static constexpr size_t kFifoSize = 16;

  std::array<uint8_t, kFifoSize> received{};
  uint8_t received_begin = 0;
  uint8_t received_count = 0;
  uint8_t interrupt_enable = 0;
  uint8_t fifo_control = 0;
  uint8_t line_control = 0;
  uint8_t modem_control = 0;
  uint8_t line_errors = 0;  ///< LSR bits that a read clears (overrun)
  uint8_t modem_delta = 0;  ///< MSR bits 0 to 3
  uint8_t scratch = 0;
  uint16_t divisor = 12;  ///< 9600 baud
  bool transmitter_empty_pending =
      false;                     ///< set when THR empties; cleared by an IIR read or a THR write
  uint8_t interrupt_causes = 0;  ///< enabled conditions, as IER bits, that INTRPT stands for
  std::array<uint8_t, kFifoSize> held{};  ///< transmitted bytes that the host end has not taken yet
  uint8_t held_count = 0;
};

/// A 16550A UART (PC16550D data sheet) whose line is infinitely fast: a byte written to THR is at
/// its host end when the write returns, unless that refuses it; then THRE and TEMT stay clear until
/// it can take more.
class Serial final : public ByteDevice, private CharClient {
 public:
  /// Ports.
  static constexpr uint64_t kSize = 8;

  /// `interrupt` is edge-triggered: once for each rise of the INTRPT pin. It must outlive this
  /// device.
  Serial(Interrupt& interrupt, std::unique_ptr<CharBackend> backend, const SerialState& state = {});
  ~Serial() override;
  Serial(const Serial&) = delete;
  Serial& operator=(const Serial&) = delete;
  [[nodiscard]] SerialState state() const;

 private:
  uint8_t read_register(uint64_t offset) override;
  void write_register(uint64_t offset, uint8_t value) override;

  size_t input_room() override;
  void input(std::span<const uint8_t> bytes) override;
  void output_ready() override;

  // All below: with mutex_ held.
  uint8_t read_receiver();
  uint8_t read_interrupt_identification();
  uint8_t read_line_status();
  uint8_t read_modem_status();
  void write_transmitter(uint8_t value);
  void write_interrupt_enable(uint8_t value);
  void write_fifo_control(uint8_t value);
  void write_modem_control(uint8_t value);

  [[nodiscard]] bool divisor_latch() const;
  [[nodiscard]] bool fifo_enabled() const;
  [[nodiscard]] bool loopback() const;
  [[nodiscard]] uint8_t capacity() const;
  [[nodiscard]] uint8_t trigger_level() const;
  [[nodiscard]] uint8_t modem_lines() const;
  [[nodiscard]] uint8_t pending_causes() const;
  void push_received(uint8_t value);
  void clear_received();
  void flush_held();
  void ask_for_input();
  void update_interrupt();

  Interrupt& interrupt_;
  const std::unique_ptr<CharBackend> backend_;
  mutable std::mutex mutex_;
  SerialState state_;
  bool input_refused_ = false;  ///< the backend saw no room and waits for input_wanted()
};

}  // namespace tsvmm
