/** Opening the files behind persistent memory. Loaded only for a machine that has some. */
import { Descriptor } from '../../boundary/cbor.ts';
import type { NativeAddon } from '../../native.ts';
import { VmmError } from '../../vmm/errors.ts';
import { FileInUse, openMemory, openTemporaryMemory } from '../../vmm/namedFiles.ts';
import { PMEM_ALIGNMENT, type PmemConfig, type PmemResource } from '../pmem.ts';
import type { OpenContext } from '../record.ts';

/** Opens a file, or makes a temporary one in a folder. @throws VmmError */
export async function openPmem(
  { native, opened, filesAnswer }: Pick<OpenContext, 'native' | 'opened' | 'filesAnswer'>,
  pmem: PmemConfig,
): Promise<PmemResource> {
  await filesAnswer([pmem.file]);
  try {
    return openTemporary(native, pmem, opened) ?? openExisting(native, pmem, opened);
  } catch (error) {
    if (error instanceof VmmError) throw error;
    throw new VmmError(`Cannot use the persistent memory ${pmem.file}`, { cause: error });
  }
}

/** A file without a name, if `file` is a folder. Only a size tells how long it is to be. */
function openTemporary(native: NativeAddon, pmem: PmemConfig, opened: number[]): PmemResource | undefined {
  if (pmem.size === undefined) return undefined;
  let fd: number;
  try {
    fd = openTemporaryMemory(native, pmem.file);
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOTDIR') return undefined;
    throw error;
  }
  opened.push(fd);
  if (typeof pmem.size === 'bigint') {
    throw new VmmError(
      `The persistent memory ${pmem.file} of ${pmem.size} bytes is more than any machine can have`,
      { kind: 'invalid' },
    );
  }
  native.setFileSize(fd, pmem.size);
  return { fd: new Descriptor(fd), size: pmem.size };
}

function openExisting(native: NativeAddon, pmem: PmemConfig, opened: number[]): PmemResource {
  const fd = openMemory(native, pmem.file, { write: !pmem.discard_writes });
  opened.push(fd);
  // Several VMs may share a file; but it must not be written to as a disk or truncated as a log meanwhile.
  if (!native.lockRange(fd, false, 0, 0)) {
    throw new FileInUse(
      `Cannot use the persistent memory ${pmem.file}: another process, or a disk of this VM, writes to it`,
    );
  }
  const available = native.imageSize(fd);
  // An access beyond the end of the file would be a bus error.
  if (pmem.size !== undefined && pmem.size > available) {
    throw new VmmError(
      `The persistent memory ${pmem.file} has ${available} bytes, fewer than its size ${pmem.size}`,
    );
  }
  const size = Number(pmem.size ?? available);
  if (size === 0 || size % PMEM_ALIGNMENT !== 0) {
    throw new VmmError(
      `The persistent memory ${pmem.file} has ${size} bytes, which is not a multiple of 2 MiB`,
      {
        kind: 'invalid',
      },
    );
  }
  return { fd: new Descriptor(fd), size };
}
