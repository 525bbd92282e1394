/** The library's options: short forms of the same configuration that the REST API takes. */
import type { AnyDeviceRecord } from '../devices/record.ts';
import { type DeviceName, deviceNamed, deviceRecords, shapeOf } from '../devices/registry.ts';
import { ConfigError } from './configError.ts';
import { decode } from './decode.ts';
import { withJsonNames } from './enumNames.ts';
import type { Infer, ObjectShape } from './schema.ts';
import { byteSize } from './size.ts';
import { refuseUnknownFields, refuseUnknownNames } from './unknownFields.ts';
import { type VmConfig, type VmConfigInput, vmConfig } from './vmConfig.ts';

/** `inherit`, or `tty` as on the command line, is this process's terminal. */
export type ConsoleOption = 'off' | 'null' | 'inherit' | 'tty' | 'pty' | { readonly file: string };

export interface VirtualMachineOptions {
  /** A number of vCPUs, or the REST API's object. 1 unless given. */
  readonly cpus?: number | VmConfigInput['cpus'];
  /** Bytes, a size such as `'512M'` or `'2G'`, or the REST API's object. 512 MiB unless given. */
  readonly memory?: number | string | VmConfigInput['memory'];
  /** Path of a PVH ELF image or a bzImage. */
  readonly kernel?: string;
  /** Path of a firmware image, instead of a kernel. */
  readonly firmware?: string;
  readonly cmdline?: string;
  /** Path of an initial RAM file system. */
  readonly initramfs?: string;
  /** Paths of raw images, or the REST API's objects. */
  readonly disks?: readonly (string | NonNullable<VmConfigInput['disks']>[number])[];
  /** `'user'` for the host's network by way of passt, or the REST API's objects. */
  readonly networks?: readonly ('user' | NonNullable<VmConfigInput['net']>[number])[];
  /** `stream` makes the port a stream of this process (`vm.serial`). `null` unless given. */
  readonly serial?: ConsoleOption | 'stream' | { readonly socket: string };
  /** The virtio console. `stream` makes it a stream of this process (`vm.console`). `off` unless given. */
  readonly console?: ConsoleOption | 'stream';
  readonly debugConsole?: ConsoleOption;
  readonly watchdog?: boolean;
  /** Sockets between guest and host; `vm.connectVsock` uses them. */
  readonly vsock?: VmConfigInput['vsock'];
  /** Let the guest tell when its kernel fails: event `panic`. */
  readonly pvpanic?: boolean;
  /** Persistent memory: paths of files, or the REST API's objects. */
  readonly pmem?: readonly (string | NonNullable<VmConfigInput['pmem']>[number])[];
  /** A clock for the guest to read by virtio-rtc. */
  readonly rtc?: boolean | VmConfigInput['rtc'];
  /** Bytes that the guest is to give up, as for `memory`, or the REST API's object. No balloon unless given. */
  readonly balloon?: number | string | VmConfigInput['balloon'];
  readonly platform?: VmConfigInput['platform'];
}

/** Options that are no device's of the list. */
const ownOptions: readonly (keyof VirtualMachineOptions)[] = [
  ...(['cpus', 'memory', 'kernel', 'firmware', 'cmdline', 'initramfs'] as const),
  ...(['serial', 'console', 'debugConsole', 'platform'] as const),
];

const modes: Readonly<Record<string, string>> = {
  off: 'Off',
  null: 'Null',
  inherit: 'Tty',
  tty: 'Tty',
  pty: 'Pty',
};

/** @throws ConfigError if an option is not known, or not what its type says */
export function configFromOptions(options: VirtualMachineOptions | VmConfigInput): VmConfig {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw new ConfigError('malformed', 'The options of a VM are an object');
  }
  if (isJsonForm(options)) return decodeRequest(vmConfig, options);
  refuseUnknownNames(options, [...ownOptions, ...deviceOptions()], '');
  return decodeRequest(vmConfig, expand(options));
}

/**
 * One device by its short form, or the REST API's object.
 * @throws ConfigError if a field is not known, or not what its type says
 */
export function deviceFromOptions(name: DeviceName, given: unknown): object {
  const record = deviceNamed(name);
  const shape = shapeOf(record) as ObjectShape;
  const many = record.schema.type === 'array';
  const expanded = expandDevice(record, many ? [given] : given);
  return decodeRequest(shape, many ? (expanded as readonly unknown[])[0] : expanded) as object;
}

/**
 * What a call was given, by the schema of the REST API's.
 * @throws ConfigError if a field is not known, or not what its type says
 */
export function decodeRequest<S extends ObjectShape>(shape: S, given: unknown): Infer<S> {
  refuseUnknownFields(shape, given, '');
  return decode(shape, withJsonNames(shape, given));
}

function isJsonForm(options: VirtualMachineOptions | VmConfigInput): options is VmConfigInput {
  return 'payload' in options;
}

function deviceOptions(): string[] {
  return deviceRecords.flatMap(({ library }) => (library ? [library.name] : []));
}

function expand(options: VirtualMachineOptions): Record<string, unknown> {
  const { cpus, memory, kernel, firmware, cmdline, initramfs, platform } = options;
  return {
    cpus: typeof cpus === 'number' ? { boot_vcpus: cpus, max_vcpus: cpus } : cpus,
    memory: typeof memory === 'number' || typeof memory === 'string' ? { size: byteSize(memory) } : memory,
    payload: { kernel, firmware, cmdline, initramfs },
    ...expandDevices(options),
    serial: streamOrDevice(options.serial ?? 'null'),
    console: streamOrDevice(options.console ?? 'off'),
    debug_console: options.debugConsole && device(options.debugConsole),
    platform,
  };
}

function expandDevices(options: VirtualMachineOptions): Record<string, unknown> {
  const fields: Record<string, unknown> = {};
  for (const record of deviceRecords) {
    const given = record.library && options[record.library.name];
    if (given === undefined || given === null) continue;
    fields[record.field] = expandDevice(record, given);
  }
  return fields;
}

/** What is no list where there are to be many is left to decoding, which refuses it. */
function expandDevice({ library, schema }: AnyDeviceRecord, given: unknown): unknown {
  if (schema.type === 'array' && !Array.isArray(given)) return given;
  return library?.expand ? library.expand(given) : given;
}

/** A stream of this process is nothing of the host's that a configuration could name. */
function streamOrDevice(option: ConsoleOption | 'stream' | { readonly socket: string }) {
  return option === 'stream' ? { mode: 'Null' } : device(option);
}

function device(option: ConsoleOption | { readonly socket: string }): Record<string, unknown> {
  if (typeof option === 'object' && !Array.isArray(option)) {
    return 'file' in option ? { mode: 'File', ...option } : { mode: 'Socket', ...option };
  }
  const name = String(option);
  if (Object.hasOwn(modes, name)) return { mode: modes[name] };
  throw new ConfigError('malformed', `"${name}" is no mode of this device`);
}
