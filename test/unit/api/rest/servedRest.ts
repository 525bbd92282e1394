/** The REST API on a socket in a folder of its own, without a machine. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, vi } from 'vitest';
import type { ApiVmm } from '../../../../src/api/rest/endpoint.ts';
import { type RestOptions, type RestServer, serveRest } from '../../../../src/api/rest/server.ts';
import { type ApiSocket, claimSocket, type SocketClaim } from '../../../../src/api/rest/socketClaim.ts';
import { type FakeStreams, fakeStreams } from '../../support/fakeStreams.ts';
import { type NodeFiles, nodeFiles } from '../../support/nodeFiles.ts';

export const PING = 'GET /api/v1/vmm.ping HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n';
export const NO_CONTENT = 'HTTP/1.1 204 \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n\r\n';

class ServedRest {
  readonly folder = mkdtempSync(join(tmpdir(), 'tsvmm-test-'));
  readonly path = join(this.folder, 'api.sock');
  readonly files: NodeFiles = nodeFiles();
  readonly streams: FakeStreams = fakeStreams(this.files);
  server: RestServer | undefined;

  claim(socket: ApiSocket = { path: this.path }): SocketClaim {
    return claimSocket(this.files, socket);
  }

  serve(vmm: ApiVmm, options: RestOptions = {}, claim = this.claim()): void {
    this.server = serveRest(vmm, claim, { ...this.files, ...this.streams }, options);
  }

  /** Nothing is left open. */
  async end(): Promise<void> {
    await this.server?.close();
    rmSync(this.folder, { recursive: true });
    expect([...this.files.open]).toEqual([]);
  }
}

/** Anew for each test. */
export let rest: ServedRest;

beforeEach(() => {
  rest = new ServedRest();
});

afterEach(async () => {
  vi.useRealTimers();
  await rest.end();
});
