/**
 * Boots a kernel and shows its serial port until the guest ends.
 *
 *   node examples/console.mjs KERNEL [INITRAMFS]
 */
import { VirtualMachine } from 'tsvmm';

const [kernel, initramfs] = process.argv.slice(2);
if (kernel === undefined) throw new Error('usage: node examples/console.mjs KERNEL [INITRAMFS]');

const vm = await VirtualMachine.create({
  kernel,
  ...(initramfs && { initramfs }),
  cmdline: 'console=ttyS0',
  memory: '512M',
  serial: 'stream',
});
await vm.boot();
for await (const chunk of vm.serial) process.stdout.write(chunk);
const { reason } = await vm.exited;
console.log(`the guest ended: ${reason}`);
