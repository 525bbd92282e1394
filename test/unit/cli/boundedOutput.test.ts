import { expect, test, vi } from 'vitest';
import { BoundedOutput } from '../../../src/cli/boundedOutput.ts';

/** Takes `room` bytes in all. */
function reader(room: number) {
  const state = { room, text: '' };
  const output = new BoundedOutput(
    (bytes) => {
      const taken = Math.min(state.room, bytes.length);
      state.room -= taken;
      state.text += new TextDecoder().decode(bytes.subarray(0, taken));
      return taken;
    },
    (lost) => `[${lost} lost]`,
  );
  return { state, output };
}

test('records leave at once while somebody reads', () => {
  const { state, output } = reader(Number.POSITIVE_INFINITY);
  output.write('one ');
  output.write('two');
  expect(state.text).toBe('one two');
});

test('what a slow reader did not take leaves first, and without another record', async () => {
  const { state, output } = reader(5);
  output.write('one two ');
  output.write('three ');
  expect(state.text).toBe('one t');
  state.room = 1000;
  await vi.waitFor(() => expect(state.text).toBe('one two three '));
});

test('of what nobody reads a bounded part is kept, and the reader is told how much it missed', () => {
  const { state, output } = reader(0);
  const record = 'x'.repeat(1023).concat('\n');
  for (let i = 0; i < 1000; i++) output.write(record);
  // 256 KiB are kept.
  expect(output.lost).toBe(1000 - 256);
  state.room = Number.POSITIVE_INFINITY;
  output.write('here again\n');
  expect(state.text).toBe(`${record.repeat(256)}[744 lost]here again\n`);
  expect(output.lost).toBe(0);
});

test('a descriptor that was closed is no reason to stop', () => {
  const output = new BoundedOutput(
    () => {
      throw new Error('EBADF');
    },
    () => '',
  );
  output.write('one');
  output.write('two');
  expect(output.lost).toBe(2);
});

test('closing waits for a slow reader, but not for one that is stuck', async () => {
  const slow = reader(1);
  slow.output.write('last words');
  const reading = setInterval(() => {
    slow.state.room += 2;
  }, 5);
  await slow.output.close();
  clearInterval(reading);
  expect(slow.state.text).toBe('last words');

  const stuck = reader(0);
  stuck.output.write('last words');
  await stuck.output.close();
  expect(stuck.state.text).toBe('');
  // Who closes it again does not wait again.
  const before = performance.now();
  await stuck.output.close();
  expect(performance.now() - before).toBeLessThan(1000);
});

test('what can never be written is dropped, reported once, and counted for the reader when there is room again', () => {
  let full = true;
  let text = '';
  const faults: string[] = [];
  const output = new BoundedOutput(
    (bytes) => {
      if (full) throw Object.assign(new Error('no space left'), { code: 'ENOSPC' });
      text += new TextDecoder().decode(bytes);
      return bytes.length;
    },
    (lost) => `[${lost} lost]`,
    (error) => faults.push(error.message),
  );
  output.write('one ');
  output.write('two ');
  expect(faults).toEqual(['no space left']);
  expect(output.lost).toBe(2);
  full = false;
  output.write('three ');
  expect(text).toBe('three [2 lost]');
  expect(output.lost).toBe(0);
});
