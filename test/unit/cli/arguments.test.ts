import { describe, expect, it } from 'vitest';
import { parseArguments, type RunOptions } from '../../../src/cli/arguments.ts';
import { UsageError } from '../../../src/cli/usageError.ts';
import { ConfigError } from '../../../src/config/configError.ts';
import type { VmConfig } from '../../../src/config/vmConfig.ts';

function run(...args: string[]): RunOptions {
  const invocation = parseArguments(args);
  if (invocation.action !== 'run') throw new Error(`action is ${invocation.action}`);
  return invocation.options;
}

function vm(...args: string[]): VmConfig {
  const config = run('--kernel', '/k', ...args).vm;
  if (config === undefined) throw new Error('no VM');
  return config;
}

function error(...args: string[]): unknown {
  try {
    parseArguments(args);
  } catch (caught) {
    return caught;
  }
  throw new Error('was accepted');
}

describe('flags of the VM', () => {
  it('have the defaults of the reference', () => {
    const config = vm();
    expect(config.payload).toEqual({ kernel: '/k' });
    expect([config.cpus.boot_vcpus, config.cpus.max_vcpus]).toEqual([1, 1]);
    expect(config.memory.size).toBe(512 * 2 ** 20);
    expect([config.serial.mode, config.console.mode, config.debug_console.mode]).toEqual([
      'Null',
      'Tty',
      'Off',
    ]);
  });

  it('--disk with limits and the CPUs of its queues', () => {
    const limits = 'bw_size=1000,bw_refill_time=100,ops_size=5,ops_refill_time=10,ops_one_time_burst=7';
    const { disks } = vm(
      '--disk',
      `path=/a,${limits}`,
      'path=/b,rate_limit_group=g,queue_affinity=[0@[1,3-4],1@2]',
    );
    expect(disks?.[0]?.rate_limiter_config).toEqual({
      bandwidth: { size: 1000, one_time_burst: 0, refill_time: 100 },
      ops: { size: 5, one_time_burst: 7, refill_time: 10 },
    });
    expect(disks?.[1]).toMatchObject({
      rate_limit_group: 'g',
      queue_affinity: [
        { queue_index: 0, host_cpus: [1, 3, 4] },
        { queue_index: 1, host_cpus: [2] },
      ],
    });
    expect(disks?.[1]).not.toHaveProperty('rate_limiter_config');
  });

  it('--disk with half a limit has it off, and what is unset is not there', () => {
    const [half, unset, both] =
      vm('--disk', 'path=/a,bw_size=3', 'path=/b,bw_size=,ops_refill_time=', 'path=/c,bw_size=,ops_size=1')
        .disks ?? [];
    expect(half?.rate_limiter_config).toEqual({
      bandwidth: { size: 3, one_time_burst: 0, refill_time: 0 },
      ops: null,
    });
    expect(unset).not.toHaveProperty('rate_limiter_config');
    expect(both?.rate_limiter_config).toMatchObject({ bandwidth: null, ops: { size: 1, refill_time: 0 } });
  });

  it('--platform iommufd_fd means iommufd, unless that is said to be off', () => {
    expect(vm('--platform', 'iommufd_fd=7').platform).toMatchObject({ iommufd: true, iommufd_fd: 7 });
    expect(vm('--platform', 'iommufd=off,iommufd_fd=7').platform).toMatchObject({ iommufd: false });
  });

  it('--rate-limit-group', () => {
    const { rate_limit_groups } = vm(
      '--rate-limit-group',
      'id=g,ops_size=1,ops_refill_time=2',
      'id=h,bw_size=1,bw_refill_time=1',
    );
    expect(rate_limit_groups).toEqual([
      {
        id: 'g',
        rate_limiter_config: { bandwidth: null, ops: { size: 1, one_time_burst: 0, refill_time: 2 } },
      },
      {
        id: 'h',
        rate_limiter_config: { bandwidth: { size: 1, one_time_burst: 0, refill_time: 1 }, ops: null },
      },
    ]);
  });

  it('--cpus', () => {
    const { cpus } = vm(
      '--cpus',
      'boot=2,topology=1:2:1:1,affinity=[0@[0,2-3],1@1],nested=off,core_scheduling=off',
    );
    expect(cpus).toMatchObject({
      boot_vcpus: 2,
      max_vcpus: 2,
      topology: { threads_per_core: 1, cores_per_die: 2, dies_per_package: 1, packages: 1 },
      affinity: [
        { vcpu: 0, host_cpus: [0, 2, 3] },
        { vcpu: 1, host_cpus: [1] },
      ],
      nested: false,
      core_scheduling: 'Off',
    });
    expect(vm('--cpus', 'max=4').cpus).toMatchObject({ boot_vcpus: 1, max_vcpus: 4 });
    expect(vm('--cpus', 'boot=2,boot=3').cpus.boot_vcpus).toBe(3);
    expect(vm('--cpus', 'boot=2,boot=').cpus.boot_vcpus).toBe(1);
  });

  it('--memory', () => {
    expect(vm('--memory', 'size=1G,shared=on,hugepages=on,hugepage_size=2M,thp=off').memory).toMatchObject({
      size: 2 ** 30,
      shared: true,
      hugepages: true,
      hugepage_size: 2 ** 21,
      thp: false,
    });
    expect(vm('--memory', 'prefault=on').memory).toMatchObject({ size: 2 ** 29, prefault: true });
  });

  it('--disk takes several values and may be repeated', () => {
    const { disks } = vm(
      '--disk',
      'path=/a,readonly=on',
      'path="/b,c",image_type=raw',
      '--disk',
      'path=/d,id=x',
    );
    expect(disks?.map(({ path, readonly, image_type, id }) => [path, readonly, image_type, id])).toEqual([
      ['/a', true, 'Unknown', undefined],
      ['/b,c', false, 'Raw', undefined],
      ['/d', false, 'Unknown', 'x'],
    ]);
    // The REST API's names as well.
    expect(vm('--disk', 'path=/a,image_type=FixedVhd').disks?.[0]?.image_type).toBe('FixedVhd');
    expect(vm('--disk', 'path=/a,lock_granularity=full,image_type=vhd').disks?.[0]).toMatchObject({
      lock_granularity: 'Full',
      image_type: 'FixedVhd',
    });
  });

  it('--net user needs no value', () => {
    expect(vm('--net', 'user', 'user,forward=[tcp:2222:22,udp:53:53]').net).toMatchObject([
      { user: true },
      { user: true, forward: ['tcp:2222:22', 'udp:53:53'] },
    ]);
  });

  it('--net takes several values and may be repeated', () => {
    const { net } = vm(
      ...['--net', 'tap=tap0,mac=2e:00:00:00:00:01,ip=192.0.2.1,mask=255.255.255.0', 'fd=[3,4],num_queues=4'],
      ...['--net', 'mtu=9000,offload_tso=off,bw_size=1000,bw_refill_time=100'],
    );
    expect(net).toMatchObject([
      { tap: 'tap0', mac: '2e:00:00:00:00:01', ip: '192.0.2.1', mask: '255.255.255.0', num_queues: 2 },
      { fds: [3, 4], num_queues: 4, queue_size: 256, offload_tso: true },
      { mtu: 9000, offload_tso: false, rate_limiter_config: { bandwidth: { size: 1000, refill_time: 100 } } },
    ]);
  });

  it.each([
    ['off', { mode: 'Off' }],
    ['null', { mode: 'Null' }],
    ['pty', { mode: 'Pty' }],
    ['tty', { mode: 'Tty' }],
    ['file=/x', { mode: 'File', file: '/x' }],
    ['file="/x,y"', { mode: 'File', file: '/x,y' }],
    ['socket=/s', { mode: 'Socket', socket: '/s' }],
  ])('--serial %s', (text, serial) => {
    expect(vm('--serial', text).serial).toEqual(serial);
  });

  it('the other character devices', () => {
    expect(vm('--console', 'pty,pci_device_id=3').console).toMatchObject({ mode: 'Pty', pci_device_id: 3 });
    expect(vm('--debug-console', 'file=/x,iobase=0x402').debug_console).toEqual({
      mode: 'File',
      file: '/x',
      iobase: 0x402,
    });
    expect(vm('--debug-console', 'tty').debug_console).toEqual({ mode: 'Tty', iobase: 0xe9 });
  });

  it('the rest', () => {
    const config = vm(
      '--rng',
      'src=/dev/random',
      '--watchdog',
      '--platform',
      'uuid=u,oem_strings=[a,"b,c"]',
      '--cmdline=-x y',
    );
    expect(config.rng.src).toBe('/dev/random');
    expect(config.watchdog).toBe(true);
    expect(config.platform).toMatchObject({ system_uuid: 'u', oem_strings: ['a', 'b,c'] });
    expect(config.payload?.cmdline).toBe('-x y');
    expect(run('--firmware', '/f').vm?.payload).toEqual({ firmware: '/f' });
  });

  it('what the reference has besides', () => {
    const config = vm(
      ...[
        '--memory',
        'size=0,file=/legacy,hotplug_method=virtio-mem',
        '--memory-zone',
        'id=a,size=1G',
        'id=b,size=2G',
      ],
      ...['--numa', 'guest_numa_id=0,cpus=[0,2-3],distances=[1@20,2@30],memory_zones=[a,b],pci_segments=[0]'],
      ...[
        '--pci-segment',
        'pci_segment=0,mmio32_aperture_weight=2',
        '--platform',
        'num_pci_segments=2,iommufd=on',
      ],
      ...['--fs', 'tag=t,socket=/s', '--generic-vhost-user', 'socket=/g,queue_sizes=[8,16],device_type=scsi'],
      ...[
        '--device',
        'path=/sys/d,x_exclude_mmap_bars=[0-1]',
        '--user-device',
        'socket=/u',
        '--vdpa',
        'path=/v',
      ],
      ...['--tpm', 'socket=/t', '--ivshmem', 'path=/i', '--pvmemcontrol', '--landlock', '--gdb', 'path=/g'],
      ...['--landlock-rules', 'path=/l,access=rw', '--host-data', 'ff', '--igvm', '/igvm'],
      ...['--fw-cfg-config', 'acpi_table=off,items=[name=a,file=/f:name=b,string="x:y,z"]'],
    );
    expect(config).toMatchObject({
      memory: {
        size: 0,
        hotplug_method: 'VirtioMem',
        zones: [
          { id: 'a', size: 2 ** 30 },
          { id: 'b', size: 2 ** 31 },
        ],
      },
      numa: [
        {
          guest_numa_id: 0,
          cpus: [0, 2, 3],
          distances: [
            { destination: 1, distance: 20 },
            { destination: 2, distance: 30 },
          ],
          memory_zones: ['a', 'b'],
          pci_segments: [0],
        },
      ],
      pci_segments: [{ pci_segment: 0, mmio32_aperture_weight: 2, mmio64_aperture_weight: 1 }],
      platform: { num_pci_segments: 2, iommufd: true },
      fs: [{ tag: 't', socket: '/s', num_queues: 1, queue_size: 1024 }],
      generic_vhost_user: [{ socket: '/g', queue_sizes: [8, 16], device_type: 8 }],
      devices: [{ path: '/sys/d', x_exclude_mmap_bars: [0, 1] }],
      user_devices: [{ socket: '/u' }],
      vdpa: [{ path: '/v', num_queues: 1 }],
      tpm: { socket: '/t' },
      ivshmem: { path: '/i', size: 2 ** 27 },
      pvmemcontrol: {},
      landlock_enable: true,
      landlock_rules: [{ path: '/l', access: 'rw' }],
      gdb: true,
      payload: {
        igvm: '/igvm',
        host_data: 'ff',
        fw_cfg_config: {
          acpi_tables: false,
          e820: true,
          items: {
            item_list: [
              { name: 'a', file: '/f' },
              { name: 'b', string: 'x:y,z' },
            ],
          },
        },
      },
    });
    expect(config.memory).not.toHaveProperty('file');
    expect(vm('--balloon', 'deflate_on_oom=on').balloon).toMatchObject({ size: 0, deflate_on_oom: true });
    expect(vm('--memory-zone', 'id=a,size=1G').memory).toMatchObject({ size: 2 ** 29, zones: [{ id: 'a' }] });
    expect(run('--api-socket', '/s', '--log-format', '{msg}').logFormat).toBe('{msg}');
  });

  it.each([
    [['--disk', 'path=/a,size=3'], '--disk: unknown option "size"'],
    [['--disk', 'path=/a,ops_size=1K'], '--disk: ops_size: "1K" is not an unsigned integer'],
    [['--disk', 'path=/a,bw_foo=3'], '--disk: unknown option "bw_foo"'],
    [['--disk', 'path=/a,queue_affinity=0@1'], '--disk: queue_affinity: "0@1" is not in brackets'],
    [['--rate-limit-group', 'bw_size=1,bw_refill_time=1'], 'rate_limit_groups[0]: missing field `id`'],
    [['--rate-limit-group', 'id=g'], 'missing field `rate_limiter_config`'],
    [['--disk', 'path=/a,readonly=maybe'], '--disk: readonly: "maybe" is neither on nor off'],
    [['--disk', 'path=/a,image_type=iso'], '--disk: image_type: "iso" is none of raw, qcow2, vhd'],
    [['--disk', 'readonly'], '--disk: "readonly" needs a value'],
    [['--disk', 'path="/a'], 'a quote is not closed'],
    [['--memory', 'size=lots'], '--memory: size: "lots" is not a size'],
    [['--cpus', 'topology=1:2:1'], 'not 4 numbers'],
    [['--cpus', 'features=amy'], '"amy" is none of amx'],
    [['--cpus', 'boot=4294967296'], 'cpus.boot_vcpus: invalid value'],
    [['--serial', 'file='], '--serial: "file=" is none of off'],
    [['--serial', 'tty=1'], '--serial: "tty=1" is none of off'],
    [['--serial', 'nope'], '--serial: "nope" is none of off, null, pty, tty, file=PATH, socket=PATH'],
    [['--console', 'socket=/s'], '--console: "socket=/s" is none of off, null, pty, tty, file=PATH'],
    [['--debug-console', 'iobase=233'], '"233" is not a number that starts with 0x'],
    [['--seccomp', 'log'], '--seccomp log is not supported yet'],
    [['--api-socket', 'path='], '--api-socket needs a path'],
    [['--api-socket', 'fd=x'], '--api-socket: "x" is not an unsigned integer'],
    [
      ['--gdb', 'tcp::1234'],
      '--gdb: "tcp::1234" is no path: gdb connects to a UNIX socket, as with --gdb path=',
    ],
    [['--event-monitor', 'foo=1'], '--event-monitor takes path=PATH or fd=N, not "foo=1"'],
    [['--event-monitor', '/e'], 'not "/e": write path=/e if that is what is meant'],
    [['--event-monitor', 'path='], '--event-monitor needs a path'],
    [['--serial', ''], '--serial needs one of off, null, pty, tty, file=PATH, socket=PATH'],
    [['--console='], '--console needs one of off, null, pty, tty, file=PATH'],
    [['--debug-console', 'iobase=0x402'], '--debug-console needs one of off, null, pty, tty, file=PATH'],
    [['--gdb', ':1234'], '--gdb: ":1234" is no path'],
    [['--gdb', '1234'], '--gdb: "1234" is no path'],
    [['--gdb', 'unix:/run/g,server=on'], '--gdb: "unix:/run/g,server=on" is no path'],
  ])('refuse %j as configuration', (args, message) => {
    const caught = error('--kernel', '/k', ...args);
    expect((caught as Error).message).toContain(message);
    expect(caught).toBeInstanceOf(ConfigError);
  });
});

