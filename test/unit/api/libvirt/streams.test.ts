/** Streams of a connection, with a guest's port that is a socket in this process. */
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { type Frame, Status } from '../../../../src/api/libvirt/frames.ts';
import { Streams } from '../../../../src/api/libvirt/streams.ts';

async function guestPort() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-port-'));
  const port = { path: path.join(folder, 'serial.sock'), alive: () => true };
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(port.path, resolve));
  onTestFinished(() => {
    server.close();
    fs.rmSync(folder, { recursive: true });
  });
  return port;
}

test('a client that opens two consoles with one serial leaves neither behind when it goes', async () => {
  const [first, second] = [await guestPort(), await guestPort()];
  const owners = new Map<string, () => void>();
  const sent: Frame[] = [];
  const streams = new Streams((frame) => sent.push(frame) > 0, owners);
  streams.attach(201, 7, first, false);
  expect(() => streams.attach(201, 7, second, false)).toThrow('serial 7');
  expect([...owners.keys()]).toEqual([first.path]);
  streams.closeAll();
  expect(owners.size).toBe(0);
});

test('a stream that has ended leaves its serial to the next', async () => {
  const port = await guestPort();
  const owners = new Map<string, () => void>();
  const sent: Frame[] = [];
  const streams = new Streams((frame) => sent.push(frame) > 0, owners);
  streams.attach(201, 7, port, false);
  streams.hear({ ...emptyFrame, serial: 7, status: Status.ok });
  expect(sent.map(({ serial, status }) => [serial, status])).toEqual([[7, Status.ok]]);
  streams.attach(201, 7, port, false);
  // Taken away by another one of the same client.
  streams.attach(201, 8, port, true);
  expect(sent.at(-1)).toMatchObject({ serial: 7, status: Status.error });
  streams.closeAll();
  expect(owners.size).toBe(0);
});

const emptyFrame: Frame = {
  program: 0,
  version: 1,
  procedure: 201,
  type: 3,
  serial: 0,
  status: Status.ok,
  payload: new Uint8Array(),
};
