import { expect, test } from 'vitest';
import { LiveConfigs } from '../../../../src/api/libvirt/liveConfigs.ts';
import type { VmConfigInput } from '../../../../src/config/vmConfig.ts';
import { EventHistory } from '../../../../src/supervisor/eventHistory.ts';
import type { SupervisedVm } from '../../../../src/supervisor/supervisedVm.ts';

const MIB = 1 << 20;

function oneVm() {
  const started: VmConfigInput = { cpus: { boot_vcpus: 1, max_vcpus: 4 }, memory: { size: 128 * MIB } };
  let now = started;
  const vm = { definition: { name: 'one', config: started }, startedWith: started, runId: 1 };
  const events = new EventHistory();
  const told: bigint[] = [];
  const live = new LiveConfigs({
    events,
    find: () => vm as unknown as SupervisedVm,
    ask: async () => now,
    resized: (_, memory) => told.push(memory),
  });
  const resized = async (config: VmConfigInput) => {
    now = { ...now, ...config };
    events.add('one', { source: 'vm', event: 'resized' });
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { live, vm: vm as unknown as SupervisedVm, resized, told };
}

test('another number of vCPUs is no other size of the memory', async () => {
  const { live, vm, resized, told } = oneVm();
  await resized({ cpus: { boot_vcpus: 3, max_vcpus: 4 } });
  expect(told).toEqual([]);
  expect(live.of(vm)?.cpus?.boot_vcpus).toBe(3);
  await resized({ memory: { size: 256 * MIB } });
  await resized({ cpus: { boot_vcpus: 1, max_vcpus: 4 } });
  expect(told).toEqual([256n * 1024n]);
  // Told though a client has asked in between.
  const asking = resized({ memory: { size: 128 * MIB } });
  await live.refresh(vm);
  await asking;
  expect(told).toEqual([256n * 1024n, 128n * 1024n]);
});

const config = (size: number) => ({ memory: { size } }) as VmConfigInput;

test('those that run already are asked, whoever of them does not answer', async () => {
  const vms = Array.from({ length: 20 }, (_, at) => {
    const vm = { definition: { name: `vm${at}`, config: config(1) }, runId: at, alive: at !== 3 };
    return vm as unknown as SupervisedVm;
  });
  let asked = 0;
  const configs = new LiveConfigs({
    events: new EventHistory(),
    find: () => undefined,
    ask: async (vm) => {
      asked++;
      if (vm.runId === 5) throw new Error('no answer');
      return config(2);
    },
    resized: () => {},
  });
  await configs.refreshAll(vms);
  expect(asked).toBe(19);
  expect(vms.filter((vm) => configs.of(vm) === undefined).map(({ runId }) => runId)).toEqual([3, 5]);
});

test('an answer that comes after that to a later question changes nothing', async () => {
  const vm = { definition: { name: 'one', config: config(1) }, runId: 7 } as unknown as SupervisedVm;
  const answers: ((answer: VmConfigInput) => void)[] = [];
  const configs = new LiveConfigs({
    events: new EventHistory(),
    find: () => vm,
    ask: () => new Promise((resolve) => answers.push(resolve)),
    resized: () => {},
  });
  const asked = [configs.refresh(vm), configs.refresh(vm)];
  expect(configs.of(vm)).toBeUndefined();
  answers[1]?.(config(3));
  await asked[1];
  expect(configs.of(vm)).toEqual(config(3));
  answers[0]?.(config(2));
  expect(await asked[0]).toEqual(config(2));
  expect(configs.of(vm)).toEqual(config(3));
});
