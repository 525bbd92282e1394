#pragma once

#include <linux/ioctl.h>
#include <linux/kvm.h>

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace tsvmm {

// The requests whose structures end in a flexible array. Compiled as C++, such structures of
// <linux/kvm.h> come out larger than the kernel's in some releases of the header (an empty member
// has a size in C++), and with them the request numbers, which contain the size. So both are
// spelled out here.

struct KvmCountHeader {
  uint32_t count = 0;
  uint32_t padding = 0;
};

inline constexpr unsigned long kKvmSetGsiRouting = _IOW(KVMIO, 0x6a, KvmCountHeader);
inline constexpr unsigned long kKvmSetSignalMask = _IOW(KVMIO, 0x8b, uint32_t);

static_assert(kKvmSetGsiRouting == 0x4008ae6a && kKvmSetSignalMask == 0x4004ae8b);

/// struct kvm_stats_desc, which the statistic's name follows.
struct KvmStatisticDescriptor {
  uint32_t flags = 0;
  int16_t exponent = 0;
  uint16_t size = 0;
  uint32_t offset = 0;
  uint32_t bucket_size = 0;
};
static_assert(sizeof(KvmStatisticDescriptor) == 16);

/// A KvmCountHeader and its entries in one piece of memory.
template <typename Entry>
class KvmEntryList {
 public:
  /// Room for `capacity` entries, none used yet.
  explicit KvmEntryList(size_t capacity)
      : words_((sizeof(KvmCountHeader) + capacity * sizeof(Entry) + 7) / 8) {}
  /// As many whole entries as `packed` has.
  explicit KvmEntryList(std::span<const uint8_t> packed)
      : KvmEntryList(packed.size() / sizeof(Entry)) {
    header().count = static_cast<uint32_t>(packed.size() / sizeof(Entry));
    if (header().count != 0) std::memcpy(entries(), packed.data(), header().count * sizeof(Entry));
  }

  KvmCountHeader& header() { return *reinterpret_cast<KvmCountHeader*>(words_.data()); }
  Entry* entries() { return reinterpret_cast<Entry*>(words_.data() + 1); }
  /// What the ioctl takes.
  void* request() { return words_.data(); }

 private:
  static_assert(sizeof(KvmCountHeader) == sizeof(uint64_t));
  std::vector<uint64_t> words_;  ///< aligned for every entry type
};

}  // namespace tsvmm
