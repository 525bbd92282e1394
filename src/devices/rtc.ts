/** The clock that a guest reads by virtio (virtio-rtc). */
import { pciCommon } from './pci.ts';
import type { DeviceRecord } from './record.ts';

const rtcConfig = {
  type: 'object',
  name: 'RtcConfig',
  help: 'Clock for the guest to read (virtio-rtc)',
  fields: { ...pciCommon },
} as const;

export const rtc: DeviceRecord<'rtc', 'rtc', typeof rtcConfig> = {
  name: 'rtc',
  field: 'rtc',
  schema: rtcConfig,
  option: { kind: 'options', bare: true, group: 'further' },
  library: {
    name: 'rtc',
    expand: (given) => (given === true ? {} : given === false ? undefined : given),
  },
  ids: { fixed: '__rtc' },
  specification: () => ({ kind: 'rtc' }),
};
