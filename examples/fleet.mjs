/**
 * Starts several VMs at once in this process, and says how long each took until the guest's first byte.
 *
 *   node examples/fleet.mjs KERNEL [COUNT]
 */
import { once } from 'node:events';
import { VirtualMachine } from 'tsvmm';

const [kernel, count = '4'] = process.argv.slice(2);
if (kernel === undefined) throw new Error('usage: node examples/fleet.mjs KERNEL [COUNT]');

/** @param {string} name */
async function startOne(name) {
  const start = performance.now();
  const vm = await VirtualMachine.create({ kernel, memory: '64M', serial: 'stream' });
  let firstByte = 0;
  let bytes = 0;
  vm.serial.on('data', (chunk) => {
    firstByte ||= performance.now() - start;
    bytes += chunk.length;
  });
  // The last of what the guest printed may come after its end.
  const end = once(vm.serial, 'end');
  await vm.boot();
  await end;
  const { reason } = await vm.exited;
  console.log(`${name}: first byte after ${firstByte.toFixed(1)} ms, ${bytes} bytes, ${reason}`);
}

await Promise.all(Array.from({ length: Number(count) }, (_, index) => startOne(`vm${index}`)));
