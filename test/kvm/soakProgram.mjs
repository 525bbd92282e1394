/**
 * A program that uses the library for long. argv: what to do, the library's file, the payload, KiB. Prints, as JSON,
 * what went wrong and what became more after a first part: descriptors and machines' threads until the end, and KiB of
 * anonymous memory in the window that it grew least in.
 *
 * What leaks grows in every window, and in each by the same. An engine's heap and the arenas of malloc grow in steps,
 * the more rarely the longer they are used: a window of no more than the given KiB ends the program.
 */
import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { isMainThread, Worker, workerData } from 'node:worker_threads';

const [task, library, kernel, limit] = isMainThread ? process.argv.slice(2) : workerData;
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
      return /^(vcpu|serial-manager|machine-control|machine-remains)/.test(name);
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
  const work = () => pauseAndResume(vm);
  const more = await measured(work, 100, 30, 1);
  await vm.close();
  return more;
}

/** Rounds that growth is looked at over, and how often that is tried. */
const WINDOW = 8;
const WINDOWS = 6;

/**
 * What is in use after a first part, and then after each round, a window after the other.
 *
 * @param {() => Promise<unknown>} work @param {number} first @param {number} inRound @param {number} atOnce
 */
async function measured(work, first, inRound, atOnce) {
  await repeat(work, first, atOnce);
  const before = await resources();
  let [last, anonymousKiB] = [before, Number.POSITIVE_INFINITY];
  for (let window = 0; window < WINDOWS && anonymousKiB > Number(limit); window++) {
    const readings = [last.anonymousKiB];
    for (let round = 0; round < WINDOW; round++) {
      await repeat(work, inRound, atOnce);
      last = await resources();
      readings.push(last.anonymousKiB);
    }
    anonymousKiB = Math.min(anonymousKiB, Math.round(WINDOW * slope(readings)));
  }
  return {
    descriptors: last.descriptors - before.descriptors,
    threads: last.threads - before.threads,
    anonymousKiB,
  };
}

/** What a round adds: the median slope between any two readings (Theil-Sen), which single steps do not move. */
function slope(/** @type {readonly number[]} */ readings) {
  const slopes = readings.flatMap((late, j) =>
    readings.slice(0, j).map((early, i) => (late - early) / (j - i)),
  );
  return /** @type {number} */ (slopes.sort((a, b) => a - b)[Math.floor(slopes.length / 2)]);
}

async function main() {
  const more =
    task === 'workers'
      ? await measured(worker, 10, 4, 3)
      : task === 'starts'
        ? await measured(start, 200, 80, 4)
        : await listeners();
  console.log(JSON.stringify({ lost, exceptions, more }));
  process.exit(0);
}

if (isMainThread) await main();
else await inWorker();
