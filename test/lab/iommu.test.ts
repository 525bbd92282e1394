/**
 * Devices behind the virtual IOMMU, with a stock kernel that has its driver: Debian's cloud kernel of bookworm was
 * built without, that of its backports with it.
 */
import { expect, onTestFinished, test } from 'vitest';
import type { Lab } from '../../scripts/lab/lab.mjs';
import { otherWorkshop } from '../../scripts/lab/otherGuests.mjs';
import { eventually, type GuestOptions, LabGuest } from './guest.ts';
import { copyToLab, inLab, sharedLab } from './harness.ts';
import { iperfServer, namespace, transferred } from './hostNetwork.ts';

const HOST = '192.168.81.1';
const GUEST = '192.168.81.2';
const MIB = 1024 * 1024;

async function translatedGuest(lab: Lab, options: GuestOptions): Promise<LabGuest> {
  const { kernel, initramfs } = await otherWorkshop('backports');
  if (initramfs === undefined) throw new Error('the kernel has no initramfs');
  onTestFinished(async () => {
    await inLab(lab, 'rm -f /tmp/iommu-*');
  });
  const payload = {
    kernel: await copyToLab(lab, kernel, '/tmp/iommu-kernel'),
    initramfs: await copyToLab(lab, initramfs, '/tmp/iommu-initramfs'),
  };
  return LabGuest.boot({ payload, ...options });
}

/** Image files of 16 MiB. */
async function images(lab: Lab, names: string): Promise<string[]> {
  const files = [...names].map((name) => `/tmp/iommu-${name}.img`);
  await inLab(lab, `truncate -s 16M ${files.join(' ')}`);
  return files;
}

/** What the IOMMU counts; nothing of it may be a fault or a request that makes no sense. */
async function requests(guest: LabGuest): Promise<number> {
  const { body } = await guest.api('GET', 'vm.counters');
  const counters = (body as Record<string, Record<string, number>>).__iommu;
  expect(counters).toMatchObject({ refused_requests: 0, faults: 0 });
  return counters?.requests ?? 0;
}

/** The PCI functions behind the IOMMU, each in a group of its own, as the driver's addresses are. */
async function behind(guest: LabGuest): Promise<string[]> {
  const listed = await guest.sh('cd /sys/kernel/iommu_groups && ls -d */devices/* && cat */type');
  const lines = listed.trim().split('\n');
  const functions = lines.filter((line) => line.includes('/devices/'));
  const types = lines.slice(functions.length);
  expect(types).toHaveLength(functions.length);
  for (const type of types) expect(type).toMatch(/^DMA(-FQ)?$/);
  return functions.map((line) => line.split('/').at(-1) ?? '').sort();
}

/** The PCI function of a network interface or disk. */
async function functionOf(guest: LabGuest, name: string): Promise<string> {
  const path = await guest.sh(`readlink -f /sys/class/*/${name}/device`);
  return path.trim().split('/').at(-2) ?? '';
}

/** The name of a disk: drivers start in any order, because those behind the IOMMU wait for its driver. */
async function diskOf(guest: LabGuest, serial: string): Promise<string> {
  const file = await eventually(guest, `grep -lx ${serial} /sys/block/vd*/serial`);
  return file.split('/')[3] ?? '';
}

async function verify(guest: LabGuest, disk: string, more = ''): Promise<void> {
  const job = `--name=t --filename=/dev/${disk} --direct=1 --verify=crc32c --verify_fatal=1`;
  await guest.sh(
    `fio ${job} --rw=randwrite --bsrange=512-256k --size=6M --ioengine=libaio --iodepth=16 ${more}`,
  );
}

