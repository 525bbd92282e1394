/** Where a guest tells that its kernel failed (QEMU: docs/specs/pvpanic.rst). */
import type { DeviceRecord } from './record.ts';

const pvpanicSwitch = {
  type: 'boolean',
  default: false,
  help: 'Let the guest tell when its kernel fails',
} as const;

export const pvpanic: DeviceRecord<'pvpanic', 'pvpanic', typeof pvpanicSwitch> = {
  name: 'pvpanic',
  field: 'pvpanic',
  schema: pvpanicSwitch,
  option: { kind: 'switch', group: 'further' },
  library: { name: 'pvpanic' },
  ids: { fixed: '__pvpanic' },
  needs: { barSize: 4096 },
};
