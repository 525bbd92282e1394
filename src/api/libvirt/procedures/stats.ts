/** Statistics of many domains at once. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { KIB } from '../../../config/units.ts';
import { processUse } from '../../../supervisor/stats.ts';
import type { SupervisedVm } from '../../../supervisor/supervisedVm.ts';
import {
  blockFigures,
  type Counters,
  disksOf,
  interfacesOf,
  type NamedDisk,
  sizesOf,
} from '../deviceCounters.ts';
import { stateOf } from '../domainState.ts';
import type { Domains } from '../domains.ts';
import { Code, Domain, LibvirtError } from '../errors.ts';
import { currentMemoryKib, maxMemoryKib, maxVcpus, vcpusOf } from '../figures.ts';
import { processStat, vcpuThreads } from '../processFigures.ts';
import { Stats, StatsFlag } from '../signatures/constants.ts';
import { Remote } from '../signatures/index.ts';
import { vcpuState } from '../signatures/states.ts';
import type { Parameter } from '../types.ts';
import { vmOf } from './lifecycle.ts';
import { listDomains } from './lookup.ts';
import { type Procedure, procedure } from './procedure.ts';

/** Domains can be chosen by so much of `ListFilter`. */
const FILTERS = 0xff;
/** VMs that are asked at the same time. */
const ASKED_AT_ONCE = 8;
/** Of work on one client's question before others have their turn. */
const TURN_MS = 5;

class Parameters {
  readonly all: Parameter[] = [];

  int(field: string, int: number): void {
    this.all.push({ field, value: { int } });
  }

  uint(field: string, uint: number): void {
    this.all.push({ field, value: { uint } });
  }

  /** Nothing where there is no value. */
  ullong(field: string, value: bigint | number | undefined): void {
    if (value !== undefined) this.all.push({ field, value: { ullong: BigInt(value) } });
  }

  text(field: string, string: string): void {
    this.all.push({ field, value: { string } });
  }
}

interface Asked {
  readonly domains: Domains;
  readonly vm: SupervisedVm;
  /** Of the running machine, if it was asked and has answered. */
  readonly counters: Counters | undefined;
}

type Group = (to: Parameters, asked: Asked) => void;

const groups: readonly (readonly [bit: number, add: Group])[] = [
  [Stats.state, addState],
  [Stats.cpu, addCpu],
  [Stats.balloon, addBalloon],
  [Stats.vcpu, addVcpus],
  [Stats.interface, addInterfaces],
  [Stats.block, addDisks],
];
const KNOWN = groups.reduce((all, [bit]) => all | bit, 0);

function addState(to: Parameters, { vm }: Asked): void {
  const { state, reason } = stateOf(vm);
  to.int('state.state', state);
  to.int('state.reason', reason);
}

function addCpu(to: Parameters, { vm }: Asked): void {
  const stat = processStat(vm);
  if (stat === undefined) return;
  to.ullong('cpu.time', stat.userTime + stat.systemTime);
  to.ullong('cpu.user', stat.userTime);
  to.ullong('cpu.system', stat.systemTime);
}

function addBalloon(to: Parameters, { domains, vm }: Asked): void {
  const config = domains.configOf(vm);
  to.ullong('balloon.current', currentMemoryKib(config));
  to.ullong('balloon.maximum', maxMemoryKib(config));
  const use = vm.pid === undefined ? undefined : processUse(vm.pid);
  if (use) to.ullong('balloon.rss', Math.floor(use.memory_bytes / KIB));
}

function addVcpus(to: Parameters, { domains, vm }: Asked): void {
  const config = domains.configOf(vm);
  to.uint('vcpu.current', vcpusOf(config));
  to.uint('vcpu.maximum', maxVcpus(config));
  if (!vm.alive) return;
  const threads = vcpuThreads(vm);
  for (let vcpu = 0; vcpu < vcpusOf(config); vcpu++) {
    const thread = threads.get(vcpu);
    to.int(`vcpu.${vcpu}.state`, vcpuState(thread ? 'running' : 'offline'));
    if (thread) to.ullong(`vcpu.${vcpu}.time`, thread.userTime + thread.systemTime);
  }
}

