/** Networks of a stock guest: tap served here and by the kernel, and passt without privileges. */
import { expect, onTestFinished, test } from 'vitest';
import type { Lab } from '../../scripts/lab/lab.mjs';
import { LabGuest } from './guest.ts';
import { inLab, sharedLab } from './harness.ts';
import { iperfServer, listening, namespace, runBeside, transferred, untilListening } from './hostNetwork.ts';

const HOST = '192.168.77.1';
const GUEST = '192.168.77.2';

/** The user `somebody`, who may use KVM and nothing else. */
const UNPRIVILEGED = ['setpriv', '--reuid=1000', '--regid=1000', '--clear-groups', '--inh-caps=-all'];

const MIB = 1024 * 1024;

/** Frames of all sizes both ways, TCP both ways. */
async function exercise(lab: Lab, wrapper: readonly string[], guest: LabGuest): Promise<void> {
  await guest.sh(`ip addr add ${GUEST}/24 dev eth0 && ip link set eth0 up`);
  expect(await guest.sh(`ping -c 3 -i 0.2 ${HOST}`)).toContain('3 received');
  // More than a frame: fragments both ways.
  expect(await guest.sh(`ping -c 2 -i 0.2 -s 8000 ${HOST}`)).toContain('2 received');
  expect(await inLab(lab, `${wrapper.join(' ')} ping -c 3 -i 0.2 ${GUEST}`)).toContain('3 received');
  for (const direction of ['', '-R']) {
    const json = await guest.sh(`iperf3 -J -c ${HOST} -n 2M ${direction}`);
    expect(transferred(json)).toBeGreaterThanOrEqual(2 * MIB);
  }
  const udp = JSON.parse(await guest.sh(`iperf3 -J -u -b 2M -t 1 -c ${HOST}`));
  expect(udp.end.sum.packets).toBeGreaterThan(udp.end.sum.lost_packets);
}

async function tapGuest(name: string, net: string) {
  const lab = await sharedLab();
  const wrapper = await namespace(lab, name);
  await iperfServer(lab, wrapper);
  const guest = await LabGuest.boot({
    wrapper,
    cpus: 2,
    args: ['-v', '--net', `tap=tap0,ip=${HOST},mask=255.255.255.0,mac=52:54:00:00:00:77,${net}`],
  });
  expect(await guest.sh('cat /sys/class/net/eth0/address')).toBe('52:54:00:00:00:77\n');
  return { lab, wrapper, guest };
}

test('a tap that is served here', async () => {
  const { lab, wrapper, guest } = await tapGuest('tap', 'vhost=off');
  expect(guest.vmm.errors).not.toContain('vhost');
  await exercise(lab, wrapper, guest);
  expect(await guest.sh('ethtool -k eth0')).toContain('tcp-segmentation-offload: on');
  expect(await guest.powerOff()).toBe(0);
});

test('a tap that the kernel serves, over pauses, masked interrupts and reboots', async () => {
  const { lab, wrapper, guest } = await tapGuest('vhost', 'mtu=9000');
  expect(guest.vmm.errors).toContain('is served by vhost-net');
  await exercise(lab, wrapper, guest);
  expect(await inLab(lab, 'ps -o comm')).toMatch(/^vhost-\d+/m);
  expect(await guest.sh('cat /sys/class/net/eth0/mtu')).toBe('9000\n');

  // Moving an interrupt to another vCPU masks and unmasks its vector, under load.
  const load = guest.sh(`iperf3 -J -c ${HOST} -n 8M -R`);
  for (const cpu of [1, 2, 1, 2, 1, 2]) {
    await guest.sh(`for i in $(awk '/virtio.*put|input|output/{sub(":","");print $1}' /proc/interrupts); do
      echo ${cpu} >/proc/irq/$i/smp_affinity; done`);
  }
  expect(transferred(await load)).toBeGreaterThanOrEqual(8 * MIB);

  // Held in the middle of it.
  const held = guest.sh(`iperf3 -J -c ${HOST} -n 8M`);
  expect((await guest.api('PUT', 'vm.pause')).status).toBe(204);
  const before = await inLab(lab, `${wrapper.join(' ')} cat /sys/class/net/tap0/statistics/rx_packets`);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const after = await inLab(lab, `${wrapper.join(' ')} cat /sys/class/net/tap0/statistics/rx_packets`);
  expect(after).toBe(before);
  expect((await guest.api('PUT', 'vm.resume')).status).toBe(204);
  expect(transferred(await held)).toBeGreaterThanOrEqual(8 * MIB);

  // The driver leaves and comes back: a reset of the device.
  await guest.sh('cd /sys/bus/virtio/drivers/virtio_net; d=$(ls -d virtio*); echo $d >unbind; echo $d >bind');
  await exercise(lab, wrapper, guest);
  await guest.rebooted(async () => guest.start(['reboot', '-f']));
  await exercise(lab, wrapper, guest);
  expect(await guest.powerOff()).toBe(0);
});

