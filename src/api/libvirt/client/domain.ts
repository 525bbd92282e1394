/** A domain of a connection. */
import { type InspectOptions, inspect } from 'node:util';
import { Code, LibvirtError } from '../libvirtError.ts';
import {
  AddressSource,
  Affect,
  BLOCK_RESIZE_BYTES,
  Channel,
  Console,
  Create,
  Destroy,
  Dump,
  Metadata,
  Save,
  Shutdown,
  Undefine,
  Xml,
} from '../signatures/constants.ts';
import { Remote } from '../signatures/index.ts';
import { VCPU_STATES } from '../signatures/states.ts';
import type { Dom } from '../types.ts';
import type { LibvirtStream } from './libvirtStream.ts';
import { type DomainState, type DomainStateReason, nameIn, reasonName, stateName } from './names.ts';
import type { CallOptions, RpcClient } from './rpcClient.ts';
import { countOf, flagsOf, type Parameters, parametersOf, unsigned } from './values.ts';

/**
 * Whether a change, or a question, is of the running machine, of the definition, or both; of what there is, unless
 * given.
 */
export interface AffectOptions extends CallOptions {
  readonly live?: boolean | undefined;
  readonly config?: boolean | undefined;
}

export interface MaximumOptions extends AffectOptions {
  /** The maximum rather than what is in use. */
  readonly maximum?: boolean | undefined;
}

export interface StartOptions extends CallOptions {
  readonly paused?: boolean | undefined;
  /** The domain ends with this connection. */
  readonly autoDestroy?: boolean | undefined;
  readonly bypassCache?: boolean | undefined;
  /** Without what a managed save has kept. */
  readonly forceBoot?: boolean | undefined;
}

export type ShutdownMode = 'acpi' | 'agent' | 'initctl' | 'signal' | 'paravirt';

export interface ShutdownOptions extends CallOptions {
  /** How the guest is asked; the daemon chooses unless given. */
  readonly mode?: ShutdownMode | readonly ShutdownMode[] | undefined;
}

export interface UndefineOptions extends CallOptions {
  /** Together with what a managed save has kept. */
  readonly managedSave?: boolean | undefined;
  readonly snapshotsMetadata?: boolean | undefined;
  readonly nvram?: boolean | undefined;
  readonly keepNvram?: boolean | undefined;
  readonly checkpointsMetadata?: boolean | undefined;
}

export interface XmlOptions extends CallOptions {
  /** With what is secret; not on a read-only connection. */
  readonly secure?: boolean | undefined;
  /** As defined, also while it runs as something else. */
  readonly inactive?: boolean | undefined;
  readonly updateCpu?: boolean | undefined;
  readonly migratable?: boolean | undefined;
}

export interface ConsoleOptions extends CallOptions {
  /** An alias such as `serial0`; the first console, else the first serial port, unless given. */
  readonly device?: string | undefined;
  /** Takes the console from another client. */
  readonly force?: boolean | undefined;
  /** Only if the daemon can keep others away. */
  readonly safe?: boolean | undefined;
}

/** What metadata is meant: an element of any namespace is named by that. */
export type MetadataKind = 'title' | 'description' | { readonly namespace: string };

export interface SetMetadataOptions extends AffectOptions {
  /** The prefix of an element's namespace. */
  readonly prefix?: string | undefined;
}

export interface SaveOptions extends CallOptions {
  readonly bypassCache?: boolean | undefined;
  /** How it is to be when it is restored; as it was, unless given. */
  readonly running?: boolean | undefined;
  readonly paused?: boolean | undefined;
}

export interface CoreDumpOptions extends CallOptions {
  /** Ends the domain as crashed. */
  readonly crash?: boolean | undefined;
  /** The guest runs meanwhile. */
  readonly live?: boolean | undefined;
  readonly bypassCache?: boolean | undefined;
  readonly reset?: boolean | undefined;
  readonly memoryOnly?: boolean | undefined;
}

