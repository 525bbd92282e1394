import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { connectVsock } from '../../../src/host/vsockClient.ts';

test('a connection that the guest does not answer can be given up, and leaves nothing', async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-vsock-'));
  const socketPath = path.join(folder, 'vsock');
  const server = net.createServer().listen(socketPath);
  await once(server, 'listening');
  onTestFinished(() => {
    server.close();
    fs.rmSync(folder, { recursive: true });
  });
  const accepted = once(server, 'connection');
  const controller = new AbortController();
  const connecting = connectVsock(socketPath, 1024, controller.signal);
  const [peer] = (await accepted) as [net.Socket];
  const closed = once(peer.resume(), 'close');
  controller.abort(new Error('late'));
  await expect(connecting).rejects.toThrow('late');
  await closed;
  await expect(connectVsock(socketPath, 1024, controller.signal)).rejects.toThrow('late');
});
