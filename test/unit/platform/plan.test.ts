import { describe, expect, it } from 'vitest';
import { Descriptor } from '../../../src/boundary/cbor.ts';
import { TABLE_LENGTH } from '../../../src/platform/acpi/tableHeader.ts';
import { getU64, viewOf } from '../../../src/platform/bytes.ts';
import { planBoot, planMachine } from '../../../src/platform/plan.ts';
import { MADT_OFFSET } from '../../../src/platform/x86_64/acpi/layout.ts';
import {
  configOf,
  GIB,
  hostOf,
  loadedBytes,
  MIB,
  makeBzImage,
  makeElf,
  openedDevices,
  resourcesOf,
  unpackCpuid,
} from './support.ts';

const host = hostOf();
const net = (fields: object = {}) => ({
  network: { kind: 'tap' as const, fds: [new Descriptor(30)], vhost: [] },
  mac: Uint8Array.of(0x2e, 0, 0, 0, 0, 1),
  ...fields,
});
const disk = (fields: object = {}) => ({ path: '/disk', ...fields });
const opened = (count: number) =>
  Array.from({ length: count }, (_, index) => ({
    layers: [{ fd: new Descriptor(20 + index), format: 'raw' as const }],
    protectSector0: index === 1,
  }));

/** The plan, with what is on its bus. */
function placedBy(...parameters: Parameters<typeof planBoot>) {
  const { boot, bus } = planBoot(...parameters);
  return { boot, placements: bus.placements };
}

describe('planMachine', () => {
  it('follows the configuration', () => {
    const config = configOf({
      cpus: { boot_vcpus: 2, max_vcpus: 4, affinity: [{ vcpu: 1, host_cpus: [3, 4] }] },
      memory: { size: 4 * GIB, shared: true, thp: false, prefault: true },
    });
    const setup = { cpuid: expect.any(Uint8Array), msrs: expect.any(Uint8Array) };
    expect(planMachine(config, host)).toEqual({
      memory: {
        zones: [
          {
            id: 'mem0',
            regions: [
              { address: 0, size: 3 * GIB },
              { address: 4 * GIB, size: GIB },
            ],
            shared: true,
            hugepageSize: 0,
            prefault: true,
            mergeable: false,
            thp: false,
            reserve: false,
          },
        ],
      },
      highestVcpuId: 3,
      vcpus: [
        { id: 0, affinity: [], ...setup },
        { id: 1, affinity: [3, 4], ...setup },
      ],
    });
  });

  it('knows the usual huge page and takes another', () => {
    const memory = { size: 2 * GIB, hugepages: true };
    expect(planMachine(configOf({ memory }), host).memory.zones[0]?.hugepageSize).toBe(2 * MIB);
    const gigantic = { ...memory, hugepage_size: GIB };
    expect(planMachine(configOf({ memory: gigantic }), host).memory.zones[0]?.hugepageSize).toBe(GIB);
  });

  it('has zones one behind the other, with room for what devices hand out above all of them', () => {
    const zones = [
      { id: 'a', size: 256 * MIB, hotplug_size: 128 * MIB },
      { id: 'b', size: 4 * GIB, shared: true, prefault: true },
      { id: 'c', size: 64 * MIB, hotplug_size: GIB },
    ];
    const config = configOf({ memory: { size: 0, hotplug_method: 'VirtioMem', zones } });
    const { memory } = planMachine(config, host);
    expect(memory.zones).toMatchObject([
      {
        id: 'a',
        regions: [{ address: 0, size: 256 * MIB }],
        hotplug: { address: 5 * GIB + 384 * MIB, size: 128 * MIB },
        shared: false,
      },
      {
        id: 'b',
        regions: [
          { address: 256 * MIB, size: 3 * GIB - 256 * MIB },
          { address: 4 * GIB, size: GIB + 256 * MIB },
        ],
        shared: true,
        prefault: true,
      },
      {
        id: 'c',
        regions: [{ address: 5 * GIB + 256 * MIB, size: 64 * MIB }],
        hotplug: { address: 5 * GIB + 512 * MIB, size: GIB },
      },
    ]);
    expect(memory.zones[1]?.hotplug).toBeUndefined();
    expect(memory.growth).toBeUndefined();
  });

  it('keeps address space for what ACPI adds, or a virtio-mem device of plain memory', () => {
    const memory = { size: GIB, hotplug_size: 2 * GIB };
    const grows = planMachine(configOf({ memory }), host).memory;
    expect(grows.growth).toEqual({ address: 4 * GIB, size: 2 * GIB });
    expect(grows.zones[0]?.hotplug).toBeUndefined();
    const virtio = planMachine(configOf({ memory: { ...memory, hotplug_method: 'VirtioMem' } }), host).memory;
    expect(virtio.growth).toBeUndefined();
    expect(virtio.zones).toMatchObject([{ id: 'mem0', hotplug: { address: 4 * GIB, size: 2 * GIB } }]);
  });

  it('refuses more vCPUs than KVM runs', () => {
    const config = configOf({ cpus: { boot_vcpus: 9, max_vcpus: 9 } });
    expect(() => planMachine(config, hostOf({ maxVcpus: 8 }))).toThrow(/9 vCPUs are more than the 8/);
  });
});

