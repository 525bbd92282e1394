/** Puts an x86_64 machine together from its configuration. */
import { Descriptor } from '../../boundary/cbor.ts';
import { type GuestZone, guestMemory } from '../../config/memory.ts';
import { MIB, PAGE_SIZE } from '../../config/units.ts';
import type { CpusConfig, VmConfig } from '../../config/vmConfig.ts';
import type {
  BootSpec,
  HostInfo,
  LateVcpu,
  LoadItem,
  MachineSpec,
  ProtectedModeEntry,
  VcpuSpec,
} from '../../native.ts';
import type { Bus } from '../bus.ts';
import { DEBUG_CONSOLE_ID, SERIAL_ID } from '../deviceIds.ts';
import { planDevices } from '../devices.ts';
import { iommuTable } from '../iommuTable.ts';
import type { BootPlan, BootResources } from '../plan.ts';
import { PlatformError } from '../platformError.ts';
import { divideWindows, type PciSegment, type SegmentWindows } from '../segments.ts';
import { apicId, planApicIds, planTopology, type Topology } from './apicId.ts';
import { encodeCommandLine } from './commandLine.ts';
import { buildCpuid } from './cpuid.ts';
import { buildE820 } from './e820.ts';
import { openImage } from './imageFile.ts';
import { placeInitramfs } from './initramfs.ts';
import { type Payload, planPayload } from './kernel.ts';
import { GDT_LIMIT, lowMemoryItems } from './lowMemory.ts';
import {
  ACPI_EVENTS_PORT,
  BOOT_STACK_ADDRESS,
  CMOS_GSI,
  CMOS_PORT,
  COMMAND_LINE_ADDRESS,
  CPU_HOTPLUG_ADDRESS,
  DEFAULT_DEBUG_CONSOLE_PORT,
  ECAM_ADDRESS,
  ECAM_SEGMENT_SIZE,
  GDT_ADDRESS,
  GED_ADDRESS,
  GED_GSI,
  guestPhysBits,
  IOAPIC_ADDRESS,
  MEMORY_HOTPLUG_ADDRESS,
  type MemoryMap,
  PCI_HOTPLUG_ADDRESS,
  PCI_WINDOW32,
  PM_TIMER_PORT,
  PVH_MEMORY_MAP_ADDRESS,
  PVH_START_INFO_ADDRESS,
  planMemory,
  type Range,
  SCI_GSI,
  SERIAL_GSI,
  SERIAL_PORT,
  SLEEP_RESET_PORT,
  VM_GENERATION_ADDRESS,
  ZERO_PAGE_ADDRESS,
  type ZoneNeeds,
  type ZonePlace,
} from './memoryMap.ts';
import { buildMsrs } from './msrs.ts';
import { planNuma } from './numaNodes.ts';
import { buildMemoryMap, buildStartInfo } from './pvh.ts';
import { tableItems } from './tables.ts';
import { buildZeroPage } from './zeroPage.ts';

const NO_FILES: ReadonlyMap<string, number> = new Map();
const NO_ECAMS: readonly number[] = [];

/** What x86_64 hosts use unless they were told otherwise when they booted. */
const DEFAULT_HUGEPAGE_SIZE = 2 * MIB;

/**
 * What must be known to start building the machine, before the payload has been looked at.
 * @param files that back zones, by their id
 * @throws PlatformError `ERR_TSVMM_CPUS` or `ERR_TSVMM_MEMORY`
 */
export function planMachine(
  config: VmConfig,
  host: HostInfo,
  files: ReadonlyMap<string, number> = NO_FILES,
): MachineSpec {
  const { boot_vcpus: count, max_vcpus: most } = config.cpus;
  checkCount(count, host);
  return {
    memory: planZones(config, memoryMap(config, host), files),
    vcpus: planVcpus(config, host, 0, count),
    highestVcpuId: apicId(most - 1, planTopology(config.cpus)),
  };
}

function planZones(
  config: VmConfig,
  map: MemoryMap,
  files: ReadonlyMap<string, number>,
): MachineSpec['memory'] {
  const { zones: wanted, thp } = guestMemory(config.memory);
  const zones: MachineSpec['memory']['zones'][number][] = [];
  for (let index = 0; index < wanted.length; index++) {
    const zone = wanted[index] as GuestZone;
    const { ram, hotplug } = map.zones[index] as ZonePlace;
    const { host_numa_node: hostNode } = zone;
    const file = files.get(zone.id);
    zones.push({
      id: zone.id,
      regions: ram,
      ...(hotplug && { hotplug }),
      shared: zone.shared,
      hugepageSize: hugepageSize(zone),
      prefault: zone.prefault,
      mergeable: zone.mergeable,
      thp,
      reserve: zone.reserve,
      ...(hostNode !== undefined && { hostNode }),
      ...(file !== undefined && { file: new Descriptor(file) }),
    });
  }
  return { zones, ...(map.growth && { growth: map.growth }) };
}

