/** One VM, and those who speak to it in their own language: each sees what the others did. */
import http from 'node:http';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { VmhostClient } from '../../src/api/vmhost/client.ts';
import { connect } from '../../src/libvirt.ts';
import { Daemon } from './daemon.ts';
import { request, temporaryFolder } from './support.ts';
import { documentFile, run } from './virsh.ts';

/** All from the first on, as the supervisor's API tells them. */
function supervisorEvents(daemon: Daemon): () => string[] {
  let text = '';
  const options = {
    socketPath: path.join(daemon.dir, 'tsvmmd.sock'),
    path: '/v1/events?after=0',
    agent: false,
  };
  const sent = http.get(options, (answer) => {
    answer.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    answer.on('error', () => {});
  });
  sent.on('error', () => {});
  onTestFinished(() => void sent.destroy());
  const wanted = ['defined', 'started', 'booted', 'paused', 'resumed', 'stopped'];
  return () =>
    [...text.matchAll(/"event":"([a-z-]+)"/g)]
      .map(([, event]) => String(event))
      .filter((each) => wanted.includes(each));
}

test('defined by virsh, listed by tsvmm, driven by REST, stopped by a vmhost client', async () => {
  const daemon = new Daemon();
  await daemon.start();
  const uri = `tsvmm+unix:///system?socket=${daemon.dir}/virttsvmmd-sock`;
  const connection = await connect(uri);
  onTestFinished(() => connection.close());
  const events = await connection.domainEvents('lifecycle');
  const heard = async (count: number) => {
    const found: string[] = [];
    for (let i = 0; i < count; i++) {
      const { value } = await events.next();
      if (value) found.push(`${value.event} ${value.detail}`);
    }
    return found;
  };
  const virsh = async (...words: string[]) => (await run('virsh', ['-c', uri, ...words])).stdout.trim();

  await virsh('define', documentFile(temporaryFolder(), 'one', 'run=power-button'));
  await virsh('start', 'one');
  expect(await heard(2)).toEqual(['defined added', 'started booted']);
  expect(await daemon.list()).toEqual({ one: 'running' });
  const domain = await connection.lookupByName('one');
  expect(await domain.state()).toEqual({ state: 'running', reason: 'booted' });

  // By Cloud Hypervisor's API on the VM's own socket.
  const folder = path.join(daemon.dir, 'vms/one');
  const rest = (method: string, endpoint: string) => request(path.join(folder, 'api.sock'), method, endpoint);
  expect((await rest('GET', 'vm.info')).json).toMatchObject({ state: 'Running' });
  expect((await rest('PUT', 'vm.pause')).status).toBe(204);
  expect(await heard(1)).toEqual(['suspended paused']);
  expect(await domain.state()).toEqual({ state: 'paused', reason: 'user' });
  expect(await virsh('domstate', 'one')).toBe('paused');
  // And what libvirt's client does is seen by REST.
  await domain.resume();
  expect(await heard(1)).toEqual(['resumed unpaused']);
  expect((await rest('GET', 'vm.info')).json).toMatchObject({ state: 'Running' });

  const vmhost = new VmhostClient(path.join(folder, 'vmhost.sock'));
  expect(await vmhost.status()).toMatchObject({ ok: true, state: 'running' });
  expect((await vmhost.stop(60)).ok).toBe(true);
  expect(await heard(1)).toEqual(['stopped shutdown']);
  expect(await domain.state()).toEqual({ state: 'shut off', reason: 'shutdown' });
  expect(await daemon.list()).toEqual({ one: 'stopped' });
  expect(await vmhost.isAlive()).toBe(false);

  // The supervisor's own events are the same ones.
  const told = supervisorEvents(daemon);
  await expect.poll(told).toEqual(['defined', 'booted', 'started', 'paused', 'resumed', 'stopped']);
  await virsh('undefine', 'one');
  expect(await heard(1)).toEqual(['undefined removed']);
  expect(await daemon.list()).toEqual({});
});
