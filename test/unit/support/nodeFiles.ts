/** The addon's file functions by way of node:fs. Locks are kept by path, as other processes would see them. */
import { closeSync, fstatSync, openSync, readlinkSync, readSync, unlinkSync } from 'node:fs';
import type { NativeAddon } from '../../../src/native.ts';

export type NodeFiles = Pick<
  NativeAddon,
  'openFile' | 'closeFile' | 'readAt' | 'removeFile' | 'lockRange' | 'imageSize'
> & {
  /** Paths that are locked, with who locked them. */
  readonly locked: Map<string, number>;
  /** Descriptors that are open. */
  readonly open: Set<number>;
};

export function nodeFiles(): NodeFiles {
  const locked = new Map<string, number>();
  const open = new Set<number>();
  return {
    locked,
    open,
    openFile: (path, flags, mode) => {
      const fd = openSync(path, flags, mode);
      open.add(fd);
      return fd;
    },
    closeFile: (fd) => {
      for (const [path, owner] of locked) if (owner === fd) locked.delete(path);
      open.delete(fd);
      closeSync(fd);
    },
    readAt: (fd, offset, length) => {
      const bytes = new Uint8Array(length);
      return bytes.subarray(0, readSync(fd, bytes, 0, length, offset));
    },
    removeFile: unlinkSync,
    lockRange: (fd) => {
      const path = readlinkSync(`/proc/self/fd/${fd}`);
      if (locked.has(path)) return false;
      locked.set(path, fd);
      return true;
    },
    imageSize: (fd) => {
      const stat = fstatSync(fd);
      if (!stat.isFile())
        throw Object.assign(new Error('not a regular file or block device'), { code: 'EINVAL' });
      return stat.size;
    },
  };
}
