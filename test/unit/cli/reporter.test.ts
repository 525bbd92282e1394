import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openReporter } from '../../../src/cli/reporter.ts';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tsvmm-test-'));
});

afterEach(() => rmSync(folder, { recursive: true }));

describe('the event monitor', () => {
  it('writes one pretty object an event, with an empty line after each', () => {
    const path = join(folder, 'events');
    const reporter = openReporter({
      eventMonitor: { path },
      logFile: join(folder, 'log'),
      verbosity: 0,
      noShutdown: false,
    });
    reporter.event({ source: 'vm', event: 'booting' });
    reporter.event({ source: 'virtio-device', event: 'activated', properties: { id: '_disk0' } });
    const records = readFileSync(path, 'utf8').split('\n\n');
    expect(records).toHaveLength(3);
    expect(records[0]).toMatch(/^\{\n {2}"timestamp": \{\n {4}"secs": \d+,\n {4}"nanos": \d+\n {2}\},\n/);
    expect(JSON.parse(records[0] as string)).toMatchObject({
      source: 'vm',
      event: 'booting',
      properties: null,
    });
    expect(JSON.parse(records[1] as string)).toMatchObject({
      event: 'activated',
      properties: { id: '_disk0' },
    });
    expect(records[2]).toBe('');
  });

  it('loses what nobody takes, and blocks nobody', () => {
    const path = join(folder, 'fifo');
    execFileSync('mkfifo', [path]);
    const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const reporter = openReporter({ eventMonitor: { path }, verbosity: 0, noShutdown: false });
    for (let i = 0; i < 10_000; i++) reporter.event({ source: 'vm', event: 'booting' });
    const buffer = Buffer.alloc(1024);
    expect(readSync(reader, buffer)).toBe(1024);
    closeSync(reader);
    reporter.event({ source: 'vm', event: 'booted' });
  });

  it('may be a descriptor, which must be open', () => {
    const fd = openSync(join(folder, 'events'), 'w');
    const reporter = openReporter({ eventMonitor: { fd }, verbosity: 0, noShutdown: false });
    reporter.event({ source: 'vmm', event: 'starting' });
    closeSync(fd);
    expect(readFileSync(join(folder, 'events'), 'utf8')).toContain('"starting"');
    expect(() => openReporter({ eventMonitor: { fd: 9999 }, verbosity: 0, noShutdown: false })).toThrow(
      'Cannot open the event monitor',
    );
  });
});

describe('the log', () => {
  const lines = () => readFileSync(join(folder, 'log'), 'utf8').split('\r\n');

  it('has warnings, and events when asked for more', () => {
    const logFile = join(folder, 'log');
    const quiet = openReporter({ logFile, verbosity: 0, noShutdown: false });
    quiet.event({ source: 'vm', event: 'booted' });
    quiet.warn('mind the gap');
    expect(lines()).toEqual([expect.stringMatching(/^tsvmm: \d+\.\d{6}s: warning: mind the gap$/), '']);
    const chatty = openReporter({ logFile, verbosity: 1, noShutdown: false });
    chatty.event({ source: 'virtio-device', event: 'reset', properties: { id: '__rng' } });
    expect(lines()).toEqual([expect.stringMatching(/s: info: virtio-device reset \{"id":"__rng"\}$/), '']);
  });

  it('that cannot be opened is refused', () => {
    expect(() => openReporter({ logFile: '/no/log', verbosity: 0, noShutdown: false })).toThrow(
      'Cannot open the log file',
    );
  });
});
