import { expect, test } from 'vitest';
import { sizesOf } from '../../../src/cli/vms/runningSizes.ts';
import type { VmDescription } from '../../../src/supervisor/vmState.ts';

const MIB = 1 << 20;

function vm(name: string, config: VmDescription['config'], pid: number | undefined = 1): VmDescription {
  return { name, config, ...(pid !== undefined && { pid }) } as VmDescription;
}

/** Answers of processes by the path that is asked. */
function client(answers: Readonly<Record<string, object>>) {
  const asked: string[] = [];
  const call = async (method: string, path: string): Promise<never> => {
    asked.push(`${method} ${path}`);
    const answer = answers[path];
    if (answer === undefined) throw new Error('no answer');
    return answer as never;
  };
  return { asked, call };
}

test('a VM that may have been resized is asked, and no other', async () => {
  const grown = { config: { cpus: { boot_vcpus: 3 } }, memory_actual_size: 256 * MIB };
  const paths = ['cpus', 'memory', 'zone', 'balloon'].map((name) => `/v1/vms/${name}/api/api/v1/vm.info`);
  const { asked, call } = client(Object.fromEntries(paths.map((path) => [path, grown])));
  const fixed = { cpus: { boot_vcpus: 2, max_vcpus: 2 }, memory: { size: 128 * MIB } };
  const cpus = { cpus: { boot_vcpus: 1, max_vcpus: 4 } };
  const sizes = await sizesOf({ call }, [
    vm('fixed', fixed),
    vm('cpus', cpus),
    vm('memory', { memory: { size: 128 * MIB, hotplug_size: 1024 * MIB } }),
    vm('zone', { memory: { size: 0, zones: [{ id: 'a', size: 128 * MIB, hotplug_size: MIB }] } }),
    vm('balloon', { balloon: { size: 64 * MIB } }),
    { ...vm('stopped', cpus), pid: undefined } as unknown as VmDescription,
  ]);
  const now = { vcpus: 3, memory: 256 * MIB };
  expect(sizes).toEqual([
    { vcpus: 2, memory: 128 * MIB },
    now,
    now,
    now,
    now,
    { vcpus: 1, memory: 512 * MIB },
  ]);
  expect(asked).toEqual(paths.map((path) => `GET ${path}`));
});

test('one that does not answer is shown as it was defined, zones together', async () => {
  const zones = [
    { id: 'a', size: 128 * MIB, hotplug_size: MIB },
    { id: 'b', size: 64 * MIB },
  ];
  const hung = vm('hung', { cpus: { boot_vcpus: 1, max_vcpus: 4 }, memory: { size: 0, zones } });
  const [sizes] = await sizesOf(client({}), [hung]);
  expect({ ...sizes, memory: Number(sizes?.memory) }).toEqual({ vcpus: 1, memory: 192 * MIB });
});
