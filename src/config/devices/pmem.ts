/** Persistent memory (virtio-pmem). */
import { invalid } from '../rules.ts';
import { type Infer, once } from '../schema.ts';
import { isMultiple } from '../uint64.ts';
import { pciCommon } from './pci.ts';

/** A guest maps such memory by pages of this size. */
export const PMEM_ALIGNMENT: number = 2 * 1024 * 1024;

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

export const pmemConfig = {
  type: 'object',
  name: 'PmemConfig',
  mainKey: 'file',
  get fields() {
    return pmemFields();
  },
} as const;

export type PmemConfig = Infer<typeof pmemConfig>;

/** @throws ConfigError */
export function validatePmem(pmem: PmemConfig): void {
  if (pmem.file === '') throw invalid('Persistent memory needs a file');
  if (pmem.size === undefined) return;
  if (pmem.size === 0 || !isMultiple(pmem.size, PMEM_ALIGNMENT)) {
    throw invalid(
      `The persistent memory ${pmem.file} has size ${pmem.size}, which is not a multiple of 2 MiB`,
    );
  }
}
