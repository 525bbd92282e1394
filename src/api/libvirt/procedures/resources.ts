/** vCPUs, memory, devices and what they count. */
import { statSync } from 'node:fs';
import { cpus } from 'node:os';
import { processUse } from '../../../supervisor/stats.ts';
import type { SupervisedVm } from '../../../supervisor/supervisedVm.ts';
import { targetOf } from '../domainDocument.ts';
import { stateOf } from '../domainState.ts';
import { invalidArgument, invalidOperation } from '../errors.ts';
import type { Session } from '../session.ts';
import { Remote } from '../signatures/index.ts';
import type { Dom, Parameter } from '../types.ts';
import { cpuMap } from './connect.ts';
import { vmOf } from './lifecycle.ts';
import { listDomains } from './lookup.ts';
import { type Procedure, procedure } from './procedure.ts';
import { cpuTime, currentMemoryKib, maxMemoryKib, vcpusOf } from './state.ts';

/** virDomainVcpuFlags, virDomainMemoryModFlags. */
const Affect = { live: 1, config: 2, maximum: 4 } as const;
const KIB = 1024;
/** virDomainMemoryStatTags. */
const MemoryStat = { actualBalloon: 6, rss: 7 } as const;
const VCPU_RUNNING = 1;
const VCPU_OFFLINE = 0;

type Counters = Readonly<Record<string, Readonly<Record<string, number>>>>;

function maxVcpus(vm: SupervisedVm): number {
  return vm.definition.config.cpus?.max_vcpus ?? vcpusOf(vm);
}

async function countersOf(session: Session, vm: SupervisedVm): Promise<Counters> {
  return (await session.domains.call(vm, 'GET', 'vm.counters')) as Counters;
}

/** By its target's name, or the path of its source. */
function diskOf(vm: SupervisedVm, name: string): { readonly index: number; readonly path: string } {
  const disks = vm.definition.config.disks ?? [];
  const index = disks.findIndex((disk, at) => targetOf(disk, at) === name || disk.path === name);
  const path = disks[index]?.path;
  if (typeof path !== 'string') throw invalidArgument(`disk '${name}' not found in domain`);
  return { index, path };
}

/** Devices count under the ids that they have in the running machine. */
function counted(counters: Counters, vm: SupervisedVm, index: number): Readonly<Record<string, number>> {
  return counters[vm.definition.config.disks?.[index]?.id ?? `_disk${index}`] ?? {};
}

interface BlockStats {
  readonly [name: string]: bigint;
}

async function blockStats(session: Session, given: Dom, name: string): Promise<BlockStats> {
  const vm = vmOf(session, given);
  const { index } = diskOf(vm, name);
  const values = counted(await countersOf(session, vm), vm, index);
  const of = (key: string) => BigInt(values[key] ?? -1);
  return {
    rd_bytes: of('read_bytes'),
    rd_operations: of('read_ops'),
    wr_bytes: of('write_bytes'),
    wr_operations: of('write_ops'),
    flush_operations: of('flush_ops'),
  };
}

async function setMemory(session: Session, given: Dom, kib: bigint, flags: number): Promise<void> {
  const vm = vmOf(session, given);
  const { name, config, policy } = vm.definition;
  const max = maxMemoryKib(vm);
  if (flags & Affect.maximum)
    throw invalidOperation('the maximum memory of a domain is set by its definition');
  if (kib > max) throw invalidArgument(`cannot set memory higher than max memory ${max}`);
  if (!config.balloon) throw invalidOperation('the domain has no balloon');
  const size = Number(max - kib) * KIB;
  const live = (flags & Affect.live) !== 0 || (flags & Affect.config) === 0;
  if (live && vm.alive) await session.domains.call(vm, 'PUT', 'vm.resize', { desired_balloon: size });
  else if (flags & Affect.live) throw invalidOperation('domain is not running');
  if (!(flags & Affect.config) && vm.alive) return;
  session.domains.redefine(name, { config: { ...config, balloon: { ...config.balloon, size } }, policy });
}

