import { describe, expect, it } from 'vitest';
import { configFromOptions } from '../../../src/config/libraryOptions.ts';

describe('the library options', () => {
  it('are short for a configuration', () => {
    const config = configFromOptions({
      kernel: '/k',
      cmdline: 'quiet',
      cpus: 2,
      memory: '1G',
      disks: ['/a', { path: '/b', readonly: true }],
      networks: ['user', { tap: 'tap0' }, { user: true, forward: ['tcp:2222:22'] }],
      serial: 'stream',
      debugConsole: { file: '/log' },
      watchdog: true,
    });
    expect(config.payload).toEqual({ kernel: '/k', cmdline: 'quiet' });
    expect([config.cpus.boot_vcpus, config.cpus.max_vcpus]).toEqual([2, 2]);
    expect(config.memory.size).toBe(2 ** 30);
    expect(config.disks?.map((disk) => [disk.path, disk.readonly, disk.image_type])).toEqual([
      ['/a', false, 'Raw'],
      ['/b', true, 'Unknown'],
    ]);
    expect(config.net?.map(({ user, tap, forward }) => [user, tap, forward])).toEqual([
      [true, undefined, undefined],
      [false, 'tap0', undefined],
      [true, undefined, ['tcp:2222:22']],
    ]);
    expect(config.serial).toEqual({ mode: 'Null' });
    expect(config.debug_console).toEqual({ mode: 'File', file: '/log' });
    expect(config.watchdog).toBe(true);
  });

  it('leave the terminal alone unless told', () => {
    const config = configFromOptions({ kernel: '/k' });
    expect([config.serial.mode, config.console.mode]).toEqual(['Null', 'Off']);
    expect(configFromOptions({ kernel: '/k', console: 'inherit' }).console.mode).toBe('Tty');
  });

  it.each([
    [4096, 4096],
    ['4096', 4096],
    ['512M', 2 ** 29],
    ['3K', 3072],
  ])('take %s as memory', (memory, bytes) => {
    expect(configFromOptions({ kernel: '/k', memory }).memory.size).toBe(bytes);
  });

  it.each(['', 'M', '1.5G', '1T', '-1M', '1MB'])('refuse "%s" as memory', (memory) => {
    expect(() => configFromOptions({ kernel: '/k', memory })).toThrow();
  });

  it('may be the object of the REST API', () => {
    const config = configFromOptions({ payload: { kernel: '/k' }, console: { mode: 'Null' } });
    expect(config.console.mode).toBe('Null');
    expect(config.serial.mode).toBe('Null');
  });

  it("take the command line's names of enumerations as well as the REST API's", () => {
    const disks = [
      { path: '/a', image_type: 'vhd', lock_granularity: 'Full' },
      { path: '/b', image_type: 'FixedVhd', lock_granularity: 'full' },
    ] as const;
    const memory = { size: 2 ** 29, hotplug_method: 'virtio-mem' } as const;
    const short = configFromOptions({ kernel: '/k', disks, memory, console: 'tty' });
    const long = configFromOptions({ payload: { kernel: '/k' }, disks, memory, console: { mode: 'tty' } });
    for (const config of [short, long]) {
      const types = config.disks?.map(({ image_type, lock_granularity }) => [image_type, lock_granularity]);
      expect(types).toEqual([
        ['FixedVhd', 'Full'],
        ['FixedVhd', 'Full'],
      ]);
      expect([config.memory.hotplug_method, config.console.mode]).toEqual(['VirtioMem', 'Tty']);
    }
    expect(() =>
      configFromOptions({ kernel: '/k', disks: [{ path: '/a', image_type: 'iso' as 'raw' }] }),
    ).toThrow('disks[0].image_type: unknown variant `iso`');
  });

  it('refuse modes that do not exist', () => {
    expect(() => configFromOptions({ kernel: '/k', serial: 'teletype' as 'pty' })).toThrow(
      '"teletype" is no mode of this device',
    );
  });

  it.each([
    [{ kernal: '/k' }, 'unknown field "kernal"; did you mean "kernel"?'],
    [{ kernel: '/k', frobnicate: 1 }, 'unknown field "frobnicate"'],
    [
      { kernel: '/k', disks: [{ path: '/d' }, { path: '/d', readOnly: true }] },
      'disks[1]: unknown field "readOnly"; did you mean "readonly"?',
    ],
    [
      { kernel: '/k', cpus: { boot_vcpus: 1, max_vcpus: 1, affinity: [{ vcpus: 0 }] } },
      'cpus.affinity[0]: unknown field "vcpus"; did you mean "vcpu"?',
    ],
    [{ kernel: '/k', console: { file: '/f', append: true } }, 'console: unknown field "append"'],
    [
      { payload: { kernel: '/k', cmd_line: '' } },
      'payload: unknown field "cmd_line"; did you mean "cmdline"?',
    ],
    [{ payload: { kernel: '/k' }, network: [] }, 'unknown field "network"'],
    [undefined, 'The options of a VM are an object'],
    [null, 'The options of a VM are an object'],
    ['/k', 'The options of a VM are an object'],
    [[{ kernel: '/k' }], 'The options of a VM are an object'],
    [{ kernel: '/k', disks: '/d' }, 'disks: invalid type: string "/d", expected an array'],
    [{ kernel: '/k', disks: [5] }, 'disks[0]: invalid type: number `5`, expected an object'],
    [{ kernel: '/k', networks: 'user' }, 'net: invalid type: string "user", expected an array'],
    [{ kernel: '/k', pmem: {} }, 'pmem: invalid type: object, expected an array'],
    [{ kernel: '/k', serial: [] }, '"" is no mode of this device'],
    [{ kernel: '/k', serial: 'constructor' }, '"constructor" is no mode of this device'],
  ])('refuse what is not known, or not what its type says: %j', (options, message) => {
    expect(() => configFromOptions(options as never)).toThrow(
      expect.objectContaining({ message, kind: 'malformed', code: 'ERR_TSVMM_CONFIG' }),
    );
  });

  it('may have aliases', () => {
    expect(configFromOptions({ kernel: '/k', platform: { uuid: 'u' } as object }).platform).toMatchObject({
      system_uuid: 'u',
    });
  });
});
