/** The addon called directly, with what TypeScript would never hand it: it must refuse with an Error and live on. */
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { expect, test } from 'vitest';
import { Descriptor, decode, encode } from '../../src/boundary/cbor.ts';
import type { MachineAddon } from '../../src/boundary/machineCalls.ts';
import {
  type BootSpec,
  type MachineSpec,
  type MemoryZoneSpec,
  nativeOf,
  type PciFunctionSpec,
} from '../../src/native.ts';
import { diskImage, ROOT, temporaryFolder } from './support.ts';

const addon = createRequire(import.meta.url)(path.join(ROOT, 'dist/tsvmm.node')) as MachineAddon;
const native = nativeOf(addon);

const MIB = 1 << 20;

const MEMORY: MemoryZoneSpec = {
  id: 'mem0',
  regions: [{ address: 0, size: MIB }],
  shared: false,
  hugepageSize: 0,
  prefault: false,
  mergeable: false,
  thp: true,
  reserve: false,
};

function machineSpec(
  zone: Partial<MemoryZoneSpec> = {},
  vcpu: Partial<MachineSpec['vcpus'][number]> = {},
): MachineSpec {
  return {
    memory: { zones: [{ ...MEMORY, ...zone }] },
    vcpus: [
      { id: 0, affinity: [], cpuid: native.hostInfo().supportedCpuid, msrs: new Uint8Array(0), ...vcpu },
    ],
    highestVcpuId: 0,
  };
}

function bootSpec(changes: Partial<BootSpec> = {}): BootSpec {
  return {
    entry: { rip: 0, rbx: 0, rsi: 0, rsp: 0, gdtAddress: 0, gdtLimit: 0 },
    load: [],
    ioapic: { address: 0xfec0_0000 },
    cmos: { port: 0x70, gsi: 8, memoryBelow4G: 0, memoryAbove4G: 0 },
    acpi: { sleepResetPort: 0x600, pmTimerPort: 0x608, eventsPort: 0x60c, sciGsi: 9 },
    ged: { address: 0xfe00_0000, gsi: 13 },
    pciHotplug: { address: 0xfe00_0010 },
    vmGeneration: { address: 0xef000 },
    pci: {
      ecam: 0xe800_0000,
      segments: [
        { window32: { start: 0xc000_0000, size: 0x2800_0000 }, window64: { start: 2 ** 40, size: 2 ** 39 } },
      ],
      functions: [],
    },
    ...changes,
  };
}

const pciWith = (...functions: PciFunctionSpec[]) => ({ pci: { ...bootSpec().pci, functions } });
const watchdog = {
  id: 'w',
  kind: 'watchdog',
  segment: 0,
  slot: 1,
  bar0: 0xc000_0000,
  bar0Is64Bit: false,
} as const;

/** The outcome of a boot, with the machine destroyed. */
async function tryBoot(machine: MachineSpec, boot: BootSpec): Promise<unknown> {
  const handle = native.machineCreate(machine, () => {});
  try {
    await native.machineBoot(handle, boot);
    return undefined;
  } catch (error) {
    return error;
  } finally {
    await native.machineDestroy(handle);
  }
}

test.each([
  ['half a page', { regions: [{ address: 0, size: 4095 }] }, 'EINVAL'],
  ['more memory than there is room for', { regions: [{ address: 0, size: 2 ** 52 }] }, 'ENOMEM'],
  ['an odd address', { regions: [{ address: 1, size: MIB }] }, 'EINVAL'],
  [
    'overlapping memory',
    {
      regions: [
        { address: 0, size: MIB },
        { address: 4096, size: 4096 },
      ],
    },
    'EINVAL',
  ],
  ['no such huge pages', { regions: [{ address: 0, size: 2 ** 40 }], hugepageSize: 2 ** 40 }, 'ENODEV'],
  ['memory to hand out in the place of RAM', { hotplug: { address: 4096, size: 4096 } }, 'EINVAL'],
])('%s fails the boot', async (_name, memory, code) => {
  expect(await tryBoot(machineSpec(memory), bootSpec())).toMatchObject({ code });
});

