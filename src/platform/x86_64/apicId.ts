/** CPU topology and the APIC ids that encode it (SDM vol. 3 §9.9.1). */
import type { CpusConfig } from '../../config/vmConfig.ts';
import { PlatformError } from '../platformError.ts';

export interface Topology {
  readonly threadsPerCore: number;
  readonly coresPerDie: number;
  readonly diesPerPackage: number;
  /** APIC id bits to shift right for an id of the core, the die and the package. */
  readonly coreShift: number;
  readonly dieShift: number;
  readonly packageShift: number;
}

/** 255 is the broadcast id of xAPIC messages, which is how our interrupts are addressed. */
const APIC_ID_MAX = 254;

/** Without a configured topology all vCPUs are cores of one package, so APIC ids equal indexes. */
export function planTopology(cpus: CpusConfig): Topology {
  const { topology } = cpus;
  const threadsPerCore = topology?.threads_per_core ?? 1;
  const coresPerDie = topology?.cores_per_die ?? cpus.max_vcpus;
  const diesPerPackage = topology?.dies_per_package ?? 1;
  const coreShift = bitsFor(threadsPerCore);
  const dieShift = coreShift + bitsFor(coresPerDie);
  const packageShift = dieShift + bitsFor(diesPerPackage);
  return { threadsPerCore, coresPerDie, diesPerPackage, coreShift, dieShift, packageShift };
}

/** Logical processors of one package. */
export function threadsPerPackage(topology: Topology): number {
  return topology.threadsPerCore * topology.coresPerDie * topology.diesPerPackage;
}

/** The APIC id of vCPU `index`; threads count up fastest, packages slowest. */
export function apicId(index: number, topology: Topology): number {
  const { threadsPerCore, coresPerDie, diesPerPackage } = topology;
  const thread = index % threadsPerCore;
  const core = Math.floor(index / threadsPerCore) % coresPerDie;
  const die = Math.floor(index / (threadsPerCore * coresPerDie)) % diesPerPackage;
  const pkg = Math.floor(index / threadsPerPackage(topology));
  return thread | (core << topology.coreShift) | (die << topology.dieShift) | (pkg << topology.packageShift);
}

/**
 * The ids of vCPUs 0 to `count - 1`.
 * @throws PlatformError `ERR_TSVMM_CPUS` if one has no place in 8 bits.
 */
export function planApicIds(count: number, topology: Topology): number[] {
  const ids: number[] = [];
  for (let index = 0; index < count; index++) {
    ids.push(apicId(index, topology));
  }
  const highest = ids[count - 1] as number;
  if (highest > APIC_ID_MAX) {
    throw new PlatformError(
      'ERR_TSVMM_CPUS',
      `${count} vCPUs in this topology need APIC id ${highest}, and at most ${APIC_ID_MAX} is supported`,
    );
  }
  return ids;
}

/** Bits that tell `count` things apart. */
function bitsFor(count: number): number {
  return count <= 1 ? 0 : 32 - Math.clz32(count - 1);
}
