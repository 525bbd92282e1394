/** The number of vCPUs of a machine. */
import type { VmConfig } from '../config/vmConfig.ts';
import { notSupportedYet } from './errors.ts';

/** @throws VmmError */
export async function resizeVcpus(config: VmConfig, count: number): Promise<void> {
  if (count !== config.cpus.boot_vcpus) {
    throw notSupportedYet('Changing the number of vCPUs of a running VM');
  }
}
