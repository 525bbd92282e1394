/** Memory that comes while a guest runs, and zones with a backing of their own, with the project's own guest. */
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { VirtualMachine } from '../../src/index.ts';
import { PAYLOAD, sleep, Tsvmm, temporaryFolder } from './support.ts';

const MIB = 1 << 20;

async function idle(memory: object): Promise<Tsvmm> {
  const vmm = new Tsvmm(['--api-socket', `path=${path.join(temporaryFolder(), 'api')}`], {});
  await vmm.ready();
  const config = {
    payload: { kernel: PAYLOAD, cmdline: 'run=idle' },
    memory,
    serial: { mode: 'Null' },
    console: { mode: 'Off' },
  };
  expect((await vmm.api('PUT', 'vm.create', config)).status).toBe(204);
  return vmm;
}

async function sizes(vmm: Tsvmm): Promise<number[]> {
  const { config, memory_actual_size } = (await vmm.api('GET', 'vm.info')).json;
  return [config.memory.size / MIB, memory_actual_size / MIB];
}

const resize = (vmm: Tsvmm, mib: number) => vmm.api('PUT', 'vm.resize', { desired_ram: mib * MIB });

/** Descriptors of guest memory. */
function memoryFiles(pid: number): number {
  const folder = `/proc/${pid}/fd`;
  const isMemory = (fd: string) => {
    try {
      return fs.readlinkSync(`${folder}/${fd}`).includes('memfd:guest-ram');
    } catch {
      return false;
    }
  };
  return fs.readdirSync(folder).filter(isMemory).length;
}

/** What is mapped as guest memory by files in memory. */
function mappedMib(pid: number): number {
  const maps = fs.readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n');
  const sizes = maps
    .filter((line) => line.includes('memfd:guest-ram'))
    .map((line) => (line.split(' ')[0] as string).split('-').map((address) => Number.parseInt(address, 16)));
  return sizes.reduce((sum, [begin = 0, end = 0]) => sum + end - begin, 0) / MIB;
}

test('memory comes as often as there are slots, while the guest runs and while it is paused', async () => {
  const vmm = await idle({ size: 128 * MIB, hotplug_size: 2048 * MIB, shared: true });
  expect((await vmm.api('PUT', 'vm.boot')).status).toBe(204);
  expect(memoryFiles(vmm.pid)).toBe(1);
  for (let step = 1; step <= 8; step++) {
    if (step === 4) expect((await vmm.api('PUT', 'vm.pause')).status).toBe(204);
    expect((await resize(vmm, 128 + 128 * step)).status).toBe(204);
    if (step === 4) expect((await vmm.api('PUT', 'vm.resume')).status).toBe(204);
  }
  expect(await sizes(vmm)).toEqual([1152, 1152]);
  expect(mappedMib(vmm.pid)).toBe(1152);
  expect(memoryFiles(vmm.pid)).toBe(9);
  for (const [mib, reason] of [
    [1153, 'multiples of 134217728'],
    [1280, 'was added 8 times'],
    [4096, 'more than'],
    [0, 'must not be 0'],
  ] as const) {
    const { status, text } = await resize(vmm, mib);
    expect(status).toBe(500);
    expect(text).toContain('The VM could not be resized');
    expect(text).toContain(reason);
  }
  expect(await sizes(vmm)).toEqual([1152, 1152]);
  expect(memoryFiles(vmm.pid)).toBe(9);

  const { json } = await vmm.api('GET', 'vm.info');
  expect((await vmm.api('PUT', 'vm.reboot')).status).toBe(204);
  expect(memoryFiles(vmm.pid)).toBe(1);
  expect((await resize(vmm, 1280)).status).toBe(204);
  expect((await vmm.api('PUT', 'vm.delete')).status).toBe(204);
  expect((await vmm.api('PUT', 'vm.create', json.config)).status).toBe(204);
  expect((await vmm.api('PUT', 'vm.boot')).status).toBe(204);
  expect(await sizes(vmm)).toEqual([1152, 1152]);
  await vmm.api('PUT', 'vmm.shutdown');
});

test('zones are files, folders and memory of a node, and say so if they cannot be', async () => {
  const folder = temporaryFolder();
  const file = path.join(folder, 'memory');
  fs.writeFileSync(file, '');
  const zones = (changes: object = {}) => ({
    size: 0,
    zones: [
      { id: 'low', size: 64 * MIB, host_numa_node: 0 },
      { id: 'filed', size: 64 * MIB, file, shared: true, ...changes },
      { id: 'nameless', size: 32 * MIB, file: folder },
    ],
  });
  const boots = async (memory: object) => {
    const vmm = await idle(memory);
    const { status, text } = await vmm.api('PUT', 'vm.boot');
    const actual = (await sizes(vmm))[1];
    const maps = fs.readFileSync(`/proc/${vmm.pid}/maps`, 'utf8');
    await vmm.api('PUT', 'vmm.shutdown');
    return { status, text, actual, maps };
  };
  expect(await boots(zones())).toMatchObject({
    status: 500,
    text: expect.stringContaining('has 0 bytes, and the guest is to have 67108864 of it'),
  });
  fs.truncateSync(file, 64 * MIB);
  const { status, actual, maps } = await boots(zones());
  expect([status, actual]).toEqual([204, 160]);
  expect(maps).toContain(` ${file}\n`);
  expect(maps).toMatch(new RegExp(`${folder}/#\\d+ \\(deleted\\)`));
  expect(fs.readdirSync(folder)).toEqual(['memory']);
  for (const [changes, reason] of [
    [{ host_numa_node: 900 }, 'the host has no NUMA node 900'],
    [{ file: path.join(folder, 'none') }, 'of the memory zone filed'],
  ] as const) {
    const { status, text } = await boots(zones(changes));
    expect(status).toBe(500);
    expect(text).toContain(reason);
  }
});

test('the library resizes in its own words', async () => {
  await using vm = await VirtualMachine.create({
    kernel: PAYLOAD,
    cmdline: 'run=idle',
    memory: { size: 128 * MIB, hotplug_size: 256 * MIB },
  });
  await vm.boot();
  await vm.resize({ memory: '256M' });
  expect(vm.info().memory_actual_size).toBe(256 * MIB);
  await expect(vm.resize({ memory: '3G' })).rejects.toMatchObject({ code: 'ERR_TSVMM_CONFIG' });
  await expect(vm.resize({ memory: 'much' })).rejects.toMatchObject({ name: 'ConfigError' });
  await expect(vm.resizeZone('none', '1G')).rejects.toThrow('The memory zone could not be resized');
});

test("memory that is populated as it comes delays no other command, and is called off by the VM's end", async () => {
  const vmm = await idle({ size: 128 * MIB, hotplug_size: 4096 * MIB, prefault: true });
  expect((await vmm.api('PUT', 'vm.boot')).status).toBe(204);
  const grown = resize(vmm, 128 + 4096);
  const settled = grown.then(() => true);
  await sleep(50);
  expect(await sizes(vmm)).toEqual([128, 128]);
  expect(await Promise.race([settled, sleep(0)])).toBeUndefined();
  expect((await vmm.api('PUT', 'vm.shutdown')).status).toBe(204);
  const { status, json } = await grown;
  expect([status, json[1]]).toEqual([500, 'The VM could not be resized']);
  expect((await vmm.api('PUT', 'vm.boot')).status).toBe(204);
  expect(await sizes(vmm)).toEqual([128, 128]);
  expect((await vmm.api('PUT', 'vmm.shutdown')).status).toBe(200);
  await vmm.exit();
});
