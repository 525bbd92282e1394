/** A connection to a daemon, as programs use it. */
import { Code, LibvirtError } from '../libvirtError.ts';
import { ALL, Create, Define, ListFilter, Stats, StatsFlag } from '../signatures/constants.ts';
import { Remote } from '../signatures/index.ts';
import type { Dom } from '../types.ts';
import { LibvirtDomain } from './domain.ts';
import type { DomainEventKind, DomainEvents, EventOf, EventsOptions } from './domainEvents.ts';
import type { EventStream } from './eventStream.ts';
import type { CallOptions, RpcClient } from './rpcClient.ts';
import { flagsOf, type Parameters, parametersOf, versionText } from './values.ts';

/** Of what is chosen between, such as `active` and `inactive`, one has to be true of a domain if any is asked for. */
export interface DomainFilter {
  readonly active?: boolean | undefined;
  readonly inactive?: boolean | undefined;
  readonly persistent?: boolean | undefined;
  readonly transient?: boolean | undefined;
  readonly running?: boolean | undefined;
  readonly paused?: boolean | undefined;
  readonly shutOff?: boolean | undefined;
  readonly otherState?: boolean | undefined;
  readonly managedSave?: boolean | undefined;
  readonly noManagedSave?: boolean | undefined;
  readonly autostart?: boolean | undefined;
  readonly noAutostart?: boolean | undefined;
  readonly hasSnapshot?: boolean | undefined;
  readonly noSnapshot?: boolean | undefined;
  readonly hasCheckpoint?: boolean | undefined;
  readonly noCheckpoint?: boolean | undefined;
}

export interface ListOptions extends DomainFilter, CallOptions {}

export interface DefineOptions extends CallOptions {
  /** The document is compared with libvirt's schema. */
  readonly validate?: boolean | undefined;
}

export interface CreateOptions extends DefineOptions {
  readonly paused?: boolean | undefined;
  /** The domain ends with this connection. */
  readonly autoDestroy?: boolean | undefined;
}

export interface NodeInfo {
  /** Of the CPU. */
  readonly model: string;
  readonly memoryKib: number;
  readonly cpus: number;
  /** 0 where it is not known. */
  readonly mhz: number;
  readonly nodes: number;
  /** A node; `cores` and `threads` a socket and a core. */
  readonly sockets: number;
  readonly cores: number;
  readonly threads: number;
}

export interface DomainCapabilitiesOptions extends CallOptions {
  readonly emulator?: string | undefined;
  readonly arch?: string | undefined;
  readonly machine?: string | undefined;
  /** Such as `kvm`. */
  readonly virtType?: string | undefined;
}

export type StatsGroup =
  | 'state'
  | 'cpu'
  | 'balloon'
  | 'vcpu'
  | 'interface'
  | 'block'
  | 'perf'
  | 'iothread'
  | 'memory'
  | 'dirtyrate'
  | 'vm';

export interface StatsOptions extends DomainFilter, CallOptions {
  /** All unless given. */
  readonly groups?: readonly StatsGroup[] | undefined;
  /** Of these; of all that the filter leaves, unless given. */
  readonly domains?: readonly LibvirtDomain[] | undefined;
  /** Fails where a group is not there, rather than leaving it out. */
  readonly enforce?: boolean | undefined;
  /** Leaves out what would have to be waited for. */
  readonly noWait?: boolean | undefined;
}

export interface DomainStats {
  readonly domain: LibvirtDomain;
  /** Such as `cpu.time`, `block.0.rd.bytes`. */
  readonly stats: Parameters;
}

export type DomainEvent<K extends DomainEventKind = DomainEventKind> = EventOf<LibvirtDomain, K>;

/** Why a connection has ended. */
export interface CloseReason {
  /** `client`: it was closed by this side. */
  readonly reason: 'client' | 'daemon' | 'lost';
  /** Unless it was closed by this side. */
  readonly error?: LibvirtError;
}

/** How long the daemon may take to answer the close. */
const CLOSE_MS = 2_000;

/** What `connect` has found out. */
export interface Opened {
  readonly rpc: RpcClient;
  readonly events: DomainEvents<LibvirtDomain>;
  /** As the daemon was asked for it. */
  readonly uri: string;
  readonly secure: boolean;
  /** Resolves when the connection has ended. */
  readonly closed: Promise<CloseReason>;
}

/**
 * A connection. Any number of calls may be under way; each takes a `signal` and a `timeoutMs`. When it is lost, all
 * that waits for an answer is rejected, streams fail and events end.
 */
