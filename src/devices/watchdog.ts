/** The watchdog, which resets a machine whose guest does not feed it. */
import type { DeviceRecord } from './record.ts';

const watchdogSwitch = { type: 'boolean', default: false, help: 'Add a virtio watchdog' } as const;

export const watchdog: DeviceRecord<'watchdog', 'watchdog', typeof watchdogSwitch> = {
  name: 'watchdog',
  field: 'watchdog',
  schema: watchdogSwitch,
  option: { kind: 'switch', group: 'further' },
  library: { name: 'watchdog' },
  ids: { fixed: '__watchdog' },
  specification: () => ({ kind: 'watchdog' }),
};
