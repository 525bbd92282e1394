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
    { serial: { mode: 'Tty' }, console: { mode: 'Off' } },
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
    [{ memory: { size: 4096, hugepage_size: 4096 } }, 'needs memory.hugepages'],
    [{ memory: { size: 6000, hugepages: true, hugepage_size: 6000 } }, 'not a power of two'],
    [{ disks: [{}] }, 'A disk needs a path'],
    [disk({ num_queues: 0 }), 'at least one queue'],
    [
      { ...disk({ rate_limit_group: 'g', rate_limiter_config: {} }), rate_limit_groups: [group('g')] },
      'cannot have both rate_limiter_config and rate_limit_group',
    ],
    [disk({ rate_limit_group: 'g' }), 'rate limit group g, which does not exist'],
    [{ rate_limit_groups: [group('g', 0)] }, 'rate limit group g limits nothing'],
    [disk({ queue_affinity: [{ queue_index: 1, host_cpus: [0] }] }), 'has no queue 1'],
    [disk({ num_queues: 2 }), 'more queues (2) than there are vCPUs (1)'],
    [disk({ queue_size: 2 }), 'power of two from 4 to 32768'],
    [disk({ queue_size: 100 }), 'power of two from 4 to 32768'],
    [disk({ serial: 'ü'.repeat(11) }), 'more than 20 bytes'],
    [disk({ id: '__x' }), 'must not start with __'],
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
    [{ serial: { mode: 'Socket' } }, 'serial in mode Socket needs a socket'],
    [{ serial: { mode: 'Tty' } }, 'cannot both use the terminal'],
  ])('refuses %j', (value, message) => {
    expect(() => check(value)).toThrow(message);
    try {
      check(value);
    } catch (error) {
      expect((error as ConfigError).kind).toBe('invalid');
    }
  });

  it.each([
    [cpus({ boot_vcpus: 255, max_vcpus: 255 }), 'More than 254 vCPUs'],
    [cpus({ core_scheduling: 'Vcpu' }), 'cpus.core_scheduling Vcpu'],
    [disk({ image_type: 'FlatVmdk' }), 'Image type FlatVmdk (/d)'],
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
