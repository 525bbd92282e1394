/** Resizes the guest's memory by virtio-mem devices. */
import {
  type HotplugMemory,
  hotplugBlock,
  PLAIN_ZONE_ID,
  setBootSize,
  virtioMemory,
} from '../config/memory.ts';
import type { Uint64 } from '../config/uint64.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import type { DeviceCalls } from '../devices/record.ts';
import { refusal, VmmError } from './errors.ts';

/**
 * Asks the guest to have so many bytes of plain memory, those from its start included.
 * @throws VmmError
 */
export async function resizePlain(core: DeviceCalls, { memory }: VmConfig, bytes: Uint64): Promise<void> {
  const [plain] = virtioMemory(memory);
  if (plain === undefined) throw refusal('The memory has no hotplug_size');
  const added = addedBytes('The memory', plain, bytes);
  await core.call(PLAIN_ZONE_ID, 'resize', { size: Number(added) });
  memory.hotplugged_size = Number(added);
}

/**
 * The same of a zone. Without a machine its size at boot is another, and whether that makes sense shows when the VM
 * boots.
 * @throws VmmError
 */
export async function resizeZone(
  core: DeviceCalls | undefined,
  { memory }: VmConfig,
  id: string,
  bytes: Uint64,
): Promise<void> {
  const zone = memory.zones?.find((one) => one.id === id);
  if (zone === undefined) {
    throw new VmmError(`There is no memory zone with id "${id}"`, { code: 'ERR_TSVMM_MISSING' });
  }
  if (core === undefined) {
    setBootSize(zone, bytes);
    return;
  }
  if (!virtioMemory(memory).includes(zone)) {
    throw refusal(`The memory zone ${id} cannot change: it needs hotplug_method=virtio-mem and hotplug_size`);
  }
  const added = addedBytes(`The memory zone ${id}`, zone, bytes);
  await core.call(id, 'resize', { size: Number(added) });
  zone.hotplugged_size = Number(added);
}

/** @throws VmmError if the device cannot have as much */
function addedBytes(name: string, part: HotplugMemory, bytes: Uint64): bigint {
  const { size, hotplug_size: limit = 0 } = part;
  const added = BigInt(bytes) - BigInt(size);
  if (added < 0n) throw refusal(`${name} cannot have ${bytes} bytes: it has ${size} from its start`);
  if (added > BigInt(limit)) {
    throw refusal(
      `${name} cannot have ${bytes} bytes: hotplug_size lets it have ${BigInt(size) + BigInt(limit)}`,
    );
  }
  const block = hotplugBlock(part);
  if (added % BigInt(block) !== 0n) {
    throw refusal(`${name} cannot have ${bytes} bytes: what is added must be a multiple of ${block}`);
  }
  return added;
}
