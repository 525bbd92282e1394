/** README's commands as they stand there, with the Debian that it makes first. */
import fs from 'node:fs';
import { expect, onTestFinished, test } from 'vitest';
import type { Lab } from '../../scripts/lab/lab.mjs';
import { example, inline, readmeGuest, workplace } from '../../scripts/lab/readme.mjs';
import { DEBIAN_SECONDS, inLab, Session, sharedLab } from './harness.ts';

const MAKING_SECONDS = 300;
const TERMINAL = { rows: 24, columns: 200 };

/** Somebody in the lab who follows README in a folder with its Debian guest. */
class Reader {
  readonly lab: Lab;
  /** Of the guest's root, in the lab. */
  readonly key: string;
  readonly #cwd: string;
  readonly #env: Record<string, string> = {};

  private constructor(lab: Lab, cwd: string, key: string) {
    this.lab = lab;
    this.key = key;
    this.#cwd = cwd;
  }

  static async in(name: string): Promise<Reader> {
    const guest = await readmeGuest();
    const { folder, inLab } = await workplace(guest, name);
    onTestFinished(() => fs.rmSync(folder, { recursive: true }));
    return new Reader(await sharedLab(), inLab, guest.keyInLab);
  }

  export(name: string, value: string): void {
    this.#env[name] = value;
  }

  /** A line that does not come back at once, or that ends in `&`. */
  start(line: string): Session {
    const command = ['sh', '-c', line.startsWith('(') ? line : `exec ${line.replace(/ &$/, '')}`];
    const session = new Session(this.lab, command, { cwd: this.#cwd, env: this.#env, terminal: TERMINAL });
    onTestFinished(() => session.signal('SIGKILL'));
    return session;
  }

  async try(line: string): Promise<{ code: number; stdout: string; stderr: string }> {
    const options = { cwd: this.#cwd, env: this.#env, timeoutSeconds: 120 };
    return this.lab.run(['sh', '-c', line], options);
  }

  async run(line: string): Promise<string> {
    const { code, stdout, stderr } = await this.try(line);
    expect(code, `${line}: ${stderr}`).toBe(0);
    return stdout;
  }
}

/** The commands of an example of several: each begins its line. */
function commands(text: string): string[] {
  return text.split(/\n(?=[a-z])/).map((command) => command.replace(/ +#.*$/, ''));
}

test('the REST API creates, boots and shows it', { timeout: MAKING_SECONDS * 1000 }, async () => {
  const reader = await Reader.in('readme-rest');
  const [start = '', create = '', boot = '', info = '', button = ''] = commands(
    example('bin/tsvmm --api-socket path=/tmp/vm.sock &'),
  );
  const vmm = reader.start(start);
  await expect.poll(async () => (await reader.try('ls /tmp/vm.sock')).code, { timeout: 60_000 }).toBe(0);
  await reader.run(create);
  await reader.run(boot);
  expect(JSON.parse(await reader.run(info))).toMatchObject({ state: 'Running' });
  await expect
    .poll(() => reader.run('cat /tmp/console.log'), { timeout: 120_000, interval: 1000 })
    .toContain('Linux version 6.');
  await reader.run(button);
  vmm.signal('SIGTERM');
  expect(await vmm.exitCode()).toBe(0);
});

test('the supervisor runs it', { timeout: MAKING_SECONDS * 1000 }, async () => {
  const reader = await Reader.in('readme-vms');
  const [serve = '', folder = '', run = '', list = '', logs = '', info = '', stop = '', remove = ''] =
    commands(example('bin/tsvmmd --dir /tmp/vms &'));
  const daemon = reader.start(serve);
  await daemon.expect('serving ');
  const [, name = '', value = ''] = /^export (\w+)=(\S+)$/.exec(folder) ?? [];
  reader.export(name, value);
  await reader.run(run);
  expect(await reader.run(list)).toMatch(/^web +running/m);
  const log = reader.start(logs);
  await log.expect('Linux version 6.');
  expect(await reader.run(info)).toContain('Running');
  await reader.run(stop);
  await reader.run(remove);
  expect(await reader.run(list)).not.toContain('web');
  daemon.signal('SIGTERM');
  expect(await daemon.exitCode()).toBe(0);
});

test('SSH and a socket reach it', { timeout: (MAKING_SECONDS + 3 * DEBIAN_SECONDS) * 1000 }, async () => {
  const reader = await Reader.in('readme-ssh');
  // The key that README's first command let in.
  const identity = '/root/.ssh/id_ed25519';
  await inLab(reader.lab, `mkdir -p /root/.ssh && cp ${reader.key} ${identity} && chmod 600 ${identity}`);
  const vm = reader.start(`${example('bin/tsvmm --kernel ')} ${inline('--net user')} ${inline('--vsock ')}`);
  await vm.expect('Linux version 6.');

  const ssh = await untilSays(reader, example('ssh '), 'Are you sure you want to continue connecting', 60);
  ssh.write(Buffer.from('yes\n'));
  await ssh.expect('root@');
  // Its root can be written to, which systemd wants.
  const seen = ['systemctl is-active ssh', 'touch /here && ls /here', 'echo $((6 * 7))'];
  ssh.write(Buffer.from(`echo ${seen.map((command) => `$(${command})`).join(', ')}\n`));
  await ssh.expect('active, /here, 42');

  const listen = inline('socat VSOCK-LISTEN:');
  const ready = 'while ! ls -l /proc/$!/fd | grep -q socket; do sleep 1; done';
  ssh.write(Buffer.from(`${listen} & ${ready}; echo listen''ing; fg\n`));
  await ssh.expect('listening');
  const client = await untilSays(reader, example('(echo CONNECT'), 'OK ', 10);
  client.write(Buffer.from('from the host\n'));
  await ssh.expect('from the host');
  ssh.write(Buffer.from('from the guest\n'));
  await client.expect('from the guest');
  client.signal('SIGTERM');

  ssh.write(Buffer.from('\x03poweroff\n'));
  expect(await vm.exitCode(DEBIAN_SECONDS)).toBe(0);
});

/**
 * The guest's server may not be there yet, and the socket device is patient for 2 s, in which a busy emulation may not
 * answer.
 */
async function untilSays(reader: Reader, line: string, wanted: string, seconds: number): Promise<Session> {
  const end = Date.now() + DEBIAN_SECONDS * 1000;
  for (;;) {
    const client = reader.start(line);
    try {
      await client.expect(wanted, seconds);
      return client;
    } catch (error) {
      client.signal('SIGKILL');
      if (Date.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
}
