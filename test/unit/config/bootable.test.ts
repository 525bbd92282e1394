import { describe, expect, it } from 'vitest';
import { checkBootable } from '../../../src/config/bootable.ts';
import { decode } from '../../../src/config/decode.ts';
import { guestMemory, memorySize } from '../../../src/config/memory.ts';
import { validateVmConfig } from '../../../src/config/validate.ts';
import { type VmConfig, vmConfig } from '../../../src/config/vmConfig.ts';

const payload = { kernel: '/k' };
const shared = { memory: { size: 4096, shared: true } };

function config(value: object): VmConfig {
  const decoded = decode(vmConfig, { payload, ...value });
  validateVmConfig(decoded);
  return decoded;
}

function zone(id: string, extra: object = {}): object {
  return { id, size: 4096, ...extra };
}

describe('memory that no machine has', () => {
  const most = 2n ** 64n - 4096n;

  it.each([
    { memory: { size: most } },
    { memory: { size: 2n ** 63n, hugepages: true, hugepage_size: 2n ** 63n } },
    { memory: { size: 0, zones: [zone('a', { size: most })] } },
    { memory: { size: 0, zones: [zone('a', { size: 2n ** 52n }), zone('b', { size: 2n ** 52n })] } },
  ])('is valid and refused with its size: %o', ({ memory }) => {
    const decoded = config({ memory }).memory;
    const size = String(memorySize(decoded));
    expect(() => guestMemory(decoded)).toThrow(`Guest memory of ${size} bytes is more than any machine`);
  });

  it('is no less for being more than 64 bits hold', () => {
    const zones = [zone('a', { size: most }), zone('b', { size: most })];
    expect(memorySize(config({ memory: { size: 0, zones } }).memory)).toBe(2n ** 64n - 1n);
  });

  it.each([
    [{ memory: { size: most + 1n } }, 'is not a multiple of 4096 bytes'],
    [{ balloon: { size: most } }, `The balloon's size ${most} must be below the memory's`],
    [{ pmem: [{ file: '/p', size: most }] }, `size ${most}, which is not a multiple of 2 MiB`],
  ])('is held to the rules between fields: %o', (value, message) => {
    expect(() => config(value)).toThrow(message);
  });
});

describe('what a machine can be made of', () => {
  it.each([
    {},
    { memory: { size: 4096, hotplug_size: 4096, hotplug_method: 'VirtioMem', hotplugged_size: 0 } },
    { memory: { size: 0, zones: [zone('a'), zone('b', { shared: true })] } },
    { memory: { size: 0, zones: [zone('a', { file: '/f', host_numa_node: 0 })] } },
    { numa: [{ guest_numa_id: 0 }, { guest_numa_id: 1 }] },
    { memory: { size: 0, hotplug_method: 'VirtioMem', zones: [zone('a', { hotplug_size: 4096 })] } },
    { memory: { size: 4096, prefault: true, reserve: true, shared: true } },
    { cpus: { boot_vcpus: 1, max_vcpus: 254 } },
    { numa: [{ guest_numa_id: 0, cpus: [0] }] },
    { platform: { num_pci_segments: 16, iommufd: true, vfio_p2p_dma: false, iommu_segments: [] } },
    { pci_segments: [{ pci_segment: 0, mmio64_aperture_weight: 3 }] },
    { landlock_rules: [{ path: '/srv', access: 'rw' }], iommu: true, gdb: true },
    { fs: [], vdpa: [], devices: [], user_devices: [], generic_vhost_user: [] },
    { disks: [{ path: '/a', vhost_user: false, iommu: true, pci_segment: 0 }] },
  ])('accepts %j', (value) => {
    expect(() => checkBootable(config(value))).not.toThrow();
  });

  it.each([
    ['net[0].vhost_user', { ...shared, net: [{ vhost_user: true, vhost_socket: '/s' }] }],
    ['disks[1].vhost_user', { ...shared, disks: [{ path: '/d' }, { vhost_user: true, vhost_socket: '/s' }] }],
    ['fs', { ...shared, fs: [{ tag: 't', socket: 's' }] }],
    [
      'generic_vhost_user',
      { ...shared, generic_vhost_user: [{ socket: 's', queue_sizes: [8], device_type: 1 }] },
    ],
    ['devices', { devices: [{ path: '/sys/d' }] }],
    ['user_devices', { ...shared, user_devices: [{ socket: '/s' }] }],
    ['vdpa', { vdpa: [{ path: '/dev/vhost-vdpa-0' }] }],
    ['tpm', { tpm: { socket: '/s' } }],
    ['ivshmem', { ivshmem: { path: '/m' } }],
    ['pvmemcontrol', { pvmemcontrol: {} }],
    ['landlock_enable', { landlock_enable: true }],
    ['payload.igvm', { payload: { igvm: '/i' } }],
    ['payload.fw_cfg_config', { payload: { kernel: '/k', fw_cfg_config: {} } }],
    ['More than 16 PCI segments', { platform: { num_pci_segments: 17 } }],
    ['cpus.kvm_hyperv', { cpus: { boot_vcpus: 1, max_vcpus: 1, kvm_hyperv: true } }],
    ['cpus.features.amx', { cpus: { boot_vcpus: 1, max_vcpus: 1, features: { amx: true } } }],
    ['More than 254 vCPUs', { cpus: { boot_vcpus: 255, max_vcpus: 255 } }],
    ['cpus.core_scheduling Vcpu', { cpus: { boot_vcpus: 1, max_vcpus: 1, core_scheduling: 'Vcpu' } }],
    ['Image type FlatVmdk (/d)', { disks: [{ path: '/d', image_type: 'FlatVmdk' }] }],
  ])('says that %s is not supported', (what, value) => {
    expect(() => checkBootable(config(value))).toThrow(
      expect.objectContaining({ kind: 'unsupported', message: `${what} is not supported yet` }),
    );
  });

  it('wants a path for each disk, which a configuration alone may do without', () => {
    expect(() => checkBootable(config({ disks: [{ id: 'x' }] }))).toThrow('A disk needs a path');
  });

  it('has zones with a backing of their own, and plain memory as the only one', () => {
    const common = { hotplug_method: 'VirtioMem' } as const;
    const zones = [
      zone('a', { shared: true, hotplug_size: 8192 }),
      zone('b', { hugepages: true, size: 2 ** 21 }),
    ];
    expect(guestMemory(config({ memory: { size: 0, ...common, zones } }).memory)).toMatchObject({
      zones: [
        { id: 'a', size: 4096, shared: true, hugepages: false, hotplug_size: 8192 },
        { id: 'b', size: 2 ** 21, shared: false, hugepages: true, hotplug_size: 0 },
      ],
      growth: 0,
      thp: true,
    });
    const plain = { size: 4096, hotplug_size: 2 ** 27 };
    expect(guestMemory(config({ memory: { ...plain, ...common } }).memory)).toMatchObject({
      zones: [{ id: 'mem0', size: 4096, hotplug_size: 2 ** 27 }],
      growth: 0,
    });
    expect(guestMemory(config({ memory: plain }).memory)).toMatchObject({
      zones: [{ id: 'mem0', hotplug_size: 0 }],
      growth: 2 ** 27,
    });
  });
});
