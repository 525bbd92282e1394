/**
 * The table of subcommands of `tsvmm ctl`: a new one is an entry here. Names and arguments are those of the reference's
 * client.
 */
import { writeJson } from '../../api/rest/jsonWriter.ts';
import { ConfigError } from '../../config/configError.ts';
import { decode } from '../../config/decode.ts';
import { receiveMigrationData, sendMigrationData } from '../../config/migration.ts';
import { restoreConfig } from '../../config/restore.ts';
import type { ObjectShape } from '../../config/schema.ts';
import type { Uint64 } from '../../config/uint64.ts';
import { type AddableDevice, addableDevices, deviceNamed } from '../../devices/registry.ts';
import { VmmError } from '../../vmm/errors.ts';
import { parseInteger, parseSize } from '../optionString.ts';
import { objectFromOptions } from '../schemaOptions.ts';
import { UsageError } from '../usageError.ts';
import { absoluteDevicePaths } from '../vms/machinePaths.ts';
import type { ApiRequest } from './apiConnection.ts';
import { pendingText } from './pending.ts';
import { countersReport, infoReport, pingReport } from './reports.ts';

/** What was given to a subcommand. */
export interface CtlWords {
  readonly argument: string | undefined;
  readonly options: Readonly<Record<string, string | undefined>>;
  /** Options without a value that were given. */
  readonly flags: ReadonlySet<string>;
}

interface CtlArgument {
  readonly name: string;
  readonly help: string;
  /** It is an option string of this. */
  readonly shape?: ObjectShape;
  /** It is the path of a file. */
  readonly path?: true;
  readonly optional?: true;
}

interface CtlOption {
  /** What stands for the value; empty for an option without one. */
  readonly value: string;
  readonly help: string;
  readonly required?: true;
}

/** What help, manual page and completions say of a subcommand. */
export interface CtlDescription {
  readonly about: string;
  readonly argument?: CtlArgument;
  readonly options?: Readonly<Record<string, CtlOption>>;
}

/** A subcommand that is one request. */
export interface CtlCommand extends CtlDescription {
  /**
   * @param folder where relative paths begin, unless that is for the VM's process to know
   * @throws ConfigError, UsageError, VmmError
   */
  request(words: CtlWords, folder?: string): ApiRequest | Promise<ApiRequest>;
  /** What people are told of it. @param json the answer's, undefined without any */
  done(json: unknown, words: CtlWords): string;
  /** What is going on until it is answered. */
  readonly doing: string;
  /** How far that is, by `vm.info` of the VM meanwhile; empty without any words of that. */
  howFar?(info: unknown, words: CtlWords): string;
  /** Until it is given up, unless `--timeout` is given. */
  readonly timeoutMs: number;
  /** Beyond that, what the VM is told to wait. @throws ConfigError */
  waitMs?(words: CtlWords): number;
}

/** Answered while nothing else is done. */
const QUICK_MS = 30_000;
/** A guest, a disk or much memory has a part in it. */
const SLOW_MS = 600_000;
/** All of a guest's memory is moved. */
const LONG_MS = 24 * 3_600_000;

const SIZE = 'SIZE';

/** Takes nothing, and answers nothing. */
function action(name: string, about: string, doing: string, done: string, timeoutMs = SLOW_MS): CtlCommand {
  return {
    about,
    doing,
    timeoutMs,
    done: () => done,
    request: () => ({ method: 'PUT', endpoint: `vm.${name}` }),
  };
}

/** Asks for something. */
function question(endpoint: string, about: string, done: (json: unknown) => string): CtlCommand {
  return {
    about,
    doing: 'Waiting for an answer',
    timeoutMs: QUICK_MS,
    done,
    request: () => ({ method: 'GET', endpoint }),
  };
}

function put(endpoint: string, body: unknown, descriptors: readonly number[] = []): ApiRequest {
  return { method: 'PUT', endpoint, body: writeJson(body), descriptors };
}

/** The object of a shape, with every default, that the argument describes. @throws ConfigError */
function fromOptions(shape: ObjectShape, name: string, { argument }: CtlWords): Record<string, unknown> {
  return decode(shape, objectFromOptions(shape, name, argument as string), name) as Record<string, unknown>;
}

interface Added {
  readonly id?: unknown;
  readonly bdf?: unknown;
}

