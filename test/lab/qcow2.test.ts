/** qcow2 images of the kinds that matter, used by a stock guest, also past the VMM's sudden death. */
import { expect, test } from 'vitest';
import { LabGuest } from './guest.ts';
import { inLab, sharedLab } from './harness.ts';

async function fio(guest: LabGuest, device: string, options: string): Promise<void> {
  const { jobs } = JSON.parse(
    await guest.sh(
      `fio --name=t --filename=/dev/${device} --direct=1 --ioengine=libaio --iodepth=8 --fsync=64
        --verify=crc32c --do_verify=1 --output-format=json ${options}`.replaceAll('\n', ' '),
    ),
  );
  expect(jobs.map(({ error }: { error: number }) => error)).toEqual(jobs.map(() => 0));
}

test('chains, subclusters, lazy refcounts and discards keep what the guest wrote', async () => {
  const lab = await sharedLab();
  await inLab(
    lab,
    `cd /tmp && rm -f chain.* && head -c 6291456 /dev/urandom > chain.raw && truncate -s 9M chain.raw &&
      qemu-img convert -c -f raw -O qcow2 -o compression_type=zstd,cluster_size=16k chain.raw chain.base &&
      qemu-img create -q -f qcow2 -F qcow2 -b chain.base chain.middle 12M &&
      qemu-io -c 'write -P 90 2M 100k' chain.middle > /dev/null &&
      qemu-img create -q -f qcow2 -F qcow2 -b chain.middle chain.top 16M &&
      qemu-img create -q -f qcow2 -F qcow2 -b chain.middle -o extended_l2=on,cluster_size=128k chain.sub 16M &&
      qemu-img create -q -f qcow2 -o lazy_refcounts=on,cluster_size=4k chain.lazy 16M`,
  );
  const below = 'md5sum /tmp/chain.base /tmp/chain.middle';
  const before = await inLab(lab, below);
  const content = async (file: string) =>
    inLab(lab, `qemu-img convert -O raw /tmp/${file} /tmp/chain.out && md5sum < /tmp/chain.out`);
  const original = await content('chain.top');

  const disks = ['top', 'sub', 'lazy'].map(
    (name) => `path=/tmp/chain.${name},image_type=qcow2,backing_files=on,num_queues=2`,
  );
  const guest = await LabGuest.boot({ cpus: 2, args: ['--disk', ...disks] });
  expect(await guest.sh('md5sum < /dev/vda')).toBe(original);
  for (const device of ['vda', 'vdb', 'vdc']) {
    // Across what the backing images have, where they end, and beyond.
    await fio(guest, device, '--rw=randwrite --bsrange=512-64k --offset=1M --size=2M');
    await fio(guest, device, '--rw=write --bs=256k --offset=8M --size=3M');
    await guest.sh(`blkdiscard -o 2M -l 1M /dev/${device} && blkdiscard -z -o 8M -l 2M /dev/${device}`);
    expect(await guest.sh(`dd if=/dev/${device} bs=1M skip=8 count=2 | tr -d '\\0' | wc -c`)).toBe('0\n');
    await fio(guest, device, '--rw=randwrite --bs=4k --offset=2M --size=1M --numjobs=1');
  }
  await guest.sh('mke2fs -q -t ext4 -F /dev/vdc && e2fsck -fn /dev/vdc && sync');
  const md5 = 'md5sum < /dev/vda; md5sum < /dev/vdb; md5sum < /dev/vdc';
  const sums = (await guest.sh(md5)).split('\n');
  // The next machine opens the images anew.
  await guest.rebooted(() => guest.run(['true']).then(() => guest.start(['reboot', '-f'])));
  expect((await guest.sh(md5)).split('\n')).toEqual(sums);
  expect(await guest.kernelMessages()).not.toContain('Call Trace');
  expect(await guest.powerOff()).toBe(0);

  for (const [index, name] of ['top', 'sub', 'lazy'].entries()) {
    await inLab(lab, `qemu-img check -q /tmp/chain.${name}`);
    expect([name, await content(`chain.${name}`)]).toEqual([name, `${sums[index]}\n`]);
  }
  expect(await inLab(lab, below)).toBe(before);
});

test('what was flushed outlives the VMM', async () => {
  const lab = await sharedLab();
  await inLab(
    lab,
    `cd /tmp && rm -f kill.* && qemu-img create -q -f qcow2 kill.plain 64M &&
      qemu-img create -q -f qcow2 -o lazy_refcounts=on kill.lazy 64M`,
  );
  const args = ['--disk', ...['plain', 'lazy'].map((name) => `path=/tmp/kill.${name},image_type=qcow2`)];
  const guest = await LabGuest.boot({ cpus: 2, args });
  const sums = [];
  for (const device of ['vda', 'vdb']) {
    await guest.sh(
      `head -c 6291456 /dev/urandom > /tmp/data && dd if=/tmp/data of=/dev/${device} bs=100k conv=fsync`,
    );
    sums.push(await guest.sh('md5sum < /tmp/data'));
    // And then something that will not come to its end.
    guest.start([
      'fio',
      '--name=t',
      `--filename=/dev/${device}`,
      '--rw=randwrite',
      '--bs=4k',
      '--direct=1',
      ...['--offset=8M', '--size=48M', '--fsync=8', '--ioengine=libaio', '--iodepth=8'],
    ]);
  }
  await guest.sh('sleep 2');
  guest.vmm.signal('SIGKILL');
  await guest.vmm.ended;

  // Leaked clusters are all that may be wrong; with lazy refcounts the image says itself that they are.
  const check = await lab.run(['qemu-img', 'check', '/tmp/kill.plain']);
  expect([0, 3]).toContain(check.code);
  const again = await LabGuest.boot({ args });
  for (const [index, device] of ['vda', 'vdb'].entries()) {
    expect(await again.sh(`head -c 6291456 /dev/${device} | md5sum`)).toBe(sums[index]);
    await fio(again, device, '--rw=randwrite --bsrange=4k-64k --offset=8M --size=4M');
  }
  expect(await again.powerOff()).toBe(0);
  await inLab(lab, 'qemu-img check -q /tmp/kill.lazy');
  await inLab(lab, 'qemu-img check -q -r leaks /tmp/kill.plain && qemu-img check -q /tmp/kill.plain');
});
