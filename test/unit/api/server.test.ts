import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ApiVmm } from '../../../src/api/rest/endpoints.ts';
import { type RestServer, serveRest } from '../../../src/api/rest/server.ts';
import { type ApiSocket, claimSocket } from '../../../src/api/rest/socketClaim.ts';
import { type NodeFiles, nodeFiles } from '../support/nodeFiles.ts';
import { Client, fakeVmm } from './support.ts';

const PING = 'GET /api/v1/vmm.ping HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n';
const BOOT = 'PUT /api/v1/vm.boot HTTP/1.1\r\n\r\n';
const UNKNOWN = 'GET /nowhere HTTP/1.1\r\n\r\n';
const NOT_FOUND =
  'HTTP/1.1 404 \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n' +
  'Content-Type: application/json\r\nContent-Length: 13\r\n\r\n["Not Found"]';
const NO_CONTENT = 'HTTP/1.1 204 \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n\r\n';

let folder: string;
let path: string;
let server: RestServer | undefined;
const clients: Client[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tsvmm-test-'));
  path = join(folder, 'api.sock');
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.socket.destroy();
  await server?.close();
  server = undefined;
  rmSync(folder, { recursive: true });
});

async function serve(files: NodeFiles, vmm: ApiVmm, socket: ApiSocket): Promise<RestServer> {
  return serveRest(vmm, claimSocket(files, socket));
}

async function start(vmm = fakeVmm(), files = nodeFiles()) {
  server = await serve(files, vmm, { path });
  return { vmm, files };
}

function client(): Client {
  const fresh = new Client(path);
  clients.push(fresh);
  return fresh;
}

