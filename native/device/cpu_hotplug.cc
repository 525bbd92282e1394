#include "device/cpu_hotplug.h"

#include <algorithm>
#include <utility>

#include "core/bytes.h"

namespace tsvmm {
namespace {

constexpr uint64_t kSelect = 0x0;  ///< CSEL
constexpr uint64_t kStatus = 0x4;

// Of the status register. The last three are written as ones to acknowledge, and to eject.
constexpr uint8_t kPresent = 1U << 0;   ///< CPEN
constexpr uint8_t kInserted = 1U << 1;  ///< CINS
constexpr uint8_t kRemoving = 1U << 2;  ///< CRMV
constexpr uint8_t kEject = 1U << 3;     ///< CEJ0

constexpr unsigned kBootCpu = 0;

}  // namespace

CpuHotplugState CpuHotplugState::starting(unsigned present, unsigned most) {
  CpuHotplugState state;
  state.cpus.resize(most);
  for (unsigned cpu = 0; cpu < std::min(present, most); ++cpu) state.cpus[cpu].present = true;
  return state;
}

CpuHotplug::CpuHotplug(CpuHotplugState state, std::function<void()> notify,
                       std::function<void(unsigned)> ejected)
    : notify_(std::move(notify)), ejected_(std::move(ejected)), state_(std::move(state)) {}

CpuHotplugState CpuHotplug::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

void CpuHotplug::insert(std::span<const unsigned> cpus) {
  {
    const std::lock_guard lock(mutex_);
    for (const unsigned cpu : cpus) {
      if (cpu < state_.cpus.size()) state_.cpus[cpu] = {.present = true, .inserted = true};
    }
  }
  notify_();
}

void CpuHotplug::request_removal(unsigned first) {
  {
    const std::lock_guard lock(mutex_);
    for (size_t cpu = std::max(first, kBootCpu + 1); cpu < state_.cpus.size(); ++cpu) {
      auto& wanted = state_.cpus[cpu];
      wanted.removing = wanted.awaited = wanted.present;
    }
  }
  notify_();
}

void CpuHotplug::read(uint64_t offset, std::span<uint8_t> data) {
  std::ranges::fill(data, uint8_t{0});
  const std::lock_guard lock(mutex_);
  if (offset == kSelect && data.size() == sizeof(uint32_t)) {
    store(data, state_.selected);
  } else if (offset == kStatus && !data.empty()) {
    data[0] = read_status();
  }
}

uint8_t CpuHotplug::read_status() const noexcept {
  if (state_.selected >= state_.cpus.size()) return 0;
  const auto& cpu = state_.cpus[state_.selected];
  return static_cast<uint8_t>((cpu.present ? kPresent : 0) | (cpu.inserted ? kInserted : 0) |
                              (cpu.removing ? kRemoving : 0));
}

void CpuHotplug::write(uint64_t offset, std::span<const uint8_t> data) {
  unsigned ejected = 0;
  {
    const std::lock_guard lock(mutex_);
    if (offset == kSelect && data.size() == sizeof(uint32_t)) {
      state_.selected = load<uint32_t>(data);
    }
    if (offset != kStatus || data.empty() || !write_status(data[0], ejected)) return;
  }
  ejected_(ejected);
}

/// Whether that ejects a vCPU, and which.
bool CpuHotplug::write_status(uint8_t value, unsigned& ejected) noexcept {
  if (state_.selected >= state_.cpus.size()) return false;
  auto& cpu = state_.cpus[state_.selected];
  if ((value & kInserted) != 0) cpu.inserted = false;
  if ((value & kRemoving) != 0) cpu.removing = false;
  if ((value & kEject) == 0 || !cpu.awaited) return false;
  cpu = {};
  ejected = state_.selected;
  return true;
}

}  // namespace tsvmm
