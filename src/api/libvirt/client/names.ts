/** libvirt's numbers by the names that virsh prints. A number that is not known, from a newer daemon, is `unknown`. */
import { LIFECYCLE, STATES } from '../signatures/states.ts';

export type DomainState = (typeof STATES)[number][0] | 'unknown';
export type DomainStateReason = (typeof STATES)[number][1][number];

export function stateName(state: number): DomainState {
  return STATES[state]?.[0] ?? 'unknown';
}

export function reasonName(state: number, reason: number): DomainStateReason {
  return STATES[state]?.[1][reason] ?? 'unknown';
}

export type LifecycleEventName = (typeof LIFECYCLE)[number][0] | 'unknown';
export type LifecycleEventDetail = (typeof LIFECYCLE)[number][1][number] | 'unknown';

export function lifecycleNames(
  event: number,
  detail: number,
): { readonly event: LifecycleEventName; readonly detail: LifecycleEventDetail } {
  const [name, details] = LIFECYCLE[event] ?? (['unknown', []] as const);
  return { event: name, detail: details[detail] ?? 'unknown' };
}

/** A number by its place in a list. */
export function nameIn<const T extends readonly string[]>(
  names: T,
): (number: number) => T[number] | 'unknown' {
  return (number) => names[number] ?? 'unknown';
}