function setVcpus(session: Session, given: Dom, count: number, flags: number): void {
  const vm = vmOf(session, given);
  const { name, config, policy } = vm.definition;
  if (vm.alive && !(flags & Affect.config))
    throw invalidOperation('vCPUs cannot be added to a domain that runs yet');
  const max = maxVcpus(vm);
  const maximum = (flags & Affect.maximum) !== 0;
  if (!maximum && count > max)
    throw invalidArgument(`requested vcpus is greater than max allowable vcpus: ${count} > ${max}`);
  if (count < 1) throw invalidArgument('at least one vcpu is needed');
  const boot = maximum ? Math.min(vcpusOf(vm), count) : count;
  const changed = { ...config.cpus, boot_vcpus: boot, max_vcpus: maximum ? count : max };
  session.domains.redefine(name, { config: { ...config, cpus: changed }, policy });
}

export const resourceProcedures: readonly Procedure[] = [
  procedure(Remote.domainGetMaxVcpus, ({ session, args }) => ({
    num: maxVcpus(vmOf(session, args.dom)),
  })),
  procedure(Remote.domainGetVcpusFlags, ({ session, args: { dom: given, flags } }) => {
    const vm = vmOf(session, given);
    if (flags & Affect.live && !vm.alive) throw invalidOperation('domain is not running');
    return { num: flags & Affect.maximum ? maxVcpus(vm) : vcpusOf(vm) };
  }),
  procedure(Remote.domainGetVcpus, ({ session, args }) => {
    const vm = vmOf(session, args.dom);
    if (!vm.alive) throw invalidOperation('domain is not running');
    const count = Math.min(vcpusOf(vm), Math.max(args.maxinfo, 0));
    const total = cpuTime(vm);
    const info = Array.from({ length: count }, (_, number) => ({
      number,
      state: vm.paused ? VCPU_OFFLINE : VCPU_RUNNING,
      cpu_time: number === 0 ? total : 0n,
      cpu: -2,
    }));
    return { info, cpumaps: maps(count, args.maplen) };
  }),
  procedure(Remote.domainGetVcpuPinInfo, ({ session, args }) => {
    const count = Math.min(vcpusOf(vmOf(session, args.dom)), Math.max(args.ncpumaps, 0));
    return { cpumaps: maps(count, args.maplen), num: count };
  }),
  procedure(Remote.domainSetVcpus, ({ session, args }) => setVcpus(session, args.dom, args.nvcpus, 0), {
    writes: true,
  }),
  procedure(
    Remote.domainSetVcpusFlags,
    ({ session, args }) => setVcpus(session, args.dom, args.nvcpus, args.flags),
    { writes: true },
  ),
  procedure(Remote.domainGetMaxMemory, ({ session, args }) => ({
    memory: maxMemoryKib(vmOf(session, args.dom)),
  })),
  procedure(
    Remote.domainSetMemory,
    ({ session, args }) => setMemory(session, args.dom, args.memory, Affect.live),
    { writes: true },
  ),
  procedure(
    Remote.domainSetMemoryFlags,
    ({ session, args }) => setMemory(session, args.dom, args.memory, args.flags),
    { writes: true },
  ),
  procedure(Remote.domainMemoryStats, ({ session, args }) => {
    const vm = vmOf(session, args.dom);
    if (!vm.alive) throw invalidOperation('domain is not running');
    const rss = vm.pid === undefined ? undefined : processUse(vm.pid)?.memory_bytes;
    const stats = [
      { tag: MemoryStat.actualBalloon, val: currentMemoryKib(vm) },
      { tag: MemoryStat.rss, val: BigInt(Math.floor((rss ?? 0) / KIB)) },
    ];
    return { stats: stats.slice(0, args.maxStats) };
  }),
  procedure(Remote.domainGetCpuStats, ({ session, args: { dom: given, nparams, start_cpu, ncpus } }) => {
    const vm = vmOf(session, given);
    if (!vm.alive) throw invalidOperation('domain is not running');
    if (start_cpu >= 0) {
      // Which host CPU a vCPU ran on is not counted.
      return { params: [], nparams: ncpus === 0 ? cpus().length : 0 };
    }
    const params: Parameter[] = [{ field: 'cpu_time', value: { ullong: cpuTime(vm) } }];
    return { params: nparams === 0 ? [] : params, nparams: params.length };
  }),
  procedure(Remote.domainGetBlockInfo, ({ session, args }) => {
    const { path } = diskOf(vmOf(session, args.dom), args.path);
    const { size, blocks } = statSync(path);
    return { allocation: BigInt(blocks) * 512n, capacity: BigInt(size), physical: BigInt(size) };
  }),
  procedure(Remote.domainBlockStats, async ({ session, args }) => {
    const stats = await blockStats(session, args.dom, args.path);
    return {
      rd_req: stats.rd_operations ?? -1n,
      rd_bytes: stats.rd_bytes ?? -1n,
      wr_req: stats.wr_operations ?? -1n,
      wr_bytes: stats.wr_bytes ?? -1n,
      errs: -1n,
    };
  }),
  procedure(Remote.domainBlockStatsFlags, async ({ session, args }) => {
    const stats = await blockStats(session, args.dom, args.path);
    const params = Object.entries(stats).map(([field, llong]) => ({ field, value: { llong } }));
    return { params: args.nparams === 0 ? [] : params, nparams: params.length };
  }),
  procedure(Remote.connectGetAllDomainStats, ({ session, args: { doms, stats, flags } }) => {
    const vms =
      doms.length > 0 ? doms.map((each) => vmOf(session, each)) : listDomains(session.domains, flags & 0xff);
    return { retStats: vms.map((vm) => ({ dom: session.domains.domOf(vm), params: statsOf(vm, stats) })) };
  }),
];

