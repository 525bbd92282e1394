/** Files that back memory zones. */
import { guestMemory } from '../config/memory.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import type { NativeAddon } from '../native.ts';
import { VmmError } from './errors.ts';
import type { MachineContext } from './machine.ts';
import { FileInUse, openMemory, openTemporaryMemory } from './namedFiles.ts';

/**
 * Opens the file of each zone that has one, or makes one without a name in a folder.
 * @returns by zone; the caller closes
 * @throws VmmError with nothing left open, FileInUse if another process writes to one as a disk
 */
export async function openZoneFiles(
  { native, filesAnswer }: Pick<MachineContext, 'native' | 'filesAnswer'>,
  { memory }: VmConfig,
): Promise<Map<string, number>> {
  const opened = new Map<string, number>();
  try {
    for (const { id, file, size, hotplug_size, shared } of guestMemory(memory).zones) {
      if (file === undefined) continue;
      await filesAnswer([file]);
      try {
        opened.set(id, openZoneFile(native, file, { size: size + hotplug_size, shared }));
      } catch (error) {
        const text = `Cannot open file ${file} of the memory zone ${id}`;
        if (error instanceof FileInUse) throw new FileInUse(text, { cause: error });
        throw new VmmError(text, { cause: error });
      }
    }
    return opened;
  } catch (error) {
    for (const fd of opened.values()) native.closeFile(fd);
    throw error;
  }
}

function openZoneFile(
  native: NativeAddon,
  file: string,
  { size, shared }: { readonly size: number; readonly shared: boolean },
): number {
  const folder = openFolder(native, file);
  // What is not shared is written to copies of the file's pages.
  const fd = folder ?? openMemory(native, file, { write: shared });
  try {
    if (folder !== undefined) native.setFileSize(fd, size);
    // Several VMs may share it, but not with one whose disk it is: a boot writes all over it.
    else if (!native.lockRange(fd, false, 0, 0)) {
      throw new FileInUse('Another process, or a disk of this VM, has it to write to');
    }
    return fd;
  } catch (error) {
    native.closeFile(fd);
    throw error;
  }
}

/** A file without a name, if `path` is that of a folder. */
function openFolder(native: NativeAddon, path: string): number | undefined {
  try {
    return openTemporaryMemory(native, path);
  } catch (error) {
    if ((error as { code?: string }).code !== 'ENOTDIR') throw error;
    return undefined;
  }
}
