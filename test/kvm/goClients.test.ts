/**
 * Clients in Go, where Go is there: go-libvirt, and masterblaster's client and daemon. TSVMM_MASTERBLASTER names a
 * checkout of masterblaster, and TSVMM_MB its command, where they cannot be fetched.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { type GoModule, goProgram } from './goPrograms.ts';
import { BIN, PAYLOAD, settles, temporaryFolder, until } from './support.ts';
import { documentFile, host, run } from './virsh.ts';

const LIBVIRT: GoModule = {
  path: 'github.com/digitalocean/go-libvirt@v0.0.0-20261013170128-efbbdf578ac8',
};
const MASTERBLASTER: GoModule = {
  path: 'github.com/papercomputeco/masterblaster@v0.1.1',
  replacement: process.env.TSVMM_MASTERBLASTER,
};

/** A process of its own for the VM `one`, as masterblaster's daemon starts it. */
function startVm(cmdline: string): { configDir: string; folder: string } {
  const configDir = temporaryFolder();
  const folder = path.join(configDir, 'vms/one');
  fs.mkdirSync(folder, { recursive: true });
  const config = { payload: { kernel: PAYLOAD, cmdline }, memory: { size: 128 << 20 } };
  fs.writeFileSync(path.join(folder, 'vm.json'), JSON.stringify(config));
  const words = ['vmhost', '--name', 'one', '--backend', 'tsvmm', '--config-dir', configDir];
  ends(spawn(BIN, words, { stdio: 'ignore', detached: true }));
  return { configDir, folder };
}

function ends(child: ChildProcess): void {
  const exited = new Promise((resolve) => child.once('exit', resolve));
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await exited;
  });
}

test('go-libvirt: a domain from its definition to its end', async ({ skip }) => {
  const built = goProgram('libvirt.go', LIBVIRT);
  if ('reason' in built) {
    console.warn(`go-libvirt is not tried: ${built.reason}`);
    return skip();
  }
  const { daemon, folder } = await host();
  const file = documentFile(folder, 'one', 'run=hello then=idle');
  const { code, stdout, stderr } = await run(built.program, [`${daemon.dir}/virttsvmmd-sock`, file]);
  expect(stdout.trim().split('\n'), stderr).toEqual([
    'version 9.0.0',
    'hostname true',
    'not found true',
    'event one 0',
    'event one 2',
    'domain one 1 1',
    'info 131072 1',
    'stats 1 state.state',
    'xml true',
    'event one 3',
    'event one 4',
    'console said something',
    'event one 5',
    'event one 1',
    'ok',
  ]);
  expect(code).toBe(0);
});

test("masterblaster's client: a VM's process is asked and stopped", async ({ skip }) => {
  const built = goProgram('vmhost.go', MASTERBLASTER);
  if ('reason' in built) {
    console.warn(`masterblaster's client is not tried: ${built.reason}`);
    return skip();
  }
  const { folder } = startVm('run=idle');
  const { code, stdout } = await run(built.program, [path.join(folder, 'vmhost.sock')]);
  expect(stdout.trim().split('\n')).toEqual([
    'status running ""',
    'info running "tsvmm"',
    'stop stopping ""',
    'status running ""',
    'force_stop stopping ""',
    'gone',
  ]);
  expect(code).toBe(0);
});

test("masterblaster's daemon finds a VM's process again, and stops it", async ({ skip }) => {
  const mb = process.env.TSVMM_MB;
  if (mb === undefined) {
    console.warn("masterblaster's daemon is not tried: TSVMM_MB names no command");
    return skip();
  }
  const { configDir, folder } = startVm('run=power-button');
  const state = {
    name: 'one',
    created_at: new Date().toISOString(),
    cpus: 1,
    memory: '128MiB',
    backend: 'tsvmm',
  };
  fs.writeFileSync(path.join(folder, 'state.json'), JSON.stringify(state));
  // The last of the files that its process makes for mb.
  await settles(async () => expect(fs.existsSync(path.join(folder, 'vmhost.sock'))).toBe(true));
  const home = { HOME: configDir, XDG_CONFIG_HOME: configDir, DO_NOT_TRACK: '1', MB_TELEMETRY_DISABLED: '1' };
  const daemon = spawn(mb, ['serve', '--config-dir', configDir], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...home },
  });
  ends(daemon);
  let said = '';
  for (const stream of [daemon.stdout, daemon.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
  }
  await until(
    () => said.includes('daemon started'),
    () => said,
  );
  expect(said).toMatch(/reconnected to running VM "one" \(vmhost PID \d+\)/);
  const ask = (...words: string[]) => run(mb, ['--config-dir', configDir, ...words], home);
  expect((await ask('list')).stdout).toMatch(/one.*running/);
  await settles(() => {
    expect(fs.readFileSync(path.join(folder, 'serial.log'), 'utf8')).toContain('waiting');
  });
  expect(await ask('down', 'one')).toMatchObject({ code: 0 });
  expect(fs.existsSync(path.join(folder, 'vmhost.sock'))).toBe(false);
  expect(fs.readFileSync(path.join(folder, 'vmhost.log'), 'utf8')).toContain(
    'stop: pressed the ACPI power button',
  );
});
