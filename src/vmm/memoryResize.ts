/**
 * The memory of a machine. It grows by slots of its ACPI controller and never shrinks: a smaller size, and one between
 * what the configuration says and what the machine has, is the next machine's. Or its guest gets it from a virtio-mem
 * device.
 */
import { HOTPLUG_ALIGNMENT, memorySize, setBootSize } from '../config/memory.ts';
import type { Uint64 } from '../config/uint64.ts';
import { validateVmConfig } from '../config/validate.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import type { NativeAddon } from '../native.ts';
import { MEMORY_SLOTS } from '../platform/acpi/memoryHotplug.ts';
import { planMachine } from '../platform/plan.ts';
import { deviceCalls } from './deviceOperations.ts';
import { refusal } from './errors.ts';
import { hostInfo, type Machine } from './machine.ts';
import { resizePlain } from './virtioMem.ts';

/** The VM whose memory it is. */
export interface MemoryVm {
  readonly native: NativeAddon;
  readonly config: () => VmConfig;
  /** Runs what keeps the machine from answering. */
  readonly busy: <T>(work: (machine: Machine) => Promise<T>) => Promise<T>;
}

/** @throws VmmError with nothing added */
export async function resizeMemory(vm: MemoryVm, bytes: Uint64): Promise<void> {
  const config = vm.config();
  const { memory } = config;
  if (memory.hotplug_method === 'VirtioMem' && !memory.zones?.length) {
    return vm.busy((machine) => resizePlain(deviceCalls(vm.native, machine), config, bytes));
  }
  if (bytes === memorySize(memory)) return;
  checkPlain(memory);
  checkNext(vm, bytes);
  await vm.busy(async ({ handle, memory: has }) => {
    const more = Number(bytes) - has.size;
    if (more <= 0) return;
    checkAddition(config, has, more);
    await vm.native.machineAddMemory(handle, more);
    has.size += more;
    has.added += more;
    has.additions++;
  });
  memory.size = bytes;
}

/**
 * Of a configuration that no machine has. Whether the size makes sense shows when the VM boots.
 * @throws VmmError if it is no size to change
 */
export function resizeBootMemory({ memory }: VmConfig, bytes: Uint64): void {
  if (memory.zones?.length && bytes === memorySize(memory)) return;
  checkPlain(memory);
  setBootSize(memory, bytes);
}

/** @throws VmmError */
function checkPlain({ zones }: VmConfig['memory']): void {
  if (zones?.length) {
    throw refusal('The memory is made of zones, which are resized one by one (vm.resize-zone)');
  }
}

/** Whether the next machine can have so much: a guest's reset must not end its VM. @throws VmmError */
function checkNext({ native, config }: MemoryVm, bytes: Uint64): void {
  const next = { ...config(), memory: { ...config().memory, size: bytes } };
  try {
    validateVmConfig(next);
    planMachine(next, hostInfo(native));
  } catch (error) {
    throw refusal((error as Error).message);
  }
}

/** @throws VmmError */
function checkAddition(
  { memory: { hotplug_size: limit } }: VmConfig,
  { added, additions }: Machine['memory'],
  more: number,
): void {
  if (limit === undefined) throw refusal('The VM was made without hotplug_size: its memory cannot grow');
  if (more % HOTPLUG_ALIGNMENT !== 0) {
    throw refusal(`Memory is added in multiples of ${HOTPLUG_ALIGNMENT} bytes, and these are ${more}`);
  }
  if (more > Number(limit) - added) {
    throw refusal(`${more} bytes are more than the ${Number(limit) - added} that are left of hotplug_size`);
  }
  if (additions === MEMORY_SLOTS)
    throw refusal(`Memory was added ${MEMORY_SLOTS} times, as often as there are slots for it`);
}
