/** The memory of a domain: its current size and its maximum. */
import { type Uint64, uint64 } from '../../../config/uint64.ts';
import { KIB } from '../../../config/units.ts';
import { processUse } from '../../../supervisor/stats.ts';
import type { SupervisedVm } from '../../../supervisor/supervisedVm.ts';
import { invalidArgument, invalidOperation } from '../errors.ts';
import { bootMemory, currentMemoryKib, givenMemory, kibOf, maxMemoryKib } from '../figures.ts';
import { checkFlags, impactOf } from '../impact.ts';
import { deviceOf, growthOf } from '../memorySizes.ts';
import type { Session } from '../session.ts';
import { Affect } from '../signatures/constants.ts';
import { Remote } from '../signatures/index.ts';
import type { Dom } from '../types.ts';
import { vmOf } from './lifecycle.ts';
import { type Procedure, procedure } from './procedure.ts';

const writes = { writes: true } as const;
/** virDomainMemoryStatTags. */
const MemoryStat = { actualBalloon: 6, rss: 7 } as const;

async function setMemory(session: Session, given: Dom, kib: bigint, flags: number): Promise<void> {
  const vm = vmOf(session, given);
  checkFlags('virDomainSetMemoryFlags', flags, Affect.live | Affect.config | Affect.maximum);
  const impact = impactOf(vm, flags);
  if (kib < 1n) throw invalidArgument('memory must be greater than zero');
  if (flags & Affect.maximum) {
    if (impact.live) throw invalidOperation('cannot resize the maximum memory on an active domain');
    return setMaxMemory(session, vm, kib);
  }
  if (impact.live) {
    const size = balloonSize(session.domains.configOf(vm), kib);
    await session.domains.call(vm, 'PUT', 'vm.resize', { desired_balloon: size });
    await session.domains.refresh(vm);
  }
  if (!impact.config) return;
  const { config } = vm.definition;
  session.domains.reconfigure(vm, {
    ...config,
    balloon: { ...config.balloon, size: balloonSize(config, kib) },
  });
}

/** Bytes that the balloon takes so that so much is left. */
function balloonSize(config: SupervisedVm['definition']['config'], kib: bigint): Uint64 {
  const given = kibOf(givenMemory(config));
  if (kib > given) {
    const more = kib > maxMemoryKib(config) ? 'attach-device' : 'update-memory-device';
    throw invalidArgument(`cannot set memory higher than max memory ${given}: more comes by ${more}`);
  }
  if (!config.balloon) throw invalidOperation('the domain has no balloon');
  return bytesOf(given - kib);
}

/** What the guest has stays, unless it is more than that, and so does a `<maxMemory>`. */
function setMaxMemory(session: Session, vm: SupervisedVm, kib: bigint): void {
  const { config } = vm.definition;
  if (config.memory?.zones?.length) throw invalidOperation('the memory of the domain is made of zones');
  const device = deviceOf(config);
  const boot = kib - kibOf(device?.size ?? 0);
  if (boot <= 0n) throw invalidArgument('max memory counts the virtio-mem device, and is no larger');
  const current = currentMemoryKib(config);
  const changed = {
    ...config,
    memory: { ...config.memory, size: bytesOf(boot), ...growthBeside(config, boot) },
  };
  const given = kibOf(givenMemory(changed));
  const left = current < given ? current : given;
  const balloon = config.balloon && { balloon: { ...config.balloon, size: bytesOf(given - left) } };
  session.domains.reconfigure(vm, { ...changed, ...balloon });
}

/** What ACPI may add to so much. @throws LibvirtError if that is more than it may be with all of that */
function growthBeside(
  config: SupervisedVm['definition']['config'],
  boot: bigint,
): { readonly hotplug_size?: Uint64 | null } {
  const growth = kibOf(growthOf(config));
  if (growth === 0n) return {};
  const left = kibOf(bootMemory(config)) + growth - boot;
  if (left < 0n) throw invalidArgument('cannot set initial memory size greater than the maximum memory size');
  return { hotplug_size: left === 0n ? null : bytesOf(left) };
}

function bytesOf(kib: bigint): Uint64 {
  const bytes = uint64(kib * BigInt(KIB));
  if (bytes === undefined) throw invalidArgument(`${kib} KiB are more than 64 bits of bytes hold`);
  return bytes;
}

export const memoryProcedures: readonly Procedure[] = [
  procedure(Remote.domainGetMaxMemory, ({ session, args }) => ({
    memory: maxMemoryKib(session.domains.configOf(vmOf(session, args.dom))),
  })),
  procedure(
    Remote.domainSetMaxMemory,
    ({ session, args }) => setMemory(session, args.dom, args.memory, Affect.maximum),
    writes,
  ),
  procedure(
    Remote.domainSetMemory,
    ({ session, args }) => setMemory(session, args.dom, args.memory, Affect.live),
    writes,
  ),
  procedure(
    Remote.domainSetMemoryFlags,
    ({ session, args }) => setMemory(session, args.dom, args.memory, args.flags),
    writes,
  ),
  procedure(Remote.domainMemoryStats, async ({ session, args }) => {
    const vm = vmOf(session, args.dom);
    const { memory_actual_size: actual } = await session.domains.info(vm);
    const rss = vm.pid === undefined ? undefined : processUse(vm.pid)?.memory_bytes;
    const stats = [
      { tag: MemoryStat.actualBalloon, val: kibOf(actual) },
      { tag: MemoryStat.rss, val: kibOf(rss ?? 0) },
    ];
    return { stats: stats.slice(0, args.maxStats) };
  }),
];
