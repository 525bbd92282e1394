/** Changing a VM's sizes: what of a request is whose. */
import type { VmResize } from '../config/requests.ts';
import type { Uint64 } from '../config/uint64.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import { VmmError } from './errors.ts';

/** Those parts of a VM with a machine that have a size. */
export interface SizedMachine {
  readonly vcpus: (count: number) => Promise<void>;
  readonly memory: (bytes: Uint64) => Promise<void>;
  readonly balloon: (bytes: Uint64) => Promise<void>;
}

/** Writes new sizes into a configuration that no machine has. Whether they make sense shows when the VM boots. */
export function resizeConfig(config: VmConfig, sizes: VmResize): void {
  if (sizes.desired_vcpus !== undefined) config.cpus.boot_vcpus = sizes.desired_vcpus;
  if (sizes.desired_ram !== undefined) config.memory.size = sizes.desired_ram;
  if (sizes.desired_balloon !== undefined && config.balloon) config.balloon.size = sizes.desired_balloon;
}

/** One part after the other: an error in a later one does not undo an earlier one. */
export async function resizeMachine(machine: SizedMachine, sizes: VmResize): Promise<void> {
  if (sizes.desired_vcpus !== undefined) await machine.vcpus(sizes.desired_vcpus);
  if (sizes.desired_ram !== undefined) await machine.memory(sizes.desired_ram);
  if (sizes.desired_balloon !== undefined) await machine.balloon(sizes.desired_balloon);
}

/** @throws VmmError if there is no such zone */
export function resizeConfigZone(config: VmConfig, id: string, size: Uint64): void {
  const zone = config.memory.zones?.find((one) => one.id === id);
  if (zone === undefined) {
    throw new VmmError(`There is no memory zone with id "${id}"`, { code: 'ERR_TSVMM_MISSING' });
  }
  zone.size = size;
}
