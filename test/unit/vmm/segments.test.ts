/** Devices that come to a PCI segment of a machine that runs, and leave it. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, it } from 'vitest';
import { decode } from '../../../src/config/decode.ts';
import { type VmConfigInput, vmConfig } from '../../../src/config/vmConfig.ts';
import type { PciFunctionSpec } from '../../../src/native.ts';
import { errorChain } from '../../../src/vmm/errors.ts';
import type { Vmm } from '../../../src/vmm/vmm.ts';
import { booted, events, failure, folder, guest, native, newVmm } from './vmmFixture.ts';

const SEGMENTS: VmConfigInput = { platform: { num_pci_segments: 16 } };

beforeEach(() => {
  for (const name of ['a', 'b', 'pmem']) writeFileSync(join(folder, name), Buffer.alloc(2 << 20));
});

const disk = (name: string, extra: object = {}) =>
  decode(vmConfig, {
    disks: [{ path: join(folder, name), id: name, image_type: 'Raw', pci_segment: 15, ...extra }],
  }).disks?.[0] as object;

/** What matters of functions: who is where. */
const placesOf = (machine: number) =>
  native.machines[machine]?.boot?.pci.functions
    .map(({ id, segment, slot }: PciFunctionSpec) => `${id} ${segment}:${slot}`)
    .sort();

async function eject(vmm: Vmm, id: string): Promise<void> {
  guest({ type: 'device-ejected', id });
  await vmm.resizeConsole();
}

it('a device comes to its segment, is there after a reboot, and in a machine made of what vm.info says', async () => {
  const functions: PciFunctionSpec[] = [];
  native.onPlug = (spec) => void functions.push(spec);
  const vmm = await booted({}, { ...SEGMENTS, disks: [disk('b', { pci_segment: 1 })] });
  expect(await vmm.addDevice('disk', disk('a'))).toEqual({ id: 'a', bdf: '000f:00:00.0' });
  expect(functions).toMatchObject([{ id: 'a', segment: 15, slot: 0, bar0Is64Bit: true }]);
  expect(events.at(-1)).toBe('vm device-added disk a 000f:00:00.0');
  const info = vmm.info();
  expect(info.config.disks).toMatchObject([{ pci_segment: 1 }, { pci_segment: 15, pci_device_id: 0 }]);
  expect(info.device_tree?.['_virtio-pci-a']?.pci_bdf).toBe('000f:00:00.0');
  expect(info.device_tree?.['_virtio-pci-b']?.pci_bdf).toBe('0001:00:00.0');

  const places = ['__rng 0:1', 'a 15:0', 'b 1:0'];
  await vmm.reboot();
  expect(placesOf(1)).toEqual(places);
  const shown = JSON.parse(JSON.stringify(vmm.info().config));
  await vmm.quit();

  const other = newVmm();
  await other.create(decode(vmConfig, shown));
  await other.boot();
  expect(placesOf(2)).toEqual(places);
  await other.quit();
});

it('a device leaves its segment, and its place is for others then', async () => {
  const vmm = await booted({}, SEGMENTS);
  const places = [await vmm.addDevice('disk', disk('a')), await vmm.addDevice('disk', disk('b'))];
  expect(places.map((place) => place?.bdf)).toEqual(['000f:00:00.0', '000f:00:01.0']);
  await vmm.removeDevice('a');
  await eject(vmm, 'a');
  expect(events.at(-1)).toBe('vm device-removed a 000f:00:00.0');
  expect(await vmm.addDevice('disk', disk('a'))).toEqual(places[0]);
  await vmm.quit();
});

it('nothing is left of a device for which there is no segment, no place, and no room', async () => {
  const pci_segments = [{ pci_segment: 0, mmio64_aperture_weight: 2 ** 25 }];
  const vmm = await booted({}, { platform: { num_pci_segments: 3 }, pci_segments });
  const before = [...native.files.open];
  const refusal = async (work: Promise<unknown>) => errorChain(await failure(work)).at(-1);
  expect(await refusal(vmm.addDevice('disk', disk('a')))).toBe(
    'PCI segment 15 does not exist: platform.num_pci_segments is 3',
  );
  expect(await refusal(vmm.addDevice('disk', disk('a', { pci_segment: 1, pci_device_id: 32 })))).toBe(
    'PCI slot 32 does not exist, the highest is 31',
  );
  // There is room for the registers of one, but not for 2 MiB more.
  const [pmem] = decode(vmConfig, { pmem: [{ file: join(folder, 'pmem'), pci_segment: 2 }] })
    .pmem as object[];
  for (let round = 0; round < 3; round++) {
    expect(await refusal(vmm.addDevice('pmem', { ...pmem }))).toBe(
      "No room is left for a device's 2097152 bytes of registers",
    );
  }
  expect([...native.files.open]).toEqual(before);
  expect(vmm.info().config.pmem ?? []).toEqual([]);
  expect(await vmm.addDevice('disk', disk('a', { pci_segment: 2 }))).toEqual({
    id: 'a',
    bdf: '0002:00:00.0',
  });
  await vmm.quit();
});

it('a device that comes to a segment behind the IOMMU is translated, and others are in other segments', async () => {
  const functions: PciFunctionSpec[] = [];
  native.onPlug = (spec) => void functions.push(spec);
  const vmm = await booted({}, { platform: { num_pci_segments: 3, iommu_segments: [2] } });
  expect(vmm.info().config.iommu).toBe(true);
  const beside = await failure(vmm.addDevice('disk', disk('a', { pci_segment: 2 })));
  expect(errorChain(beside).at(-1)).toContain('needs iommu=on');
  const elsewhere = await failure(vmm.addDevice('disk', disk('a', { pci_segment: 1, iommu: true })));
  expect(errorChain(elsewhere).at(-1)).toContain('only in a PCI segment of platform.iommu_segments');
  await vmm.addDevice('disk', disk('a', { pci_segment: 2, iommu: true }));
  await vmm.addDevice('disk', disk('b', { pci_segment: 1 }));
  expect(functions.map(({ id, segment, iommu }) => [id, segment, iommu])).toEqual([
    ['a', 2, true],
    ['b', 1, undefined],
  ]);
  await vmm.quit();
});
