/** Requests to a VM's own API, by way of the supervisor, with VMs that take their time. */
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { VmFile } from '../../../src/api/vmhost/folderFiles.ts';
import { forward } from '../../../src/supervisor/forward.ts';
import { errorChain } from '../../../src/vmm/errors.ts';

const ANSWER_MS = 50;

type Handler = (request: http.IncomingMessage, response: http.ServerResponse) => void;

/** A client's port to a VM whose process is `vm`. */
async function forwarding(vm: Handler): Promise<{ port: number; failures: string[] }> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-forward-'));
  onTestFinished(() => fs.rmSync(folder, { recursive: true }));
  const failures: string[] = [];
  const process = http.createServer(vm).listen(path.join(folder, VmFile.apiSocket));
  const supervisor = http.createServer((request, response) => {
    const target = { name: 'one', folder, path: request.url as string };
    forward(target, request, response, ANSWER_MS).catch((error: Error) => {
      failures.push(errorChain(error).join(': '));
      response.writeHead(500).end();
    });
  });
  await new Promise<void>((resolve) => supervisor.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    for (const server of [process, supervisor]) server.close().closeAllConnections();
  });
  return { port: (supervisor.address() as { port: number }).port, failures };
}

const put = (port: number, signal?: AbortSignal) =>
  fetch(`http://127.0.0.1:${port}/api/v1/vm.remove-device`, {
    method: 'PUT',
    body: '{"id":"a"}',
    ...(signal && { signal }),
  });

test('a request may take any time while the VM answers pings', async () => {
  let pings = 0;
  const { port } = await forwarding((request, response) => {
    if (request.url === '/api/v1/vmm.ping') {
      pings++;
      response.end('{}');
    } else {
      const waiting = setInterval(() => {
        if (pings < 4) return;
        clearInterval(waiting);
        response.writeHead(204).end();
      }, 5);
    }
  });
  expect((await put(port)).status).toBe(204);
  const before = pings;
  await new Promise((resolve) => setTimeout(resolve, 4 * ANSWER_MS));
  // One may have been on its way.
  expect(pings).toBeLessThanOrEqual(before + 1);
});

test('one that answers nothing at all is given up', async () => {
  const { port, failures } = await forwarding(() => {});
  expect((await put(port)).status).toBe(500);
  expect(failures).toEqual(['The VM one does not answer: no answer within 0.1 s']);
});

test('a request ends with the connection of its client', async () => {
  const gone = vi.fn();
  const asked = vi.fn();
  const { port } = await forwarding((request, response) => {
    if (request.url === '/api/v1/vmm.ping') return void response.end('{}');
    asked();
    response.once('close', gone);
  });
  const leave = new AbortController();
  const answer = put(port, leave.signal);
  await expect.poll(() => asked.mock.calls.length).toBe(1);
  leave.abort();
  await expect(answer).rejects.toThrow();
  await expect.poll(() => gone.mock.calls.length).toBe(1);
});

test('what an event stream tells is passed on, without anybody being asked', async () => {
  let pings = 0;
  const { port } = await forwarding((request, response) => {
    if (request.url === '/api/v1/vmm.ping') pings++;
    response.writeHead(200, { 'Content-Type': 'text/event-stream' }).write('data: 1\n\n');
    setTimeout(() => response.end('data: 2\n\n'), 3 * ANSWER_MS);
  });
  expect(await (await fetch(`http://127.0.0.1:${port}/api/v1/vm.events`)).text()).toBe(
    'data: 1\n\ndata: 2\n\n',
  );
  expect(pings).toBe(0);
});
