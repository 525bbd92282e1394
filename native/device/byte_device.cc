#include "device/byte_device.h"

namespace tsvmm {

void ByteDevice::read(uint64_t offset, std::span<uint8_t> data) {
  for (uint8_t& byte : data) {
    byte = offset < size_ ? read_register(offset) : 0xFF;
    ++offset;
  }
}

void ByteDevice::write(uint64_t offset, std::span<const uint8_t> data) {
  for (const uint8_t byte : data) {
    if (offset >= size_) return;
    write_register(offset, byte);
    ++offset;
  }
}

}  // namespace tsvmm