function add({ name: kind, shape, help: what, descriptors }: AddableDevice): CtlCommand {
  const name = `add-${kind}`;
  return {
    about: `Add ${what}`,
    argument: { name: 'OPTIONS', help: `As of --${kind} on the command line of a VM`, shape },
    doing: `Adding ${what}`,
    timeoutMs: SLOW_MS,
    request: (words, folder) => {
      const given = fromOptions(shape, name, words);
      const device = folder === undefined ? given : absoluteDevicePaths(deviceNamed(kind), given, folder);
      return put(`vm.${name}`, device, descriptors && takeDescriptors(device, descriptors.field));
    },
    done: (json) => {
      const { id, bdf } = (json ?? {}) as Added;
      return id === undefined ? 'Added; the guest finds it when the VM boots.' : `Added ${id} at ${bdf}.`;
    },
  };
}

function addCommands(): Record<string, CtlCommand> {
  const addable = addableDevices().sort((a, b) => (a.name < b.name ? -1 : 1));
  return Object.fromEntries(addable.map((one) => [`add-${one.name}`, add(one)]));
}

/** Takes the members of an object out of it, those that are descriptors. */
function takeDescriptors(object: Record<string, unknown>, key: string): number[] {
  const value = object[key];
  delete object[key];
  return value === undefined ? [] : Array.isArray(value) ? (value as number[]) : [value as number];
}

/** Of network devices, then of VFIO devices, then of the IOMMU: the order in which they are sent. */
function takeAllDescriptors(data: Record<string, unknown>): number[] {
  const inside = (list: string, key: string) =>
    ((data[list] ?? []) as Record<string, unknown>[]).flatMap((one) => takeDescriptors(one, key));
  return [...inside('net_fds', 'fds'), ...inside('vfio_fds', 'fd'), ...takeDescriptors(data, 'iommufd_fd')];
}