describe('planBoot: devices', () => {
  it('places them in the order that guests rely on', () => {
    const config = configOf({
      disks: [disk(), disk({ id: 'data' }), disk()],
      net: [{}, { id: 'lan' }],
      watchdog: true,
      pvpanic: true,
      balloon: { size: 0 },
    });
    const resources = resourcesOf(makeElf(), {
      devices: openedDevices({ disk: opened(3), net: [net(), net()] }),
    });
    const { placements } = placedBy(config, host, resources);
    expect(placements.map(({ id, kind, index, slot }) => [id, kind, index, slot])).toEqual([
      ['__console', 'console', 0, 1],
      ['_disk0', 'block', 0, 2],
      ['data', 'block', 1, 3],
      ['_disk1', 'block', 2, 4],
      ['_net2', 'net', 0, 5],
      ['lan', 'net', 1, 6],
      ['__rng', 'rng', 0, 7],
      ['__balloon', 'balloon', 0, 8],
      ['__watchdog', 'watchdog', 0, 9],
      ['__pvpanic', 'pvpanic', 0, 10],
    ]);
  });

  it('gives disks 32-bit registers and all others 64-bit ones', () => {
    const config = configOf({ disks: [disk(), disk()] });
    const { boot, placements } = placedBy(
      config,
      host,
      resourcesOf(makeElf(), { devices: openedDevices({ disk: opened(2) }) }),
    );
    const top64 = 2 ** 46 - 64 * 1024 - MIB;
    expect(placements.map(({ bar0, bar0Is64Bit }) => [bar0, bar0Is64Bit])).toEqual([
      [top64 - (top64 % 0x80000) - 0x80000, true],
      [0xe7f8_0000, false],
      [0xe7f0_0000, false],
      [top64 - (top64 % 0x80000) - 0x100000, true],
    ]);
    for (const { bar0, bar0Size } of placements) {
      expect(bar0 % bar0Size).toBe(0);
    }
    expect(boot.pci.functions.map(({ id, slot, bar0 }) => [id, slot, bar0])).toEqual(
      placements.map(({ id, slot, bar0 }) => [id, slot, bar0]),
    );
  });

  it('passes on what a network device is told', () => {
    const limits = { bandwidth: { size: 5, refill_time: 6 } };
    const config = configOf({
      net: [{}, { queue_size: 512, offload_ufo: false, rate_limiter_config: limits }],
    });
    const resources = resourcesOf(makeElf(), {
      devices: openedDevices({ net: [net(), net({ mtu: 9000 })] }),
    });
    const [, first, second] = planBoot(config, host, resources).boot.pci.functions;
    expect(first).toMatchObject({
      kind: 'net',
      queueSize: 256,
      checksum: true,
      tso: true,
      ufo: true,
      ...net(),
    });
    expect(first).not.toHaveProperty('mtu');
    expect(second).toMatchObject({ queueSize: 512, ufo: false, mtu: 9000 });
    expect(second).toMatchObject({ rateLimiter: { group: '', bandwidth: { size: 5, refillTimeMs: 6 } } });
  });

  it('passes on what a disk is told', () => {
    const config = configOf({
      disks: [disk(), disk({ readonly: true, direct: true, queue_size: 256, serial: 'abc' })],
    });
    const { boot } = planBoot(
      config,
      host,
      resourcesOf(makeElf(), { devices: openedDevices({ disk: opened(2) }) }),
    );
    expect(boot.pci.functions[2]).toMatchObject({
      kind: 'block',
      layers: [{ fd: new Descriptor(21), format: 'raw' }],
      readonly: true,
      direct: true,
      numQueues: 1,
      queueSize: 256,
      serial: 'abc',
      protectSector0: true,
    });
  });

  it('passes on limits, those of a group too, and the CPUs of queues', () => {
    const size = 2n ** 60n + 1n;
    const limits = { bandwidth: { size, one_time_burst: null, refill_time: 8 }, ops: null };
    const config = configOf({
      disks: [
        disk(),
        disk({ rate_limiter_config: limits }),
        disk({ rate_limit_group: 'g', num_queues: 2, queue_affinity: [{ queue_index: 1, host_cpus: [3] }] }),
      ],
      rate_limit_groups: [{ id: 'g', rate_limiter_config: { bandwidth: null, ops: limits.bandwidth } }],
    });
    const { boot } = planBoot(
      config,
      host,
      resourcesOf(makeElf(), { devices: openedDevices({ disk: opened(3) }) }),
    );
    const [, free, limited, member] = boot.pci.functions;
    const off = { size: 0, oneTimeBurst: 0, refillTimeMs: 0 };
    const on = { size, oneTimeBurst: 0, refillTimeMs: 8 };
    expect(free).toMatchObject({ queueCpus: [[]] });
    expect(free).not.toHaveProperty('rateLimiter');
    expect(limited).toMatchObject({ rateLimiter: { group: '', bandwidth: on, operations: off } });
    expect(member).toMatchObject({
      rateLimiter: { group: 'g', bandwidth: off, operations: on },
      queueCpus: [[], [3]],
    });
  });

  it('reserves numbers that are asked for before handing others out', () => {
    const config = configOf({
      disks: [disk(), disk({ pci_device_id: 1 })],
      rng: { src: '/dev/urandom', pci_device_id: 3 },
    });
    const { placements } = placedBy(
      config,
      host,
      resourcesOf(makeElf(), { devices: openedDevices({ disk: opened(2) }) }),
    );
    expect(placements.map(({ slot }) => slot)).toEqual([2, 4, 1, 3]);
  });

  it('refuses one number for two', () => {
    const config = configOf({ disks: [disk({ pci_device_id: 3 }), disk({ pci_device_id: 3 })] });
    expect(() =>
      planBoot(config, host, resourcesOf(makeElf(), { devices: openedDevices({ disk: opened(2) }) })),
    ).toThrow('PCI device number 3 is already taken');
  });

  it('leaves out what is off', () => {
    const { serial: _serial, ...resources } = resourcesOf(makeElf());
    const config = configOf({ console: { mode: 'Off' }, serial: { mode: 'Off' } });
    const { boot, placements } = placedBy(config, host, resources);
    expect(placements.map(({ id, slot }) => [id, slot])).toEqual([['__rng', 1]]);
    expect(boot.serial).toBeUndefined();
    const tables = String.fromCharCode(...loadedBytes(boot, 0xa0000));
    expect(tables).not.toContain('COM1');
  });

  it('has room for 29 disks beside console and rng, and no more', () => {
    const plan = (count: number) =>
      planBoot(
        configOf({ disks: Array.from({ length: count }, () => disk()) }),
        host,
        resourcesOf(makeElf(), { devices: openedDevices({ disk: opened(count) }) }),
      );
    expect(plan(29).bus.placements).toHaveLength(31);
    expect(() => plan(30)).toThrow(/All 32 PCI device numbers are taken/);
  });
});

