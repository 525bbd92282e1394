/**
 * The words of `tsvmm ctl`, next to what the reference's client does with them: the request that follows, or the exit
 * code.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readJson } from '../../../../src/api/rest/jsonReader.ts';
import { advice } from '../../../../src/cli/advice.ts';
import { parseCtl } from '../../../../src/cli/ctl/arguments.ts';
import { type CtlCommand, ctlCommands, ctlDescriptions } from '../../../../src/cli/ctl/commands.ts';
import { answerTimeoutMs, folderOf } from '../../../../src/cli/ctl/ctl.ts';
import { UsageError } from '../../../../src/cli/usageError.ts';
import { ConfigError } from '../../../../src/config/configError.ts';

const wordsOf = (line: string) => line.split(' ').filter((word) => word !== '');

async function requestOf(line: string, folder?: string) {
  const invocation = parseCtl(['--api-socket', '/s', ...wordsOf(line)]);
  if (invocation.action !== 'run') throw new Error(invocation.action);
  const {
    method,
    endpoint,
    body,
    descriptors = [],
  } = await (ctlCommands[invocation.command] as (typeof ctlCommands)[string]).request(
    invocation.words,
    folder,
  );
  return {
    call: `${method} ${endpoint}`,
    body: body === undefined ? undefined : (readJson(body) as Record<string, unknown>),
    descriptors,
  };
}

/** The exit code, and what is said. */
async function refusalOf(line: string): Promise<[number, string]> {
  try {
    await requestOf(line);
  } catch (error) {
    const { message } = error as Error;
    if (error instanceof UsageError) return [2, message + advice(error.subject)];
    if (error instanceof ConfigError) return [1, message + advice(error.subject)];
    throw error;
  }
  throw new Error('not refused');
}

