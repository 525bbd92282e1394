/** Checks whether a machine can be made of a valid configuration: it must ask for nothing that is not supported yet. */
import { presentDevices } from '../devices/registry.ts';
import { unsupported } from './rules.ts';
import type { Field, ObjectShape, Shape } from './schema.ts';
import { type CpusConfig, type VmConfig, vmConfig } from './vmConfig.ts';

/** APIC ids beyond 254 need x2APIC destinations, which nothing here was tried with. */
export const MAX_VCPUS = 254;

/** What the ACPI tables have room for (`MCFG` in `platform/x86_64/acpi/layout.ts`). */
const MAX_MACHINE_SEGMENTS = 16;

/** @throws ConfigError `unsupported` or `invalid` */
export function checkBootable(config: VmConfig): void {
  checkObject(vmConfig, config, '');
  checkCpus(config.cpus);
  if ((config.platform?.num_pci_segments ?? 1) > MAX_MACHINE_SEGMENTS) {
    throw unsupported(`More than ${MAX_MACHINE_SEGMENTS} PCI segments`);
  }
  for (const { record, devices } of presentDevices(config)) {
    if (!('checkBootable' in record)) continue;
    for (const device of devices) record.checkBootable?.(device);
  }
}

function checkObject(shape: ObjectShape, object: object, parent: string): void {
  for (const key in object) {
    const value: unknown = object[key as keyof typeof object];
    if (value === undefined || value === null) continue;
    const field = shape.fields[key] as Field;
    const path = parent === '' ? key : `${parent}.${key}`;
    if (!field.unsupported) checkValue(field, value, path);
    else if (asks(field, value)) throw unsupported(path);
  }
}

function checkValue(shape: Shape, value: unknown, path: string): void {
  if (shape.type === 'object') checkObject(shape, value as object, path);
  if (shape.type !== 'array' || shape.items.type !== 'object') return;
  const items = value as readonly object[];
  for (let i = 0; i < items.length; i++) checkObject(shape.items, items[i] as object, `${path}[${i}]`);
}

/** False for what a machine without the field does anyway. */
function asks(field: Field, value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0;
  return value !== field.default && value !== false && value !== 0;
}

function checkCpus(cpus: CpusConfig): void {
  if (cpus.max_vcpus > MAX_VCPUS) throw unsupported(`More than ${MAX_VCPUS} vCPUs`);
  if (cpus.core_scheduling === 'Vcpu') throw unsupported('cpus.core_scheduling Vcpu');
}