describe('planBoot: boot protocols', () => {
  it('starts a PVH image with its start info', () => {
    const config = configOf({ payload: { kernel: '/k', cmdline: 'quiet' }, memory: { size: 4 * GIB } });
    const resources = resourcesOf(makeElf({ entry: MIB + 8 }), { initramfs: { fd: 12, size: 10_000 } });
    const { boot } = planBoot(config, host, resources);
    expect(boot.entry).toEqual({
      rip: MIB + 8,
      rbx: 0x6000,
      rsi: 0,
      rsp: 0x8ff0,
      gdtAddress: 0x500,
      gdtLimit: 39,
    });
    const info = viewOf(loadedBytes(boot, 0x6000));
    expect([info.getUint32(0, true), info.getUint32(4, true), info.getUint32(12, true)]).toEqual([
      0x336e_c578, 1, 1,
    ]);
    expect([16, 24, 32, 40].map((at) => getU64(info, at))).toEqual([0x6040, 0x20000, 0xa0000, 0x7000]);
    const initramfs = 3 * GIB - 12_288;
    expect([getU64(info, 0x40), getU64(info, 0x48)]).toEqual([initramfs, 10_000]);
    expect(boot.load).toContainEqual({
      address: initramfs,
      fd: new Descriptor(12),
      offset: 0,
      length: 10_000,
    });
    const map = viewOf(loadedBytes(boot, 0x7000));
    expect(info.getUint32(48, true) * 24).toBe(map.byteLength);
    expect([getU64(map, 72), getU64(map, 80), map.getUint32(88, true)]).toEqual([4 * GIB, GIB, 1]);
    expect(String.fromCharCode(...loadedBytes(boot, 0x20000))).toBe('quiet\0');
  });

  it('starts a bzImage with a zero page', () => {
    const kernel = makeBzImage();
    const config = configOf({ payload: { kernel: '/k', cmdline: 'quiet' } });
    const { boot } = planBoot(config, host, resourcesOf(kernel, { initramfs: { fd: 12, size: 4096 } }));
    expect(boot.entry).toEqual({
      rip: MIB,
      rbx: 0,
      rsi: 0x7000,
      rsp: 0x8ff0,
      gdtAddress: 0x500,
      gdtLimit: 39,
    });
    const page = loadedBytes(boot, 0x7000);
    const view = viewOf(page);
    expect(page).toHaveLength(4096);
    expect(view.getUint32(0x202, true)).toBe(0x5372_6448);
    expect(page[0x210]).toBe(0xff);
    expect([0x218, 0x21c, 0x228].map((at) => view.getUint32(at, true))).toEqual([
      512 * MIB - 4096,
      4096,
      0x20000,
    ]);
    expect(getU64(view, 0x70)).toBe(0xa0000);
    expect(page[0x1e8]).toBe(3);
    expect([getU64(view, 0x2d0 + 20), getU64(view, 0x2d0 + 28), view.getUint32(0x2d0 + 36, true)]).toEqual([
      MIB,
      511 * MIB,
      1,
    ]);
  });

  it('tells firmware nothing but the machine', () => {
    const config = configOf({ payload: { firmware: '/f', cmdline: 'dropped' } });
    const resources = resourcesOf(makeElf(), { firmware: true, initramfs: { fd: 12, size: 4096 } });
    const { boot } = planBoot(config, host, resources);
    expect([...loadedBytes(boot, 0x20000)]).toEqual([0]);
    expect(viewOf(loadedBytes(boot, 0x6000)).getUint32(12, true)).toBe(0);
    expect(boot.load.filter((item) => 'fd' in item)).toHaveLength(1);
  });

  it('loads nothing over anything else', () => {
    // As many as a valid configuration has; those with a device are told of twice.
    const zones = Array.from({ length: 256 }, (_, i) => ({
      id: `z${i}`,
      size: 16 * MIB,
      ...(i < 20 && { hotplug_size: 128 * MIB }),
    }));
    const numa = zones.map(({ id }, i) => ({
      guest_numa_id: i,
      memory_zones: [id],
      cpus: i < 254 ? [i] : [],
    }));
    const config = configOf({
      cpus: { boot_vcpus: 1, max_vcpus: 254 },
      memory: { size: 0, zones, hotplug_method: 'VirtioMem' },
      numa,
      payload: { cmdline: 'x'.repeat(2000) },
    });
    const resources = resourcesOf(makeBzImage(), { initramfs: { fd: 12, size: 100 } });
    const items = planBoot(config, host, resources)
      .boot.load.map((item) => ({
        start: item.address,
        end: item.address + ('bytes' in item ? item.bytes.length : item.length),
      }))
      .sort((a, b) => a.start - b.start);
    items.reduce((before, item) => {
      expect(item.start).toBeGreaterThanOrEqual(before.end);
      return item;
    });
  });
});

