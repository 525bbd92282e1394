/**
 * A program whose worker threads use the library and end in every way and at any moment, while its main thread uses it,
 * too. argv: the library's file, the payload, rounds. Prints how workers ended and what is left of them, as JSON.
 */
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

const [library, kernel, rounds] = isMainThread ? process.argv.slice(2) : workerData.argv;
const { VirtualMachine } = await import(library);

/** @param {object} [options] */
async function boot(options = {}) {
  const vm = await VirtualMachine.create({
    kernel,
    memory: '64M',
    cmdline: 'run=spin every=1000',
    serial: 'stream',
    ...options,
  });
  vm.serial.resume();
  await vm.boot();
  return vm;
}

/** Never ends by itself. @type {Record<string, () => Promise<unknown>>} */
const terminated = {
  /** During creation, building, boot, pause, reboot and end, with a promise pending at any time. */
  async busy() {
    for (;;) {
      const vm = await boot();
      await vm.pause();
      await vm.reboot();
      await vm.close();
    }
  },
  /** With several machines that run and nobody waits for. */
  async idle() {
    await Promise.all([boot(), boot(), boot()]);
    setInterval(() => {}, 1000);
  },
  /** In the middle of calls into the addon, many of which fail. */
  async calls() {
    const vm = await boot();
    const module = { exports: /** @type {any} */ ({}) };
    process.dlopen(module, path.join(path.dirname(library), '../tsvmm.node'));
    const native = module.exports;
    for (;;) {
      vm.counters();
      void native.hostInfo().supportedCpuid;
      try {
        native.readAt(99_999, 0, 1);
      } catch {
        // There is no such descriptor.
      }
    }
  },
};

/** Ends by itself, with machines and promises left, or without. @type {Record<string, () => Promise<unknown>>} */
const ending = {
  async closes() {
    await (await boot()).close();
  },
  async throws() {
    await boot();
    boot().catch(() => {});
    throw new Error('on purpose');
  },
  async rejects() {
    const vm = await boot();
    vm.pause();
    Promise.reject(new Error('on purpose'));
  },
  async exits() {
    const vm = await boot();
    vm.pause();
    vm.reboot();
    process.exit(3);
  },
  async 'exits while booting'() {
    boot();
    await sleep(Math.random() * 20);
    process.exit(3);
  },
  async 'ends with a machine that never ran'() {
    await VirtualMachine.create({ kernel, memory: '64M' });
  },
};

/** @param {string} way */
async function runWorker(way) {
  const worker = new Worker(fileURLToPath(import.meta.url), {
    workerData: { way, argv: process.argv.slice(2) },
  });
  const ended = new Promise((resolve) => worker.once('exit', resolve));
  worker.on('error', () => {});
  if (way in terminated) {
    // At first while it loads; from then on at any moment of what it does.
    if (Math.random() < 0.8) await new Promise((resolve) => worker.once('message', resolve));
    await sleep(Math.random() * 60);
    await worker.terminate();
  }
  return ended;
}

/** Threads of machines, less those at their last instruction. */
async function machineThreads() {
  for (let attempt = 0; ; attempt++) {
    const names = fs.readdirSync('/proc/self/task').map((task) => {
      try {
        return fs.readFileSync(`/proc/self/task/${task}/comm`, 'utf8').trim();
      } catch {
        return '';
      }
    });
    const left = names.filter((name) => /^(vcpu|serial-manager|machine-control|machine-remains)/.test(name));
    if (left.length === 0 || attempt === 500) return left;
    await sleep(20);
  }
}

/**
 * What the process's descriptors refer to, without the numbers that differ between two of a kind. Modules are not
 * counted: Node.js leaves the file open of one that it was reading for a worker when that was terminated.
 */
function openDescriptors() {
  const targets = fs.readdirSync('/proc/self/fd').map((number) => {
    try {
      return fs.readlinkSync(`/proc/self/fd/${number}`).replace(/:\[\d+\]$/, '');
    } catch {
      return '';
    }
  });
  return targets.filter((target) => path.dirname(target) !== path.dirname(library));
}

/**
 * Descriptors beyond those `before`. A runtime may close those of a worker's own loop after the worker's end is told.
 * @param {string[]} before
 */
async function descriptorsBeyond(before) {
  for (let attempt = 0; ; attempt++) {
    const now = openDescriptors();
    if (now.length <= before.length) return [];
    if (attempt === 500) {
      const rest = [...before];
      return now.filter((one) => {
        const known = rest.indexOf(one);
        if (known >= 0) rest.splice(known, 1);
        return known < 0;
      });
    }
    await sleep(20);
  }
}

async function main() {
  const ways = [...Object.keys(terminated), ...Object.keys(ending)];
  const steady = await boot();
  let steadyBytes = 0;
  steady.serial.on('data', (/** @type {Uint8Array} */ bytes) => {
    steadyBytes += bytes.length;
  });
  /** @type {string[]} */
  let descriptors = [];
  let workers = 0;
  for (let round = 0; round < Number(rounds); round++) {
    await Promise.all(ways.map(runWorker));
    workers += ways.length;
    if (round === 0) descriptors = openDescriptors();
  }
  const moreDescriptors = await descriptorsBeyond(descriptors);
  const before = steadyBytes;
  while (steadyBytes === before) await sleep(10);
  await steady.close();
  console.log(JSON.stringify({ workers, moreDescriptors, threads: await machineThreads() }));
}

if (isMainThread) {
  await main();
} else {
  const { way } = workerData;
  parentPort?.postMessage('up');
  await (terminated[way] ?? ending[way])?.();
}
