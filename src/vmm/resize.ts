/** Changing a VM's sizes: its vCPUs, memory and, before it has a machine, balloon. */
import { memorySize } from '../config/memory.ts';
import type { VmResize } from '../config/requests.ts';
import type { Uint64 } from '../config/uint64.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import { notSupportedYet, VmmError } from './errors.ts';

/** Writes new sizes into a configuration that no machine has. Whether they make sense shows when the VM boots. */
export function resizeConfig(config: VmConfig, sizes: VmResize): void {
  if (sizes.desired_vcpus !== undefined) config.cpus.boot_vcpus = sizes.desired_vcpus;
  if (sizes.desired_ram !== undefined) config.memory.size = sizes.desired_ram;
  if (sizes.desired_balloon !== undefined && config.balloon) config.balloon.size = sizes.desired_balloon;
}

/** @throws VmmError if there is no such zone */
export function resizeConfigZone(config: VmConfig, id: string, size: Uint64): void {
  const zone = config.memory.zones?.find((one) => one.id === id);
  if (zone === undefined) {
    throw new VmmError(`There is no memory zone with id "${id}"`, { code: 'ERR_TSVMM_MISSING' });
  }
  zone.size = size;
}

/** @throws VmmError if a machine is to get what none can have while it runs */
export function refuseMachineSizes(config: VmConfig, sizes: VmResize): void {
  const { desired_vcpus: vcpus, desired_ram: memory } = sizes;
  if (vcpus !== undefined && vcpus !== config.cpus.boot_vcpus) {
    throw notSupportedYet('Changing the number of vCPUs of a running VM');
  }
  if (memory !== undefined && memory !== memorySize(config.memory)) {
    throw notSupportedYet("Changing a running VM's memory");
  }
}