test.each([
  ['an APIC id that KVM has not', { id: 0xffff_ffff }, 'EINVAL'],
  ['a host CPU that nobody has', { affinity: [5000] }, 'EINVAL'],
  ['an MSR that there is not', { msrs: new Uint8Array(16).fill(255) }, 'ERR_TSVMM_MSR'],
])('%s fails the boot', async (_name, vcpu, code) => {
  expect(await tryBoot(machineSpec({}, vcpu), bootSpec())).toMatchObject({ code });
});

test.each<[string, Partial<BootSpec>, string]>([
  ['a load outside RAM', { load: [{ address: 2 ** 50, bytes: new Uint8Array(4) }] }, 'ERR_TSVMM_LOAD'],
  ['an interrupt pin too many', { ged: { address: 0xfe00_0000, gsi: 99 } }, 'EINVAL'],
  [
    'one port for two',
    { serial: { id: '__serial', port: 0x70, gsi: 4, backend: { kind: 'null' } } },
    'EINVAL',
  ],
  ['the bridge’s slot', pciWith({ ...watchdog, slot: 0 }), 'EINVAL'],
  ['a slot too many', pciWith({ ...watchdog, slot: 40 }), 'EINVAL'],
  ['a BAR in RAM', pciWith({ ...watchdog, bar0: 0x1000 }), 'EINVAL'],
  ['a crooked BAR', pciWith({ ...watchdog, bar0: 0xc000_0001 }), 'EINVAL'],
])('%s fails the boot', async (_name, changes, code) => {
  expect(await tryBoot(machineSpec(), bootSpec(changes))).toMatchObject({ code });
});

test('a VM that was made ahead serves one machine, and the next makes its own', async () => {
  native.precreateVm(true);
  native.precreateVm(false);
  const first = native.machineCreate(machineSpec(), () => {});
  const second = native.machineCreate(machineSpec(), () => {});
  native.precreateVm(false);
  const third = native.machineCreate(machineSpec(), () => {});
  for (const machine of [first, second, third]) await native.machineBoot(machine, bootSpec());
  for (const machine of [first, second, third]) await native.machineDestroy(machine);
});

test('a queue size out of range fails the boot', async () => {
  const fd = fs.openSync(diskImage(temporaryFolder(), 'disk'), 'r+');
  const block: PciFunctionSpec = {
    ...{ id: 'd', segment: 0, slot: 1, bar0: 0xc000_0000, bar0Is64Bit: false },
    kind: 'block',
    layers: [{ fd: new Descriptor(fd), format: 'raw' }],
    ...{
      readonly: false,
      direct: false,
      sparse: true,
      disableIoUring: false,
      disableAio: false,
      queueCpus: [],
      numQueues: 65_535,
      queueSize: 3,
      serial: '',
      protectSector0: false,
    },
  };
  expect(await tryBoot(machineSpec(), bootSpec(pciWith(block)))).toMatchObject({ code: 'EINVAL' });
  fs.closeSync(fd);
});

test('values of any type are refused with an Error', () => {
  const values = [undefined, null, -1, 1.5, Number.NaN, 2 ** 60, 'x', {}, [], true, 10n, new Uint8Array(3)];
  // What has an effect for numbers that happen to be descriptors of this process is left out.
  const left = new Set([
    'closeFile',
    'precreateVm',
    'hostInfo',
    'openPty',
    'openFile',
    'claimSocket',
    'listenUnix',
  ]);
  for (const [name, call] of Object.entries(
    addon as unknown as Record<string, (...args: unknown[]) => unknown>,
  )) {
    if (left.has(name)) continue;
    for (const first of values) {
      for (const second of values) {
        try {
          call(first, second, first, second);
        } catch (error) {
          expect(error, name).toBeInstanceOf(Error);
        }
      }
    }
  }
});