describe('a connection', () => {
  it('is answered with exactly these bytes', async () => {
    await start();
    const one = client();
    one.send(PING);
    await one.until(({ text }) => text.endsWith('}'));
    const [head, body] = one.text.split('\r\n\r\n') as [string, string];
    expect(head).toBe(
      'HTTP/1.1 200 \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n' +
        `Content-Type: application/json\r\nContent-Length: ${body.length}`,
    );
    expect(JSON.parse(body)).toMatchObject({ pid: process.pid });
  });

  it('is kept, whatever the client says', async () => {
    await start();
    const one = client();
    one.send('GET /nowhere HTTP/1.0\r\nConnection: close\r\n\r\n');
    await one.responses(1);
    one.send(UNKNOWN);
    await one.until(({ text }) => text === NOT_FOUND + NOT_FOUND);
    expect(one.closed).toBe(false);
  });

  it('has its requests answered in order, though the first takes long', async () => {
    const vmm = fakeVmm();
    let boot: () => void = () => {};
    vmm.boot.mockReturnValue(
      new Promise<void>((resolve) => {
        boot = resolve;
      }),
    );
    await start(vmm);
    const one = client();
    one.send(BOOT + UNKNOWN + UNKNOWN);
    const other = client();
    other.send(UNKNOWN);
    await other.until(({ text }) => text === NOT_FOUND);
    expect(one.text).toBe('');
    boot();
    await one.until(({ text }) => text === NO_CONTENT + NOT_FOUND + NOT_FOUND);
  });

  it('is answered after the client has shut its side down', async () => {
    const vmm = fakeVmm();
    vmm.boot.mockImplementation(() => new Promise((resolve) => setTimeout(resolve, 20)));
    await start(vmm);
    const one = client();
    one.socket.end(BOOT + UNKNOWN);
    await one.until(({ closed }) => closed);
    expect(one.text).toBe(NO_CONTENT + NOT_FOUND);
  });

  it('takes a flood of requests behind a slow one', async () => {
    const vmm = fakeVmm();
    vmm.boot.mockImplementation(() => new Promise((resolve) => setTimeout(resolve, 50)));
    await start(vmm);
    const one = client();
    one.send(BOOT + UNKNOWN.repeat(10_000));
    await one.until(({ text }) => text.length === NO_CONTENT.length + 10_000 * NOT_FOUND.length);
  });

  it('says 100 before it takes a body that waits for it', async () => {
    const { vmm } = await start();
    const one = client();
    one.send('PUT /api/v1/vm.create HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n');
    await one.until(({ text }) => text.endsWith('\r\n\r\n'));
    expect(one.text).toBe('HTTP/1.1 100 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n');
    one.send('{}');
    await one.until(({ text }) => text.endsWith(NO_CONTENT));
    expect(vmm.create).toHaveBeenCalledTimes(1);
  });

  it('gets one 400 for nonsense, after the answers to what came before, and is closed', async () => {
    const { vmm } = await start();
    const one = client();
    one.send(`${UNKNOWN}POST / HTTP/1.1\r\n\r\n${BOOT}`);
    await one.until(({ closed }) => closed);
    const body = '{ "error": "Invalid HTTP Method." }';
    expect(one.text).toBe(
      `${NOT_FOUND}HTTP/1.1 400 \r\nServer: Firecracker API\r\nConnection: close\r\n` +
        `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    expect(vmm.boot).not.toHaveBeenCalled();
  });

  it('survives 900 headers', async () => {
    await start();
    const one = client();
    one.send(`GET / HTTP/1.1\r\n${'A: b\r\n'.repeat(900)}\r\n`);
    await one.until(({ closed }) => closed);
    expect(one.text.split('HTTP/1.1 ')).toHaveLength(2);
    const two = client();
    two.send(UNKNOWN);
    await two.until(({ text }) => text === NOT_FOUND);
  });

  it('may go away in the middle', async () => {
    const vmm = fakeVmm();
    vmm.boot.mockImplementation(() => new Promise((resolve) => setTimeout(resolve, 20)));
    await start(vmm);
    const one = client();
    one.send(BOOT);
    await expect.poll(() => vmm.boot.mock.calls.length).toBe(1);
    one.socket.destroy();
    await new Promise((resolve) => setTimeout(resolve, 30));
    const two = client();
    two.send(UNKNOWN);
    await two.until(({ text }) => text === NOT_FOUND);
  });
});

describe('the number of connections', () => {
  it('is ten: the next one hears why', async () => {
    await start();
    const ten = Array.from({ length: 10 }, client);
    for (const one of ten) one.send(UNKNOWN);
    await Promise.all(ten.map((one) => one.responses(1)));
    const eleventh = client();
    await eleventh.until(({ closed }) => closed);
    expect(eleventh.text).toBe(
      'HTTP/1.1 503 \r\nServer: Firecracker API\r\nConnection: close\r\nContent-Length: 40\r\n\r\n' +
        '{ "error": "Too many open connections" }',
    );
    ten[0]?.socket.destroy();
    await expect
      .poll(async () => {
        const next = client();
        next.send(UNKNOWN);
        await next.until(({ text, closed }) => closed || text === NOT_FOUND);
        return next.text;
      })
      .toBe(NOT_FOUND);
  });
});

describe('the socket', () => {
  it('is the user alone, and gone after closing', async () => {
    const mask = process.umask(0o077);
    try {
      const { files } = await start();
      expect(statSync(path).isSocket()).toBe(true);
      expect(statSync(path).mode & 0o777).toBe(0o700);
      expect(statSync(`${path}.lock`).mode & 0o777).toBe(0o600);
      await server?.close();
      expect(readdirSync(folder)).toEqual([]);
      expect(files.open.size).toBe(0);
    } finally {
      process.umask(mask);
    }
  });

  it('replaces one that an earlier process left', async () => {
    const stale = createServer().listen(path);
    await new Promise((resolve) => stale.once('listening', resolve));
    await start();
    const one = client();
    one.send(UNKNOWN);
    await one.until(({ text }) => text === NOT_FOUND);
    stale.close();
  });

  it('is not taken from a process that lives', async () => {
    const { vmm, files } = await start();
    await expect(serve(files, vmm, { path })).rejects.toThrow(`The API socket ${path} is in use`);
    expect(existsSync(path)).toBe(true);
    const one = client();
    one.send(UNKNOWN);
    await one.until(({ text }) => text === NOT_FOUND);
  });

  it('in a folder that is not there is refused', async () => {
    const files = nodeFiles();
    await expect(serve(files, fakeVmm(), { path: join(folder, 'no/api.sock') })).rejects.toThrow(
      'Cannot open the lock file',
    );
    expect(files.open.size).toBe(0);
  });

  it('with a name that is too long is refused, and nothing stays', async () => {
    const files = nodeFiles();
    path = join(folder, 'x'.repeat(150));
    await expect(serve(files, fakeVmm(), { path })).rejects.toThrow('more than 107 bytes');
    expect(readdirSync(folder)).toEqual([]);
    expect(files.open.size).toBe(0);
  });

  it('whose place a folder has is refused', async () => {
    path = folder;
    await expect(serve(nodeFiles(), fakeVmm(), { path })).rejects.toThrow('Cannot listen');
    rmSync(`${folder}.lock`, { force: true });
  });

  it('may be inherited as a descriptor', async () => {
    const files = nodeFiles();
    await expect(serve(files, fakeVmm(), { fd: 9999 })).rejects.toThrow(
      'Cannot listen on the API socket descriptor 9999',
    );
    writeFileSync(path, '');
    expect(files.open.size).toBe(0);
  });
});

describe('closing', () => {
  it('waits for the answer to be taken', async () => {
    const vmm = fakeVmm();
    vmm.quit.mockImplementation(() => new Promise((resolve) => setTimeout(resolve, 30)));
    await start(vmm);
    const one = client();
    one.send('PUT /api/v1/vmm.shutdown HTTP/1.1\r\n\r\n');
    await expect.poll(() => vmm.quit.mock.calls.length).toBe(1);
    await server?.close();
    await one.until(({ closed }) => closed);
    expect(one.text).toBe(
      'HTTP/1.1 200 \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n' +
        'Content-Type: application/json\r\nContent-Length: 0\r\n\r\n',
    );
  });

  it('does not wait for idle clients', async () => {
    await start();
    const one = client();
    one.send(UNKNOWN);
    await one.responses(1);
    const before = performance.now();
    await server?.close();
    expect(performance.now() - before).toBeLessThan(500);
    await one.until(({ closed }) => closed);
  });
});
