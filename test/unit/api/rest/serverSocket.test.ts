/** The socket that the REST API is served on, without a machine. */
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type RestServer, serveRest } from '../../../../src/api/rest/server.ts';
import { claimSocket } from '../../../../src/api/rest/socketClaim.ts';
import { FileKind } from '../../../../src/host/openFlags.ts';
import { type FakeStreams, fakeStreams } from '../../support/fakeStreams.ts';
import { type NodeFiles, nodeFiles } from '../../support/nodeFiles.ts';
import { fakeVmm } from '../support.ts';

let folder: string;
let path: string;
let files: NodeFiles;
let streams: FakeStreams;
let server: RestServer | undefined;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tsvmm-test-'));
  path = join(folder, 'api.sock');
  files = nodeFiles();
  streams = fakeStreams(files);
});

afterEach(async () => {
  await server?.close();
  server = undefined;
  rmSync(folder, { recursive: true });
  expect([...files.open]).toEqual([]);
});

describe('the socket', () => {
  it('is made when it is served, and gone after closing', async () => {
    const claim = claimSocket(files, { path });
    expect(existsSync(path)).toBe(false);
    server = serveRest(fakeVmm(), claim, { ...files, ...streams });
    expect(readdirSync(folder)).toEqual(['api.sock']);
    await server.close();
    expect(readdirSync(folder)).toEqual([]);
  });

  it('that is never served is given back once', () => {
    const claim = claimSocket(files, { path });
    expect(files.open.size).toBe(1);
    claim.release();
    claim.release();
    expect(files.open.size).toBe(0);
  });

  it('that cannot be made is given back', () => {
    const claim = claimSocket(files, { path });
    writeFileSync(path, '');
    expect(() => serveRest(fakeVmm(), claim, { ...files, ...streams })).toThrow(
      `Cannot listen on the API socket ${path}`,
    );
    expect(files.open.size).toBe(0);
    expect(existsSync(path)).toBe(true);
  });

  it.each([
    ['ERR_TSVMM_SOCKET_LOCKED', 'is in use'],
    ['EADDRINUSE', 'Cannot listen on the API socket'],
  ])('that cannot be claimed (%s) is refused', (code, message) => {
    const refuse = () => {
      throw Object.assign(new Error('not here'), { code });
    };
    expect(() => claimSocket({ ...files, claimSocket: refuse }, { path })).toThrow(message);
  });

  it('may be inherited as a descriptor, if there is one', () => {
    writeFileSync(path, '');
    server = serveRest(fakeVmm(), claimSocket(files, { fd: files.openFile(path, 0, 0, FileKind.regular) }), {
      ...files,
      ...streams,
    });
    const one = streams.connect();
    one.send('GET /nowhere HTTP/1.1\r\n\r\n');
    expect(one.text).toMatch(/^HTTP\/1\.1 404 /);
    const missing = claimSocket(files, { fd: 9999 });
    expect(() => serveRest(fakeVmm(), missing, { ...files, ...streams })).toThrow(
      'Cannot listen on the API socket descriptor 9999',
    );
  });
});