export interface DomainInfo {
  readonly state: DomainState;
  readonly maxMemoryKib: number;
  readonly memoryKib: number;
  readonly vcpus: number;
  /** Nanoseconds; 0 while it does not run. */
  readonly cpuTimeNs: number;
}

export interface VcpuInfo {
  readonly number: number;
  readonly state: 'offline' | 'running' | 'blocked' | 'unknown';
  readonly cpuTimeNs: number;
  /** Host CPU; undefined while it is on none, or is not known. */
  readonly cpu: number | undefined;
}

export type MemoryStatName =
  | 'swap_in'
  | 'swap_out'
  | 'major_fault'
  | 'minor_fault'
  | 'unused'
  | 'available'
  | 'actual'
  | 'rss'
  | 'usable'
  | 'last_update'
  | 'disk_caches'
  | 'hugetlb_pgalloc'
  | 'hugetlb_pgfail';

/** Bytes. */
export interface BlockInfo {
  readonly allocation: number;
  readonly capacity: number;
  readonly physical: number;
}

/** Undefined is not known. */
export interface TransferStats {
  readonly bytes: number | undefined;
  readonly packets: number | undefined;
  readonly errors: number | undefined;
  readonly dropped: number | undefined;
}

export interface InterfaceStats {
  readonly received: TransferStats;
  readonly sent: TransferStats;
}

export interface InterfaceAddresses {
  readonly name: string;
  readonly mac: string | undefined;
  readonly addresses: readonly {
    readonly family: 'ipv4' | 'ipv6' | 'unknown';
    readonly address: string;
    readonly prefix: number;
  }[];
}

export interface ControlInfo {
  readonly state: 'ok' | 'job' | 'occupied' | 'error' | 'unknown';
  readonly details: number;
  /** How long it has been so. */
  readonly milliseconds: number;
}

const MAX_MEMORY_STATS = 1_024;

const MEMORY_STATS: readonly MemoryStatName[] = [
  'swap_in',
  'swap_out',
  'major_fault',
  'minor_fault',
  'unused',
  'available',
  'actual',
  'rss',
  'usable',
  'last_update',
  'disk_caches',
  'hugetlb_pgalloc',
  'hugetlb_pgfail',
];
const vcpuState = nameIn(VCPU_STATES);
const controlState = nameIn(['ok', 'job', 'occupied', 'error']);
const family = nameIn(['ipv4', 'ipv6']);

/**
 * A domain, as it was when it was looked up: name, uuid and id. What is done goes by the uuid, whatever the domain is
 * called by then. An abort or a time-out ends the waiting; what was begun goes on.
 */
export class LibvirtDomain {
  readonly name: string;
  readonly uuid: string;
  readonly #rpc: RpcClient;
  #id: number;

  /** @internal */
  constructor(rpc: RpcClient, { name, uuid, id }: Dom) {
    this.#rpc = rpc;
    this.name = name;
    this.uuid = uuid;
    this.#id = id;
  }

  /** Of the run that was seen last; -1 where it did not run. */
  get id(): number {
    return this.#id;
  }

  get #dom(): Dom {
    return { name: this.name, uuid: this.uuid, id: this.#id };
  }

