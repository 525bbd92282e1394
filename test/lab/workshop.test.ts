/** The stock guest with tools, which the tests of devices are made with. */
import { expect, test } from 'vitest';
import { LabGuest } from './guest.ts';
import { sharedLab } from './harness.ts';

test('runs commands in the guest with their output, input and exit code, many at a time', async () => {
  const guest = await LabGuest.boot({ cpus: 2 });
  expect(await guest.run(['sh', '-c', 'echo out; echo err >&2; exit 7'])).toEqual({
    code: 7,
    stdout: 'out\n',
    stderr: 'err\n',
  });
  expect(await guest.sh('wc -c', { input: 'x'.repeat(20_000) })).toBe('20000\n');
  const words = await Promise.all(
    [1, 2, 3].map((number) => guest.sh(`sleep 0.${4 - number}; echo ${number}`)),
  );
  expect(words).toEqual(['1\n', '2\n', '3\n']);
  const all = await guest.sh('head -c 100000 /dev/zero | tr "\\0" a');
  expect(all).toBe('a'.repeat(100_000));
  await expect(guest.sh('cat /missing')).rejects.toThrow('No such file');
  await expect(guest.run(['sleep', '20'], { timeoutSeconds: 1 })).rejects.toThrow('more than 1 s');
  await guest.rebooted(() => guest.run(['true']).then(() => guest.start(['reboot', '-f'])));
  expect(await guest.sh('nproc')).toBe('2\n');
  expect(await guest.powerOff()).toBe(0);
});

test('the tools run', async () => {
  const lab = await sharedLab();
  await lab.run(['truncate', '-s', '16M', '/tmp/tools.img']);
  const guest = await LabGuest.boot({
    args: ['--disk', 'path=/tmp/tools.img,image_type=raw'],
  });
  const fio = await guest.sh(
    'fio --name=t --filename=/dev/vda --size=4M --rw=randwrite --bs=4k --direct=1 --ioengine=libaio --verify=crc32c --output-format=json',
  );
  expect(JSON.parse(fio).jobs[0].error).toBe(0);
  for (const tool of [
    'iperf3 --version',
    'socat -V',
    'ping -V',
    'ip -V',
    'ethtool --version',
    'blkdiscard -V',
  ]) {
    expect(await guest.sh(tool)).not.toBe('');
  }
  await guest.sh('mke2fs -q -t ext4 /dev/vda && e2fsck -fn /dev/vda');
  await guest.sh('iperf3 -s -1 -D && sleep 1 && iperf3 -c 127.0.0.1 -n 1M');
  expect(await guest.kernelMessages()).not.toContain('Call Trace');
  expect(await guest.powerOff()).toBe(0);
});