describe('planBoot: the machine', () => {
  it('leaves the EBDA pointer and descriptors where they are looked for', () => {
    const { boot } = planBoot(configOf(), host, resourcesOf(makeElf()));
    expect([...loadedBytes(boot, 0x40e)]).toEqual([0x00, 0xa0]);
    const gdt = viewOf(loadedBytes(boot, 0x500));
    expect([0x10, 0x18].map((selector) => gdt.getBigUint64(selector, true))).toEqual([
      0x00cf_9b00_0000_ffffn,
      0x00cf_9300_0000_ffffn,
    ]);
    expect(String.fromCharCode(...loadedBytes(boot, 0xf0000).subarray(0, 5))).toBe('_SM3_');
  });

  it('has its platform devices at the documented places', () => {
    const config = configOf({ memory: { size: 5 * GIB }, debug_console: { mode: 'Null' } });
    const resources = resourcesOf(makeElf(), { debugConsole: { kind: 'null' } });
    const { boot } = planBoot(config, hostOf({ physBits: 40 }), resources);
    expect(boot).toMatchObject({
      ioapic: { address: 0xfec0_0000 },
      serial: { port: 0x3f8, gsi: 4 },
      debugConsole: { port: 0xe9 },
      cmos: { port: 0x70, gsi: 8, memoryBelow4G: 3 * GIB, memoryAbove4G: 2 * GIB },
      acpi: { sleepResetPort: 0x600, pmTimerPort: 0x608, eventsPort: 0x60c, sciGsi: 9 },
      ged: { address: 0xfe00_0000, gsi: 13 },
    });
    expect(boot.pci).toMatchObject({
      ecam: 0xe800_0000,
      segments: [{ window32: { start: 0xc000_0000, size: 640 * MIB }, window64: { start: 6 * GIB } }],
    });
  });

  it('gives every vCPU at boot its own CPUID, and tables for all that may come', () => {
    const config = configOf({ cpus: { boot_vcpus: 3, max_vcpus: 5 } });
    const { boot } = planBoot(config, host, resourcesOf(makeElf()));
    const { vcpus } = planMachine(config, host);
    expect(vcpus.map(({ cpuid }) => unpackCpuid(cpuid).get('b.0')?.edx)).toEqual([0, 1, 2]);
    const tables = loadedBytes(boot, 0xa0000);
    const madt = MADT_OFFSET + viewOf(tables).getUint32(MADT_OFFSET + TABLE_LENGTH, true);
    expect([...tables.subarray(madt - 8, madt)]).toEqual([0, 8, 4, 4, 2, 0, 0, 0]);
  });

  it('changes neither the configuration nor what it was given before', () => {
    const config = configOf({ disks: [disk()] });
    const before = structuredClone(config);
    const resources = resourcesOf(makeElf(), { devices: openedDevices({ disk: opened(1) }) });
    const first = planBoot(config, host, resources);
    expect(planBoot(config, host, resources)).toEqual(first);
    expect(config).toEqual(before);
  });
});
