/** A VM that does what the test says, behind a socket of its own. */
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { onTestFinished } from 'vitest';
import type { VmController } from '../../../../src/api/vmhost/controller.ts';
import { listenVmhost } from '../../../../src/api/vmhost/server.ts';
import type { VmmEvent, VmmExit } from '../../../../src/vmm/events.ts';
import { bindSocket } from '../../support/boundSocket.ts';

export function temporaryFolder(): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-vmhost-'));
  onTestFinished(() => fs.rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Stops that it was asked for, and its end in the test's hand. */
class FakeController implements VmController {
  paused = false;
  uptimeSeconds = 5;
  state: VmController['state'] = 'running';
  sshPort = 0;
  backend = 'tsvmm';
  readonly stops: (number | 'force')[] = [];
  readonly exited: Promise<VmmExit>;
  end: () => void = () => {};
  readonly watchers = new Set<(event: VmmEvent) => void>();
  failure: Error | undefined;

  constructor() {
    this.exited = new Promise((resolve) => {
      this.end = () => resolve({ reason: 'request', code: 0 });
    });
  }

  watch(listener: (event: VmmEvent) => void): () => void {
    this.watchers.add(listener);
    return () => this.watchers.delete(listener);
  }

  async stop(timeoutMs: number): Promise<void> {
    this.stops.push(timeoutMs);
    if (this.failure) throw this.failure;
    await this.exited;
  }

  async forceStop(): Promise<void> {
    this.stops.push('force');
    await this.exited;
  }

  restarts = 0;

  async restart(): Promise<void> {
    this.restarts++;
    if (this.failure) throw this.failure;
  }
}

export interface Served {
  readonly socketPath: string;
  readonly controller: FakeController;
  readonly lines: string[];
}

export async function serve(): Promise<Served> {
  const socketPath = path.join(temporaryFolder(), 'vmhost.sock');
  const controller = new FakeController();
  const lines: string[] = [];
  const claim = { name: socketPath, listen: () => bindSocket(socketPath), release: () => {} };
  const service = await listenVmhost(controller, claim, { log: (line) => lines.push(line) });
  void controller.exited.then((exit) => service.close(exit));
  onTestFinished(() => service.close());
  return { socketPath, controller, lines };
}

/** Sends the pieces one by one, and reads to the end. `halfClose`: say after them that nothing more comes. */
export function talk(
  socketPath: string,
  pieces: readonly (string | Uint8Array)[],
  { halfClose = false } = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ path: socketPath, allowHalfOpen: true });
    let answer = '';
    socket.setEncoding('utf8').on('data', (text: string) => {
      answer += text;
    });
    socket.on('error', reject).on('close', () => resolve(answer));
    socket.on('end', () => socket.end());
    socket.on('connect', async () => {
      for (const piece of pieces) {
        await new Promise((written) => socket.write(piece, written));
      }
      if (halfClose) socket.end();
    });
  });
}
