/** Every flag of the command line. */
import { type Field, type ObjectShape, once } from '../config/schema.ts';
import { vmConfig } from '../config/vmConfig.ts';
import type { AnyDeviceRecord } from '../devices/record.ts';
import { deviceRecords, recordNamed } from '../devices/registry.ts';

const vm = vmConfig.fields;

/** How the words after a flag become a field of the VM's configuration, or of an object in it. */
export type VmFlag =
  /** The word as it is. */
  | { readonly kind: 'text'; readonly parent: 'payload'; readonly field: keyof typeof vm.payload.fields }
  /**
   * An option string. `bare`: the flag means something without any options, too. `defaults`: what the fields are that
   * no option names, beside the schema's.
   */
  | {
      readonly kind: 'options';
      readonly parent?: 'payload';
      readonly field: string;
      readonly bare?: true;
      readonly defaults?: Readonly<Record<string, unknown>>;
    }
  /** Several option strings. */
  | { readonly kind: 'list'; readonly parent?: 'memory'; readonly field: string }
  | { readonly kind: 'console'; readonly parent?: undefined; readonly field: string }
  /** On by being there. */
  | { readonly kind: 'switch'; readonly parent?: undefined; readonly field: string };

/** Those of no device, in two groups: help lists devices in between. */
const flagsBeforeDevices: Readonly<Record<string, VmFlag>> = {
  kernel: { kind: 'text', parent: 'payload', field: 'kernel' },
  firmware: { kind: 'text', parent: 'payload', field: 'firmware' },
  initramfs: { kind: 'text', parent: 'payload', field: 'initramfs' },
  cmdline: { kind: 'text', parent: 'payload', field: 'cmdline' },
  igvm: { kind: 'text', parent: 'payload', field: 'igvm' },
  'host-data': { kind: 'text', parent: 'payload', field: 'host_data' },
  'fw-cfg-config': { kind: 'options', parent: 'payload', field: 'fw_cfg_config' },
  cpus: { kind: 'options', field: 'cpus' },
  memory: { kind: 'options', field: 'memory' },
  'memory-zone': { kind: 'list', parent: 'memory', field: 'zones' },
  numa: { kind: 'list', field: 'numa' },
};
const flagsBehindDevices: Readonly<Record<string, VmFlag>> = {
  'rate-limit-group': { kind: 'list', field: 'rate_limit_groups' },
  serial: { kind: 'console', field: 'serial' },
  'debug-console': { kind: 'console', field: 'debug_console' },
  tpm: { kind: 'options', field: 'tpm' },
  pvmemcontrol: { kind: 'options', field: 'pvmemcontrol', bare: true },
  'pci-segment': { kind: 'list', field: 'pci_segments' },
  platform: { kind: 'options', field: 'platform' },
  landlock: { kind: 'switch', field: 'landlock_enable' },
  'landlock-rules': { kind: 'list', field: 'landlock_rules' },
};

/** Undefined for what is no flag of a VM. */
export function vmFlag(name: string): VmFlag | undefined {
  const flag = flagsBeforeDevices[name] ?? flagsBehindDevices[name];
  // What every object inherits is of no kind.
  if (flag?.kind !== undefined) return flag;
  const record = recordNamed(name);
  return record && deviceFlag(record);
}

function deviceFlag({ option, field }: AnyDeviceRecord): VmFlag {
  return { ...option, field };
}

/** All of them, as help lists them. Made when it is asked for: a start needs a few. */
export const vmFlags: () => Readonly<Record<string, VmFlag>> = once(() => {
  const flags: Record<string, VmFlag> = { ...flagsBeforeDevices };
  for (const record of deviceRecords) flags[record.name] = deviceFlag(record);
  return { ...flags, ...flagsBehindDevices };
});

/** What the schema says of a flag's field. */
export function flagField({ parent, field }: VmFlag): Field {
  const fields: Readonly<Record<string, Field>> = parent ? vm[parent].fields : vm;
  return fields[field] as Field;
}

/** The shape of the object, or of each object, that an option-string flag describes. */
export function flagShape(flag: VmFlag): ObjectShape {
  const field = flagField(flag);
  return (field.type === 'array' ? field.items : field) as ObjectShape;
}

export interface ProcessFlag {
  /** What stands for the value in help; absent for flags without one. */
  readonly value?: string;
  /** The value may be left out. */
  readonly optional?: true;
  readonly short?: string;
  readonly help: string;
  readonly unsupported?: true;
}

export const processFlags: Readonly<Record<string, ProcessFlag>> = {
  'api-socket': { value: 'path=PATH|fd=N', help: 'Serve the REST API on a UNIX socket' },
  'api-tls': {
    value: 'address=ADDRESS:PORT,dir=DIR,allowed_dn=[PATTERN,...]',
    help: 'Serve the REST API to clients with a certificate',
  },
  'api-strict': {
    help: 'Answer errors of the REST API with the status codes of HTTP, and a code for programs',
  },
  'event-monitor': { value: 'path=PATH|fd=N', help: 'Write events as JSON' },
  gdb: { value: 'path=PATH', help: 'Let gdb debug the guest, which waits for it, on a UNIX socket' },
  'log-file': { value: 'PATH', help: 'Write the log to a file, not to stderr' },
  'log-format': {
    value: 'TEMPLATE',
    help: 'What a line of the log is, with {level}, {msg} and other tokens',
  },
  'no-shutdown': { help: 'Stay when the guest powers off' },
  restore: {
    value: 'source_url=URL,...',
    help: 'Go on from a snapshot (not supported yet)',
    unsupported: true,
  },
  seccomp: { value: 'false', help: 'System call filter: only "false" so far' },
  verbose: { short: 'v', help: 'Log more: -v, -vv, -vvv' },
  openapi: { help: 'Print the OpenAPI document of the REST API' },
  completions: { value: 'bash|zsh|fish', help: 'Print completions for a shell' },
  man: { help: 'Print the manual page' },
  version: { short: 'V', help: 'Print the version' },
  help: {
    short: 'h',
    value: 'OPTION',
    optional: true,
    help: 'Print this help, or one option with an example',
  },
};

/** Flags of the reference that builds without D-Bus refuse. */
export const unsupportedFlags: readonly string[] = [
  'dbus-object-path',
  'dbus-service-name',
  'dbus-system-bus',
];