export const ctlCommands: Readonly<Record<string, CtlCommand>> = {
  ...addCommands(),
  boot: action('boot', 'Boot the VM that was created', 'Booting', 'The VM runs.'),
  coredump: {
    about: "Write the guest's memory into a file, as a core dump",
    argument: { name: 'URL', help: 'A file that is not there yet, file:///path' },
    doing: 'Writing the core dump',
    timeoutMs: LONG_MS,
    request: ({ argument }) => put('vm.coredump', { destination_url: argument }),
    done: (_, { argument }) => `The core dump is in ${argument}.`,
  },
  counters: question('vm.counters', 'Show what devices have counted', countersReport),
  create: {
    about: 'Create a VM from a configuration, without booting it',
    argument: { name: 'FILE', help: 'JSON; - for standard input', path: true, optional: true },
    doing: 'Creating the VM',
    timeoutMs: SLOW_MS,
    request: async ({ argument = '-' }) => ({
      method: 'PUT',
      endpoint: 'vm.create',
      body: await readConfiguration(argument),
    }),
    done: () => 'The VM is created.',
  },
  delete: action('delete', 'Delete the VM', 'Deleting the VM', 'The VM is deleted.'),
  info: question('vm.info', 'Show the VM, its configuration and devices', infoReport),
  nmi: action('nmi', 'Send an NMI to every vCPU', 'Sending the NMI', 'The NMI was sent.', QUICK_MS),
  pause: action('pause', 'Pause the VM', 'Pausing', 'The VM is paused.', QUICK_MS),
  ping: question('vmm.ping', 'Show who serves the socket', pingReport),
  'power-button': action(
    'power-button',
    'Press the power button',
    'Pressing the power button',
    'The power button was pressed; the guest decides what follows.',
    QUICK_MS,
  ),
  reboot: action('reboot', 'Reboot the VM', 'Rebooting', 'The VM has been rebooted.'),
  'receive-migration': {
    about: 'Wait for a VM that moves here',
    argument: { name: 'OPTIONS', help: 'Where it comes from', shape: receiveMigrationData },
    doing: 'Receiving the VM',
    timeoutMs: LONG_MS,
    request: (words) => {
      const data = fromOptions(receiveMigrationData, 'receive-migration', words);
      return put('vm.receive-migration', data, takeAllDescriptors(data));
    },
    done: () => 'The VM is here.',
  },
  'remove-device': {
    about: 'Remove a device',
    argument: { name: 'ID', help: 'Its identifier, as info and add-* show it' },
    options: {
      wait: { value: 'MS', help: 'Wait for the guest to give it up, so many milliseconds' },
      force: { value: '', help: 'Take it away from a guest that has not given it up, after --wait' },
    },
    doing: 'Removing the device',
    howFar: (info, { argument }) => pendingText(info, argument),
    timeoutMs: SLOW_MS,
    waitMs: ({ options }) => waitOf(options).wait_ms ?? 0,
    request: ({ argument, options, flags }) =>
      put('vm.remove-device', {
        id: argument,
        ...waitOf(options),
        ...(flags.has('force') && { force: true }),
      }),
    done: (_, { argument, options, flags }) =>
      options.wait !== undefined || flags.has('force')
        ? `${argument} is removed.`
        : `${argument} is removed; a guest that runs gives it back when it is ready to.`,
  },
  resize: {
    about: 'Give the VM other numbers of vCPUs, or bytes of memory or in its balloon',
    options: {
      balloon: { value: SIZE, help: 'Bytes that the guest is to give up' },
      cpus: { value: 'N', help: 'Number of vCPUs' },
      memory: { value: SIZE, help: 'Bytes of memory' },
      wait: { value: 'MS', help: 'Wait for the guest to do what it is asked for, so many milliseconds' },
    },
    doing: 'Resizing',
    howFar: (info) => pendingText(info),
    timeoutMs: SLOW_MS,
    waitMs: ({ options }) => waitOf(options).wait_ms ?? 0,
    request: ({ options }) =>
      put('vm.resize', {
        desired_vcpus: numberOf(options, 'cpus', parseInteger),
        desired_ram: numberOf(options, 'memory', parseSize),
        desired_balloon: numberOf(options, 'balloon', parseSize),
        ...waitOf(options),
      }),
    done: (_, { options }) => resizedText(options),
  },
  'resize-disk': {
    about: 'Give a disk another size',
    options: {
      disk: { value: 'ID', help: 'Identifier of the disk', required: true },
      size: { value: SIZE, help: 'Bytes, a multiple of 512', required: true },
    },
    doing: 'Resizing the disk',
    timeoutMs: SLOW_MS,
    request: ({ options }) =>
      put('vm.resize-disk', { id: options.disk, desired_size: numberOf(options, 'size', parseSize) }),
    done: (_, { options }) => `The disk ${options.disk} is resized.`,
  },
  'resize-zone': {
    about: 'Give a memory zone another size',
    options: {
      id: { value: 'ID', help: 'Identifier of the memory zone', required: true },
      size: { value: SIZE, help: 'Bytes, with what the zone has at boot', required: true },
      wait: { value: 'MS', help: 'Wait for the guest to plug memory in or out, so many milliseconds' },
    },
    doing: 'Resizing the memory zone',
    howFar: (info) => pendingText(info),
    timeoutMs: SLOW_MS,
    waitMs: ({ options }) => waitOf(options).wait_ms ?? 0,
    request: ({ options }) =>
      put('vm.resize-zone', {
        id: options.id,
        desired_ram: numberOf(options, 'size', parseSize),
        ...waitOf(options),
      }),
    done: (_, { options: { id, wait } }) =>
      wait === undefined
        ? `The memory zone ${id} is resized; a guest that runs plugs memory in or out when it is ready to.`
        : `The memory zone ${id} is resized.`,
  },
  restore: {
    about: 'Go on from a snapshot',
    argument: { name: 'OPTIONS', help: 'Which snapshot, and how', shape: restoreConfig },
    doing: 'Restoring',
    timeoutMs: LONG_MS,
    request: (words) => {
      const data = fromOptions(restoreConfig, 'restore', words);
      return put('vm.restore', data, takeAllDescriptors(data));
    },
    done: () => 'The VM is restored.',
  },
  resume: action('resume', 'Let the VM go on', 'Resuming', 'The VM runs.', QUICK_MS),
  'send-migration': {
    about: 'Move the VM to another process or host',
    argument: { name: 'OPTIONS', help: 'Where to, and how', shape: sendMigrationData },
    doing: 'Starting the migration',
    timeoutMs: LONG_MS,
    request: (words) => put('vm.send-migration', fromOptions(sendMigrationData, 'send-migration', words)),
    done: () => 'The migration has begun.',
  },
  shutdown: action(
    'shutdown',
    'End the guest at once; the configuration stays',
    'Shutting down',
    'The VM is shut down.',
  ),
  'shutdown-vmm': {
    about: 'End the VM and its process',
    doing: 'Ending the process',
    timeoutMs: SLOW_MS,
    request: () => ({ method: 'PUT', endpoint: 'vmm.shutdown' }),
    done: () => "The VM's process ends.",
  },
  snapshot: {
    about: 'Write the state of the VM, which is paused, into a folder',
    argument: { name: 'URL', help: 'An existing folder, file:///path' },
    doing: 'Writing the snapshot',
    timeoutMs: LONG_MS,
    request: ({ argument }) => put('vm.snapshot', { destination_url: argument }),
    done: (_, { argument }) => `The snapshot is in ${argument}.`,
  },
};