export class LibvirtConnection {
  /** Resolves when the connection has ended. Never rejects. */
  readonly closed: Promise<CloseReason>;
  /** Whether the connection cannot be read between here and the daemon. */
  readonly secure: boolean;
  /** What the daemon was asked for, such as `tsvmm:///system`. */
  readonly uri: string;
  readonly #rpc: RpcClient;
  readonly #events: DomainEvents<LibvirtDomain>;

  /** @internal */
  constructor({ rpc, events, uri, secure, closed }: Opened) {
    this.#rpc = rpc;
    this.#events = events;
    this.uri = uri;
    this.secure = secure;
    this.closed = closed;
  }

  /** Tells the daemon, and ends the connection whether it answers or not. Idempotent. */
  async close(): Promise<void> {
    await this.#rpc.call(Remote.connectClose, {}, { timeoutMs: CLOSE_MS }).catch(() => {});
    this.#rpc.close();
    await this.closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** What the daemon's driver calls itself, such as `QEMU`. */
  async type(options: CallOptions = {}): Promise<string> {
    return (await this.#rpc.call(Remote.connectGetType, {}, options)).type;
  }

  /** Of the hypervisor. */
  async version(options: CallOptions = {}): Promise<string> {
    return versionText((await this.#rpc.call(Remote.connectGetVersion, {}, options)).hv_ver);
  }

  /** Of libvirt, as the daemon speaks it. */
  async libraryVersion(options: CallOptions = {}): Promise<string> {
    return versionText((await this.#rpc.call(Remote.connectGetLibVersion, {}, options)).lib_ver);
  }

  async hostname(options: CallOptions = {}): Promise<string> {
    return (await this.#rpc.call(Remote.connectGetHostname, {}, options)).hostname;
  }

  async nodeInfo(options: CallOptions = {}): Promise<NodeInfo> {
    const { model, memory, ...counts } = await this.#rpc.call(Remote.nodeGetInfo, {}, options);
    const end = model.indexOf(0);
    const name = String.fromCharCode(...model.slice(0, end < 0 ? undefined : end).map((each) => each & 0xff));
    return { model: name, memoryKib: Number(memory), ...counts };
  }

  /** Bytes. */
  async freeMemory(options: CallOptions = {}): Promise<number> {
    return Number((await this.#rpc.call(Remote.nodeGetFreeMemory, {}, options)).freeMem);
  }

  /** Nanoseconds by what was done, such as `user` and `idle`. @param cpu of all unless given */
  async nodeCpuStats(
    cpu: number = ALL,
    options: CallOptions = {},
  ): Promise<Readonly<Record<string, number>>> {
    const args = { cpuNum: cpu, flags: 0 };
    const { nparams } = await this.#rpc.call(Remote.nodeGetCpuStats, { ...args, nparams: 0 }, options);
    return namedCounts((await this.#rpc.call(Remote.nodeGetCpuStats, { ...args, nparams }, options)).params);
  }

  /** KiB, such as `total` and `free`. @param cell of all unless given */
  async nodeMemoryStats(
    cell: number = ALL,
    options: CallOptions = {},
  ): Promise<Readonly<Record<string, number>>> {
    const args = { cellNum: cell, flags: 0 };
    const { nparams } = await this.#rpc.call(Remote.nodeGetMemoryStats, { ...args, nparams: 0 }, options);
    return namedCounts(
      (await this.#rpc.call(Remote.nodeGetMemoryStats, { ...args, nparams }, options)).params,
    );
  }

  /** Whether each of the host's CPUs is there and online. */
  async cpuMap(options: CallOptions = {}): Promise<boolean[]> {
    const args = { need_map: 1, need_online: 1, flags: 0 };
    const { cpumap, ret } = await this.#rpc.call(Remote.nodeGetCpuMap, args, options);
    const count = Math.min(Math.max(ret, 0), 8 * cpumap.length);
    return Array.from({ length: count }, (_, cpu) => ((cpumap[cpu >> 3] as number) & (1 << (cpu & 7))) !== 0);
  }

  /** The host's capabilities, a document. */
  async capabilities(options: CallOptions = {}): Promise<string> {
    return (await this.#rpc.call(Remote.connectGetCapabilities, {}, options)).capabilities;
  }

  /** What domains can have, a document. */
  async domainCapabilities(options: DomainCapabilitiesOptions = {}): Promise<string> {
    const { emulator, arch, machine, virtType } = options;
    const args = { emulatorbin: emulator, arch, machine, virttype: virtType, flags: 0 };
    return (await this.#rpc.call(Remote.connectGetDomainCapabilities, args, options)).capabilities;
  }

  /** The host's SMBIOS, a document. */
  async sysinfo(options: CallOptions = {}): Promise<string> {
    return (await this.#rpc.call(Remote.connectGetSysinfo, { flags: 0 }, options)).sysinfo;
  }

  /** vCPUs that a domain may have. @param type such as `kvm` */
  async maxVcpus(type?: string, options: CallOptions = {}): Promise<number> {
    return (await this.#rpc.call(Remote.connectGetMaxVcpus, { type }, options)).max_vcpus;
  }

  /** All domains unless a filter is given. */
  async listDomains(options: ListOptions = {}): Promise<LibvirtDomain[]> {
    const args = { need_results: 1, flags: flagsOf(ListFilter, options) };
    const { domains } = await this.#rpc.call(Remote.connectListAllDomains, args, options);
    return domains.map((dom) => this.#domain(dom));
  }

  /** @throws LibvirtError with code 42 if there is none */
  async lookupByName(name: string, options: CallOptions = {}): Promise<LibvirtDomain> {
    return this.#domain((await this.#rpc.call(Remote.domainLookupByName, { name }, options)).dom);
  }

  /** @param uuid with or without hyphens */
  async lookupByUuid(uuid: string, options: CallOptions = {}): Promise<LibvirtDomain> {
    if (!/^[0-9a-f]{32}$/i.test(uuid.replaceAll('-', ''))) {
      throw new LibvirtError(Code.invalidArgument, 13, `invalid argument: '${uuid}' is no uuid`);
    }
    return this.#domain((await this.#rpc.call(Remote.domainLookupByUuid, { uuid }, options)).dom);
  }

  /** By the id that a running domain has. */
  async lookupById(id: number, options: CallOptions = {}): Promise<LibvirtDomain> {
    return this.#domain((await this.#rpc.call(Remote.domainLookupById, { id }, options)).dom);
  }

  /** A document with the uuid of a domain that is there defines that one anew. */
  async defineDomain(xml: string, options: DefineOptions = {}): Promise<LibvirtDomain> {
    const args = { xml, flags: flagsOf(Define, options) };
    return this.#domain((await this.#rpc.call(Remote.domainDefineXmlFlags, args, options)).dom);
  }

  /** Starts a domain that is gone once it has ended. */
  async createDomain(xml: string, options: CreateOptions = {}): Promise<LibvirtDomain> {
    const args = { xml, flags: flagsOf(Create, options) };
    return this.#domain((await this.#rpc.call(Remote.domainCreateXml, args, options)).dom);
  }

  /** Starts what `save` has saved. @param path on the daemon's host */
  async restoreDomain(path: string, options: CallOptions = {}): Promise<void> {
    await this.#rpc.call(Remote.domainRestoreFlags, { from: path, dxml: undefined, flags: 0 }, options);
  }

  async domainStats(options: StatsOptions = {}): Promise<DomainStats[]> {
    const { groups = [], domains = [] } = options;
    const stats = groups.reduce((bits, group) => bits | Stats[group], 0);
    const flags = flagsOf({ ...ListFilter, ...StatsFlag }, options);
    const doms = domains.map(({ name, uuid, id }) => ({ name, uuid, id }));
    const found = await this.#rpc.call(Remote.connectGetAllDomainStats, { doms, stats, flags }, options);
    return found.retStats.map(({ dom, params }) => ({
      domain: this.#domain(dom),
      stats: parametersOf(params),
    }));
  }

  /**
   * Events of domains from now on. What comes faster than it is read waits, up to `maxBuffered`; beyond that the stream
   * fails, so that nothing is lost unseen.
   * @throws LibvirtError if the daemon does not offer one of them
   */
  domainEvents<K extends DomainEventKind>(
    kinds: K | readonly K[],
    options: EventsOptions = {},
  ): Promise<EventStream<DomainEvent<K>>> {
    return this.#events.subscribe(typeof kinds === 'string' ? [kinds] : kinds, options);
  }

  #domain(dom: Dom): LibvirtDomain {
    return new LibvirtDomain(this.#rpc, dom);
  }
}

function namedCounts(
  list: readonly { readonly field: string; readonly value: bigint }[],
): Readonly<Record<string, number>> {
  return Object.fromEntries(list.map(({ field, value }) => [field, Number(value)]));
}
