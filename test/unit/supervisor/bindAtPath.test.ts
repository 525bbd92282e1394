/** Servers of the runtime on sockets of this process. */
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { bindAtPath } from '../../../src/supervisor/bindAtPath.ts';
import { claimSocketPath } from '../../../src/vmm/listeningSocket.ts';
import { type NodeFiles, nodeFiles } from '../support/nodeFiles.ts';

let folder: string;
let socket: string;
let files: NodeFiles;
beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-bind-'));
  socket = path.join(folder, 'socket');
  files = nodeFiles();
  onTestFinished(() => {
    fs.rmSync(folder, { recursive: true });
    expect([...files.open]).toEqual([]);
  });
});

const connects = () =>
  new Promise<boolean>((resolve) => {
    const client = net.connect(socket);
    client.once('connect', () => resolve(true)).once('error', () => resolve(false));
    client.once('connect', () => client.destroy());
  });

test('a socket is private and listens when it gets its path', async () => {
  const server = net.createServer();
  const seen: unknown[] = [];
  const placeSocket: NodeFiles['placeSocket'] = (name, path) => {
    seen.push(fs.readdirSync(folder), fs.statSync(name).mode & 0o777, server.listening);
    return files.placeSocket(name, path);
  };
  const claim = claimSocketPath({ ...files, placeSocket }, socket);
  await bindAtPath(server, claim);
  expect(seen).toEqual([['socket.bound'], 0o600, true]);
  expect(fs.readdirSync(folder)).toEqual(['socket']);
  expect(await connects()).toBe(true);
  server.close();
  claim.close();
  expect(fs.readdirSync(folder)).toEqual([]);
});

test('closing a server removes nothing that somebody else has put at its path', async () => {
  const server = net.createServer();
  const claim = claimSocketPath(files, socket);
  onTestFinished(claim.close);
  await bindAtPath(server, claim);
  fs.rmSync(socket);
  fs.writeFileSync(socket, 'precious');
  server.close();
  expect(fs.readFileSync(socket, 'utf8')).toBe('precious');
});

test('a server that cannot have its path is closed', async () => {
  const server = net.createServer();
  const claim = claimSocketPath(files, socket);
  fs.writeFileSync(socket, 'precious');
  await expect(bindAtPath(server, claim)).rejects.toThrow('EEXIST');
  claim.close();
  expect(server.listening).toBe(false);
  expect(fs.readdirSync(folder)).toEqual(['socket']);
});

test('a server whose socket is removed at once is closed', async () => {
  const server = net.createServer();
  const claim = claimSocketPath(files, socket);
  server.once('listening', () => fs.rmSync(claim.bindName));
  await expect(bindAtPath(server, claim)).rejects.toThrow('ENOENT');
  claim.close();
  expect(server.listening).toBe(false);
});