const refusedBytes = (hex: string) => [new Uint8Array(Buffer.from(hex, 'hex')), []] as const;

test.each([
  ['no bytes', ...refusedBytes(''), 'it ends too early'],
  ['half a message', ...refusedBytes('a1'), 'it ends too early'],
  ['a float', ...refusedBytes('fa47c35000'), 'no floats'],
  ['no map', ...refusedBytes('80'), 'the message must be an object'],
  ['no memory', ...refusedBytes('a0'), 'memory must be an object'],
])('a machine of %s is refused with an Error', (_name, bytes, descriptors, message) => {
  expect(() => addon.machineCreate(bytes, descriptors, () => {})).toThrow(message);
});

test.each([
  ['vcpus[0].cpuid must be bytes', { cpuid: 'AMD' }],
  ['vcpus[0].msrs must be bytes', { msrs: undefined }],
  ['vcpus[0].id must be a whole number from 0 to 4294967295', { id: -1 }],
])('%s, or the machine is refused', (message, vcpu) => {
  const { bytes, descriptors } = encode({
    ...machineSpec(),
    vcpus: [{ ...machineSpec().vcpus[0], ...vcpu }],
  });
  expect(() => addon.machineCreate(bytes, descriptors, () => {})).toThrow(message);
});

type Path = readonly (string | number)[];

/** The same with another value at a place. */
function changed(value: unknown, [name, ...rest]: Path, to: unknown): unknown {
  if (name === undefined) return to;
  const copy = Array.isArray(value) ? [...value] : { ...(value as object) };
  const fields = copy as Record<string | number, unknown>;
  fields[name] = changed(fields[name], rest, to);
  return copy;
}

test.each<[string, Path, unknown]>([
  ['spec.cmos.port must be a whole number from 0 to 65535', ['cmos', 'port'], 65_536],
  ['spec.entry.gdtLimit must be a whole number from 0 to 65535', ['entry', 'gdtLimit'], -1],
  ['spec.load must be an array', ['load'], 'all'],
  ['spec.load[0].address must be a whole number from 0 to 9007199254740991', ['load'], [{}]],
  ['spec.acpi.wish is not known', ['acpi', 'wish'], 1],
  [
    'spec.pci.functions[0].slot must be a whole number from 0 to 4294967295',
    ['pci', 'functions', 0, 'slot'],
    true,
  ],
  ['spec.pci.functions[0].id must be a text', ['pci', 'functions', 0, 'id'], 7],
  [
    'spec.pci.functions[0].kind must be one of block, net, rng, console, watchdog, balloon, vsock, pmem, rtc, mem, iommu',
    ['pci', 'functions', 0, 'kind'],
    'toaster',
  ],
  [
    'spec.pci.functions[0].fd must be a descriptor that is named nowhere else',
    ['pci', 'functions', 0, 'kind'],
    'rng',
  ],
  ['spec.pci.functions[0].bar3 is not known', ['pci', 'functions', 0, 'bar3'], 0],
])('what is wrong with a boot is named: %s', async (message, where, value) => {
  const boot = changed(bootSpec(pciWith(watchdog)), where, value) as BootSpec;
  expect(await tryBoot(machineSpec(), boot)).toMatchObject({ code: 'ERR_TSVMM_MESSAGE', message });
});

test('commands and questions that there are not are answered', async () => {
  const handle = native.machineCreate(machineSpec(), () => {});
  const answer = async (command: unknown) =>
    decode(await addon.machineCall(handle, encode(command).bytes, [])) as { error: object };
  const error = { code: 'ERR_TSVMM_MESSAGE' };
  expect(await answer({ command: 'dance' })).toMatchObject({ error });
  expect(await answer({})).toMatchObject({ error });
  expect(await answer({ command: 'nmi', twice: true })).toMatchObject({ error });
  expect(decode(addon.machineAsk(handle, encode('why').bytes))).toMatchObject({ error });
  expect(decode(addon.machineAsk(handle, Uint8Array.of(0xff)))).toMatchObject({ error });
  await native.machineDestroy(handle);
});

