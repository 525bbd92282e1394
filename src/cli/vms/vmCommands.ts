/** The commands that talk to a supervisor: `tsvmm run`, `ps`, `stop` and so on. */
import { parseArgs } from 'node:util';
import { writeJson } from '../../api/rest/jsonWriter.ts';
import { VmFile } from '../../api/vmhost/folderFiles.ts';
import { BINARY_UNITS } from '../../config/units.ts';
import type { VmConfig } from '../../config/vmConfig.ts';
import type { SupervisorEvent } from '../../supervisor/eventHistory.ts';
import { supervisorPlaces } from '../../supervisor/places.ts';
import type { NamedStats, VmStats } from '../../supervisor/stats.ts';
import type { VmDescription } from '../../supervisor/vmState.ts';
import { printable, printableJson } from '../../vmm/printable.ts';
import { parseArguments, type RunOptions } from '../arguments.ts';
import { writeOut } from '../standardOutput.ts';
import { UsageError, unparsed } from '../usageError.ts';
import { absolutePaths } from './machinePaths.ts';
import { runningInfo } from './runningInfo.ts';
import { type Sizes, sizesOf } from './runningSizes.ts';
import { SupervisorClient } from './supervisorClient.ts';
import { formatTable, humanBytes, humanDuration } from './table.ts';

type OptionKinds = Readonly<Record<string, { readonly type: 'string' | 'boolean'; readonly short?: string }>>;
type Values = Readonly<Record<string, string | boolean | undefined>>;

interface Call {
  readonly client: SupervisorClient;
  readonly values: Values;
  /** Words that belong to no option. */
  readonly names: readonly string[];
  /** Of the machine, behind the command's own. */
  readonly machine: readonly string[];
}

export interface VmCommand {
  readonly usage: string;
  readonly help: string;
  readonly options: OptionKinds;
  /** How many names it takes; unlimited if `many`. */
  readonly names: 'none' | 'one' | 'many';
  /** @returns the exit code */
  run(call: Call): Promise<number>;
}

const text = { type: 'string' } as const;
const flag = { type: 'boolean' } as const;

/** What help has a line for each of. */
function lines(...all: readonly string[]): string {
  return all.join('\n');
}

/** Of every command. */
export const COMMON: OptionKinds = { dir: text, help: { ...flag, short: 'h' } };

/** Of a VM that is defined. */
const POLICY: OptionKinds = {
  name: text,
  restart: text,
  autostart: flag,
  'max-retries': text,
  'stop-timeout': text,
  'limit-cpus': text,
  'limit-memory': text,
};

const POLICY_HELP = `  --name NAME             a name is made up unless given
  --restart no|on-failure|always[:N]  start it again when it ends, N times in a row at most
  --autostart             start it when the host has started, with the supervisor
  --stop-timeout SECONDS  until a stop ends the guest by force (30)
  --limit-cpus N --limit-memory SIZE  by a control group, where the supervisor may make one
  All options of a machine (tsvmm --help). What the guest prints goes into its log, unless a console says otherwise.`;

