/**
 * `node tapLauncher.mjs QUEUES COMMAND...`: runs the command with that many queues of a tap `given` as descriptors 3
 * and up.
 */
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const [queues, command = '', ...args] = process.argv.slice(2);
const addon = createRequire(import.meta.url)(
  fileURLToPath(new URL('../../dist/tsvmm.node', import.meta.url)),
);
const { fds } = addon.openTap('given', Number(queues));
addon.setInterfaceAddress('given', '192.0.2.1', '255.255.255.0');
addon.bringInterfaceUp('given');
const child = spawn(command, args, { stdio: ['inherit', 'inherit', 'inherit', ...fds] });
process.on('SIGTERM', () => child.kill('SIGTERM'));
child.on('exit', (code, signal) => process.exit(code ?? (signal ? 128 : 1)));