describe('subcommands', () => {
  it.each([
    ['', /gives it back when it is ready to/],
    [' --force', /^a is removed\.$/],
    [' --wait 5', /^a is removed\.$/],
  ])('remove-device a%s says what is so when it is answered', (options, text) => {
    const invocation = parseCtl(['--api-socket', '/s', ...wordsOf(`remove-device a${options}`)]);
    if (invocation.action !== 'run') throw new Error(invocation.action);
    expect(ctlCommands['remove-device']?.done(undefined, invocation.words)).toMatch(text);
  });

  it.each([
    ['--balloon 64M', /^The VM is resized; a guest that runs fills its balloon, .*ready to\.$/],
    ['--cpus 2 --balloon 64M', /starts vCPUs, .*, and fills its balloon/],
    ['--balloon 64M --wait 5', /^The VM is resized\.$/],
  ])('resize %s says what is so when it is answered', (options, text) => {
    const invocation = parseCtl(['--api-socket', '/s', ...wordsOf(`resize ${options}`)]);
    if (invocation.action !== 'run') throw new Error(invocation.action);
    expect(ctlCommands.resize?.done(undefined, invocation.words)).toMatch(text);
  });

  it("resolve paths in this folder for a VM of a supervisor, and else in its process's", async () => {
    expect(folderOf({ name: 'web', dir: undefined })).toBe(process.cwd());
    expect(folderOf({ socket: '/s' })).toBeUndefined();
    const paths = {
      'add-disk path=d.img,socket=': { path: '/me/d.img' },
      'add-disk path=/d.img,id=d.img': { path: '/d.img', id: 'd.img' },
      'add-pmem file=p': { file: '/me/p' },
      'add-vsock cid=3,socket=v': { socket: '/me/v' },
      'add-net tap=t': { tap: 't' },
    };
    for (const [line, expected] of Object.entries(paths)) {
      expect((await requestOf(line, '/me')).body, line).toMatchObject(expected);
    }
    expect((await requestOf('add-disk path=d.img')).body).toMatchObject({ path: 'd.img' });
  });

  it('are those of the reference, and watch', () => {
    expect(Object.keys(ctlDescriptions)).toEqual([
      ...[
        'add-device',
        'add-disk',
        'add-fs',
        'add-generic-vhost-user',
        'add-net',
        'add-pmem',
        'add-user-device',
      ],
      ...[
        'add-vdpa',
        'add-vsock',
        'boot',
        'coredump',
        'counters',
        'create',
        'delete',
        'info',
        'nmi',
        'pause',
        'ping',
      ],
      ...[
        'power-button',
        'reboot',
        'receive-migration',
        'remove-device',
        'resize',
        'resize-disk',
        'resize-zone',
      ],
      ...['restore', 'resume', 'send-migration', 'shutdown', 'shutdown-vmm', 'snapshot', 'watch'],
    ]);
  });

  it.each([
    ['ping', 'GET vmm.ping'],
    ['info', 'GET vm.info'],
    ['counters', 'GET vm.counters'],
    ['shutdown-vmm', 'PUT vmm.shutdown'],
    ...['boot', 'delete', 'pause', 'resume', 'shutdown', 'reboot', 'power-button', 'nmi'].map((name) => [
      name,
      `PUT vm.${name}`,
    ]),
  ])('%s asks %s, without a body', async (line, call) => {
    expect(await requestOf(line as string)).toEqual({ call, body: undefined, descriptors: [] });
  });

  it.each([
    ['resize', 'resize', { desired_vcpus: null, desired_ram: null, desired_balloon: null }],
    [
      'resize --cpus 4 --memory 1G --balloon=64M',
      'resize',
      { desired_vcpus: 4, desired_ram: 1 << 30, desired_balloon: 64 << 20 },
    ],
    [
      'resize --cpus 2 --wait 5',
      'resize',
      { desired_vcpus: 2, desired_ram: null, desired_balloon: null, wait_ms: 5 },
    ],
    ['resize-disk --disk _disk0 --size 8M', 'resize-disk', { id: '_disk0', desired_size: 8 << 20 }],
    ['resize-zone --size 512 --id z', 'resize-zone', { id: 'z', desired_ram: 512 }],
    ['resize-zone --size 1K --id z --wait 9', 'resize-zone', { id: 'z', desired_ram: 1024, wait_ms: 9 }],
    ['remove-device _net1', 'remove-device', { id: '_net1' }],
    ['remove-device --force a', 'remove-device', { id: 'a', force: true }],
    ['remove-device a --force --wait=5', 'remove-device', { id: 'a', force: true, wait_ms: 5 }],
    ['snapshot file:///snap', 'snapshot', { destination_url: 'file:///snap' }],
    ['coredump file:///core', 'coredump', { destination_url: 'file:///core' }],
  ])('%s', async (line, name, body) => {
    expect(await requestOf(line)).toEqual({ call: `PUT vm.${name}`, body, descriptors: [] });
  });

  it.each([
    [
      'add-disk path=/d,readonly=on,bw_size=1,bw_refill_time=2',
      { path: '/d', readonly: true, num_queues: 1 },
    ],
    [
      'add-disk path=/d,bw_size=18446744073709551615,bw_refill_time=2',
      { path: '/d', rate_limiter_config: { bandwidth: { size: 2n ** 64n - 1n } } },
    ],
    ['add-fs tag=t,socket=/s', { tag: 't', socket: '/s', num_queues: 1, queue_size: 1024 }],
    ['add-pmem file=/p,size=2M', { file: '/p', size: 2 << 20 }],
    ['add-vsock cid=3,socket=/v', { cid: 3, socket: '/v' }],
    ['add-vdpa path=/dev/vhost-vdpa-0', { path: '/dev/vhost-vdpa-0', num_queues: 1 }],
    ['add-user-device socket=/u', { socket: '/u' }],
    [
      'add-generic-vhost-user socket=/g,device_type=scsi,queue_sizes=[128]',
      { socket: '/g', device_type: 8, queue_sizes: [128] },
    ],
    ['add-device path=/sys/bus/pci/devices/0', { path: '/sys/bus/pci/devices/0' }],
    ['add-net tap=t0,mac=12:34:56:78:90:ab', { tap: 't0', mac: '12:34:56:78:90:ab', num_queues: 2 }],
  ])('%s sends the object with its defaults', async (line, body) => {
    const request = await requestOf(line);
    expect(request).toMatchObject({ call: `PUT vm.${line.split(' ')[0]}`, body, descriptors: [] });
    expect(request.body?.pci_segment).toBe(0);
  });

  it.each([
    ['add-net fd=[5,7],num_queues=4', [5, 7], { num_queues: 4 }],
    ['add-device fd=9', [9], {}],
    [
      'restore source_url=file:///s,net_fds=[n1@[5,6],n2@[4]],vfio_fds=[v@8],iommufd_fd=9',
      [5, 6, 4, 8, 9],
      {
        source_url: 'file:///s',
        memory_restore_mode: 'Copy',
        net_fds: [
          { id: 'n1', num_fds: 2 },
          { id: 'n2', num_fds: 1 },
        ],
        vfio_fds: [{ id: 'v' }],
      },
    ],
    [
      'receive-migration receiver_url=unix:/m,vfio_fds=[v@8],iommufd_fd=9',
      [8, 9],
      { receiver_url: 'unix:/m', vfio_fds: [{ id: 'v' }] },
    ],
  ])('%s takes its descriptors out of the body', async (line, descriptors, body) => {
    const request = await requestOf(line);
    expect(request.descriptors).toEqual(descriptors);
    expect(request.body).toMatchObject(body);
    expect(JSON.stringify(request.body)).not.toMatch(/"(fds|fd|iommufd_fd)"/);
  });

  it.each([
    ['resize --wait x', '--wait: "x" is not an unsigned integer'],
    ['resize --cpus two', '--cpus: "two" is not an unsigned integer'],
    ['resize-zone --id z --size big', '--size: '],
  ])('%s names the option that is wrong', async (line, message) => {
    await expect(requestOf(line)).rejects.toThrow(message);
  });

  it('send-migration has every key', async () => {
    const line = 'send-migration destination_url=unix:/m,local=on,downtime_ms=10,timeout_strategy=ignore';
    expect((await requestOf(line)).body).toEqual({
      destination_url: 'unix:/m',
      local: true,
      preserve_source: false,
      downtime_ms: 10,
      timeout_s: 3600,
      timeout_strategy: 'Ignore',
      connections: 1,
      memory_mode: 'Precopy',
    });
  });
});

