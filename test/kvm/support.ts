/** What the end-to-end tests share: a tsvmm process with a payload guest in it, and looks at it from outside. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, vi } from 'vitest';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
export const BIN = path.join(ROOT, 'bin/tsvmm');
export const PAYLOAD = path.join(ROOT, 'build/guest/payload');
export const HELLO = path.join(ROOT, 'build/guest/hello');

/** Both hosts of the same source: the standalone executable, and Node.js. */
export const RUNTIMES = ['standalone', 'node'] as const;
export type Runtime = (typeof RUNTIMES)[number];

/** How long is waited for what has to happen. Only a test that fails waits this long, on the busiest machine, too. */
const PATIENCE_MS = 120_000;
const SECTOR = 512;

/** An empty folder that goes with the test. */
export function temporaryFolder(): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-kvm-'));
  onTestFinished(() => fs.rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A raw image of zeroes with this text at the start of sector 1. */
export function diskImage(
  folder: string,
  name: string,
  options: { size?: number; text?: string } = {},
): string {
  const file = path.join(folder, name);
  fs.writeFileSync(file, '');
  fs.truncateSync(file, options.size ?? 8 << 20);
  if (options.text !== undefined) {
    const fd = fs.openSync(file, 'r+');
    fs.writeSync(fd, options.text, SECTOR);
    fs.closeSync(fd);
  }
  return file;
}

/** The 64-bit words that the guest's block_pattern writes to `sector` (test/guest/lib/block.c). */
export function patternSector(sector: number, seed: bigint): Buffer {
  const bytes = Buffer.alloc(SECTOR);
  for (let i = 0; i < SECTOR / 8; i++) {
    const word = BigInt.asUintN(64, (BigInt(sector) * 64n + BigInt(i) + 1n) * 0x9e3779b97f4a7c15n) ^ seed;
    bytes.writeBigUInt64LE(word, i * 8);
  }
  return bytes;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface ApiAnswer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly text: string;
  /** Parsed, or undefined without a body. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look at answers of many shapes
  readonly json: any;
}

/** One request to a VMM's socket. */
export function request(
  socketPath: string,
  method: string,
  endpoint: string,
  body?: unknown,
): Promise<ApiAnswer> {
  return new Promise((resolve, reject) => {
    const payload = body === undefined ? undefined : JSON.stringify(body);
    const headers = payload === undefined ? {} : { 'Content-Length': Buffer.byteLength(payload) };
    const sent = http.request(
      { socketPath, method, path: `/api/v1/${endpoint}`, headers, agent: false },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('error', reject);
        response.on('end', () => {
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            text,
            json: text === '' ? undefined : JSON.parse(text),
          });
        });
      },
    );
    sent.on('error', reject);
    sent.end(payload);
  });
}

/** A running bin/tsvmm. Ended by force when the test ends, if it is still there then. */
export class Tsvmm {
  readonly exited: Promise<Exit>;
  stdout = '';
  stderr = '';
  readonly #child: ChildProcess;
  readonly #socket: string | undefined;
  #exit: Exit | undefined;

