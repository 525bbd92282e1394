/** A daemon that does what a test tells it to, as it should or not. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { onTestFinished } from 'vitest';
import {
  encodeFrame,
  type Frame,
  FrameReader,
  MessageType,
  Program,
  Status,
  VERSION,
} from '../../../../../src/api/libvirt/frames.ts';
import { Remote } from '../../../../../src/api/libvirt/signatures/index.ts';
import type { Answer, Fields, Signature } from '../../../../../src/api/libvirt/signatures/signature.ts';
import { XdrWriter } from '../../../../../src/api/libvirt/xdr.ts';

export interface Heard extends Frame {
  readonly peer: Peer;
}

/** One client, as the daemon sees it. */
export class Peer {
  readonly socket: Socket;

  constructor(socket: Socket) {
    this.socket = socket;
  }

  send(frame: Partial<Frame>): void {
    const whole = {
      program: Program.remote,
      version: VERSION,
      procedure: 0,
      type: MessageType.reply,
      serial: 0,
    };
    this.socket.write(encodeFrame({ ...whole, status: Status.ok, payload: new Uint8Array(), ...frame }));
  }

  answer<A extends Fields, R extends Fields>(call: Frame, { ret }: Signature<A, R>, value: Answer<R>): void {
    const writer = new XdrWriter();
    ret.write(writer, value);
    this.send({ procedure: call.procedure, serial: call.serial, payload: writer.finish() });
  }
}

export interface FakeDaemon {
  readonly uri: string;
  /** What has come, keepalive included. */
  readonly heard: Heard[];
  /** Waits for the call of that procedure which has not been waited for. */
  next(signature: { readonly number: number }): Promise<Heard>;
}

/** What a daemon does with a frame; true if that was all that there is to do. */
export type Behaviour = (frame: Heard) => boolean;

/** A daemon that lets clients in, unless `behave` has done something else. */
export async function fakeDaemon(behave: Behaviour = () => false): Promise<FakeDaemon> {
  const folder = mkdtempSync(`${tmpdir()}/tsvmm-libvirt-`);
  const heard: Heard[] = [];
  const taken = new Set<Heard>();
  const listeners = new Set<() => void>();
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    const reader = new FrameReader();
    const peer = new Peer(socket);
    socket.on('error', () => {});
    socket.on('data', (bytes) => {
      for (const frame of reader.add(bytes)) {
        const call = { ...frame, peer };
        heard.push(call);
        if (frame.program === Program.remote && !behave(call)) letIn(call);
        for (const listener of listeners) listener();
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(`${folder}/sock`, resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return {
    uri: `tsvmm+unix:///system?socket=${folder}/sock`,
    heard,
    next: ({ number }) =>
      new Promise((resolve) => {
        const look = () => {
          const found = heard.find(
            (each) => each.procedure === number && each.type === MessageType.call && !taken.has(each),
          );
          if (found === undefined) return;
          taken.add(found);
          listeners.delete(look);
          resolve(found);
        };
        listeners.add(look);
        look();
      }),
  };
}

function letIn(call: Heard): void {
  const { peer, procedure } = call;
  if (procedure === Remote.authList.number) peer.answer(call, Remote.authList, { types: [0] });
  else if (procedure === Remote.connectSupportsFeature.number)
    peer.answer(call, Remote.connectSupportsFeature, { supported: 1 });
  else if (
    procedure === Remote.connectOpen.number ||
    procedure === Remote.connectRegisterCloseCallback.number ||
    procedure === Remote.connectClose.number ||
    procedure === Remote.connectDomainEventCallbackDeregisterAny.number
  )
    peer.answer(call, Remote.connectOpen, undefined);
}
