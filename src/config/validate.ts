/**
 * What makes a decoded configuration meaningful: rules between fields. Checked when a VM boots, as vm.create must not,
 * and whenever something is added to a configuration.
 */
import { ConfigError } from './configError.ts';
import { validateDevices, validateUserDevice } from './devices/assigned.ts';
import { validateBalloon } from './devices/balloon.ts';
import { validateConsoles } from './devices/console.ts';
import { validateDisk } from './devices/disk.ts';
import { validateNet } from './devices/net.ts';
import { validatePmem } from './devices/pmem.ts';
import { validateRateLimitGroups } from './devices/rateLimiter.ts';
import { validateFs, validateGenericVhostUser } from './devices/vhostUser.ts';
import { validateVsock } from './devices/vsock.ts';
import { validateLandlockRule } from './landlock.ts';
import { isShared, memorySize, validateMemory } from './memory.ts';
import { validateNuma } from './numa.ts';
import { validatePayload } from './payload.ts';
import { type PciRequest, pciDevices } from './pciDevices.ts';
import { validatePciSegment, validatePlatform } from './platform.ts';
import { invalid } from './rules.ts';
import type { CpusConfig, VmConfig } from './vmConfig.ts';

/** Of the reference on KVM. What a machine can have is another question (`bootable.ts`). */
const MAX_VCPUS = 8192;
const MAX_PCI_SLOT = 31;

/** @throws ConfigError `invalid` or `duplicate`, with one sentence about the first rule that is broken */
export function validateVmConfig(config: VmConfig): void {
  validatePayload(config.payload);
  validateCpus(config.cpus);
  validateMemory(config.memory);
  const shared = isShared(config.memory);
  const { boot_vcpus: vcpus } = config.cpus;
  for (const disk of config.disks ?? []) validateDisk(disk, vcpus, shared);
  for (const net of config.net ?? []) validateNet(net, vcpus, shared);
  for (const fs of config.fs ?? []) validateFs(fs, vcpus, shared);
  for (const device of config.generic_vhost_user ?? []) validateGenericVhostUser(device, shared);
  validateRateLimitGroups(config);
  for (const pmem of config.pmem ?? []) validatePmem(pmem);
  if (config.balloon) validateBalloon(config.balloon, memorySize(config.memory));
  validateConsoles(config);
  if (config.vsock) validateVsock(config.vsock);
  validateDevices(config.devices ?? [], config.platform?.vfio_p2p_dma ?? true);
  for (const device of config.user_devices ?? []) validateUserDevice(device);
  for (const rule of config.landlock_rules ?? []) validateLandlockRule(rule);
  validatePlacement(config);
}

function validateCpus(cpus: CpusConfig): void {
  if (cpus.boot_vcpus < 1) throw invalid('The number of vCPUs must be at least 1');
  if (cpus.boot_vcpus > cpus.max_vcpus) {
    throw invalid(`boot_vcpus (${cpus.boot_vcpus}) is greater than max_vcpus (${cpus.max_vcpus})`);
  }
  if (cpus.max_vcpus > MAX_VCPUS) throw invalid(`max_vcpus (${cpus.max_vcpus}) is greater than ${MAX_VCPUS}`);
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

/** Names, PCI segments and slots: what devices could take from one another. */
function validatePlacement(config: VmConfig): void {
  const { platform, rate_limit_groups: groups = [], pci_segments = [], numa } = config;
  const { zones = [] } = config.memory;
  const segments = platform?.num_pci_segments ?? 1;
  if (platform) validatePlatform(platform);
  for (const segment of pci_segments) validatePciSegment(segment, segments);
  if (numa) {
    const zoneIds = zones.map(({ id }) => id);
    validateNuma(numa, zoneIds, segments);
  }
  const devices = pciDevices(config);
  validateIdentifiers(groups.length > 0 || zones.length > 0 ? [...devices, ...groups, ...zones] : devices);
  for (const device of devices) validateSegment(device, segments, platform?.iommu_segments ?? []);
  validateSlots(devices);
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

function validateSegment(
  { pci_segment: segment = 0, iommu }: PciRequest,
  count: number,
  iommus: number[],
): void {
  if (segment >= count)
    throw invalid(`PCI segment ${segment} does not exist: platform.num_pci_segments is ${count}`);
  if (iommus.includes(segment) && !iommu) {
    throw invalid(`A device in PCI segment ${segment}, which is behind an IOMMU, needs iommu=on`);
  }
}

function validateSlots(devices: readonly PciRequest[]): void {
  const taken = new Set<string>();
  const counts = new Map<number, number>();
  for (const { pci_device_id: slot, pci_segment: segment = 0 } of devices) {
    const count = (counts.get(segment) ?? 0) + 1;
    counts.set(segment, count);
    if (count > MAX_PCI_SLOT) throw invalid(`${count} PCI devices do not fit in ${MAX_PCI_SLOT} slots`);
    if (slot === undefined) continue;
    if (slot === 0 && segment === 0) throw invalid('PCI slot 0 belongs to the host bridge');
    if (slot > MAX_PCI_SLOT) throw invalid(`PCI slot ${slot} does not exist, the highest is ${MAX_PCI_SLOT}`);
    const place = `${segment}:${slot}`;
    if (taken.has(place)) throw invalid(`PCI slot ${slot} is given to two devices`);
    taken.add(place);
  }
}