describe('how long an answer is waited for', () => {
  it.each([
    ['remove-device a', 600_000],
    ['remove-device a --wait 700000', 1_300_000],
    ['remove-device a --wait 4294967295', 2 ** 31 - 1],
    ['resize --cpus 2 --wait 700000', 1_300_000],
    ['ping', 30_000],
  ])('%s: %d ms', (line, expected) => {
    const invocation = parseCtl(['--api-socket', '/s', ...wordsOf(line)]);
    if (invocation.action !== 'run') throw new Error(invocation.action);
    expect(answerTimeoutMs(ctlCommands[invocation.command] as CtlCommand, invocation.words)).toBe(expected);
  });
});

describe('words that are refused', () => {
  it.each([
    ['nosuch', 2, "ctl has no subcommand 'nosuch'"],
    ['pong', 2, `ctl has no subcommand 'pong'; did you mean "ping"?`],
    ['ping extra', 2, 'ping takes no argument'],
    ['add-disk a b', 2, "unexpected argument 'b'"],
    ['snapshot', 2, 'snapshot needs URL'],
    ['restore', 2, 'restore needs OPTIONS'],
    ['remove-device', 2, 'remove-device needs ID'],
    ['remove-device --force', 2, 'remove-device needs ID'],
    ['remove-device --force on a', 2, "unexpected argument 'a'"],
    ['add-disk', 2, 'add-disk needs OPTIONS'],
    ['resize-disk --disk a', 2, 'resize-disk needs --size'],
    ['resize --cpus', 2, /--cpus/],
    ['resize --cpus 1 --cpus 2', 2, '--cpus was given more than once'],
    ['resize --vcpus 2', 2, /--vcpus/],
    ['resize --size -5', 2, /--size/],
    ['ping --api-socket /b', 2, '--api-socket was given more than once'],
    ['ping --timeout never', 2, '--timeout never is no number of seconds'],
    ['ping --timeout 0', 2, /no number of seconds/],
    ['resize --cpus x', 1, '--cpus: "x" is not an unsigned integer'],
    ['resize --memory 1T', 1, /"1T" is not a size such as 512M: write 1024G/],
    ['resize-disk --disk a --size big', 1, /is not a size/],
    ['add-disk path=/d,nosuch=1', 1, 'add-disk: unknown option "nosuch"'],
    ['add-disk /d', 1, /write path=\/d/],
    ['add-fs tag=t', 1, 'add-fs: missing field `socket`'],
    ['add-net fd=[x]', 1, /fd: "x" is not an unsigned integer/],
    ['send-migration local=on', 1, /missing field `destination_url`/],
  ] as const)('%s: %d', async (line, code, text) => {
    const [given, said] = await refusalOf(line);
    expect(said).toMatch(text);
    expect(given).toBe(code);
  });
});

