/** Devices that are taken from a guest that does not give them up: what they had of the host is free for others. */
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { diskImage, settles, sleep, startGuest, temporaryFolder } from './support.ts';

const isRoot = process.getuid?.() === 0;
if (!isRoot) console.log('SKIPPED: removal of a tap: only root can make network namespaces');

/** Files and sockets that a process has open. */
function opened(pid: number): string[] {
  const folder = `/proc/${pid}/fd`;
  return fs
    .readdirSync(folder)
    .map((fd) => fs.readlinkSync(path.join(folder, fd)))
    .filter((file) => !file.startsWith('anon_inode:'))
    .sort();
}

test.skipIf(!isRoot)('what such a device has is closed, for every kind that can be removed', async () => {
  const folder = temporaryFolder();
  const vmm = startGuest({
    cmdline: 'run=idle',
    args: ['--api-socket', path.join(folder, 'api')],
    prefix: ['unshare', '--net'],
  });
  await vmm.ready();
  await vmm.api('GET', 'vm.info');
  // Without the connections of the requests, which are closed a moment later.
  let before: string[] = [];
  await settles(async () => {
    before = opened(vmm.pid);
    await sleep(50);
    expect(opened(vmm.pid)).toEqual(before);
  });
  const kinds = {
    disk: { path: diskImage(folder, 'disk.img'), image_type: 'Raw' },
    net: { tap: 'tap7' },
    pmem: { file: diskImage(folder, 'pmem.img') },
    vsock: { cid: 3, socket: path.join(folder, 'vsock') },
  };
  for (const [kind, device] of Object.entries(kinds)) {
    // The same again under another name: nobody has it, this process included.
    for (const id of [`${kind}a`, `${kind}b`]) {
      const added = await vmm.api('PUT', `vm.add-${kind}`, { ...device, id });
      expect(added.status, added.text).toBe(200);
      const removed = await vmm.api('PUT', 'vm.remove-device', { id, force: true });
      expect(removed.status, removed.text).toBe(204);
      await settles(() => expect(opened(vmm.pid), kind).toEqual(before));
    }
  }
  await vmm.api('PUT', 'vmm.shutdown');
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
});
