/** Memory of a stock guest: more of it while it runs, zones, files and NUMA nodes. */
import { expect, test } from 'vitest';
import { LabGuest } from './guest.ts';
import { inLab, sharedLab } from './harness.ts';

const MIB = 1 << 20;

async function totalMib(guest: LabGuest): Promise<number> {
  return Number((await guest.sh('grep MemTotal /proc/meminfo')).replace(/\D/g, '')) / 1024;
}

interface Info {
  readonly memory_actual_size: number;
  readonly config: { readonly memory: { readonly size: number } };
}

async function sizes(guest: LabGuest): Promise<number[]> {
  const { config, memory_actual_size } = (await guest.api('GET', 'vm.info')).body as Info;
  return [config.memory.size / MIB, memory_actual_size / MIB];
}

/** What udev does elsewhere. */
const ONLINE = 'for f in /sys/devices/system/memory/memory*/state; do echo online > $f; done';

test('grows by ACPI under load, keeps what is in it, and has it from the start after a reboot', async () => {
  const guest = await LabGuest.boot({ memory: '512M,hotplug_size=1G' });
  const resize = async (mib: number) =>
    (await guest.api('PUT', 'vm.resize', { desired_ram: mib * MIB })).status;
  const before = await totalMib(guest);
  await guest.sh('dd if=/dev/urandom of=/tmp/kept bs=1M count=64 2>/dev/null; md5sum /tmp/kept > /tmp/sum');
  const load = guest.start(['sh', '-c', 'while dd if=/tmp/kept of=/tmp/copy bs=64k 2>/dev/null; do :; done']);
  for (const mib of [640, 1024]) {
    expect(await resize(mib)).toBe(204);
    const blocks = `ls -d /sys/devices/system/memory/memory* | wc -l`;
    // Of 128 MiB each: four at boot.
    const wanted = 4 + (mib - 512) / 128;
    await guest.sh(
      `for i in $(seq 200); do [ $(${blocks}) -ge ${wanted} ] && exit 0; usleep 200000; done; dmesg; exit 1`,
    );
    await guest.sh(ONLINE);
    expect((await totalMib(guest)) - before).toBe(mib - 512);
  }
  await guest.sh('md5sum -c /tmp/sum');
  // More than there was at boot.
  await guest.sh('mkdir -p /tmp/big && mount -t tmpfs -o size=90% none /tmp/big');
  await guest.sh(
    'dd if=/dev/zero of=/tmp/big/zeros bs=1M count=600 && [ $(stat -c %s /tmp/big/zeros) = 629145600 ]',
  );
  load.kill(9);
  expect(await resize(1025)).toBe(500);
  expect(await resize(2048)).toBe(500);
  expect(await sizes(guest)).toEqual([1024, 1024]);

  await guest.rebooted(() => guest.api('PUT', 'vm.reboot'));
  expect((await totalMib(guest)) - before).toBeGreaterThan(500);
  expect(await resize(512)).toBe(204);
  expect(await sizes(guest)).toEqual([512, 1024]);
  await guest.rebooted(() => guest.api('PUT', 'vm.reboot'));
  expect(await totalMib(guest)).toBeCloseTo(before, -1);
  expect(await guest.powerOff()).toBe(0);
});

test('zones are NUMA nodes with distances, one of them in a file', async () => {
  const lab = await sharedLab();
  await inLab(lab, 'truncate -s 128M /tmp/zone.mem');
  const guest = await LabGuest.boot({
    cpus: 2,
    memory: '0',
    args: [
      ...[
        '--memory-zone',
        'id=low,size=384M,host_numa_node=0',
        'id=filed,size=128M,file=/tmp/zone.mem,shared=on',
      ],
      ...['--numa', 'guest_numa_id=0,cpus=[0],memory_zones=[low],distances=[1@25]'],
      'guest_numa_id=1,cpus=[1],memory_zones=[filed],distances=[0@30]',
    ],
  });
  const nodes = '/sys/devices/system/node';
  expect(await guest.sh(`cat ${nodes}/online ${nodes}/node0/cpulist ${nodes}/node1/cpulist`)).toBe(
    '0-1\n0\n1\n',
  );
  expect(await guest.sh(`cat ${nodes}/node0/distance ${nodes}/node1/distance`)).toBe('10 25\n30 10\n');
  const kib = (await guest.sh(`grep -h MemTotal ${nodes}/node?/meminfo`))
    .split('\n')
    .map((line) => Number(line.match(/(\d+) kB/)?.[1]));
  expect(kib[0]).toBeGreaterThan(280 * 1024);
  expect(kib[1]).toBeGreaterThan(100 * 1024);
  expect(await guest.kernelMessages()).not.toContain('Call Trace');
  // What node 1 has is in the file.
  expect(Number(await inLab(lab, 'stat -c %b /tmp/zone.mem')) * 512).toBeGreaterThan(MIB);
  const { body } = await guest.api('GET', 'vm.info');
  expect(body).toMatchObject({ memory_actual_size: 512 * MIB, config: { memory: { size: 0 } } });
  expect(await guest.powerOff()).toBe(0);
});
