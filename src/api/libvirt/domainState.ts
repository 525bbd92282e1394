/** A VM's state in libvirt's numbers. */
import type { SupervisedVm } from '../../supervisor/supervisedVm.ts';
import type { StateReason } from '../../supervisor/vmState.ts';
import { numbersOf, STATES } from './signatures/states.ts';

interface DomainState {
  readonly state: number;
  readonly reason: number;
}

const [, UNKNOWN] = numbersOf(STATES, 'running', 'unknown');
const [RUNNING, BOOTED] = numbersOf(STATES, 'running', 'booted');
const [, UNPAUSED] = numbersOf(STATES, 'running', 'unpaused');
const [PAUSED, PAUSED_BY_USER] = numbersOf(STATES, 'paused', 'user');
const [IN_SHUTDOWN, SHUT_DOWN_BY_USER] = numbersOf(STATES, 'in shutdown', 'user');
const [SHUT_OFF, AFTER_SHUTDOWN] = numbersOf(STATES, 'shut off', 'shutdown');
const RUNNING_REASONS: Readonly<Partial<Record<StateReason, number>>> = {
  booted: BOOTED,
  resumed: UNPAUSED,
};
const SHUT_OFF_REASONS: Readonly<Partial<Record<StateReason, number>>> = {
  'power-off': AFTER_SHUTDOWN,
  destroyed: numbersOf(STATES, 'shut off', 'destroyed')[1],
  crashed: numbersOf(STATES, 'shut off', 'crashed')[1],
  failed: numbersOf(STATES, 'shut off', 'failed')[1],
};

/** virDomainState. */
export const State = {
  running: RUNNING,
  paused: PAUSED,
  shutdown: IN_SHUTDOWN,
  shutoff: SHUT_OFF,
} as const;

export function stateOf(vm: SupervisedVm): DomainState {
  const { reason } = vm;
  if (!vm.alive) return { state: State.shutoff, reason: SHUT_OFF_REASONS[reason as StateReason] ?? UNKNOWN };
  if (vm.state === 'stopping') return { state: State.shutdown, reason: SHUT_DOWN_BY_USER };
  if (vm.paused) return { state: State.paused, reason: PAUSED_BY_USER };
  return { state: State.running, reason: RUNNING_REASONS[reason as StateReason] ?? UNKNOWN };
}