  async start(options: StartOptions = {}): Promise<void> {
    const args = { dom: this.#dom, flags: flagsOf(Create, options) };
    const { dom } = await this.#rpc.call(Remote.domainCreateWithFlags, args, options);
    this.#id = dom.id;
  }

  /** Asks the guest to shut down, and does not wait until it has. */
  async shutdown(options: ShutdownOptions = {}): Promise<void> {
    await this.#rpc.call(Remote.domainShutdownFlags, { dom: this.#dom, flags: modesOf(options) }, options);
  }

  async reboot(options: ShutdownOptions = {}): Promise<void> {
    await this.#rpc.call(Remote.domainReboot, { dom: this.#dom, flags: modesOf(options) }, options);
  }

  /** As a machine's reset button does. */
  async reset(options: CallOptions = {}): Promise<void> {
    await this.#rpc.call(Remote.domainReset, { dom: this.#dom, flags: 0 }, options);
  }

  /**
   * Ends the machine.
   * @param options.graceful asks first, and fails or waits as the daemon does where the guest does not answer
   */
  async destroy(options: CallOptions & { readonly graceful?: boolean | undefined } = {}): Promise<void> {
    const args = { dom: this.#dom, flags: flagsOf(Destroy, options) };
    await this.#rpc.call(Remote.domainDestroyFlags, args, options);
  }

  async suspend(options: CallOptions = {}): Promise<void> {
    await this.#rpc.call(Remote.domainSuspend, { dom: this.#dom }, options);
  }

  async resume(options: CallOptions = {}): Promise<void> {
    await this.#rpc.call(Remote.domainResume, { dom: this.#dom }, options);
  }

  /** Forgets the definition; a domain that runs does so until it ends. */
  async undefine(options: UndefineOptions = {}): Promise<void> {
    const args = { dom: this.#dom, flags: flagsOf(Undefine, options) };
    await this.#rpc.call(Remote.domainUndefineFlags, args, options);
  }

  async rename(name: string, options: CallOptions = {}): Promise<LibvirtDomain> {
    await this.#rpc.call(Remote.domainRename, { dom: this.#dom, new_name: name, flags: 0 }, options);
    return new LibvirtDomain(this.#rpc, { ...this.#dom, name });
  }

  async info(options: CallOptions = {}): Promise<DomainInfo> {
    const found = await this.#rpc.call(Remote.domainGetInfo, { dom: this.#dom }, options);
    return {
      state: stateName(found.state),
      maxMemoryKib: Number(found.maxMem),
      memoryKib: Number(found.memory),
      vcpus: found.nrVirtCpu,
      cpuTimeNs: Number(found.cpuTime),
    };
  }

  async state(
    options: CallOptions = {},
  ): Promise<{ readonly state: DomainState; readonly reason: DomainStateReason }> {
    const { state, reason } = await this.#rpc.call(
      Remote.domainGetState,
      { dom: this.#dom, flags: 0 },
      options,
    );
    return { state: stateName(state), reason: reasonName(state, reason) };
  }

  /** The domain's document. */
  async xml(options: XmlOptions = {}): Promise<string> {
    const args = { dom: this.#dom, flags: flagsOf(Xml, options) };
    return (await this.#rpc.call(Remote.domainGetXmlDesc, args, options)).xml;
  }

  async isActive(options: CallOptions = {}): Promise<boolean> {
    return (await this.#rpc.call(Remote.domainIsActive, { dom: this.#dom }, options)).active !== 0;
  }

  /** Whether it has a definition that stays when it has ended. */
  async isPersistent(options: CallOptions = {}): Promise<boolean> {
    return (await this.#rpc.call(Remote.domainIsPersistent, { dom: this.#dom }, options)).persistent !== 0;
  }

  /** Whether its definition was changed since it was started. */
  async isUpdated(options: CallOptions = {}): Promise<boolean> {
    return (await this.#rpc.call(Remote.domainIsUpdated, { dom: this.#dom }, options)).updated !== 0;
  }

  /** Such as `hvm`. */
  async osType(options: CallOptions = {}): Promise<string> {
    return (await this.#rpc.call(Remote.domainGetOsType, { dom: this.#dom }, options)).type;
  }

  async autostart(options: CallOptions = {}): Promise<boolean> {
    return (await this.#rpc.call(Remote.domainGetAutostart, { dom: this.#dom }, options)).autostart !== 0;
  }

  async setAutostart(autostart: boolean, options: CallOptions = {}): Promise<void> {
    const args = { dom: this.#dom, autostart: autostart ? 1 : 0 };
    await this.#rpc.call(Remote.domainSetAutostart, args, options);
  }

  /** What the daemon is busy with for it. */
  async controlInfo(options: CallOptions = {}): Promise<ControlInfo> {
    const args = { dom: this.#dom, flags: 0 };
    const { state, details, stateTime } = await this.#rpc.call(Remote.domainGetControlInfo, args, options);
    return { state: controlState(state), details, milliseconds: Number(stateTime) };
  }

  /** What the daemon warns of, such as that the domain is tainted. */
  async messages(options: CallOptions = {}): Promise<string[]> {
    return (await this.#rpc.call(Remote.domainGetMessages, { dom: this.#dom, flags: 0 }, options)).msgs;
  }

  /** Of the guest, by its agent. */
  async hostname(options: CallOptions = {}): Promise<string> {
    return (await this.#rpc.call(Remote.domainGetHostname, { dom: this.#dom, flags: 0 }, options)).hostname;
  }

  /** The guest's clock, by its agent. */
  async time(options: CallOptions = {}): Promise<Date> {
    const args = { dom: this.#dom, flags: 0 };
    const { seconds, nseconds } = await this.#rpc.call(Remote.domainGetTime, args, options);
    return new Date(Number(seconds) * 1_000 + nseconds / 1e6);
  }

  /** @returns undefined where it has none */
  async metadata(kind: MetadataKind, options: AffectOptions = {}): Promise<string | undefined> {
    const args = { dom: this.#dom, ...metadataOf(kind), flags: flagsOf(Affect, options) };
    try {
      return (await this.#rpc.call(Remote.domainGetMetadata, args, options)).metadata;
    } catch (error) {
      if (error instanceof LibvirtError && error.code === Code.noMetadata) return undefined;
      throw error;
    }
  }

  /** @param value text, or XML for an element; undefined removes it */
  async setMetadata(
    kind: MetadataKind,
    value: string | undefined,
    options: SetMetadataOptions = {},
  ): Promise<void> {
    const flags = flagsOf(Affect, options);
    const args = { dom: this.#dom, ...metadataOf(kind), metadata: value, key: options.prefix, flags };
    await this.#rpc.call(Remote.domainSetMetadata, args, options);
  }

  /** KiB. */
  async maxMemory(options: CallOptions = {}): Promise<number> {
    return Number((await this.#rpc.call(Remote.domainGetMaxMemory, { dom: this.#dom }, options)).memory);
  }

  /** @param kib what the balloon is to leave; with `maximum`, the maximum of the definition */
  async setMemory(kib: number, options: MaximumOptions = {}): Promise<void> {
    const args = { dom: this.#dom, memory: unsigned(kib, 'memory'), flags: flagsOf(Affect, options) };
    await this.#rpc.call(Remote.domainSetMemoryFlags, args, options);
  }

  /** KiB of memory, counts of faults, seconds of `last_update`. */
  async memoryStats(options: CallOptions = {}): Promise<Partial<Record<MemoryStatName, number>>> {
    const args = { dom: this.#dom, maxStats: MAX_MEMORY_STATS, flags: 0 };
    const { stats } = await this.#rpc.call(Remote.domainMemoryStats, args, options);
    const known = stats.filter(({ tag }) => MEMORY_STATS[tag] !== undefined);
    return Object.fromEntries(known.map(({ tag, val }) => [MEMORY_STATS[tag], Number(val)]));
  }

  async vcpuCount(options: MaximumOptions = {}): Promise<number> {
    const args = { dom: this.#dom, flags: flagsOf(Affect, options) };
    return (await this.#rpc.call(Remote.domainGetVcpusFlags, args, options)).num;
  }

  async setVcpus(count: number, options: MaximumOptions = {}): Promise<void> {
    const nvcpus = Number(unsigned(count, 'a number of vCPUs'));
    const args = { dom: this.#dom, nvcpus, flags: flagsOf(Affect, options) };
    await this.#rpc.call(Remote.domainSetVcpusFlags, args, options);
  }

  /** Of a domain that runs. */
  async vcpus(options: CallOptions = {}): Promise<VcpuInfo[]> {
    const args = { dom: this.#dom, maxinfo: (await this.info(options)).vcpus, maplen: 0 };
    const { info } = await this.#rpc.call(Remote.domainGetVcpus, args, options);
    return info.map(({ number, state, cpu_time, cpu }) => ({
      number,
      state: vcpuState(state),
      cpuTimeNs: Number(cpu_time),
      cpu: cpu < 0 ? undefined : cpu,
    }));
  }

  /** Of all host CPUs together, nanoseconds: `cpu_time`, `user_time`, `system_time`. */
  async cpuStats(options: CallOptions = {}): Promise<Parameters> {
    const args = { dom: this.#dom, start_cpu: -1, ncpus: 1, flags: 0 };
    const { nparams } = await this.#rpc.call(Remote.domainGetCpuStats, { ...args, nparams: 0 }, options);
    return parametersOf(
      (await this.#rpc.call(Remote.domainGetCpuStats, { ...args, nparams }, options)).params,
    );
  }

  /** @param disk the target's name, such as `vda`, or the path of its source */
  async blockInfo(disk: string, options: CallOptions = {}): Promise<BlockInfo> {
    const args = { dom: this.#dom, path: disk, flags: 0 };
    const { allocation, capacity, physical } = await this.#rpc.call(Remote.domainGetBlockInfo, args, options);
    return { allocation: Number(allocation), capacity: Number(capacity), physical: Number(physical) };
  }

  /** Such as `rd_bytes`, `rd_operations`, `wr_bytes`. */
  async blockStats(disk: string, options: CallOptions = {}): Promise<Parameters> {
    const args = { dom: this.#dom, path: disk, flags: 0 };
    const { nparams } = await this.#rpc.call(Remote.domainBlockStatsFlags, { ...args, nparams: 0 }, options);
    const { params } = await this.#rpc.call(Remote.domainBlockStatsFlags, { ...args, nparams }, options);
    return parametersOf(params);
  }

  /** @param bytes of a disk that is in use */
  async blockResize(disk: string, bytes: number, options: CallOptions = {}): Promise<void> {
    const args = { dom: this.#dom, disk, size: unsigned(bytes, 'a size'), flags: BLOCK_RESIZE_BYTES };
    await this.#rpc.call(Remote.domainBlockResize, args, options);
  }

  /** @param device the target's name, such as `vnet0` */
  async interfaceStats(device: string, options: CallOptions = {}): Promise<InterfaceStats> {
    const found = await this.#rpc.call(Remote.domainInterfaceStats, { dom: this.#dom, device }, options);
    const of = (way: 'rx' | 'tx'): TransferStats => ({
      bytes: countOf(found[`${way}_bytes`]),
      packets: countOf(found[`${way}_packets`]),
      errors: countOf(found[`${way}_errs`]),
      dropped: countOf(found[`${way}_drop`]),
    });
    return { received: of('rx'), sent: of('tx') };
  }

  async interfaceAddresses(
    options: CallOptions & { readonly source?: 'lease' | 'agent' | 'arp' | undefined } = {},
  ): Promise<InterfaceAddresses[]> {
    const args = { dom: this.#dom, source: AddressSource[options.source ?? 'lease'], flags: 0 };
    const { ifaces } = await this.#rpc.call(Remote.domainInterfaceAddresses, args, options);
    return ifaces.map(({ name, hwaddr, addrs }) => ({
      name,
      mac: hwaddr,
      addresses: addrs.map(({ type, addr, prefix }) => ({ family: family(type), address: addr, prefix })),
    }));
  }

  /** @param xml the device's element */
  async attachDevice(xml: string, options: AffectOptions = {}): Promise<void> {
    const args = { dom: this.#dom, xml, flags: flagsOf(Affect, options) };
    await this.#rpc.call(Remote.domainAttachDeviceFlags, args, options);
  }

  async detachDevice(xml: string, options: AffectOptions = {}): Promise<void> {
    const args = { dom: this.#dom, xml, flags: flagsOf(Affect, options) };
    await this.#rpc.call(Remote.domainDetachDeviceFlags, args, options);
  }

  async updateDevice(xml: string, options: AffectOptions = {}): Promise<void> {
    const args = { dom: this.#dom, xml, flags: flagsOf(Affect, options) };
    await this.#rpc.call(Remote.domainUpdateDeviceFlags, args, options);
  }

  /**
   * Saves the running machine into a file on the daemon's host, and ends it. `timeoutMs: Infinity` waits as long as
   * that takes.
   */
  async save(path: string, options: SaveOptions = {}): Promise<void> {
    const args = { dom: this.#dom, to: path, dxml: undefined, flags: flagsOf(Save, options) };
    await this.#rpc.call(Remote.domainSaveFlags, args, options);
  }

  /** As `save`, into a file of the daemon's, from which the next start goes on. */
  async managedSave(options: SaveOptions = {}): Promise<void> {
    const args = { dom: this.#dom, flags: flagsOf(Save, options) };
    await this.#rpc.call(Remote.domainManagedSave, args, options);
  }

  async hasManagedSave(options: CallOptions = {}): Promise<boolean> {
    const args = { dom: this.#dom, flags: 0 };
    return (await this.#rpc.call(Remote.domainHasManagedSaveImage, args, options)).result !== 0;
  }

  async removeManagedSave(options: CallOptions = {}): Promise<void> {
    await this.#rpc.call(Remote.domainManagedSaveRemove, { dom: this.#dom, flags: 0 }, options);
  }

  /** Writes the guest's memory into a file on the daemon's host. */
  async coreDump(path: string, options: CoreDumpOptions = {}): Promise<void> {
    const args = { dom: this.#dom, to: path, flags: flagsOf(Dump, options) };
    await this.#rpc.call(Remote.domainCoreDump, args, options);
  }

  /** Of what takes long, such as a save. */
  async abortJob(options: CallOptions = {}): Promise<void> {
    await this.#rpc.call(Remote.domainAbortJob, { dom: this.#dom }, options);
  }

  /** Sends a non-maskable interrupt. */
  async injectNmi(options: CallOptions = {}): Promise<void> {
    await this.#rpc.call(Remote.domainInjectNmi, { dom: this.#dom, flags: 0 }, options);
  }

  async openConsole(options: ConsoleOptions = {}): Promise<LibvirtStream> {
    const args = { dom: this.#dom, dev_name: options.device, flags: flagsOf(Console, options) };
    return (await this.#rpc.openStream(Remote.domainOpenConsole, args, options)).stream;
  }

  /** @param name of the channel's target; the first channel unless given */
  async openChannel(
    name?: string,
    options: CallOptions & { readonly force?: boolean | undefined } = {},
  ): Promise<LibvirtStream> {
    const args = { dom: this.#dom, name, flags: flagsOf(Channel, options) };
    return (await this.#rpc.openStream(Remote.domainOpenChannel, args, options)).stream;
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](_depth: number, options: InspectOptions): string {
    return `LibvirtDomain ${inspect(this.#dom, options)}`;
  }
}

function modesOf({ mode = [] }: ShutdownOptions): number {
  const modes = typeof mode === 'string' ? [mode] : mode;
  return modes.reduce((flags, each) => flags | Shutdown[each], 0);
}

function metadataOf(kind: MetadataKind): { readonly type: number; readonly uri: string | undefined } {
  if (typeof kind === 'string') return { type: Metadata[kind], uri: undefined };
  return { type: Metadata.element, uri: kind.namespace };
}
