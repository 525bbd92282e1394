/** Every flag of the command line, in the order in which help lists them. */
import type { ObjectShape } from '../config/schema.ts';
import { vmConfig } from '../config/vmConfig.ts';

const vm = vmConfig.fields;

/** How the words after a flag become a field of the VM's configuration. */
export type VmFlag =
  | { readonly kind: 'payload'; readonly field: keyof typeof vm.payload.fields }
  /** `bare`: the flag means something without any options, too. */
  | {
      readonly kind: 'options';
      readonly field: 'cpus' | 'memory' | 'rng' | 'vsock' | 'balloon' | 'platform' | 'rtc';
      readonly bare?: true;
    }
  | { readonly kind: 'list'; readonly field: 'disks' | 'net' | 'rate_limit_groups' | 'pmem' }
  | { readonly kind: 'console'; readonly field: 'serial' | 'console' | 'debug_console' }
  | { readonly kind: 'switch'; readonly field: 'watchdog' | 'pvpanic' };

export const vmFlags: Readonly<Record<string, VmFlag>> = {
  kernel: { kind: 'payload', field: 'kernel' },
  firmware: { kind: 'payload', field: 'firmware' },
  initramfs: { kind: 'payload', field: 'initramfs' },
  cmdline: { kind: 'payload', field: 'cmdline' },
  cpus: { kind: 'options', field: 'cpus' },
  memory: { kind: 'options', field: 'memory' },
  disk: { kind: 'list', field: 'disks' },
  net: { kind: 'list', field: 'net' },
  'rate-limit-group': { kind: 'list', field: 'rate_limit_groups' },
  rng: { kind: 'options', field: 'rng' },
  pmem: { kind: 'list', field: 'pmem' },
  vsock: { kind: 'options', field: 'vsock' },
  balloon: { kind: 'options', field: 'balloon' },
  serial: { kind: 'console', field: 'serial' },
  console: { kind: 'console', field: 'console' },
  'debug-console': { kind: 'console', field: 'debug_console' },
  watchdog: { kind: 'switch', field: 'watchdog' },
  rtc: { kind: 'options', field: 'rtc', bare: true },
  pvpanic: { kind: 'switch', field: 'pvpanic' },
  platform: { kind: 'options', field: 'platform' },
};

/** The shape of the object, or of each object, that an option-string flag describes. */
export function flagShape(flag: VmFlag): ObjectShape {
  if (flag.kind === 'list') return vm[flag.field].items;
  if (flag.kind === 'options' || flag.kind === 'console') return vm[flag.field];
  return vm.payload;
}

export interface ProcessFlag {
  /** What stands for the value in help; absent for flags without one. */
  readonly value?: string;
  readonly short?: string;
  readonly help: string;
}

export const processFlags: Readonly<Record<string, ProcessFlag>> = {
  'api-socket': { value: 'path=PATH|fd=N', help: 'Serve the REST API on a UNIX socket' },
  'event-monitor': { value: 'path=PATH|fd=N', help: 'Write events as JSON' },
  'log-file': { value: 'PATH', help: 'Write the log to a file, not to stderr' },
  'no-shutdown': { help: 'Stay when the guest powers off' },
  seccomp: { value: 'false', help: 'System call filter: only "false" so far' },
  verbose: { short: 'v', help: 'Log more: -v, -vv, -vvv' },
  openapi: { help: 'Print the OpenAPI document of the REST API' },
  version: { short: 'V', help: 'Print the version' },
  help: { short: 'h', help: 'Print this help' },
};

/** Flags of the reference that mean nothing here yet. */
export const unsupportedFlags: readonly string[] = [
  ...['dbus-object-path', 'dbus-service-name', 'dbus-system-bus', 'device', 'fs', 'fw-cfg-config', 'gdb'],
  ...['generic-vhost-user', 'host-data', 'igvm', 'ivshmem', 'landlock', 'landlock-rules', 'log-format'],
  ...['memory-zone', 'numa', 'pci-segment', 'pvmemcontrol', 'restore'],
  ...['tpm', 'user-device', 'vdpa'],
];
