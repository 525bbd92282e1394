import { beforeEach, describe, expect, it } from 'vitest';
import { parseDevice } from '../../../../src/api/libvirt/deviceXml.ts';
import type { Domains } from '../../../../src/api/libvirt/domains.ts';
import type { Impact } from '../../../../src/api/libvirt/impact.ts';
import { attachMemory, detachMemory } from '../../../../src/api/libvirt/memoryDevices.ts';
import { updateDevice } from '../../../../src/api/libvirt/updates.ts';
import { decode } from '../../../../src/config/decode.ts';
import { type VmConfigInput, vmConfig } from '../../../../src/config/vmConfig.ts';
import type { SupervisedVm } from '../../../../src/supervisor/supervisedVm.ts';

const MIB = 1 << 20;
const LIVE = { live: true, config: false };
const CONFIG = { live: false, config: true };
const BOTH = { live: true, config: true };

let defined: VmConfigInput;
let calls: unknown[];

beforeEach(() => {
  calls = [];
});

const vm = {
  get definition() {
    return { config: defined };
  },
} as unknown as SupervisedVm;

/** A machine has every default written out. */
const domains = {
  refresh: async () => decode(vmConfig, defined),
  reconfigure: (_: SupervisedVm, config: VmConfigInput) => {
    defined = config;
  },
  call: async (...[, , endpoint, body]: Parameters<Domains['call']>) => void calls.push([endpoint, body]),
} as unknown as Domains;

const update = (xml: string, impact: Impact) => updateDevice(domains, vm, parseDevice(xml), impact);
const attached = async (xml: string, impact: Impact) => attachMemory(domains, vm, parseDevice(xml), impact);

const disk = (source: string, more = '') =>
  `<disk type='file'><source file='${source}'/><target dev='vda'/>${more}<alias name='x'/></disk>`;

describe('an update', () => {
  beforeEach(() => {
    defined = {
      payload: { kernel: '/k' },
      disks: [{ id: 'vda', path: '/a', image_type: 'Raw', readonly: true, rate_limit_group: 'g' }],
      net: [{ mac: '2e:00:00:00:00:01', user: true, forward: ['tcp:2222:22'] }],
      vsock: { cid: 3, socket: '/v' },
    };
  });

  it('of a definition takes all that a document says, and keeps what it does not speak of', async () => {
    await update(disk('/b', '<serial>s</serial>'), CONFIG);
    expect(defined.disks).toEqual([
      { id: 'vda', path: '/b', image_type: 'Raw', serial: 's', rate_limit_group: 'g' },
    ]);
    await update(
      "<interface type='user'><mac address='2E:00:00:00:00:01'/><mtu size='1400'/></interface>",
      CONFIG,
    );
    expect(defined.net).toEqual([
      { mac: '2e:00:00:00:00:01', user: true, mtu: 1400, forward: ['tcp:2222:22'] },
    ]);
    await update("<vsock><cid address='9'/></vsock>", CONFIG);
    expect(defined.vsock).toEqual({ cid: 9, socket: '/v' });
    expect(calls).toEqual([]);
  });

  it('of a machine is refused by the name of what is another, and else done', async () => {
    await update(disk('/a', '<readonly/>'), LIVE);
    await update("<interface type='user'><link state='up'/></interface>", LIVE);
    await expect(update(disk('/b', '<readonly/>'), LIVE)).rejects.toMatchObject({
      code: 84,
      message: 'Operation not supported: cannot modify <source> of vda while the machine runs',
    });
    await expect(update(disk('/a'), LIVE)).rejects.toThrow('<readonly> of vda');
    await expect(update("<interface type='ethernet'/>", LIVE)).rejects.toThrow(/<interface> of 2e:00:/);
    await expect(update("<vsock><cid address='9'/></vsock>", LIVE)).rejects.toThrow('<cid> of the vsock');
    // Nothing of both.
    const before = structuredClone(defined);
    await expect(update(disk('/b', '<readonly/>'), BOTH)).rejects.toThrow('<source>');
    expect(defined).toEqual(before);
  });

  it('is refused of what there is not, and of what has none', async () => {
    await expect(update("<disk><source file='/b'/><target dev='vdb'/></disk>", CONFIG)).rejects.toThrow(
      'device not found: no disk vdb in domain',
    );
    await expect(update("<rng model='virtio'/>", CONFIG)).rejects.toThrow("type 'rng' cannot be updated");
    await expect(update("<interface type='user'><link state='down'/></interface>", LIVE)).rejects.toThrow(
      "always up, never 'down'",
    );
  });
});

