/** An idle VM costs nothing. */
import path from 'node:path';
import { expect, test } from 'vitest';
import { contextSwitches, diskImage, RUNTIMES, sleep, startGuest, temporaryFolder } from './support.ts';

const IDLE_MS = 10_000;
/** Within this time the engines' helpers have tidied up after the start. */
const SETTLE_MS = 30_000;

/** Idle after the guest has run this, on both runtimes at once: the settling takes its time. */
async function expectIdle(cmdline: string): Promise<void> {
  const vmms = RUNTIMES.map((runtime) => {
    const folder = temporaryFolder();
    const args = ['--api-socket', path.join(folder, 'api'), '--watchdog'];
    args.push('--vsock', `cid=3,socket=${path.join(folder, 'vsock')}`);
    args.push('--disk', `path=${diskImage(folder, 'disk.img')},image_type=raw`);
    return startGuest({ cmdline, args, runtime });
  });
  for (const vmm of vmms) {
    await vmm.waitFor(/done|idle/);
    await vmm.ready();
    expect((await vmm.api('GET', 'vm.info')).status).toBe(200);
  }
  await sleep(SETTLE_MS);
  const switches = () => vmms.map((vmm) => contextSwitches(vmm.pid));
  const before = switches();
  await sleep(IDLE_MS);
  expect(switches()).toEqual(before);
}

test('no thread wakes up, with a REST socket', { timeout: 60_000 }, () => expectIdle('run=idle'));

test('nor after the guest has used its devices', { timeout: 60_000 }, () =>
  expectIdle('run=blk-rw,rng,vsock-idle then=idle'),
);