export const vmCommands: Readonly<Record<string, VmCommand>> = {
  run: {
    usage: '[-d] [--rm] [--name NAME] [--restart WHEN] --kernel PATH [OPTIONS]',
    help: lines(
      'Define and start a VM, and show its log until it ends; Ctrl-C stops it.',
      '  -d, --detach            only start it',
      '  --rm                    remove it, and its folder, when it has ended',
      POLICY_HELP,
    ),
    options: { ...POLICY, detach: { ...flag, short: 'd' }, rm: flag },
    names: 'none',
    run: runVm,
  },
  create: {
    usage: '[--name NAME] --kernel PATH [OPTIONS]',
    help: lines('Define a VM without starting it.', POLICY_HELP),
    options: POLICY,
    names: 'none',
    run: async (call) => print(await define(call)),
  },
  ps: {
    usage: '[-a] [--filter KEY=VALUE] [--json]',
    help: lines(
      'List VMs that run.',
      '  -a, --all               all of them',
      '  --filter state=S|name=N those alone',
      '  -q, --quiet             names only',
    ),
    options: { all: { ...flag, short: 'a' }, filter: text, json: flag, quiet: { ...flag, short: 'q' } },
    names: 'none',
    run: list,
  },
  start: {
    usage: '[--paused] NAME...',
    help: lines(
      'Start VMs.',
      "  --paused                the guest's first instruction waits for vm.resume of the REST API",
    ),
    options: { paused: flag },
    names: 'many',
    run: (call) => {
      const body = { paused: call.values.paused === true };
      return each(call, (name) => call.client.call('POST', `/v1/vms/${name}/start`, body));
    },
  },
  stop: {
    usage: '[-t SECONDS] [--force] NAME...',
    help: lines(
      'Stop VMs: the guest is asked, and ended by force when the time is over.',
      '  -t, --time SECONDS      how long it may take',
      '  -f, --force             at once',
    ),
    options: { time: { ...text, short: 't' }, force: { ...flag, short: 'f' } },
    names: 'many',
    run: (call) =>
      each(call, (name) => call.client.call('POST', `/v1/vms/${name}/stop`, stopBody(call.values))),
  },
  restart: {
    usage: '[-t SECONDS] NAME...',
    help: 'Stop and start VMs.',
    options: { time: { ...text, short: 't' }, force: { ...flag, short: 'f' } },
    names: 'many',
    run: (call) =>
      each(call, (name) => call.client.call('POST', `/v1/vms/${name}/restart`, stopBody(call.values))),
  },
  rm: {
    usage: '[-f] NAME...',
    help: lines(
      'Remove VMs with their folders; disks elsewhere stay.',
      '  -f, --force             end those that run first',
    ),
    options: { force: { ...flag, short: 'f' } },
    names: 'many',
    run: (call) =>
      each(call, (name) =>
        call.client.call('DELETE', `/v1/vms/${name}${call.values.force ? '?force=true' : ''}`),
      ),
  },
  logs: {
    usage: '[-f] [-n LINES] [--process] NAME',
    help: lines(
      'Show what the guest printed.',
      '  -f, --follow            and what comes',
      '  -n, --tail LINES        so many of the last lines, or all (200)',
      "  --process               the log of the VM's process instead",
    ),
    options: { follow: { ...flag, short: 'f' }, tail: { ...text, short: 'n' }, process: flag },
    names: 'one',
    run: logs,
  },
  inspect: {
    usage: 'NAME',
    help: 'Show all that is known of a VM, as JSON.',
    options: {},
    names: 'one',
    run: async ({ client, names }) => {
      const vm = await client.call<VmDescription>('GET', `/v1/vms/${names[0]}`);
      const info = vm.state === 'running' ? await runningInfo(client, vm.name) : undefined;
      if (info instanceof Error) {
        say(`what the process of ${vm.name} knows is not shown: ${info.message}`);
        return printJson(vm);
      }
      return printJson({ ...vm, ...(info !== undefined && { info }) });
    },
  },
  stats: {
    usage: '[--json] [NAME...]',
    help: 'Show what the processes of VMs use.',
    options: { json: flag },
    names: 'many',
    run: stats,
  },
  top: {
    usage: '[--interval SECONDS] [--count N] [--json]',
    help: lines(
      'Show what the processes of VMs use, as it changes: the busiest first; q ends it.',
      '  -i, --interval SECONDS  between looks (1)',
      '  --count N               end after so many',
      '  --json                  one line for each look',
    ),
    options: { interval: { ...text, short: 'i' }, count: text, json: flag },
    names: 'none',
    run: async ({ client, values }) => {
      const { showTop } = await import('./top.ts');
      const { readInterval } = await import('../terminal/looks.ts');
      const interval = readInterval(values.interval as string | undefined);
      const count = wholeNumber('--count', values.count) ?? Number.POSITIVE_INFINITY;
      const look = () => client.call<NamedStats[]>('GET', '/v1/stats');
      return showTop(look, { interval, count, json: values.json === true });
    },
  },
  events: {
    usage: '[--json]',
    help: 'Show what happens to all VMs, as it happens.',
    options: { json: flag },
    names: 'none',
    run: events,
  },
};

