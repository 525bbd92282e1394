import { describe, expect, it } from 'vitest';
import { Descriptor } from '../../../src/boundary/cbor.ts';
import type { VmConfigInput } from '../../../src/config/vmConfig.ts';
import { completeDevices } from '../../../src/devices/registry.ts';
import { renderViot } from '../../../src/platform/acpi/viot.ts';
import { viewOf } from '../../../src/platform/bytes.ts';
import { iommuTable } from '../../../src/platform/iommuTable.ts';
import { planBoot } from '../../../src/platform/plan.ts';
import { configOf, hostOf, makeElf, openedDevices, resourcesOf } from './support.ts';

const DISKS = [
  { path: '/a', iommu: true },
  { path: '/b' },
  { path: '/c', iommu: true, pci_device_id: 17 },
] as const;

function planned(input: VmConfigInput) {
  const config = configOf(input);
  completeDevices(config);
  const disk = () => ({
    layers: [{ fd: new Descriptor(20), format: 'raw' as const }],
    protectSector0: false,
  });
  const devices = openedDevices({ disk: (config.disks ?? []).map(disk) });
  const { boot, bus } = planBoot(config, hostOf(), resourcesOf(makeElf(), { devices }));
  return { config, boot, bus };
}

describe('the VIOT', () => {
  it('names the IOMMU and what is behind it', () => {
    const { config, bus } = planned({ disks: DISKS });
    const slots = (device: string) =>
      bus.placements.filter((one) => one.device === device).map((one) => one.slot);
    const [iommuSlot = 0] = slots('iommu');
    const [first = 0] = slots('disk');
    expect(iommuTable(config, bus.placements)).toEqual(
      renderViot({ segment: 0, bdf: iommuSlot * 8 }, [
        { segment: 0, first: first * 8, last: first * 8 },
        { segment: 0, first: 17 * 8, last: 17 * 8 },
      ]),
    );
  });

  it('has the layout of ACPI 6.5 §5.2.33', () => {
    const table = renderViot({ segment: 0, bdf: 0x30 }, [{ segment: 2, first: 8, last: 0xff }]);
    const view = viewOf(table);
    expect(table.reduce((sum, byte) => sum + byte, 0) % 256).toBe(0);
    expect([view.getUint16(36, true), view.getUint16(38, true)]).toEqual([2, 48]);
    expect([...table.subarray(48, 56)]).toEqual([3, 0, 16, 0, 0, 0, 0x30, 0]);
    expect(view.getUint32(68, true)).toBe(0x2_0008);
    expect([64, 66, 72, 74, 76, 78, 80].map((at) => view.getUint16(at, true))).toEqual([
      1, 24, 2, 2, 8, 0xff, 48,
    ]);
    expect(table).toHaveLength(88);
  });

  it('is there where something is behind an IOMMU, or may come to be, or where one was asked for', () => {
    const has = (input: VmConfigInput) => {
      const { config, bus, boot } = planned(input);
      const kinds = boot.pci.functions.map(({ kind }) => kind);
      expect(kinds.includes('iommu')).toBe(config.iommu);
      return iommuTable(config, bus.placements) !== undefined;
    };
    expect(has({})).toBe(false);
    expect(has({ disks: [{ path: '/b' }] })).toBe(false);
    expect(has({ iommu: true })).toBe(true);
    expect(has({ rng: { src: '/dev/urandom', iommu: true } })).toBe(true);
  });

  it('has whole segments but for what is never translated, for devices that come later', () => {
    const rng = { src: '/r', iommu: true };
    const platform = { iommu_segments: [0] };
    const { config, bus } = planned({ rng, platform, console: { mode: 'Off' }, watchdog: true });
    const slots = Object.fromEntries(bus.placements.map(({ device, slot }) => [device, slot]));
    expect(slots).toEqual({ rng: 1, watchdog: 2, iommu: 3 });
    expect(iommuTable(config, bus.placements)).toEqual(
      renderViot({ segment: 0, bdf: 3 * 8 }, [
        { segment: 0, first: 8, last: 15 },
        { segment: 0, first: 4 * 8, last: 0xff },
      ]),
    );
  });

  it('has each segment by itself, in which number 0 is for a device but in the first', () => {
    const disks = [
      { path: '/a', iommu: true, pci_segment: 2 },
      { path: '/b', pci_segment: 1 },
      { path: '/c', iommu: true, pci_segment: 1, pci_device_id: 9 },
    ];
    const platform = { num_pci_segments: 4, iommu_segments: [2, 3] };
    const { config, bus } = planned({ disks, platform, console: { mode: 'Off' } });
    const iommu = bus.placements.find(({ device }) => device === 'iommu');
    expect(iommuTable(config, bus.placements)).toEqual(
      renderViot({ segment: 0, bdf: (iommu?.slot as number) * 8 }, [
        { segment: 2, first: 0, last: 0xff },
        { segment: 3, first: 0, last: 0xff },
        { segment: 1, first: 9 * 8, last: 9 * 8 },
      ]),
    );
  });

  it('tells the core which functions are translated, and how wide addresses are', () => {
    const { boot } = planned({ disks: DISKS, platform: { iommu_address_width_bits: 39 } });
    const disks = boot.pci.functions.filter(({ kind }) => kind === 'block');
    expect(disks.map(({ iommu }) => iommu)).toEqual([true, undefined, true]);
    expect(boot.pci.functions.find(({ kind }) => kind === 'iommu')).toMatchObject({
      id: '__iommu',
      addressBits: 39,
    });
  });
});
