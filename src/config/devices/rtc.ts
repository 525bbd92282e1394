/** The clock that a guest reads by virtio (virtio-rtc). */
import { pciCommon } from './pci.ts';

export const rtcConfig = {
  type: 'object',
  name: 'RtcConfig',
  fields: { ...pciCommon },
} as const;