/** A live view: many requests. */
const watch: CtlDescription = {
  about: 'Watch the counters and their rates; q ends it',
  options: {
    interval: { value: 'SECONDS', help: 'Between two looks (1)' },
    count: { value: 'N', help: 'End after so many looks' },
  },
};

export const ctlDescriptions: Readonly<Record<string, CtlDescription>> = { ...ctlCommands, watch };

/** null where it was not given. @throws ConfigError */
function numberOf(
  options: CtlWords['options'],
  name: string,
  parse: (text: string) => Uint64,
): Uint64 | null {
  const text = options[name];
  return text === undefined ? null : parsed(name, text, parse);
}

/** @throws ConfigError that names the option */
function parsed<T>(name: string, text: string, parse: (text: string) => T): T {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new ConfigError(error.kind, `--${name}: ${error.message}`, error.subject);
  }
}

/** What a request says of waiting. @throws ConfigError */
function waitOf({ wait }: CtlWords['options']): { readonly wait_ms?: number } {
  return wait === undefined ? {} : { wait_ms: parsed('wait', wait, parseInteger) };
}

/** As it is: what is wrong with it the VMM says. @throws VmmError if it cannot be read */
async function readConfiguration(path: string): Promise<string> {
  const what = path === '-' ? 'standard input' : path;
  let text: string;
  try {
    text =
      path === '-'
        ? await readStandardInput()
        : await (await import('node:fs/promises')).readFile(path, 'utf8');
  } catch (error) {
    throw new VmmError(`Cannot read the configuration from ${what}`, { cause: error });
  }
  if (text.trim() === '') throw new VmmError(`There is no configuration in ${what}`);
  return text;
}

async function readStandardInput(): Promise<string> {
  let text = '';
  process.stdin.setEncoding('utf8');
  for await (const chunk of process.stdin) text += chunk;
  return text;
}

/** @throws UsageError */
export function checkWords(name: string, { argument, options = {} }: CtlDescription, words: CtlWords): void {
  if (argument && !argument.optional && words.argument === undefined) {
    throw new UsageError(`${name} needs ${argument.name}`);
  }
  if (!argument && words.argument !== undefined) throw new UsageError(`${name} takes no argument`);
  for (const [key, { required }] of Object.entries(options)) {
    if (required && words.options[key] === undefined) throw new UsageError(`${name} needs --${key}`);
  }
}

function resizedText({ balloon, cpus, memory, wait }: Readonly<Record<string, string | undefined>>): string {
  if ((balloon ?? cpus ?? memory) === undefined) return 'Nothing was asked to change.';
  const later = [
    ...(cpus !== undefined && wait === undefined
      ? ['starts vCPUs, or gives them up, when it is ready to']
      : []),
    ...(balloon !== undefined && wait === undefined
      ? ['fills its balloon, or empties it, when it is ready to']
      : []),
    ...(memory !== undefined && wait === undefined
      ? ['uses more memory when it is ready to, and has less from then on (virtio-mem) or from its next boot']
      : []),
  ];
  if (memory !== undefined && wait !== undefined) {
    return 'The VM is resized; of memory by ACPI, a guest uses more when it is ready to, and has less from its next boot.';
  }
  return later.length === 0
    ? 'The VM is resized.'
    : `The VM is resized; a guest that runs ${later.join(', and ')}.`;
}
