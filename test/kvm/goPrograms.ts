/**
 * Programs of the tests in Go, with libraries that nobody here wrote. They are fetched when a test runs; nothing of
 * them is kept here.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { temporaryFolder } from './support.ts';

const GO = ['go', '/usr/local/go/bin/go'].find((each) => spawnSync(each, ['version']).status === 0);
const FETCH_MS = 120_000;
const COMPILE_MS = 240_000;

export interface GoModule {
  /** With its version. */
  readonly path: string;
  /** A checkout to take instead. */
  readonly replacement?: string | undefined;
}

/** @param source in `test/kvm/go` @returns the program, or why it cannot be had here */
export function goProgram(source: string, module: GoModule): { program: string } | { reason: string } {
  if (GO === undefined) return { reason: 'there is no Go on this machine' };
  const folder = temporaryFolder();
  const go = (timeout: number, ...args: string[]) =>
    execFileSync(GO, args, { cwd: folder, stdio: 'pipe', timeout, encoding: 'utf8' });
  fs.copyFileSync(path.join(import.meta.dirname, 'go', source), path.join(folder, 'main.go'));
  const [name = ''] = module.path.split('@');
  try {
    go(FETCH_MS, 'mod', 'init', 'tsvmm.test');
    if (module.replacement === undefined) go(FETCH_MS, 'get', module.path);
    else go(FETCH_MS, 'mod', 'edit', `-require=${module.path}`, `-replace=${name}=${module.replacement}`);
  } catch (error) {
    return { reason: `${module.path} cannot be fetched: ${lastLine(error)}` };
  }
  const program = path.join(folder, 'program');
  go(COMPILE_MS, 'build', '-mod=mod', '-o', program, '.');
  return { program };
}

function lastLine(error: unknown): string {
  const { stderr = '', message } = error as { stderr?: string; message: string };
  return stderr.trim().split('\n').at(-1) || message;
}
