/** A project in an empty folder that has installed our packages without any script, as a user gets them. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { nodeBin, ROOT } from '../../scripts/lib/paths.mjs';

/** A guest that prints `hello` and powers off. */
export const HELLO = path.join(ROOT, 'build/guest/hello');

export interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What comes of a program that prints `startsVm`'s line. */
export const HELLO_PRINTED: Ended = {
  status: 0,
  stdout: `${JSON.stringify({ text: 'hello\n', exit: 'power-off' })}\n`,
  stderr: '',
};

/** The body of a program that starts a VM and prints what it says and why it ended. */
export const STARTS_VM = `
async function main() {
  const vm = await VirtualMachine.create({ kernel: ${JSON.stringify(HELLO)}, memory: '64M', serial: 'stream' });
  await vm.boot();
  let text = '';
  for await (const chunk of vm.serial) text += chunk;
  console.log(JSON.stringify({ text, exit: (await vm.exited).reason }));
}
`;

export class Consumer {
  readonly folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-package-'));

  /** @param packages tarballs to install */
  constructor(packages: readonly string[]) {
    spawnSync('make', ['-s', '-C', path.join(ROOT, 'test/guest'), HELLO], { stdio: 'inherit' });
    this.write('package.json', '{ "name": "consumer", "private": true }\n');
    const args = ['install', '--ignore-scripts', '--omit=optional', '--prefer-offline', ...packages];
    const { status, stderr } = this.run('npm', args);
    if (status !== 0) throw new Error(stderr);
  }

  path(name: string): string {
    return path.join(this.folder, name);
  }

  write(name: string, text: string): void {
    fs.mkdirSync(path.dirname(this.path(name)), { recursive: true });
    fs.writeFileSync(this.path(name), text);
  }

  run(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Ended {
    const { status, stdout, stderr } = spawnSync(command, args, {
      cwd: this.folder,
      encoding: 'utf8',
      env: { ...process.env, ...env },
      timeout: 240_000,
    });
    return { status, stdout, stderr };
  }

  checkTypes(file: string): Ended {
    return this.run(nodeBin('tsc'), [
      ...['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2022', '--lib', 'esnext'],
      ...['--typeRoots', path.join(ROOT, 'node_modules/@types'), '--types', 'node', file],
    ]);
  }

  remove(): void {
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}
