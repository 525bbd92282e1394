/** What the command line makes of a supervisor that takes its time, and of one that hangs. */
import http from 'node:http';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { SupervisorClient } from '../../../src/cli/vms/supervisorClient.ts';
import { temporaryFolder } from '../api/vmhost/support.ts';

const PING_MS = 100;
const HUNG = /The supervisor at .* does not answer: no answer within 0\.2 s/;

async function clientOf(answer: http.RequestListener, pingMs = PING_MS): Promise<SupervisorClient> {
  const server = http.createServer(answer);
  const socketPath = path.join(temporaryFolder(), 'tsvmmd.sock');
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return new SupervisorClient(socketPath, pingMs);
}

test('one that hangs is given up', async () => {
  const client = await clientOf(() => {});
  await expect(client.call('GET', '/v1/vms')).rejects.toThrow(HUNG);
  await expect(client.call('POST', '/v1/vms/one/stop', {})).rejects.toThrow(HUNG);
  await expect(client.stream('/v1/events').next()).rejects.toThrow(HUNG);
});

test.each([200, 400])('so is one that hangs in the middle of an answer of status %d', async (status) => {
  const client = await clientOf((request, response) => {
    if (request.url === '/v1/vms') response.writeHead(status).write('[');
  });
  await expect(client.call('GET', '/v1/vms')).rejects.toThrow(HUNG);
});

test('an answer that takes its time is waited for while others come', async () => {
  let pings = 0;
  let stop: http.ServerResponse | undefined;
  const client = await clientOf((request, response) => {
    if (request.url !== '/v1/ping') stop = response;
    else if (response.end() && ++pings === 3) stop?.end('{"state":"stopped"}');
  }, 10 * PING_MS);
  expect(await client.call('POST', '/v1/vms/one/stop', {})).toEqual({ state: 'stopped' });
});
