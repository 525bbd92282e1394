/**
 * Memory devices of domains: a DIMM is memory that ACPI adds to the machine for good, and part of `<memory>` from then
 * on; a virtio-mem device is there from a start on, and what it gives the guest changes.
 */
import type { VmConfigInput } from '../../config/vmConfig.ts';
import type { SupervisedVm } from '../../supervisor/supervisedVm.ts';
import type { Domains } from './domains.ts';
import { deviceMissing, invalidOperation, unsupportedConfiguration, unsupportedOperation } from './errors.ts';
import { bootMemory, kibOf } from './figures.ts';
import type { Impact } from './impact.ts';
import {
  bytesOf,
  deviceOf,
  growthOf,
  type MemoryDevice,
  readMemoryDevice,
  withDevice,
  withoutDevice,
} from './memorySizes.ts';
import type { Element } from './xml.ts';

type Change = (config: VmConfigInput) => VmConfigInput;

/** The last of the attachments to each domain that have begun. */
const attachments = new WeakMap<SupervisedVm, Promise<void>>();

/**
 * In its turn: another client's attachment, between the look at a size and its change, would be lost.
 * @throws LibvirtError with nothing changed, unless a machine has the memory and its definition cannot
 */
export function attachMemory(
  domains: Domains,
  vm: SupervisedVm,
  element: Element,
  impact: Impact,
): Promise<void> {
  const before = attachments.get(vm) ?? Promise.resolve();
  const attached = before.then(() => attachNow(domains, vm, element, impact));
  attachments.set(
    vm,
    attached.catch(() => {}),
  );
  return attached;
}

async function attachNow(
  domains: Domains,
  vm: SupervisedVm,
  element: Element,
  impact: Impact,
): Promise<void> {
  const device = readMemoryDevice(element);
  if (device.model === 'virtio-mem') {
    if (impact.live) {
      throw unsupportedOperation('a virtio-mem device cannot be attached to a machine that runs: --config');
    }
    return define(domains, vm, (config) => withVirtioMem(config, device));
  }
  await carryOut(domains, vm, impact, (config) => withDimm(config, device.size), device.size);
}

/**
 * Has the machine resized before its definition says so; what cannot be is refused before either.
 * @param beside bytes that the machine has then beside its boot memory
 */
async function carryOut(
  domains: Domains,
  vm: SupervisedVm,
  { live, config: persistent }: Impact,
  change: Change,
  beside: bigint,
): Promise<void> {
  if (persistent) change(vm.definition.config);
  if (live) {
    const now = await domains.refresh(vm);
    change(now);
    await domains.call(vm, 'PUT', 'vm.resize', { desired_ram: bytesOf(bootMemory(now) + beside) });
    await domains.refresh(vm);
  }
  if (persistent) define(domains, vm, change);
}

/** @throws LibvirtError */
export function detachMemory(domains: Domains, vm: SupervisedVm, element: Element, impact: Impact): void {
  const { model } = readMemoryDevice(element);
  if (model === 'dimm') throw deviceMissing('memory that was attached as a DIMM is part of <memory>');
  detachVirtioMem(domains, vm, impact);
}

export function detachVirtioMem(domains: Domains, vm: SupervisedVm, impact: Impact): void {
  if (impact.live) throw unsupportedOperation('the virtio-mem device stays while the machine runs: --config');
  define(domains, vm, (config) => {
    present(config);
    return { ...config, memory: withoutDevice(sizedMemory(config)) };
  });
}

/** How much of it the guest is to have. @throws LibvirtError */
export async function updateMemory(
  domains: Domains,
  vm: SupervisedVm,
  element: Element,
  impact: Impact,
): Promise<void> {
  const device = readMemoryDevice(element);
  if (device.model === 'dimm') throw unsupportedOperation('nothing of a DIMM can be updated');
  const requesting: Change = (config) => {
    if (present(config).size !== device.size) {
      throw unsupportedOperation(
        'the size of a memory device cannot be updated, only what is requested of it',
      );
    }
    return { ...config, memory: withDevice(sizedMemory(config), device) };
  };
  await carryOut(domains, vm, impact, requesting, device.requested);
}

function sizedMemory({ memory }: VmConfigInput) {
  return { ...memory, size: memory?.size ?? 0 };
}

function define(domains: Domains, vm: SupervisedVm, change: Change): void {
  domains.reconfigure(vm, change(vm.definition.config));
}

/** @throws LibvirtError if there is none */
function present(config: VmConfigInput): MemoryDevice {
  const device = deviceOf(config);
  if (device === undefined) throw deviceMissing('no virtio-mem device in domain');
  return device;
}

/** @throws LibvirtError if ACPI adds none to such a machine */
function checkGrows(config: VmConfigInput): void {
  if (growthOf(config) > 0n) return;
  throw unsupportedConfiguration(
    "cannot use/hotplug a memory device when domain 'maxMemory' is not above 'memory'",
  );
}

/**
 * What there is at a start then comes with it, and less can come.
 * @throws LibvirtError if that is more than can come
 */
function withDimm(config: VmConfigInput, size: bigint): VmConfigInput {
  checkGrows(config);
  const left = growthOf(config) - size;
  if (left < 0n) {
    throw invalidOperation(
      `Attaching memory device with size '${kibOf(size)}' would exceed domain's maxMemory config size`,
    );
  }
  const { hotplug_size: _, ...memory } = config.memory ?? {};
  const total = bytesOf(bootMemory(config) + size);
  return { ...config, memory: { ...memory, size: total, ...(left > 0n && { hotplug_size: bytesOf(left) }) } };
}

function withVirtioMem(config: VmConfigInput, device: MemoryDevice): VmConfigInput {
  if (deviceOf(config)) throw unsupportedConfiguration('more than one memory device');
  if (config.memory?.zones?.length) throw unsupportedConfiguration('a memory device beside memory zones');
  const memory = { ...config.memory, size: bytesOf(bootMemory(config)) };
  return { ...config, memory: withDevice(memory, device) };
}
