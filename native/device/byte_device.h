#pragma once

#include <cstdint>
#include <span>

#include "bus/bus_device.h"

namespace tsvmm {

/// A device of byte-wide registers. An access of several bytes is one access to each of the
/// consecutive addresses, in ascending order, as a bus with 8-bit devices splits it; addresses
/// beyond the device's end read all ones and drop writes.
class ByteDevice : public BusDevice {
 public:
  void read(uint64_t offset, std::span<uint8_t> data) final;
  void write(uint64_t offset, std::span<const uint8_t> data) final;

 protected:
  /// `size` is the number of registers.
  explicit ByteDevice(uint64_t size) : size_(size) {}

  /// `offset` is below the size.
  virtual uint8_t read_register(uint64_t offset) = 0;
  virtual void write_register(uint64_t offset, uint8_t value) = 0;

 private:
  const uint64_t size_;
};

}  // namespace tsvmm
