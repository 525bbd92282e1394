#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "machine_fixture.h"
#include "virtio/block_protocol.h"

/// A guest of KVM's in flat protected mode that brings devices up by a table of writes, and then
/// has a disk write the same sector for ever.
namespace tsvmm::machine_test {

constexpr uint16_t kQueueSize = 16;
constexpr GuestAddress kTable = 0x3000;
constexpr GuestAddress kHeader = 0x20000;
constexpr GuestAddress kStatus = 0x21000;
constexpr GuestAddress kData = 0x100000;

/// Where the guest has a device's queue.
struct Rings {
  GuestAddress descriptors;
  [[nodiscard]] constexpr GuestAddress available() const { return descriptors + 16 * kQueueSize; }
  [[nodiscard]] constexpr GuestAddress used() const { return available() + 40; }
};

/// What the guest writes, one after the other.
class WriteTable {
 public:
  void add(GuestAddress address, uint32_t value, uint32_t width) {
    append(static_cast<uint32_t>(address));
    append(value);
    append(width);
  }
  /// With how often the guest looks at its disk afterwards.
  std::vector<uint8_t> finish(uint32_t looks) {
    append(0);
    append(looks);
    return std::move(bytes_);
  }

 private:
  void append(uint32_t value) {
    bytes_.resize(bytes_.size() + sizeof value);
    store(std::span(bytes_).last(sizeof value), value);
  }
  std::vector<uint8_t> bytes_;
};

/// The disk's descriptors: one request, as often as one likes.
inline std::vector<uint8_t> write_request() {
  std::vector<uint8_t> table(3 * 16);
  const auto add = [&table](size_t index, GuestAddress address, uint32_t length, uint16_t flags) {
    const std::span<uint8_t> entry = std::span(table).subspan(16 * index, 16);
    store(entry, address);
    store(entry, length, 8);
    store(entry, flags, 12);
    store(entry, static_cast<uint16_t>(index + 1), 14);
  };
  add(0, kHeader, sizeof(virtio_block::RequestHeader), virtio_test::kNext);
  add(1, kData, 512, virtio_test::kNext);
  add(2, kStatus, 1, virtio_test::kWrite);
  return table;
}

inline std::vector<uint8_t> write_header() {
  std::vector<uint8_t> header(sizeof(virtio_block::RequestHeader));
  store(std::span(header), virtio_block::RequestHeader{virtio_block::kRequestOut, 0, 0});
  return header;
}

/// For what follows the player: `jmp 0b`.
inline constexpr std::array<uint8_t, 2> kPlayAgain{0xeb, 0xab};

/// Does what the table says, looks at the disk as often as that says, and goes on with `then`.
inline std::vector<uint8_t> player(const Rings& disk, GuestAddress doorbell,
                                   std::span<const uint8_t> then) {
  std::vector<uint8_t> code{
      0xbe, 0x00, 0x30, 0x00, 0x00,                       // 0: mov $kTable, %esi
      0x8b, 0x3e,                                         // 1: mov (%esi), %edi
      0x85, 0xff, 0x74, 0x1f,                             // test %edi, %edi; jz 4f
      0x8b, 0x46, 0x04,                                   // mov 4(%esi), %eax
      0x83, 0x7e, 0x08, 0x01, 0x74, 0x0a,                 // cmpl $1, 8(%esi); je 2f
      0x83, 0x7e, 0x08, 0x02, 0x74, 0x08,                 // cmpl $2, 8(%esi); je 3f
      0x89, 0x07, 0xeb, 0x07,                             // mov %eax, (%edi); jmp 5f
      0x88, 0x07, 0xeb, 0x03,                             // 2: mov %al, (%edi); jmp 5f
      0x66, 0x89, 0x07,                                   // 3: mov %ax, (%edi)
      0x83, 0xc6, 0x0c, 0xeb, 0xdb,                       // 5: add $12, %esi; jmp 1b
      0x8b, 0x3e, 0x8b, 0x4e, 0x04,                       // 4: mov 4(%esi), %ecx
      0x66, 0xa1, 0,    0,    0,    0,                    // 6: mov available index, %ax
      0x66, 0x3b, 0x05, 0,    0,    0,    0, 0x75, 0x10,  // cmp used index, %ax; jne 7f
      0x66, 0xff, 0x05, 0,    0,    0,    0,              // incw available index
      0x66, 0xc7, 0x05, 0,    0,    0,    0, 0,    0,     // movw $0, the doorbell
      0xe6, 0x80,                                         // 7: out %al, $0x80
      0x49, 0x75, 0xdc,                                   // dec %ecx; jnz 6b
  };
  const auto patch = [&code](size_t at, GuestAddress address) {
    store(std::span(code), static_cast<uint32_t>(address), at);
  };
  patch(49, disk.available() + 2);
  patch(56, disk.used() + 2);
  patch(65, disk.available() + 2);
  patch(72, doorbell);
  code.insert(code.end(), then.begin(), then.end());
  return code;
}

}  // namespace tsvmm::machine_test
