/** An idle VM costs nothing. */
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { Daemon } from './daemon.ts';
import {
  contextSwitches,
  diskImage,
  privateAnonymousKiB,
  RUNTIMES,
  settles,
  sleep,
  startGuest,
  temporaryFolder,
} from './support.ts';

/** Longer than any period that a helper of the engines or of the kernel has. */
const IDLE_MS = 10_000;
/** Within this time the engines' helpers have tidied up after the start. */
const SETTLE_MS = 10_000;

const GUEST_KIB = 128 << 10;
/** Beside the guest's memory. Neither code that ran once nor garbage of the start is in it. */
const MAX_PRIVATE_KIB = 4_000;

/** Of a process's first thread, which JavaScript runs on. */
function wakeUps(pid: number): number {
  const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^voluntary_ctxt_switches:\s*(\d+)$/m.exec(status)?.[1]);
}

/** What the guest does before it idles, all at once: settling takes its time. */
const CMDLINES = ['run=idle', 'run=blk-rw,rng,vsock-idle then=idle'];

test('no thread wakes up, with a REST socket, nor after the guest has used its devices', async () => {
  const vmms = CMDLINES.flatMap((cmdline) =>
    RUNTIMES.map((runtime) => {
      const folder = temporaryFolder();
      const args = ['--api-socket', path.join(folder, 'api'), '--watchdog'];
      args.push('--vsock', `cid=3,socket=${path.join(folder, 'vsock')}`);
      args.push('--disk', `path=${diskImage(folder, 'disk.img')},image_type=raw`);
      return { name: `${runtime}, ${cmdline}`, vmm: startGuest({ cmdline, args, runtime }) };
    }),
  );
  for (const { vmm } of vmms) {
    await vmm.waitFor(/done|idle/);
    await vmm.ready();
    expect((await vmm.api('GET', 'vm.info')).status).toBe(200);
  }
  const switches = () =>
    Object.fromEntries(vmms.map(({ name, vmm }) => [name, contextSwitches(vmm.pid)] as const));
  await sleep(SETTLE_MS);
  // A busy machine gives them less time to settle in.
  await settles(async () => {
    const before = switches();
    await sleep(IDLE_MS);
    expect(switches()).toEqual(before);
  });
});

test('a VM with a REST socket has little memory of its own once its start is over', async () => {
  const args = ['--api-socket', path.join(temporaryFolder(), 'api')];
  const vmm = startGuest({ cmdline: 'run=idle', args });
  await vmm.waitFor('idle');
  await vmm.ready();
  await settles(() => expect(privateAnonymousKiB(vmm.pid, GUEST_KIB)).toBeLessThan(MAX_PRIVATE_KIB));
});

test.each(RUNTIMES)(
  'a supervisor and its VMs hardly wake up, also after it has found them again (%s)',
  async (runtime) => {
    const daemon = new Daemon(runtime);
    await daemon.start(['--pool', '1']);
    for (const name of ['one', 'two']) await daemon.vm(name, 'run=idle');
    const hardlyWakeUp = async () => {
      await sleep(SETTLE_MS);
      await settles(async () => {
        const processes = [daemon.pid, ...daemon.processes()];
        const before = processes.map(wakeUps);
        await sleep(IDLE_MS);
        const woken = processes.map((pid, index) => wakeUps(pid) - (before[index] as number));
        // One would be a minute's look at logs.
        for (const count of woken) expect(count, `${woken}`).toBeLessThan(IDLE_MS / 1_000 / 2);
      });
    };
    await settles(async () => expect(daemon.processes()).toHaveLength(3));
    await hardlyWakeUp();
    await daemon.kill('SIGKILL');
    await daemon.start(['--pool', '0']);
    expect(await daemon.list()).toEqual({ one: 'running', two: 'running' });
    await hardlyWakeUp();
  },
);
