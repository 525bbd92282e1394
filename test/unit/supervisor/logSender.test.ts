import fs from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { LogSender, tailStart } from '../../../src/supervisor/logSender.ts';
import { makeFifo } from '../support/fifo.ts';

function logFile(content: string): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-log-'));
  onTestFinished(() => fs.rmSync(folder, { recursive: true, force: true }));
  const file = path.join(folder, 'serial.log');
  fs.writeFileSync(file, content);
  return file;
}

/** The answer of a server, which `serve` sends. */
async function answer(serve: (response: http.ServerResponse) => void): Promise<http.IncomingMessage> {
  const server = http.createServer((_, response) => serve(response));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return new Promise((resolve, reject) => http.get({ port, agent: false }, resolve).on('error', reject));
}

test.each([
  ['one\ntwo\n', 1, 'two\n'],
  ['one\ntwo', 1, 'two'],
  ['one\ntwo\n', 2, 'one\ntwo\n'],
  ['one\ntwo\n', 200, 'one\ntwo\n'],
  ['\none\n', 200, '\none\n'],
  ['\n\n\n', 2, '\n\n'],
  ['one\n', 0, ''],
  [`${'x'.repeat(200_000)}\n`, 1, `${'x'.repeat(200_000)}\n`],
  [`a\n${`${'x'.repeat(65_535)}\n`.repeat(3)}`, 3, `${'x'.repeat(65_535)}\n`.repeat(3)],
  ['\n'.repeat(200_000), 150_000, '\n'.repeat(150_000)],
  ['', 5, ''],
])('the tail of a log: %#', (content, lines, tail) => {
  expect(content.slice(tailStart(logFile(content), lines)) === tail).toBe(true);
});

test('a log that is a FIFO is an empty one, and keeps nobody waiting', () => {
  const fifo = logFile('');
  makeFifo(fifo);
  expect(tailStart(fifo, 5)).toBe(0);
});

test('a log of any length arrives whole, at the pace of its reader, who is not disconnected', async () => {
  const line = `${'x'.repeat(99)}\n`;
  const file = logFile(line.repeat(80_000));
  let held = 0;
  const incoming = await answer((response) => {
    const log = new LogSender(file, Number.POSITIVE_INFINITY, response);
    void log.finish();
    setTimeout(() => {
      held = response.writableLength;
      fs.appendFileSync(file, 'the end\n');
    }, 100);
  });
  await vi.waitFor(() => expect(held).toBeGreaterThan(0), { timeout: 20_000 });
  expect(held).toBeLessThan(1 << 20);
  let length = 0;
  let last = '';
  for await (const chunk of incoming.setEncoding('utf8')) {
    length += chunk.length;
    last = chunk as string;
  }
  expect(length).toBe(80_000 * 100 + 'the end\n'.length);
  expect(last.endsWith('the end\n')).toBe(true);
});

test('a log that is cut while it is followed goes on from its beginning', async () => {
  const file = logFile('before\n');
  let log: LogSender | undefined;
  const incoming = await answer((response) => {
    log = new LogSender(file, 10, response);
    void log.send();
  });
  let text = '';
  incoming.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  await vi.waitFor(() => expect(text).toBe('before\n'), { timeout: 20_000 });
  fs.writeFileSync(file, 'new\n');
  await log?.finish();
  await vi.waitFor(() => expect(incoming.complete).toBe(true), { timeout: 20_000 });
  expect(text).toBe('before\nnew\n');
});
