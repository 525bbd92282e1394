#include "hypervisor/kvm/kvm_statistics.h"

#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstring>
#include <span>

#include "hypervisor/kvm/kvm_abi.h"

namespace tsvmm {
namespace {

/// Kernels have less than a hundred statistics of some 40 bytes each.
constexpr size_t kMaxBytes = 64 << 10;

bool read_whole(int fd, std::span<uint8_t> into, size_t offset) {
  return ::pread(fd, into.data(), into.size(), static_cast<off_t>(offset)) ==
         static_cast<ssize_t>(into.size());
}

template <typename T>
T value_at(const std::vector<uint8_t>& bytes, size_t offset) {
  T value{};
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

}  // namespace

KvmStatistics::KvmStatistics(int vcpu_fd) : fd_(::ioctl(vcpu_fd, KVM_GET_STATS_FD, nullptr)) {}

std::vector<VcpuStatistics::Value> KvmStatistics::read() const {
  if (!fd_.valid()) return {};
  kvm_stats_header header{};
  if (!read_whole(fd_.get(), {reinterpret_cast<uint8_t*>(&header), sizeof header}, 0)) return {};
  const size_t descriptor_size = sizeof(KvmStatisticDescriptor) + header.name_size;
  if (header.num_desc > kMaxBytes / descriptor_size) return {};
  std::vector<uint8_t> descriptors(header.num_desc * descriptor_size);
  if (!read_whole(fd_.get(), descriptors, header.desc_offset)) return {};
  std::vector<uint8_t> data(kMaxBytes);
  const ssize_t size = ::pread(fd_.get(), data.data(), data.size(), header.data_offset);
  if (size < 0) return {};
  data.resize(static_cast<size_t>(size));

  std::vector<VcpuStatistics::Value> values;
  for (size_t at = 0; at < descriptors.size(); at += descriptor_size) {
    const auto descriptor = value_at<KvmStatisticDescriptor>(descriptors, at);
    if ((descriptor.flags & KVM_STATS_TYPE_MASK) != KVM_STATS_TYPE_CUMULATIVE) continue;
    if (descriptor.size != 1 || descriptor.offset + sizeof(uint64_t) > data.size()) continue;
    const auto* name =
        reinterpret_cast<const char*>(descriptors.data() + at + sizeof(KvmStatisticDescriptor));
    values.push_back({.name = std::string(name, ::strnlen(name, header.name_size)),
                      .value = value_at<uint64_t>(data, descriptor.offset)});
  }
  return values;
}

}  // namespace tsvmm