test('disks and a network behind the IOMMU, and a disk beside it', async () => {
  const lab = await sharedLab();
  const wrapper = await namespace(lab, 'iommu');
  await iperfServer(lab, wrapper);
  const [first, second, third] = await images(lab, 'abc');
  const guest = await translatedGuest(lab, {
    cpus: 2,
    wrapper,
    args: [
      ...['--disk', `path=${first},image_type=raw,serial=a,iommu=on,num_queues=2`],
      // A table and rings of several pages.
      `path=${second},image_type=raw,serial=b,iommu=on,queue_size=1024`,
      `path=${third},image_type=raw,serial=c`,
      ...['--net', `tap=tap0,ip=${HOST},mask=255.255.255.0,iommu=on,num_queues=4`],
    ],
  });
  const { body } = await guest.api('GET', 'vm.info');
  expect(body).toMatchObject({ config: { iommu: true } });

  const [a, b, c] = await Promise.all(['a', 'b', 'c'].map((serial) => diskOf(guest, serial)));
  const devices = await Promise.all([`${a}`, `${b}`, 'eth0'].map((name) => functionOf(guest, name)));
  expect(await behind(guest)).toEqual(devices.sort());
  expect(await guest.sh('cat /sys/kernel/iommu_groups/0/reserved_regions')).toContain(
    '0x00000000fee00000 0x00000000feefffff msi',
  );

  for (const disk of [a, b, c]) await verify(guest, `${disk}`);
  const sum = await guest.sh(
    `dd if=/dev/urandom of=/dev/${a} bs=256k count=24 oflag=direct && head -c 6M /dev/${a} | md5sum`,
  );
  expect(await inLab(lab, `head -c 6M ${first} | md5sum`)).toBe(sum);
  await guest.sh(`ip addr add ${GUEST}/24 dev eth0 && ip link set eth0 up`);
  expect(await guest.sh(`ping -c 3 -i 0.2 ${HOST}`)).toContain('3 received');
  expect(await guest.sh(`ping -c 2 -i 0.2 -s 8000 ${HOST}`)).toContain('2 received');
  for (const direction of ['', '-R']) {
    const json = await guest.sh(`iperf3 -J -c ${HOST} -n 1M ${direction}`);
    expect(transferred(json)).toBeGreaterThanOrEqual(MIB);
  }
  expect(await requests(guest)).toBeGreaterThan(100);
  expect(await guest.powerOff()).toBe(0);
});

test('drivers that let go, take again, and unmap at once', async () => {
  const lab = await sharedLab();
  const [image] = await images(lab, 'd');
  const guest = await translatedGuest(lab, {
    cmdline: 'iommu.strict=1',
    args: ['--disk', `path=${image},image_type=raw,iommu=on,id=data`],
  });
  expect(await guest.sh('cat /sys/kernel/iommu_groups/*/type')).toBe('DMA\n');
  await verify(guest, 'vda');
  const device = '/sys/bus/virtio/drivers/virtio_blk';
  await guest.sh(`name=$(basename $(ls -d ${device}/virtio*)) && cd ${device} &&
    for turn in 1 2 3; do echo $name >unbind && echo $name >bind; done`);
  await verify(guest, 'vda', '--verify_only=0');
  const before = await requests(guest);
  expect((await guest.api('PUT', 'vm.pause')).status).toBe(204);
  expect((await guest.api('PUT', 'vm.resume')).status).toBe(204);
  await verify(guest, 'vda');
  expect(await requests(guest)).toBeGreaterThan(before);
  expect(await guest.powerOff()).toBe(0);
});

test('a disk comes to a segment behind the IOMMU, leaves, comes again, and stays over a reboot', async () => {
  const lab = await sharedLab();
  const [there, plugged] = await images(lab, 'ef');
  const guest = await translatedGuest(lab, {
    args: [
      ...['--platform', 'num_pci_segments=2,iommu_segments=[1]'],
      ...['--disk', `path=${there},image_type=raw,serial=e,iommu=on,pci_segment=1`],
    ],
  });
  const one = await behind(guest);
  expect(one).toEqual([await functionOf(guest, await diskOf(guest, 'e'))]);
  expect(one[0]).toMatch(/^0001:/);
  const disk = { path: plugged, image_type: 'Raw', serial: 'f', iommu: true, pci_segment: 1, id: 'plugged' };
  const place = await guest.api('PUT', 'vm.add-disk', disk);
  expect(place.status).toBe(200);
  await verify(guest, await diskOf(guest, 'f'));
  const two = [...one, (place.body as { readonly bdf: string }).bdf].sort();
  expect(await behind(guest)).toEqual(two);

  const removed = await guest.api('PUT', 'vm.remove-device', { id: 'plugged', wait_ms: 60_000 });
  expect(removed.status).toBe(204);
  expect(await behind(guest)).toEqual(one);
  expect(await guest.api('PUT', 'vm.add-disk', disk)).toEqual(place);
  await verify(guest, await diskOf(guest, 'f'), '--verify_only=0');

  expect(await requests(guest)).toBeGreaterThan(100);
  await guest.rebooted(() => guest.api('PUT', 'vm.reboot'));
  expect(await behind(guest)).toEqual(two);
  for (const serial of ['e', 'f']) await verify(guest, await diskOf(guest, serial));
  expect(await requests(guest)).toBeGreaterThan(100);
  expect(await guest.powerOff()).toBe(0);
});
