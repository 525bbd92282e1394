/** The memory balloon (virtio-balloon). */
import { memorySize } from '../config/memory.ts';
import { invalid } from '../config/rules.ts';
import { once } from '../config/schema.ts';
import { byteSize } from '../config/size.ts';
import { VmmError } from '../vmm/errors.ts';
import { pciCommon } from './pci.ts';
import type { DeviceRecord } from './record.ts';

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

export const balloon: DeviceRecord<'balloon', 'balloon', typeof balloonConfig> = {
  name: 'balloon',
  field: 'balloon',
  schema: balloonConfig,
  option: {
    kind: 'options',
    defaults: { size: 0 },
    group: 'further',
    example: 'size=256M,deflate_on_oom=on',
  },
  library: {
    name: 'balloon',
    expand: (given) =>
      typeof given === 'number' || typeof given === 'string' ? { size: byteSize(given) } : given,
  },
  listing: { called: 'balloon', backedBy: ({ size }, { bytes }) => bytes(size) },
  ids: { fixed: '__balloon' },
  check({ size, iommu }, { memory }) {
    if (iommu)
      throw invalid('A balloon cannot be behind an IOMMU: it names pages by their physical addresses');
    const bytes = memorySize(memory);
    if (size >= bytes) throw invalid(`The balloon's size ${size} must be below the memory's, ${bytes} bytes`);
  },
  specification: ({ size, deflate_on_oom, free_page_reporting }) => ({
    kind: 'balloon',
    // Less than the memory's, which is a machine's.
    size: Number(size),
    deflateOnOom: deflate_on_oom,
    freePageReporting: free_page_reporting,
  }),
  operations: {
    /** Asks the guest for a balloon of that many bytes. */
    resize: {
      async run(core, id, device, { memory }, [size = 0]) {
        const bytes = memorySize(memory);
        if (size >= bytes) {
          throw new VmmError(`A balloon of ${size} bytes would take all of the ${bytes} bytes of memory`, {
            code: 'ERR_TSVMM_CONFIG',
          });
        }
        await core.call(id, 'resize', { size });
        device.size = size;
      },
    },
  },
};