/** @param args behind the command's name @returns the exit code @throws UsageError, VmmError */
export async function runVmCommand(name: string, args: readonly string[]): Promise<number> {
  const command = vmCommands[name] as VmCommand;
  const { values, names, machine } = split(name, command, args);
  if (values.help) return print(`Usage: tsvmm ${name} [--dir DIR] ${command.usage}\n\n${command.help}`);
  if (command.names === 'one' && names.length !== 1) throw new UsageError(`tsvmm ${name} takes one name`);
  if (command.names === 'none' && names.length > 0) throw new UsageError(`unexpected argument '${names[0]}'`);
  if (command.names === 'many' && names.length === 0 && name !== 'stats')
    throw new UsageError(`tsvmm ${name} needs a name`);
  const dir = values.dir as string | undefined;
  const client = new SupervisorClient(supervisorPlaces(dir, process.env).apiSocket);
  return command.run({ client, values, names: names.map(encodeURIComponent), machine });
}

/** A command that defines a machine leaves what it does not know to the machine's options. */
function split(name: string, command: VmCommand, args: readonly string[]): Omit<Call, 'client'> {
  const options = { ...COMMON, ...command.options };
  if (command.options !== POLICY && name !== 'run') {
    try {
      const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true });
      return { values: values as Values, names: positionals, machine: [] };
    } catch (error) {
      throw unparsed(error);
    }
  }
  const values: Record<string, string | boolean> = {};
  const machine: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const word = args[i] as string;
    const [key, inline] = splitWord(word, options);
    const kind = key === undefined ? undefined : options[key];
    if (key === undefined || kind === undefined) machine.push(word);
    else if (kind.type === 'boolean') values[key] = true;
    else values[key] = inline ?? args[++i] ?? missing(key);
  }
  return { values, names: [], machine };
}

function splitWord(word: string, options: OptionKinds): [string | undefined, string | undefined] {
  if (/^-[a-z]$/.test(word))
    return [Object.keys(options).find((key) => options[key]?.short === word[1]), undefined];
  const found = /^--([a-z-]+)(?:=(.*))?$/s.exec(word);
  const key = found?.[1];
  return [key !== undefined && Object.hasOwn(options, key) ? key : undefined, found?.[2]];
}

function missing(key: string): never {
  throw new UsageError(`--${key} needs a value`);
}

async function define({ client, values, machine }: Call): Promise<string> {
  if (machine.length === 0) throw new UsageError('a VM needs --kernel or --firmware');
  const invocation = parseArguments(machine);
  const options = invocation.action === 'run' ? invocation.options : undefined;
  if (options?.vm === undefined) throw new UsageError('a VM needs --kernel or --firmware');
  refuseProcessOptions(options);
  const name = (values.name as string | undefined) ?? madeUpName();
  await client.call('POST', '/v1/vms', { name, config: forSupervisor(options.vm), policy: policyOf(values) });
  return name;
}

/** A supervisor's VMs have their socket, logs and events where the supervisor keeps them. */
function refuseProcessOptions(options: RunOptions): void {
  const given = {
    '--api-socket': [options.apiSocket, 'its REST API is below /v1/vms/NAME/api/'],
    '--api-tls': [options.apiTls, 'its REST API is below /v1/vms/NAME/api/'],
    '--api-strict': [options.apiStrict || undefined, 'its REST API is below /v1/vms/NAME/api/'],
    '--event-monitor': [options.eventMonitor, "'tsvmm events' shows its events"],
    '--log-file': [options.logFile, "'tsvmm logs --process' shows its log"],
    '--log-format': [options.logFormat, "'tsvmm logs --process' shows its log"],
    '--verbose': [options.verbosity || undefined, "'tsvmm logs --process' shows its log"],
    '--no-shutdown': [options.noShutdown || undefined, '--restart says what follows'],
  };
  for (const [flag, [value, instead]] of Object.entries(given)) {
    if (value !== undefined) throw new UsageError(`${flag} is not for a VM of a supervisor: ${instead}`);
  }
}

