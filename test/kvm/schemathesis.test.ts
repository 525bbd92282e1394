/**
 * The served OpenAPI document drives schemathesis against the socket. Runs where `schemathesis` is in the path, as
 * installing it from PyPI takes most of a minute (CONTRIBUTING.md says how).
 */
import { spawn, spawnSync } from 'node:child_process';
import net from 'node:net';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { openDescriptors, PAYLOAD, ROOT, settles, Tsvmm, temporaryFolder } from './support.ts';

const isThere = spawnSync('schemathesis', ['--version']).status === 0;
if (!isThere) console.log('skipped: schemathesis is not in the path (PyPI has it)');

const SECONDS = Number(process.env.TSVMM_SCHEMATHESIS_SECONDS ?? 60);
/** The one ends the process, the other never ends. */
const ENDLESS = ['vmm.shutdown', 'vm.events'];
/**
 * The reference tells a wrong state as a failure of the server's, a wrong method and a contradiction as a bad request.
 */
const REFERENCE_WAYS = ['not_a_server_error', 'unsupported_method', 'positive_data_acceptance'];

/** schemathesis speaks TCP only. @returns an address that leads to the socket */
async function portTo(socket: string): Promise<string> {
  const server = net.createServer({ allowHalfOpen: true }, (client) => {
    const api = net.connect({ path: socket, allowHalfOpen: true });
    client.pipe(api).pipe(client);
    client.on('error', () => api.destroy());
    api.on('error', () => client.destroy());
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  onTestFinished(() => void server.close());
  return `http://127.0.0.1:${(server.address() as net.AddressInfo).port}`;
}

async function schemathesis(address: string, folder: string, words: readonly string[]): Promise<string> {
  const config = path.join(ROOT, 'test/kvm/schemathesis.toml');
  const common = ['--config-file', config, 'run', `${address}/api/v1/openapi.json`, '--url', address];
  const limits = ['--max-time', String(SECONDS), '--no-color', '--warnings', 'off'];
  const child = spawn('schemathesis', [...common, ...limits, ...words], { cwd: folder });
  onTestFinished(() => void child.kill('SIGKILL'));
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const code = await new Promise((resolve) => {
    child.on('close', resolve);
  });
  return `exit code ${code}\n${output}`;
}

test.runIf(isThere).each([
  ['as the reference answers', [], ['--exclude-checks', REFERENCE_WAYS.join()], []],
  ['with HTTP’s status codes', ['--api-strict'], [], []],
  ['with HTTP’s status codes, of a VM that is there', ['--api-strict'], [], ['vm.create', 'vm.delete']],
] as const)('%s', async (_name, flags, words, excluded) => {
  const folder = temporaryFolder();
  const socket = path.join(folder, 'api');
  // Files that a random configuration names are made where the process is.
  const vmm = new Tsvmm(['--api-socket', `path=${socket}`, ...flags], { cwd: folder });
  await vmm.ready();
  if (excluded.length > 0) {
    const config = { payload: { kernel: PAYLOAD, cmdline: 'run=idle' }, console: { mode: 'Off' } };
    expect((await vmm.api('PUT', 'vm.create', config)).status).toBe(204);
  }
  const before = openDescriptors(vmm.pid);
  const endpoints = [...ENDLESS, ...excluded].map((name) => `(${name.replace('.', '\\.')})`);
  const output = await schemathesis(await portTo(socket), folder, [
    ...['--exclude-path-regex', endpoints.join('|')],
    ...words,
  ]);
  expect(output).toMatch(/^exit code 0\n/);
  expect(output).toMatch(/Selected: \d{2}\/\d{2}/);
  expect(output).toMatch(/ [1-9]\d{2,} generated/);
  await vmm.api('PUT', 'vm.delete');
  await settles(() => expect(openDescriptors(vmm.pid)).toBeLessThanOrEqual(before));
  expect((await vmm.api('PUT', 'vmm.shutdown')).status).toBe(200);
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
});
