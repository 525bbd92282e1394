/** Descriptions of the options, for help, manual page and completions. Loaded only when asked for. */
import type { Field, ObjectShape } from '../config/schema.ts';
import type { OptionGroup } from '../devices/record.ts';
import { deviceRecords } from '../devices/registry.ts';
import { flagField, flagShape, type ProcessFlag, processFlags, type VmFlag, vmFlags } from './flags.ts';
import { modesOf, optionKey } from './schemaOptions.ts';

/** One `key=value` of an option string. */
export interface ManualKey {
  readonly key: string;
  /** What stands for the value, its choices with bars between. */
  readonly value: string;
  /** A sentence, with the default. */
  readonly help: string;
  readonly supported: boolean;
}

export interface ManualOption {
  /** Without dashes. */
  readonly name: string;
  readonly short?: string;
  /** What follows the name; empty for switches. */
  readonly value: string;
  readonly help: string;
  readonly keys: readonly ManualKey[];
  /** Words of a command line. */
  readonly example?: string;
  readonly supported: boolean;
}

export interface ManualGroup {
  readonly title: string;
  readonly options: readonly ManualOption[];
}

/** Most used first. What no machine has yet has a group of its own at the end. */
const groups: Readonly<Record<string, readonly string[]>> = {
  'What boots': ['kernel', 'initramfs', 'cmdline', 'firmware'],
  'Processors and memory': ['cpus', 'memory'],
  'Disks, networks, sockets': [...devicesIn('io'), ...devicesIn('memory')],
  Consoles: [...devicesIn('consoles'), 'serial', 'debug-console'],
  'The process': [
    ...[
      'api-socket',
      'api-tls',
      'api-strict',
      'no-shutdown',
      'verbose',
      'log-file',
      'log-format',
      'event-monitor',
      'seccomp',
    ],
    ...['help', 'version', 'man', 'completions', 'openapi'],
  ],
  'Further devices': devicesIn('further'),
  'Further settings': [
    'platform',
    'rate-limit-group',
    'memory-zone',
    'numa',
    'pci-segment',
    'landlock-rules',
    'gdb',
  ],
};
function devicesIn(group: OptionGroup): string[] {
  return deviceRecords.filter(({ option }) => option.group === group).map(({ name }) => name);
}

const UNSUPPORTED_TITLE = 'Understood, and refused at boot, because not supported yet';

/** Words after the flag. Each is a line that works with a payload beside it. */
const examples: Readonly<Record<string, string>> = {
  kernel: 'vmlinuz',
  initramfs: 'initrd.img',
  cmdline: '"console=ttyS0 root=/dev/vda"',
  firmware: 'CLOUDHV.fd',
  cpus: 'boot=2',
  memory: 'size=1G',
  serial: 'file=serial.log',
  'debug-console': 'file=debug.log,iobase=0x402',
  'api-socket': 'path=/run/vm.sock',
  'log-file': 'vm.log -v',
  'log-format': '"{wallclock} {level}: {msg}"',
  'event-monitor': 'path=/run/vm.events',
  seccomp: 'false',
  help: 'disk',
  completions: 'bash',
  platform: 'system_serial_number=s1,oem_strings=[a,b]',
  'rate-limit-group': 'id=g,bw_size=104857600,bw_refill_time=1000',
  'memory-zone': 'id=a,size=1G --memory size=0',
  numa: 'guest_numa_id=0,cpus=[0-1]',
  'pci-segment': 'pci_segment=0,mmio32_aperture_weight=2',
  'landlock-rules': 'path=/srv/images,access=rw',
  gdb: 'path=/run/vm.gdb',
};

export function manual(): ManualGroup[] {
  const supported = Object.entries(groups).map(([title, names]) => ({ title, options: names.map(describe) }));
  const rest = [...Object.keys(vmFlags()), ...Object.keys(processFlags)]
    .filter((name) => !Object.values(groups).some((names) => names.includes(name)))
    .map(describe);
  return [...supported, { title: UNSUPPORTED_TITLE, options: rest }];
}

