/** A user's program, run by the library tests under Node.js and Bun: argv is the library's file and the payload. */
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';

const [library, kernel] = process.argv.slice(2);
if (library === undefined || kernel === undefined)
  throw new Error('usage: libraryProgram.mjs LIBRARY KERNEL');
const { VirtualMachine } = library.endsWith('.cjs')
  ? createRequire(import.meta.url)(library)
  : await import(library);

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-library-'));
const vm = await VirtualMachine.create({
  kernel,
  cmdline: 'run=serial,vsock-serve',
  memory: '128M',
  serial: 'stream',
  vsock: { cid: 3, socket: path.join(folder, 'vsock') },
});
await vm.boot();
let text = '';
const end = (async () => {
  for await (const chunk of vm.serial) text += chunk;
})();
// Ports 2 and 9 of the guest echo, and end it (test/guest/programs/vsock.c).
const echo = await vm.connectVsock(2);
echo.end('there and back');
let echoed = '';
for await (const chunk of echo) echoed += chunk;
const refused = await vm.connectVsock(77).catch((/** @type {{code: string}} */ error) => error.code);
(await vm.connectVsock(9)).destroy();
await end;
const { reason } = await vm.exited;
fs.rmSync(folder, { recursive: true });
console.log(JSON.stringify({ text, reason, echoed, refused }));
