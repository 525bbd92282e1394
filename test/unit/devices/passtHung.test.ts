/** A passt that nothing ends: a process that waits in the kernel for a store does not hear of signals. */
import { EventEmitter } from 'node:events';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { startPasst } from '../../../src/devices/net/passt.ts';
import { temporaryFolder } from '../api/vmhost/support.ts';
import { fakeNative } from '../support/fakeNative.ts';

const child = Object.assign(new EventEmitter(), {
  stderr: new PassThrough(),
  kill: vi.fn(() => true),
  unref: vi.fn(),
});
vi.mock('node:child_process', () => ({ spawn: () => child }));

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

test('is waited for no longer than ten seconds, and keeps nothing', async () => {
  const native = fakeNative(temporaryFolder());
  const started = expect(startPasst(native, { forwards: [] })).rejects.toThrow(
    /^The user network does not start: Waiting for the disk; passt was not ready within 10 s$/,
  );
  child.stderr.write('Waiting for the disk\n');
  await vi.advanceTimersByTimeAsync(10_000);
  await started;
  expect(child.kill).toHaveBeenCalledWith('SIGKILL');
  expect(child.unref).toHaveBeenCalled();
  expect(native.files.open.size).toBe(0);
});