test('answers are kept in the core until others are, as they were when they were taken', async () => {
  const handle = native.machineCreate(machineSpec(), () => {});
  await native.machineBoot(handle, bootSpec(pciWith(watchdog)));
  const { counters, vcpus } = native.machineFigures(handle);
  expect(counters).toEqual(native.machineCounters(handle));
  expect(vcpus.map(({ thread }) => thread)).toEqual(
    native.machineVcpuStatistics(handle).map(({ thread }) => thread),
  );
  addon.machineKeep(handle, [encode('why').bytes]);
  expect(decode(addon.machineKept(handle, 0))).toMatchObject({ error: { code: 'ERR_TSVMM_MESSAGE' } });
  expect(() => addon.machineKept(handle, 1)).toThrow('no answer 1 is kept');
  expect(() => addon.machineKeep(handle, encode('why').bytes as never)).toThrow(TypeError);
  expect(() => addon.machineKeep(handle, ['why'] as never)).toThrow(TypeError);
  const taken = native.machineFigures(handle);
  await native.machineDestroy(handle);
  expect(taken.counters).toEqual(counters);
});

test('operations of devices are theirs', async () => {
  const handle = native.machineCreate(machineSpec(), () => {});
  const balloon = { size: 0, deflateOnOom: false, freePageReporting: false } as const;
  await native.machineBoot(handle, bootSpec(pciWith({ ...watchdog, kind: 'balloon', id: 'b', ...balloon })));
  const operate = (device: string, operation: string, operands: object) =>
    native.machineOperate(handle, device, operation, operands);
  await operate('b', 'resize', { size: 4096 });
  expect(native.machineStatus(handle)).toEqual({ b: { ballooned: 0 } });
  await expect(operate('b', 'resize', { size: 'x' })).rejects.toMatchObject({ code: 'ERR_TSVMM_MESSAGE' });
  await expect(operate('b', 'resize', { size: 1, more: 2 })).rejects.toThrow('arguments.more is not known');
  await expect(operate('b', 'dance', {})).rejects.toMatchObject({ code: 'ENOTSUP' });
  await expect(operate('c', 'resize', {})).rejects.toMatchObject({ code: 'ERR_TSVMM_NO_DEVICE' });
  await native.machineDestroy(handle);
});

test('operations after the end are answered, and destroying twice is nothing', async () => {
  const handle = native.machineCreate(machineSpec(), () => {});
  await native.machineDestroy(handle);
  await native.machineDestroy(handle);
  await expect(native.machineBoot(handle, bootSpec())).rejects.toMatchObject({
    code: 'ERR_TSVMM_NO_MACHINE',
  });
  await expect(native.machinePause(handle)).rejects.toMatchObject({ code: 'ERR_TSVMM_NO_MACHINE' });
  await expect(native.machinePowerButton(handle)).rejects.toThrow(/does not run/);
});

test('operations that cross each other are all answered, and nothing stays open', async () => {
  const before = fs.readdirSync('/proc/self/fd').length;
  const answers: Promise<unknown>[] = [];
  for (let i = 0; i < 100; i++) {
    const handle = native.machineCreate(machineSpec(), () => {});
    const quietly = (answer: Promise<void>) => answers.push(answer.catch(() => {}));
    quietly(native.machineBoot(handle, bootSpec()));
    if (i % 3 === 0) quietly(native.machinePause(handle));
    quietly(native.machineDestroy(handle));
    if (i % 2 === 0) quietly(native.machineResume(handle));
    if (i % 10 === 0) await Promise.all(answers);
  }
  await Promise.all(answers);
  expect(fs.readdirSync('/proc/self/fd').length).toBeLessThan(before + 20);
});
