/** What a guest's agent is asked, on the socket of a device that is not one. */
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { procedures } from '../../../../src/api/libvirt/procedures/index.ts';
import { Remote } from '../../../../src/api/libvirt/signatures/index.ts';

const ACPI = 1;
const AGENT = 2;

type Answer = (asked: { readonly type?: string; readonly execute?: string }) => object | 'ends' | undefined;

/** What masterblaster's agent answers. */
const ack =
  (payload: object): Answer =>
  () => ({ type: 'ack', payload });

/** QEMU's, as its version 7.2 does. */
const qemuAgent =
  (shutdown: object | 'ends' | undefined): Answer =>
  ({ type, execute }) => {
    if (execute === 'guest-shutdown') return shutdown;
    const desc = type === undefined ? 'unknown' : "QMP input member 'type' is unexpected";
    return { error: { class: 'GenericError', desc } };
  };

/** A domain whose agent answers so, if there is one, and all that it and the domain's process were asked. */
async function domain(answer: Answer | undefined) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-agent-'));
  const asked: string[] = [];
  const serve = async (name: string, hear: (text: string, socket: net.Socket) => void) => {
    const server = net.createServer((socket) => {
      socket.setEncoding('utf8').on('data', (text: string) => hear(text.trim(), socket));
    });
    server.listen(path.join(folder, name));
    await once(server, 'listening');
    onTestFinished(() => void server.close());
  };
  onTestFinished(() => fs.rmSync(folder, { recursive: true }));
  await serve('vmhost.sock', (text, socket) => {
    asked.push(`process ${text}`);
    socket.end('{"ok":true,"state":"running"}\n');
  });
  if (answer) {
    await serve('vsock.sock', (text, socket) => {
      if (text.startsWith('CONNECT')) return void socket.write('OK 1\n');
      asked.push(`agent ${text}`);
      const answered = answer(JSON.parse(text));
      if (answered === 'ends') socket.destroy();
      else if (answered) socket.write(`${JSON.stringify(answered)}\n`);
    });
  }
  const vm = { alive: true, paused: false, folder };
  const domains = {
    byUuid: () => vm,
    configOf: () => ({ vsock: { cid: 3, socket: 'vsock.sock' } }),
    call: async (_vm: unknown, method: string, endpoint: string) => void asked.push(`${method} ${endpoint}`),
  };
  const ask = async (procedure: { readonly number: number }, flags: number): Promise<void> => {
    const call = { session: { domains }, args: { dom: { uuid: '' }, flags }, serial: 1 };
    await procedures.get(procedure.number)?.run(call as never);
  };
  return { asked, ask };
}

const SHUTDOWN = 'agent {"type":"shutdown","payload":{"reason":"stop"}}';
const RESTART = 'process {"method":"restart"}';

test('an agent that accepts a shutdown is all that is asked, and a reboot is prepared after it', async () => {
  const { asked, ask } = await domain(ack({ ok: true }));
  await ask(Remote.domainShutdownFlags, AGENT | ACPI);
  expect(asked.splice(0)).toEqual([SHUTDOWN]);
  await ask(Remote.domainReboot, AGENT);
  expect(asked).toEqual([SHUTDOWN, RESTART]);
});

test.each([
  ['refuses', ack({ ok: false, error: 'busy' }), /refused shutdown: "busy"/],
  ['is not there', undefined, /ENOENT/],
])('an agent that %s is an error, unless the button will do', async (_, answer, message) => {
  const { asked, ask } = await domain(answer);
  await expect(ask(Remote.domainShutdownFlags, AGENT)).rejects.toThrow(message);
  await expect(ask(Remote.domainReboot, AGENT)).rejects.toThrow(/Guest agent is not responding/);
  expect(asked.filter((each) => each !== SHUTDOWN)).toEqual([]);
  asked.length = 0;
  await ask(Remote.domainShutdownFlags, AGENT | ACPI);
  await ask(Remote.domainReboot, AGENT | ACPI);
  expect(asked.filter((each) => each !== SHUTDOWN)).toEqual(['PUT vm.power-button', RESTART]);
});

const QEMU_SHUTDOWN = 'agent {"execute":"guest-shutdown"}';

test.each([
  ['says nothing', undefined],
  ['ends with its guest', 'ends' as const],
])("QEMU's agent is asked in its own words, and accepts if it %s", async (_, answer) => {
  const { asked, ask } = await domain(qemuAgent(answer));
  await ask(Remote.domainShutdownFlags, AGENT);
  expect(asked).toEqual([SHUTDOWN, QEMU_SHUTDOWN]);
});

test("what QEMU's agent refuses is an error", async () => {
  const error = { class: 'CommandNotFound', desc: 'Command guest-shutdown has been disabled' };
  const { asked, ask } = await domain(qemuAgent({ error }));
  await expect(ask(Remote.domainShutdownFlags, AGENT)).rejects.toThrow(/refused: "Command guest-shutdown/);
  expect(asked).toEqual([SHUTDOWN, QEMU_SHUTDOWN]);
});

test('no agent is asked unless the flags say so', async () => {
  const { asked, ask } = await domain(ack({ ok: true }));
  await ask(Remote.domainShutdownFlags, 0);
  await ask(Remote.domainReboot, 0);
  expect(asked).toEqual(['PUT vm.power-button', RESTART]);
});
