/** PCI segments as a stock guest sees them: devices that are there at its boot, that come, and that leave. */
import { expect, test } from 'vitest';
import { LabGuest } from './guest.ts';
import { inLab, sharedLab } from './harness.ts';

const HOST = { first: '192.168.83.1', last: '192.168.84.1' };
const MAC = { first: '2e:00:00:00:83:01', last: '2e:00:00:00:84:01' };

/** Waits until a line of shell in the guest succeeds. */
function eventually(guest: LabGuest, line: string): Promise<string> {
  return guest.sh(`for i in $(seq 100); do ${line} && exit 0; usleep 200000; done; dmesg | tail -30; exit 1`);
}

/** Where disks and networks are. */
const PLACES = `for f in /sys/block/vd? /sys/class/net/eth?; do
  basename $(dirname $(dirname $(dirname $(readlink -f $f)))); done | sort`;

/** Gives the network with this address one of the host's, and uses it. */
const ping = (mac: string, host: string) =>
  `dev=$(basename $(dirname $(grep -l ${mac} /sys/class/net/*/address))) &&
  ip addr replace ${host.replace(/1$/, '2')}/24 dev $dev && ip link set $dev up && ping -c 2 -i 0.2 ${host}`;

test('disks and networks of PCI segments 1 and 15 are used, leave and come again, also over a reboot', async () => {
  const lab = await sharedLab();
  await inLab(
    lab,
    'for i in 1 15; do truncate -s 64M /tmp/segment$i.img; ip tuntap add segment$i mode tap; done',
  );
  const guest = await LabGuest.boot({
    args: [
      ...['--platform', 'num_pci_segments=16'],
      ...['--pci-segment', 'pci_segment=15,mmio32_aperture_weight=2,mmio64_aperture_weight=4'],
      ...['--disk', 'path=/tmp/segment1.img,image_type=raw,pci_segment=1,id=first'],
      ...['--net', `tap=segment1,ip=${HOST.first},mask=255.255.255.0,mac=${MAC.first},pci_segment=1`],
    ],
  });
  const add = (kind: string, body: object) =>
    guest.api('PUT', `vm.add-${kind}`, { ...body, pci_segment: 15 });
  const remove = (id: string) => guest.api('PUT', 'vm.remove-device', { id, wait_ms: 60_000 });
  const disk = { path: '/tmp/segment15.img', image_type: 'Raw', id: 'last' };
  const net = { tap: 'segment15', ip: HOST.last, mask: '255.255.255.0', mac: MAC.last, id: 'wire' };

  const buses = await guest.sh('ls -d /sys/devices/pci* | wc -l');
  expect(buses).toBe('16\n');
  expect(await guest.sh(PLACES)).toBe('0001:00:00.0\n0001:00:01.0\n');
  await guest.sh(
    'dd if=/dev/urandom of=/tmp/data bs=1M count=4 && dd if=/tmp/data of=/dev/vda bs=1M conv=fsync',
  );
  expect(await guest.sh(ping(MAC.first, HOST.first))).toContain('2 received');

  expect((await add('disk', disk)).body).toEqual({ id: 'last', bdf: '000f:00:00.0' });
  expect((await add('net', net)).body).toEqual({ id: 'wire', bdf: '000f:00:01.0' });
  const all = '0001:00:00.0\n0001:00:01.0\n000f:00:00.0\n000f:00:01.0\n';
  await eventually(guest, `[ -b /dev/vdb ] && grep -q ${MAC.last} /sys/class/net/*/address`);
  expect(await guest.sh(PLACES)).toBe(all);
  await guest.sh('dd if=/tmp/data of=/dev/vdb bs=1M conv=fsync && cmp -n 4194304 /dev/vda /dev/vdb');
  expect(await guest.sh(ping(MAC.last, HOST.last))).toContain('2 received');

  expect((await remove('last')).status).toBe(204);
  await guest.sh('[ ! -b /dev/vdb ] && [ -b /dev/vda ] && [ ! -e /sys/bus/pci/devices/000f:00:00.0 ]');
  expect((await add('disk', disk)).body).toEqual({ id: 'last', bdf: '000f:00:00.0' });
  await eventually(guest, 'cmp -n 4194304 /tmp/data /dev/vdb');

  await guest.rebooted(() => guest.api('PUT', 'vm.reboot'));
  expect(await guest.sh(PLACES)).toBe(all);
  await guest.sh('cmp -n 4194304 /dev/vda /dev/vdb');
  expect(await guest.sh(ping(MAC.last, HOST.last))).toContain('2 received');
  for (const id of ['first', 'wire']) expect((await remove(id)).status).toBe(204);
  expect(await guest.sh(PLACES)).toBe('0001:00:01.0\n000f:00:00.0\n');
  expect(await guest.kernelMessages()).not.toMatch(/BAR \d+.*(no space|failed)|AE_[A-Z]+/);
  expect(await guest.powerOff()).toBe(0);
});
