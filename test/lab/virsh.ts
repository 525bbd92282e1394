/** Debian's own virsh, which runs beside the lab, and a `tsvmmd` in it. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect, onTestFinished } from 'vitest';
import { temporaryFolder } from '../kvm/support.ts';
import { type Ran, run } from '../kvm/virsh.ts';
import { Session, sharedLab } from './harness.ts';
import { tunnel } from './tunnel.ts';

const DIR = '/tmp/virsh';

/** A person's virsh: commands, and a console on a terminal. */
export class Virsh {
  readonly #uri: string;
  readonly #folder = temporaryFolder();

  constructor(socket: string) {
    this.#uri = `tsvmm+unix:///system?socket=${socket}`;
  }

  try(...words: string[]): Promise<Ran> {
    return run('virsh', ['-c', this.#uri, ...words]);
  }

  async run(...words: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.try(...words);
    expect(code, `${words.join(' ')}: ${stderr}`).toBe(0);
    return stdout.trim();
  }

  /** @param inside a domain's elements */
  async define(name: string, inside: string): Promise<void> {
    const file = path.join(this.#folder, `${name}.xml`);
    fs.writeFileSync(file, `<domain type='kvm'><name>${name}</name>${inside}</domain>`);
    await this.run('define', file);
  }

  /** `virsh console`, which wants a terminal. */
  console(domain: string): Console {
    return new Console(`virsh -c '${this.#uri}' console ${domain}`);
  }

  async shutsOff(domain: string, reason: string, timeout = 120_000): Promise<void> {
    await expect
      .poll(() => this.run('domstate', '--reason', domain), { timeout, interval: 1000 })
      .toBe(`shut off (${reason})`);
  }
}

export class Console {
  shown = '';
  closed = false;
  readonly #child;

  constructor(command: string) {
    const child = spawn('script', ['-qec', command, '/dev/null'], { stdio: ['pipe', 'pipe', 'ignore'] });
    child.stdout.setEncoding('latin1').on('data', (text: string) => {
      this.shown += text;
    });
    child.stdin.on('error', () => {});
    child.once('close', () => {
      this.closed = true;
    });
    onTestFinished(() => void child.kill('SIGKILL'));
    this.#child = child;
  }

  type(text: string): void {
    this.#child.stdin.write(text);
  }

  /** Waits for what comes after what was waited for last. */
  async shows(wanted: string, timeout = 120_000): Promise<void> {
    await expect.poll(() => this.shown, { timeout }).toContain(wanted);
    this.shown = this.shown.slice(this.shown.indexOf(wanted) + wanted.length);
  }

  /** virsh looks for its escape at the beginning of what it reads. */
  async leave(): Promise<void> {
    await expect
      .poll(() => {
        if (!this.closed) this.type('\x1d');
        return this.closed;
      })
      .toBe(true);
  }
}

/** A virsh that reaches a `tsvmmd` of its own in the lab. */
export async function virshOfLab(): Promise<Virsh> {
  const lab = await sharedLab();
  const daemon = new Session(lab, ['/tsvmm/bin/tsvmmd', '--dir', DIR, '--pool', '0', '--stop-vms']);
  onTestFinished(async () => {
    daemon.signal('SIGTERM');
    await daemon.exitCode();
  });
  await expect.poll(() => daemon.errors, { timeout: 60_000 }).toContain('serving ');
  return new Virsh(tunnel(lab, `${DIR}/virttsvmmd-sock`));
}
