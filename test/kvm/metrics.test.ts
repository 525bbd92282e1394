/** The pages for Prometheus, as its own tool reads them. */
import { spawnSync } from 'node:child_process';
import http from 'node:http';
import path from 'node:path';
import { expect, test } from 'vitest';
import { unpackedDeb } from '../../scripts/lab/debs.mjs';
import { Daemon } from './daemon.ts';
import { diskImage, PAYLOAD, startGuest, temporaryFolder } from './support.ts';

/** Debian's, unpacked: the package has Prometheus itself as well. */
async function promtool(page: string): Promise<{ code: number | null; said: string }> {
  const folder = await unpackedDeb('prometheus', { files: ['./usr/bin/promtool'] });
  const { status, stdout, stderr } = spawnSync(path.join(folder, 'usr/bin/promtool'), ['check', 'metrics'], {
    input: page,
    encoding: 'utf8',
  });
  return { code: status, said: stdout + stderr };
}

function pageOf(socketPath: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = http.get({ socketPath, path: '/metrics', agent: false }, (answer) => {
      let page = '';
      answer.setEncoding('utf8').on('data', (text: string) => {
        page += text;
      });
      answer.on('end', () => resolve(page));
    });
    sent.on('error', reject);
  });
}

test("a VM's page has nothing that promtool would have otherwise", async () => {
  const folder = temporaryFolder();
  const disk = diskImage(folder, 'disk.img');
  const socket = path.join(folder, 'api');
  const vmm = startGuest({
    cmdline: 'run=idle',
    args: [
      ...['--api-socket', socket, '--disk', `path=${disk},image_type=raw`],
      ...['--balloon', 'size=16M', '--vsock', `cid=3,socket=${path.join(folder, 'vsock')}`, '--watchdog'],
    ],
  });
  await vmm.waitFor('idle');
  const page = await pageOf(socket);
  for (const found of [/^# TYPE .* histogram$/m, /vcpu="0"/, /^tsvmm_vm_balloon_bytes /m])
    expect(page).toMatch(found);
  expect(await promtool(page)).toEqual({ code: 0, said: '' });
  // It can find something.
  expect((await promtool(page.replace(/^# HELP .*\n/m, ''))).code).not.toBe(0);
});

test("nor has a supervisor's", async () => {
  const daemon = new Daemon();
  await daemon.start(['--pool', '0']);
  await daemon.tsvmm('run', '-d', '--name', 'one', '--kernel', PAYLOAD, '--cmdline', 'run=idle');
  expect(await promtool(await pageOf(path.join(daemon.dir, 'tsvmmd.sock')))).toEqual({ code: 0, said: '' });
});
