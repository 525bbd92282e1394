import { Duplex } from 'node:stream';
import { expect, test } from 'vitest';
import { StopLadder, type StoppableVm } from '../../../../src/api/vmhost/stopLadder.ts';

/** The agent's end of a stream: what it receives line by line, and what it says. */
function agent(answer: (line: string, say: (text: string) => void) => void): Duplex {
  const stream: Duplex = new Duplex({
    read: () => {},
    write: (chunk, _encoding, done) => {
      answer(String(chunk), (text) => stream.push(text));
      done();
    },
  });
  return stream;
}

/** Ends when `endsBy` is what was done last. */
function vm(endsBy: string, connectAgent?: NonNullable<StoppableVm['connectAgent']>) {
  const steps: string[] = [];
  let end = () => {};
  const exited = new Promise<void>((resolve) => {
    end = resolve;
  });
  const step = async (name: string) => {
    steps.push(name);
    if (name === endsBy) end();
  };
  const stoppable: StoppableVm = {
    exited,
    ...(connectAgent && { connectAgent }),
    resumeIfPaused: () => step('resume'),
    powerButton: () => step('button'),
    end: () => step('force'),
  };
  return { stoppable, steps, step };
}

const run = async (stoppable: StoppableVm, ms: number) => {
  const lines: string[] = [];
  await new StopLadder(stoppable, ms, (line) => lines.push(line.replace(/\d+\.\d s/, 'T s'))).run();
  return lines;
};

test('a guest without an agent that heeds its power button', async () => {
  const { stoppable, steps } = vm('button');
  expect(await run(stoppable, 60_000)).toEqual([
    'stop: pressed the ACPI power button (after T s)',
    'stop: the VM is gone (after T s)',
  ]);
  expect(steps).toEqual(['resume', 'button']);
});

test('a guest that does not heed it is ended by force when the time is over', async () => {
  const { stoppable, steps } = vm('force');
  expect(await run(stoppable, 100)).toEqual([
    'stop: pressed the ACPI power button (after T s)',
    'stop: ending the VM by force (after T s)',
    'stop: the VM is gone (after T s)',
  ]);
  expect(steps).toEqual(['resume', 'button', 'force']);
});

test('an agent that accepts is given its share of the time, and no button is pressed', async () => {
  const guest = vm('agent', async () =>
    agent((line, say) => {
      expect(JSON.parse(line)).toEqual({ type: 'shutdown', payload: { reason: 'stop' } });
      say(
        '{"type":"lifecycle","payload":{"state":"shutdown"}}\n{"type":"ack","payload":{"reply_to":"shutdown","ok":true}}\n',
      );
      void guest.step('agent');
    }),
  );
  expect(await run(guest.stoppable, 60_000)).toEqual([
    'stop: the guest agent accepted to shut down (after T s)',
    'stop: the VM is gone (after T s)',
  ]);
  expect(guest.steps).toEqual(['resume', 'agent']);
});

test.each([
  [
    'refuses',
    () => agent((_, say) => say('{"type":"ack","payload":{"ok":false,"error":"busy"}}\n')),
    /refused shutdown: "busy"/,
  ],
  ['says nothing', () => agent(() => {}), /did not answer in time/],
  ['talks nonsense', () => agent((_, say) => say('hello\n')), /no JSON/],
  ['sends a line without end', () => agent((_, say) => say('x'.repeat((1 << 20) + 1))), /line without end/],
])('an agent that %s: the button is pressed', async (_, make, reason) => {
  const { stoppable, steps } = vm('button', async () => make());
  const lines = await run(stoppable, 2_000);
  expect(lines[0]).toMatch(reason);
  expect(steps).toEqual(['resume', 'button']);
});

test('an agent that nobody can reach: the button is pressed', async () => {
  const { stoppable, steps } = vm('button', (signal) => {
    return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  });
  expect((await run(stoppable, 400))[0]).toMatch(/no answer within/);
  expect(steps).toEqual(['resume', 'button']);
});

test('an agent that accepts and does nothing: the button, then force, within the time', async () => {
  const { stoppable, steps } = vm('force', async () =>
    agent((_, say) => say('{"type":"ack","payload":{"ok":true}}\n')),
  );
  await run(stoppable, 300);
  expect(steps).toEqual(['resume', 'button', 'force']);
});

test('a machine without a power button is ended by force at once', async () => {
  const { stoppable, steps } = vm('force');
  const lines = await run({ ...stoppable, powerButton: () => Promise.reject(new Error('no GED')) }, 60_000);
  expect(lines).toContainEqual('stop: ACPI power button failed: no GED (after T s)');
  expect(steps).toEqual(['resume', 'force']);
});
