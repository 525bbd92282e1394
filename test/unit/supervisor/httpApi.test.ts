/** The supervisor's API over a socket. */
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { createApiServer } from '../../../src/supervisor/httpApi.ts';
import { listenAtPath } from '../../../src/supervisor/httpListener.ts';
import { supervisorPlaces } from '../../../src/supervisor/places.ts';
import { claimSocketPath } from '../../../src/vmm/listeningSocket.ts';
import { nodeFiles } from '../support/nodeFiles.ts';
import { supervisorWithoutProcesses } from '../support/supervisorWithoutProcesses.ts';

test('a client that does not read its events is disconnected, and that is told', async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-api-'));
  const places = supervisorPlaces(folder, {});
  const warnings: string[] = [];
  const warn = (message: string) => void warnings.push(message);
  const supervisor = supervisorWithoutProcesses({ places, warn });
  const claim = claimSocketPath(nodeFiles(), places.apiSocket);
  const listener = await listenAtPath(createApiServer(supervisor, warn), claim);
  const client = net.connect(places.apiSocket);
  onTestFinished(() => {
    client.destroy();
    listener.close();
    listener.closeAllConnections();
    fs.rmSync(folder, { recursive: true, force: true });
  });
  client.write('GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await new Promise((resolve) => client.once('data', resolve));
  client.pause();
  const send = () => {
    const properties = { message: 'x'.repeat(4_000) };
    supervisor.events.add('one', { source: 'supervisor', event: 'warning', properties });
  };
  await vi.waitFor(() => {
    for (let i = 0; i < 100; i++) send();
    expect(warnings).toEqual(['A client of /v1/events is disconnected: it does not read its events']);
  });
  send();
  expect(warnings).toHaveLength(1);
});
