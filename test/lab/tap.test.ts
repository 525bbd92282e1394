/** Taps that our own threads serve, with a stock guest: offloads, limits, and what happens while frames pass. */
import { expect, test } from 'vitest';
import type { Lab } from '../../scripts/lab/lab.mjs';
import { LabGuest } from './guest.ts';
import { inLab, sharedLab } from './harness.ts';
import { iperfServer, namespace, transferred } from './hostNetwork.ts';

const HOST = '192.168.78.1';
const GUEST = '192.168.78.2';
const MIB = 1024 * 1024;

interface Tapped {
  readonly lab: Lab;
  readonly guest: LabGuest;
  /** What runs a command in the network namespace of the tap. */
  readonly inside: string;
}

/** A guest on a tap, with an iperf3 server at the tap's other end. */
async function tapped(name: string, options: string, cpus = 1): Promise<Tapped> {
  const lab = await sharedLab();
  const wrapper = await namespace(lab, name);
  await iperfServer(lab, wrapper);
  const net = `tap=tap0,ip=${HOST},mask=255.255.255.0,${options}`;
  const guest = await LabGuest.boot({ wrapper, cpus, args: ['-v', '--net', net] });
  await up(guest);
  return { lab, guest, inside: wrapper.join(' ') };
}

async function up(guest: LabGuest): Promise<void> {
  await guest.sh(`ip addr add ${GUEST}/24 dev eth0 && ip link set eth0 up`);
  expect(await guest.sh(`ping -c 3 -i 0.2 -W 5 ${HOST}`)).toContain('3 received');
}

/** TCP to the host, and back. */
async function transfer(guest: LabGuest, mebibytes = 1): Promise<void> {
  for (const direction of ['', '-R']) {
    const json = await guest.sh(`iperf3 -J -c ${HOST} -n ${mebibytes}M ${direction}`);
    expect(transferred(json)).toBeGreaterThanOrEqual(mebibytes * MIB);
  }
}

async function counters(guest: LabGuest): Promise<Record<string, number>> {
  const { body } = await guest.api('GET', 'vm.counters');
  return (body as Record<string, Record<string, number>>)._net0 ?? {};
}

test('offloads are used, switched off and on again while TCP goes on', async () => {
  const { guest } = await tapped('offloads', 'vhost=off');
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
  const { guest, lab, inside } = await tapped('plain', `vhost=off,${off},queue_size=64,mtu=9000`);
  expect(await guest.sh('cat /sys/class/net/eth0/mtu')).toBe('9000\n');
  expect(await guest.sh('ethtool -k eth0')).toContain('tcp-segmentation-offload: off');
  await transfer(guest);
  expect(await guest.sh(`ping -c 2 -i 0.2 -M do -s 8900 ${HOST}`)).toContain('2 received');
  expect(await inLab(lab, `${inside} ping -c 2 -i 0.2 -s 30000 ${GUEST}`)).toContain('2 received');
  expect(await guest.powerOff()).toBe(0);
});

test('a rate limit holds in both directions', async () => {
  // 1 MiB a second.
  const { guest } = await tapped('limited', `bw_size=${MIB},bw_refill_time=1000`);
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
  const { guest, lab, inside } = await tapped('life', 'vhost=off,num_queues=4', 2);
  const load = guest.sh(`iperf3 -J -P 2 -c ${HOST} -n 8M`);
  for (let i = 0; i < 3; i++) {
    expect((await guest.api('PUT', 'vm.pause')).status).toBe(204);
    expect((await guest.api('PUT', 'vm.resume')).status).toBe(204);
  }
  expect(transferred(await load)).toBeGreaterThanOrEqual(8 * MIB);
  await guest.sh('ethtool -L eth0 combined 2');
  await transfer(guest);
  const ping = guest.start(['ping', '-f', HOST]);
  await guest.sh('cd /sys/bus/virtio/drivers/virtio_net; d=$(ls -d virtio*); echo $d >unbind; echo $d >bind');
  await up(guest);
  await transfer(guest);
  // Linux breaks and resets virtio devices before it restarts, while programs still run. 6.1's network driver takes the
  // queue of a device that was reset for one with more buffers to collect, of which a broken queue gives it none, and
  // whoever sends then loops for ever (Linux's commit 0d0eff39ceb3 mends the same loop of its poll function).
  ping.kill(9);
  await ping.exited;
  await guest.rebooted(async () => guest.start(['reboot', '-f']));
  await up(guest);
  await transfer(guest);
  await inLab(lab, `${inside} ip link del tap0`);
  await guest.sh('until [ "$(cat /sys/class/net/eth0/carrier)" = 0 ]; do sleep 0.1; done');
  expect(await guest.powerOff()).toBe(0);
});

test.each(['off', 'on'])('several pairs of queues carry frames, vhost=%s', async (vhost) => {
  const { guest } = await tapped(`pairs-${vhost}`, `vhost=${vhost},num_queues=4`, 2);
  if (vhost === 'on') expect(guest.vmm.errors).toContain('is served by vhost-net');
  /** Pairs that the device has, and that are in use. */
  const channels = async () =>
    [...(await guest.sh('ethtool -l eth0')).matchAll(/^Combined:\s*(\d+)$/gm)].map((found) =>
      Number(found[1]),
    );
  /** Packets that each queue in use has sent so far. */
  const sent = async () => {
    const statistics = await guest.sh('ethtool -S eth0');
    return [...statistics.matchAll(/^\s*tx_queue_\d+_packets: (\d+)$/gm)].map((found) => Number(found[1]));
  };
  expect(await channels()).toEqual([2, 2]);
  for (const pairs of [2, 1, 2]) {
    await guest.run(['ethtool', '-L', 'eth0', 'combined', `${pairs}`]);
    expect(await channels()).toEqual([2, pairs]);
    for (const direction of ['', '-R']) {
      const json = await guest.sh(`iperf3 -J -P 4 -c ${HOST} -n 2M ${direction}`);
      expect(transferred(json)).toBeGreaterThanOrEqual(2 * MIB);
    }
    const before = await sent();
    expect(before).toHaveLength(pairs);
    // Each vCPU sends by a queue of its own.
    await guest.sh(`for cpu in 0 1; do taskset -c $cpu ping -c 3 -i 0.01 ${HOST}; done`);
    const after = await sent();
    for (const [queue, count] of after.entries()) expect(count - Number(before[queue])).toBeGreaterThan(2);
  }
  expect(await guest.powerOff()).toBe(0);
});
