/** A `tsvmmd` below a folder of its own, and calls of its API. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SUPERVISOR } from '../../scripts/lib/paths.mjs';
import { Failure } from '../../scripts/lib/progress.mjs';
import { vmhostProcessesOf } from '../../scripts/lib/vmhostProcesses.mjs';

const START_MS = 60_000;

/** Also gives it to this process, which measures. */
function mayHavePriority() {
  return spawnSync('chrt', ['--all-tasks', '--rr', '--pid', '1', String(process.pid)]).status === 0;
}

export class Daemon {
  /**
   * @param {string} dir
   * @param {import('node:child_process').ChildProcess} child
   */
  constructor(dir, child) {
    this.dir = dir;
    this.child = child;
    this.agent = new http.Agent({ keepAlive: true, maxSockets: 16 });
  }

  /**
   * @param {string} dir
   * @param {number} pool processes that wait
   */
  static async start(dir, pool) {
    fs.mkdirSync(dir, { recursive: true });
    const args = ['--dir', dir, '--pool', String(pool)];
    // At real-time priority where that may be had, as what is started by itself (spawn.c): other load on the host then
    // matters less.
    const [file, ...words] = mayHavePriority()
      ? ['chrt', '--rr', '1', SUPERVISOR, ...args]
      : [SUPERVISOR, ...args];
    const child = spawn(/** @type {string} */ (file), words, { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.on('data', (data) => {
      said += data;
    });
    const end = performance.now() + START_MS;
    while (!said.includes('serving ')) {
      if (child.exitCode !== null || performance.now() > end) throw new Failure(`tsvmmd: ${said}`);
      await sleep(5);
    }
    return new Daemon(dir, child);
  }

  get pid() {
    return /** @type {number} */ (this.child.pid);
  }

  /**
   * @param {string} method
   * @param {string} endpoint
   * @param {object} [body]
   * @returns {Promise<any>} the answer's JSON, if it has any
   */
  async call(method, endpoint, body) {
    const payload = body === undefined ? '' : JSON.stringify(body);
    const sent = http.request({
      socketPath: path.join(this.dir, 'tsvmmd.sock'),
      method,
      path: `/v1/${endpoint}`,
      agent: this.agent,
      headers: { 'Content-Length': Buffer.byteLength(payload) },
    });
    sent.end(payload);
    const [answer] = await once(sent, 'response');
    let text = '';
    for await (const chunk of answer.setEncoding('utf8')) text += chunk;
    if (answer.statusCode >= 400) throw new Failure(`${method} ${endpoint}: ${text}`);
    return text === '' ? undefined : JSON.parse(text);
  }

  /** Processes of VMs, and of the pool. */
  processes() {
    return vmhostProcessesOf(this.dir);
  }

  /** How many descriptors it has open. */
  descriptors() {
    return fs.readdirSync(`/proc/${this.pid}/fd`).length;
  }

  /** Ends it, and what of it is left. */
  async end() {
    this.agent.destroy();
    const gone = this.child.exitCode === null ? once(this.child, 'exit') : undefined;
    this.child.kill('SIGTERM');
    await gone;
  }

  killVms() {
    for (const pid of this.processes()) process.kill(pid, 'SIGKILL');
  }
}
