/** The socket that the REST API is served on, without a machine. */
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { claimSocket } from '../../../../src/api/rest/socketClaim.ts';
import { FileKind } from '../../../../src/host/openFlags.ts';
import { fakeVmm } from '../support.ts';
import { rest } from './servedRest.ts';

describe('the socket', () => {
  it('is made when it is served, and gone after closing', async () => {
    const claim = rest.claim();
    expect(existsSync(rest.path)).toBe(false);
    rest.serve(fakeVmm(), {}, claim);
    expect(readdirSync(rest.folder)).toEqual(['api.sock']);
    await rest.server?.close();
    expect(readdirSync(rest.folder)).toEqual([]);
  });

  it('that is never served is given back once', () => {
    const claim = rest.claim();
    expect(rest.files.open.size).toBe(1);
    claim.release();
    claim.release();
    expect(rest.files.open.size).toBe(0);
  });

  it('that cannot be made is given back', () => {
    const claim = rest.claim();
    writeFileSync(rest.path, '');
    expect(() => rest.serve(fakeVmm(), {}, claim)).toThrow(`Cannot listen on the API socket ${rest.path}`);
    expect(rest.files.open.size).toBe(0);
    expect(existsSync(rest.path)).toBe(true);
  });

  it.each([
    ['ERR_TSVMM_SOCKET_LOCKED', 'is in use'],
    ['EADDRINUSE', 'Cannot listen on the API socket'],
  ])('that cannot be claimed (%s) is refused', (code, message) => {
    const refuse = () => {
      throw Object.assign(new Error('not here'), { code });
    };
    expect(() => claimSocket({ ...rest.files, claimSocket: refuse }, { path: rest.path })).toThrow(message);
  });

  it('may be inherited as a descriptor, if there is one', () => {
    writeFileSync(rest.path, '');
    const fd = rest.files.openFile(rest.path, 0, 0, FileKind.regular);
    rest.serve(fakeVmm(), {}, rest.claim({ fd }));
    const one = rest.streams.connect();
    one.send('GET /nowhere HTTP/1.1\r\n\r\n');
    expect(one.text).toMatch(/^HTTP\/1\.1 404 /);
    const missing = rest.claim({ fd: 9999 });
    expect(() => rest.serve(fakeVmm(), {}, missing)).toThrow(
      'Cannot listen on the API socket descriptor 9999',
    );
  });
});
