/**
 * What a guest was asked to have of memory by its devices, and whether it does: it plugs memory in and out, and fills
 * its balloon, when it is ready to, or never.
 */
import { PLAIN_ZONE_ID, virtioMemory } from '../config/memory.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import { balloon as balloonRecord } from '../devices/balloon.ts';
import { idOf } from '../devices/registry.ts';
import type { DeviceStatus } from './machineFigures.ts';
import { Waiting, type WaitLimits } from './waiting.ts';

/** The core sends no event when a guest has made progress: this is how often its status is polled. */
const LOOK_MS = 20;
/** A balloon's unit (virtio 1.2 §5.5.6), also of a guest with larger pages. */
const BALLOON_PAGE = 4096;

/** Of one device. In bytes. */
interface Goal {
  readonly device: string;
  readonly name: 'plugged' | 'ballooned';
  readonly bytes: number;
  /** As messages call it. */
  readonly what: string;
  /** What the guest has without the device. */
  readonly base: number;
}

/** What a goal is of. */
export type GoalKind = 'memory' | 'balloon';

/** The VM whose guest it is. */
export interface GoalsVm {
  /** Undefined once there is no VM. */
  readonly config: () => VmConfig | undefined;
  /** Of the machine, undefined while it does not answer. @throws VmmError if there is none */
  readonly status: () => DeviceStatus | undefined;
}

/**
 * Resolves when the guest has, of `kinds`, what it is asked to have; changes of that meanwhile count.
 * @param zone of which alone, not of all memory
 * @throws VmmError if that takes longer, or there is no machine any more; the signal's reason
 */
export async function waitForMemory(
  vm: GoalsVm,
  kinds: readonly GoalKind[],
  limits: WaitLimits,
  zone?: string,
): Promise<void> {
  const missed = () => missedOnes(vm, kinds, zone);
  let failure: unknown;
  const settled = () => {
    try {
      return missed()?.length === 0;
    } catch (error) {
      failure = error;
      return true;
    }
  };
  const waiting = new Waiting();
  const looking = setInterval(() => waiting.tell(), LOOK_MS);
  try {
    await waiting.until(settled, limits, () => lateText(missed() ?? []));
  } finally {
    clearInterval(looking);
  }
  if (failure !== undefined) throw failure;
}

type Missed = Goal & { readonly has: number };

/** Undefined while the machine does not answer. @throws VmmError if there is none */
function missedOnes(
  vm: GoalsVm,
  kinds: readonly GoalKind[],
  zone: string | undefined,
): readonly Missed[] | undefined {
  const status = vm.status();
  const config = vm.config();
  if (status === undefined || config === undefined) return undefined;
  const goals = [
    ...(kinds.includes('memory') ? memoryGoals(config, zone) : []),
    ...(kinds.includes('balloon') ? balloonGoals(config) : []),
  ];
  return goals
    .map((goal) => ({ ...goal, has: status[goal.device]?.[goal.name] ?? 0 }))
    .filter(({ has, bytes }) => has !== bytes);
}

function memoryGoals({ memory }: VmConfig, zone: string | undefined): Goal[] {
  const parts = virtioMemory(memory).filter(({ id }) => zone === undefined || id === zone);
  return parts.map(({ id, size, hotplugged_size: added = 0 }) => ({
    device: id,
    name: 'plugged',
    bytes: Number(added),
    what: id === PLAIN_ZONE_ID ? 'its memory' : `its memory zone ${id}`,
    base: Number(size),
  }));
}

function balloonGoals({ balloon }: VmConfig): Goal[] {
  if (!balloon) return [];
  const bytes = Math.floor(Number(balloon.size) / BALLOON_PAGE) * BALLOON_PAGE;
  const device = idOf(balloonRecord, balloon);
  return [{ device, name: 'ballooned', bytes, what: 'its balloon', base: 0 }];
}

function lateText(missed: readonly Missed[]): string {
  const whats = missed.map(
    ({ what, base, bytes, has }) => `brought ${what} to ${base + bytes} bytes (${base + has} so far)`,
  );
  return whats.length === 0 ? 'The machine has not answered' : `The guest has not ${whats.join(' or ')}`;
}
