/** Descriptions of the subcommands, for manual page and completions. Loaded only when asked for. */
import type { ObjectShape } from '../config/schema.ts';
import { consoleOptions } from './console/options.ts';
import { COMMON as CTL_COMMON } from './ctl/arguments.ts';
import { ctlDescriptions } from './ctl/commands.ts';
import { type ManualKey, objectKeys } from './manual.ts';
import { COMMON as VM_COMMON, vmCommands } from './vms/vmCommands.ts';

export interface CommandOption {
  /** Without dashes. */
  readonly name: string;
  readonly short?: string;
  /** What stands for the value; empty for switches. */
  readonly value: string;
  readonly help: string;
}

export interface ManualCommand {
  readonly name: string;
  /** A sentence without its full stop. */
  readonly about: string;
  readonly options: readonly CommandOption[];
  /** Names of a supervisor's VMs are among its arguments. */
  readonly names: boolean;
  /** The options of a machine are its own as well. */
  readonly machine: boolean;
  /** Its argument is a path, or an option string with these keys. */
  readonly argument?: 'path' | readonly ManualKey[];
  readonly subcommands: readonly ManualCommand[];
}

const plain = { names: false, machine: false, subcommands: [] } as const;

type OptionKind = {
  readonly type?: 'string' | 'boolean';
  readonly short?: string;
  readonly value?: string;
  readonly help?: string;
};

function optionsOf(kinds: Readonly<Record<string, OptionKind>>): CommandOption[] {
  return Object.entries(kinds).map(([name, { type, short, value, help = '' }]) => ({
    name,
    ...(short !== undefined && { short }),
    value: value ?? (type === 'boolean' ? '' : name === 'dir' ? 'DIR' : 'VALUE'),
    help,
  }));
}

function keysOf(shape: ObjectShape | undefined, path: boolean): Pick<ManualCommand, 'argument'> {
  if (shape) return { argument: objectKeys(shape) };
  return path ? { argument: 'path' } : {};
}

const ctl: ManualCommand = {
  ...plain,
  name: 'ctl',
  about: 'Ask a VM that runs by its REST socket, as ch-remote does',
  options: optionsOf(CTL_COMMON),
  names: true,
  subcommands: Object.entries(ctlDescriptions).map(([name, { about, argument, options = {} }]) => ({
    ...plain,
    name,
    about,
    options: optionsOf(options),
    ...keysOf(argument?.shape, argument?.path === true),
  })),
};

const console: ManualCommand = {
  ...plain,
  name: 'console',
  about: "Attach to a guest's console or serial port",
  options: optionsOf(consoleOptions),
  names: true,
};

export function manualCommands(): ManualCommand[] {
  const vms = Object.entries(vmCommands).map(([name, { help, options, names }]) => ({
    ...plain,
    name,
    about: (help.split('\n')[0] as string).replace(/\.$/, ''),
    options: optionsOf({ ...VM_COMMON, ...options }),
    names: names !== 'none',
    machine: name === 'run' || name === 'create',
  }));
  return [ctl, console, ...vms];
}
