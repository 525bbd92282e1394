#include "pci/msix.h"

#include <algorithm>
#include <utility>

#include "core/bytes.h"
#include "core/error.h"

namespace tsvmm {
namespace {

constexpr uint32_t kVectorMasked = 1;  // PCI 3.0 §6.8.2.9

}  // namespace

MsixTable::MsixTable(InterruptFabric& fabric, uint16_t vectors)
    : fabric_(fabric), entries_(vectors) {}

void MsixTable::restore(const MsixState& state) {
  if (state.vectors.size() != entries_.size()) {
    throw Error("EINVAL", "an MSI-X table's state is that of another function");
  }
  const std::lock_guard lock(mutex_);
  enabled_ = state.enabled;
  function_masked_ = state.function_masked;
  for (size_t i = 0; i < entries_.size(); ++i) {
    entries_[i].vector = state.vectors[i];
    update(entries_[i]);
  }
}

MsixState MsixTable::state() const {
  const std::lock_guard lock(mutex_);
  MsixState copy{.enabled = enabled_, .function_masked = function_masked_, .vectors = {}};
  for (const Entry& entry : entries_) {
    copy.vectors.push_back(entry.vector);
    copy.vectors.back().pending = entry.vector.pending || waiting(entry);
  }
  return copy;
}

void MsixTable::set_control(bool enabled, bool function_masked) noexcept {
  const std::lock_guard lock(mutex_);
  enabled_ = enabled;
  function_masked_ = function_masked;
  for (Entry& entry : entries_) update(entry);
}

void MsixTable::trigger(uint16_t vector) noexcept {
  const std::lock_guard lock(mutex_);
  if (!enabled_ || vector >= entries_.size()) return;
  Entry& entry = entries_[vector];
  if (!live(entry)) {
    entry.vector.pending = true;
  } else if (entry.interrupt) {
    entry.interrupt->trigger();
  }
}

bool MsixTable::live(const Entry& entry) const noexcept {
  return enabled_ && !function_masked_ && (entry.vector.control & kVectorMasked) == 0;
}

bool MsixTable::add_source(uint16_t vector, const EventFd& source) noexcept {
  const std::lock_guard lock(mutex_);
  if (!enabled_ || vector >= entries_.size()) return false;
  Entry& entry = entries_[vector];
  entry.sources.push_back({&source});
  update(entry);
  if (!live(entry) || entry.sources.back().connected) return true;
  entry.sources.pop_back();
  return false;
}

void MsixTable::remove_source(const EventFd& source) noexcept {
  const std::lock_guard lock(mutex_);
  for (Entry& entry : entries_) {
    const auto found = std::ranges::find(entry.sources, &source, &Source::event);
    if (found == entry.sources.end()) continue;
    if (found->connected) entry.interrupt->disconnect(source);
    entry.sources.erase(found);
  }
}

/// Whether a source has been signalled that is not connected.
bool MsixTable::waiting(const Entry& entry) noexcept {
  return std::ranges::any_of(entry.sources, [](const Source& source) {
    return !source.connected && source.event->signalled();
  });
}

void MsixTable::update(Entry& entry) noexcept {
  // A masked vector keeps its interrupt's message: triggers stop here, so masking and unmasking
  // costs no system call. Only what triggers from outside has to be disconnected.
  if (!live(entry)) {
    for (Source& source : entry.sources) {
      if (std::exchange(source.connected, false)) entry.interrupt->disconnect(*source.event);
    }
    return;
  }
  const uint64_t address = uint64_t{entry.vector.address_high} << 32 | entry.vector.address_low;
  if (!entry.programmed || entry.message.address != address ||
      entry.message.data != entry.vector.data) {
    try {
      if (!entry.interrupt) entry.interrupt = fabric_.create_msi();
    } catch (const std::exception&) {
      return;  // Out of routes: the vector delivers nothing and is tried again at the next unmask.
    }
    entry.message = {address, entry.vector.data};
    entry.programmed = entry.interrupt->set_message(entry.message);
  }
  if (entry.vector.pending && entry.programmed) {
    entry.vector.pending = false;
    entry.interrupt->trigger();
  }
  if (!entry.programmed) return;
  for (Source& source : entry.sources) {
    if (!source.connected) source.connected = entry.interrupt->connect(*source.event);
  }
}

uint8_t MsixTable::table_byte(uint64_t offset) const noexcept {
  const uint64_t index = offset / kEntrySize;
  if (index >= entries_.size()) return 0;
  const Entry& entry = entries_[index];
  const uint32_t registers[] = {entry.vector.address_low, entry.vector.address_high,
                                entry.vector.data, entry.vector.control};
  return static_cast<uint8_t>(registers[offset % kEntrySize / 4] >> (offset % 4 * 8));
}

void MsixTable::read_table(uint64_t offset, std::span<uint8_t> data) const noexcept {
  const std::lock_guard lock(mutex_);
  for (size_t i = 0; i < data.size(); ++i) data[i] = table_byte(offset + i);
}

void MsixTable::write_table(uint64_t offset, std::span<const uint8_t> data) noexcept {
  if ((data.size() != 4 && data.size() != 8) || offset % data.size() != 0) return;
  const std::lock_guard lock(mutex_);
  if (offset / kEntrySize >= entries_.size()) return;
  for (size_t i = 0; i < data.size(); i += 4) {
    write_register(offset + i, load<uint32_t>(data, i));
  }
  update(entries_[offset / kEntrySize]);
}

void MsixTable::write_register(uint64_t offset, uint32_t value) noexcept {
  Entry& entry = entries_[offset / kEntrySize];
  switch (offset % kEntrySize) {
    case 0:
      entry.vector.address_low = value & ~3U;
      break;
    case 4:
      entry.vector.address_high = value;
      break;
    case 8:
      entry.vector.data = value;
      break;
    default:
      entry.vector.control = value & kVectorMasked;
  }
}

void MsixTable::read_pending(uint64_t offset, std::span<uint8_t> data) const noexcept {
  std::ranges::fill(data, uint8_t{0});
  const std::lock_guard lock(mutex_);
  for (size_t bit = 0; bit < data.size() * 8; ++bit) {
    const uint64_t vector = offset * 8 + bit;
    if (vector >= entries_.size()) continue;
    if (entries_[vector].vector.pending || waiting(entries_[vector])) {
      data[bit / 8] = static_cast<uint8_t>(data[bit / 8] | 1U << bit % 8);
    }
  }
}

}  // namespace tsvmm
