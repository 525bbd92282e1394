import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { RunOptions } from '../../../src/cli/arguments.ts';
import { BoundedOutput } from '../../../src/cli/boundedOutput.ts';
import { openReporter } from '../../../src/cli/reporter.ts';
import { decode } from '../../../src/config/decode.ts';
import { type VmConfigInput, vmConfig } from '../../../src/config/vmConfig.ts';
import { describeError } from '../../../src/vmm/errors.ts';
import { type FakeNative, fakeNative } from '../support/fakeNative.ts';

let folder: string;
let native: FakeNative;
let stderr: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tsvmm-test-'));
  native = fakeNative(folder);
  stderr = '';
});

afterEach(() => rmSync(folder, { recursive: true }));

function open(options: Partial<RunOptions>) {
  const output = new BoundedOutput(
    (bytes) => {
      stderr += new TextDecoder().decode(bytes);
      return bytes.length;
    },
    () => '',
  );
  return openReporter(native, { verbosity: 0, noShutdown: false, apiStrict: false, ...options }, output);
}

describe('the event monitor', () => {
  it('writes one pretty object an event, with an empty line after each', () => {
    const path = join(folder, 'events');
    const reporter = open({ eventMonitor: { path }, logFile: join(folder, 'log') });
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

  it('blocks nobody where nobody reads, and tells how many events are missing', () => {
    let room = 1000;
    native.writeNow = (_fd, bytes) => {
      const taken = Math.min(room, bytes.length);
      room -= taken;
      text += new TextDecoder().decode(bytes.subarray(0, taken));
      return taken;
    };
    let text = '';
    const reporter = open({ eventMonitor: { path: join(folder, 'events') } });
    for (let i = 0; i < 10_000; i++) reporter.event({ source: 'vm', event: 'booting' });
    room = Number.POSITIVE_INFINITY;
    reporter.event({ source: 'vm', event: 'booted' });
    const records = text
      .split('\n\n')
      .slice(0, -1)
      .map((record) => JSON.parse(record));
    const lost = records.at(-2);
    expect(lost).toMatchObject({ source: 'vmm', event: 'events-lost' });
    expect(records.length - 2 + Number(lost.properties.count)).toBe(10_000);
    expect(records.at(-1)).toMatchObject({ event: 'booted' });
  });

  it('may be a descriptor, which must be open', () => {
    const fd = openSync(join(folder, 'events'), 'w');
    const reporter = open({ eventMonitor: { fd } });
    reporter.event({ source: 'vmm', event: 'starting' });
    closeSync(fd);
    expect(readFileSync(join(folder, 'events'), 'utf8')).toContain('"starting"');
    expect(() => open({ eventMonitor: { fd: 9999 } })).toThrow('Cannot open the event monitor');
  });
});

describe('the log', () => {
  const lines = () => readFileSync(join(folder, 'log'), 'utf8').split('\r\n');

  it('has warnings, and events when asked for more', () => {
    const logFile = join(folder, 'log');
    const quiet = open({ logFile });
    quiet.event({ source: 'vm', event: 'booted' });
    quiet.warn('mind the gap');
    quiet.error('vCPU 0 stopped');
    expect(lines()).toEqual([
      expect.stringMatching(/^tsvmm: \d+\.\d{6}s: warning: mind the gap$/),
      expect.stringMatching(/^tsvmm: \d+\.\d{6}s: error: vCPU 0 stopped$/),
      '',
    ]);
    const chatty = open({ logFile, verbosity: 1 });
    chatty.event({ source: 'virtio-device', event: 'reset', properties: { id: '__rng' } });
    expect(lines()).toEqual([expect.stringMatching(/s: info: virtio-device reset \{"id":"__rng"\}$/), '']);
  });

  it('has lines of the form that was asked for', () => {
    const logFile = join(folder, 'log');
    open({ logFile, logFormat: '{levelchar} {{{msg}}}' }).warn('mind the gap');
    expect(lines()).toEqual(['W {mind the gap}', '']);
    expect(() => open({ logFile, logFormat: '{mesage}' })).toThrow('unknown token {mesage}');
  });

  it('that cannot be opened is refused', () => {
    expect(() => open({ logFile: '/no/log' })).toThrow('Cannot open the log file');
  });

  it('goes to stderr unless it has a file', () => {
    open({}).warn('mind the gap');
    expect(stderr).toMatch(/^tsvmm: \d+\.\d{6}s: warning: mind the gap\r\n$/);
  });

  it('shows nothing of what a guest says as it is', () => {
    open({ logFile: join(folder, 'log') }).warn('\x1b[2Jgap\r\ntsvmm: 0.1s: info: forged');
    expect(lines()).toEqual([
      expect.stringMatching(/warning: \\x1b\[2Jgap\\r\\ntsvmm: 0.1s: info: forged$/),
      '',
    ]);
  });
});

describe('the files of log and event monitor', () => {
  const path = (name: string) => join(folder, name);
  const config = (input: Partial<VmConfigInput>) =>
    decode(vmConfig, { payload: { kernel: path('kernel') }, ...input });

  beforeEach(() => {
    for (const name of ['kernel', 'disk', 'memory', 'random']) writeFileSync(path(name), 'precious');
  });

  it.each(['kernel', 'disk', 'memory', 'random'])('are not the %s of the VM', (name) => {
    const vm = config({
      disks: [{ path: path('disk') }],
      pmem: [{ file: path('memory') }],
      rng: { src: path('random') },
    });
    symlinkSync(path(name), path('link'));
    const expected = 'Cannot open the event monitor: Cannot use .*link for the event monitor: the VM has it';
    expect(() => messageOf(() => open({ vm, eventMonitor: { path: path('link') } }))).toThrow(
      new RegExp(expected),
    );
    expect(readFileSync(path(name), 'utf8')).toBe('precious');
  });

  it('are not locked by somebody else', () => {
    native.files.locked.set(path('disk'), [{ fd: 9999, exclusive: false }]);
    expect(() => messageOf(() => open({ logFile: path('disk') }))).toThrow('in use and locked');
    expect(readFileSync(path('disk'), 'utf8')).toBe('precious');
  });

  it('are not emptied where a disk could have them below its image', () => {
    const vm = config({ disks: [{ path: path('disk'), image_type: 'Qcow2', backing_files: true }] });
    writeFileSync(path('base'), 'precious');
    open({ vm, logFile: path('base') });
    expect(readFileSync(path('base'), 'utf8')).toBe('precious');
  });

  it('may be one and the same', () => {
    const both = open({ logFile: path('both'), eventMonitor: { path: path('both') } });
    both.warn('one');
    both.event({ source: 'vm', event: 'booted' });
    expect(readFileSync(path('both'), 'utf8')).toMatch(/^tsvmm: .*one\r\n\{(?:.|\n)*booted/);
  });

  it('may be terminals, FIFOs and devices', () => {
    open({ logFile: '/dev/null', eventMonitor: { path: '/dev/null' } }).warn('gone');
  });
});

/** Throws the whole chain of what `work` throws. */
function messageOf(work: () => void): void {
  try {
    work();
  } catch (error) {
    throw new Error(describeError(error));
  }
}
