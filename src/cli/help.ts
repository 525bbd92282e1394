/** The text of `--help`, written from the tables of flags and the schema. Loaded only when asked for. */
import type { Field, ObjectShape } from '../config/schema.ts';
import { vmConfig } from '../config/vmConfig.ts';
import { flagShape, processFlags, type VmFlag, vmFlags } from './flags.ts';
import { optionKey } from './schemaOptions.ts';

const INDENT = '      ';

export function helpText(): string {
  const lines = [
    'tsvmm runs a virtual machine.',
    '',
    'Usage: tsvmm --kernel PATH [flags]',
    '       tsvmm --firmware PATH [flags]',
    '       tsvmm --api-socket path=PATH [flags]',
    '',
    'The virtual machine:',
  ];
  for (const name in vmFlags) lines.push(...describeVmFlag(name, vmFlags[name] as VmFlag));
  lines.push('', 'The process:');
  for (const name in processFlags) {
    const { value, short, help } = processFlags[name] as (typeof processFlags)[string];
    lines.push(`  --${name}${value ? ` ${value}` : ''}${short ? `, -${short}` : ''}`, `${INDENT}${help}`);
  }
  lines.push(
    '',
    'Sizes take K, M or G. Quotes protect commas. Exit codes: 0 for an orderly end, 1 for a failure, 2 for',
    'a command line that cannot be understood.',
    '',
  );
  return lines.join('\n');
}

function describeVmFlag(name: string, flag: VmFlag): string[] {
  switch (flag.kind) {
    case 'payload':
      return [
        `  --${name} ${flag.field === 'cmdline' ? 'TEXT' : 'PATH'}`,
        `${INDENT}${fieldHelp(flag.field)}`,
      ];
    case 'switch':
      return [`  --${name}`, `${INDENT}${vmConfig.fields[flag.field].help}`];
    case 'console': {
      const socket = flag.field === 'serial' ? '|socket=PATH' : '';
      return [`  --${name} off|null|pty|tty|file=PATH${socket}`, ...describeField(name, flag)];
    }
    case 'list':
      return [`  --${name} OPTIONS...`, ...describeField(name, flag)];
    case 'options':
      return [`  --${name} ${flag.bare ? '[OPTIONS]' : 'OPTIONS'}`, ...describeField(name, flag)];
  }
}

function fieldHelp(field: keyof typeof vmConfig.fields.payload.fields): string {
  const definition: Field = vmConfig.fields.payload.fields[field];
  return definition.help ?? '';
}

function describeField(name: string, flag: Exclude<VmFlag, { kind: 'payload' }>): string[] {
  const field: Field = vmConfig.fields[flag.field];
  const lines = [`${INDENT}${field.help ?? name}${defaultText(field)}`];
  lines.push(...describeKeys(flagShape(flag), flag.kind === 'console'));
  return lines;
}

function defaultText(field: Field): string {
  const mode = (field.default as { mode?: string } | undefined)?.mode;
  return mode === undefined ? '' : ` (${mode.toLowerCase()})`;
}

/** One line for each key that means something; those of a console are its modes, listed already. */
function describeKeys(shape: ObjectShape, isConsole: boolean): string[] {
  const lines: string[] = [];
  for (const name in shape.fields) {
    const field = shape.fields[name] as Field;
    if (field.memberKeys) lines.push(...describeMemberKeys(field));
    const key = optionKey(name, field);
    if (key === undefined || field.unsupported) continue;
    if (isConsole && ['mode', 'file', 'socket'].includes(name)) continue;
    lines.push(describeKey(key, field, `${field.help ?? ''}${keyDefault(field)}`));
  }
  return lines;
}

function describeKey(key: string, field: Field, help: string): string {
  return `${INDENT}  ${`${key}=${valueText(field)}`.padEnd(34)} ${help}`;
}

function describeMemberKeys(field: Field): string[] {
  return Object.entries(field.memberKeys ?? {}).map(([key, [object, member]]) => {
    const inner = (field as ObjectShape).fields[object] as ObjectShape & Field;
    const leaf = inner.fields[member] as Field;
    return describeKey(key, leaf, `${inner.help} ${leaf.help}`);
  });
}

function valueText(field: Field): string {
  if (field.type === 'boolean') return 'on|off';
  if (field.type === 'enum') return Object.values(field.values).join('|');
  if (field.type === 'integer') return field.size ? 'SIZE' : field.hex ? '0xN' : 'N';
  return field.type === 'array' ? '[LIST]' : 'TEXT';
}

function keyDefault(field: Field): string {
  const { default: value } = field;
  if (typeof value === 'boolean') return ` (${value ? 'on' : 'off'})`;
  if (typeof value === 'number') return ` (${value})`;
  return field.type === 'enum' && typeof value === 'string' ? ` (${field.values[value]})` : '';
}
