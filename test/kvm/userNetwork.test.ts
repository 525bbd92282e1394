/** User networking: a guest at the address that passt takes from its host, a network namespace of each test's own. */
import { execFile, execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  ROOT,
  RUNTIMES,
  type Runtime,
  request,
  sleep,
  startGuest,
  type Tsvmm,
  temporaryFolder,
} from './support.ts';

const run = promisify(execFile);

/** Why these tests cannot run here. */
function whatIsMissing(): string | undefined {
  if (process.getuid?.() !== 0) return 'only root can make network namespaces';
  try {
    execFileSync('unshare', ['--user', 'true'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return 'passt shuts itself into a user namespace, which this system refuses (as in a chroot)';
  }
}

const missing = whatIsMissing();
if (missing) console.log(`SKIPPED: tests of user networking: ${missing}`);

let namespaces = 0;

/** A host with a network: the payload guest answers at its address. Returns words that run a command there. */
function host(): string[] {
  const name = `tsvmm-user-${process.pid}-${namespaces++}`;
  const ip = (...args: string[]) => execFileSync('ip', args);
  ip('netns', 'add', name);
  onTestFinished(() => void ip('netns', 'del', name));
  ip('-n', name, 'link', 'set', 'lo', 'up');
  ip('-n', name, 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'peer0');
  for (const link of ['up0', 'peer0']) ip('-n', name, 'link', 'set', link, 'up');
  ip('-n', name, 'addr', 'add', '192.0.2.2/24', 'dev', 'up0');
  ip('-n', name, 'route', 'add', 'default', 'via', '192.0.2.1');
  return ['ip', 'netns', 'exec', name];
}

const FORWARD = ['--net', 'user,forward=[udp:5007:7,tcp:5022:22]'];

function echoGuest(prefix: readonly string[], runtime: Runtime, args: readonly string[] = []): Tsvmm {
  return startGuest({ cmdline: 'run=net-echo', args: [...FORWARD, ...args], prefix, runtime });
}

async function exchange(prefix: readonly string[], count: number, size: number): Promise<void> {
  const [program, ...words] = prefix;
  const script = path.join(ROOT, 'test/kvm/netPeer.mjs');
  const peer = [script, String(count), String(size), '1', '127.0.0.1', '5007'];
  await run(program as string, [...words, process.execPath, ...peer], { timeout: 120_000 });
}

/** The passt processes of a namespace. */
function passts(prefix: readonly string[]): string[] {
  const pids = execFileSync('ip', ['netns', 'pids', prefix[3] as string], { encoding: 'utf8' });
  const names = pids.split('\n').filter(Boolean);
  return names.filter((pid) => {
    try {
      // "PID (NAME) STATE ...": proc(5). A zombie has ended.
      return /\(passt[^)]*\) [^Z]/.test(fs.readFileSync(`/proc/${pid}/stat`, 'utf8'));
    } catch {
      return false;
    }
  });
}

describe.skipIf(missing)('user networking', () => {
  test.each(RUNTIMES)('%s: frames go both ways, also after a reboot', async (runtime) => {
    const prefix = host();
    const socket = path.join(temporaryFolder(), 'api');
    const vmm = echoGuest(prefix, runtime, ['--api-socket', socket]);
    await vmm.waitFor(/net ready/);
    for (const size of [20, 1400, 9000]) await exchange(prefix, 50, size);
    expect(passts(prefix)).toHaveLength(1);
    const before = vmm.stdout.length;
    expect((await request(socket, 'PUT', 'vm.reboot')).status).toBe(204);
    await expect.poll(() => vmm.stdout.slice(before)).toMatch(/net ready/);
    await exchange(prefix, 50, 1000);
    expect(passts(prefix)).toHaveLength(1);
    expect((await request(socket, 'PUT', 'vmm.shutdown')).status).toBe(200);
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
    await expect.poll(() => passts(prefix)).toEqual([]);
    expect(vmm.stderr).toMatch(
      /^tsvmm: warning: With forwarded UDP ports [^\n]*loopback[^\n]*\n(?:tsvmm: warning: [^\n]*\n)?$/,
    );
  });

  test('passt ends with a VMM that is killed', async () => {
    const prefix = host();
    const vmm = echoGuest(prefix, 'standalone');
    await vmm.waitFor(/net ready/);
    expect(passts(prefix)).toHaveLength(1);
    vmm.kill('SIGKILL');
    await vmm.exit();
    await expect.poll(() => passts(prefix)).toEqual([]);
  });

  test('a guest goes on when passt ends', async () => {
    const prefix = host();
    const socket = path.join(temporaryFolder(), 'api');
    const vmm = echoGuest(prefix, 'standalone', ['--api-socket', socket]);
    await vmm.waitFor(/net ready/);
    for (const pid of passts(prefix)) process.kill(Number(pid), 'SIGKILL');
    await sleep(200);
    expect((await request(socket, 'GET', 'vm.info')).json.state).toBe('Running');
    expect((await request(socket, 'PUT', 'vmm.shutdown')).status).toBe(200);
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  });

  test('a port that is in use is named', async () => {
    const prefix = host();
    const first = echoGuest(prefix, 'standalone');
    await first.waitFor(/net ready/);
    const second = echoGuest(prefix, 'standalone');
    expect(await second.exit()).toEqual({ code: 1, signal: null });
    expect(second.stderr).toMatch(
      /A forwarded port \(udp 127.0.0.1:5007, tcp 127.0.0.1:5022\) cannot be used: /,
    );
    first.kill('SIGTERM');
    expect(await first.exit()).toEqual({ code: 0, signal: null });
  });

  test('a host without a network is told so', async () => {
    const prefix = host();
    execFileSync('ip', ['-n', prefix[3] as string, 'link', 'del', 'up0']);
    const vmm = echoGuest(prefix, 'standalone');
    expect(await vmm.exit()).toEqual({ code: 1, signal: null });
    expect(vmm.stderr).toMatch(/The user network does not start: .*interface/);
  });
});
