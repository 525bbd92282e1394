/** Files on a mount whose server hangs: `hangingMount.c`, for commands that find it. */
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, expect } from 'vitest';
import { ROOT, settles, temporaryFolder } from './support.ts';

const build = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-hanging-'));
afterAll(() => fs.rmSync(build, { recursive: true, force: true }));
const program = path.join(build, 'hangingMount');
const source = path.join(ROOT, 'test/kvm/hangingMount.c');
execFileSync('cc', ['-O1', '-Wall', '-Wextra', '-Werror', '-o', program, source]);

/** How long the kernel remembers names. `hour`: that the server hangs is not known before it is asked for a file. */
export const MEMORIES = { none: 0, hour: 3600 } as const;

export interface HangingMount {
  /** A folder for what is not on it. */
  readonly folder: string;
  /** Words that run the command which follows them, in its own process, with the mount. */
  readonly prefix: readonly string[];
  /** What the command calls the file. */
  file(name: string): string;
  /** Somebody waits for it. */
  hangs(): Promise<void>;
  answer(): void;
}

/** @param files by name, what is copied there */
export function hangingMount(
  files: Readonly<Record<string, string>>,
  memory: keyof typeof MEMORIES = 'none',
): HangingMount {
  const folder = temporaryFolder();
  const [below, mount, hung] = ['files', 'mount', 'hung'].map((name) => path.join(folder, name)) as [
    string,
    string,
    string,
  ];
  for (const one of [below, mount]) fs.mkdirSync(one);
  for (const [name, from] of Object.entries(files)) fs.copyFileSync(from, path.join(below, name));
  return {
    folder,
    prefix: [program, below, mount, String(MEMORIES[memory]), hung],
    file: (name) => path.join(mount, name),
    hangs: () => settles(() => expect(fs.existsSync(`${hung}.waiting`)).toBe(true)),
    answer: () => fs.rmSync(hung),
  };
}

/** Why there cannot be such a mount. */
export function whyNoMount(): string | undefined {
  const [below, mount] = ['below-', 'mount-'].map((name) => fs.mkdtempSync(path.join(build, name)));
  const words = [below as string, mount as string, '0', path.join(build, 'hung'), 'true'];
  const { status, stderr } = spawnSync(program, words, { encoding: 'utf8' });
  return status === 0 ? undefined : stderr.trim();
}
