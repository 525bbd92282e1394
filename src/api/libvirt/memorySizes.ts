/**
 * Sizes of a domain's memory: what libvirt counts (docs/libvirt.md) of what a machine's configuration has. A
 * domain has, of what may come while it runs, either a `<maxMemory>`, as far as memory comes by ACPI, or one virtio-mem
 * device.
 */
import { HOTPLUG_ALIGNMENT, hotplugBlock } from '../../config/memory.ts';
import { type Uint64, uint64 } from '../../config/uint64.ts';
import type { VmConfigInput } from '../../config/vmConfig.ts';
import { MEMORY_SLOTS } from '../../platform/acpi/memoryHotplug.ts';
import { unsupportedConfiguration } from './errors.ts';
import { child, type Element } from './xml.ts';
import { wholeNumber, xmlError } from './xmlValues.ts';

type Memory = NonNullable<VmConfigInput['memory']>;

const PREFIXES = 'kmgtpe';

/** A `<memory>` below `<devices>`, or by itself. In bytes. */
export interface MemoryDevice {
  readonly model: 'dimm' | 'virtio-mem';
  readonly size: bigint;
  /** How much of a virtio-mem device the guest is to have. */
  readonly requested: bigint;
}

/** Bytes of an element, undefined if there is none. @throws LibvirtError */
export function sizeOf(size: Element | undefined): bigint | undefined {
  if (size === undefined) return undefined;
  const { unit = 'KiB' } = size.attributes;
  const bytes = bytesOfUnit(unit);
  if (bytes === undefined) throw xmlError(`unknown unit '${unit}' of <${size.name}>`);
  return BigInt(wholeNumber(size.text, size.name)) * bytes;
}

/** In upper or lower case, as libvirt reads it: `b`, `bytes`, `KB` for 1,000, `K` and `KiB` for 1,024, up to `EiB`. */
function bytesOfUnit(unit: string): bigint | undefined {
  if (/^b(yte|ytes)?$/i.test(unit)) return 1n;
  const [, prefix, kind = 'ib'] = /^([kmgtpe])(i?b)?$/i.exec(unit) ?? [];
  if (prefix === undefined) return undefined;
  const power = BigInt(PREFIXES.indexOf(prefix.toLowerCase()) + 1);
  return (kind.toLowerCase() === 'b' ? 1000n : 1024n) ** power;
}

export function bytesOf(size: bigint): Uint64 {
  const bytes = uint64(size);
  if (bytes === undefined) throw xmlError(`${size} bytes of memory are more than 64 bits hold`);
  return bytes;
}

/** @throws LibvirtError naming what a machine of ours cannot have */
export function readMemoryDevice(device: Element): MemoryDevice {
  const { model = '', access } = device.attributes;
  if (model !== 'dimm' && model !== 'virtio-mem') {
    throw unsupportedConfiguration(`a memory device of model '${model}': 'dimm' and 'virtio-mem' are there`);
  }
  if (access !== undefined)
    throw unsupportedConfiguration('access of a memory device: <memoryBacking> has it');
  if (child(device, 'source')) throw unsupportedConfiguration('the <source> of a memory device');
  const target = child(device, 'target');
  const size = sizeOf(child(target, 'size'));
  if (!size) throw xmlError('missing or empty <size> in the <target> of a memory device');
  const node = child(target, 'node')?.text ?? '0';
  if (node !== '0') throw unsupportedConfiguration(`a memory device in NUMA node ${node}, only 0 is there`);
  if (model === 'dimm') return { model, size, requested: size };
  const block = BigInt(hotplugBlock({}));
  const given = sizeOf(child(target, 'block')) ?? block;
  if (given !== block) throw unsupportedConfiguration(`a <block> of ${given} bytes, only ${block} are there`);
  const requested = sizeOf(child(target, 'requested')) ?? 0n;
  if (requested > size) throw xmlError('requested size must be smaller than @size');
  if (requested % block !== 0n) throw xmlError('requested size must be an integer multiple of block size');
  if (size % BigInt(HOTPLUG_ALIGNMENT) !== 0n) {
    throw unsupportedConfiguration(`a memory device whose size is no multiple of ${HOTPLUG_ALIGNMENT} bytes`);
  }
  return { model, size, requested };
}

/**
 * Of `<memory>`, `<maxMemory>` and the devices of a domain, as far as it may grow.
 * @param total what `<memory>` says, which counts its devices
 */
export function readMemorySizes(
  total: bigint,
  maximum: Element | undefined,
  devices: readonly Element[],
): Pick<Memory, 'size' | 'hotplug_method' | 'hotplug_size' | 'hotplugged_size'> {
  const max = sizeOf(maximum) ?? total;
  if (max < total) throw xmlError('maximum memory size must be equal or greater than the actual memory size');
  const [device, other] = devices.map(readMemoryDevice);
  if (device === undefined) {
    if (maximum && max > total) checkSlots(maximum);
    return { size: bytesOf(total), ...(max > total && { hotplug_size: bytesOf(max - total) }) };
  }
  if (device.model === 'dimm') {
    throw unsupportedConfiguration(
      "a memory device of model 'dimm' of a domain that starts: it is in <memory>",
    );
  }
  if (other) throw unsupportedConfiguration('more than one memory device');
  if (device.size >= total) throw xmlError('<memory> counts its memory devices, and is no larger than these');
  return withDevice({ size: bytesOf(total - device.size) }, device);
}

/** How often memory may come: more would be promised than can be kept. */
function checkSlots(maximum: Element): void {
  const slots = wholeNumber(maximum.attributes.slots ?? '', 'maxMemory slots');
  if (slots >= 1 && slots <= MEMORY_SLOTS) return;
  throw unsupportedConfiguration(`${slots} slots of <maxMemory>: there are 1 to ${MEMORY_SLOTS}`);
}

/** What could come by ACPI comes by the device instead. */
export function withDevice<M extends Memory>(memory: M, { size, requested }: MemoryDevice): M {
  const { hotplugged_size: _, ...rest } = memory;
  return {
    ...rest,
    hotplug_method: 'VirtioMem',
    hotplug_size: bytesOf(size),
    ...(requested > 0n && { hotplugged_size: bytesOf(requested) }),
  } as M;
}

export function withoutDevice(memory: Memory): Memory {
  const { hotplug_method: _, hotplug_size: _size, hotplugged_size: _added, ...rest } = memory;
  return rest;
}

/** The virtio-mem device of plain memory. */
export function deviceOf({ memory }: VmConfigInput): MemoryDevice | undefined {
  if (memory?.hotplug_method !== 'VirtioMem' || memory.zones?.length || !memory.hotplug_size)
    return undefined;
  const { hotplug_size: size, hotplugged_size: requested } = memory;
  return { model: 'virtio-mem', size: BigInt(size), requested: BigInt(requested ?? 0) };
}

/** Bytes by which ACPI may add to a machine of that configuration. */
export function growthOf({ memory }: VmConfigInput): bigint {
  if (!memory || memory.zones?.length || memory.hotplug_method === 'VirtioMem') return 0n;
  return BigInt(memory.hotplug_size ?? 0);
}