/** @throws PlatformError `ERR_TSVMM_CPUS` */
function checkCount(vcpus: number, host: HostInfo): void {
  if (vcpus <= host.maxVcpus) return;
  throw new PlatformError(
    'ERR_TSVMM_CPUS',
    `${vcpus} vCPUs are more than the ${host.maxVcpus} that this host's KVM runs`,
  );
}

/** vCPUs `first` to `end - 1`. */
function planVcpus(config: VmConfig, host: HostInfo, first: number, end: number): VcpuSpec[] {
  const { cpus } = config;
  const topology = planTopology(cpus);
  const all = planApicIds(end, topology);
  const apicIds = first === 0 ? all : all.slice(first);
  const physBits = guestPhysBits(host.physBits, cpus.max_phys_bits);
  const cpuid = buildCpuid(host, { physBits, nested: cpus.nested, topology }, apicIds);
  const msrs = buildMsrs();
  const vcpus: VcpuSpec[] = [];
  for (let i = 0; i < apicIds.length; i++) {
    const affinity = cpus.affinity?.find((entry) => entry.vcpu === first + i)?.host_cpus ?? [];
    vcpus.push({ id: apicIds[i] as number, affinity, cpuid: cpuid[i] as Uint8Array, msrs });
  }
  return vcpus;
}

/**
 * vCPUs that come to a machine of that configuration, `first` to `end - 1`: as they would be if they had been there at
 * boot.
 * @throws PlatformError `ERR_TSVMM_CPUS`
 */
export function planLateVcpus(config: VmConfig, host: HostInfo, first: number, end: number): LateVcpu[] {
  checkCount(end, host);
  return planVcpus(config, host, first, end).map((vcpu, i) => ({ index: first + i, ...vcpu }));
}

/**
 * Everything else, once descriptors are open. The configuration is not changed: generated ids are in the bus's
 * placements.
 * @throws PlatformError for a payload or devices that do not fit this machine.
 */
export function planBoot(config: VmConfig, host: HostInfo, resources: BootResources): BootPlan {
  const map = memoryMap(config, host);
  const topology = planTopology(config.cpus);
  const { kernel } = resources;
  const payload = planPayload(openImage(kernel.fd, kernel.size, resources.readAt), kernel.fd, map);
  const segments = planSegments(config, map);
  const devices = planDevices(config, resources, segments);
  const load = [
    ...lowMemoryItems(),
    { address: VM_GENERATION_ADDRESS, bytes: resources.vmGeneration },
    ...planTables(config, topology, map, segments, resources, devices.bus),
    ...payloadItems(config, resources, payload, map),
  ];
  const boot: BootSpec = {
    entry: planEntry(payload),
    load,
    ioapic: { address: IOAPIC_ADDRESS },
    ...characterDevices(config, resources),
    cmos: {
      port: CMOS_PORT,
      gsi: CMOS_GSI,
      memoryBelow4G: map.ramBelow4G,
      memoryAbove4G: map.ramAbove4G,
    },
    acpi: {
      sleepResetPort: SLEEP_RESET_PORT,
      pmTimerPort: PM_TIMER_PORT,
      eventsPort: ACPI_EVENTS_PORT,
      sciGsi: SCI_GSI,
    },
    ged: { address: GED_ADDRESS, gsi: GED_GSI },
    pciHotplug: { address: PCI_HOTPLUG_ADDRESS },
    ...(map.growth && {
      memoryHotplug: { address: MEMORY_HOTPLUG_ADDRESS, proximity: config.numa?.[0]?.guest_numa_id ?? 0 },
    }),
    ...planCpuHotplug(config.cpus),
    vmGeneration: { address: VM_GENERATION_ADDRESS },
    pci: {
      ecam: ECAM_ADDRESS,
      segments: windowsOf(segments),
      functions: devices.functions,
      ...devices.plainFunctions,
    },
  };
  return { boot, bus: devices.bus, isLinux: payload.isLinux };
}

function windowsOf(segments: readonly PciSegment[]): SegmentWindows[] {
  const windows: SegmentWindows[] = [];
  for (const { window32, window64 } of segments) windows.push({ window32, window64 });
  return windows;
}

/** One vCPU for good needs no controller. */
function planCpuHotplug({ boot_vcpus, max_vcpus }: CpusConfig): Pick<BootSpec, 'cpuHotplug'> {
  if (max_vcpus === 1) return {};
  return { cpuHotplug: { address: CPU_HOTPLUG_ADDRESS, present: boot_vcpus, most: max_vcpus } };
}

function memoryMap(config: VmConfig, host: HostInfo): MemoryMap {
  const physBits = guestPhysBits(host.physBits, config.cpus.max_phys_bits);
  const { zones, growth } = guestMemory(config.memory);
  const needs: ZoneNeeds[] = [];
  for (const zone of zones) {
    const pageSize = hugepageSize(zone) || PAGE_SIZE;
    needs.push({ size: zone.size, pageSize, hotplugSize: zone.hotplug_size });
  }
  return planMemory(needs, physBits, growth);
}

