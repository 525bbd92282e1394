/** `tsvmm console`: connects a terminal, or a script, to a guest's console or serial port. */
import { parseArgs } from 'node:util';
import { VmmError } from '../../vmm/errors.ts';
import { printable } from '../../vmm/printable.ts';
import { writeOut } from '../standardOutput.ts';
import { FlowOutput } from '../terminal/flowOutput.ts';
import { outputSize, RawTerminal } from '../terminal/rawTerminal.ts';
import { UsageError, unparsed } from '../usageError.ts';
import { DEFAULT_ESCAPE, EscapeKeys, type EscapeSetting, parseEscape } from './escapeKeys.ts';
import { connectPort, type GuestPort, type PortConnection } from './guestPort.ts';
import { consoleHelp, consoleOptions } from './options.ts';
import { fateOf, identityOf } from './reattach.ts';
import { type ConsoleTarget, locatePort, namedTarget, type PortName } from './target.ts';

/** Of what is typed and the guest does not take. More is lost, as by a terminal. */
const TYPE_AHEAD = 4096;
const STDOUT = 1;
const CTRL_C = 0x03;

interface Asked {
  readonly target: ConsoleTarget;
  readonly readOnly: boolean;
  readonly leaving: EscapeSetting;
}

/** @param args behind `console` @returns the exit code @throws UsageError, VmmError */
export async function consoleCommand(args: readonly string[]): Promise<number> {
  const values = parse(args);
  if (values.help) {
    await writeOut(consoleHelp());
    return 0;
  }
  const asked = await read(values);
  const session = new Session(asked);
  try {
    return await session.run();
  } finally {
    session.close();
  }
}

type Values = Readonly<Record<string, string | boolean | undefined>> & { readonly name?: string };

/** @throws UsageError */
function parse(args: readonly string[]): Values {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      options: consoleOptions,
      allowPositionals: true,
    });
    const [name, extra] = positionals;
    if (extra !== undefined) throw new Error(`unexpected argument '${extra}'`);
    return { ...values, ...(name !== undefined && { name }) } as Values;
  } catch (error) {
    throw unparsed(error);
  }
}

/** @throws UsageError, VmmError */
async function read(values: Values): Promise<Asked> {
  const text = (key: string) => values[key] as string | undefined;
  const ways = ['name', 'socket', 'pty', 'api-socket'].filter((key) => values[key] !== undefined);
  if (ways.length !== 1)
    throw new UsageError('console needs a NAME, --api-socket, --socket or --pty: one of them');
  if (values.serial && values.console)
    throw new UsageError('console attaches to --serial or --console, not both');
  const port: PortName | undefined = values.serial ? 'serial' : values.console ? 'console' : undefined;
  const given = text('escape');
  const leaving = given === undefined ? DEFAULT_ESCAPE : parseEscape(given);
  if (leaving === undefined) throw new UsageError(`--escape ${given} is neither a key such as ^T nor none`);
  return { target: await targetOf(text, port), readOnly: values['read-only'] === true, leaving };
}

async function targetOf(
  text: (key: string) => string | undefined,
  port: PortName | undefined,
): Promise<ConsoleTarget> {
  const name = text('name');
  if (name !== undefined) return namedTarget(name, text('dir'), port);
  const api = text('api-socket')?.replace(/^path=/, '');
  if (api !== undefined) return { kind: 'api', socket: api, port, vm: 'the VM' };
  if (port) throw new UsageError(`--${port} chooses a port of a VM by its NAME or --api-socket`);
  const pty = text('pty');
  return pty !== undefined ? { kind: 'pty', path: pty } : { kind: 'socket', path: text('socket') as string };
}

/** One person or script at one port, over reboots of the guest. */
class Session {
  readonly #asked: Asked;
  readonly #interactive = process.stdin.isTTY === true;
  readonly #escape: EscapeKeys;
  readonly #output: FlowOutput | undefined;
  readonly #detached: Promise<'detached'>;
  #detach: () => void = () => {};
  #terminal: RawTerminal | undefined;
  #connection: PortConnection | undefined;
  /** Typed, and not taken by the guest yet. */
  #typed: Uint8Array = new Uint8Array();

