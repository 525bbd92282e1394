/**
 * Frames between the guest and the host's own network stack, through taps in a network namespace of each test's own.
 */
import { execFile, execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  calmsDown,
  expectAllOk,
  guestArgs,
  nativeThreads,
  ROOT,
  RUNTIMES,
  runGuest,
  startGuest,
  Tsvmm,
  temporaryFolder,
} from './support.ts';

const run = promisify(execFile);

const missing = whyNot();
if (missing) console.log(`SKIPPED: tests of taps: ${missing}`);

/** Why this host cannot run these tests, if it cannot. */
function whyNot(): string | undefined {
  if (process.getuid?.() !== 0) return 'only root can make network namespaces';
  return fs.existsSync('/dev/net/tun') ? undefined : 'there is no /dev/net/tun';
}

let namespaces = 0;

interface Namespace {
  /** Words that run a command in it. */
  readonly prefix: readonly string[];
  ip(...args: string[]): string;
}

function networkNamespace(): Namespace {
  const name = `tsvmm-test-${process.pid}-${namespaces++}`;
  execFileSync('ip', ['netns', 'add', name]);
  onTestFinished(() => void execFileSync('ip', ['netns', 'del', name]));
  return {
    prefix: ['ip', 'netns', 'exec', name],
    ip: (...args) => execFileSync('ip', ['-n', name, ...args], { encoding: 'utf8' }),
  };
}

/** Sends datagrams from the namespace and expects all of them back. */
async function exchange(namespace: Namespace, count: number, size: number, flows = 1): Promise<void> {
  const [program, ...words] = namespace.prefix;
  const script = path.join(ROOT, 'test/kvm/netPeer.mjs');
  const args = [script, count, size, flows].map(String);
  await run(program as string, [...words, process.execPath, ...args], { timeout: 60_000 });
}

async function quit(namespace: Namespace, vmm: Tsvmm): Promise<void> {
  const [program, ...words] = namespace.prefix;
  const send = "require('dgram').createSocket('udp4').send('x', 9, '192.0.2.2', () => process.exit())";
  await run(program as string, [...words, process.execPath, '-e', send]);
  expect(await vmm.exit(), vmm.stderr).toEqual({ code: 0, signal: null });
  expectAllOk(vmm.stdout);
  expect(vmm.stderr).toBe('');
}

const ADDRESS = 'ip=192.0.2.1,mask=255.255.255.0';

