import { describe, expect, it } from 'vitest';
import { Descriptor } from '../../../src/boundary/cbor.ts';
import type { VmConfigInput } from '../../../src/config/vmConfig.ts';
import { allDevices } from '../../../src/devices/registry.ts';
import { createBus, release, reserveSlots } from '../../../src/platform/bus.ts';
import { planAddition, planDevices } from '../../../src/platform/devices.ts';
import { bdfOf } from '../../../src/platform/placement.ts';
import { divideWindows, type SegmentWindows } from '../../../src/platform/segments.ts';
import { configOf, hostOf, MIB, makeElf, openedDevices, resourcesOf } from './support.ts';

const WINDOW32 = { start: 0xc000_0000, size: 640 * MIB };
const WINDOW64 = { start: 2 ** 33, size: 2 ** 45 };

const divided = (input: VmConfigInput) => divideWindows(configOf(input), WINDOW32, WINDOW64);

describe('the address space of PCI segments', () => {
  it('is one where there is one', () => {
    expect(divided({})).toEqual([{ window32: WINDOW32, window64: WINDOW64 }]);
  });

  it('is divided by weight, without holes and without overlaps', () => {
    const parts = divided({
      platform: { num_pci_segments: 4 },
      pci_segments: [
        { pci_segment: 1, mmio32_aperture_weight: 4 },
        { pci_segment: 3, mmio64_aperture_weight: 5 },
      ],
    });
    expect(parts.map(({ window32 }) => window32.size / WINDOW32.size)).toEqual(
      [1, 4, 1, 1].map((w) => expect.closeTo(w / 7, 4)),
    );
    expect(parts.map(({ window64 }) => window64.size / WINDOW64.size)).toEqual(
      [1, 1, 1, 5].map((w) => expect.closeTo(w / 8, 4)),
    );
    for (const key of ['window32', 'window64'] as const) {
      for (let segment = 1; segment < parts.length; segment++) {
        const before = (parts[segment - 1] as SegmentWindows)[key];
        const part = (parts[segment] as SegmentWindows)[key];
        expect(part.start).toBe(before.start + before.size);
        expect(part.start % 4096).toBe(0);
      }
    }
  });

  it('is exact for the largest weights', () => {
    const most = 2 ** 32 - 1;
    const weight = { mmio32_aperture_weight: most, mmio64_aperture_weight: most };
    const parts = divided({
      platform: { num_pci_segments: 2 },
      pci_segments: [0, 1].map((pci_segment) => ({ pci_segment, ...weight })),
    });
    expect(parts.map(({ window64 }) => window64.size)).toEqual([2 ** 44, 2 ** 44]);
    const against = (pci_segment: number) =>
      divided({ platform: { num_pci_segments: 2 }, pci_segments: [{ pci_segment, ...weight }] });
    expect(against(0)[1]?.window32.size).toBe(0);
    expect(() => against(1)).toThrow('leave PCI segment 0 no address space');
  });
});

