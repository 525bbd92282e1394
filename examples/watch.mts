/**
 * Boots a kernel with a deadline: says what happens to the VM, and ends it if it has not ended by itself.
 *
 *   bun examples/watch.mts KERNEL [SECONDS]      (or node, from version 22.18 on)
 */
import { VirtualMachine } from 'tsvmm';

const [kernel, seconds = '60'] = process.argv.slice(2);
if (kernel === undefined) throw new Error('usage: bun examples/watch.mts KERNEL [SECONDS]');

const vm = await VirtualMachine.create({ kernel, memory: '64M' });
for (const event of ['booted', 'paused', 'resumed', 'rebooted', 'shutdown'] as const) {
  vm.on(event, () => console.log(event));
}
await vm.boot();
const deadline = setTimeout(() => vm.close(), Number(seconds) * 1000);
const { reason } = await vm.exited;
clearTimeout(deadline);
console.log(`ended: ${reason}`);
