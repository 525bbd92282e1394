/** The texts of `--help`, written from the manual. Loaded only when asked for. */

import { nearest } from '../config/nearest.ts';
import type { ObjectShape } from '../config/schema.ts';
import { type ManualKey, type ManualOption, manual, objectKeys } from './manual.ts';
import { subcommandNames } from './subcommands.ts';
import { UsageError } from './usageError.ts';

const WIDTH = 110;
/** Where sentences begin. */
const COLUMN = 30;
const ALL = 'all';

/**
 * @param option with or without dashes; `all` for everything; the overview unless given
 * @throws UsageError if there is no such option
 */
export function helpText(option?: string): string {
  if (option === undefined) return overview();
  if (option === ALL) return everything();
  const name = option.replace(/^--?/, '');
  const options = manual().flatMap((group) => group.options);
  const found = options.find((one) => one.name === name || (one.short !== undefined && one.short === name));
  if (found) return `${describeOption(found).join('\n')}\n`;
  const near = nearest(
    name,
    options.map((one) => one.name),
  );
  throw new UsageError(`there is no option --${name}${near ? `; did you mean --${near}?` : ''}`);
}

function overview(): string {
  const lines = [...introduction(), ''];
  for (const { title, options } of manual()) {
    lines.push(`${title}:`, ...options.flatMap(summary), '');
  }
  lines.push(...conclusion(), '');
  return lines.join('\n');
}

function everything(): string {
  const lines = [...introduction(), ''];
  for (const { title, options } of manual()) {
    lines.push(`${title}:`, '');
    for (const option of options)
      lines.push(...describeOption(option).map((line) => (line ? `  ${line}` : '')), '');
  }
  lines.push(...conclusion(), '');
  return lines.join('\n');
}

function introduction(): string[] {
  return [
    'tsvmm runs a virtual machine.',
    '',
    'Usage: tsvmm --kernel PATH [--initramfs PATH] [--cmdline TEXT] [--disk path=PATH] [--net user] ...',
    '       tsvmm --api-socket path=PATH',
    ...subcommandLines(),
    '',
    'For example:',
    '  tsvmm --kernel vmlinuz --initramfs initrd.img --cmdline "console=hvc0 root=/dev/vda1" \\',
    '    --cpus boot=2 --memory size=1G --disk path=root.img,image_type=raw --net user,forward=[tcp:2222:22]',
  ];
}

function subcommandLines(): string[] {
  const [first = '', ...rest] = wrap(subcommandNames.join(', '), WIDTH - COLUMN - 2);
  const start = '       tsvmm COMMAND, one of';
  return [`${start.padEnd(COLUMN)} ${first}`, ...rest.map((line) => ' '.repeat(COLUMN + 1) + line)];
}

function conclusion(): string[] {
  return [
    "'tsvmm --help disk' explains --disk and its keys, '--help all' everything; '--man' is the manual page.",
    'OPTIONS are key=value,key=value; OPTIONS... may be several. Sizes are bytes, or take K, M or G. Quotes protect',
    'commas. Where a terminal is the console, Ctrl-A x ends the VM, and Ctrl-A Ctrl-A is a Ctrl-A for the guest.',
    'Exit codes: 0 for an orderly end; 1 if a value is refused, the VM cannot start or a vCPU fails; 2 if an option',
    'is unknown, incomplete or missing.',
  ];
}

function heading({ name, short, value }: ManualOption): string {
  return `--${name}${short ? `, -${short}` : ''}${value ? ` ${value}` : ''}`;
}

function summary(option: ManualOption): string[] {
  return entry(`  ${heading(option)}`, option.help);
}

function describeOption(option: ManualOption): string[] {
  const lines = [heading(option), `    ${option.help}`];
  if (!option.supported) lines.push('    Not supported yet: a VM that asks for it is refused when it boots.');
  if (option.keys.length > 0) lines.push('', ...option.keys.flatMap(describeKey));
  if (option.example) lines.push('', `    Example: --${option.name} ${option.example}`);
  return lines;
}

function describeKey({ key, value, help, supported }: ManualKey): string[] {
  return entry(`    ${key}=${value}`, supported ? help : `${help}; not supported yet`);
}

/** The keys of an option string. */
export function keyLines(shape: ObjectShape): string[] {
  return objectKeys(shape).flatMap(describeKey);
}

/** Options of a command by their names. `value` is empty for those without one. */
export function optionEntries(
  options: Readonly<
    Record<string, { readonly value: string; readonly help: string; readonly short?: string }>
  >,
): string[] {
  return Object.entries(options).flatMap(([name, { value, help, short }]) =>
    entry(`  --${name}${short === undefined ? '' : `, -${short}`}${value && ` ${value}`}`, help),
  );
}

/** A name and a sentence beside it, or below it if the name is long; long sentences go on below. */
export function entry(name: string, sentence: string): string[] {
  const [first = '', ...more] = wrap(sentence, WIDTH - COLUMN - 2);
  const indent = ' '.repeat(COLUMN);
  const rest = more.map((line) => indent + line);
  if (name.length + 1 >= COLUMN) return [name, indent + first, ...rest];
  return [`${name.padEnd(COLUMN)}${first}`, ...rest];
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + word.length >= width) {
      lines.push(line);
      line = '';
    }
    line += `${line === '' ? '' : ' '}${word}`;
  }
  return [...lines, line];
}