describe('the VM is named', () => {
  const targetOf = (line: string) => {
    const invocation = parseCtl(wordsOf(line));
    return invocation.action === 'run' ? [invocation.command, invocation.target] : invocation.action;
  };

  it.each([
    ['--api-socket /s ping', ['ping', { socket: '/s' }]],
    ['--api-socket=/s ping', ['ping', { socket: '/s' }]],
    ['--api-socket path=/s ping', ['ping', { socket: '/s' }]],
    ['ping --api-socket /s', ['ping', { socket: '/s' }]],
    ['web info', ['info', { name: 'web', dir: undefined }]],
    ['--dir /d web --json info', ['info', { name: 'web', dir: '/d' }]],
    ['ping info', ['info', { name: 'ping', dir: undefined }]],
    ['ping', ['ping', undefined]],
    ['create file', ['create', undefined]],
    ['--help', 'help'],
    ['help boot', 'help'],
    ['boot --help', 'help'],
    ['web boot --help', 'help'],
    ['-V', 'version'],
  ])('%s', (line, target) => {
    expect(targetOf(line)).toEqual(target);
  });

  it.each([
    ['', /^ctl needs a subcommand$/],
    ['web', /^ctl web needs a subcommand$/],
    ['web boots', /no subcommand 'boots'/],
    ['web info --api-socket /s', /not both/],
    ['help nosuch', /no subcommand/],
    ['--api-socket', /--api-socket/],
    // What Node.js says of it is two lines.
    ['web remove-device a --wait -1', /^Option '--wait' argument is ambiguous\. Did you forget [^\n]*$/],
  ])('"%s" is a mistake', (line, text) => {
    expect(() => parseCtl(wordsOf(line))).toThrow(text);
    expect(() => parseCtl(wordsOf(line))).toThrow(UsageError);
  });
});

it('words of any kind are understood or refused', async () => {
  const known = [
    ...Object.keys(ctlDescriptions),
    '--api-socket',
    '--cpus',
    '--size',
    '--json',
    '-h',
    '--',
    '-',
    'help',
    'path=/d',
  ];
  const word = fc.oneof(fc.constantFrom(...known), fc.string(), fc.string({ unit: 'grapheme' }));
  await fc.assert(
    fc.asyncProperty(fc.array(word, { maxLength: 8 }), async (words) => {
      try {
        const invocation = parseCtl(words);
        if (invocation.action !== 'run' || invocation.command === 'create') return;
        await ctlCommands[invocation.command]?.request(invocation.words);
      } catch (error) {
        if (!(error instanceof UsageError) && !(error instanceof ConfigError)) throw error;
      }
    }),
    { numRuns: 2000 },
  );
});
