/** libvirt's numbers by the names that virsh prints. A number that is not known, from a newer daemon, is `unknown`. */

/** virDomainState, and for each the reasons of it. */
const STATES = [
  ['no state', ['unknown']],
  [
    'running',
    [
      'unknown',
      'booted',
      'migrated',
      'restored',
      'from snapshot',
      'unpaused',
      'migration canceled',
      'save canceled',
      'event wakeup',
      'crashed',
      'post-copy',
      'post-copy failed',
    ],
  ],
  ['blocked', ['unknown']],
  [
    'paused',
    [
      'unknown',
      'user',
      'migrating',
      'saving',
      'dumping',
      'I/O error',
      'watchdog',
      'from snapshot',
      'shutting down',
      'creating snapshot',
      'crashed',
      'starting up',
      'post-copy',
      'post-copy failed',
    ],
  ],
  ['in shutdown', ['unknown', 'user']],
  [
    'shut off',
    ['unknown', 'shutdown', 'destroyed', 'crashed', 'migrated', 'saved', 'failed', 'from snapshot', 'daemon'],
  ],
  ['crashed', ['unknown', 'panicked']],
  ['pmsuspended', ['unknown']],
] as const;

export type DomainState = (typeof STATES)[number][0] | 'unknown';
export type DomainStateReason = (typeof STATES)[number][1][number];

export function stateName(state: number): DomainState {
  return STATES[state]?.[0] ?? 'unknown';
}

export function reasonName(state: number, reason: number): DomainStateReason {
  return STATES[state]?.[1][reason] ?? 'unknown';
}

/** virDomainEventType, and for each the details of it. */
const LIFECYCLE = [
  ['defined', ['added', 'updated', 'renamed', 'from snapshot']],
  ['undefined', ['removed', 'renamed']],
  ['started', ['booted', 'migrated', 'restored', 'from snapshot', 'wakeup']],
  [
    'suspended',
    [
      'paused',
      'migrated',
      'I/O error',
      'watchdog',
      'restored',
      'from snapshot',
      'API error',
      'post-copy',
      'post-copy failed',
    ],
  ],
  ['resumed', ['unpaused', 'migrated', 'from snapshot', 'post-copy', 'post-copy failed']],
  ['stopped', ['shutdown', 'destroyed', 'crashed', 'migrated', 'saved', 'failed', 'from snapshot']],
  ['shutdown', ['finished', 'guest request', 'host request']],
  ['pmsuspended', ['memory', 'disk']],
  ['crashed', ['panicked', 'crash loaded']],
] as const;

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
