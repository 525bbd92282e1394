import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { FileKind } from '../../../src/host/openFlags.ts';
import type { MachineHandle } from '../../../src/native.ts';
import { VmmError } from '../../../src/vmm/errors.ts';
import { EventLog } from '../../../src/vmm/eventLog.ts';
import type { FakeClient } from '../support/fakeStreams.ts';
import { NO_CONTENT, PING, rest } from './rest/servedRest.ts';
import { fakeVmm } from './support.ts';

const INFO = 'GET /api/v1/vm.info HTTP/1.1\r\n\r\n';
const COUNTERS = 'GET /api/v1/vm.counters HTTP/1.1\r\n\r\n';
const BOOT = 'PUT /api/v1/vm.boot HTTP/1.1\r\n\r\n';
const DELETE = 'PUT /api/v1/vm.delete HTTP/1.1\r\n\r\n';
const UNKNOWN = 'GET /nowhere HTTP/1.1\r\n\r\n';
const NOT_FOUND =
  'HTTP/1.1 404 \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n' +
  'Content-Type: application/json\r\nContent-Length: 13\r\n\r\n["Not Found"]';

function parseError(text: string, status = 400): string {
  const body = `{ "error": "${text}" }`;
  return (
    `HTTP/1.1 ${status} \r\nServer: Firecracker API\r\nConnection: close\r\n` +
    `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`
  );
}

function start(vmm = fakeVmm()) {
  rest.serve(vmm);
  return vmm;
}

/** A promise and how to fulfil it. */
function later() {
  let finish: () => void = () => {};
  const promise = new Promise<void>((resolve) => {
    finish = resolve;
  });
  return { promise, finish };
}

