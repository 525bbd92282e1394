/**
 * The reference's own client against our socket, and ours: the same words end with the same exit code, and leave the
 * same VM behind. Runs where `ch-remote` is in the path (built from Cloud Hypervisor's sources by cargo).
 */
import { spawn, spawnSync } from 'node:child_process';
import path from 'node:path';
import { expect, test } from 'vitest';
import { BIN, diskImage, PAYLOAD, Tsvmm, temporaryFolder } from './support.ts';

const isThere = spawnSync('ch-remote', ['-V']).status === 0;
if (!isThere) console.log('skipped: ch-remote is not in the path (no Debian package has it)');

/** Its answer comes before the process has ended. */
const ENDING = 'shutdown-vmm';
/** Words of a client, and what it reads. `DIR` is the VM's own folder. */
const steps: readonly (readonly [words: string, input?: string])[] = [
  ['ping'],
  ['info'],
  ['boot'],
  ['create', 'nonsense'],
  ['create /nonexistent'],
  [
    'create -',
    JSON.stringify({
      payload: { kernel: PAYLOAD, cmdline: 'run=idle' },
      memory: { size: 128 << 20, shared: true },
      disks: [{ path: 'DIR/disk.img', image_type: 'Raw' }],
      console: { mode: 'Off' },
    }),
  ],
  ['create', '{}'],
  ['counters'],
  ['pause'],
  ['add-disk path=DIR/other.img,readonly=on,id=d1,image_type=raw'],
  ['add-disk path="DIR/a,b",serial=s,id=d2'],
  ['add-disk path=/x,id=d1'],
  ['add-disk path=/x,num_queues=9'],
  ['add-disk path=/x,nosuch=1'],
  ['add-disk path=/x,readonly=maybe'],
  ['add-net tap=t0,mac=12:34:56:78:90:ab,id=n'],
  ['add-net mac=zz'],
  ['add-net fd=[0]'],
  ['add-net nosuch=1'],
  ['add-fs tag=t,socket=/s,id=f'],
  ['add-fs tag=t'],
  ['add-pmem file=/p,id=p,discard_writes=on'],
  ['add-pmem size=1M,file=/p'],
  ['add-vsock cid=3,socket=DIR/v,id=v'],
  ['add-vsock cid=1,socket=/v'],
  ['add-vdpa path=/dev/vhost-vdpa-0,id=a'],
  ['add-user-device socket=/u,id=u'],
  ['add-generic-vhost-user socket=/g,device_type=fs,queue_sizes=[128],id=g'],
  ['add-generic-vhost-user socket=/g'],
  ...['d2', 'n', 'f', 'p', 'v', 'a', 'u', 'g', 'none'].map((id): [string] => [`remove-device ${id}`]),
  ['resize --cpus x'],
  ['resize --memory 192M'],
  ['resize --memory 1T'],
  ['resize'],
  ['resize-zone --id z --size 1G'],
  ['snapshot file:///nonexistent'],
  ['snapshot'],
  ['restore source_url=file:///nonexistent'],
  ['restore nonsense'],
  ['send-migration destination_url=unix:DIR/m'],
  ['send-migration unix:DIR/m'],
  ['receive-migration receiver_url=unix:DIR/m'],
  ['boot'],
  ['boot'],
  ['pause'],
  ['pause'],
  ['snapshot file://DIR'],
  ['resume'],
  ['resume'],
  ['power-button'],
  ['nmi'],
  ['add-disk path=DIR/other.img'],
  ['remove-device none'],
  ['resize --cpus 1'],
  ['resize-disk --disk _disk0 --size 16M'],
  ['resize-disk --disk _disk0 --size zz'],
  ['reboot'],
  ['shutdown'],
  ['shutdown'],
  ['delete'],
  ['delete'],
  ['info extra'],
  ['nosuch'],
  ['resize --nosuch 1'],
  [ENDING],
  ['ping'],
];

interface Side {
  readonly folder: string;
  readonly vmm: Tsvmm;
  readonly client: readonly string[];
}

async function side(client: readonly string[]): Promise<Side> {
  const folder = temporaryFolder();
  for (const name of ['disk.img', 'other.img']) diskImage(folder, name);
  const vmm = new Tsvmm(['--api-socket', `path=${folder}/api`]);
  await vmm.ready();
  return { folder, vmm, client };
}

function ask({ folder, client }: Side, words: string, input = ''): Promise<number | null> {
  const [program, ...rest] = client;
  const args = [...rest, '--api-socket', path.join(folder, 'api'), ...words.split(' ')];
  const child = spawn(
    program as string,
    args.map((word) => word.replaceAll('DIR', folder)),
    { stdio: ['pipe', 'ignore', 'ignore'] },
  );
  child.stdin?.on('error', () => {}).end(input.replaceAll('DIR', folder));
  return new Promise((resolve) => child.on('close', resolve));
}

/**
 * What of it does not depend on how a default is written down, nor on chance: MAC addresses, numbers of descriptors.
 */
function essence(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(essence);
  if (typeof value !== 'object' || value === null) return value;
  const members = Object.entries(value)
    .filter(([key]) => key !== 'mac')
    .map(([key, one]) => [key, key === 'fds' ? one.length : essence(one)] as const);
  const isEmpty = (one: unknown) =>
    one === null || one === 0 || (typeof one === 'object' && Object.keys(one as object).length === 0);
  return Object.fromEntries(members.filter(([, one]) => !isEmpty(one)));
}

async function stateOf({ folder, vmm }: Side, ends: boolean): Promise<unknown> {
  if (ends) return vmm.exit();
  const { status, text } = await vmm.api('GET', 'vm.info');
  return [status, essence(JSON.parse(text.replaceAll(folder, 'DIR')))];
}

test.skipIf(!isThere)('ch-remote and tsvmm ctl do the same', async () => {
  const sides = [await side(['ch-remote']), await side([BIN, 'ctl'])] as const;
  let ends = false;
  for (const [words, input] of steps) {
    const [theirs, ours] = [await ask(sides[0], words, input), await ask(sides[1], words, input)];
    expect(ours, words).toBe(theirs);
    ends ||= words === ENDING;
    const [their, our] = [await stateOf(sides[0], ends), await stateOf(sides[1], ends)];
    expect(our, words).toEqual(their);
  }
});
