/** vCPUs: their number, the time that they used, and the host CPUs that they may run on. */
import { cpus } from 'node:os';
import type { VmConfigInput } from '../../../config/vmConfig.ts';
import { loadNative } from '../../../native.ts';
import type { SupervisedVm } from '../../../supervisor/supervisedVm.ts';
import { cpuMap, cpusOfMap, parseCpuList } from '../cpuSets.ts';
import { GUEST_MS } from '../domains.ts';
import { invalidArgument, invalidOperation } from '../errors.ts';
import { maxVcpus, vcpusOf } from '../figures.ts';
import { checkFlags, impactOf } from '../impact.ts';
import { processStat, vcpuThreads } from '../processFigures.ts';
import type { Session } from '../session.ts';
import { Affect, VCPU_GUEST } from '../signatures/constants.ts';
import { Remote } from '../signatures/index.ts';
import { MAX_CPU_MAPS } from '../signatures/resources.ts';
import { vcpuState } from '../signatures/states.ts';
import type { Dom, Parameter } from '../types.ts';
import { vmOf } from './lifecycle.ts';
import { type Procedure, procedure } from './procedure.ts';

const writes = { writes: true } as const;
/** virVcpuHostCpuState: a thread that is not there. */
const CPU_UNAVAILABLE = -2;

/** virDomainGetVcpusFlags asks for one of both. */
function configFor(session: Session, vm: SupervisedVm, flags: number): VmConfigInput {
  return impactOf(vm, flags).live ? session.domains.configOf(vm) : vm.definition.config;
}

async function setVcpus(session: Session, given: Dom, count: number, flags: number): Promise<void> {
  const vm = vmOf(session, given);
  checkFlags('virDomainSetVcpusFlags', flags, Affect.live | Affect.config | Affect.maximum);
  const { live, config: persistent } = impactOf(vm, flags);
  const maximum = (flags & Affect.maximum) !== 0;
  if (count < 1) throw invalidArgument('at least one vcpu is needed');
  if (live && maximum) throw invalidOperation("maximum vcpu count of a live domain can't be modified");
  // Both are looked at before either is changed.
  if (live) checkCount(count, maxVcpus(session.domains.configOf(vm)), ' for the live domain');
  if (persistent && !maximum) checkCount(count, maxVcpus(vm.definition.config), '');
  if (live) await setLiveVcpus(session, vm, count);
  if (!persistent) return;
  const { config } = vm.definition;
  const boot = maximum ? Math.min(vcpusOf(config), count) : count;
  const changed = { ...config.cpus, boot_vcpus: boot, max_vcpus: maximum ? count : maxVcpus(config) };
  session.domains.reconfigure(vm, { ...config, cpus: changed });
}

function checkCount(count: number, max: number, where: string): void {
  if (count <= max) return;
  throw invalidArgument(`requested vcpus is greater than max allowable vcpus${where}: ${count} > ${max}`);
}

/** Those that are too many the guest has to give up, which is waited for as long as libvirt does for QEMU. */
async function setLiveVcpus(session: Session, vm: SupervisedVm, count: number): Promise<void> {
  const { domains } = session;
  const fewer = count < vcpusOf(domains.configOf(vm));
  const sizes = { desired_vcpus: count, ...(fewer && { wait_ms: GUEST_MS }) };
  try {
    await domains.call(vm, 'PUT', 'vm.resize', sizes);
  } finally {
    await domains.refresh(vm);
  }
}

const hostCpus = () => cpus().map((_, cpu) => cpu);

/** Of each vCPU that there may ever be, those that it may run on. */
function definedAffinity(config: VmConfigInput): number[][] {
  return Array.from({ length: maxVcpus(config) }, (_, vcpu) => {
    const pinned = config.cpus?.affinity?.find((each) => each.vcpu === vcpu)?.host_cpus;
    return pinned ? [...pinned].sort((a, b) => a - b) : hostCpus();
  });
}

function liveAffinity(session: Session, vm: SupervisedVm): number[][] {
  const threads = vcpuThreads(vm);
  return definedAffinity(session.domains.configOf(vm)).map(
    (defined, vcpu) => parseCpuList(threads.get(vcpu)?.allowed ?? '') ?? defined,
  );
}

/** @throws LibvirtError if they are more than an answer may have */
function maps(affinity: readonly number[][], count: number, length: number): Uint8Array {
  const some = affinity.slice(0, Math.max(count, 0));
  const size = some.length * Math.max(length, 0);
  if (size > MAX_CPU_MAPS) throw invalidArgument(`maps of ${size} bytes, more than ${MAX_CPU_MAPS}`);
  const all = new Uint8Array(size);
  for (const [index, allowed] of some.entries())
    all.set(cpuMap(allowed, length), index * Math.max(length, 0));
  return all;
}

