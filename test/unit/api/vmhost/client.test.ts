import net from 'node:net';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { VmhostClient } from '../../../../src/api/vmhost/client.ts';
import { serve, temporaryFolder } from './support.ts';

/** A peer that answers every connection with the same bytes, and closes. */
async function answering(bytes: string | Uint8Array): Promise<string> {
  const socketPath = path.join(temporaryFolder(), 's');
  const server = net.createServer((socket) =>
    socket.on('error', () => {}).once('data', () => socket.end(bytes)),
  );
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  onTestFinished(() => void server.close());
  return socketPath;
}

test('asks, stops and forces', async () => {
  const { socketPath, controller } = await serve();
  controller.sshPort = 2022;
  const client = new VmhostClient(socketPath);
  expect(await client.isAlive()).toBe(true);
  expect(await client.status()).toEqual({ ok: true, state: 'running' });
  expect(await client.info()).toEqual({ ok: true, state: 'running', ssh_port: 2022, backend: 'tsvmm' });
  expect(await client.stop(12)).toEqual({ ok: true, state: 'stopping' });
  expect(await client.forceStop()).toEqual({ ok: true, state: 'stopping' });
  expect(controller.stops).toEqual([12_000, 'force']);
});

test('no process is told from one that refuses', async () => {
  const gone = new VmhostClient(path.join(temporaryFolder(), 'gone'));
  await expect(gone.status()).rejects.toMatchObject({ name: 'VmhostError', code: 'ENOENT' });
  expect(await gone.isAlive()).toBe(false);
  const refusing = new VmhostClient(await answering('{"ok":false,"error":"no"}\n'));
  await expect(refusing.status()).rejects.toMatchObject({ code: 'ERR_TSVMM_VMHOST', message: 'no' });
});

test.each([
  ['', /closed without an answer/],
  ['{"ok":tr', /closed without an answer/],
  ['{"ok":tr}', /cannot be read/],
  ['nonsense', /not a JSON object/],
  [`{"x":"${'y'.repeat(100_000)}"}`, /longer than 65536 bytes/],
])('the answer %.20j is an error', async (bytes, message) => {
  const client = new VmhostClient(await answering(bytes));
  await expect(client.status()).rejects.toMatchObject({
    code: 'ERR_TSVMM_VMHOST',
    message: expect.stringMatching(message),
  });
  expect(await client.isAlive()).toBe(false);
});

test('an answer without a newline, in pieces, with unknown fields', async () => {
  const client = new VmhostClient(await answering('{"ok":true,"state":"running","new":{"x":[1]}}'));
  expect(await client.status()).toMatchObject({ ok: true, state: 'running' });
});
