/** The manual page tsvmm(1) in man(7) macros, written from the manual. Loaded only when asked for. */
import { packageVersion } from '../vmm/version.ts';
import { type CommandOption, manualCommands } from './commandManual.ts';
import { type ManualKey, type ManualOption, manual } from './manual.ts';

export function manPage(): string {
  const lines = [
    `.TH TSVMM 1 "" "tsvmm ${packageVersion}" "User Commands"`,
    '.SH NAME',
    'tsvmm \\- run a virtual machine on KVM',
    '.SH SYNOPSIS',
    '.B tsvmm',
    '.BI \\-\\-kernel " PATH"',
    '.RI [ option " ...]"',
    '.br',
    '.B tsvmm',
    '.BI "\\-\\-api\\-socket path=" PATH',
    '.br',
    '.B tsvmm ctl',
    '.RB ( \\-\\-api\\-socket',
    '.IR PATH " | " NAME ) " subcommand " ...',
    '.br',
    '.B tsvmm console',
    '.IR NAME ...',
    '.SH DESCRIPTION',
    'Boots a kernel or a firmware in a virtual machine, and ends with it. With',
    '.B \\-\\-api\\-socket',
    'a REST API configures, starts and ends the machine.',
    '.PP',
    'OPTIONS are key=value pairs with commas between; OPTIONS... may be several words. Quotes and brackets protect commas.',
    'Sizes are bytes, or take K, M or G (binary).',
  ];
  for (const { title, options } of manual()) {
    lines.push(`.SH ${roff(title.toUpperCase())}`, ...options.flatMap(describeOption));
  }
  lines.push(...describeCommands(), ...conclusion());
  return `${lines.join('\n')}\n`;
}

/** Those with subcommands have a section of their own. */
function describeCommands(): string[] {
  const commands = manualCommands();
  const lines = ['.SH COMMANDS', `Each has a \\-\\-help.`];
  for (const { name, about } of commands) lines.push('.TP', `.B tsvmm ${roff(name)}`, roff(`${about}.`));
  for (const { name, options, subcommands } of commands) {
    if (!['ctl', 'console'].includes(name)) continue;
    lines.push(`.SH ${roff(`TSVMM ${name.toUpperCase()}`)}`, ...options.flatMap(describeCommandOption));
    for (const { name: sub, about, options: own, argument } of subcommands) {
      const word = argument === undefined ? '' : argument === 'path' ? ' FILE' : ' OPTIONS';
      lines.push('.TP', `.BI "${roff(sub)}" "${word}"`, roff(`${about}.`));
      if (own.length > 0) lines.push('.RS', ...own.flatMap(describeCommandOption), '.RE');
    }
  }
  return lines;
}

function describeCommandOption({ name, short, value, help }: CommandOption): string[] {
  const flag = `\\-\\-${roff(name)}${short ? `, \\-${short}` : ''}`;
  return ['.TP', value === '' ? `.B ${flag}` : `.BI "${flag} " "${roff(value)}"`, roff(`${help}.`)];
}

function conclusion(): string[] {
  return [
    '.SH TERMINAL',
    'Where a terminal is the console, Ctrl\\-A x ends the machine and Ctrl\\-A Ctrl\\-A is a Ctrl\\-A for the guest.',
    'In tsvmm console, Ctrl\\-] or Ctrl\\-A x detaches, and the machine goes on. A serial port that is a socket has one client that types, the last that',
    'came, and any number of readers (\\-\\-read\\-only), for whom nobody waits.',
    '.SH EXIT STATUS',
    ...status('0', 'An orderly end: the guest powered off, or a signal or a request ended the machine.'),
    ...status('1', 'A value was refused, the machine could not be started, or a vCPU failed.'),
    ...status('2', 'An option is unknown, incomplete or missing.'),
  ];
}

function status(code: string, text: string): string[] {
  return ['.TP', `.B ${code}`, text];
}

function describeOption({ name, short, value, help, keys, example }: ManualOption): string[] {
  const flag = `\\-\\-${roff(name)}${short ? `, \\-${short}` : ''}`;
  return [
    '.TP',
    value === '' ? `.B ${flag}` : `.BI "${flag} " "${roff(value)}"`,
    roff(`${help}.`),
    ...(keys.length > 0 ? ['.RS', ...keys.flatMap(describeKey), '.RE'] : []),
    ...(example ? ['.IP', `Example: \\-\\-${roff(name)} ${roff(example)}`] : []),
  ];
}

function describeKey({ key, value, help, supported }: ManualKey): string[] {
  const sentence = supported ? `${help}.` : `${help}. Not supported yet.`;
  return ['.TP', `.BI "${roff(key)}=" "${roff(value)}"`, roff(sentence)];
}

/** Backslashes, dashes that are to be copied, and what would be a macro at the start of a line. */
function roff(text: string): string {
  const escaped = text.replace(/\\/g, '\\e').replace(/-/g, '\\-').replace(/"/g, '\\(dq');
  return /^[.']/.test(escaped) ? `\\&${escaped}` : escaped;
}
