/** The addon called directly, with what TypeScript would never hand it: it must refuse with an Error and live on. */
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { expect, test } from 'vitest';
import type { BootSpec, MachineSpec, NativeAddon, PciFunctionSpec } from '../../src/native.ts';
import { diskImage, ROOT, temporaryFolder } from './support.ts';

const native = createRequire(import.meta.url)(path.join(ROOT, 'dist/tsvmm.node')) as NativeAddon;

const MIB = 1 << 20;

function machineSpec(
  memory: Partial<MachineSpec['memory']> = {},
  vcpus: MachineSpec['vcpus'] = [{ apicId: 0, affinity: [] }],
): MachineSpec {
  return {
    memory: {
      regions: [{ address: 0, size: MIB }],
      shared: false,
      hugepageSize: 0,
      prefault: false,
      mergeable: false,
      thp: true,
      reserve: false,
      ...memory,
    },
    vcpus,
  };
}

function bootSpec(changes: Partial<BootSpec> = {}): BootSpec {
  return {
    cpuid: [native.supportedCpuid()],
    msrs: new Uint8Array(0),
    entry: { rip: 0, rbx: 0, rsi: 0, rsp: 0, gdtAddress: 0, gdtLimit: 0 },
    load: [],
    ioapic: { address: 0xfec0_0000 },
    cmos: { port: 0x70, gsi: 8, memoryBelow4G: 0, memoryAbove4G: 0 },
    acpi: { sleepResetPort: 0x600, pmTimerPort: 0x608, eventsPort: 0x60c, sciGsi: 9 },
    ged: { address: 0xfe00_0000, gsi: 13 },
    vmGeneration: { address: 0xef000 },
    pci: {
      ecam: 0xe800_0000,
      window32: { start: 0xc000_0000, size: 0x2800_0000 },
      window64: { start: 2 ** 40, size: 2 ** 39 },
      functions: [],
    },
    ...changes,
  };
}

const pciWith = (...functions: PciFunctionSpec[]) => ({ pci: { ...bootSpec().pci, functions } });
const watchdog = { id: 'w', kind: 'watchdog', slot: 1, bar0: 0xc000_0000, bar0Is64Bit: false } as const;

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
  ['memory that KVM refuses', { regions: [{ address: 0, size: 4095 }] }, 'EINVAL'],
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
    'EEXIST',
  ],
  ['no such huge pages', { hugepageSize: 2 ** 40 }, 'ENODEV'],
])('%s fails the boot', async (_name, memory, code) => {
  expect(await tryBoot(machineSpec(memory), bootSpec())).toMatchObject({ code });
});

test.each([
  ['an APIC id that KVM has not', [{ apicId: 0xffff_ffff, affinity: [] }], 'EINVAL'],
  ['a host CPU that nobody has', [{ apicId: 0, affinity: [5000] }], 'EINVAL'],
])('%s fails the boot', async (_name, vcpus, code) => {
  expect(await tryBoot(machineSpec({}, vcpus), bootSpec())).toMatchObject({ code });
});

test.each<[string, Partial<BootSpec>, string]>([
  ['an MSR that there is not', { msrs: new Uint8Array(16).fill(255) }, 'ERR_TSVMM_MSR'],
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
  native.expectMachine();
  native.expectMachine();
  const first = native.machineCreate(machineSpec(), () => {});
  const second = native.machineCreate(machineSpec(), () => {});
  await native.machineBoot(first, bootSpec());
  await native.machineBoot(second, bootSpec());
  await native.machineDestroy(first);
  await native.machineDestroy(second);
});

test('a queue size out of range fails the boot', async () => {
  const fd = fs.openSync(diskImage(temporaryFolder(), 'disk'), 'r+');
  const block: PciFunctionSpec = {
    ...{ id: 'd', slot: 1, bar0: 0xc000_0000, bar0Is64Bit: false },
    kind: 'block',
    layers: [{ fd, format: 'raw' }],
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
    'expectMachine',
    'hostInfo',
    'supportedCpuid',
    'openPty',
    'openFile',
    'claimSocket',
    'listenUnix',
  ]);
  for (const [name, call] of Object.entries(
    native as unknown as Record<string, (...args: unknown[]) => unknown>,
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

test('operations after the end are answered, and destroying twice is nothing', async () => {
  const handle = native.machineCreate(machineSpec(), () => {});
  await native.machineDestroy(handle);
  await native.machineDestroy(handle);
  await expect(native.machineBoot(handle, bootSpec())).rejects.toMatchObject({
    code: 'ERR_TSVMM_NO_MACHINE',
  });
  await expect(native.machinePause(handle)).rejects.toMatchObject({ code: 'ERR_TSVMM_NO_MACHINE' });
  expect(() => native.machinePowerButton(handle)).toThrow(/does not run/);
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