/** Bytes, 0 for ordinary pages. */
function hugepageSize(zone: GuestZone): number {
  return zone.hugepages ? (zone.hugepage_size ?? DEFAULT_HUGEPAGE_SIZE) : 0;
}

function planTables(
  config: VmConfig,
  topology: Topology,
  map: MemoryMap,
  segments: readonly PciSegment[],
  { serial, renderPciSegments }: BootResources,
  { placements }: Bus,
): LoadItem[] {
  const { numa = [], cpus, memory } = config;
  const apicIds = planApicIds(cpus.max_vcpus, topology);
  const nodes = numa.length > 0 ? planNuma(numa, guestMemory(memory).zones, map, apicIds, placements) : [];
  const [{ window32, window64 }, ...more] = segments as [PciSegment, ...PciSegment[]];
  const machine = {
    window32,
    window64,
    hasSerial: serial !== undefined,
    apicIds,
    bootVcpus: cpus.boot_vcpus,
    growsMemory: map.growth !== undefined,
    numa: nodes,
    moreEcams: more.length > 0 ? ecamsOf(more) : NO_ECAMS,
  };
  const others = [iommuTable(config, placements), more.length > 0 ? renderPciSegments?.(more) : undefined];
  return tableItems(machine, config.platform, others);
}

function ecamsOf(segments: readonly PciSegment[]): number[] {
  const addresses: number[] = [];
  for (const { ecam } of segments) addresses.push(ecam.address);
  return addresses;
}

/** By number. */
function planSegments(config: VmConfig, { window64 }: MemoryMap): PciSegment[] {
  const segments: PciSegment[] = [];
  for (const windows of divideWindows(config, PCI_WINDOW32, window64)) {
    const number = segments.length;
    const node = config.numa?.find(({ pci_segments }) => pci_segments?.includes(number));
    segments.push({
      number,
      ecam: { address: ECAM_ADDRESS + number * ECAM_SEGMENT_SIZE, size: ECAM_SEGMENT_SIZE },
      ...windows,
      ...(node && { proximity: node.guest_numa_id }),
    });
  }
  return segments;
}

function planEntry(payload: Payload): ProtectedModeEntry {
  const isPvh = payload.protocol === 'pvh';
  return {
    rip: payload.entry,
    rbx: isPvh ? PVH_START_INFO_ADDRESS : 0,
    rsi: isPvh ? 0 : ZERO_PAGE_ADDRESS,
    rsp: BOOT_STACK_ADDRESS,
    gdtAddress: GDT_ADDRESS,
    gdtLimit: GDT_LIMIT,
  };
}

/** The payload, what it is told, and its initramfs. Firmware is told of the machine only. */
function payloadItems(
  config: VmConfig,
  resources: BootResources,
  payload: Payload,
  map: MemoryMap,
): LoadItem[] {
  const isFirmware = resources.firmware === true;
  const commandLine = isFirmware ? '' : (config.payload?.cmdline ?? '');
  const items: LoadItem[] = [
    ...payload.load,
    { address: COMMAND_LINE_ADDRESS, bytes: encodeCommandLine(commandLine, payload.commandLineMax) },
  ];
  const source = isFirmware ? undefined : resources.initramfs;
  const initramfs = source && placeInitramfs(source.size, payload, map);
  if (source !== undefined && initramfs !== undefined) {
    const fd = new Descriptor(source.fd);
    items.push({ address: initramfs.address, fd, offset: 0, length: initramfs.size });
  }
  items.push(...bootDataItems(payload, map, initramfs));
  return items;
}

function bootDataItems(payload: Payload, map: MemoryMap, initramfs: Range | undefined): LoadItem[] {
  const e820 = buildE820(map);
  if (payload.protocol === 'linux') {
    return [{ address: ZERO_PAGE_ADDRESS, bytes: buildZeroPage(payload.setupHeader, e820, initramfs) }];
  }
  return [
    { address: PVH_START_INFO_ADDRESS, bytes: buildStartInfo(e820.length, initramfs) },
    { address: PVH_MEMORY_MAP_ADDRESS, bytes: buildMemoryMap(e820) },
  ];
}

function characterDevices(
  config: VmConfig,
  { serial, debugConsole }: BootResources,
): Pick<BootSpec, 'serial' | 'debugConsole'> {
  return {
    ...(serial && { serial: { id: SERIAL_ID, port: SERIAL_PORT, gsi: SERIAL_GSI, backend: serial } }),
    ...(debugConsole && {
      debugConsole: {
        id: DEBUG_CONSOLE_ID,
        port: config.debug_console.iobase ?? DEFAULT_DEBUG_CONSOLE_PORT,
        backend: debugConsole,
      },
    }),
  };
}