describe.skipIf(missing)('taps', () => {
  test.each(RUNTIMES)('%s: one that is made and set up', async (runtime) => {
    const namespace = networkNamespace();
    const vmm = startGuest({
      cmdline: 'run=net-echo',
      args: [
        ...['--net', `tap=t0,${ADDRESS},host_mac=2e:aa:00:00:00:01,mtu=1400`],
        ...['--api-socket', path.join(temporaryFolder(), 'api')],
      ],
      prefix: namespace.prefix,
      runtime,
    });
    await vmm.waitFor(/net ready: mac 2e(:[0-9a-f]{2}){5} mtu 1400 pairs 1 link 1/);
    const link = namespace.ip('addr', 'show', 't0');
    expect(link).toContain('inet 192.0.2.1/24');
    expect(link).toContain('mtu 1400');
    expect(link).toContain('2e:aa:00:00:00:01');
    for (const size of [20, 1000, 5000, 60_000]) await exchange(namespace, 50, size);
    const [net] = (await vmm.api('GET', 'vm.info')).json.config.net;
    expect(net).toMatchObject({ id: '_net0', tap: 't0', num_queues: 2 });
    expect(vmm.stdout).toContain(`mac ${net.mac}`);
    const counters = (await vmm.api('GET', 'vm.counters')).json._net0;
    expect(counters.tx_frames).toBeGreaterThanOrEqual(2400);
    expect(counters.rx_frames).toBeGreaterThanOrEqual(counters.tx_frames);
    expect(counters.tx_bytes).toBeGreaterThan(50 * 66_000);
    expect(counters).toMatchObject({ rx_drops: 0, tx_drops: 0 });
    expect(nativeThreads(vmm.pid)).toContain('_net0_qp0');
    await quit(namespace, vmm);
    expect(() => namespace.ip('link', 'show', 't0')).toThrow();
  });

  test('a guest without any offload', async () => {
    const namespace = networkNamespace();
    const vmm = startGuest({
      // No mergeable buffers, no checksums: GUEST_CSUM, CSUM, MRG_RXBUF.
      cmdline: `run=net-echo features=${0x8003}`,
      args: ['--net', `tap=t0,${ADDRESS},offload_csum=off,offload_tso=off,offload_ufo=off`],
      prefix: namespace.prefix,
    });
    await vmm.waitFor('net ready: ');
    for (const size of [20, 1400, 20_000]) await exchange(namespace, 50, size);
    await quit(namespace, vmm);
  });

  test('one that is prepared needs no privileges', async () => {
    const namespace = networkNamespace();
    namespace.ip('tuntap', 'add', 't0', 'mode', 'tap', 'user', 'root');
    namespace.ip('addr', 'add', '192.0.2.1/24', 'dev', 't0');
    namespace.ip('link', 'set', 't0', 'up', 'mtu', '2000');
    const prefix = [...namespace.prefix, 'setpriv', '--bounding-set=-net_admin', '--inh-caps=-net_admin'];
    const vmm = startGuest({ cmdline: 'run=net-echo', args: ['--net', 'tap=t0'], prefix });
    await vmm.waitFor('mtu 2000 pairs 1 link 1');
    await exchange(namespace, 100, 1900);
    await quit(namespace, vmm);
    expect(namespace.ip('addr', 'show', 't0')).toContain('192.0.2.1/24');

    for (const [options, message] of [
      ['tap=t0,mtu=1500', 'Cannot set MTU 1500 on the tap t0: that needs CAP_NET_ADMIN'],
      ['tap=new', 'Cannot open the tap new: that needs CAP_NET_ADMIN'],
      ['tap=lo', 'no tap'],
      ['tap=t0,num_queues=4', 'multi_queue'],
    ] as const) {
      const args = guestArgs({ cmdline: 'run=net-echo', args: ['--net', options, '--cpus', 'boot=2'] });
      const refused = new Tsvmm(args, { prefix });
      expect(await refused.exit()).toEqual({ code: 1, signal: null });
      expect(refused.stderr).toContain(message);
    }
  });

  test('descriptors of one with two pairs of queues', async () => {
    const namespace = networkNamespace();
    const prefix = [...namespace.prefix, process.execPath, path.join(ROOT, 'test/kvm/tapLauncher.mjs'), '2'];
    const vmm = startGuest({
      cmdline: 'run=net-echo pairs=2',
      args: ['--net', 'fd=[3,4],num_queues=4', '--cpus', 'boot=2'],
      prefix,
    });
    await vmm.waitFor('pairs 2 link 1');
    await exchange(namespace, 50, 1000, 16);
    await quit(namespace, vmm);
    // Sixteen flows find their way through both, as the kernel spreads them.
    for (const pair of [0, 1]) expect(vmm.stdout).toMatch(new RegExp(`net pair ${pair}: [1-9]`));
  });

  test('descriptors that are none', async () => {
    const vmm = new Tsvmm(guestArgs({ cmdline: 'run=net-echo', args: ['--net', 'fd=[3]'] }));
    expect(await vmm.exit()).toEqual({ code: 1, signal: null });
    expect(vmm.stderr).toContain('Descriptor 3 is not of a tap');
  });

  test('the MAC address stays over a reboot, and so do descriptors', async () => {
    const namespace = networkNamespace();
    const prefix = [...namespace.prefix, process.execPath, path.join(ROOT, 'test/kvm/tapLauncher.mjs'), '1'];
    const socket = path.join(temporaryFolder(), 'api');
    const args = ['--net', 'fd=[3]', '--api-socket', socket];
    const vmm = startGuest({ cmdline: 'run=net-echo', args, prefix });
    await vmm.waitFor(/net ready: .*\n/);
    const first = /mac (\S+)/.exec(vmm.stdout)?.[1];
    expect((await vmm.api('PUT', 'vm.reboot')).status).toBe(204);
    await vmm.waitFor(/net ready: [\s\S]*net ready: .*\n/);
    expect(vmm.stdout.match(/mac \S+/g)).toEqual([`mac ${first}`, `mac ${first}`]);
    await exchange(namespace, 20, 500);
    await quit(namespace, vmm);
  });

  test('one that is made is there again after a reboot, under load, with as many queues', async () => {
    const namespace = networkNamespace();
    const socket = path.join(temporaryFolder(), 'api');
    const net = `tap=t0,${ADDRESS},num_queues=4`;
    const vmm = startGuest({
      cmdline: 'run=net-echo pairs=2',
      args: ['--net', net, '--cpus', 'boot=2', '--api-socket', socket],
      prefix: namespace.prefix,
    });
    await vmm.waitFor(/net ready: .*\n/);
    for (let i = 2; i < 5; i++) {
      await exchange(namespace, 200, 500, 8);
      expect((await vmm.api('PUT', 'vm.pause')).status).toBe(204);
      expect((await vmm.api('PUT', 'vm.resume')).status).toBe(204);
      expect((await vmm.api('PUT', 'vm.reboot')).status).toBe(204);
      await vmm.waitFor(new RegExp(`(net ready: [\\s\\S]*){${i}}\n`));
    }
    await exchange(namespace, 20, 500);
    await quit(namespace, vmm);
  });

  test('one that goes away takes the link down and nothing else', async () => {
    const namespace = networkNamespace();
    const vmm = startGuest({
      cmdline: 'run=net-echo until-down=1 then=idle',
      args: ['--net', `tap=t0,${ADDRESS}`],
      prefix: namespace.prefix,
    });
    await vmm.waitFor('net ready: ');
    await exchange(namespace, 20, 500);
    namespace.ip('link', 'set', 't0', 'down');
    namespace.ip('link', 'del', 't0');
    await vmm.waitFor(/net link down[\s\S]*done \d+/);
    await calmsDown(vmm.pid);
    vmm.kill('SIGTERM');
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  });

  test('hostile-net', async () => {
    const namespace = networkNamespace();
    await runGuest({
      cmdline: 'run=hostile-net',
      args: ['--net', `tap=t0,${ADDRESS}`],
      prefix: namespace.prefix,
      hostile: true,
    });
  });
});
