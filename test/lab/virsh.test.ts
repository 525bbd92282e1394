/** A stock guest of `tsvmmd` that Debian's own virsh looks after, which runs beside the lab. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { temporaryFolder } from '../kvm/support.ts';
import { type Ran, run } from '../kvm/virsh.ts';
import { guestFiles, Session, sharedLab } from './harness.ts';
import { tunnel } from './tunnel.ts';

const DIR = '/tmp/virsh';

/** A person's virsh: commands, and a console on a terminal. */
class Virsh {
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

  /** A domain with the stock guest. */
  async define(name: string, cmdline: string): Promise<void> {
    const file = path.join(this.#folder, `${name}.xml`);
    const { vmlinux, initramfs } = guestFiles;
    fs.writeFileSync(
      file,
      `<domain type='kvm'><name>${name}</name><memory unit='MiB'>256</memory><vcpu>2</vcpu>
       <os><type arch='x86_64'>hvm</type><kernel>${vmlinux}</kernel><initrd>${initramfs}</initrd>
         <cmdline>console=ttyS0 quiet ${cmdline}</cmdline></os>
       <devices><serial type='pty'/></devices></domain>`,
    );
    await this.run('define', file);
  }

  /** `virsh console`, which wants a terminal. */
  console(domain: string): Console {
    return new Console(`virsh -c '${this.#uri}' console ${domain}`);
  }

  async shutsOff(domain: string, reason: string): Promise<void> {
    await expect
      .poll(() => this.run('domstate', '--reason', domain), { timeout: 120_000, interval: 1000 })
      .toBe(`shut off (${reason})`);
  }
}

class Console {
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
async function virshOfLab(): Promise<Virsh> {
  const lab = await sharedLab();
  const daemon = new Session(lab, ['/tsvmm/bin/tsvmmd', '--dir', DIR, '--pool', '0', '--stop-vms']);
  onTestFinished(async () => {
    daemon.signal('SIGTERM');
    await daemon.exitCode();
  });
  await expect.poll(() => daemon.errors, { timeout: 60_000 }).toContain('serving ');
  return new Virsh(tunnel(lab, `${DIR}/virttsvmmd-sock`));
}

test('a domain is started, logged into, suspended, resumed, shut down by its button, and destroyed', async () => {
  const virsh = await virshOfLab();
  await virsh.define('shell', '');
  await virsh.run('start', 'shell');
  const console = virsh.console('shell');
  await console.shows('Escape character');
  await console.shows('is up: 2 vCPU');
  await console.shows('guest# ');
  console.type('echo $((6 * 7)) is $(uname -s)\n');
  await console.shows('42 is Linux');
  await console.shows('guest# ');

  await virsh.run('suspend', 'shell');
  expect(await virsh.run('domstate', '--reason', 'shell')).toBe('paused (user)');
  console.type("echo awake''ned\n");
  await new Promise((resolve) => setTimeout(resolve, 1500));
  expect(console.shown).not.toContain('awake');
  await virsh.run('resume', 'shell');
  await console.shows('awakened');
  await console.leave();
  expect(await virsh.run('domstate', 'shell')).toBe('running');
  await virsh.run('destroy', 'shell');
  await virsh.shutsOff('shell', 'destroyed');

  await virsh.define('button', 'run=button');
  await virsh.run('start', 'button');
  const button = virsh.console('button');
  await button.shows('waiting for the power button');
  await virsh.run('shutdown', '--mode', 'acpi', 'button');
  await button.shows('power button pressed');
  await virsh.shutsOff('button', 'shutdown');
  await expect.poll(() => button.closed, { timeout: 60_000 }).toBe(true);
});
