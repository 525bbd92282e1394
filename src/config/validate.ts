/** What makes a decoded configuration meaningful: rules between fields. Checked when a VM boots, as vm.create must not. */
import { ConfigError } from './configError.ts';
import { validateBalloon } from './devices/balloon.ts';
import { validateConsoles } from './devices/console.ts';
import { validateDisk } from './devices/disk.ts';
import { validateNet } from './devices/net.ts';
import { validatePmem } from './devices/pmem.ts';
import { validateRateLimitGroups } from './devices/rateLimiter.ts';
import { validateVsock } from './devices/vsock.ts';
import { type PciWishes, pciDevices } from './pciDevices.ts';
import { invalid, isPowerOfTwo, unsupported } from './rules.ts';
import type { CpusConfig, MemoryConfig, PayloadConfig, VmConfig } from './vmConfig.ts';

/** APIC ids beyond 254 need x2APIC destinations, which nothing here was tried with. */
export const MAX_VCPUS = 254;
const PAGE_SIZE = 4096;
const MAX_PCI_SLOT = 31;

/** @throws ConfigError `invalid`, `duplicate` or `unsupported`, with one sentence about the first rule that is broken */
export function validateVmConfig(config: VmConfig): void {
  validatePayload(config.payload);
  validateCpus(config.cpus);
  validateMemory(config.memory);
  for (const disk of config.disks ?? []) validateDisk(disk, config.cpus.boot_vcpus);
  for (const net of config.net ?? []) validateNet(net, config.cpus.boot_vcpus);
  validateRateLimitGroups(config);
  for (const pmem of config.pmem ?? []) validatePmem(pmem);
  if (config.balloon) validateBalloon(config.balloon, config.memory.size);
  validateConsoles(config);
  if (config.vsock) validateVsock(config.vsock);
  const devices = pciDevices(config);
  validateIdentifiers(config.rate_limit_groups ? [...devices, ...config.rate_limit_groups] : devices);
  validateSlots(devices);
}

function validatePayload(payload: PayloadConfig | undefined): void {
  if (payload?.firmware === undefined && payload?.kernel === undefined) {
    throw invalid('No bootitem provided: neither firmware nor kernel');
  }
  if (payload.firmware !== undefined && payload.kernel !== undefined) {
    throw invalid('Firmware and kernel are exclusive: give one of them');
  }
}

function validateCpus(cpus: CpusConfig): void {
  if (cpus.boot_vcpus < 1) throw invalid('The number of vCPUs must be at least 1');
  if (cpus.boot_vcpus > cpus.max_vcpus) {
    throw invalid(`boot_vcpus (${cpus.boot_vcpus}) is greater than max_vcpus (${cpus.max_vcpus})`);
  }
  if (cpus.max_vcpus > MAX_VCPUS) throw unsupported(`More than ${MAX_VCPUS} vCPUs`);
  if (cpus.core_scheduling === 'Vcpu') throw unsupported('cpus.core_scheduling Vcpu');
  if (cpus.topology !== undefined) validateTopology(cpus.topology, cpus.max_vcpus);
  for (const { vcpu } of cpus.affinity ?? []) {
    if (vcpu >= cpus.max_vcpus) throw invalid(`cpus.affinity names vCPU ${vcpu}, which does not exist`);
  }
}

function validateTopology(topology: NonNullable<CpusConfig['topology']>, maxVcpus: number): void {
  const { threads_per_core, cores_per_die, dies_per_package, packages } = topology;
  const product = threads_per_core * cores_per_die * dies_per_package * packages;
  if (product === 0) throw invalid('No part of cpus.topology may be zero');
  if (threads_per_core > 2) throw invalid('cpus.topology allows at most 2 threads a core');
  if (product !== maxVcpus) {
    throw invalid(`The product of cpus.topology (${product}) is not max_vcpus (${maxVcpus})`);
  }
}

function validateMemory(memory: MemoryConfig): void {
  if (memory.size === 0) throw invalid('The memory size must not be 0');
  if (memory.mergeable && memory.shared) throw invalid('Memory cannot be both mergeable and shared');
  if (memory.hugepage_size !== undefined) {
    if (!memory.hugepages) throw invalid('memory.hugepage_size needs memory.hugepages');
    if (!isPowerOfTwo(memory.hugepage_size) || memory.hugepage_size < PAGE_SIZE) {
      throw invalid(`The huge page size ${memory.hugepage_size} is not a power of two`);
    }
  }
  const page = memory.hugepage_size ?? PAGE_SIZE;
  if (memory.size % page !== 0)
    throw invalid(`The memory size ${memory.size} is not a multiple of ${page} bytes`);
}

function validateIdentifiers(named: readonly { readonly id?: string }[]): void {
  const seen = new Set<string>();
  for (const { id } of named) {
    if (id === undefined) continue;
    if (id.startsWith('__')) throw invalid(`Identifier ${id} must not start with __`);
    if (seen.has(id)) throw new ConfigError('duplicate', `Identifier ${id} is not unique`);
    seen.add(id);
  }
}

function validateSlots(devices: readonly PciWishes[]): void {
  const taken = new Set<number>();
  for (const { pci_device_id: slot } of devices) {
    if (slot === undefined) continue;
    if (slot === 0) throw invalid('PCI slot 0 belongs to the host bridge');
    if (slot > MAX_PCI_SLOT) throw invalid(`PCI slot ${slot} does not exist, the highest is ${MAX_PCI_SLOT}`);
    if (taken.has(slot)) throw invalid(`PCI slot ${slot} is given to two devices`);
    taken.add(slot);
  }
  if (devices.length > MAX_PCI_SLOT) {
    throw invalid(`${devices.length} PCI devices do not fit in ${MAX_PCI_SLOT} slots`);
  }
}