  /**
   * @param options.prefix words that run the command which follows them, in its own process
   * @param options.command words that run another tsvmm than this checkout's
   */
  constructor(
    args: readonly string[],
    options: {
      runtime?: Runtime;
      inherit?: readonly number[];
      prefix?: readonly string[];
      command?: readonly string[];
      cwd?: string;
    } = {},
  ) {
    const env = { ...process.env };
    delete env.TSVMM_RUNTIME;
    if (options.runtime === 'node') env.TSVMM_RUNTIME = 'node';
    const at = args.indexOf('--api-socket');
    this.#socket = at < 0 ? undefined : args[at + 1]?.replace(/^path=/, '');
    const [program, ...words] = [...(options.prefix ?? []), ...(options.command ?? [BIN]), ...args];
    this.#child = spawn(program as string, words, {
      env,
      ...(options.cwd !== undefined && { cwd: options.cwd }),
      stdio: ['pipe', 'pipe', 'pipe', ...(options.inherit ?? [])],
    });
    this.#child.stdout?.setEncoding('latin1').on('data', (text: string) => {
      this.stdout += text;
    });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    // Who writes to a process that has ended is told by its exit code.
    this.#child.stdin?.on('error', () => {});
    this.exited = new Promise((resolve, reject) => {
      this.#child.on('error', reject);
      this.#child.on('close', (code, signal) => {
        this.#exit = { code, signal };
        resolve(this.#exit);
      });
    });
    onTestFinished(async () => {
      this.#child.kill('SIGKILL');
      await this.exited;
    });
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error('the process did not start');
    return this.#child.pid;
  }

  /** The first that it writes to standard output. */
  get firstOutput(): Promise<unknown> {
    return once(this.#child.stdout as Readable, 'data');
  }

  write(text: string): void {
    this.#child.stdin?.write(text, 'latin1');
  }

  endInput(): void {
    this.#child.stdin?.end();
  }

  /** As when whoever reads the output goes away. */
  closeOutput(): void {
    this.#child.stdout?.destroy();
  }

  /** Nobody reads the output for a while. */
  pauseOutput(): void {
    this.#child.stdout?.pause();
  }

  resumeOutput(): void {
    this.#child.stdout?.resume();
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Waits for text on standard output (or what `read` gives). Fails when the process ends first. */
  async waitFor(wanted: string | RegExp, read: () => string = () => this.stdout): Promise<void> {
    const found = () => (typeof wanted === 'string' ? read().includes(wanted) : wanted.test(read()));
    await until(
      () => found() || this.#exit !== undefined,
      () => this.#describe(`no ${wanted}`, read()),
    );
    if (!found()) throw new Error(this.#describe(`ended before ${wanted}`, read()));
  }

  async exit(): Promise<Exit> {
    await until(
      () => this.#exit !== undefined,
      () => this.#describe('still running', ''),
    );
    return this.exited;
  }

  /** Waits until the API socket answers. */
  async ready(): Promise<void> {
    const end = Date.now() + PATIENCE_MS;
    for (;;) {
      try {
        const answer = await this.api('GET', 'vmm.ping');
        if (answer.status === 200) return;
      } catch (error) {
        if (this.#exit !== undefined || Date.now() > end) {
          throw new Error(this.#describe('no API', ''), { cause: error });
        }
      }
      await sleep(5);
    }
  }

  /** Once there is a socket, which a guest that has just started may be ahead of. */
  async api(method: string, endpoint: string, body?: unknown): Promise<ApiAnswer> {
    const socket = this.#socket;
    if (socket === undefined) throw new Error('started without --api-socket');
    await until(
      () => fs.existsSync(socket) || this.#exit !== undefined,
      () => this.#describe('no API', ''),
    );
    return request(socket, method, endpoint, body);
  }

  #describe(what: string, text: string): string {
    const exit = this.#exit ? `exit ${JSON.stringify(this.#exit)}\n` : '';
    return `${what}\n${exit}read: ${text.slice(-2000)}\nstdout: ${this.stdout.slice(-2000)}\nstderr: ${this.stderr}`;
  }
}

export interface GuestOptions {
  /** The payload's command line, `run=` first. */
  readonly cmdline: string;
  readonly args?: readonly string[];
  readonly memory?: string;
  /** The virtio console; off unless given. */
  readonly console?: string;
  readonly runtime?: Runtime;
  /** Words that run the VMM, in its own process. */
  readonly prefix?: readonly string[];
  /** The guest breaks devices: the VMM may warn of that. */
  readonly hostile?: boolean;
  /** What the VMM is to say; nothing unless given. */
  readonly stderr?: RegExp;
}

/** The words that boot the payload with its serial port on standard output. */
export function guestArgs(options: GuestOptions): string[] {
  return [
    ...['--kernel', PAYLOAD, '--cmdline', options.cmdline],
    ...['--memory', `size=${options.memory ?? '128M'}`],
    ...['--serial', 'tty', '--console', options.console ?? 'off'],
    ...(options.args ?? []),
  ];
}

/** Starts the payload; the caller goes on with it. */
export function startGuest(options: GuestOptions): Tsvmm {
  const { runtime, prefix } = options;
  return new Tsvmm(guestArgs(options), { ...(runtime && { runtime }), ...(prefix && { prefix }) });
}

/** Runs the payload to its power-off and returns what it wrote; fails on any `not ok` and any other end. */
export async function runGuest(options: GuestOptions): Promise<string> {
  const vmm = startGuest(options);
  const exit = await vmm.exit();
  expectAllOk(vmm.stdout);
  expect(exit, vmm.stderr).toEqual({ code: 0, signal: null });
  if (options.hostile) expectOnlyDeviceWarnings(vmm.stderr);
  else expect(vmm.stderr).toMatch(options.stderr ?? /^$/);
  return vmm.stdout;
}

const HOSTILE_WARNING =
  /^tsvmm: warning: The (device \w+ stopped: [\w ]+|guest resets itself again and again, [\d.]+ times a second)/;

/** What a VMM may say of a guest that breaks its devices: one sentence each, and not without end. */
export function expectOnlyDeviceWarnings(stderr: string): void {
  const lines = stderr.split(/\r?\n/).filter((line) => line !== '');
  expect(lines.filter((line) => !HOSTILE_WARNING.test(line))).toEqual([]);
  expect(lines.length).toBeLessThan(100);
}

/** The payload's own verdict: every check `ok`, and as many as it says. */
export function expectAllOk(output: string): void {
  const lines = output.split(/\r?\n/);
  const failed = lines.filter((line) => line.startsWith('not ok '));
  expect(failed, output.slice(-4000)).toEqual([]);
  const passed = lines.filter((line) => line.startsWith('ok ')).length;
  const done = lines.find((line) => line.startsWith('done '));
  expect(done, output.slice(-4000)).toBe(`done ${passed}`);
  expect(passed).toBeGreaterThan(0);
}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export async function until(condition: () => boolean, describe: () => string): Promise<void> {
  const end = Date.now() + PATIENCE_MS;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`after ${PATIENCE_MS} ms: ${describe()}`);
    await sleep(2);
  }
}

