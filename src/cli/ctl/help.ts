/** `tsvmm ctl --help`. Loaded only when asked for. */
import { entry, keyLines, optionEntries } from '../help.ts';
import { COMMON } from './arguments.ts';
import { type CtlDescription, ctlDescriptions } from './commands.ts';

/** @param command its own help; the overview unless given */
export function ctlHelp(command?: string): string {
  if (command === undefined) return overview();
  const { about, argument, options = {} } = ctlDescriptions[command] as CtlDescription;
  return [
    `${about}.`,
    '',
    `Usage: tsvmm ctl (--api-socket PATH | NAME) ${command}${usage(command)}`,
    ...(argument ? ['', ...entry(`  ${argument.name}`, argument.help)] : []),
    ...(argument?.shape ? keyLines(argument.shape) : []),
    ...(Object.keys(options).length > 0 ? [''] : []),
    ...optionEntries(options),
    '',
  ].join('\n');
}

function usage(command: string): string {
  const { argument, options = {} } = ctlDescriptions[command] as CtlDescription;
  const words = Object.entries(options).map(([name, { value, required }]) => {
    const option = value === '' ? `--${name}` : `--${name} ${value}`;
    return required ? ` ${option}` : ` [${option}]`;
  });
  if (argument) words.push(argument.optional ? ` [${argument.name}]` : ` ${argument.name}`);
  return words.join('');
}

function overview(): string {
  return [
    'tsvmm ctl asks a VM that runs by its REST socket. The subcommands and their arguments are those of ch-remote.',
    '',
    'Usage: tsvmm ctl --api-socket PATH SUBCOMMAND ...',
    '       tsvmm ctl [--dir DIR] NAME SUBCOMMAND ...         a VM of tsvmmd',
    '',
    ...optionEntries(COMMON),
    '',
    'Subcommands:',
    ...Object.entries(ctlDescriptions).flatMap(([name, { about }]) =>
      entry(`  ${name}${usage(name)}`, about),
    ),
    '',
    "OPTIONS are those of a VM's command line: 'tsvmm ctl add-disk --help'. Relative paths begin in this folder for a VM of",
    "tsvmmd, and with --api-socket in that of the VM's process.",
    'Exit codes: 0 if it is done, 1 if it is refused or nobody answers, 2 if the words are wrong.',
    '',
  ].join('\n');
}