describe('flags of the process', () => {
  it('are read', () => {
    expect(
      run(
        '--api-socket',
        'path=/s',
        '--event-monitor',
        'fd=7',
        '--log-file',
        '/l',
        '--no-shutdown',
        '--api-strict',
        '-vv',
        '-v',
      ),
    ).toEqual({
      apiSocket: { path: '/s' },
      eventMonitor: { fd: 7 },
      logFile: '/l',
      noShutdown: true,
      apiStrict: true,
      verbosity: 3,
    });
    expect(run('--api-socket=/bare')).toMatchObject({
      apiSocket: { path: '/bare' },
      verbosity: 0,
      noShutdown: false,
      apiStrict: false,
    });
    expect(run('--api-socket', 'what=/s').apiSocket).toEqual({ path: 'what=/s' });
    expect(run('--api-socket', '/s', '--seccomp', 'false', '--verbose')).toMatchObject({ verbosity: 1 });
  });

  it('help and version win', () => {
    expect(parseArguments(['-h'])).toEqual({ action: 'help' });
    expect(parseArguments(['--help', '--kernel', '/k'])).toEqual({ action: 'help' });
    expect(parseArguments(['-vV'])).toEqual({ action: 'version', verbose: true });
    expect(parseArguments(['--openapi'])).toEqual({ action: 'openapi' });
    expect(parseArguments(['--man'])).toEqual({ action: 'man' });
    expect(parseArguments(['--help', 'disk'])).toEqual({ action: 'help', option: 'disk' });
    expect(parseArguments(['--completions', 'fish'])).toEqual({ action: 'completions', shell: 'fish' });
    expect(parseArguments(['--restore', 'source_url=file:///s'])).toEqual({
      action: 'restore',
      text: 'source_url=file:///s',
    });
  });

  it.each([
    [[], 'nothing to do'],
    [['-v'], 'nothing to do'],
    [['--frobnicate'], "unknown flag '--frobnicate'"],
    [['--toString'], "unknown flag '--toString'"],
    [['-x'], "unknown flag '-x'"],
    [['--'], "unknown flag '--'"],
    [['vmlinux'], "unexpected argument 'vmlinux'"],
    [['--kernel'], '--kernel needs a value'],
    [['--kernel', '--disk'], '--kernel needs a value'],
    [['--disk', '--kernel', '/k'], '--disk needs a value'],
    [['--kernel', '/k', '/l'], "unexpected argument '/l'"],
    [['--kernel', '/k', '--kernel', '/l'], '--kernel was given more than once'],
    [['--watchdog=on', '--kernel', '/k'], '--watchdog takes no value'],
    [['--memory', 'size=1G'], '--memory needs --kernel or --firmware'],
    [['--cmdline', 'x', '--api-socket', '/s'], '--cmdline needs --kernel or --firmware'],
    [['--fs', 'tag=t'], '--fs needs --kernel or --firmware'],
    [['--landlock', '--api-socket', '/s'], '--landlock needs --kernel or --firmware'],
    [['--dbus-service-name', 'x'], '--dbus-service-name is not supported'],
    [['--seccomp', 'maybe', '--kernel', '/k'], '"maybe" is none of true, false, log, errno'],
  ])('refuse %j as usage', (args, message) => {
    const caught = error(...args);
    expect((caught as Error).message).toContain(message);
    expect(caught).toBeInstanceOf(UsageError);
  });

  it.each([['--serial', 'file=caf\ufffd.log'], ['--kernel', '\ufffd'], ['\ufffd']])(
    'are refused where they were not UTF-8: %j',
    (...args) => {
      expect(error(...args)).toMatchObject({
        name: 'ConfigError',
        message: `the argument '${args.at(-1)}' is not UTF-8`,
      });
    },
  );
});