/** A host with a network behind it, and nobody privileged on it. */
async function userHost(lab: Lab, name: string): Promise<readonly string[]> {
  const wrapper = await namespace(lab, name);
  await inLab(
    lab,
    [
      `ip link add ${name} type veth peer name eth0 netns ${name}`,
      `ip addr add 10.77.0.1/24 dev ${name}`,
      `ip link set ${name} up`,
      `ip -n ${name} addr add 10.77.0.2/24 dev eth0`,
      `ip -n ${name} link set eth0 up`,
      `ip -n ${name} route add default via 10.77.0.1`,
      `ip netns exec ${name} sh -c 'echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range'`,
      'chmod 666 /dev/kvm',
    ].join(' && '),
  );
  onTestFinished(async () => {
    await inLab(lab, `ip link del ${name}`);
  });
  return wrapper;
}

/** How many processes of passt there are. */
const passts = async (lab: Lab) =>
  (await lab.run(['sh', '-c', "pidof passt passt.avx2 | tr ' ' '\\n' | sort -u | grep -c ."])).stdout;

async function configure(guest: LabGuest): Promise<void> {
  await guest.sh('ip link set eth0 up && udhcpc -q -n -t 10 -i eth0 -s /etc/dhcp.sh');
  expect(await guest.sh('ip -4 addr show dev eth0')).toContain('10.77.0.2/24');
}

test('user networking for a user without privileges', async () => {
  const lab = await sharedLab();
  const inside = await userHost(lab, 'user');
  await iperfServer(lab, []);
  const guest = await LabGuest.boot({ wrapper: [...inside, ...UNPRIVILEGED], args: ['--net', 'user=on'] });
  expect(await passts(lab)).toBe('1\n');
  await configure(guest);
  expect(await guest.sh('ping -c 2 -i 0.2 10.77.0.1')).toContain('2 received');
  for (const direction of ['', '-R']) {
    const json = await guest.sh(`iperf3 -J -c 10.77.0.1 -n 2M ${direction}`);
    expect(transferred(json)).toBeGreaterThanOrEqual(2 * MIB);
  }
  // Services on the host's loopback address are out of the guest's reach.
  runBeside(lab, [...inside, 'socat', 'TCP-LISTEN:6000,bind=127.0.0.1,fork', 'SYSTEM:echo secret']);
  await listening(lab, inside, 6000);
  const reached = await guest.run(['socat', '-u', 'TCP:10.77.0.1:6000,connect-timeout=5', '-']);
  expect(reached.stdout).toBe('');
  expect(reached.code).not.toBe(0);
  expect(await guest.powerOff()).toBe(0);
});

test('forwarded ports lead into the guest, also after its reboot', async () => {
  const lab = await sharedLab();
  const inside = await userHost(lab, 'forwards');
  const guest = await LabGuest.boot({
    wrapper: [...inside, ...UNPRIVILEGED],
    args: ['--net', 'user,forward=[tcp:2222:22,tcp:5333:5201]'],
  });
  const host = inside.join(' ');
  const reach = async () => {
    await configure(guest);
    guest.start(['socat', '-t', '60', 'TCP-LISTEN:22,reuseaddr,fork', 'SYSTEM:echo hello; sha256sum']);
    guest.start(['iperf3', '-s']);
    await guest.sh(`${untilListening(22)}; ${untilListening(5201)}`);
    // The guest speaks first, as for SSH, and hears where the host stops.
    const [greeting, sum, sent] = (
      await inLab(
        lab,
        `head -c 300000 /dev/urandom > /tmp/forwarded &&
          ${host} socat -t 60 STDIO TCP:127.0.0.1:2222 < /tmp/forwarded && sha256sum < /tmp/forwarded`,
      )
    ).split('\n');
    expect(greeting).toBe('hello');
    expect(sum).toBe(sent);
    for (const direction of ['', '-R']) {
      const json = await inLab(lab, `${host} iperf3 -J -c 127.0.0.1 -p 5333 -n 2M ${direction}`);
      expect(transferred(json)).toBeGreaterThanOrEqual(2 * MIB);
    }
  };
  await reach();
  await guest.rebooted(async () => guest.start(['reboot', '-f']));
  expect(await passts(lab)).toBe('1\n');
  await reach();
  guest.vmm.signal('SIGKILL');
  await guest.vmm.exitCode();
  await expect.poll(() => passts(lab), { timeout: 20_000 }).toBe('0\n');
});

test('a guest hears that its user network is gone', async () => {
  const lab = await sharedLab();
  const inside = await userHost(lab, 'lost');
  const guest = await LabGuest.boot({ wrapper: [...inside, ...UNPRIVILEGED], args: ['--net', 'user=on'] });
  await guest.sh('ip link set eth0 up && grep -q 1 /sys/class/net/eth0/carrier');
  await inLab(lab, 'kill -9 $(pidof passt passt.avx2)');
  await guest.sh('until grep -q 0 /sys/class/net/eth0/carrier; do sleep 0.1; done');
  expect(await guest.powerOff()).toBe(0);
});
