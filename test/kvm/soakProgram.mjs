/**
 * A program that uses the library for long. argv: what to do, the library's file, the payload. Prints, as JSON, what went
 * wrong and what became more between a first part and the end: descriptors, machines' threads, KiB of anonymous memory.
 */
import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { isMainThread, Worker, workerData } from 'node:worker_threads';

const [task, library, kernel] = isMainThread ? process.argv.slice(2) : workerData;
const { VirtualMachine } = await import(library);
const OPTIONS = { kernel, cmdline: 'run=serial', memory: '64M' };

/** @param {() => Promise<unknown>} work @param {number} times @param {number} atOnce */
async function repeat(work, times, atOnce) {
  let begun = 0;
  const one = async () => {
    while (begun < times) {
      begun++;
      await work();
    }
  };
  await Promise.all(Array.from({ length: atOnce }, one));
}

/** Once what has ended is gone. */
async function resources() {
  for (let i = 0; i < 5; i++) {
    await sleep(20);
    const bun = /** @type {{Bun?: {gc(force: boolean): void}}} */ (globalThis).Bun;
    if (bun) bun.gc(true);
    else globalThis.gc?.();
  }
  const threads = fs.readdirSync('/proc/self/task').filter((task) => {
    try {
      const name = fs.readFileSync(`/proc/self/task/${task}/comm`, 'utf8');
      return /^(vcpu|serial-manager|machine-control|host-facts)/.test(name);
    } catch {
      return false;
    }
  });
  const anonymous = /^Anonymous:\s+(\d+) kB/m.exec(fs.readFileSync('/proc/self/smaps_rollup', 'utf8'));
  return {
    descriptors: fs.readdirSync('/proc/self/fd').length,
    threads: threads.length,
    anonymousKiB: Number(anonymous?.[1]),
  };
}

/** A start whose guest ends at once; every byte of its output has to come. @type {string[]} */
const lost = [];
const WHOLE = /^hello from ring 3\nok serial\ndone 1\n$/;
async function start() {
  const vm = await VirtualMachine.create({ ...OPTIONS, serial: 'stream' });
  await vm.boot();
  let text = '';
  for await (const chunk of vm.serial) text += chunk;
  await vm.exited;
  if (!WHOLE.test(text)) lost.push(text);
}

/** Ten machines in a worker thread, of which three are left for its end. */
function worker() {
  return new Promise((resolve, reject) => {
    const thread = new Worker(fileURLToPath(import.meta.url), { workerData: process.argv.slice(2) });
    thread.on('error', reject).on('exit', resolve);
  });
}

async function inWorker() {
  await repeat(start, 7, 2);
  if (lost.length > 0) throw new Error(`output was lost: ${JSON.stringify(lost)}`);
  for (let i = 0; i < 3; i++) {
    await (await VirtualMachine.create({ ...OPTIONS, cmdline: 'run=spin every=1000' })).boot();
  }
  process.exit(0);
}

let exceptions = 0;
/** Six exceptions of listeners. @param {InstanceType<typeof VirtualMachine>} vm */
async function pauseAndResume(vm) {
  await vm.pause();
  if (vm.state !== 'paused') lost.push(`${vm.state} after a pause`);
  await vm.resume();
  if (vm.state !== 'running') lost.push(`${vm.state} after a resume`);
}

async function listeners() {
  process.on('uncaughtException', () => exceptions++);
  const vm = await VirtualMachine.create({ ...OPTIONS, cmdline: 'run=idle' });
  await vm.boot();
  for (const name of ['paused', 'resumed', 'event']) {
    vm.on(name, () => {
      throw new Error(`from a listener of ${name}`);
    });
  }
  const rounds = /** @type {const} */ ([100, 240]);
  for (let i = 0; i < rounds[0]; i++) await pauseAndResume(vm);
  const before = await resources();
  for (let i = 0; i < rounds[1]; i++) await pauseAndResume(vm);
  const after = await resources();
  await vm.close();
  return { before, after };
}

/** @param {() => Promise<unknown>} work @param {number} first @param {number} rest @param {number} atOnce */
async function measured(work, first, rest, atOnce) {
  await repeat(work, first, atOnce);
  const before = await resources();
  await repeat(work, rest, atOnce);
  return { before, after: await resources() };
}

async function main() {
  const { before, after } =
    task === 'workers'
      ? await measured(worker, 10, 20, 3)
      : task === 'starts'
        ? await measured(start, 400, 600, 4)
        : await listeners();
  const more = {
    descriptors: after.descriptors - before.descriptors,
    threads: after.threads - before.threads,
    anonymousKiB: after.anonymousKiB - before.anonymousKiB,
  };
  console.log(JSON.stringify({ lost, exceptions, more }));
  process.exit(0);
}

if (isMainThread) await main();
else await inWorker();
