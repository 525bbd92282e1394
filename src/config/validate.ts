/**
 * What makes a decoded configuration meaningful: rules between fields. Checked when a VM boots, as vm.create must not,
 * and whenever something is added to a configuration.
 */

import { validateCharacterDevice } from '../devices/characterDevices.ts';
import { consoleDevice } from '../devices/console.ts';
import { validateRateLimitGroups } from '../devices/rateLimiter.ts';
import type { Device } from '../devices/record.ts';
import { allConfigured, devicesOfAll, presentDevices, shapeOf } from '../devices/registry.ts';
import { ConfigError } from './configError.ts';
import { validateLandlockRule } from './landlock.ts';
import { PCI_SLOTS } from './limits.ts';
import { validateMemory } from './memory.ts';
import { validateNuma } from './numa.ts';
import { validatePayload } from './payload.ts';
import { iommuSegments, validatePciSegment, validatePlatform } from './platform.ts';
import { invalid } from './rules.ts';
import type { CpusConfig, VmConfig } from './vmConfig.ts';

/** Of the reference on KVM. What a machine can have is another question (`bootable.ts`). */
const MAX_VCPUS = 8192;

/** @throws ConfigError `invalid` or `duplicate`, with one sentence about the first rule that is broken */
export function validateVmConfig(config: VmConfig): void {
  validatePayload(config.payload);
  validateCpus(config.cpus);
  validateMemory(config.memory);
  validateRateLimitGroups(config.rate_limit_groups ?? []);
  validateSerialPorts(config);
  for (const { record, devices } of allConfigured(config)) {
    for (const device of devices) record.check?.(device, config);
    record.checkAll?.(devices, config);
  }
  for (const rule of config.landlock_rules ?? []) validateLandlockRule(rule);
  validatePlacement(config);
}

/** The character devices, by themselves: `vm.create` opens their host ends. @throws ConfigError */
export function validateConsoles(config: VmConfig): void {
  validateSerialPorts(config);
  consoleDevice.check?.(config.console, config);
}

function validateSerialPorts({ serial, debug_console }: VmConfig): void {
  validateCharacterDevice('serial', serial, true);
  validateCharacterDevice('debug_console', debug_console);
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
    validateNuma(numa, { zones: zoneIds, segments, maxVcpus: config.cpus.max_vcpus });
  }
  const present = presentDevices(config);
  const devices = devicesOfAll(present);
  // A zone with a device is both.
  const named = groups.length > 0 || zones.length > 0 ? new Set([...devices, ...groups, ...zones]) : devices;
  validateIdentifiers(named);
  for (const { record, devices: placed } of present) {
    // What is only switched on has no choice, and is never translated.
    if (!('field' in record) || shapeOf(record)?.fields.iommu === undefined) continue;
    for (const device of placed) validateSegment(device, segments, iommuSegments(platform));
  }
  validateSlots(devices);
}

function validateIdentifiers(named: Iterable<{ readonly id?: string }>): void {
  const seen = new Set<string>();
  for (const { id } of named) {
    if (id === undefined) continue;
    if (id === '') throw invalid('An identifier must not be empty');
    if (id.startsWith('__')) throw invalid(`Identifier ${id} must not start with __`);
    if (seen.has(id)) throw new ConfigError('duplicate', `Identifier ${id} is not unique`);
    seen.add(id);
  }
}

function validateSegment(
  { pci_segment: segment = 0, iommu }: Device,
  count: number,
  iommus: readonly number[],
): void {
  if (segment >= count)
    throw invalid(`PCI segment ${segment} does not exist: platform.num_pci_segments is ${count}`);
  if (iommus.includes(segment) && !iommu) {
    throw invalid(`A device in PCI segment ${segment}, which is behind an IOMMU, needs iommu=on`);
  }
}

function validateSlots(devices: readonly Device[]): void {
  const taken = new Set<string>();
  const counts = new Map<number, number>();
  for (const { pci_device_id: slot, pci_segment: segment = 0 } of devices) {
    const count = (counts.get(segment) ?? 0) + 1;
    counts.set(segment, count);
    const most = segment === 0 ? PCI_SLOTS - 1 : PCI_SLOTS;
    if (count > most) throw invalid(`${count} PCI devices do not fit in ${most} slots`);
    if (slot === undefined) continue;
    if (slot === 0 && segment === 0) throw invalid('PCI slot 0 belongs to the host bridge');
    if (slot >= PCI_SLOTS) throw invalid(`PCI slot ${slot} does not exist, the highest is ${PCI_SLOTS - 1}`);
    const place = `${segment}:${slot}`;
    if (taken.has(place)) throw invalid(`PCI slot ${slot} is given to two devices`);
    taken.add(place);
  }
}
