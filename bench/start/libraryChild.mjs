/**
 * The library's user in `bench start`, for Node.js and for Bun: starts VMs one after the other when told to.
 *
 *   libraryChild.mjs latency LIBRARY PAYLOAD MEBIBYTES COUNT   prints MARK before each call; guests power off
 *   libraryChild.mjs memory LIBRARY PAYLOAD MEBIBYTES COUNT    starts one idle VM, prints a line, waits for input;
 *                                                              starts COUNT more, prints a line, waits again
 *   libraryChild.mjs durations LIBRARY PAYLOAD MEBIBYTES COUNT prints how long COUNT starts took, `N ms` each, after
 *                                                              a few that do not count
 *   libraryChild.mjs first LIBRARY PAYLOAD MEBIBYTES           prints how long the first start of the process took
 *
 * Guests write to this process's standard output.
 */
import { writeSync } from 'node:fs';

/** Printed right before a call into the library. */
const MARK = 'call\n';

const [mode, library = '', kernel = '', mebibytes, count] = process.argv.slice(2);
const { VirtualMachine } = await import(library);

/** @param {'p' | 'i'} behaviour the payload's: power off or idle */
function create(behaviour) {
  const memory = `${mebibytes}M`;
  return VirtualMachine.create(
    { kernel, cmdline: behaviour, memory, serial: 'inherit' },
    { terminal: { input: -1, output: 1 } },
  );
}

async function latency() {
  for (let turn = 0; turn < Number(count); turn++) {
    writeSync(1, MARK);
    const vm = await create('p');
    await vm.boot();
    await vm.exited;
  }
}

/** The first calls compile and load what later ones use. */
const WARM_UP_CALLS = 3;

async function durations() {
  for (let turn = 0; turn < WARM_UP_CALLS; turn++) await duration();
  for (let turn = 0; turn < Number(count); turn++) print(await duration());
}

async function first() {
  print(await duration());
}

/** @returns {Promise<number>} milliseconds that a start took */
async function duration() {
  const start = performance.now();
  const vm = await create('i');
  await vm.boot();
  const end = performance.now();
  await vm.close();
  return end - start;
}

/** @param {number} milliseconds */
function print(milliseconds) {
  writeSync(1, `\n${milliseconds.toFixed(3)} ms\n`);
}

async function memory() {
  const vms = [];
  for (const wanted of [1, 1 + Number(count)]) {
    while (vms.length < wanted) {
      const vm = await create('i');
      await vm.boot();
      vms.push(vm);
    }
    writeSync(1, `running ${wanted}\n`);
    await new Promise((resolve) => process.stdin.once('data', resolve));
  }
  for (const vm of vms) await vm.close();
}

await { latency, durations, first, memory }[
  /** @type {'latency' | 'durations' | 'first' | 'memory'} */ (mode)
]();
process.exit(0);
