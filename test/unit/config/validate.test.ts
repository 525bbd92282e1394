import { describe, expect, it } from 'vitest';
import type { ConfigError } from '../../../src/config/configError.ts';
import { decode } from '../../../src/config/decode.ts';
import { validateVmConfig } from '../../../src/config/validate.ts';
import { vmConfig } from '../../../src/config/vmConfig.ts';

const payload = { kernel: '/k' };

function check(value: object): void {
  validateVmConfig(decode(vmConfig, { payload, ...value }));
}

function cpus(extra: object): object {
  return { cpus: { boot_vcpus: 1, max_vcpus: 1, ...extra } };
}

function group(id: string, size = 1): object {
  return { id, rate_limiter_config: { bandwidth: { size, refill_time: 1 } } };
}

function disk(extra: object): object {
  return { disks: [{ path: '/d', ...extra }] };
}

describe('validation', () => {
  it.each([
    {},
    cpus({ boot_vcpus: 254, max_vcpus: 254 }),
    cpus({
      max_vcpus: 4,
      topology: { threads_per_core: 2, cores_per_die: 1, dies_per_package: 1, packages: 2 },
    }),
    disk({ queue_size: 4 }),
    disk({ queue_size: 32_768 }),
    disk({ serial: 'x'.repeat(20) }),
    disk({ rate_limiter_config: { ops: { size: 0, refill_time: 0 } } }),
    disk({ rate_limiter_config: { ops: { size: 1, refill_time: 1 } } }),
    disk({ queue_affinity: [{ queue_index: 0, host_cpus: [0, 1] }] }),
    { ...disk({ rate_limit_group: 'g' }), rate_limit_groups: [group('g')] },
    { serial: { mode: 'Tty' }, console: { mode: 'Tty' } },
    { memory: { size: 2 ** 30, hugepages: true, hugepage_size: 2 ** 21 } },
    { payload: { firmware: '/f', cmdline: 'x' } },
    { disks: [{ path: '/a', pci_device_id: 31 }], rng: { src: '/dev/urandom', pci_device_id: 1 } },
    { disks: Array.from({ length: 29 }, () => ({ path: '/d' })) },
  ])('accepts %j', (value) => {
    expect(() => check(value)).not.toThrow();
  });

  it.each([
    [{ payload: null }, 'No bootitem provided: neither firmware nor kernel'],
    [{ payload: { cmdline: 'x' } }, 'No bootitem provided: neither firmware nor kernel'],
    [{ payload: { kernel: '/k', firmware: '/f' } }, 'Firmware and kernel are exclusive'],
    [cpus({ boot_vcpus: 0 }), 'at least 1'],
    [cpus({ boot_vcpus: 2 }), 'boot_vcpus (2) is greater than max_vcpus (1)'],
    [cpus({ topology: { threads_per_core: 0, cores_per_die: 1, dies_per_package: 1, packages: 1 } }), 'zero'],
    [
      cpus({
        max_vcpus: 3,
        topology: { threads_per_core: 3, cores_per_die: 1, dies_per_package: 1, packages: 1 },
      }),
      '2 threads a core',
    ],
    [
      cpus({
        max_vcpus: 3,
        topology: { threads_per_core: 2, cores_per_die: 1, dies_per_package: 1, packages: 1 },
      }),
      'The product of cpus.topology (2) is not max_vcpus (3)',
    ],
    [cpus({ affinity: [{ vcpu: 1, host_cpus: [0] }] }), 'vCPU 1, which does not exist'],
    [{ memory: { size: 0 } }, 'must not be 0'],
    [{ memory: { size: 4097 } }, 'not a multiple of 4096'],
    [{ memory: { size: 4096, mergeable: true, shared: true } }, 'both mergeable and shared'],
    [{ memory: { size: 4096, hugepage_size: 4096 } }, 'needs hugepages=on'],
    [{ memory: { size: 6000, hugepages: true, hugepage_size: 6000 } }, 'not a power of two'],
    [disk({ vhost_socket: '/s' }), 'The disk /d cannot have both a path and a vhost-user socket'],
    [{ disks: [{ vhost_user: true }] }, 'is served by vhost-user, which needs a socket'],
    [{ disks: [{ vhost_user: true, vhost_socket: '/s' }] }, 'needs --memory shared=on or hugepages=on'],
    [{ fs: [{ tag: 't', socket: '/s' }] }, 'needs --memory shared=on or hugepages=on'],
    [{ fs: [{ tag: 'x'.repeat(37), socket: '/s' }] }, 'is not of 1 to 36 bytes'],
    [{ fs: [{ tag: 't', socket: '/s', num_queues: 2 }] }, 'more queues (2) than there can be vCPUs (1)'],
    [{ generic_vhost_user: [{ socket: '/s', queue_sizes: [], device_type: 1 }] }, 'needs queue_sizes'],
    [{ generic_vhost_user: [{ socket: '/s', queue_sizes: [8], device_type: 23 }] }, 'no vhost-user back end'],
    [{ devices: [{}] }, 'either a path or an fd'],
    [{ devices: [{ path: '/a', x_exclude_mmap_bars: [6] }] }, 'no BAR 6'],
    [{ user_devices: [{ socket: '/s', iommu: true }] }, 'cannot be behind an IOMMU'],
    [{ user_devices: [{ socket: '/s' }] }, 'The vfio-user device /s needs --memory shared=on'],
    [{ payload: { firmware: '/f', igvm: '/i' } }, 'Firmware and igvm are exclusive'],
    [{ payload: { kernel: '/k', host_data: 'ff' } }, '64 hexadecimal digits'],
    [
      { payload: { kernel: '/k', fw_cfg_config: { items: { item_list: [{ name: 'n' }] } } } },
      'a file or a string',
    ],
    [{ memory: { size: 4096, zones: [{ id: 'a', size: 4096 }] } }, 'the memory size must be 0'],
    [{ memory: { size: 0, zones: [{ id: 'a', size: 0 }] } }, 'The memory zone a has size 0'],
    [
      { memory: { size: 0, zones: Array.from({ length: 257 }, (_, i) => ({ id: `z${i}`, size: 4096 })) } },
      '257 memory zones are more than a machine can have (256)',
    ],
    [
      { memory: { size: 0, zones: [{ id: 'a', size: 4096, hotplug_size: 4096 }] } },
      'needs hotplug_method=virtio-mem',
    ],
    [{ memory: { size: 4096, hotplug_size: 0 } }, 'hotplug_size must not be 0'],
    [{ memory: { size: 4096, hotplugged_size: 1 } }, 'hotplugged_size needs hotplug_method=virtio-mem'],
    [{ memory: { size: 512 } }, 'sizes are in bytes unless a K, M or G follows: 512M'],
    [{ platform: { num_pci_segments: 97 } }, '1 to 96 PCI segments'],
    [{ platform: { iommu_segments: [1] } }, 'names PCI segment 1, which does not exist'],
    [{ platform: { iommu_segments: [0] } }, 'needs iommu=on'],
    [{ platform: { iommu_address_width_bits: 65 } }, 'at most 64 bits'],
    [{ platform: { iommu_address_width_bits: 11 } }, 'at least 12 bits'],
    [{ balloon: { size: 1, iommu: true } }, 'A balloon cannot be behind an IOMMU'],
    [{ platform: { iommufd_fd: 7 } }, 'needs iommufd=on'],
    [{ pci_segments: [{ pci_segment: 1 }] }, 'PCI segment 1 does not exist'],
    [{ pci_segments: [{ mmio32_aperture_weight: 0 }] }, 'an aperture of weight 0'],
    [disk({ pci_segment: 1 }), 'PCI segment 1 does not exist'],
    [{ numa: [{ guest_numa_id: 1 }, { guest_numa_id: 1 }] }, 'NUMA node 1 is there twice'],
    [{ numa: [{ guest_numa_id: 0, memory_zones: ['z'] }] }, 'a memory zone "z" that does not exist'],
    [{ numa: [{ guest_numa_id: 1, pci_segments: [0] }] }, 'only be in NUMA node 0'],
    [{ numa: [{ guest_numa_id: 256 }] }, 'has a number above 255'],
    [{ numa: [{ guest_numa_id: 0, cpus: [1] }] }, 'names vCPU 1, which does not exist'],
    [
      {
        numa: [
          { guest_numa_id: 0, cpus: [0] },
          { guest_numa_id: 1, cpus: [0] },
        ],
      },
      'vCPU 0 is in two NUMA nodes',
    ],
    [
      { numa: [{ guest_numa_id: 0, distances: [{ destination: 1, distance: 20 }] }] },
      'distance 20 to 1, which is no node',
    ],
    ...(
      [
        [1, 10],
        [1, 255],
        [0, 11],
      ] as const
    ).map(
      ([destination, distance]) =>
        [
          { numa: [{ guest_numa_id: 0, distances: [{ destination, distance }] }, { guest_numa_id: 1 }] },
          'it must be 10 to itself, and from 11 to 254 to others',
        ] as [object, string],
    ),
    [
      { memory: { size: 0, zones: [{ id: 'a', size: 4096, host_numa_node: 1024 }] } },
      'no host has a NUMA node 1024',
    ],
    [{ landlock_rules: [{ path: '/l', access: 'x' }] }, 'give r, w or rw'],
    [cpus({ max_vcpus: 8193 }), 'greater than 8192'],
    [disk({ num_queues: 0 }), 'at least one queue'],
    [
      { ...disk({ rate_limit_group: 'g', rate_limiter_config: {} }), rate_limit_groups: [group('g')] },
      'cannot have both rate_limiter_config and rate_limit_group',
    ],
    [disk({ rate_limit_group: 'g' }), 'rate limit group g, which does not exist'],
    [{ rate_limit_groups: [group('g', 0)] }, 'rate limit group g limits nothing'],
    [disk({ queue_affinity: [{ queue_index: 1, host_cpus: [0] }] }), 'has no queue 1'],
    [disk({ num_queues: 2 }), 'more queues (2) than there can be vCPUs (1)'],
    [disk({ queue_size: 2 }), 'power of two from 4 to 32768'],
    [disk({ queue_size: 100 }), 'power of two from 4 to 32768'],
    [disk({ serial: 'ü'.repeat(11) }), 'more than 20 bytes'],
    [disk({ id: '__x' }), 'must not start with __'],
    [disk({ id: '' }), 'An identifier must not be empty'],
    [disk({ pci_device_id: 0 }), 'host bridge'],
    [disk({ pci_device_id: 32 }), 'PCI slot 32 does not exist'],
    [
      {
        disks: [
          { path: '/a', pci_device_id: 5 },
          { path: '/b', pci_device_id: 5 },
        ],
      },
      'given to two devices',
    ],
    [{ disks: Array.from({ length: 30 }, () => ({ path: '/d' })) }, '32 PCI devices do not fit'],
    [{ serial: { mode: 'File' } }, 'serial in mode File needs a file'],
    [{ console: { mode: 'File' } }, 'console in mode File needs a file'],
    [{ debug_console: { mode: 'File' } }, 'debug_console in mode File needs a file'],
    [{ serial: { mode: 'Null', log: '/l' } }, 'serial in mode Null has no log'],
    [{ console: { mode: 'Pty', log: '' } }, 'console.log needs a path'],
    [{ serial: { mode: 'Socket' } }, 'serial in mode Socket needs a socket'],
  ])('refuses %j', (value, message) => {
    expect(() => check(value)).toThrow(message);
    try {
      check(value);
    } catch (error) {
      expect((error as ConfigError).kind).toBe('invalid');
    }
  });

  it.each([
    [{ console: { mode: 'Socket', socket: '/s' } }, 'console in mode Socket'],
    [{ debug_console: { mode: 'Socket' } }, 'debug_console in mode Socket'],
  ])('says what is not supported in %j', (value, what) => {
    expect(() => check(value)).toThrow(`${what} is not supported yet`);
  });

  it('tells duplicate identifiers from other mistakes', () => {
    try {
      check({
        disks: [
          { path: '/a', id: 'd' },
          { path: '/b', id: 'd' },
        ],
      });
      expect.unreachable();
    } catch (error) {
      expect([(error as ConfigError).kind, (error as ConfigError).message]).toEqual([
        'duplicate',
        'Identifier d is not unique',
      ]);
    }
  });
});
