/** The memory balloon (virtio-balloon). */
import { invalid } from '../rules.ts';
import { type Infer, once } from '../schema.ts';
import type { Uint64 } from '../uint64.ts';
import { pciCommon } from './pci.ts';

const balloonFields = once(
  () =>
    ({
      ...pciCommon,
      size: {
        type: 'integer',
        u64: true,
        size: true,
        required: true,
        help: 'Memory that the guest is to give up',
      },
      deflate_on_oom: {
        type: 'boolean',
        default: false,
        help: 'The guest may take memory back when it runs out',
      },
      free_page_reporting: {
        type: 'boolean',
        default: false,
        help: 'Take memory that the guest does not use',
      },
    }) as const,
);

export const balloonConfig = {
  type: 'object',
  name: 'BalloonConfig',
  mainKey: 'size',
  help: 'Memory balloon (virtio-balloon)',
  get fields() {
    return balloonFields();
  },
} as const;

export type BalloonConfig = Infer<typeof balloonConfig>;

/** @throws ConfigError */
export function validateBalloon(balloon: BalloonConfig, memorySize: Uint64): void {
  if (balloon.size >= memorySize) {
    throw invalid(`The balloon's size ${balloon.size} must be below the memory's, ${memorySize} bytes`);
  }
}
