import { describe, expect, it } from 'vitest';
import { GuestStream } from '../../../src/host/guestStream.ts';
import type { StreamConnection, StreamHandlers } from '../../../src/host/listen.ts';

/** The machine's end of a socket, as a test moves it. */
class Machine {
  handlers: StreamHandlers | undefined;
  paused = false;
  terminated = false;
  keepsAlive = true;
  written = '';
  waiting = false;
  /** Sent and not received yet. */
  readonly #sent: Buffer[] = [];
  #ended = false;

  readonly connection: StreamConnection;

  constructor() {
    const machine = this;
    this.connection = {
      get waiting() {
        return machine.waiting;
      },
      write: (bytes) => {
        this.written += Buffer.from(bytes).toString();
      },
      end: () => {},
      terminate: () => {
        if (this.terminated) return;
        this.terminated = true;
        this.handlers?.closed();
      },
      pause: () => {
        this.paused = true;
      },
      resume: () => {
        this.paused = false;
        queueMicrotask(() => this.#deliver());
      },
      ref: () => {
        this.keepsAlive = true;
      },
      unref: () => {
        this.keepsAlive = false;
      },
    };
  }

  send(text: string | Buffer): void {
    this.#sent.push(Buffer.from(text));
    this.#deliver();
  }

  end(): void {
    this.#ended = true;
    this.#deliver();
  }

  #deliver(): void {
    while (!this.paused && !this.terminated && this.#sent.length > 0) {
      this.handlers?.data(this.#sent.shift() as Buffer);
    }
    if (this.#ended && !this.terminated && this.#sent.length === 0) this.handlers?.ended();
  }
}

function make(count = 1): { stream: GuestStream; machines: Machine[]; next: () => Machine } {
  const machines: Machine[] = [];
  const stream = new GuestStream((_fd, accept) => {
    const machine = new Machine();
    machines.push(machine);
    machine.handlers = accept(machine.connection);
  });
  const next = () => {
    stream.adopt(0);
    return machines.at(-1) as Machine;
  };
  for (let i = 0; i < count; i++) next();
  return { stream, machines, next };
}

async function read(stream: GuestStream): Promise<string> {
  let text = '';
  for await (const chunk of stream) text += chunk;
  return text;
}

describe('the stream of a guest', () => {
  it('holds the guest up when nobody reads, and takes all that is left when its machine ends', async () => {
    const { stream, machines } = make();
    const [machine] = machines as [Machine];
    stream.read(0);
    machine.send(Buffer.alloc(100_000, 'a'));
    expect(machine.paused).toBe(true);
    machine.send(Buffer.alloc(300_000, 'b'));
    expect(stream.readableLength).toBe(100_000);
    stream.drain();
    machine.end();
    stream.finish();
    expect(await read(stream)).toBe('a'.repeat(100_000) + 'b'.repeat(300_000));
  });

  it('keeps 8 MiB for a reader who comes too late', async () => {
    const { stream, machines } = make();
    const [machine] = machines as [Machine];
    stream.drain();
    await Promise.resolve();
    for (let i = 0; i < 20; i++) machine.send(Buffer.alloc(1 << 20));
    expect(stream.readableLength).toBe(8 << 20);
  });

  it('reads machines one after the other', async () => {
    const { stream, machines, next } = make();
    const [first] = machines as [Machine];
    first.send('one ');
    stream.drain();
    const second = next();
    second.send('two');
    expect(second.paused).toBe(true);
    first.send('more ');
    first.end();
    const text = read(stream);
    await Promise.resolve();
    stream.drain();
    second.end();
    stream.finish();
    expect(await text).toBe('one more two');
  });

  it('goes on where a loop was left', async () => {
    const { stream, machines } = make();
    const [machine] = machines as [Machine];
    machine.send('one ');
    for await (const chunk of stream) {
      expect(String(chunk)).toBe('one ');
      break;
    }
    expect(stream.destroyed).toBe(false);
    machine.send('two ');
    for await (const chunk of stream) {
      expect(String(chunk)).toBe('two ');
      break;
    }
    machine.send('three');
    machine.end();
    stream.finish();
    expect(await read(stream)).toBe('three');
    expect(await read(make(0).stream.destroy()).catch((error) => error.code)).toBe(
      'ERR_STREAM_PREMATURE_CLOSE',
    );
  });

  it('writes to the machine that runs, waits for it, and to nobody without losing its place', async () => {
    const { stream, machines, next } = make();
    const [first] = machines as [Machine];
    first.waiting = true;
    let done = 0;
    stream.write('a', () => done++);
    stream.write('b', () => done++);
    await Promise.resolve();
    expect([first.written, done]).toEqual(['a', 0]);
    first.waiting = false;
    first.handlers?.drained();
    await expect.poll(() => done).toBe(2);
    expect(first.written).toBe('ab');
    stream.drain();
    await new Promise((resolve) => stream.write('lost', resolve));
    const second = next();
    await new Promise((resolve) => stream.write('found', resolve));
    expect([first.written, second.written]).toEqual(['ab', 'found']);
  });

  it('is waited at for a text or a pattern, and leaves the rest to the next reader', async () => {
    const { stream, machines } = make();
    const [machine] = machines as [Machine];
    const login = stream.waitFor('login: ');
    machine.send('Welcome\nlog');
    await Promise.resolve();
    machine.send('in: \x1b[0m päss');
    expect(await login).toBe('Welcome\nlogin: ');
    machine.send('word: \xff 42 rest');
    expect(await stream.waitFor(/päss(word)?: /u)).toBe('\x1b[0m pässword: ');
    expect(await stream.waitFor(/\d+/g)).toBe('\xff 42');
    machine.end();
    stream.finish();
    expect(await read(stream)).toBe(' rest');
    await expect(stream.waitFor('more')).rejects.toMatchObject({ code: 'ERR_TSVMM_STREAM_ENDED' });
  });

  it('gives back what was read without a match', async () => {
    const { stream, machines } = make();
    const [machine] = machines as [Machine];
    machine.send('booting');
    await expect(stream.waitFor('login', { timeoutMs: 20 })).rejects.toMatchObject({
      code: 'ETIMEDOUT',
      message: 'After 20 ms there was no login; the last that came is "booting"',
    });
    const abort = new AbortController();
    const waiting = stream.waitFor(/login/, { signal: abort.signal });
    machine.send(' ...');
    abort.abort(new Error('not any more'));
    await expect(waiting).rejects.toThrow('not any more');
    await expect(stream.waitFor('x', { signal: abort.signal })).rejects.toThrow('not any more');
    machine.send(' login');
    expect(await stream.waitFor('login')).toBe('booting ... login');
    const ended = stream.waitFor('more');
    machine.send('no');
    machine.end();
    stream.finish();
    await expect(ended).rejects.toThrow(
      'Before the stream ended there was no more; the last that came is "no"',
    );
  });

  it('keeps the process alive only for what an ended machine left', () => {
    const { stream, machines } = make();
    expect(machines[0]?.keepsAlive).toBe(false);
    stream.drain();
    expect(machines[0]?.keepsAlive).toBe(true);
  });

  it('lets the machine write to nobody once it is destroyed', () => {
    const { stream, machines, next } = make();
    stream.destroy();
    expect(machines[0]?.terminated).toBe(true);
    expect(next().terminated).toBe(true);
  });
});