/** A supervised VM has no terminal: its serial port goes into its log, its console gets a pseudo terminal. */
function forSupervisor(vm: VmConfig): VmConfig {
  const serial = vm.serial.mode === 'Null' || vm.serial.mode === 'Tty';
  // The VM's process works in a folder of its own.
  const moved = absolutePaths(vm, process.cwd());
  return {
    ...moved,
    ...(serial && { serial: { ...moved.serial, mode: 'File', file: VmFile.serialLog } }),
    ...(vm.console.mode === 'Tty' && { console: { ...moved.console, mode: 'Pty' } }),
  };
}

function policyOf(values: Values): object {
  const [when, retries] = String(values.restart ?? 'no').split(':');
  const names: Readonly<Record<string, string>> = {
    no: 'Never',
    'on-failure': 'OnFailure',
    always: 'Always',
  };
  if (names[when as string] === undefined)
    throw new UsageError(`--restart ${when}: no, on-failure or always`);
  const limits = { cpus: thousandths(values['limit-cpus']), memory: bytes(values['limit-memory']) };
  return {
    autostart: values.autostart === true,
    // A command that waits for the end removes the VM after having asked how it ended.
    transient: values.rm === true && values.detach === true,
    restart: { when: names[when as string], max_retries: wholeNumber('--restart', retries) ?? 0 },
    stop_timeout: wholeNumber('--stop-timeout', values['stop-timeout']) ?? 30,
    limits,
  };
}

function wholeNumber(name: string, value: string | boolean | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (!/^\d{1,9}$/.test(String(value))) throw new UsageError(`${name} ${value} is no whole number`);
  return Number(value);
}

function tailOf(value: string | boolean): string {
  return value === 'all' ? value : String(wholeNumber('--tail', value));
}

function thousandths(value: string | boolean | undefined): number | undefined {
  if (value === undefined) return undefined;
  const cpus = Number(value);
  if (!(cpus > 0)) throw new UsageError(`--limit-cpus ${value} is no number of processors`);
  return Math.round(cpus * 1000);
}

function bytes(value: string | boolean | undefined): number | undefined {
  if (value === undefined) return undefined;
  const found = /^(\d+)([KMGT]?)$/.exec(String(value));
  if (!found) throw new UsageError(`--limit-memory ${value} is no size such as 2G`);
  return Number(found[1]) * (BINARY_UNITS[found[2] ?? ''] ?? 1);
}

function madeUpName(): string {
  return `vm-${Math.random().toString(36).slice(2, 8)}`;
}

function stopBody(values: Values): object {
  const seconds = wholeNumber('--time', values.time);
  return { ...(seconds !== undefined && { timeout_seconds: seconds }), force: values.force === true };
}

async function runVm(call: Call): Promise<number> {
  const { client, values } = call;
  const name = await define(call);
  const remove = () => client.call('DELETE', `/v1/vms/${name}?force=true`);
  try {
    await client.call('POST', `/v1/vms/${name}/start`);
  } catch (error) {
    if (values.rm) await remove().catch(() => {});
    throw error;
  }
  if (values.detach) return print(name);
  const stop = () => {
    say(`stopping ${name} (once more: by force)`);
    client.call('POST', `/v1/vms/${name}/stop`, {}).catch(() => {});
    process.once(
      'SIGINT',
      () => void client.call('POST', `/v1/vms/${name}/stop`, { force: true }).catch(() => {}),
    );
  };
  process.once('SIGINT', stop);
  for await (const chunk of client.stream(`/v1/vms/${name}/log?follow=true&tail=all`)) await writeOut(chunk);
  const { last_exit: exit } = await client.call<VmDescription>('GET', `/v1/vms/${name}`);
  if (values.rm) await remove();
  if (exit && 'message' in exit && exit.message) say(exit.message);
  return exit && 'code' in exit ? exit.code : 1;
}

