/** Changing a VM's sizes: its vCPUs, memory and balloon. */
import { memorySize } from '../config/memory.ts';
import type { VmResize } from '../config/requests.ts';
import type { Uint64 } from '../config/uint64.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import type { MachineHandle, NativeAddon } from '../native.ts';
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

/**
 * Changes a machine, and the configuration along with it. The guest takes its time to follow.
 * @throws VmmError
 */
export function resizeMachine(
  native: NativeAddon,
  machine: MachineHandle,
  config: VmConfig,
  sizes: VmResize,
): void {
  const { desired_vcpus: vcpus, desired_ram: memory, desired_balloon: balloon } = sizes;
  if (vcpus !== undefined && vcpus !== config.cpus.boot_vcpus) {
    throw notSupportedYet('Changing the number of vCPUs of a running VM');
  }
  if (memory !== undefined && memory !== memorySize(config.memory)) {
    throw notSupportedYet("Changing a running VM's memory");
  }
  if (balloon !== undefined) resizeBalloon(native, machine, config, balloon);
}

function resizeBalloon(native: NativeAddon, machine: MachineHandle, config: VmConfig, size: Uint64): void {
  if (config.balloon === undefined) {
    throw new VmmError('The VM has no balloon', { code: 'ERR_TSVMM_MISSING' });
  }
  const memory = memorySize(config.memory);
  if (size >= memory) {
    throw new VmmError(`A balloon of ${size} bytes would take all of the ${memory} bytes of memory`, {
      code: 'ERR_TSVMM_CONFIG',
    });
  }
  native.machineResizeBalloon(machine, Number(size));
  config.balloon.size = size;
}
