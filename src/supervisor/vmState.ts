/** The state of a supervised VM, and how it is described. */
import type { VmmExit } from '../vmm/events.ts';
import type { Definition } from './definition.ts';

export const VM_STATES = [
  'stopped',
  'starting',
  'running',
  'stopping',
  /** Ended by itself, and about to be started again. */
  'waiting',
  /** Ended by itself, and not started again. */
  'failed',
  /** Its process is there and does not answer. */
  'unresponsive',
  /** It does not run, and its definition cannot be read. */
  'broken',
] as const;
export type VmState = (typeof VM_STATES)[number];

/** Why a VM is in the state that it is in, if that is known. */
export type StateReason = 'booted' | 'paused' | 'resumed' | 'power-off' | 'destroyed' | 'crashed' | 'failed';

/** How a VM's last run ended, as its process told it, or did not. */
export type LastExit =
  | VmmExit
  | { readonly reason: 'start-failed'; readonly code: 1; readonly message: string }
  | { readonly reason: 'killed' };

export interface VmDescription {
  readonly name: string;
  readonly state: VmState;
  /** Its guest stands still until it is resumed. */
  readonly paused?: true;
  readonly pid?: number;
  readonly started_at?: string;
  readonly uptime_seconds?: number;
  readonly last_exit?: LastExit;
  /** Why it could not start, does not answer, or cannot be read. */
  readonly error?: string;
  readonly restarts: number;
  readonly folder: string;
  /** Absent where it cannot be read, as `error` says. */
  readonly config?: Definition['config'];
  readonly policy?: Definition['policy'];
}

export function hasFailed(exit: LastExit): boolean {
  return !('code' in exit) || exit.code !== 0;
}

/** @param stopping a stop was asked for; `forced`: by force */
export function reasonOfEnd(exit: LastExit, stopping: boolean, forced: boolean): StateReason {
  if (stopping && (forced || exit.reason !== 'power-off')) return 'destroyed';
  if (exit.reason === 'power-off' || exit.reason === 'reset') return 'power-off';
  if (exit.reason === 'panic') return 'crashed';
  return 'code' in exit && exit.reason !== 'vcpu-error' ? 'failed' : 'crashed';
}
