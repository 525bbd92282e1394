/**
 * Numbers that stand in both languages: what TypeScript tells a guest of its machine, and what the core's devices do.
 */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, vi } from 'vitest';
import { registers } from '../../../src/api/gdb/processor.ts';
import { MAX_VCPUS } from '../../../src/config/bootable.ts';
import { PCI_SLOTS } from '../../../src/config/limits.ts';
import { MAX_QUEUE_SIZE } from '../../../src/config/rules.ts';
import { PAGE_SIZE, SECTOR_SIZE } from '../../../src/config/units.ts';
import { FileKind } from '../../../src/host/openFlags.ts';
import { AmlWriter } from '../../../src/platform/acpi/aml.ts';
import { writeMemoryHotplug } from '../../../src/platform/acpi/memoryHotplug.ts';
import { pciHotplugController } from '../../../src/platform/acpi/pciHotplug.ts';
import { functionNumber } from '../../../src/platform/placement.ts';
import { cpuController } from '../../../src/platform/x86_64/acpi/cpuHotplug.ts';
import { GDT_LIMIT, lowMemoryItems } from '../../../src/platform/x86_64/lowMemory.ts';
import * as map from '../../../src/platform/x86_64/memoryMap.ts';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

/**
 * The value of a constant, by its definition in a source file of either language: numbers, shifts, sums, products and
 * other constants.
 */
