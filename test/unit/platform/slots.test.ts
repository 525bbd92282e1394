import { describe, expect, it } from 'vitest';
import { DeviceIds, deviceIds } from '../../../src/platform/deviceIds.ts';
import { BarAllocator, SlotAllocator } from '../../../src/platform/slots.ts';
import { apicId, planApicIds, planTopology } from '../../../src/platform/x86_64/apicId.ts';
import { configOf } from './support.ts';

describe('SlotAllocator', () => {
  it('hands out the lowest free number after the host bridge', () => {
    const slots = new SlotAllocator();
    slots.reserve(2);
    expect([slots.allocate(), slots.allocate(), slots.allocate()]).toEqual([1, 3, 4]);
  });

  it('has 31 of them', () => {
    const slots = new SlotAllocator();
    for (let slot = 1; slot < 32; slot++) {
      expect(slots.allocate()).toBe(slot);
    }
    expect(() => slots.allocate()).toThrowError(expect.objectContaining({ code: 'ERR_TSVMM_PCI_SLOT' }));
  });

  it.each([0, 5, 31, 32, 255])('refuses number %d when it is not to be had', (slot) => {
    const slots = new SlotAllocator();
    slots.reserve(5);
    slots.reserve(31);
    expect(() => slots.reserve(slot)).toThrowError(expect.objectContaining({ code: 'ERR_TSVMM_PCI_SLOT' }));
  });
});

describe('BarAllocator', () => {
  it('goes down from the top, aligned to the size', () => {
    const bars = new BarAllocator({ start: 2 ** 32, size: 2 ** 45 + 0x1000 });
    const top = 2 ** 32 + 2 ** 45;
    expect(bars.allocate(0x80000)).toBe(top - 0x80000);
    expect(bars.allocate(0x1000)).toBe(top);
    expect(bars.allocate(0x1000)).toBe(top - 0x81000);
    expect(bars.allocate(0x80000)).toBe(top - 0x180000);
  });

  it('ends at the bottom of its window', () => {
    const bars = new BarAllocator({ start: 0x10000, size: 0x2000 });
    bars.allocate(0x1000);
    expect(bars.allocate(0x1000)).toBe(0x10000);
    expect(() => bars.allocate(0x10)).toThrowError(expect.objectContaining({ code: 'ERR_TSVMM_PCI_BAR' }));
  });
});

describe('what is given back', () => {
  it('is handed out again', () => {
    const slots = new SlotAllocator();
    for (let slot = 1; slot < 32; slot++) slots.allocate();
    slots.release(7);
    expect(slots.allocate()).toBe(7);
    const bars = new BarAllocator({ start: 0x1000, size: 0x3000 });
    const [first, second] = [bars.allocate(0x1000), bars.allocate(0x1000)];
    bars.release(first, 0x1000);
    bars.release(second, 0x1000);
    expect([bars.allocate(0x800), bars.allocate(0x1000), bars.allocate(0x1000)]).toEqual([
      0x3800, 0x2000, 0x1000,
    ]);
  });

  it.each([
    [0, 1, 2],
    [2, 1, 0],
    [0, 2, 1],
    [1, 0, 2],
  ])('has room for what is larger than any of it, whatever came back first: %d, %d, %d', (...order) => {
    const bars = new BarAllocator({ start: 0x10000, size: 0x8000 });
    const parts = [0x4000, 0x2000, 0x1000, 0x1000].map((size) => ({ size, address: bars.allocate(size) }));
    expect(() => bars.allocate(0x10)).toThrow();
    const [large, ...others] = parts as [(typeof parts)[number], ...typeof parts];
    for (const one of order) {
      const { address, size } = others[one] as (typeof parts)[number];
      bars.release(address, size);
    }
    expect(bars.allocate(0x4000)).toBe(0x10000);
    bars.release(large.address, large.size);
    expect(() => bars.allocate(0x8000)).toThrow();
    bars.release(0x10000, 0x4000);
    expect(bars.allocate(0x8000)).toBe(0x10000);
  });

  it('was never there in a window without room', () => {
    expect(() => new BarAllocator({ start: 0x1000, size: 0 }).allocate(0x1000)).toThrow();
  });
});

describe('DeviceIds', () => {
  it('counts over all prefixes and skips what is taken', () => {
    const ids = new DeviceIds();
    ids.take('_disk0');
    ids.take('_net2');
    expect(['_disk', '_net', '_net'].map((prefix) => ids.generate(prefix))).toEqual([
      '_disk1',
      '_net3',
      '_net4',
    ]);
    expect(ids.counter).toBe(5);
  });
});

describe('APIC ids', () => {
  const topology = { threads_per_core: 2, cores_per_die: 3, dies_per_package: 1, packages: 2 };

  it('equal the index when no topology is given', () => {
    const plain = planTopology(configOf({ cpus: { boot_vcpus: 5, max_vcpus: 5 } }).cpus);
    expect(planApicIds(5, plain)).toEqual([0, 1, 2, 3, 4]);
    expect(plain.packageShift).toBe(3);
  });

  it('give each level bits of its own', () => {
    const config = configOf({ cpus: { boot_vcpus: 1, max_vcpus: 12, topology } });
    const ids = planApicIds(12, planTopology(config.cpus));
    expect(ids).toEqual([0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]);
    expect(apicId(6, planTopology(config.cpus))).toBe(8);
  });

  it('end at 254', () => {
    const plain = planTopology(configOf({ cpus: { boot_vcpus: 255, max_vcpus: 300 } }).cpus);
    expect(planApicIds(255, plain)).toHaveLength(255);
    expect(() => planApicIds(256, plain)).toThrowError(expect.objectContaining({ code: 'ERR_TSVMM_CPUS' }));
  });
});

describe('deviceIds', () => {
  it('are those of the configuration, and generated ones that nobody has', () => {
    const config = configOf({
      console: { mode: 'Null' },
      disks: [{ path: '/a' }, { path: '/b', id: '_net1' }],
      net: [{}, {}],
      watchdog: true,
    });
    expect(deviceIds(config)).toEqual({
      console: ['__console'],
      disk: ['_disk0', '_net1'],
      net: ['_net2', '_net3'],
      rng: ['__rng'],
      watchdog: ['__watchdog'],
    });
  });
});
