/** What a guest's agent is given, and a guest that does not answer. */
import net from 'node:net';
import path from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { provisionGuest } from '../../../../src/api/vmhost/provision.ts';
import type { VmFolder } from '../../../../src/api/vmhost/vmFolder.ts';
import { temporaryFolder } from './support.ts';

let folder: string;
let server: net.Server;
let connected: Set<net.Socket>;
let hear: (socket: net.Socket) => void;

const given = { daemon: { card: { secrets: [] }, cardText: '', state: {} } } as unknown as VmFolder;

beforeEach(async () => {
  folder = temporaryFolder();
  connected = new Set();
  hear = () => {};
  server = net.createServer((socket) => {
    connected.add(socket);
    socket.on('error', () => {}).on('close', () => connected.delete(socket));
    hear(socket);
  });
  await new Promise<void>((resolve) => server.listen(path.join(folder, 'vsock'), resolve));
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});

afterEach(() => {
  vi.useRealTimers();
  for (const socket of connected) socket.destroy();
  server.close();
});

/** How it ends within two minutes. */
async function outcome(): Promise<string> {
  let end = 'waits for ever';
  provisionGuest({ ...given, path: folder }, path.join(folder, 'vsock'), new AbortController().signal).then(
    () => {
      end = 'done';
    },
    (error: Error) => {
      end = error.message;
    },
  );
  for (let ms = 0; ms < 125_000 && end === 'waits for ever'; ms += 100) {
    await vi.advanceTimersByTimeAsync(100);
    await new Promise((resolve) => setImmediate(resolve));
  }
  return end;
}

test('a guest that leaves the question unanswered is given up', async () => {
  expect(await outcome()).toBe("the guest's agent did not answer for 110 s");
});

test('one that refuses again and again has one connection at a time', async () => {
  let most = 0;
  hear = (socket) => {
    most = Math.max(most, connected.size);
    socket.once('data', () => {
      socket.write('OK 1\n');
      socket.once('data', () => socket.write('{"type":"ack","payload":{"ok":false}}\n'));
    });
  };
  expect(await outcome()).toBe("the guest's agent did not answer for 110 s");
  expect(most).toBeLessThan(5);
});
