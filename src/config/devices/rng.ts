/** The entropy device (virtio-rng). */
import type { Infer } from '../schema.ts';
import { pciCommon } from './pci.ts';

export const rngConfig = {
  type: 'object',
  name: 'RngConfig',
  default: { src: '/dev/urandom' },
  help: 'Entropy device (virtio-rng)',
  mainKey: 'src',
  fields: {
    ...pciCommon,
    src: { type: 'string', required: true, help: 'Source of random bytes' },
  },
} as const;

export type RngConfig = Infer<typeof rngConfig>;
