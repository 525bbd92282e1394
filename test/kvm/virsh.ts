/** Debian's own `virsh`, and a `tsvmmd` that it talks to. */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect, onTestFinished } from 'vitest';
import { Daemon } from './daemon.ts';
import { PAYLOAD, temporaryFolder } from './support.ts';

/** libvirt's own, in RELAX NG. */
export const SCHEMA = '/usr/share/libvirt/schemas/domain.rng';

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, LC_ALL: 'C', ...env },
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.on('error', reject).on('close', (code) => resolve({ code, stdout, stderr }));
  });
}

export interface Host {
  readonly daemon: Daemon;
  readonly folder: string;
  readonly uri: string;
  virsh(...words: string[]): Promise<string>;
  refused(...words: string[]): Promise<string>;
}

/** @param args of tsvmmd @param prefix words that run it */
export async function host(args: readonly string[] = [], prefix: readonly string[] = []): Promise<Host> {
  const daemon = new Daemon();
  await daemon.start(['--pool', '0', ...args], prefix);
  const uri = `tsvmm+unix:///system?socket=${daemon.dir}/virttsvmmd-sock`;
  const ask = (words: readonly string[]) => run('virsh', ['-c', uri, ...words]);
  return {
    daemon,
    folder: temporaryFolder(),
    uri,
    virsh: async (...words) => {
      const { code, stdout, stderr } = await ask(words);
      expect(code, `${words.join(' ')}: ${stderr}`).toBe(0);
      return stdout.trim();
    },
    refused: async (...words) => {
      const { code, stderr } = await ask(words);
      expect(code, words.join(' ')).not.toBe(0);
      return stderr;
    },
  };
}

export function documentFile(folder: string, name: string, cmdline: string, devices = ''): string {
  const file = path.join(folder, `${name}.xml`);
  fs.writeFileSync(
    file,
    `<domain type='kvm'><name>${name}</name><memory unit='MiB'>128</memory><vcpu>1</vcpu>
     <os><type arch='x86_64'>hvm</type><kernel>${PAYLOAD}</kernel><cmdline>${cmdline}</cmdline></os>
     <devices><serial type='pty'/>${devices}</devices></domain>`,
  );
  return file;
}

export interface Events {
  /** Of the domain `one`, as virsh tells them. */
  lines(): string[];
  clear(): void;
  /** Returns when virsh hears what happens. */
  ready(): Promise<void>;
  readonly child: ChildProcess;
}

export function watchEvents({ uri, virsh }: Host): Events {
  const child = spawn('virsh', ['-c', uri, 'event', '--all', '--loop'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  let heard = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    heard += text;
  });
  const lines = () =>
    [...heard.matchAll(/^event '(.*)' for domain 'one'(?:: (.*))?$/gm)].map(([, event, what]) =>
      `${event} ${what ?? ''}`.trim(),
    );
  const clear = () => {
    heard = '';
  };
  const ready = async () => {
    await expect
      .poll(async () => {
        await virsh('desc', 'one', '--title', 'any');
        return lines();
      })
      .toContain('metadata-change type title, uri <null>');
    clear();
  };
  return { lines, clear, ready, child };
}