function describe(name: string): ManualOption {
  const example = examples[name] ?? deviceRecords.find((record) => record.name === name)?.option.example;
  const flag = vmFlags()[name];
  return {
    name,
    ...(flag ? describeVmFlag(name, flag) : describeProcessFlag(name)),
    ...(example && { example }),
  };
}

type Description = Omit<ManualOption, 'name' | 'example'>;

function describeProcessFlag(name: string): Description {
  const { value = '', optional, short, help, unsupported } = processFlags[name] as ProcessFlag;
  const supported = unsupported !== true;
  return { value: optional ? `[${value}]` : value, help, keys: [], supported, ...(short && { short }) };
}

function describeVmFlag(name: string, flag: VmFlag): Description {
  const field = flagField(flag);
  const help = `${field.help ?? ''}${defaultMode(field)}`;
  const supported = !field.unsupported;
  switch (flag.kind) {
    case 'text':
      return { value: ['cmdline', 'host-data'].includes(name) ? 'TEXT' : 'PATH', help, keys: [], supported };
    case 'switch':
      return { value: '', help, keys: [], supported };
    case 'console':
      return { value: consoleValue(flagShape(flag)), help, keys: consoleKeys(flagShape(flag)), supported };
    case 'list':
      return { value: 'OPTIONS...', help, keys: objectKeys(flagShape(flag)), supported };
    case 'options':
      return {
        value: flag.bare ? '[OPTIONS]' : 'OPTIONS',
        help,
        keys: objectKeys(flagShape(flag)),
        supported,
      };
  }
}

function consoleValue(shape: ObjectShape): string {
  return modesOf(shape).replaceAll(', ', '|');
}

/** The others are the modes, which the value lists. */
function consoleKeys(shape: ObjectShape): ManualKey[] {
  return objectKeys(shape).filter(({ key }) => !['mode', 'file', 'socket'].includes(key));
}

function defaultMode(field: Field): string {
  const mode = (field.default as { mode?: string } | undefined)?.mode;
  return mode === undefined ? '' : ` (${mode.toLowerCase()})`;
}

/** The device's own keys before those that all PCI devices have; what is not supported comes last. */
export function objectKeys(shape: ObjectShape): ManualKey[] {
  const keys: ManualKey[] = [];
  for (const [name, field] of Object.entries(shape.fields)) {
    if (field.memberKeys) keys.push(...describeMemberKeys(field));
    const key = optionKey(name, field);
    if (key === undefined) continue;
    const help = `${field.help ?? ''}${keyDefault(field)}`;
    keys.push({ key, value: valueText(field), help, supported: !field.unsupported });
  }
  const rank = ({ key, supported }: ManualKey) => (!supported ? 2 : commonKeys.includes(key) ? 1 : 0);
  return keys.sort((a, b) => rank(a) - rank(b));
}

const commonKeys: readonly string[] = ['id', 'pci_device_id'];

function describeMemberKeys(field: Field): ManualKey[] {
  return Object.entries(field.memberKeys ?? {}).map(([key, [object, member]]) => {
    const inner = (field as ObjectShape).fields[object] as ObjectShape & Field;
    const leaf = inner.fields[member] as Field;
    return { key, value: valueText(leaf), help: `${inner.help} ${leaf.help}`, supported: true };
  });
}

function valueText(field: Field): string {
  if (field.type === 'boolean') return 'on|off';
  if (field.type === 'enum') return Object.values(field.values).join('|');
  if (field.type === 'integer') return field.size ? 'SIZE' : field.hex ? '0xN' : 'N';
  if (field.type === 'array') return '[LIST]';
  return field.type === 'object' && Object.values(field.fields).every(({ type }) => type === 'integer')
    ? Object.keys(field.fields)
        .map(() => 'N')
        .join(':')
    : 'TEXT';
}

function keyDefault(field: Field): string {
  const { default: value } = field;
  if (typeof value === 'boolean') return ` (${value ? 'on' : 'off'})`;
  if (typeof value === 'number') return ` (${value})`;
  return field.type === 'enum' && typeof value === 'string' ? ` (${field.values[value]})` : '';
}
