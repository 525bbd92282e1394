import { describe, expect, it } from 'vitest';
import { ConfigError } from '../../../src/config/configError.ts';
import { decode } from '../../../src/config/decode.ts';
import { sendMigrationData } from '../../../src/config/migration.ts';
import { vmResize, vmResizeDisk, vmResizeZone } from '../../../src/config/requests.ts';
import { type VmConfig, vmConfig } from '../../../src/config/vmConfig.ts';
import { diskConfig } from '../../../src/devices/disk.ts';

function refusal(value: unknown): ConfigError {
  try {
    decode(vmConfig, value);
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
  throw new Error('was accepted');
}

describe('decoding a VmConfig', () => {
  it('fills defaults in', () => {
    const config = decode(vmConfig, {});
    expect(config.cpus).toEqual({
      boot_vcpus: 1,
      max_vcpus: 1,
      kvm_hyperv: false,
      max_phys_bits: 46,
      features: { amx: false },
      nested: true,
      core_scheduling: 'Vm',
      profile: 'Host',
    });
    expect(config.memory.size).toBe(536_870_912);
    expect(config.memory.thp).toBe(true);
    expect(config.rng.src).toBe('/dev/urandom');
    expect(config.serial).toEqual({ mode: 'Null' });
    expect(config.console.mode).toBe('Tty');
    expect(config.debug_console).toEqual({ mode: 'Off', iobase: 0xe9 });
    expect(config.watchdog).toBe(false);
    expect('payload' in config).toBe(false);
    expect('disks' in config).toBe(false);
  });

  it('fills defaults into the objects of an array', () => {
    const { disks } = decode(vmConfig, { disks: [{ path: '/a' }] });
    expect(disks).toEqual([
      {
        pci_segment: 0,
        path: '/a',
        readonly: false,
        direct: false,
        num_queues: 1,
        queue_size: 128,
        vhost_user: false,
        backing_files: false,
        sparse: true,
        image_type: 'Unknown',
        lock_granularity: 'ByteRange',
        disable_io_uring: false,
        disable_aio: false,
      },
    ]);
  });

  it('ignores unknown keys and takes null for absent', () => {
    const config = decode(vmConfig, {
      surprise: 1,
      payload: null,
      memory: { size: 4096, hugepage_size: null },
    });
    expect('surprise' in config).toBe(false);
    expect('payload' in config).toBe(false);
    expect('hugepage_size' in config.memory).toBe(false);
  });

  it('takes the aliases of SMBIOS strings', () => {
    const { platform } = decode(vmConfig, { platform: { serial_number: 'n', uuid: 'u' } });
    expect(platform?.system_serial_number).toBe('n');
    expect(platform?.system_uuid).toBe('u');
  });

  it('does not look at what an object inherits', () => {
    const value = Object.create({ watchdog: true });
    expect(decode(vmConfig, value).watchdog).toBe(false);
    expect(decode(vmConfig, JSON.parse('{"__proto__": {"watchdog": true}}')).watchdog).toBe(false);
  });

  it.each([
    [{ cpus: { boot_vcpus: 1 } }, 'cpus: missing field `max_vcpus`'],
    [{ serial: {} }, 'serial: missing field `mode`'],
    [{ serial: { mode: 'off' } }, /^serial.mode: unknown variant `off`, expected one of `Off`, `Pty`/],
    [{ disks: {} }, 'disks: invalid type: object, expected an array'],
    [{ disks: [{ path: 7 }] }, 'disks[0].path: invalid type: number `7`, expected a string'],
    [{ disks: [{ readonly: 'on' }] }, 'disks[0].readonly: invalid type: string "on", expected a boolean'],
    [{ memory: { size: -1 } }, /^memory.size: invalid value -1, expected an integer/],
    [{ memory: { size: 1.5 } }, /^memory.size: invalid value 1.5/],
    [
      { disks: [{ queue_size: 65_536 }] },
      /^disks\[0\].queue_size: invalid value 65536, expected .* 0 to 65535/,
    ],
    [
      { platform: { uuid: 'a', system_uuid: 'b' } },
      'platform: duplicate field `system_uuid`, also as `uuid`',
    ],
    [[], 'invalid type: array, expected an object'],
    ['x', 'invalid type: string "x", expected an object'],
    [
      { cpus: { boot_vcpus: 1, max_vcpus: 1, affinity: [{ vcpu: 0 }] } },
      'cpus.affinity[0]: missing field `host_cpus`',
    ],
  ])('refuses %j', (value, message) => {
    const error = refusal(value);
    expect(error.kind).toBe('malformed');
    expect(error.message).toMatch(message);
  });

  it.each([
    [
      2n ** 64n,
      'memory.size: invalid value 18446744073709551616, expected an integer from 0 to 18446744073709551615',
    ],
    [Object(4096), 'memory.size: invalid type: floating point `4096`, expected an integer'],
  ])('refuses %s as the JSON reader gives it', (size, message) => {
    expect(refusal({ memory: { size } }).message).toBe(message);
  });

  it.each([
    [
      { downtime_ms: 0 },
      /^downtime_ms: invalid value 0, expected an integer from 1 to 18446744073709551615$/,
    ],
    [{ timeout_s: 0 }, /^timeout_s: invalid value 0/],
    [{ connections: 0 }, /^connections: invalid value 0, expected an integer from 1 to/],
  ])('refuses %j, which must not be 0', (value, message) => {
    expect(() => decode(sendMigrationData, { destination_url: 'unix:/s', ...value })).toThrow(message);
  });

  it('leaves out what is false of a PCI device, as the reference does', () => {
    const config = decode(vmConfig, { fs: null, vdpa: [], disks: [{ path: '/a', iommu: false }] });
    expect('fs' in config).toBe(false);
    expect(config.vdpa).toEqual([]);
    expect(config.disks?.[0] && 'iommu' in config.disks[0]).toBe(false);
    expect(decode(diskConfig, { iommu: true }).iommu).toBe(true);
  });

  it('is strict inside rate limiters', () => {
    const limiter = { bandwidth: { size: 1, refill_time: 1 }, ops: null };
    expect(decode(diskConfig, { rate_limiter_config: limiter }).rate_limiter_config).toEqual({
      bandwidth: { size: 1, one_time_burst: null, refill_time: 1 },
      ops: null,
    });
    expect(() => decode(diskConfig, { rate_limiter_config: { bandwith: {} } })).toThrow(
      'rate_limiter_config: unknown field `bandwith`, expected one of `bandwidth`, `ops`',
    );
  });

  it.each([
    [0, 0],
    [7n, 7],
    [2 ** 53 - 1, 2 ** 53 - 1],
    [2n ** 53n, 2n ** 53n],
    [2n ** 64n - 1n, 2n ** 64n - 1n],
  ])('keeps %s where an integer may have 64 bits', (size, expected) => {
    const limiter = { ops: { size, refill_time: 1 } };
    const decoded = decode(diskConfig, { rate_limiter_config: limiter });
    expect(decoded.rate_limiter_config?.ops?.size).toBe(expected);
  });

  it.each([
    [2n ** 64n, /^ops.size: invalid value 18446744073709551616, expected .* 0 to 18446744073709551615$/],
    [-1n, /^ops.size: invalid value -1, expected an integer/],
    [2 ** 60, /^ops.size: invalid value 1152921504606847000, expected a BigInt/],
    [0.5, /^ops.size: invalid value 0.5, expected an integer/],
  ])('refuses %s there', (size, message) => {
    const error = refusal({ disks: [{ rate_limiter_config: { ops: { size, refill_time: 1 } } }] });
    expect(error.message.replace('disks[0].rate_limiter_config.', '')).toMatch(message);
  });

  it.each([
    'memory.size',
    'memory.hugepage_size',
    'memory.hotplug_size',
    'memory.hotplugged_size',
    'balloon.size',
    'ivshmem.size',
  ])('has 64 bits in %s', (path) => {
    const [object, field] = path.split('.') as [keyof VmConfig, string];
    const required = { memory: { size: 0 }, ivshmem: { path: '/p' } }[object as string];
    const value = decode(vmConfig, { [object]: { ...required, [field]: 2n ** 64n - 1n } })[object];
    expect(value).toMatchObject({ [field]: 2n ** 64n - 1n });
  });

  it('has 64 bits in zones, persistent memory and requests', () => {
    const most = 2n ** 64n - 1n;
    const zone = { id: 'z', size: most, hotplug_size: most, hotplugged_size: most };
    const config = decode(vmConfig, {
      memory: { size: 0, zones: [zone] },
      pmem: [{ file: '/p', size: most }],
    });
    expect(config.memory.zones).toMatchObject([zone]);
    expect(config.pmem).toMatchObject([{ size: most }]);
    expect(decode(vmResize, { desired_ram: most, desired_balloon: most })).toEqual({
      desired_ram: most,
      desired_balloon: most,
    });
    expect(decode(vmResizeDisk, { id: 'd', desired_size: most }).desired_size).toBe(most);
    expect(decode(vmResizeZone, { id: 'z', desired_ram: most }).desired_ram).toBe(most);
  });

  it('shares nothing with its input', () => {
    const input = {
      payload: { kernel: '/k' },
      cpus: { boot_vcpus: 2, max_vcpus: 2, affinity: [{ vcpu: 0, host_cpus: [1] }] },
    };
    const config = decode(vmConfig, input);
    input.payload.kernel = '/other';
    input.cpus.affinity[0]?.host_cpus.push(2);
    expect(config.payload?.kernel).toBe('/k');
    expect(config.cpus.affinity?.[0]?.host_cpus).toEqual([1]);
  });
});
