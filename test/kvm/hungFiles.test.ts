/**
 * Files of a VM on a store that hangs, as on a dead server: who waits for them is told their names, and nothing else
 * waits.
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import { Daemon } from './daemon.ts';
import { type HangingMount, hangingMount, MEMORIES, whyNoMount } from './hangingMount.ts';
import { diskImage, guestArgs, PAYLOAD, ROOT, RUNTIMES, settles, Tsvmm, temporaryFolder } from './support.ts';

const reason = whyNoMount();
if (reason !== undefined) console.warn(`files on a store that hangs are not tested: ${reason}`);

const memories = Object.keys(MEMORIES) as (keyof typeof MEMORIES)[];
const everywhere = RUNTIMES.flatMap((runtime) => memories.map((memory) => [runtime, memory] as const));

/** Of an API's answer, or of stderr. */
const named = (name: string) =>
  expect.stringMatching(new RegExp(`The store of \\S*/${name} does not answer`));

/** A VMM that serves its API; without a VM unless `args` are those of one. */
function serve(store: HangingMount, runtime: (typeof RUNTIMES)[number], args: readonly string[] = []): Tsvmm {
  const socket = ['--api-socket', path.join(store.folder, 'api')];
  return new Tsvmm([...args, ...socket], { runtime, prefix: store.prefix });
}

async function expectAnswers(vmm: Tsvmm, state: string): Promise<void> {
  expect((await vmm.api('GET', 'vmm.ping')).status).toBe(200);
  expect((await vmm.api('GET', 'vm.info')).json.state).toBe(state);
}

/** Of files of which one is on the store, and hangs. */
interface Machine {
  readonly payload: { readonly kernel?: string; readonly initramfs?: string; readonly firmware?: string };
  readonly disks?: readonly object[];
  readonly pmem?: readonly object[];
  readonly memory?: object;
}

/** A qcow2 image without a cluster of its own, over one of the store. */
function overlay(folder: string, backing: string): string {
  const bytes = Buffer.alloc(0x40000);
  bytes.write('QFI\xfb', 'latin1');
  bytes.writeUInt32BE(2, 4);
  bytes.writeBigUInt64BE(0x200n, 8);
  bytes.writeUInt32BE(backing.length, 16);
  bytes.writeUInt32BE(16, 20);
  bytes.writeBigUInt64BE(8n << 20n, 24);
  bytes.writeUInt32BE(1, 36);
  bytes.writeBigUInt64BE(0x30000n, 40);
  bytes.writeBigUInt64BE(0x10000n, 48);
  bytes.writeUInt32BE(1, 56);
  bytes.write(backing, 0x200);
  bytes.writeBigUInt64BE(0x20000n, 0x10000);
  for (const cluster of [0, 1, 2, 3]) bytes.writeUInt16BE(1, 0x20000 + 2 * cluster);
  const file = path.join(folder, 'overlay.qcow2');
  fs.writeFileSync(file, bytes);
  return file;
}

const machines: Readonly<Record<string, (file: string, folder: string) => Machine>> = {
  kernel: (kernel) => ({ payload: { kernel } }),
  firmware: (firmware) => ({ payload: { firmware } }),
  initramfs: (initramfs) => ({ payload: { kernel: PAYLOAD, initramfs } }),
  disk: (file) => ({ payload: { kernel: PAYLOAD }, disks: [{ path: file, image_type: 'Raw' }] }),
  'backing file': (file, folder) => ({
    payload: { kernel: PAYLOAD },
    disks: [{ path: overlay(folder, file), image_type: 'Qcow2', backing_files: true }],
  }),
  pmem: (file) => ({ payload: { kernel: PAYLOAD }, pmem: [{ file }] }),
  'memory zone': (file) => ({
    payload: { kernel: PAYLOAD },
    memory: { size: 0, zones: [{ id: 'zone', size: 128 << 20, file }] },
  }),
};

