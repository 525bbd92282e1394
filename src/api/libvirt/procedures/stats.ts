/** Statistics of many domains at once. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { KIB } from '../../../config/units.ts';
import type { VmConfigInput } from '../../../config/vmConfig.ts';
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
  readonly vm: SupervisedVm;
  readonly config: VmConfigInput;
  /** Of the running machine, if it was asked and has answered. */
  readonly counters: Counters | undefined;
}

interface Group<T> {
  readonly bit: number;
  add(to: Parameters, asked: T): void;
}

const ofProcess: readonly Group<SupervisedVm>[] = [
  { bit: Stats.state, add: addState },
  { bit: Stats.cpu, add: addCpu },
];
const ofMachine: readonly Group<Asked>[] = [
  { bit: Stats.balloon, add: addBalloon },
  { bit: Stats.vcpu, add: addVcpus },
  { bit: Stats.interface, add: addInterfaces },
  { bit: Stats.block, add: addDisks },
];
const KNOWN = [...ofProcess, ...ofMachine].reduce((all, { bit }) => all | bit, 0);

function addState(to: Parameters, vm: SupervisedVm): void {
  const { state, reason } = stateOf(vm);
  to.int('state.state', state);
  to.int('state.reason', reason);
}

function addCpu(to: Parameters, vm: SupervisedVm): void {
  const stat = processStat(vm);
  if (stat === undefined) return;
  to.ullong('cpu.time', stat.userTime + stat.systemTime);
  to.ullong('cpu.user', stat.userTime);
  to.ullong('cpu.system', stat.systemTime);
}

function addBalloon(to: Parameters, { vm, config }: Asked): void {
  to.ullong('balloon.current', currentMemoryKib(config));
  to.ullong('balloon.maximum', maxMemoryKib(config));
  const use = vm.pid === undefined ? undefined : processUse(vm.pid);
  if (use) to.ullong('balloon.rss', Math.floor(use.memory_bytes / KIB));
}

function addVcpus(to: Parameters, { vm, config }: Asked): void {
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

function addInterfaces(to: Parameters, { config, counters }: Asked): void {
  const interfaces = interfacesOf(config, counters);
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

function addDisks(to: Parameters, { vm, config, counters }: Asked): void {
  const disks = disksOf(config, counters);
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

/** Undefined if it is not known: one broken definition is no reason to tell nothing of all others. */
function configOf(domains: Domains, vm: SupervisedVm): VmConfigInput | undefined {
  try {
    return domains.configOf(vm);
  } catch {
    return undefined;
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
    const isWanted = ({ bit }: { readonly bit: number }) => stats === 0 || (stats & bit) !== 0;
    const wanted = ofMachine.filter(isWanted);
    const counting = wanted.some(({ bit }) => bit === Stats.interface || bit === Stats.block);
    const asks = counting && (flags & StatsFlag.noWait) === 0;
    const vms =
      doms.length > 0 ? doms.map((each) => vmOf(session, each)) : listDomains(domains, flags & FILTERS);
    const retStats = await eachOf(vms, async (vm) => {
      const parameters = new Parameters();
      for (const group of ofProcess.filter(isWanted)) group.add(parameters, vm);
      const of = { dom: domains.domOf(vm), params: parameters.all };
      const config = configOf(domains, vm);
      if (config === undefined) return of;
      const counted = asks && vm.alive && Boolean(config.disks?.length || config.net?.length);
      // One that does not answer is told of without them.
      const counters = counted
        ? await domains.call(vm, 'GET', 'vm.counters').catch(() => undefined)
        : undefined;
      for (const group of wanted)
        group.add(parameters, { vm, config, counters: counters as Counters | undefined });
      return of;
    });
    return { retStats };
  }),
];
