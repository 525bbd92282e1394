/** The entropy device (virtio-rng). */
import { Descriptor } from '../boundary/cbor.ts';
import { VmmError } from '../vmm/errors.ts';
import { openEntropySource } from '../vmm/namedFiles.ts';
import { pciCommon } from './pci.ts';
import type { DeviceRecord, OpenContext } from './record.ts';

/** The kernel's own, which always answers. */
const DEFAULT_SOURCE = '/dev/urandom';

const rngConfig = {
  type: 'object',
  name: 'RngConfig',
  default: { src: DEFAULT_SOURCE },
  help: 'Entropy device (virtio-rng)',
  mainKey: 'src',
  fields: {
    ...pciCommon,
    src: { type: 'string', required: true, help: 'Source of random bytes' },
  },
} as const;

export const rng: DeviceRecord<'rng', 'rng', typeof rngConfig, Descriptor> = {
  name: 'rng',
  field: 'rng',
  schema: rngConfig,
  option: { kind: 'options', group: 'further', example: 'src=/dev/random' },
  ids: { fixed: '__rng' },
  listing: { called: 'entropy' },
  paths: { files: ['src'] },
  opening: {
    lifetime: 'machine',
    open: ({ src }, context) =>
      src === DEFAULT_SOURCE ? openSource(src, context) : openOtherSource(src, context),
  },
  specification: (_, fd) => ({ kind: 'rng', fd }),
};

async function openOtherSource(path: string, context: OpenContext): Promise<Descriptor> {
  await context.filesAnswer([path]);
  return openSource(path, context);
}

function openSource(path: string, { native, opened }: OpenContext): Descriptor {
  try {
    const fd = openEntropySource(native, path);
    opened.push(fd);
    return new Descriptor(fd);
  } catch (error) {
    throw new VmmError(`Cannot open the source of random bytes ${path}`, { cause: error });
  }
}