describe.skipIf(reason !== undefined)('a store that hangs', () => {
  test.each(everywhere)(
    'at the first boot: the API answers, SIGTERM ends it (%s, %s)',
    async (runtime, memory) => {
      const store = hangingMount({ kernel: PAYLOAD }, memory);
      const machine = ['--kernel', store.file('kernel'), '--cmdline', 'run=idle', '--console', 'off'];
      // Consoles that go to files are opened first, and look at the others.
      const serial = ['--serial', `file=${path.join(store.folder, 'serial')}`];
      for (const more of [[], serial]) {
        const vmm = serve(store, runtime, [...machine, ...more]);
        await vmm.ready();
        await store.hangs();
        if (more === serial) expect((await vmm.api('GET', 'vm.info')).status).toBe(404);
        else await expectAnswers(vmm, 'Created');
        vmm.kill('SIGTERM');
        expect(await vmm.exit()).toEqual({ code: 1, signal: null });
        expect(vmm.stderr).toEqual(named('kernel'));
        expect(fs.existsSync(path.join(store.folder, 'api'))).toBe(false);
      }
    },
  );

  test.each(RUNTIMES)(
    'at the first boot: it fails in time, and so does one by vmm.shutdown (%s)',
    async (runtime) => {
      const store = hangingMount({ kernel: PAYLOAD });
      const args = ['--kernel', store.file('kernel'), '--cmdline', 'run=idle', '--console', 'off'];
      const late = serve(store, runtime, args);
      expect(await late.exit()).toEqual({ code: 1, signal: null });
      expect(late.stderr).toEqual(named('kernel'));
      const ended = serve(store, runtime, args);
      await ended.ready();
      expect((await ended.api('PUT', 'vmm.shutdown')).status).toBe(200);
      expect(await ended.exit()).toEqual({ code: 1, signal: null });
      expect(ended.stderr).toEqual(named('kernel'));
    },
  );

  test.each([
    ['standalone', 'hour'],
    ['node', 'none'],
  ] as const)('at vm.boot: it is refused in time, and can be had later (%s, %s)', async (runtime, memory) => {
    const store = hangingMount({ kernel: PAYLOAD }, memory);
    const vmm = serve(store, runtime);
    await vmm.ready();
    const machine = {
      payload: { kernel: store.file('kernel'), cmdline: 'run=idle' },
      console: { mode: 'Off' },
    };
    expect((await vmm.api('PUT', 'vm.create', machine)).status).toBe(204);
    const boot = vmm.api('PUT', 'vm.boot');
    await store.hangs();
    await expectAnswers(vmm, 'Created');
    const { status, text } = await boot;
    expect([status, text]).toEqual([500, named('kernel')]);
    store.answer();
    await settles(async () => expect((await vmm.api('PUT', 'vm.boot')).status).toBe(204));
    await expectAnswers(vmm, 'Running');
    vmm.kill('SIGTERM');
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  });

  test.each(Object.entries(machines))('whatever it has: %s', async (_, machineWith) => {
    const folder = temporaryFolder();
    const store = hangingMount({ file: diskImage(folder, 'file') }, 'hour');
    const vmm = serve(store, 'standalone');
    await vmm.ready();
    const machine = machineWith(store.file('file'), folder);
    expect((await vmm.api('PUT', 'vm.create', { ...machine, console: { mode: 'Off' } })).status).toBe(204);
    const boot = vmm.api('PUT', 'vm.boot');
    await store.hangs();
    await expectAnswers(vmm, 'Created');
    // Who deletes the VM does not wait for its boot.
    expect((await vmm.api('PUT', 'vm.delete')).status).toBe(204);
    const { status, text } = await boot;
    expect([status, text]).toEqual([500, named('file')]);
    vmm.kill('SIGTERM');
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  });

  test.each(RUNTIMES)('a disk on it is not added, and nothing waits for it (%s)', async (runtime) => {
    const store = hangingMount({ 'disk.img': diskImage(temporaryFolder(), 'disk.img') }, 'hour');
    const vmm = serve(store, runtime, guestArgs({ cmdline: 'run=pci then=idle' }));
    await vmm.ready();
    const disk = { path: store.file('disk.img'), image_type: 'Raw', readonly: true };
    const addition = vmm.api('PUT', 'vm.add-disk', disk);
    await store.hangs();
    await expectAnswers(vmm, 'Running');
    const { status, text } = await addition;
    expect([status, text]).toEqual([500, named('disk\\.img')]);
    store.answer();
    await settles(async () => expect((await vmm.api('PUT', 'vm.add-disk', disk)).status).toBe(200));
    vmm.kill('SIGTERM');
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  });

  test('a supervisor says so, and stops what waits', async () => {
    const store = hangingMount({ kernel: PAYLOAD }, 'hour');
    const daemon = new Daemon();
    await daemon.start(['--pool', '1'], store.prefix);
    const machine = ['--kernel', store.file('kernel'), '--cmdline', 'run=idle', '--memory', 'size=128M'];
    const start = daemon.run('run', '-d', '--name', 'one', ...machine);
    await store.hangs();
    expect(await daemon.list()).toEqual({ one: 'starting' });
    expect(await start).toMatchObject({ code: 1, stderr: named('kernel') });
    expect(await daemon.tsvmm('logs', '--process', 'one')).toEqual(named('kernel'));
    const again = daemon.run('start', 'one');
    await settles(async () => expect(await daemon.list()).toEqual({ one: 'starting' }));
    await daemon.tsvmm('stop', 'one');
    expect((await again).code).toBe(1);
    await settles(() => expect(daemon.processes()).toHaveLength(1));
  });

  test('a program with the library goes on', async () => {
    const store = hangingMount({ kernel: PAYLOAD }, 'hour');
    const program = path.join(store.folder, 'program.mjs');
    fs.writeFileSync(
      program,
      `import { VirtualMachine } from ${JSON.stringify(pathToFileURL(path.join(ROOT, 'dist/js/index.js')).href)};
       const vm = await VirtualMachine.create({ kernel: ${JSON.stringify(store.file('kernel'))}, memory: '128M' });
       let turns = 0;
       const turning = setInterval(() => turns++, 10);
       const boot = await vm.boot().then(() => 'boots', String);
       console.log('boot: ' + boot + (turns > 100 ? ', turning' : ', stuck'));
       clearInterval(turning);
       const again = vm.boot().then(() => 'boots', String);
       await new Promise((resolve) => setTimeout(resolve, 100));
       await vm.close();
       console.log('closed: ' + (await again) + ', ' + (await vm.exited).code);`,
    );
    const [command, ...words] = [...store.prefix, process.execPath, program];
    const child = spawn(command as string, words, { stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    expect(await new Promise((resolve) => child.on('close', resolve))).toBe(0);
    expect(output).toMatch(/^boot: .*kernel does not answer, turning$/m);
    expect(output).toMatch(/^closed: .*kernel does not answer, 0$/m);
  });
});