function pinVcpu(session: Session, given: Dom, vcpu: number, map: Uint8Array, flags: number): void {
  const vm = vmOf(session, given);
  checkFlags('virDomainPinVcpuFlags', flags, Affect.live | Affect.config);
  const { live, config: persistent } = impactOf(vm, flags);
  const host = new Set(hostCpus());
  const allowed = cpusOfMap(map).filter((cpu) => host.has(cpu));
  if (allowed.length === 0) throw invalidArgument('Empty cpu list for pinning');
  if (live) {
    const thread = vcpuThreads(vm).get(vcpu);
    if (thread === undefined) throw invalidArgument(`vcpu ${vcpu} is out of range of live cpu count`);
    loadNative().pinThread(thread.id, allowed);
  }
  if (!persistent) return;
  const { config } = vm.definition;
  if (vcpu >= maxVcpus(config))
    throw invalidArgument(`vcpu ${vcpu} is out of range of persistent cpu count ${maxVcpus(config)}`);
  const others = config.cpus?.affinity?.filter((each) => each.vcpu !== vcpu) ?? [];
  const everywhere = allowed.length === host.size;
  const affinity = [...others, ...(everywhere ? [] : [{ vcpu, host_cpus: allowed }])];
  affinity.sort((a, b) => a.vcpu - b.vcpu);
  const boot = { boot_vcpus: vcpusOf(config), max_vcpus: maxVcpus(config) };
  session.domains.reconfigure(vm, { ...config, cpus: { ...boot, ...config.cpus, affinity } });
}

export const vcpuProcedures: readonly Procedure[] = [
  procedure(Remote.domainGetMaxVcpus, ({ session, args }) => ({
    num: maxVcpus(session.domains.configOf(vmOf(session, args.dom))),
  })),
  procedure(Remote.domainGetVcpusFlags, ({ session, args: { dom: given, flags } }) => {
    const vm = vmOf(session, given);
    if (flags & VCPU_GUEST) throw invalidOperation("the guest's agent is not asked for vCPUs");
    const config = configFor(session, vm, flags);
    return { num: flags & Affect.maximum ? maxVcpus(config) : vcpusOf(config) };
  }),
  procedure(Remote.domainGetVcpus, ({ session, args }) => {
    const vm = vmOf(session, args.dom);
    if (!vm.alive) throw invalidOperation('cannot retrieve vcpu information on inactive domain');
    const threads = vcpuThreads(vm);
    const affinity = liveAffinity(session, vm);
    const count = Math.min(vcpusOf(session.domains.configOf(vm)), Math.max(args.maxinfo, 0));
    const info = Array.from({ length: count }, (_, number) => {
      const thread = threads.get(number);
      return {
        number,
        state: vcpuState(thread ? 'running' : 'offline'),
        cpu_time: thread ? BigInt(thread.userTime + thread.systemTime) : 0n,
        cpu: thread?.processor ?? CPU_UNAVAILABLE,
      };
    });
    return { info, cpumaps: maps(affinity, count, args.maplen) };
  }),
  procedure(Remote.domainGetVcpuPinInfo, ({ session, args }) => {
    const vm = vmOf(session, args.dom);
    const affinity = impactOf(vm, args.flags).live
      ? liveAffinity(session, vm)
      : definedAffinity(vm.definition.config);
    const num = Math.min(affinity.length, Math.max(args.ncpumaps, 0));
    return { cpumaps: maps(affinity, num, args.maplen), num };
  }),
  procedure(
    Remote.domainPinVcpu,
    ({ session, args }) => pinVcpu(session, args.dom, args.vcpu, args.cpumap, Affect.live),
    writes,
  ),
  procedure(
    Remote.domainPinVcpuFlags,
    ({ session, args }) => pinVcpu(session, args.dom, args.vcpu, args.cpumap, args.flags),
    writes,
  ),
  procedure(
    Remote.domainSetVcpus,
    ({ session, args }) => setVcpus(session, args.dom, args.nvcpus, Affect.live),
    writes,
  ),
  procedure(
    Remote.domainSetVcpusFlags,
    ({ session, args }) => setVcpus(session, args.dom, args.nvcpus, args.flags),
    writes,
  ),
  procedure(Remote.domainGetCpuStats, ({ session, args: { dom: given, nparams, start_cpu, ncpus } }) => {
    const vm = vmOf(session, given);
    const stat = processStat(vm);
    if (!vm.alive || !stat) throw invalidOperation('domain is not running');
    // On which host CPU the time was spent is not counted.
    if (start_cpu >= 0) return { params: [], nparams: ncpus === 0 ? cpus().length : 0 };
    const params: Parameter[] = [
      { field: 'cpu_time', value: { ullong: BigInt(stat.userTime + stat.systemTime) } },
      { field: 'user_time', value: { ullong: BigInt(stat.userTime) } },
      { field: 'system_time', value: { ullong: BigInt(stat.systemTime) } },
    ];
    return { params: nparams === 0 ? [] : params, nparams: params.length };
  }),
];
