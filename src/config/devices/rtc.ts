/** The clock that a guest reads by virtio (virtio-rtc). */
import { pciCommon } from './pci.ts';

export const rtcConfig = {
  type: 'object',
  name: 'RtcConfig',
  help: 'Clock for the guest to read (virtio-rtc)',
  fields: { ...pciCommon },
} as const;
