/** Threads of a JavaScript program that use the library, and processes that end without having ended their VMs. */
import { execFile, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { PAYLOAD, ROOT, temporaryFolder } from './support.ts';

const LIBRARY = path.join(ROOT, 'dist/js/index.js');
const RUNTIMES = [
  ['Node.js', process.execPath],
  ['Bun', path.join(ROOT, 'node_modules/.bin/bun')],
] as const;

function closedTwiceLibrary(): string {
  const library = path.join(temporaryFolder(), 'closedTwice.so');
  const source = path.join(ROOT, 'test/kvm/closedTwice.c');
  const compiled = spawnSync('gcc', ['-shared', '-fPIC', '-o', library, source], { encoding: 'utf8' });
  expect(compiled.stderr).toBe('');
  return library;
}

describe.each(RUNTIMES)('%s', (_name, runtime) => {
  test('worker threads end in every way, at any moment, and leave nothing', async () => {
    const rounds = 6;
    const program = path.join(ROOT, 'test/kvm/workerProgram.mjs');
    const { stdout, stderr } = await promisify(execFile)(
      runtime,
      [program, LIBRARY, PAYLOAD, String(rounds)],
      {
        env: { ...process.env, LD_PRELOAD: closedTwiceLibrary() },
      },
    );
    expect(stderr).not.toContain('closed twice');
    // The message has what is too long for a difference that is printed in one line.
    expect(JSON.parse(stdout), stdout).toEqual({ workers: rounds * 9, moreDescriptors: [], threads: [] });
  });

  test.each([
    ['that never ran', '{}', ''],
    ['whose boot failed', "{ kernel: '/nonexistent' }", 'await vm.boot().catch(() => {});'],
    ['that runs and does not count', '{}', 'await vm.boot(); vm.unref();'],
    ['that does not count from before', '{}', 'vm.unref(); await vm.boot(); await vm.reboot();'],
    ['that ended', '{}', 'await vm.boot(); await vm.close();'],
  ])('a process ends by itself with a VM %s, and leaves no file', (_vm, options, then) => {
    const folder = temporaryFolder();
    const program = `
      const { VirtualMachine } = await import(${JSON.stringify(LIBRARY)});
      const usual = { kernel: ${JSON.stringify(PAYLOAD)}, memory: '64M', cmdline: 'run=spin every=1000' };
      const vm = await VirtualMachine.create({ ...usual, serial: 'stream', console: 'stream', ...${options} });
      vm.serial.resume();
      ${then}
    `;
    const words = ['--input-type=module', '-e', program];
    const env = { ...process.env, TMPDIR: folder };
    const { status, signal, stderr } = spawnSync(runtime, words, { encoding: 'utf8', env, timeout: 60_000 });
    expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
    expect(fs.readdirSync(folder)).toEqual([]);
  });

  test("an exception of a listener of the core's events is an uncaught one, and loses no event", () => {
    const program = `
      const { VirtualMachine } = await import(${JSON.stringify(LIBRARY)});
      const uncaught = [];
      process.on('uncaughtException', (error) => uncaught.push(error.message));
      const { dlopen } = process;
      process.dlopen = (module, ...rest) => {
        dlopen(module, ...rest);
        const { machineCreate } = module.exports;
        module.exports = {
          ...module.exports,
          machineCreate: (spec, descriptors, onEvent) =>
            machineCreate(spec, descriptors, (event) => {
              onEvent(event);
              throw new Error(typeOf(Buffer.from(event)));
            }),
        };
      };
      // A map with a short text behind the key "type".
      const typeOf = (event) => {
        const start = event.indexOf('type') + 4;
        return event.toString('latin1', start + 1, start + 1 + event[start] - 0x60);
      };
      const options = { kernel: ${JSON.stringify(PAYLOAD)}, memory: '64M', cmdline: 'run=console', console: 'null' };
      const vm = await VirtualMachine.create(options);
      await vm.boot();
      const { reason } = await vm.exited;
      console.log(JSON.stringify({ uncaught, reason }));
    `;
    const file = path.join(temporaryFolder(), 'program.mjs');
    fs.writeFileSync(file, program);
    const { status, stdout, stderr } = spawnSync(runtime, [file], { encoding: 'utf8' });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(JSON.parse(stdout)).toEqual({ uncaught: ['device-activated', 'power-off'], reason: 'power-off' });
  });

  test('a process exits at any moment, with machines and workers of its own', () => {
    const program = `
      import { Worker, isMainThread } from 'node:worker_threads';
      const { VirtualMachine } = await import(${JSON.stringify(LIBRARY)});
      const options = { kernel: ${JSON.stringify(PAYLOAD)}, memory: '64M', cmdline: 'run=spin every=1000', serial: 'stream' };
      const start = async () => {
        const vm = await VirtualMachine.create(options);
        vm.serial.resume();
        await vm.boot();
        vm.pause().then(() => vm.reboot());
        return vm;
      };
      if (isMainThread) {
        new Worker(new URL(import.meta.url)).on('error', () => {});
        setTimeout(() => process.exit(7), Number(process.argv[2]));
        for (;;) await Promise.all([start(), start()]);
      }
      await start();
      setInterval(() => {}, 1000);
    `;
    const file = path.join(temporaryFolder(), 'program.mjs');
    fs.writeFileSync(file, program);
    for (let round = 0; round < 12; round++) {
      const { status, signal, stderr } = spawnSync(runtime, [file, String(round * 15)], { encoding: 'utf8' });
      expect({ status, signal, stderr }).toEqual({ status: 7, signal: null, stderr: '' });
    }
  });
});