function constant(file: string, name: string): number {
  const text = fs.readFileSync(path.join(ROOT, file), 'utf8');
  const found = new RegExp(`\\b${name}(?:(?:: \\w+)? = ([^;,]+)[;,]|\\{(\\w+)\\};)`).exec(text);
  if (!found) throw new Error(`there is no ${name} in ${file}`);
  const expression = ((found[1] ?? found[2]) as string)
    .replace(/(\d)'(?=\d)/g, '$1')
    .replace(/\bsize_t\{(\d+)\}/g, '$1')
    .replace(/\b(0x[0-9a-fA-F_]+|\d[\d_]*)[uUlL]*\b/g, (_, digits: string) => digits.replaceAll('_', ''))
    .replace(/\b[A-Za-z]\w*\b/g, (other) => String(constant(file, other)));
  if (!/^[\da-fA-Fx\s()<|+*-]+$/.test(expression)) throw new Error(`${name} of ${file} is ${expression}`);
  return Number(new Function(`return ${expression}`)());
}

/** What a source file has there. */
function definition(file: string, pattern: RegExp): Record<string, string> {
  const found = pattern.exec(fs.readFileSync(path.join(ROOT, file), 'utf8'));
  if (!found?.groups) throw new Error(`there is no ${pattern} in ${file}`);
  return found.groups;
}

/** Where AML has the fields of registers: in bits. */
function fieldsOf(write: (aml: AmlWriter) => void): Record<string, number> {
  const fields: Record<string, number> = {};
  for (const kind of ['dwordField', 'byteField'] as const) {
    const original = AmlWriter.prototype[kind];
    vi.spyOn(AmlWriter.prototype, kind).mockImplementation(function (this: AmlWriter, region, units) {
      let at = 0;
      for (const { name, bits } of units) {
        if (name !== '') fields[name] = at;
        at += bits;
      }
      return original.call(this, region, units);
    });
  }
  try {
    write(new AmlWriter(new Uint8Array(1 << 16), 0));
  } finally {
    vi.restoreAllMocks();
  }
  return fields;
}

const native = (file: string) => (name: string) => constant(`native/${file}`, name);
const source = (file: string) => (name: string) => constant(`src/${file}`, name);

const ged = native('device/ged.h');
const events = native('device/acpi_events.cc');
const configPorts = native('pci/x86_64/pci_config_ports.h');
const apic = native('hypervisor/x86_64/apic.h');
const devices = native('machine/device_set.cc');
const dsdt = source('platform/x86_64/acpi/dsdt.ts');
const bridge = source('platform/x86_64/acpi/pciHostBridge.ts');
const fadt = source('platform/x86_64/acpi/fadt.ts');
const pciRoot = native('pci/pci_root.h');
const imageFormat = source('devices/disk/imageFormat.ts');
const vhd = native('disk/vhd_image.cc');
const qcow2 = source('devices/disk/qcow2Header.ts');
const qcow2Format = native('disk/qcow2/format.h');

describe('are the same in TypeScript and in the core', () => {
  it.each<[what: string, ours: number, theirs: number]>([
    ['the size of ECAM', map.ECAM_SEGMENT_SIZE, pciRoot('kEcamSize')],
    [
      'registers of a virtio device',
      source('platform/bus.ts')('VIRTIO_BAR_SIZE'),
      native('virtio/pci_layout.h')('kBarSize'),
    ],
    ['PCI slots', PCI_SLOTS, native('pci/pci_root.h')('kSlots')],
    ['the ports of PCI configuration', bridge('PCI_CONFIG_PORT'), configPorts('kPort')],
    ['how many they are', bridge('PCI_CONFIG_PORTS'), configPorts('kSize')],
    ["GED's register", map.GED_SIZE, ged('kSize')],
    ["GED's slots", dsdt('GED_PCI'), ged('kPci')],
    ["GED's memory", dsdt('GED_MEMORY'), ged('kMemory')],
    [
      'registers of memory that is added',
      map.MEMORY_HOTPLUG_SIZE,
      native('device/memory_hotplug.h')('kSize'),
    ],
    [
      'slots of memory that is added',
      source('platform/acpi/memoryHotplug.ts')('MEMORY_SLOTS'),
      native('device/memory_hotplug.h')('kSlots'),
    ],
    [
      'how often memory is added',
      source('platform/acpi/memoryHotplug.ts')('MEMORY_SLOTS'),
      native('memory/guest_memory.h')('kMaxAdditions'),
    ],
    ["GED's vCPUs", dsdt('GED_CPU'), ged('kCpu')],
    ['the CPU hot-plug controller', map.CPU_HOTPLUG_SIZE, native('device/cpu_hotplug.h')('kSize')],
    ["GED's power button", dsdt('GED_POWER_BUTTON'), ged('kPowerButton')],
    ["GED's VM generation", dsdt('GED_VM_GENERATION'), ged('kVmGeneration')],
    [
      'the segment in the number of an endpoint',
      source('platform/acpi/viot.ts')('ENDPOINT_SEGMENT_SHIFT'),
      devices('kSegmentShift'),
    ],
    ['the slot in it', functionNumber(1), pciRoot('kFunctionsPerSlot')],
    ['registers of PCI hot-plug', map.PCI_HOTPLUG_SIZE, native('device/pci_hotplug.h')('kSize')],
    ['slots of PCI hot-plug', PCI_SLOTS, native('device/pci_hotplug.h')('kSlots')],
    [
      'the power button of GPE 0',
      1 << dsdt('GPE_POWER_BUTTON'),
      native('device/acpi_events.h')('kPowerButtonGpe'),
    ],
    ['PM1 control', fadt('PM1_EVT_SIZE'), events('kPm1ControlLow')],
    ['GPE 0', fadt('GPE0_OFFSET'), events('kGpeStatus')],
    ['GPE 0, enable', fadt('GPE0_OFFSET') + fadt('GPE0_SIZE') / 2, events('kGpeEnable')],
    [
      'the end of the ACPI events',
      fadt('GPE0_OFFSET') + fadt('GPE0_SIZE'),
      native('device/acpi_events.h')('kSize'),
    ],
    [
      'the sleep type of S5',
      (dsdt('SLEEP_TYPE_S5') << 2) | (1 << 5),
      native('device/acpi_power.cc')('kSleepType5Enable'),
    ],
    ['what resets the machine', fadt('RESET_VALUE_RESET'), native('device/acpi_power.cc')('kReset')],
    ['the ports of the serial port', dsdt('SERIAL_PORTS'), native('device/serial.h')('kSize')],
    ['the ports of the clock', dsdt('CLOCK_PORTS'), native('device/x86_64/cmos_rtc.h')('kSize')],
    ["the clock's century", map.CMOS_CENTURY, native('device/x86_64/cmos_rtc.cc')('kCentury')],
    ['where MSIs go', map.LOCAL_APIC_ADDRESS, apic('kLocalApicAddress')],
    ['a sector', SECTOR_SIZE, native('virtio/block_protocol.h')('kSectorSize')],
    [
      "a disk's serial number",
      source('devices/disk.ts')('MAX_SERIAL_BYTES'),
      native('virtio/block.h')('kSerialSize'),
    ],
    [
      'a VM generation',
      source('vmm/vmm.ts')('VM_GENERATION_BYTES'),
      native('machine/machine.h')('kVmGenerationSize'),
    ],
    ['a virtqueue', MAX_QUEUE_SIZE, native('virtio/queue.cc')('kMaxQueueSize')],
    [
      "a balloon's page",
      source('vmm/memoryGoals.ts')('BALLOON_PAGE'),
      native('virtio/balloon_pages.h')('kPageSize'),
    ],
    [
      "an IOMMU's addresses",
      source('config/platform.ts')('MAX_IOMMU_ADDRESS_BITS'),
      native('virtio/iommu.h')('kMaxAddressBits'),
    ],
    ["a qcow2 image's smallest cluster", qcow2('MIN_CLUSTER_BITS'), qcow2Format('kMinClusterBits')],
    ["a qcow2 image's largest cluster", qcow2('MAX_CLUSTER_BITS'), qcow2Format('kMaxClusterBits')],
    [
      'the name of a backing file',
      qcow2('MAX_NAME_BYTES'),
      native('disk/qcow2/header.cc')('kMaxBackingName'),
    ],
    [
      'how deep messages nest',
      source('boundary/cbor.ts')('MAX_DEPTH'),
      native('core/cbor_reader.h')('kMaxCborDepth'),
    ],
    [
      'breakpoints of a processor',
      source('api/gdb/x86_64/traps.ts')('MAX_HARDWARE'),
      native('hypervisor/vcpu_debug.h')('kMaxHardware'),
    ],
    ['what a debugger reads at once', PAGE_SIZE, native('machine/debug_commands.cc')('kMaxDebugRead')],
    [
      'requests with remembered answers',
      source('api/rest/rememberedAnswers.ts')('MAX_REQUESTS'),
      native('host/stream_server.h')('kMaxRemembered'),
    ],
    [
      'bytes that wait to be taken',
      source('api/rest/tlsStreams.ts')('MAX_UNTAKEN'),
      native('host/stream_server.h')('kMaxUntaken'),
    ],
    [
      "a machine's end, in seconds",
      source('vmm/vmm.ts')('END_TIMEOUT_MS') / 1000,
      native('machine/machine.h')('kTimeout'),
    ],
    ['the timer of power management', fadt('PM_TMR_SIZE'), native('device/acpi_pm_timer.h')('kSize')],
    ['the register of sleep and reset', fadt('SLEEP_RESET_SIZE'), native('device/acpi_power.h')('kSize')],
    ['the highest APIC id', source('platform/x86_64/apicId.ts')('APIC_ID_MAX'), apic('kHighestXapicId')],
    ['as many vCPUs as that leaves', MAX_VCPUS, apic('kHighestXapicId')],
    [
      'functions of a slot',
      source('platform/iommuTable.ts')('LAST_FUNCTION') + 1,
      pciRoot('kFunctionsPerSlot'),
    ],
    [
      "an IOMMU's narrowest addresses",
      source('config/platform.ts')('MIN_IOMMU_ADDRESS_BITS'),
      native('virtio/iommu.cc')('kMinAddressBits'),
    ],
    [
      'the header of qcow2, version 2',
      qcow2('V2_HEADER_BYTES'),
      native('disk/qcow2/header.cc')('kVersion2Length'),
    ],
    ['of version 3', qcow2('MIN_V3_HEADER_BYTES'), native('disk/qcow2/header.cc')('kVersion3Length')],
    ['where a VHD says its type', imageFormat('VHD_DISK_TYPE_OFFSET'), vhd('kDiskTypeOffset')],
    ['a VHD of fixed size', imageFormat('VHD_FIXED'), vhd('kFixedDisk')],
    [
      'where XSAVE has AVX',
      source('api/gdb/x86_64/registers.ts')('AVX_OFFSET'),
      native('hypervisor/kvm/x86_64/kvm_vcpu_debug.cc')('kAvxOffset'),
    ],
    [
      'what a debugger gets of XSAVE',
      Math.max(...registers.filter(({ set }) => set === 'vector').map(({ offset, width }) => offset + width)),
      native('hypervisor/kvm/x86_64/kvm_vcpu_debug.cc')('kVectorSize'),
    ],
    ['regular files', FileKind.regular, native('host/files.h')('kRegularFile')],
    ['block devices', FileKind.block, native('host/files.h')('kBlockDevice')],
    ['character devices', FileKind.character, native('host/files.h')('kCharacterDevice')],
    ['FIFOs', FileKind.fifo, native('host/files.h')('kFifo')],
  ])('%s', (_what, ours, theirs) => {
    expect(ours).toBe(theirs);
  });

  it('device types of virtio', async () => {
    const { DEVICE_TYPES, REFUSED_DEVICE_TYPES } = await import('../../../src/devices/genericVhostUser.ts');
    const { net, block, console, rng, vsock } = DEVICE_TYPES;
    const type = (device: string) =>
      Number(definition(`native/virtio/${device}.h`, /kType\{\s*\.id = (?<id>\d+)/).id);
    expect([net, block, console, rng, vsock]).toEqual(['net', 'block', 'console', 'rng', 'vsock'].map(type));
    expect(REFUSED_DEVICE_TYPES).toEqual(['iommu', 'watchdog'].map(type));
  });

  it('the text that begins the footer of a VHD', () => {
    const { text } = definition('native/disk/vhd_image.cc', /kCookie\{(?<text>[^}]+)\};/);
    const cookie = (text as string).replaceAll(/[', ]/g, '');
    expect(definition('src/devices/disk/imageFormat.ts', /VHD_COOKIE = '(?<text>\w+)'/).text).toBe(cookie);
    expect(definition('native/virtio/block_commands.cc', /kCookie = "(?<text>\w+)"/).text).toBe(cookie);
  });

  it('the segments of the first instruction', () => {
    const vcpu = native('hypervisor/kvm/x86_64/kvm_vcpu.cc');
    const gdt = lowMemoryItems().find(({ address }) => address === map.GDT_ADDRESS) as { bytes: Uint8Array };
    const descriptors = new DataView(gdt.bytes.buffer);
    expect(gdt.bytes.length - 1).toBe(GDT_LIMIT);
    for (const [selector, type, limit] of [
      ['kCodeSelector', 'kCodeExecuteRead', 0xfffff],
      ['kDataSelector', 'kDataReadWrite', 0xfffff],
      ['kTaskSelector', 'kBusyTask', vcpu('kTaskLimit')],
    ] as const) {
      // SDM vol. 3 §3.4.5.
      const low = descriptors.getUint32(vcpu(selector), true);
      const high = descriptors.getUint32(vcpu(selector) + 4, true);
      expect((low & 0xffff) | (high & 0xf_0000)).toBe(limit);
      expect((high >> 8) & 0xf).toBe(vcpu(type));
    }
  });

  describe('registers that AML knows', () => {
    const place = { address: 0, size: 1 };

    it('of PCI hot-plug', () => {
      const registers = fieldsOf((aml) => pciHotplugController(aml, place));
      const core = native('device/pci_hotplug.cc');
      expect(registers).toEqual({
        PCIU: 8 * core('kInserted'),
        PCID: 8 * core('kRemoving'),
        B0EJ: 8 * core('kEject'),
        PSEG: 8 * core('kSegment'),
      });
    });

    it('of CPU hot-plug', () => {
      const registers = fieldsOf((aml) => cpuController(aml, place, 1));
      const core = native('device/cpu_hotplug.cc');
      const status = (bit: string) => 8 * core('kStatus') + Math.log2(core(bit));
      expect(registers).toEqual({
        CSEL: 8 * core('kSelect'),
        CPEN: status('kPresent'),
        CINS: status('kInserted'),
        CRMV: status('kRemoving'),
        CEJ0: status('kEject'),
      });
    });

    it('of memory hot-plug', () => {
      const {
        MMIN: _,
        MMAX: __,
        MLEN: ___,
        ...registers
      } = fieldsOf((aml) => writeMemoryHotplug(aml, place));
      const core = native('device/memory_hotplug.cc');
      const status = (bit: string) => 8 * core('kStatus') + Math.log2(core(bit));
      expect(registers).toEqual({
        MSEL: 8 * core('kSelect'),
        MHBL: 8 * core('kAddressLow'),
        MHBH: 8 * core('kAddressHigh'),
        MHLL: 8 * core('kSizeLow'),
        MHLH: 8 * core('kSizeHigh'),
        MHPX: 8 * core('kProximity'),
        MEN: status('kEnabled'),
        MINS: status('kInserting'),
      });
    });
  });

  it("pvpanic's BAR", async () => {
    const { pvpanic } = await import('../../../src/devices/pvpanic.ts');
    expect(pvpanic.needs?.barSize).toBe(devices('kPvpanicBarSize'));
  });

  it("and KVM's own pages are where the map has nothing", () => {
    const arch = native('hypervisor/kvm/x86_64/kvm_arch.cc');
    const [taskState, identityMap] = [arch('kTssAddress'), arch('kIdentityMapAddress')];
    expect(taskState).toBeGreaterThanOrEqual(map.ECAM_ADDRESS + map.ECAM_RESERVED_SIZE);
    expect(identityMap).toBeGreaterThanOrEqual(taskState + 3 * PAGE_SIZE);
    expect(identityMap + PAGE_SIZE).toBeLessThanOrEqual(map.GED_ADDRESS);
  });

  it('interrupt pins, of which each has one device', () => {
    const pins = [map.SERIAL_GSI, map.CMOS_GSI, map.SCI_GSI, map.GED_GSI];
    expect(new Set(pins).size).toBe(pins.length);
    for (const pin of pins) expect(pin).toBeLessThan(apic('kIoApicPins'));
  });
});

it('constants are found by their definitions only', () => {
  expect(() => ged('kNothing')).toThrow('there is no kNothing in native/device/ged.h');
  expect(dsdt('GED_VM_GENERATION')).toBe(16);
});