  constructor(asked: Asked) {
    this.#asked = asked;
    this.#escape = new EscapeKeys(asked.leaving);
    this.#detached = new Promise((resolve) => {
      this.#detach = () => resolve('detached');
    });
    if (process.stdout.isTTY) this.#output = new FlowOutput(STDOUT, () => this.#connection?.resume());
  }

  /** @returns the exit code @throws VmmError if there is nothing to attach to, or another client takes it */
  async run(): Promise<number> {
    const { target, readOnly, leaving } = this.#asked;
    let port = await locatePort(target);
    for (;;) {
      const identity = await identityOf(port);
      const over = await this.#attach(port);
      if (this.#terminal) this.#say('attached again');
      else {
        this.#say(`attached to ${port.name}${readOnly ? ', read-only' : ''}; ${leaving.text}`);
        this.#openTerminal();
      }
      this.#resize();
      if ((await Promise.race([over.closed, this.#detached])) === 'detached') return this.#leave('detached');
      this.#connection = undefined;
      if (!this.#interactive) process.stdin.pause();
      const fate = await Promise.race([fateOf(target, port, identity), this.#detached]);
      if (fate === 'detached') return this.#leave('detached');
      if (fate === 'gone') return this.#leave(`${port.name} is gone`);
      if (fate === 'taken')
        throw new VmmError(`Another client has taken ${port.name}; --read-only shares it`);
      port = fate.port;
    }
  }

  close(): void {
    this.#connection?.close();
    this.#output?.close();
    this.#terminal?.close();
  }

  async #attach(port: GuestPort): Promise<{ readonly closed: Promise<'closed'> }> {
    let closed = () => {};
    const promise = new Promise<'closed'>((resolve) => {
      closed = () => resolve('closed');
    });
    this.#connection = await connectPort(port, this.#asked.readOnly, {
      data: (bytes) => this.#fromGuest(bytes),
      drained: () => this.#goOn(),
      closed,
    });
    this.#goOn();
    return { closed: promise };
  }

  #openTerminal(): void {
    this.#terminal = new RawTerminal({
      keys: (bytes) => this.#fromInput(bytes),
      // Without a terminal there is no user to detach. What a script has sent may have an answer.
      inputEnded: () => this.#interactive && this.#detach(),
      redraw: () => this.#resize(),
    });
  }

  /** A slow reader of this process's output makes the guest wait; with --read-only it misses output instead. */
  #fromGuest(bytes: Uint8Array): void {
    if (this.#output) {
      this.#output.write(bytes);
      if (this.#output.waiting) this.#connection?.pause();
      return;
    }
    this.#connection?.pause();
    void writeOut(bytes).then(() => this.#connection?.resume());
  }

  #fromInput(bytes: Uint8Array): void {
    const { readOnly } = this.#asked;
    if (!this.#interactive) {
      if (readOnly) return;
      this.#connection?.write(bytes);
      if (this.#connection?.waiting) process.stdin.pause();
      return;
    }
    const keys = this.#escape.take(bytes);
    if (keys === undefined || (readOnly && keys.includes(CTRL_C))) {
      this.#detach();
      return;
    }
    if (readOnly) return;
    this.#typed = Buffer.concat([this.#typed, keys]).subarray(0, TYPE_AHEAD);
    this.#goOn();
  }

  /** The guest has taken what it was sent. */
  #goOn(): void {
    const connection = this.#connection;
    if (connection === undefined || connection.waiting) return;
    if (!this.#interactive) {
      if (this.#terminal) process.stdin.resume();
      return;
    }
    if (this.#typed.length === 0) return;
    connection.write(this.#typed);
    this.#typed = new Uint8Array();
  }

  #resize(): void {
    if (this.#output && !this.#asked.readOnly) this.#connection?.resize(outputSize());
  }

  #leave(why: string): number {
    this.close();
    process.stderr.write(this.#interactive ? '\r\n' : '');
    this.#say(why);
    return 0;
  }

  /** To a terminal; scripts see the output of the guest alone. */
  #say(text: string): void {
    if (this.#interactive) process.stderr.write(`tsvmm: ${printable(text)}\r\n`);
  }
}
