/** What `tsvmmd` makes of a folder in which all that can be damaged is, while VMs run on. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { settles } from './support.ts';
import { documentFile, host } from './virsh.ts';

/** What is in place of a file then. */
const DAMAGES: Readonly<Record<string, (file: string) => void>> = {
  'cut off': (file) => fs.truncateSync(file, Math.floor(fs.statSync(file).size / 2)),
  empty: (file) => fs.writeFileSync(file, ''),
  'random bytes': (file) => fs.writeFileSync(file, randomBytes(5_000)),
  'vast files': (file) => fs.writeFileSync(file, Buffer.alloc(2 << 20, ' ')),
  folders: (file) => replace(file, fs.mkdirSync),
  FIFOs: (file) => replace(file, (name) => execFileSync('mkfifo', [name])),
  'links to themselves': (file) => replace(file, (name) => fs.symlinkSync(name, name)),
  'links to nothing': (file) => replace(file, (name) => fs.symlinkSync('/nowhere', name)),
};

function replace(file: string, make: (file: string) => void): void {
  fs.rmSync(file);
  make(file);
}

/** Who has the lock of a folder or socket cannot be told without it: that is an error at the start, in one sentence. */
function isDamaged(file: string): boolean {
  return fs.lstatSync(file).isFile() && !file.endsWith('.lock');
}

test.each(Object.keys(DAMAGES))(
  'where files are %s, VMs are found, the rest is told, and all can be removed',
  async (what) => {
    const one = await host();
    const { daemon, folder, virsh } = one;
    for (const name of ['on', 'off']) await virsh('define', documentFile(folder, name, 'run=idle'));
    await virsh('start', 'on');
    await virsh('desc', 'on', '--title', '--config', 'any');
    const [pid = 0] = daemon.processes();
    await daemon.kill('SIGKILL');
    for (const name of fs.readdirSync(daemon.dir, { recursive: true, encoding: 'utf8' })) {
      const file = path.join(daemon.dir, name);
      if (isDamaged(file)) DAMAGES[what]?.(file);
    }
    const foreign = path.join(daemon.dir, 'vms', 'a\x1b[2J');
    fs.mkdirSync(foreign);
    fs.writeFileSync(path.join(foreign, 'vm.json'), '{}');
    await daemon.start();
    expect(daemon.stderr).toContain('/a\\x1b[2J is left alone');
    fs.rmSync(foreign, { recursive: true });
    expect(daemon.stderr.match(/The definition of the VM (on|off) is broken: /g)).toHaveLength(2);
    expect(await daemon.list()).toEqual({ on: 'running', off: 'broken' });
    expect(JSON.parse(await daemon.tsvmm('inspect', 'on')).pid).toBe(pid);
    expect(await virsh('list', '--all', '--title')).toMatch(/on +running.*off +shut off/s);
    await virsh('domstats');
    await daemon.tsvmm('logs', 'on');
    expect(await one.refused('start', 'off')).toMatch(/The definition of the VM off is broken/);
    await daemon.tsvmm('stop', '--force', 'on');
    // In order: nobody had to be killed.
    expect(JSON.parse(await daemon.tsvmm('inspect', 'on')).last_exit).toMatchObject({ reason: 'request' });
    await daemon.tsvmm('rm', 'on', 'off');
    await settles(() => expect(daemon.processes()).toEqual([]));
    expect(await daemon.list()).toEqual({});
    await virsh('create', documentFile(folder, 'new', 'run=idle'));
    expect(await virsh('domstate', 'new')).toBe('running');
  },
);