describe('a memory device', () => {
  const dimm = (mib: number) =>
    `<memory model='dimm'><target><size unit='MiB'>${mib}</size></target></memory>`;
  const virtioMem = (mib: number, requested = 0) =>
    `<memory model='virtio-mem'><target><size unit='MiB'>${mib}</size>
       <requested unit='MiB'>${requested}</requested></target></memory>`;

  it('of model dimm makes machine and definition larger, as far as maxMemory goes', async () => {
    defined = { payload: { kernel: '/k' }, memory: { size: 512 * MIB, hotplug_size: 256 * MIB } };
    await attached(dimm(128), LIVE);
    expect(calls).toEqual([['vm.resize', { desired_ram: 640 * MIB }]]);
    await attached(dimm(128), BOTH);
    expect(defined.memory).toEqual({ size: 640 * MIB, hotplug_size: 128 * MIB });
    await expect(attached(dimm(256), BOTH)).rejects.toThrow("size '262144' would exceed");
    expect(calls).toHaveLength(2);
    await attached(dimm(128), CONFIG);
    expect(defined.memory).toEqual({ size: 768 * MIB });
    await expect(attached(dimm(128), CONFIG)).rejects.toThrow("'maxMemory' is not above 'memory'");
    await expect(attached(dimm(128), LIVE)).rejects.toThrow("'maxMemory' is not above 'memory'");
    defined = { payload: { kernel: '/k' }, memory: { size: 512 * MIB, hotplug_size: 256 * MIB } };
    await expect(attached(dimm(384), LIVE)).rejects.toThrow("size '393216' would exceed");
    expect(calls).toHaveLength(2);
    expect(() => detachMemory(domains, vm, parseDevice(dimm(128)), CONFIG)).toThrow('device not found');
    await expect(update(dimm(128), CONFIG)).rejects.toThrow('nothing of a DIMM');
  });

  it('of model dimm that two clients attach at once comes twice', async () => {
    defined = { payload: { kernel: '/k' }, memory: { size: 512 * MIB, hotplug_size: 256 * MIB } };
    const sizes = [attached(dimm(512), BOTH), attached(dimm(128), BOTH), attached(dimm(128), BOTH)];
    const [refused, ...done] = await Promise.allSettled(sizes);
    expect(refused).toMatchObject({ status: 'rejected', reason: { message: /would exceed/ } });
    expect(done.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled']);
    expect(calls).toEqual([
      ['vm.resize', { desired_ram: 640 * MIB }],
      ['vm.resize', { desired_ram: 768 * MIB }],
    ]);
    expect(defined.memory).toEqual({ size: 768 * MIB });
  });

  it('of model virtio-mem comes to a definition, gives more or less, and goes', async () => {
    defined = {
      payload: { kernel: '/k' },
      memory: { size: 512 * MIB, hotplug_size: 256 * MIB, shared: true },
    };
    await expect(attached(virtioMem(256), LIVE)).rejects.toMatchObject({ code: 84 });
    await attached(virtioMem(256), CONFIG);
    const device = { size: 512 * MIB, shared: true, hotplug_method: 'VirtioMem', hotplug_size: 256 * MIB };
    expect(defined.memory).toEqual(device);
    await expect(attached(virtioMem(256), CONFIG)).rejects.toThrow('more than one memory device');
    await update(virtioMem(256, 64), BOTH);
    expect(calls).toEqual([['vm.resize', { desired_ram: 576 * MIB }]]);
    expect(defined.memory).toEqual({ ...device, hotplugged_size: 64 * MIB });
    await update(virtioMem(256), CONFIG);
    expect(defined.memory).toEqual(device);
    await expect(update(virtioMem(512), LIVE)).rejects.toThrow('the size of a memory device');
    const detach = (impact: Impact) => detachMemory(domains, vm, parseDevice(virtioMem(256)), impact);
    expect(() => detach(LIVE)).toThrow('stays while the machine runs');
    detach(CONFIG);
    expect(defined.memory).toEqual({ size: 512 * MIB, shared: true });
    expect(() => detach(CONFIG)).toThrow('no virtio-mem device in domain');
  });
});
