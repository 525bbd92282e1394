#include "machine/zone_files.h"

#include <utility>

#include "memory/lost_pages.h"

namespace tsvmm {

std::vector<std::string> zones_with_files(const std::vector<MemoryZone>& zones) {
  std::vector<std::string> names;
  for (const MemoryZone& zone : zones) {
    if (!zone.file) continue;
    const size_t pieces = zone.ranges.size() + (zone.hotplug ? 1 : 0);
    names.insert(names.end(), pieces, zone.id);
  }
  return names;
}

void watch_zone_files(const GuestMemory& memory, const std::vector<std::string>& zones,
                      EventLoop& loop, const EventReport& report) {
  const auto& files = memory.lost_pages();
  for (size_t i = 0; i < files.size(); ++i) {
    const auto on_loss = [&file = *files[i], id = zones[i], report,
                          told = false](IoEvents) mutable {
      (void)file.event().consume();
      if (std::exchange(told, true)) return;
      report(device_event(MachineEvent::Type::kDeviceWarning, id,
                          "its file was made shorter, or its file system is full: a part of the "
                          "guest's memory is lost and reads as zeros"));
    };
    loop.add(files[i]->event().fd(), io::kReadable, on_loss);
  }
}

bool repair_zone_files(const GuestMemory& memory) noexcept {
  bool any = false;
  for (const auto& file : memory.lost_pages()) any |= file->replace();
  return any;
}

}  // namespace tsvmm
