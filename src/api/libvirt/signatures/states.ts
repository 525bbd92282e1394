/**
 * libvirt's states and lifecycle events, by the names that virsh prints: the number of each is its place in its list.
 */

/** virDomainState, and for each the reasons of it. */
export const STATES = [
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

/** virDomainEventType, and for each the details of it. */
export const LIFECYCLE = [
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

/** virVcpuState. */
export const VCPU_STATES = ['offline', 'running', 'blocked'] as const;

export function vcpuState(name: (typeof VCPU_STATES)[number]): number {
  return VCPU_STATES.indexOf(name);
}

type Listed = readonly (readonly [name: string, details: readonly string[]])[];
type DetailOf<L extends Listed, N> = Extract<L[number], readonly [N, unknown]>[1][number];

/** The number of a name, and that of its reason or detail. */
export function numbersOf<const L extends Listed, const N extends L[number][0]>(
  list: L,
  name: N,
  detail: DetailOf<L, N>,
): readonly [number: number, detail: number] {
  const number = list.findIndex(([each]) => each === name);
  return [number, list[number]?.[1].indexOf(detail) ?? -1];
}
