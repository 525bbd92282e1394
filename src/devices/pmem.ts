/** Persistent memory (virtio-pmem). */
import type { Descriptor } from '../boundary/cbor.ts';
import { invalid } from '../config/rules.ts';
import { type Infer, once } from '../config/schema.ts';
import { isMultiple } from '../config/uint64.ts';
import { MIB } from '../config/units.ts';
import { pciCommon } from './pci.ts';
import type { DeviceRecord } from './record.ts';

/** A guest maps such memory by pages of this size. */
export const PMEM_ALIGNMENT: number = 2 * MIB;

const pmemFields = once(
  () =>
    ({
      ...pciCommon,
      file: {
        type: 'string',
        required: true,
        help: 'File or block device, or a folder for a temporary file',
      },
      size: {
        type: 'integer',
        u64: true,
        size: true,
        help: 'Size of the memory; all of the file unless given',
      },
      discard_writes: { type: 'boolean', default: false, help: 'Leave the file as it is' },
    }) as const,
);

const pmemConfig = {
  type: 'object',
  name: 'PmemConfig',
  mainKey: 'file',
  get fields() {
    return pmemFields();
  },
} as const;

export type PmemConfig = Infer<typeof pmemConfig>;

/** A file to be mapped. */
export interface PmemResource {
  readonly fd: Descriptor;
  /** Bytes of it, a multiple of 2 MiB. */
  readonly size: number;
}

const pmemList = { type: 'array', items: pmemConfig, help: 'Persistent memory (virtio-pmem)' } as const;

export const pmem: DeviceRecord<'pmem', 'pmem', typeof pmemList, PmemResource> = {
  name: 'pmem',
  field: 'pmem',
  schema: pmemList,
  option: { kind: 'list', group: 'memory', example: 'file=data.img,discard_writes=on' },
  library: {
    name: 'pmem',
    expand: (given: readonly unknown[]) =>
      given.map((one) => (typeof one === 'string' ? { file: one } : one)),
  },
  ids: { prefix: '_pmem' },
  paths: { files: ['file'] },
  listing: { called: 'persistent memory' },
  addition: { called: 'pmem device', help: 'persistent memory' },
  check: validatePmem,
  opening: {
    lifetime: 'machine',
    open: async (device, context) => (await import('./pmem/openPmem.ts')).openPmem(context, device),
  },
  // A BAR's size is a power of two, and more than the memory needs not.
  needs: { memory: ({ size }) => 2 ** Math.ceil(Math.log2(size)) },
  specification: ({ discard_writes }, { fd, size }) => ({
    kind: 'pmem',
    fd,
    size,
    discardWrites: discard_writes,
  }),
};

function validatePmem(pmem: PmemConfig): void {
  if (pmem.file === '') throw invalid('Persistent memory needs a file');
  if (pmem.size === undefined) return;
  if (pmem.size === 0 || !isMultiple(pmem.size, PMEM_ALIGNMENT)) {
    throw invalid(
      `The persistent memory ${pmem.file} has size ${pmem.size}, which is not a multiple of 2 MiB`,
    );
  }
}
