import { once } from 'node:events';
import net from 'node:net';
import { expect, onTestFinished, test, vi } from 'vitest';
import { refuse } from '../../../../src/api/libvirt/tls.ts';
import { HANDSHAKE_MS } from '../../../../src/api/tls/mutualTls.ts';

test('a client that is refused is told so, and does not keep its connection by sending more', async () => {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  const client = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  onTestFinished(() => {
    client.destroy();
    server.close();
    vi.useRealTimers();
  });
  client.on('error', () => {});
  const [socket] = (await once(server, 'connection')) as [net.Socket];
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  refuse(socket);
  expect(await once(client, 'data')).toEqual([Buffer.of(0)]);
  for (const part of [1, 2]) {
    client.write('more');
    await once(socket, 'data');
    expect(socket.destroyed, `part ${part}`).toBe(false);
    vi.advanceTimersByTime(HANDSHAKE_MS / 2);
  }
  expect(socket.destroyed).toBe(true);
});
