/** A machine whose guest halts, which is asked for changes one after the other. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { run } from '../../scripts/lib/exec.mjs';
import { priorityWords } from '../lib/priority.mjs';
import { MARKER } from '../lib/timedRun.mjs';
import { BEHAVIOUR } from '../lib/vmms.mjs';
import { end, untilOutput } from '../start/footprint.mjs';
import { answersIn, GAP_MS, writeRequests } from './requests.mjs';

/**
 * @param {import('./hotplug.mjs').Bench} bench
 * @param {import('./hotplug.mjs').Contender} contender
 * @param {readonly string[]} args what the machine has besides
 * @param {(folder: string) => import('./requests.mjs').Request[]} requestsIn makes what the requests need in a folder,
 * and them
 */
export async function askHalted({ programs, hello, folder }, { name, file }, args, requestsIn) {
  const own = fs.mkdtempSync(path.join(folder, 'halted-'));
  const socket = path.join(own, 'api.sock');
  const [program = '', ...words] = [...priorityWords(), file];
  const common = ['--api-socket', `path=${socket}`, '--kernel', hello, '--cmdline', BEHAVIOUR.idle];
  const child = spawn(program, [...words, ...common, '--serial', 'tty', '--console', 'off', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  try {
    await untilOutput(child, name, MARKER);
    const requests = writeRequests(own, requestsIn(own));
    const ask = [programs.host, 'ask', '--api', socket, '--requests', requests, '--gap', `${GAP_MS}`];
    const [client = '', ...rest] = [...priorityWords(), ...ask];
    const { stdout } = await run(client, rest);
    return answersIn(stdout);
  } finally {
    await end(child);
    fs.rmSync(own, { recursive: true });
  }
}
