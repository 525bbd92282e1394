/** Descriptors over the REST socket: none is lost, and none is left open. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { PAYLOAD, ROOT, RUNTIMES, settles, Tsvmm, temporaryFolder } from './support.ts';

/** Undefined for a descriptor that is closed by now. */
function linkOf(file: string): string | undefined {
  try {
    return fs.readlinkSync(file);
  } catch {
    return undefined;
  }
}

test.each(RUNTIMES)('%s', async (runtime) => {
  const folder = temporaryFolder();
  const sender = path.join(folder, 'send');
  const compiled = spawnSync('gcc', ['-o', sender, path.join(ROOT, 'test/kvm/sendDescriptors.c')], {
    encoding: 'utf8',
  });
  expect(compiled.status, compiled.stderr).toBe(0);
  const socket = path.join(folder, 'api');
  const vmm = new Tsvmm(['--api-socket', `path=${socket}`], { runtime });
  await vmm.ready();
  const ask = (endpoint: string, body: object, count: number, bytes = 1 << 16) => {
    const text = JSON.stringify(body);
    const input = `PUT /api/v1/${endpoint} HTTP/1.1\r\nHost: h\r\nContent-Length: ${text.length}\r\n\r\n${text}`;
    const { stdout } = spawnSync(sender, [socket, String(count), String(bytes)], { input, encoding: 'utf8' });
    return /^HTTP\/1\.1 (\d+) /.exec(stdout)?.[1];
  };
  const created = await vmm.api('PUT', 'vm.create', {
    payload: { kernel: PAYLOAD, cmdline: 'run=idle' },
    cpus: { boot_vcpus: 4, max_vcpus: 4 },
    console: { mode: 'Off' },
  });
  expect(created.status).toBe(204);
  const count = () => {
    const fds = `/proc/${vmm.pid}/fd`;
    return fs.readdirSync(fds).filter((fd) => linkOf(`${fds}/${fd}`) === '/dev/null').length;
  };
  const before = count();
  // A request's own are closed a moment after its answer.
  const expectOpen = (wanted: number) => settles(() => expect(count() - before).toBe(wanted));

  await expectOpen(0);
  expect(ask('vm.add-net', { id: 'whole', num_queues: 4, fds: [-1, -1] }, 2)).toBe('204');
  await expectOpen(2);
  expect(ask('vm.add-net', { id: 'first', num_queues: 6 }, 3, 10)).toBe('204');
  await expectOpen(5);
  const { json } = await vmm.api('GET', 'vm.info');
  expect(json.config.net.map(({ id, fds }: { id: string; fds: number[] }) => [id, fds.length])).toEqual([
    ['whole', 2],
    ['first', 3],
  ]);
  for (const [endpoint, body, status] of [
    ['vm.add-net', { id: 'whole', num_queues: 4 }, '409'],
    ['vm.add-net', { num_queues: 2 }, '400'],
    ['vm.add-net', { num_queues: 'x' }, '400'],
    ['vm.add-device', { id: 'd' }, '400'],
    ['vm.add-disk', { path: '/nowhere' }, '204'],
    ['vm.boot', { wrong: 1 }, '400'],
    ['vm.nothing', {}, '404'],
  ] as const) {
    expect(`${endpoint} ${ask(endpoint, body, 2)}`).toBe(`${endpoint} ${status}`);
    await expectOpen(5);
  }
  expect((await vmm.api('PUT', 'vm.remove-device', { id: 'whole' })).status).toBe(204);
  await expectOpen(3);
  expect((await vmm.api('PUT', 'vm.delete')).status).toBe(204);
  await expectOpen(0);
  expect((await vmm.api('PUT', 'vmm.shutdown')).status).toBe(200);
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
});
