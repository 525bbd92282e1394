#include "machine/machine_spec.h"

#include <string_view>

namespace tsvmm {
namespace {

/// A field that is an address, or a number of bytes.
GuestMemory::Range read_range(Fields& fields, std::string_view start) {
  return {fields[start].number(), fields["size"].number()};
}

VcpuSpec read_vcpu(Fields& fields) {
  VcpuSpec spec{
      .id = fields["id"].narrow<uint32_t>(), .affinity = {}, .setup = read_vcpu_setup(fields)};
  fields["affinity"].each([&](const Value& cpu) { spec.affinity.push_back(cpu.ordinal()); });
  return spec;
}

MemoryRange read_memory_range(Fields& fields) { return read_range(fields, "address"); }

MemoryZone read_zone(Fields& fields) {
  MemoryZone zone{.id = fields["id"].text(),
                  .ranges = {},
                  .options = {.shared = fields["shared"].boolean(),
                              .hugepage_size = fields["hugepageSize"].number(),
                              .prefault = fields["prefault"].boolean(),
                              .mergeable = fields["mergeable"].boolean(),
                              .thp = fields["thp"].boolean(),
                              .reserve = fields["reserve"].boolean()}};
  fields["regions"].each(
      [&](const Value& region) { zone.ranges.push_back(region.map(read_memory_range)); });
  if (fields.has("hostNode")) zone.options.host_node = fields["hostNode"].narrow<uint16_t>();
  if (fields.has("file")) {
    zone.file = std::make_shared<const UniqueFd>(fields["file"].descriptor());
  }
  if (fields.has("hotplug")) zone.hotplug = fields["hotplug"].map(read_memory_range);
  return zone;
}

void read_memory(MachineSpec& spec, Fields& fields) {
  fields["zones"].each([&](const Value& zone) { spec.memory.push_back(zone.map(read_zone)); });
  if (fields.has("growth")) spec.memory_growth = fields["growth"].map(read_memory_range);
}

LoadItem read_load(Fields& fields) {
  const GuestAddress address = fields["address"].number();
  if (fields.has("bytes")) return LoadBytes{address, fields["bytes"].bytes()};
  return LoadFile{address, fields["fd"].descriptor(), fields["offset"].number(),
                  fields["length"].number()};
}

std::unique_ptr<DeviceSpec> read_device(Fields& fields) {
  const std::span<const DeviceKind> kinds = device_kinds();
  std::vector<std::string_view> names;
  for (const DeviceKind& kind : kinds) names.push_back(kind.name);
  return kinds[fields["kind"].choice(names)].read(fields);
}

PciFunctionSpec read_function(Fields& fields) {
  PciFunctionSpec spec{.id = fields["id"].text(),
                       .place = {.segment = fields["segment"].narrow<uint16_t>(),
                                 .slot = fields["slot"].narrow<unsigned>()},
                       .bar0 = fields["bar0"].number(),
                       .bar0_is_64bit = fields["bar0Is64Bit"].boolean(),
                       .iommu = fields.has("iommu") && fields["iommu"].boolean(),
                       .device = read_device(fields)};
  if (fields.has("bar2")) spec.bar2 = fields["bar2"].number();
  return spec;
}

PciSpec read_pci(Fields& fields) {
  const auto read_window = [](Fields& window) { return read_range(window, "start"); };
  PciSpec spec;
  spec.ecam = fields["ecam"].number();
  fields["segments"].each([&](const Value& segment) {
    spec.segments.push_back(segment.map([&](Fields& windows) {
      return PciSegmentSpec{.window32 = windows["window32"].map(read_window),
                            .window64 = windows["window64"].map(read_window)};
    }));
  });
  fields["functions"].each(
      [&](const Value& function) { spec.functions.push_back(function.map(read_function)); });
  if (fields.has("pvpanic")) {
    spec.pvpanic = fields["pvpanic"].map([](Fields& pvpanic) {
      return PvpanicSpec{.slot = pvpanic["slot"].narrow<unsigned>(),
                         .bar0 = pvpanic["bar0"].number()};
    });
  }
  return spec;
}

BootSpec read_boot(Fields& fields) {
  BootSpec spec;
  spec.entry = read_vcpu_entry(fields);
  spec.held = fields.has("held") && fields["held"].boolean();
  spec.paused = fields.has("paused") && fields["paused"].boolean();
  fields["load"].each([&](const Value& item) { spec.load.push_back(item.map(read_load)); });
  spec.board = read_board_spec(fields);
  spec.vm_generation =
      fields["vmGeneration"].map([](Fields& place) { return place["address"].number(); });
  spec.pci = fields["pci"].map(read_pci);
  return spec;
}

}  // namespace

MachineSpec read_machine_spec(const Value& value) {
  return value.map([](Fields& fields) {
    MachineSpec spec;
    fields["memory"].map([&](Fields& memory) { read_memory(spec, memory); });
    fields["vcpus"].each([&](const Value& vcpu) { spec.vcpus.push_back(vcpu.map(read_vcpu)); });
    spec.highest_vcpu_id = fields["highestVcpuId"].narrow<uint32_t>();
    return spec;
  });
}

PciFunctionSpec read_function_spec(const Value& value) { return value.map(read_function); }

BootSpec read_boot_spec(const Value& value) { return value.map(read_boot); }

LateVcpu read_late_vcpu(const Value& value) {
  return value.map([](Fields& fields) {
    return LateVcpu{.index = fields["index"].narrow<uint16_t>(), .vcpu = read_vcpu(fields)};
  });
}

}  // namespace tsvmm