function addInterfaces(to: Parameters, { domains, vm, counters }: Asked): void {
  const interfaces = interfacesOf(domains.configOf(vm), counters);
  to.uint('net.count', interfaces.length);
  for (const [index, { name, counters: of }] of interfaces.entries()) {
    to.text(`net.${index}.name`, name);
    for (const direction of ['rx', 'tx']) {
      to.ullong(`net.${index}.${direction}.bytes`, of[`${direction}_bytes`]);
      to.ullong(`net.${index}.${direction}.pkts`, of[`${direction}_frames`]);
      to.ullong(`net.${index}.${direction}.drop`, of[`${direction}_drops`]);
    }
  }
}

/** virDomainBlockStats' names, and those of the groups. */
const BLOCK_FIGURES = [
  ['rd_operations', 'rd.reqs'],
  ['rd_bytes', 'rd.bytes'],
  ['rd_total_times', 'rd.times'],
  ['wr_operations', 'wr.reqs'],
  ['wr_bytes', 'wr.bytes'],
  ['wr_total_times', 'wr.times'],
  ['flush_operations', 'fl.reqs'],
] as const;

function addDisks(to: Parameters, { domains, vm, counters }: Asked): void {
  const disks = disksOf(domains.configOf(vm), counters);
  to.uint('block.count', disks.length);
  for (const [index, disk] of disks.entries()) {
    to.text(`block.${index}.name`, disk.target);
    if (disk.disk.path) to.text(`block.${index}.path`, disk.disk.path);
    const figures = blockFigures(disk);
    for (const [name, key] of BLOCK_FIGURES) to.ullong(`block.${index}.${key}`, figures.get(name));
    addSizes(to, `block.${index}`, vm, disk);
  }
}

function addSizes(to: Parameters, prefix: string, vm: SupervisedVm, { disk }: NamedDisk): void {
  try {
    for (const [name, bytes] of Object.entries(sizesOf(vm, disk))) to.ullong(`${prefix}.${name}`, bytes);
  } catch {
    // It is not there now: its sizes are left out.
  }
}

/** Runs `work` on all, some at a time. Where nothing is waited for others have their turn all the same. */
async function eachOf<T, R>(all: readonly T[], work: (one: T) => Promise<R>): Promise<R[]> {
  const results: R[] = new Array(all.length);
  let next = 0;
  let turnBegan = performance.now();
  const lane = async () => {
    while (next < all.length) {
      const at = next++;
      results[at] = await work(all[at] as T);
      if (performance.now() - turnBegan < TURN_MS) continue;
      await nextTurn();
      turnBegan = performance.now();
    }
  };
  await Promise.all(Array.from({ length: Math.min(ASKED_AT_ONCE, all.length) }, lane));
  return results;
}

export const statsProcedures: readonly Procedure[] = [
  procedure(Remote.connectGetAllDomainStats, async ({ session, args: { doms, stats, flags } }) => {
    const { domains } = session;
    const unknown = (stats & ~KNOWN) >>> 0;
    if (unknown !== 0 && (flags & StatsFlag.enforce) !== 0) {
      throw new LibvirtError(
        Code.argumentUnsupported,
        Domain.domain,
        `argument unsupported: Stats types bits 0x${unknown.toString(16)} are not supported by this daemon`,
      );
    }
    const wanted = groups.filter(([bit]) => stats === 0 || (stats & bit) !== 0);
    const counting = wanted.some(([bit]) => bit === Stats.interface || bit === Stats.block);
    const asks = counting && (flags & StatsFlag.noWait) === 0;
    const vms =
      doms.length > 0 ? doms.map((each) => vmOf(session, each)) : listDomains(domains, flags & FILTERS);
    const retStats = await eachOf(vms, async (vm) => {
      const { disks, net } = domains.configOf(vm);
      const counted = asks && vm.alive && Boolean(disks?.length || net?.length);
      // One that does not answer is told of without them.
      const counters = counted
        ? await domains.call(vm, 'GET', 'vm.counters').catch(() => undefined)
        : undefined;
      const parameters = new Parameters();
      for (const [, add] of wanted)
        add(parameters, { domains, vm, counters: counters as Counters | undefined });
      return { dom: domains.domOf(vm), params: parameters.all };
    });
    return { retStats };
  }),
];