async function list({ client, values }: Call): Promise<number> {
  const all = await client.call<VmDescription[]>('GET', '/v1/vms');
  const [key, value] = String(values.filter ?? '').split('=');
  if (values.filter !== undefined && (value === undefined || (key !== 'state' && key !== 'name'))) {
    throw new UsageError(`--filter ${values.filter}: state=STATE or name=NAME`);
  }
  const chosen = all.filter((vm) => {
    if (key === 'state') return vm.state === value;
    if (key === 'name') return vm.name.includes(value as string);
    return values.all === true || !['stopped', 'failed', 'broken'].includes(vm.state);
  });
  if (values.json) return printJson(chosen);
  if (values.quiet) return print(chosen.map((vm) => vm.name).join('\n'));
  const sizes = await sizesOf(client, chosen);
  const rows = chosen.map((vm, index) => [
    vm.name,
    vm.paused ? 'paused' : vm.state,
    vm.uptime_seconds === undefined ? '-' : humanDuration(vm.uptime_seconds * 1000),
    ...shownSizes(sizes[index]),
    vm.pid === undefined ? '-' : String(vm.pid),
    vm.error ?? vm.config?.payload?.kernel ?? vm.config?.payload?.firmware ?? '',
  ]);
  await writeOut(
    formatTable(['NAME', 'STATE', 'UP', 'VCPUS', 'MEMORY', 'PID', 'KERNEL'], rows, terminalWidth()),
  );
  return 0;
}

function shownSizes(sizes: Sizes | undefined): [string, string] {
  return sizes === undefined ? ['-', '-'] : [String(sizes.vcpus), humanBytes(sizes.memory)];
}

async function logs({ client, values, names }: Call): Promise<number> {
  const query = new URLSearchParams({
    file: values.process ? 'vmhost' : 'serial',
    ...(values.tail !== undefined && { tail: tailOf(values.tail) }),
    ...(values.follow === true && { follow: 'true' }),
  });
  for await (const chunk of client.stream(`/v1/vms/${names[0]}/log?${query}`)) await writeOut(chunk);
  return 0;
}

async function stats({ client, values, names }: Call): Promise<number> {
  const running = async () =>
    (await client.call<VmDescription[]>('GET', '/v1/vms')).filter((vm) => vm.pid !== undefined);
  const chosen = names.length > 0 ? names : (await running()).map((vm) => vm.name);
  const all = await Promise.all(
    chosen.map(async (name) => ({ name, ...(await client.call<VmStats>('GET', `/v1/vms/${name}/stats`)) })),
  );
  if (values.json) return printJson(all);
  const rows = all.map(({ name, state, cpu_seconds, memory_bytes }) => [
    name,
    state,
    cpu_seconds === undefined ? '-' : `${cpu_seconds.toFixed(2)} s`,
    memory_bytes === undefined ? '-' : humanBytes(memory_bytes),
  ]);
  await writeOut(formatTable(['NAME', 'STATE', 'CPU TIME', 'MEMORY'], rows, terminalWidth()));
  return 0;
}

async function events({ client, values }: Call): Promise<number> {
  let rest = '';
  for await (const chunk of client.stream('/v1/events')) {
    const records = (rest + chunk).split('\n\n');
    rest = records.pop() as string;
    for (const record of records) {
      const data = /^data: (.*)$/m.exec(record)?.[1];
      if (data !== undefined)
        await print(values.json ? printableJson(data) : describeEvent(JSON.parse(data)));
    }
  }
  return 0;
}

/** For a terminal. */
export function describeEvent({ time, vm, source, event, properties }: SupervisorEvent): string {
  const words = Object.entries(properties ?? {}).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  return printable([new Date(time).toISOString(), vm, source, event, ...words].join(' '));
}

/** Does it for each name, and goes on where one fails. */
async function each({ names }: Call, work: (name: string) => Promise<unknown>): Promise<number> {
  const results = await Promise.allSettled(names.map(work));
  for (const [index, result] of results.entries()) {
    if (result.status === 'fulfilled') await writeOut(`${decodeURIComponent(names[index] as string)}\n`);
    else say((result.reason as Error).message);
  }
  return results.every(({ status }) => status === 'fulfilled') ? 0 : 1;
}

/** Some of it may be of a guest, a file or another program. */
function say(message: string): void {
  process.stderr.write(`tsvmm: ${printable(message)}\n`);
}

function printJson(value: unknown): Promise<number> {
  return print(printableJson(writeJson(value, '  ')));
}

async function print(line: string): Promise<number> {
  if (line !== '') await writeOut(`${line}\n`);
  return 0;
}

function terminalWidth(): number {
  return process.stdout.isTTY ? process.stdout.columns : Number.POSITIVE_INFINITY;
}
