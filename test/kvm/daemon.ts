/** A `tsvmmd` with a folder of its own, and people's commands to it. */
import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { expect, onTestFinished } from 'vitest';
import { vmhostProcessesOf } from '../../scripts/lib/vmhostProcesses.mjs';
import type { VmDescription } from '../../src/supervisor/vmState.ts';
import { PAYLOAD, ROOT, type Runtime, Tsvmm, temporaryFolder, until } from './support.ts';

export class Daemon {
  readonly dir: string;
  stderr = '';
  exited: Promise<number | null> = Promise.resolve(0);
  #process: ChildProcess | undefined;
  readonly #env: NodeJS.ProcessEnv;

  constructor(runtime: Runtime = 'standalone') {
    this.dir = temporaryFolder();
    this.#env = { ...process.env, ...(runtime === 'node' ? { TSVMM_RUNTIME: 'node' } : {}) };
    onTestFinished(async () => {
      this.#process?.kill('SIGKILL');
      await this.exited;
      for (const pid of this.processes()) process.kill(pid, 'SIGKILL');
    });
  }

  /** @param prefix words that run the command which follows them, in its own process */
  async start(args: readonly string[] = ['--pool', '0'], prefix: readonly string[] = []): Promise<void> {
    const [program, ...words] = [...prefix, path.join(ROOT, 'bin/tsvmmd'), '--dir', this.dir, ...args];
    const child = spawn(program as string, words, {
      env: this.#env,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#process = child;
    this.stderr = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    this.exited = new Promise((resolve) => child.once('exit', resolve));
    await until(
      () => this.stderr.includes('serving ') || child.exitCode !== null || child.signalCode !== null,
      () => `tsvmmd does not serve: ${this.stderr}`,
    );
  }

  get pid(): number {
    return this.#process?.pid as number;
  }

  async kill(signal: NodeJS.Signals): Promise<number | null> {
    this.#process?.kill(signal);
    return this.exited;
  }

  /** Processes of VMs, and of the pool. */
  processes(): number[] {
    return vmhostProcessesOf(this.dir);
  }

  /** A command of a person; its standard output. */
  async tsvmm(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(...args);
    expect(code, stderr).toBe(0);
    return stdout;
  }

  async run(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const [name = '', ...rest] = args;
    const vmm = new Tsvmm([name, '--dir', this.dir, ...rest]);
    const { code } = await vmm.exit();
    return { code, stdout: vmm.stdout, stderr: vmm.stderr };
  }

  /** Starts a VM whose guest runs the payload's programs. */
  vm(name: string, cmdline: string, ...args: string[]): Promise<string> {
    const machine = ['--kernel', PAYLOAD, '--cmdline', cmdline, '--memory', 'size=128M'];
    return this.tsvmm('run', '-d', '--name', name, ...args, ...machine);
  }

  async list(): Promise<Record<string, string>> {
    const all = JSON.parse(await this.tsvmm('ps', '-a', '--json')) as VmDescription[];
    return Object.fromEntries(all.map((vm) => [vm.name, vm.state]));
  }
}