/** What has been promised by now has come. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('a connection', () => {
  it('is answered with exactly these bytes', () => {
    start();
    const one = rest.streams.connect();
    one.send(PING);
    const [head, body] = one.text.split('\r\n\r\n') as [string, string];
    expect(head).toBe(
      'HTTP/1.1 200 \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n' +
        `Content-Type: application/json\r\nContent-Length: ${body.length}`,
    );
    expect(JSON.parse(body)).toMatchObject({ pid: process.pid });
  });

  it.each(['HTTP/1.1\r\nConnection: close\r\n', 'HTTP/1.0\r\n'])(
    'is kept after a request of %j, as the reference keeps it',
    (request) => {
      start();
      const one = rest.streams.connect();
      one.send(`GET /nowhere ${request}\r\n`);
      one.send(UNKNOWN);
      expect(one.text).toBe(NOT_FOUND + NOT_FOUND);
      expect(one.closed).toBe(false);
    },
  );

  it('has its requests answered in order, though the first takes long', async () => {
    const { promise, finish } = later();
    const vmm = fakeVmm();
    vmm.boot.mockReturnValue(promise);
    start(vmm);
    const one = rest.streams.connect();
    one.send(BOOT + UNKNOWN);
    one.send(UNKNOWN);
    const other = rest.streams.connect();
    other.send(UNKNOWN);
    expect([one.text, other.text]).toEqual(['', NOT_FOUND]);
    finish();
    await settled();
    expect(one.text).toBe(NO_CONTENT + NOT_FOUND + NOT_FOUND);
  });

  it('is answered after the client has shut its side down', async () => {
    const { promise, finish } = later();
    const vmm = fakeVmm();
    vmm.boot.mockReturnValue(promise);
    start(vmm);
    const one = rest.streams.connect();
    one.send(BOOT + UNKNOWN);
    one.endInput();
    expect(one.closed).toBe(false);
    finish();
    await settled();
    expect([one.text, one.closed]).toEqual([NO_CONTENT + NOT_FOUND, true]);
  });

  it('is closed when the client shuts its side down in the middle of a request', () => {
    start();
    const one = rest.streams.connect();
    one.send('GET /a HTTP/1.1\r\n');
    one.endInput();
    expect([one.text, one.closed]).toEqual(['', true]);
  });

  it('lets others have their turn between many requests', async () => {
    start();
    const one = rest.streams.connect();
    one.send(UNKNOWN.repeat(1000));
    const other = rest.streams.connect();
    other.send(UNKNOWN);
    expect(other.text).toBe(NOT_FOUND);
    expect(one.text.length).toBeLessThan(100 * NOT_FOUND.length);
    await expect.poll(() => one.text.length).toBe(1000 * NOT_FOUND.length);
  });

  it('says 100 before it takes a body that waits for it', async () => {
    const vmm = start();
    const one = rest.streams.connect();
    one.send('PUT /api/v1/vm.create HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n');
    expect(one.text).toBe('HTTP/1.1 100 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n');
    one.send('{}');
    await settled();
    expect(one.text.endsWith(NO_CONTENT)).toBe(true);
    expect(vmm.create).toHaveBeenCalledTimes(1);
  });

  it('gets one 400 for nonsense, after the answers to what came before, and is closed', () => {
    const vmm = start();
    const one = rest.streams.connect();
    one.send(`${UNKNOWN}POST / HTTP/1.1\r\n\r\n${BOOT}`);
    expect([one.text, one.closed]).toEqual([NOT_FOUND + parseError('Invalid HTTP Method.'), true]);
    expect(vmm.boot).not.toHaveBeenCalled();
  });

  it('may go away in the middle', async () => {
    const { promise, finish } = later();
    const vmm = fakeVmm();
    vmm.boot.mockReturnValue(promise);
    start(vmm);
    const one = rest.streams.connect();
    one.send(BOOT + BOOT);
    one.leave();
    finish();
    await settled();
    expect(one.closed).toBe(true);
    const two = rest.streams.connect();
    two.send(UNKNOWN);
    expect(two.text).toBe(NOT_FOUND);
  });

  it('has a few of its requests carried out after it has left, however many it sent', async () => {
    const { promise, finish } = later();
    const vmm = fakeVmm();
    vmm.boot.mockReturnValue(promise);
    start(vmm);
    const one = rest.streams.connect();
    one.send(BOOT + DELETE.repeat(900));
    one.leave();
    finish();
    await vi.waitFor(() => expect(one.closed).toBe(true));
    expect(vmm.delete).toHaveBeenCalledTimes(15);
  });
});

describe('a client that does not read', () => {
  it('gets no further answers until it does', () => {
    start();
    const one = rest.streams.connect();
    one.reading = false;
    for (let i = 0; i < 5; i++) one.send(UNKNOWN);
    one.read();
    expect(one.text).toBe(NOT_FOUND.repeat(5));
  });

  it('is closed after 10 s, and delays no other client before that', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    start();
    const one = rest.streams.connect();
    one.reading = false;
    one.send(UNKNOWN);
    const other = rest.streams.connect();
    other.send(UNKNOWN);
    expect(other.text).toBe(NOT_FOUND);
    await vi.advanceTimersByTimeAsync(9_999);
    expect(one.closed).toBe(false);
    await vi.advanceTimersByTimeAsync(1);
    expect(one.closed).toBe(true);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(other.closed).toBe(false);
  });

  it('is closed also where the answer is a remembered one', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    start();
    rest.streams.connect().send(INFO);
    const one = rest.streams.connect();
    const reader = rest.streams.connect();
    for (const client of [one, reader]) {
      client.reading = false;
      client.send(INFO);
    }
    await vi.advanceTimersByTimeAsync(9_999);
    expect(one.closed).toBe(false);
    reader.read();
    await vi.advanceTimersByTimeAsync(1);
    expect(one.closed).toBe(true);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(reader.closed).toBe(false);
  });

  it('is not waited for after its last answer either', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    start();
    const one = rest.streams.connect();
    one.reading = false;
    one.send('POST / HTTP/1.1\r\n\r\n');
    expect(one.closed).toBe(false);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(one.closed).toBe(true);
  });
});

describe('a deadline', () => {
  it('is not missed by a client whose requests the server is late with', () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const turns: (() => void)[] = [];
    const setImmediate = vi.spyOn(globalThis, 'setImmediate');
    setImmediate.mockImplementation((turn) => turns.push(turn as () => void) as unknown as NodeJS.Immediate);
    onTestFinished(() => setImmediate.mockRestore());
    start();
    const client = rest.streams.connect();
    client.send(UNKNOWN.slice(0, 5));
    client.send(UNKNOWN.slice(5) + UNKNOWN.repeat(39));
    expect(turns).toHaveLength(1);
    vi.advanceTimersByTime(60_000);
    for (let turn = turns.shift(); turn; turn = turns.shift()) turn();
    expect(client.text).toBe(NOT_FOUND.repeat(40));
    expect(client.closed).toBe(false);
  });

  it('is as far off as ever for each that follows', () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    start();
    const client = rest.streams.connect();
    // Each time the next one has begun.
    client.send(UNKNOWN.slice(0, 5));
    for (let i = 0; i < 10; i++) {
      vi.advanceTimersByTime(9_999);
      client.send(UNKNOWN.slice(5) + UNKNOWN.slice(0, 5));
    }
    expect(client.text).toBe(NOT_FOUND.repeat(10));
    vi.advanceTimersByTime(10_000);
    expect(client.text).toContain('The request did not arrive within 10 s.');
    expect(client.closed).toBe(true);
  });

  it('is met by a client that reads each answer, and asks for more than it reads', () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    start();
    const client = rest.streams.connect();
    client.reading = false;
    client.send(UNKNOWN.repeat(10));
    for (let i = 1; i <= 8; i++) {
      vi.advanceTimersByTime(9_999);
      client.readOnce();
      expect(client.text).toBe(NOT_FOUND.repeat(i));
    }
    vi.advanceTimersByTime(10_000);
    expect(client.closed).toBe(true);
    expect(client.text).toBe(NOT_FOUND.repeat(8));
  });
});

describe('a slow request', () => {
  it.each(['GET', 'GET /a HTTP/1.1\r\nHost: h\r\n', 'PUT /a HTTP/1.1\r\nContent-Length: 2\r\n\r\n1'])(
    'has 10 s to arrive: %j',
    async (text) => {
      vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
      start();
      const one = rest.streams.connect();
      one.send(UNKNOWN);
      await vi.advanceTimersByTimeAsync(60_000);
      for (const char of text) one.send(char);
      await vi.advanceTimersByTimeAsync(9_999);
      expect(one.closed).toBe(false);
      await vi.advanceTimersByTimeAsync(1);
      expect(one.text).toBe(NOT_FOUND + parseError('The request did not arrive within 10 s.'));
      expect(one.closed).toBe(true);
    },
  );

  it('may arrive byte by byte, and takes no time from the next', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    start();
    const one = rest.streams.connect();
    for (let round = 0; round < 3; round++) {
      for (const char of UNKNOWN) {
        one.send(char);
        await vi.advanceTimersByTimeAsync(200);
      }
      expect(one.text).toBe(NOT_FOUND.repeat(round + 1));
    }
  });

  it('that is carried out for long is waited for', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const vmm = fakeVmm();
    vmm.boot.mockImplementation(() => new Promise((resolve) => setTimeout(resolve, 3_600_000)));
    start(vmm);
    const one = rest.streams.connect();
    one.send(BOOT + UNKNOWN.slice(0, 10));
    await vi.advanceTimersByTimeAsync(3_600_000);
    expect(one.text).toBe(NO_CONTENT);
    one.send(UNKNOWN.slice(10));
    expect(one.text).toBe(NO_CONTENT + NOT_FOUND);
  });

  it('takes no more memory than there is for all of them', () => {
    start();
    const body = `PUT /a HTTP/1.1\r\nContent-Length: ${4 << 20}\r\n\r\n`;
    const four = Array.from({ length: 4 }, () => rest.streams.connect());
    for (const one of four) one.send(body);
    const fifth = rest.streams.connect();
    fifth.send(body);
    expect(fifth.text).toBe(parseError('Too many requests are on their way.', 503));
    const small = rest.streams.connect();
    small.send(UNKNOWN);
    expect(small.text).toBe(NOT_FOUND);
    four[0]?.leave();
    const sixth = rest.streams.connect();
    sixth.send(body + 'x'.repeat(4 << 20));
    expect(sixth.text).toBe(NOT_FOUND);
  });
});

describe('the number of connections', () => {
  it('is 512: the one that was idle for the longest time makes room', () => {
    start();
    const all = Array.from({ length: 512 }, () => rest.streams.connect());
    const next = rest.streams.connect();
    next.send(UNKNOWN);
    expect(next.text).toBe(NOT_FOUND);
    expect(all.map(({ closed }) => closed)).toEqual([true, ...Array(511).fill(false)]);
  });

  it('does not count those that were told to go, and are not closed yet', () => {
    start();
    const idle = rest.streams.connect();
    for (let i = 0; i < 512; i++) {
      const rude = rest.streams.connect();
      rude.reading = false;
      rude.send('nonsense\r\n\r\n');
      expect(rude.closed).toBe(false);
    }
    const next = rest.streams.connect();
    next.send(UNKNOWN);
    expect([next.text, idle.closed]).toEqual([NOT_FOUND, false]);
    idle.send(UNKNOWN);
    expect(idle.text).toBe(NOT_FOUND);
  });

  it('does not count those that have left while the VM is busy with what they asked for', async () => {
    const { promise, finish } = later();
    const vmm = fakeVmm();
    vmm.removeDevice.mockReturnValue(promise);
    start(vmm);
    const body = '{"id":"d","wait_ms":600000}';
    const removal = `PUT /api/v1/vm.remove-device HTTP/1.1\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    const idle = rest.streams.connect();
    for (let i = 0; i < 600; i++) {
      const impatient = rest.streams.connect();
      // Some leave in the same moment.
      if (i % 2 === 0) impatient.send(removal.slice(0, 50));
      impatient.send(i % 2 === 0 ? removal.slice(50) : removal);
      impatient.leave();
      expect(impatient.closed).toBe(true);
    }
    expect(vmm.removeDevice).toHaveBeenCalledTimes(600);
    const next = rest.streams.connect();
    next.send(UNKNOWN);
    expect([next.text, idle.closed]).toEqual([NOT_FOUND, false]);
    // Who only says no more is answered.
    const patient = rest.streams.connect();
    patient.send(removal);
    patient.endInput();
    expect(patient.closed).toBe(false);
    finish();
    await settled();
    expect([patient.text, patient.closed]).toEqual([NO_CONTENT, true]);
  });

  it('ends waits for a guest when their clients have left', async () => {
    const vmm = fakeVmm();
    const { promise, finish } = later();
    vmm.removeDevice.mockReturnValue(promise);
    vmm.resize.mockReturnValue(promise);
    start(vmm);
    const put = (name: string, body: string) =>
      `PUT /api/v1/${name} HTTP/1.1\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    const removal = put('vm.remove-device', '{"id":"d","wait_ms":600000}');
    const impatient = rest.streams.connect();
    impatient.send(removal);
    const patient = rest.streams.connect();
    patient.send(removal);
    patient.endInput();
    const signals = vmm.removeDevice.mock.calls.map(([, options]) => options?.signal);
    impatient.leave();
    expect(signals.map((signal) => signal?.aborted)).toEqual([true, false]);
    // Its turn comes later, and so does the question whether somebody waits.
    const early = rest.streams.connect();
    early.send(put('vm.resize', '{"desired_vcpus":2,"wait_ms":600000}'));
    early.leave();
    expect(vmm.resize.mock.calls[0]?.[1]?.signal?.aborted).toBe(true);
    // Also if it sent more, which has its turn afterwards and is not waited for either.
    const hasty = rest.streams.connect();
    hasty.send(removal + removal);
    hasty.send(removal);
    const waits = () => vmm.removeDevice.mock.calls.slice(2).map(([, options]) => options?.signal?.aborted);
    expect(waits()).toEqual([false]);
    hasty.leave();
    expect(waits()).toEqual([true]);
    finish();
    await settled();
    expect(waits()).toEqual([true, true, true]);
    expect(hasty.closed).toBe(true);
    // With force there is something to do in the end.
    const forced = rest.streams.connect();
    forced.send(put('vm.remove-device', '{"id":"d","wait_ms":600000,"force":true}'));
    forced.leave();
    expect(vmm.removeDevice).toHaveBeenLastCalledWith('d', { force: true, waitMs: 600_000 });
  });

  it('ends waits for a guest when their connections break', async () => {
    const vmm = fakeVmm();
    const { promise, finish } = later();
    vmm.resize.mockReturnValue(promise);
    start(vmm);
    const body = '{"desired_vcpus":2,"wait_ms":600000}';
    const request = `PUT /api/v1/vm.resize HTTP/1.1\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    const [early, late] = [rest.streams.connect(), rest.streams.connect()];
    for (const one of [early, late]) one.send(request);
    const [first, second] = vmm.resize.mock.calls.map(([, client]) => client);
    const signal = first?.signal;
    early.reset();
    expect(signal?.aborted).toBe(true);
    late.reset();
    // Its turn comes now, and with it the question whether somebody waits.
    expect(second?.signal?.aborted).toBe(true);
    finish();
    await settled();
  });

  it('is a limit where all are at work: the next one is told why', async () => {
    const { promise, finish } = later();
    const vmm = fakeVmm();
    vmm.boot.mockReturnValue(promise);
    start(vmm);
    const all = Array.from({ length: 512 }, () => rest.streams.connect());
    for (const one of all) one.send(BOOT);
    const next = rest.streams.connect();
    expect([next.text, next.closed]).toEqual([
      'HTTP/1.1 503 \r\nServer: Firecracker API\r\nConnection: close\r\nContent-Length: 40\r\n\r\n' +
        '{ "error": "Too many open connections" }',
      true,
    ]);
    finish();
    await settled();
    const after = rest.streams.connect();
    after.send(UNKNOWN);
    expect(after.text).toBe(NOT_FOUND);
  });
});

describe('an answer that lasts', () => {
  it('is given without asking, to those who ask with the same bytes', () => {
    const vmm = start();
    const one = rest.streams.connect();
    for (let i = 0; i < 3; i++) one.send(INFO);
    expect(vmm.info).toHaveBeenCalledTimes(1);
    expect(one.text.split('HTTP/1.1 200')).toHaveLength(4);
    rest.streams.connect().send(INFO.replace('\r\n', '\r\nHost: other\r\n'));
    expect(vmm.info).toHaveBeenCalledTimes(2);
  });

  it('lasts until something changes', () => {
    const vmm = start();
    const one = rest.streams.connect();
    one.send(INFO);
    const info = vmm.info();
    vmm.info.mockReturnValue({ ...info, state: 'Running' });
    vmm.watchInfo.mock.calls[0]?.[0]?.();
    one.send(INFO);
    expect(one.text.match(/"state":"\w+"/g)).toEqual(['"state":"Created"', '"state":"Running"']);
  });

  it('is another one at once when something changes, without anybody having asked', () => {
    const vmm = start();
    const one = rest.streams.connect();
    one.send(PING);
    one.send(INFO);
    const info = vmm.info();
    vmm.info.mockReturnValue({ ...info, state: 'Running' });
    vmm.watchInfo.mock.calls[0]?.[0]?.();
    expect(rest.streams.remembered.get(INFO)).toContain('"state":"Running"');
    vmm.info.mockImplementation(() => {
      throw new VmmError('VM is not created', { kind: 'missing' });
    });
    vmm.watchInfo.mock.calls[0]?.[0]?.();
    expect([...rest.streams.remembered.keys()]).toEqual([PING]);
    one.send(INFO);
    expect(one.text).toMatch(/HTTP\/1\.1 404 .*"VM is not created"\]$/s);
    vmm.info.mockReturnValue(info);
    vmm.watchInfo.mock.calls[0]?.[0]?.();
    expect(rest.streams.remembered.get(INFO)).toContain('"state":"Created"');
  });

  it('has the counters of its moment, put in by the core', () => {
    const vmm = start();
    vmm.countedMachine = {} as MachineHandle;
    vmm.counters.mockReturnValue({ '_d"0': { a: 0n, b: 1n }, _e: {}, 7: { c: 2n } });
    const one = rest.streams.connect();
    one.send(COUNTERS);
    // The fake's values, in the order of the places.
    expect(one.text).toMatch(/\{"7":\{"c":2\},"_d\\"0":\{"a":0,"b":1\},"_e":\{\}\}$/);
    const answer = rest.streams.remembered.get(COUNTERS) as string;
    expect(answer.slice(answer.indexOf('{'))).toBe('{"7":{"c":0},"_d\\"0":{"a":1,"b":2},"_e":{}}');
    expect(answer.slice(0, answer.indexOf('{'))).toBe(one.text.slice(0, one.text.indexOf('{')));
    // While a command is in progress, those from before it are the answer.
    vmm.countedMachine = undefined;
    vmm.watchInfo.mock.calls[0]?.[0]?.();
    expect(rest.streams.remembered.get(COUNTERS)).toBe(one.text);
  });

  it('is none where the machine counts other things than were told', () => {
    vi.spyOn(rest.streams, 'streamRememberCounters').mockImplementation(() => {
      throw new Error('the machine counts other things');
    });
    start().countedMachine = {} as MachineHandle;
    const one = rest.streams.connect();
    one.send(COUNTERS);
    expect(one.text).toContain('HTTP/1.1 200 ');
    expect([...rest.streams.remembered]).toEqual([]);
  });

  it.each([undefined, { '"memory_actual_size":1': { id: 'x', resources: [], children: [] } }])(
    'has the memory that a balloon leaves at its moment, put in by the core: %j',
    (tree) => {
      const vmm = start();
      vmm.countedMachine = {} as MachineHandle;
      const { config } = vmm.info();
      const balloon = { size: 0, deflate_on_oom: false, free_page_reporting: false, pci_segment: 0 };
      const payload = { cmdline: '"memory_actual_size":1' };
      // Less than the machine has: it is what the next one gets.
      const memory = { ...config.memory, size: 2048 };
      const device_tree = tree && { device_tree: tree };
      const told = { config: { ...config, payload, balloon, memory }, state: 'Running' as const };
      vmm.info.mockReturnValue({ ...told, memory_actual_size: 4000, ...device_tree });
      const one = rest.streams.connect();
      one.send(INFO);
      expect(one.text).toContain('"memory_actual_size":4000');
      // The fake's balloon has twice as much in it.
      const answer = rest.streams.remembered.get(INFO);
      expect(answer).toBe(one.text.replace('"memory_actual_size":4000', '"memory_actual_size":3904'));
      // While a command is in progress, what was before it is the answer.
      vmm.countedMachine = undefined;
      vmm.watchInfo.mock.calls[0]?.[0]?.();
      expect(rest.streams.remembered.get(INFO)).toBe(one.text);
    },
  );

  it('is none of a request that is not alone', () => {
    start();
    const one = rest.streams.connect();
    one.send(INFO + INFO);
    one.send(INFO.slice(0, 5));
    one.send(INFO.slice(5));
    one.send(UNKNOWN);
    expect([...rest.streams.remembered]).toEqual([]);
  });
});

describe('descriptors', () => {
  const open = (count: number) =>
    Array.from({ length: count }, () => rest.files.openFile('/dev/null', 0, 0, FileKind.character));

  it.each([
    ['with the whole request', (client: FakeClient) => client.send(UNKNOWN, open(2))],
    [
      'with its first bytes',
      (client: FakeClient) => {
        client.send('GET', open(2));
        client.send(UNKNOWN.slice(3));
      },
    ],
    ['with nonsense', (client: FakeClient) => client.send('nonsense\r\n\r\n', open(2))],
    ['to a path that takes none', (client: FakeClient) => client.send(PING, open(2))],
  ])('that nobody takes are closed: %s', async (_, send) => {
    start();
    const before = rest.files.open.size;
    send(rest.streams.connect());
    await settled();
    expect(rest.files.open.size).toBe(before);
  });

  it('of a request that never comes are closed when its client leaves', () => {
    start();
    const before = rest.files.open.size;
    const one = rest.streams.connect();
    one.send('GET /a', open(3));
    expect(rest.files.open.size).toBe(before + 3);
    one.leave();
    expect(rest.files.open.size).toBe(before);
  });
});

describe('events', () => {
  const EVENTS_HEAD =
    'HTTP/1.1 200 \r\nServer: Cloud Hypervisor API\r\nConnection: close\r\n' +
    'Content-Type: text/event-stream\r\nCache-Control: no-store\r\n\r\n';
  let log: EventLog;

  beforeEach(() => {
    log = new EventLog();
    rest.serve(fakeVmm(), { events: log });
  });

  const happen = (...events: string[]) => {
    for (const event of events) log.add({ source: 'vm', event });
  };
  /** Ids and names of what a client has got. */
  const heard = ({ text }: FakeClient) => {
    const body = text.slice(EVENTS_HEAD.length);
    return [...body.matchAll(/id: (\d+)\ndata: (.*)\n\n/g)].map(([, id, data]) => {
      const { source, event, properties, timestamp } = JSON.parse(data as string);
      expect([source, properties, typeof timestamp.secs, typeof timestamp.nanos]).toEqual([
        'vm',
        null,
        'number',
        'number',
      ]);
      return `${id} ${event}`;
    });
  };
  const listen = (query = '', header = '') => {
    const one = rest.streams.connect();
    one.send(`GET /api/v1/vm.events${query} HTTP/1.1\r\n${header}\r\n`);
    return one;
  };

  it('are told as they happen', () => {
    happen('booting');
    const one = listen();
    expect(one.text).toBe(EVENTS_HEAD);
    happen('booted', 'pausing');
    expect(heard(one)).toEqual(['2 booted', '3 pausing']);
    expect(one.closed).toBe(false);
  });

  it.each([
    ['?after=0', '', ['1 a', '2 b', '3 c', '4 d']],
    ['?after=2', '', ['3 c', '4 d']],
    ['', 'Last-Event-ID: 1\r\n', ['2 b', '3 c', '4 d']],
    ['?after=3', 'Last-Event-ID: 1\r\n', ['4 d']],
    ['', 'Last-Event-ID: x\r\n', ['4 d']],
    // Of a process that was there before.
    ['', 'Last-Event-ID: 99\r\n', ['1 a', '2 b', '3 c', '4 d']],
  ])('are told again from where a client was: %s %j', (query, header, events) => {
    happen('a', 'b', 'c');
    const one = listen(query, header);
    happen('d');
    expect(heard(one)).toEqual(events);
  });

  it('wait for a client that does not read, and are counted where there are too many', () => {
    const one = listen();
    one.reading = false;
    happen('a');
    happen(...Array(1100).fill('b'));
    expect(one.text).toBe(EVENTS_HEAD);
    one.read();
    expect(one.text).toContain('\n\n: 76 events are no longer kept\n\nid: 78\n');
    expect(heard(one)).toHaveLength(1025);
    expect(heard(one).at(-1)).toBe('1101 b');
    one.reading = true;
    happen('c');
    expect(heard(one).at(-1)).toBe('1102 c');
  });

  it('end when the client leaves, and not when it only says no more', () => {
    const one = listen();
    one.endInput();
    happen('a');
    expect([heard(one), one.closed]).toEqual([['1 a'], false]);
    one.leave();
    expect([one.closed, log.watchers]).toEqual([true, 0]);
    const two = listen();
    two.send(UNKNOWN, [rest.files.openFile('/dev/null', 0, 0, FileKind.character)]);
    happen('b');
    expect(heard(two)).toEqual(['2 b']);
  });

  it('end after 10 s of a client that reads nothing', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const one = listen();
    await vi.advanceTimersByTimeAsync(3_600_000);
    expect(one.closed).toBe(false);
    one.reading = false;
    happen('a');
    await vi.advanceTimersByTimeAsync(10_000);
    expect([one.closed, log.watchers]).toEqual([true, 0]);
  });

  it('are for 64 clients at once', () => {
    for (let i = 0; i < 64; i++) expect(listen().text).toBe(EVENTS_HEAD);
    expect(listen().text).toContain('["Too many event streams"]');
  });

  it.each(['?after=', '?after=-1', '?before=1', '?after=1&x', '?'])('take no other query: %s', (query) => {
    expect(listen(query).text).toMatch(query === '?' ? EVENTS_HEAD : /^HTTP\/1\.1 400 /);
  });
});

describe('closing', () => {
  it('waits for the answer to be taken', async () => {
    const vmm = fakeVmm();
    vmm.quit.mockImplementation(() => new Promise((resolve) => setTimeout(resolve, 30)));
    start(vmm);
    const one = rest.streams.connect();
    one.send('PUT /api/v1/vmm.shutdown HTTP/1.1\r\n\r\n');
    await rest.server?.close();
    expect([one.text, one.closed]).toEqual([
      'HTTP/1.1 200 \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n' +
        'Content-Type: application/json\r\nContent-Length: 0\r\n\r\n',
      true,
    ]);
  });

  it('waits a second for those who do not take it, and not for idle clients', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    start();
    const idle = rest.streams.connect();
    idle.send(UNKNOWN);
    const one = rest.streams.connect();
    one.reading = false;
    one.send(UNKNOWN);
    const closed = rest.server?.close();
    await vi.advanceTimersByTimeAsync(999);
    expect([idle.closed, one.closed]).toEqual([false, false]);
    await vi.advanceTimersByTimeAsync(1);
    await closed;
    expect([idle.closed, one.closed]).toEqual([true, true]);
  });
});
