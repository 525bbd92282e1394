/** Debian's own `libvirtd` with a folder, and an account without privileges, of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { onTestFinished } from 'vitest';
import { listens } from '../../scripts/lib/listeningSockets.mjs';
import { temporaryFolder, until } from './support.ts';

/** Its QEMU driver wants accounts that only the system's service has, unless it is somebody's own. */
const NOBODY = 65_534;

export class Libvirtd {
  readonly folder = temporaryFolder();
  #process: ChildProcess | undefined;

  get socket(): string {
    return path.join(this.folder, 'run/libvirt/libvirt-sock');
  }

  /** @param settings lines of libvirtd.conf @param args such as `--listen` */
  async start(settings: readonly string[] = [], args: readonly string[] = []): Promise<void> {
    const config = path.join(this.folder, 'libvirtd.conf');
    fs.writeFileSync(config, ['auth_unix_rw = "none"', ...settings, ''].join('\n'));
    for (const name of ['home', 'run']) fs.mkdirSync(path.join(this.folder, name));
    const root = process.getuid?.() === 0;
    if (root)
      for (const name of ['', 'home', 'run']) fs.chownSync(path.join(this.folder, name), NOBODY, NOBODY);
    const home = path.join(this.folder, 'home');
    const child = spawn(
      'libvirtd',
      ['--config', config, '--pid-file', path.join(this.folder, 'pid'), ...args],
      {
        cwd: this.folder,
        stdio: ['ignore', 'ignore', 'pipe'],
        env: {
          PATH: `${process.env.PATH}:/usr/sbin`,
          HOME: home,
          XDG_CONFIG_HOME: `${home}/config`,
          XDG_CACHE_HOME: `${home}/cache`,
          XDG_RUNTIME_DIR: path.join(this.folder, 'run'),
        },
        ...(root && { uid: NOBODY, gid: NOBODY }),
      },
    );
    this.#process = child;
    let stderr = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    const exited = new Promise((resolve) => child.once('exit', resolve));
    onTestFinished(async () => {
      child.kill('SIGKILL');
      await exited;
    });
    await until(
      () => listens(this.socket) || child.exitCode !== null,
      () => `libvirtd does not listen: ${stderr}`,
    );
  }

  kill(): void {
    this.#process?.kill('SIGKILL');
  }
}
