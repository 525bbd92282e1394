/** Devices that come to a stock guest while it runs, and leave it. */
import { expect, test } from 'vitest';
import { eventually, LabGuest } from './guest.ts';
import { inLab, sharedLab } from './harness.ts';

test('disks and a network come, are used, leave and come again, also over a reboot', async () => {
  const lab = await sharedLab();
  await inLab(
    lab,
    'for i in 0 1 2; do truncate -s 64M /tmp/hotplug$i.img; done; ip tuntap add plug0 mode tap',
  );
  const guest = await LabGuest.boot();
  const add = (kind: string, body: object) => guest.api('PUT', `vm.add-${kind}`, body);
  const remove = (body: object) => guest.api('PUT', 'vm.remove-device', body);

  const place = await add('disk', { path: '/tmp/hotplug0.img', image_type: 'Raw', id: 'one' });
  expect([place.status, place.body]).toEqual([200, { id: 'one', bdf: '0000:00:03.0' }]);
  await eventually(guest, '[ -b /dev/vda ]');
  await guest.sh(
    'dd if=/dev/urandom of=/tmp/data bs=1M count=8 && dd if=/tmp/data of=/dev/vda bs=1M conv=fsync',
  );
  expect((await add('disk', { path: '/tmp/hotplug1.img', image_type: 'Raw', id: 'two' })).status).toBe(200);
  // What udev does elsewhere.
  await guest.sh('modprobe virtio_net');
  expect(await add('net', { tap: 'plug0', mac: '2e:00:00:00:00:07' })).toMatchObject({ status: 200 });
  await eventually(guest, '[ -b /dev/vdb ] && grep -q 2e:00:00:00:00:07 /sys/class/net/*/address');

  expect((await remove({ id: 'one', wait_ms: 60_000 })).status).toBe(204);
  await guest.sh('[ ! -b /dev/vda ] && [ -b /dev/vdb ]');
  expect((await remove({ id: 'one' })).status).toBe(404);
  const again = await add('disk', { path: '/tmp/hotplug0.img', image_type: 'Raw', id: 'one' });
  expect(again.body).toEqual(place.body);
  await eventually(guest, 'cmp -n 8388608 /tmp/data /dev/vda || cmp -n 8388608 /tmp/data /dev/vdc');

  const lines = 'ls /dev/vd? | wc -l; cat /sys/class/net/*/address';
  const before = await guest.sh(lines);
  await guest.rebooted(() => guest.api('PUT', 'vm.reboot'));
  expect(await guest.sh(lines)).toBe(before);
  await guest.sh('ls -l /sys/bus/pci/devices/0000:00:03.0/virtio*/block');
  expect((await remove({ id: 'two', wait_ms: 60_000 })).status).toBe(204);
  expect(await guest.sh('ls /dev/vd? | wc -l')).toBe('1\n');
  expect(await guest.powerOff()).toBe(0);
});

test('persistent memory comes, is used with a disk that transfers to it, leaves and comes again', async () => {
  const lab = await sharedLab();
  await inLab(
    lab,
    'truncate -s 64M /tmp/plugged-pmem.img && dd if=/dev/urandom of=/tmp/pmem-source.img bs=1M count=16',
  );
  const disk = ['--disk', 'path=/tmp/pmem-source.img,image_type=raw,readonly=on'];
  const guest = await LabGuest.boot({ args: disk });
  const add = () => guest.api('PUT', 'vm.add-pmem', { file: '/tmp/plugged-pmem.img', id: 'kept' });
  const place = await add();
  expect(place.status).toBe(200);
  await eventually(guest, 'modprobe -a virtio_pmem nd_pmem && [ -b /dev/pmem0 ]');
  await guest.sh(
    'mke2fs -q -t ext4 -b 4096 /dev/pmem0 && mkdir -p /mnt && mount -o dax=always /dev/pmem0 /mnt',
  );
  // The disk's data goes straight into the memory behind the file.
  await guest.sh(
    'dd if=/dev/vda of=/mnt/copy bs=1M iflag=direct conv=fsync && cmp /dev/vda /mnt/copy && umount /mnt',
  );
  const remove = { id: 'kept', wait_ms: 60_000 };
  expect((await guest.api('PUT', 'vm.remove-device', remove)).status).toBe(204);
  await guest.sh('[ ! -b /dev/pmem0 ]');
  expect(await inLab(lab, 'cat /proc/[0-9]*/maps 2>/dev/null | grep -c plugged-pmem || true')).toBe('0\n');
  expect(await add()).toEqual(place);
  await eventually(guest, '[ -b /dev/pmem0 ]');
  await guest.sh('mount -o ro,dax=always /dev/pmem0 /mnt && cmp /dev/vda /mnt/copy && umount /mnt');
  expect(await guest.powerOff()).toBe(0);
});

test('a disk leaves a guest that uses it, and one that does not answer', async () => {
  const lab = await sharedLab();
  await inLab(lab, 'truncate -s 64M /tmp/busy.img /tmp/forced.img');
  const guest = await LabGuest.boot();
  await guest.api('PUT', 'vm.add-disk', { path: '/tmp/busy.img', image_type: 'Raw', id: 'busy' });
  await eventually(guest, '[ -b /dev/vda ]');
  const writer = guest.start([
    'sh',
    '-c',
    'while [ -b /dev/vda ]; do dd if=/dev/zero of=/dev/vda bs=64k count=64 conv=fsync 2>/dev/null; done',
  ]);
  const removed = await guest.api('PUT', 'vm.remove-device', { id: 'busy', wait_ms: 60_000 });
  expect([removed.status, removed.body]).toEqual([204, undefined]);
  await writer.exited;
  await guest.sh('rm -f /dev/vda');
  const users = 'ls -l /proc/[0-9]*/fd 2>/dev/null | grep -c busy.img';
  expect(await inLab(lab, `${users} || true`)).toBe('0\n');

  await guest.api('PUT', 'vm.add-disk', { path: '/tmp/forced.img', image_type: 'Raw', id: 'forced' });
  await eventually(guest, '[ -b /dev/vda ]');
  expect((await guest.api('PUT', 'vm.pause')).status).toBe(204);
  expect((await guest.api('PUT', 'vm.remove-device', { id: 'forced', force: true })).status).toBe(204);
  expect((await guest.api('PUT', 'vm.resume')).status).toBe(204);
  // The driver has nothing to talk to any more, and the guest gives up what is left all the same.
  const nodes = async () => {
    const { body } = await guest.api('GET', 'vm.info');
    return Object.keys((body as { device_tree: object }).device_tree);
  };
  await expect.poll(nodes, { timeout: 60_000 }).not.toContain('forced');
  await guest.sh('[ ! -b /dev/vda ]');
  expect(await guest.powerOff()).toBe(0);
});
