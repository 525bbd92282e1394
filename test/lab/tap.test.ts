/** Taps that the device's own threads serve, with a stock guest: offloads, limits, and what happens to them while frames pass. */
import { afterEach, expect, test } from 'vitest';
import type { Lab } from '../../scripts/lab/lab.mjs';
import { LabGuest } from './guest.ts';
import { sharedLab } from './harness.ts';

const HOST = '192.168.78.1';
const GUEST = '192.168.78.2';
const MIB = 1024 * 1024;

const cleanups: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

async function must(lab: Lab, line: string): Promise<string> {
  const { code, stdout, stderr } = await lab.run(['sh', '-c', line], { timeoutSeconds: 60 });
  if (code !== 0) throw new Error(`in the lab: "${line}" ended with ${code}:\n${stdout}${stderr}`);
  return stdout;
}

interface Tapped {
  readonly lab: Lab;
  readonly guest: LabGuest;
  /** What runs a command in the network namespace of the tap. */
  readonly inside: string;
}

/** A guest on a tap, with an iperf3 server at the tap's other end. */
async function tapped(name: string, options: string, cpus = 1): Promise<Tapped> {
  const lab = await sharedLab();
  await must(lab, `ip netns add ${name} && ip -n ${name} link set lo up`);
  const wrapper = ['ip', 'netns', 'exec', name];
  const server = lab.start({
    command: [...wrapper, 'iperf3', '-s'],
    onStdout: () => {},
    onStderr: () => {},
  });
  cleanups.push(async () => {
    server.kill(9);
    await server.exited;
    await must(lab, `ip netns del ${name}`);
  });
  const net = `tap=tap0,ip=${HOST},mask=255.255.255.0,vhost=off${options}`;
  const guest = await LabGuest.boot({ wrapper, cpus, args: ['--net', net] });
  await up(guest);
  return { lab, guest, inside: wrapper.join(' ') };
}

async function up(guest: LabGuest): Promise<void> {
  await guest.sh(`ip addr add ${GUEST}/24 dev eth0 && ip link set eth0 up`);
  expect(await guest.sh(`ping -c 3 -i 0.2 -W 5 ${HOST}`)).toContain('3 received');
}

/** TCP to the host, and back. */
async function transfer(guest: LabGuest, mebibytes = 2): Promise<void> {
  for (const direction of ['', '-R']) {
    const json = await guest.sh(`iperf3 -J -c ${HOST} -n ${mebibytes}M ${direction}`);
    expect(JSON.parse(json).end.sum_sent.bytes).toBeGreaterThanOrEqual(mebibytes * MIB);
  }
}

async function counters(guest: LabGuest): Promise<Record<string, number>> {
  const { body } = await guest.api('GET', 'vm.counters');
  return (body as Record<string, Record<string, number>>)._net0 ?? {};
}

test('offloads are used, switched off and on again while TCP goes on', async () => {
  const { guest } = await tapped('offloads', '');
  const features = await guest.sh('ethtool -k eth0');
  for (const name of ['tx-checksumming', 'rx-checksumming', 'tcp-segmentation-offload']) {
    expect(features).toContain(`${name}: on`);
  }
  await transfer(guest, 8);
  const large = await counters(guest);
  // Segments of 64 KiB, most of them.
  expect((large.tx_bytes ?? 0) / (large.tx_frames ?? 1)).toBeGreaterThan(3000);
  for (const setting of ['tso off', 'tx off', 'gro-hw off', 'rx off', 'tx on tso on rx on gro-hw on']) {
    await guest.run(['sh', '-c', `ethtool -K eth0 ${setting}`]);
    await transfer(guest);
  }
  const after = await counters(guest);
  expect(after).toMatchObject({ tx_drops: 0, rx_drops: 0 });
  expect(await guest.kernelMessages()).not.toContain('Call Trace');
  expect(await guest.powerOff()).toBe(0);
});

test('without offloads, with a small queue and jumbo frames', async () => {
  const off = 'offload_csum=off,offload_tso=off,offload_ufo=off';
  const { guest, lab, inside } = await tapped('plain', `,${off},queue_size=64,mtu=9000`);
  expect(await guest.sh('cat /sys/class/net/eth0/mtu')).toBe('9000\n');
  expect(await guest.sh('ethtool -k eth0')).toContain('tcp-segmentation-offload: off');
  await transfer(guest);
  expect(await guest.sh(`ping -c 2 -i 0.2 -M do -s 8900 ${HOST}`)).toContain('2 received');
  expect(await must(lab, `${inside} ping -c 2 -i 0.2 -s 30000 ${GUEST}`)).toContain('2 received');
  expect(await guest.powerOff()).toBe(0);
});

test('a rate limit holds in both directions', async () => {
  // 1 MiB a second.
  const { guest } = await tapped('limited', `,bw_size=${MIB},bw_refill_time=1000`);
  for (const direction of ['', '-R']) {
    // iperf3 may end while some MiB are still in the buffers of TCP.
    const times = await guest.sh(
      `cat /proc/uptime; iperf3 -c ${HOST} -n 8M ${direction} >/dev/null && cat /proc/uptime`,
    );
    const [before, after] = times.split('\n').map(Number.parseFloat);
    // The first MiB is free.
    expect(Number(after) - Number(before)).toBeGreaterThan(2.5);
  }
  expect(await guest.powerOff()).toBe(0);
});

test('pauses, a driver that leaves, a reboot and a tap that vanishes', async () => {
  const { guest, lab, inside } = await tapped('life', ',num_queues=4', 2);
  const load = guest.sh(`iperf3 -J -P 2 -c ${HOST} -n 8M`);
  for (let i = 0; i < 3; i++) {
    expect((await guest.api('PUT', 'vm.pause')).status).toBe(204);
    expect((await guest.api('PUT', 'vm.resume')).status).toBe(204);
  }
  expect(JSON.parse(await load).end.sum_sent.bytes).toBeGreaterThanOrEqual(8 * MIB);
  await guest.sh('ethtool -L eth0 combined 2');
  await transfer(guest);
  guest.start(['ping', '-f', HOST]);
  await guest.sh('cd /sys/bus/virtio/drivers/virtio_net; d=$(ls -d virtio*); echo $d >unbind; echo $d >bind');
  await up(guest);
  await transfer(guest);
  await guest.rebooted(async () => guest.start(['reboot', '-f']));
  await up(guest);
  await transfer(guest);
  await must(lab, `${inside} ip link del tap0`);
  await guest.sh('until [ "$(cat /sys/class/net/eth0/carrier)" = 0 ]; do sleep 0.1; done');
  expect(await guest.powerOff()).toBe(0);
});