describe('devices in PCI segments', () => {
  const planned = (input: VmConfigInput) => {
    const config = configOf({ rng: { src: '/r', pci_segment: 1 }, ...input });
    const image = { layers: [{ fd: new Descriptor(20), format: 'raw' }], protectSector0: false };
    const devices = openedDevices({ disk: (config.disks ?? []).map(() => image) });
    return planDevices(
      config,
      resourcesOf(makeElf(), { devices }),
      divideWindows(config, WINDOW32, WINDOW64),
    );
  };

  it('have numbers and addresses of their segment, and number 0 but for segment 0', () => {
    const { functions, bus } = planned({ platform: { num_pci_segments: 2 }, console: { mode: 'Null' } });
    expect(bus.placements.map((placement) => [placement.device, bdfOf(placement)])).toEqual([
      ['console', '0000:00:01.0'],
      ['rng', '0001:00:00.0'],
    ]);
    const half = WINDOW64.start + WINDOW64.size / 2;
    expect(functions.map(({ segment, bar0 }) => [segment, bar0 >= half])).toEqual([
      [0, false],
      [1, true],
    ]);
  });

  it('have their registers above 4 GiB, but for disks of segment 0, which firmware may want', () => {
    const disk = (pci_segment: number) => ({ path: `/disk${pci_segment}`, pci_segment });
    const { functions } = planned({
      platform: { num_pci_segments: 2 },
      disks: [disk(0), disk(1)],
    });
    expect(functions.filter(({ kind }) => kind === 'block').map(({ bar0Is64Bit }) => bar0Is64Bit)).toEqual([
      false,
      true,
    ]);
  });

  it('are refused where there is no such segment, or no room in it', () => {
    expect(() => planned({})).toThrow(expect.objectContaining({ code: 'ERR_TSVMM_PCI_SLOT' }));
    const weights = { mmio64_aperture_weight: 2 ** 32 - 1 };
    const tiny = { platform: { num_pci_segments: 2 }, pci_segments: [{ pci_segment: 0, ...weights }] };
    const config = configOf({ ...tiny, rng: { src: '/r', pci_segment: 1 } });
    const opened = resourcesOf(makeElf(), { devices: openedDevices() });
    const small = { start: 2 ** 33, size: 2 ** 34 };
    expect(() => planDevices(config, opened, divideWindows(config, WINDOW32, small))).toThrow(
      expect.objectContaining({ code: 'ERR_TSVMM_PCI_BAR' }),
    );
  });

  it('come and go in their segment', () => {
    const config = configOf({ platform: { num_pci_segments: 2 } });
    const bus = createBus(divideWindows(config, WINDOW32, WINDOW64));
    reserveSlots(bus, allDevices(config), new Map());
    const record = { name: 'watchdog', ids: { prefix: '_w' }, specification: () => ({ kind: 'watchdog' }) };
    const add = (device: object) =>
      planAddition(bus, config, { record: record as never, device, index: 0, resource: undefined }).placement;
    const places = Array.from({ length: 32 }, () => add({ pci_segment: 1 }));
    expect(places.map(({ slot }) => slot)).toEqual(Array.from({ length: 32 }, (_, slot) => slot));
    expect(() => add({ pci_segment: 1 })).toThrow(expect.objectContaining({ code: 'ERR_TSVMM_PCI_SLOT' }));
    expect(() => add({ pci_segment: 2 })).toThrow(expect.objectContaining({ code: 'ERR_TSVMM_PCI_SLOT' }));
    expect(add({}).slot).toBe(1);
    release(bus, places[7] as (typeof places)[number]);
    expect(add({ pci_segment: 1 })).toMatchObject({ segment: 1, slot: 7 });
  });
});

describe('a machine with several PCI segments', () => {
  it('has a host bridge and ECAM of each in its tables', async () => {
    const { planBoot } = await import('../../../src/platform/plan.ts');
    const { renderPciSegments } = await import('../../../src/platform/x86_64/acpi/pciSegments.ts');
    const numa = [{ guest_numa_id: 0 }, { guest_numa_id: 7, pci_segments: [2] }];
    const config = configOf({ platform: { num_pci_segments: 3 }, numa });
    const { boot } = planBoot(
      config,
      hostOf(),
      resourcesOf(makeElf(), { devices: openedDevices(), renderPciSegments }),
    );
    expect(boot.pci.segments).toHaveLength(3);
    const tables = boot.load.find(({ address }) => address === 0xa0000);
    const text = tables && 'bytes' in tables ? Buffer.from(tables.bytes).toString('latin1') : '';
    for (const name of ['PC00', 'PC01', 'PC02', 'MBR1', 'PSCX']) expect(text).toContain(name);
    expect(text).not.toContain('PC03');
    // The one that is in a NUMA node says so: Name (_PXM, 7).
    expect(text.split('_PXM')).toHaveLength(2);
    expect(text.slice(text.indexOf('PC02'))).toContain('\x08_PXM\x0a\x07');
  });
});
