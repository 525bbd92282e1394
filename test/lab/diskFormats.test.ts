/** Disk images of formats other than raw under a stock guest, and disks that get another size while it runs. */
import { expect, test } from 'vitest';
import { LabGuest } from './guest.ts';
import { inLab, sharedLab } from './harness.ts';

const MIB = 1 << 20;

/** Writes with checksums over the whole disk in random order, flushes now and then, and reads all of it back. */
function fio(device: string, options: string): string {
  return [
    `fio --name=t --filename=${device} --size=12M --rw=randwrite --bsrange=4k-64k --direct=1`,
    `--ioengine=libaio --iodepth=8 --fsync=64 --verify=crc32c --do_verify=1 --output-format=json ${options}`,
  ].join(' ');
}

async function expectNoErrors(guest: LabGuest, command: string): Promise<void> {
  const { jobs } = JSON.parse(await guest.sh(command));
  expect(jobs.map(({ error }: { error: number }) => error)).toEqual([0]);
}

test('VHD, VHDX and qcow2 hold what a guest writes', async () => {
  const lab = await sharedLab();
  await inLab(
    lab,
    `cd /tmp && rm -f formats.* &&
      qemu-img create -q -f vpc -o subformat=fixed,force_size=on formats.vhd 32M &&
      qemu-img create -q -f vhdx -o block_size=1M formats.vhdx 32M &&
      qemu-img create -q -f qcow2 formats.qcow2 32M`,
  );
  const disks = ['vhd', 'vhdx', 'qcow2'].map((type) => `path=/tmp/formats.${type},image_type=${type}`);
  const guest = await LabGuest.boot({ args: ['--disk', ...disks] });
  for (const device of ['/dev/vda', '/dev/vdb', '/dev/vdc']) {
    expect(await guest.sh(`cat /sys/block/${device.slice(5)}/size`)).toBe(`${(32 * MIB) / 512}\n`);
    await expectNoErrors(guest, fio(device, ''));
  }
  await guest.sh('mke2fs -q -t ext4 -F /dev/vdb && e2fsck -fn /dev/vdb && sync');
  const sums = (await guest.sh('md5sum < /dev/vda; md5sum < /dev/vdb; md5sum < /dev/vdc')).split('\n');
  expect(await guest.powerOff()).toBe(0);

  await inLab(lab, 'cd /tmp && qemu-img check -q -f vhdx formats.vhdx && qemu-img check -q formats.qcow2');
  for (const [index, format] of ['vpc', 'vhdx', 'qcow2'].entries()) {
    const file = `formats.${format === 'vpc' ? 'vhd' : format}`;
    const sum = await inLab(
      lab,
      `cd /tmp && qemu-img convert -f ${format} -O raw ${file} formats.raw && md5sum < formats.raw`,
    );
    expect([format, sum]).toEqual([format, `${sums[index]}\n`]);
  }
  await inLab(lab, 'rm /tmp/formats.*');
});

test('a guest sees the new size of its disks', async () => {
  const lab = await sharedLab();
  await inLab(
    lab,
    'cd /tmp && rm -f resized.* && truncate -s 16M resized.raw && qemu-img create -q -f qcow2 resized.qcow2 16M',
  );
  const guest = await LabGuest.boot({
    args: [
      '--disk',
      'path=/tmp/resized.raw,image_type=raw,id=raw',
      'path=/tmp/resized.qcow2,image_type=qcow2,id=qcow2',
    ],
  });
  const size = async (device: string, wanted: number) => {
    await guest.sh(`n=0; while [ $(cat /sys/block/${device}/size) != ${wanted / 512} ]; do
      n=$((n+1)); [ $n -lt 100 ] || exit 1; sleep 0.1; done`);
  };
  for (const [id, device] of [
    ['raw', 'vda'],
    ['qcow2', 'vdb'],
  ] as const) {
    await size(device, 16 * MIB);
    const answer = await guest.api('PUT', 'vm.resize-disk', { id, desired_size: 40 * MIB });
    expect([id, answer.status]).toEqual([id, 204]);
    await size(device, 40 * MIB);
    await expectNoErrors(guest, fio(`/dev/${device}`, '--offset=16M'));
  }
  expect(await guest.kernelMessages()).not.toContain('Call Trace');
  expect(await guest.powerOff()).toBe(0);
  await inLab(lab, 'qemu-img check -q /tmp/resized.qcow2');
  expect(await inLab(lab, 'stat -c %s /tmp/resized.raw')).toBe(`${40 * MIB}\n`);
  await inLab(lab, 'rm /tmp/resized.*');
});
