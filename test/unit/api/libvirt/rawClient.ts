/** A server of libvirt's protocol in this process, and clients that send it bytes. */
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { onTestFinished } from 'vitest';
import {
  encodeFrame,
  type Frame,
  FrameReader,
  MessageType,
  Program,
  Status,
  VERSION,
} from '../../../../src/api/libvirt/frames.ts';
import { errorBody } from '../../../../src/api/libvirt/libvirtError.ts';
import { type LibvirtOptions, SOCKET_NAME, serveLibvirt } from '../../../../src/api/libvirt/server.ts';
import { XdrReader } from '../../../../src/api/libvirt/xdr.ts';
import { supervisorPlaces } from '../../../../src/supervisor/places.ts';
import type { Supervisor } from '../../../../src/supervisor/supervisor.ts';
import { nodeFiles } from '../../support/nodeFiles.ts';
import { supervisorWithoutProcesses } from '../../support/supervisorWithoutProcesses.ts';

export interface Served {
  readonly supervisor: Supervisor;
  readonly socketPath: string;
  close(): void;
}

/** Of a supervisor without any process. @param more than it has anyway */
export async function serve(more: Partial<LibvirtOptions> = {}): Promise<Served> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-libvirt-'));
  const places = supervisorPlaces(folder, {});
  const supervisor = supervisorWithoutProcesses({ places });
  const server = await serveLibvirt(supervisor, {
    ...{ native: nodeFiles(), folder, sockets: new Map(), tls: undefined, warn: () => {} },
    ...more,
  });
  onTestFinished(() => {
    server.close();
    fs.rmSync(folder, { recursive: true, force: true });
  });
  return { supervisor, socketPath: path.join(folder, SOCKET_NAME), close: () => server.close() };
}

export function callFrame(
  procedure: number,
  serial: number,
  payload: Uint8Array = new Uint8Array(),
  program: number = Program.remote,
): Uint8Array {
  return encodeFrame({
    program,
    version: VERSION,
    procedure,
    type: MessageType.call,
    serial,
    status: Status.ok,
    payload,
  });
}

/** CONNECT_OPEN of the default URI. */
export const OPEN = callFrame(1, 0, new Uint8Array(8));

export class RawClient {
  readonly socket: net.Socket;
  readonly frames: Frame[] = [];
  readonly closed: Promise<void>;
  readonly #reader = new FrameReader();
  #heard: () => void = () => {};

  constructor(socketPath: string) {
    this.socket = net.connect({ path: socketPath });
    this.socket.on('error', () => {});
    this.socket.on('data', (bytes) => {
      this.frames.push(...this.#reader.add(bytes));
      this.#heard();
    });
    this.closed = new Promise((resolve) => this.socket.once('close', () => resolve()));
    onTestFinished(() => void this.socket.destroy());
  }

  send(...frames: readonly Uint8Array[]): void {
    this.socket.write(Buffer.concat(frames));
  }

  /** Waits until so many frames have come. */
  async until(count: number): Promise<readonly Frame[]> {
    while (this.frames.length < count) {
      if (this.socket.destroyed) throw new Error(`closed after ${this.frames.length} frames of ${count}`);
      await Promise.race([
        this.closed,
        new Promise<void>((resolve) => {
          this.#heard = resolve;
        }),
      ]);
    }
    return this.frames;
  }
}

export function errorOf({ payload }: Frame): { code: number; domain: number; message: string | undefined } {
  return errorBody.read(new XdrReader(payload));
}
