/** A user's program, run by the library tests under Node.js and Bun: argv is the library's file and the payload. */
import { createRequire } from 'node:module';

const [library, kernel] = process.argv.slice(2);
if (library === undefined || kernel === undefined)
  throw new Error('usage: libraryProgram.mjs LIBRARY KERNEL');
const { VirtualMachine } = library.endsWith('.cjs')
  ? createRequire(import.meta.url)(library)
  : await import(library);

const vm = await VirtualMachine.create({ kernel, cmdline: 'run=serial', memory: '128M', serial: 'stream' });
await vm.boot();
let text = '';
for await (const chunk of vm.serial) text += chunk;
const { reason } = await vm.exited;
console.log(JSON.stringify({ text, reason }));
