/**
 * Access to the list of devices: by name, by configuration, and the devices of a configuration. In loops, as every
 * start goes through it: the runtime compiles its own `find`, `filter` or `flatMap` when that is first called, which
 * takes 0.05 to 0.1 ms each.
 */
import type { ObjectShape } from '../config/schema.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import { deviceList } from './list.ts';
import type {
  AnyDeviceRecord,
  AnyMachineDeviceRecord,
  Device,
  DeviceAddition,
  DevicePaths,
} from './record.ts';

type Listed = Extract<(typeof deviceList)[number], { readonly field: string }>;

/** In the order in which guests find them. */
const machineDeviceRecords: readonly AnyMachineDeviceRecord[] = deviceList;

const recordsWithField: AnyDeviceRecord[] = [];
const fields: Record<string, unknown> = {};
/** The fields of the records in their order. No two records look alike to an engine: each is looked at seldom. */
const FIELDS: (string | undefined)[] = [];
for (const record of machineDeviceRecords) {
  const field = 'field' in record ? record.field : undefined;
  FIELDS.push(field);
  if (field === undefined) continue;
  recordsWithField.push(record as AnyDeviceRecord);
  fields[field] = (record as AnyDeviceRecord).schema;
}

/** Those of them that have a field in a configuration. */
export const deviceRecords: readonly AnyDeviceRecord[] = recordsWithField;

export type DeviceName = Listed['name'];

export function deviceNamed(name: DeviceName): AnyDeviceRecord {
  return recordNamed(name) as AnyDeviceRecord;
}

/** Undefined for a name of none, and for that of a device without a field. */
export function recordNamed(name: string): AnyDeviceRecord | undefined {
  for (const record of deviceRecords) if (record.name === name) return record;
  return undefined;
}

/** What devices are in a configuration's schema. */
export type DeviceFields = { readonly [R in Listed as R['field']]: R['schema'] };

export const deviceFields: DeviceFields = fields as DeviceFields;

const NONE: readonly Device[] = [];
const SWITCHED_ON: readonly Device[] = [{}];

/** Those of one kind, in order, also such as are configured not to be there. */
export function configuredDevices(config: object, { field }: AnyDeviceRecord): readonly Device[] {
  const value = (config as Readonly<Record<string, unknown>>)[field];
  if (value === undefined || value === null || value === false) return NONE;
  if (value === true) return SWITCHED_ON;
  return Array.isArray(value) ? value : [value as Device];
}

/** Those of one kind that a machine is to have. */
export function devicesOf(config: object, record: AnyMachineDeviceRecord): readonly Device[] {
  if ('devices' in record) return record.devices(config as VmConfig);
  const devices = configuredDevices(config, record);
  if (!record.isPresent) return devices;
  const present: Device[] = [];
  for (const device of devices) if (record.isPresent(device)) present.push(device);
  return present;
}

/** Devices of one kind. */
export interface DevicesOfKind<R extends AnyMachineDeviceRecord = AnyMachineDeviceRecord> {
  readonly record: R;
  readonly devices: readonly Device[];
}

/** The kinds that a machine is to have, in order. */
export function presentDevices(config: object): DevicesOfKind[] {
  return kinds(config, devicesOf);
}

/** The kinds that a configuration has something of, in order: also such as is configured not to be there. */
export function allConfigured(config: object): DevicesOfKind<AnyDeviceRecord>[] {
  return kinds(config, (_, record) =>
    'field' in record ? configuredDevices(config, record) : NONE,
  ) as DevicesOfKind<AnyDeviceRecord>[];
}

function kinds(config: object, find: typeof devicesOf): DevicesOfKind[] {
  const found: DevicesOfKind[] = [];
  for (let i = 0; i < FIELDS.length; i++) {
    const field = FIELDS[i];
    if (field !== undefined && (config as Readonly<Record<string, unknown>>)[field] === undefined) continue;
    const record = machineDeviceRecords[i] as AnyMachineDeviceRecord;
    const devices = find(config, record);
    if (devices.length > 0) found.push({ record, devices });
  }
  return found;
}

/** Every PCI device of the machine besides the host bridge, in no particular order. */
export function allDevices(config: object): Device[] {
  return devicesOfAll(presentDevices(config));
}

export function devicesOfAll(kindsOfDevices: readonly DevicesOfKind[]): Device[] {
  const all: Device[] = [];
  for (const { devices } of kindsOfDevices) all.push(...devices);
  return all;
}

/** What one device of a kind is in a configuration; undefined for one that is only switched on. */
export function shapeOf({ schema }: AnyDeviceRecord): ObjectShape | undefined {
  const shape = schema.type === 'array' ? schema.items : schema;
  return shape.type === 'object' ? shape : undefined;
}

/** Fills in what is to stay the same over reboots. */
export function completeDevices(config: VmConfig): void {
  const devices = allDevices(config);
  for (const record of deviceRecords) {
    if (record.isNeeded?.(config, devices)) (config as Record<string, unknown>)[record.field] = true;
  }
  for (const { record, devices: configured } of allConfigured(config)) {
    if (!record.complete) continue;
    for (const device of configured) record.complete(device);
  }
}

/**
 * Tells a device the name that it was given, for its next machine to have the same. Names that are always the same are
 * known.
 */
export function keepId(config: VmConfig, name: string, index: number, id: string): void {
  const record = recordNamed(name);
  if (record === undefined || 'fixed' in record.ids) return;
  const device: { id?: string } | undefined = devicesOf(config, record)[index];
  if (device) device.id = id;
}

/** The device's identifier; '' for one that has been given none yet. */
export function idOf({ ids }: AnyMachineDeviceRecord, { id }: Device): string {
  return id ?? ('fixed' in ids ? ids.fixed : '');
}

/** What came beside the request that added the device. */
export function descriptorsOf({ addition }: AnyDeviceRecord, device: Device): readonly number[] {
  const field = addition?.descriptors?.field ?? '';
  const value = (device as Readonly<Record<string, unknown>>)[field];
  return Array.isArray(value) ? value : typeof value === 'number' ? [value] : [];
}

/** What one device names by path. */
export function pathsOf({ paths }: AnyDeviceRecord, device: Device, use: keyof DevicePaths): string[] {
  const found: string[] = [];
  for (const name of paths?.[use] ?? []) {
    const path = (device as Readonly<Record<string, unknown>>)[name];
    if (typeof path === 'string') found.push(path);
  }
  return found;
}

/** A kind of which devices can be added to a VM. */
export interface AddableDevice {
  readonly name: DeviceName;
  readonly shape: ObjectShape;
  /** In sentences: `Add a network device`. */
  readonly help: string;
  readonly descriptors?: DeviceAddition['descriptors'];
}

export function addableDevices(): AddableDevice[] {
  const found: AddableDevice[] = [];
  for (const record of deviceRecords) {
    const { addition } = record;
    const shape = shapeOf(record);
    if (addition && shape) found.push({ ...addition, name: record.name as DeviceName, shape });
  }
  return found;
}
