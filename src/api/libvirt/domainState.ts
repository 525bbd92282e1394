/** A VM's state in libvirt's numbers. */
import type { StateReason, SupervisedVm } from '../../supervisor/supervisedVm.ts';
import { State } from './domains.ts';

interface DomainState {
  readonly state: number;
  readonly reason: number;
}

const UNKNOWN = 0;
/** virDomainRunningReason, virDomainPausedReason, virDomainShutoffReason. */
const RUNNING_REASONS: Readonly<Partial<Record<StateReason, number>>> = { booted: 1, resumed: 5 };
const PAUSED_BY_USER = 1;
const SHUTOFF_REASONS: Readonly<Partial<Record<StateReason, number>>> = {
  'power-off': 1,
  destroyed: 2,
  crashed: 3,
  failed: 6,
};

export function stateOf(vm: SupervisedVm): DomainState {
  const { reason } = vm;
  if (!vm.alive) return { state: State.shutoff, reason: SHUTOFF_REASONS[reason as StateReason] ?? UNKNOWN };
  if (vm.state === 'stopping') return { state: State.shutdown, reason: PAUSED_BY_USER };
  if (vm.paused) return { state: State.paused, reason: PAUSED_BY_USER };
  return { state: State.running, reason: RUNNING_REASONS[reason as StateReason] ?? UNKNOWN };
}