/** Waits until what `check` expects is so; fails as it does if that never happens. */
export async function settles(check: () => void | Promise<void>): Promise<void> {
  await vi.waitFor(check, { timeout: PATIENCE_MS, interval: 20 });
}

/** Waits until a process hardly computes any more. */
export function calmsDown(pid: number, windowMs = 300): Promise<void> {
  return settles(async () => {
    const before = cpuTimeMs(pid);
    await sleep(windowMs);
    expect(cpuTimeMs(pid) - before).toBeLessThanOrEqual(20);
  });
}

/** Names of a process's threads, sorted. */
export function threadNames(pid: number): string[] {
  const tasks = `/proc/${pid}/task`;
  return fs
    .readdirSync(tasks)
    .flatMap((tid) => {
      try {
        return [fs.readFileSync(`${tasks}/${tid}/comm`, 'utf8').trim()];
      } catch {
        return []; // it has ended since
      }
    })
    .sort();
}

/** Those of them that are the VMM's own making: not the JavaScript engine's, not the kernel's workers. */
export function nativeThreads(pid: number): string[] {
  return threadNames(pid).filter((name) =>
    /^(vcpu\d+|_disk\d+_q\d+|_net\d+_qp\d+|_vsock\d+|serial-manager)$/.test(name),
  );
}

/** How often each thread was switched to or from, by `tid name`. */
export function contextSwitches(pid: number): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const tid of fs.readdirSync(`/proc/${pid}/task`)) {
    const status = fs.readFileSync(`/proc/${pid}/task/${tid}/status`, 'utf8');
    const name = /^Name:\s*(.*)$/m.exec(status)?.[1];
    let total = 0;
    for (const match of status.matchAll(/ctxt_switches:\s*(\d+)/g)) total += Number(match[1]);
    counts[`${tid} ${name}`] = total;
  }
  return counts;
}

export function openDescriptors(pid: number): number {
  return fs.readdirSync(`/proc/${pid}/fd`).length;
}

/** CPU time of the whole process in milliseconds. */
export function cpuTimeMs(pid: number): number {
  const fields = fs
    .readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  // Fields 14 and 15 of proc(5), in ticks of 10 ms.
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** Private anonymous memory in KiB, without mappings as large as the guest's memory or that less its first 2 MiB. */
export function privateAnonymousKiB(pid: number, guestMemoryKiB: number): number {
  let total = 0;
  let skip = false;
  for (const line of fs.readFileSync(`/proc/${pid}/smaps`, 'utf8').split('\n')) {
    const mapping = /^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+\s*(.*)$/.exec(line);
    if (mapping) skip = /guest|memfd/.test(mapping[1] ?? '');
    const size = /^Size:\s+(\d+) kB/.exec(line);
    if (size && [guestMemoryKiB, guestMemoryKiB - 2048].includes(Number(size[1]))) skip = true;
    const anonymous = /^Anonymous:\s+(\d+) kB/.exec(line);
    if (anonymous && !skip) total += Number(anonymous[1]);
  }
  return total;
}