/** Every host CPU for each vCPU. */
function maps(count: number, length: number): Uint8Array {
  if (length <= 0) return new Uint8Array();
  const one = new Uint8Array(length);
  one.set(cpuMap(cpus().length).subarray(0, length));
  const all = new Uint8Array(count * length);
  for (let i = 0; i < count; i++) all.set(one, i * length);
  return all;
}

/** virDomainStatsTypes; 0 asks for all. */
const Stats = { state: 1, cpu: 2, balloon: 4, vcpu: 8, interface: 16, block: 32 } as const;

function statsOf(vm: SupervisedVm, asked: number): Parameter[] {
  const wants = (group: number) => asked === 0 || (asked & group) !== 0;
  const { state, reason } = stateOf(vm);
  const { disks = [], net = [] } = vm.definition.config;
  const params: Parameter[] = [];
  const add = (field: string, value: Parameter['value']) => params.push({ field, value });
  if (wants(Stats.state)) {
    add('state.state', { int: state });
    add('state.reason', { int: reason });
  }
  if (wants(Stats.cpu) && vm.alive) add('cpu.time', { ullong: cpuTime(vm) });
  if (wants(Stats.balloon)) {
    add('balloon.current', { ullong: currentMemoryKib(vm) });
    add('balloon.maximum', { ullong: maxMemoryKib(vm) });
  }
  if (wants(Stats.vcpu)) {
    add('vcpu.current', { uint: vcpusOf(vm) });
    add('vcpu.maximum', { uint: maxVcpus(vm) });
  }
  if (wants(Stats.interface)) add('net.count', { uint: net?.length ?? 0 });
  if (wants(Stats.block)) {
    add('block.count', { uint: disks?.length ?? 0 });
    for (const [index, disk] of (disks ?? []).entries()) {
      add(`block.${index}.name`, { string: targetOf(disk, index) });
      if (disk.path) add(`block.${index}.path`, { string: disk.path });
    }
  }
  return params;
}
