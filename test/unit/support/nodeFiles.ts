/** The addon's file functions by way of node:fs. Locks are kept by path, as other processes would see them. */
import { closeSync, fstatSync, ftruncateSync, openSync, readlinkSync, readSync, unlinkSync } from 'node:fs';
import type { NativeAddon } from '../../../src/native.ts';

interface FileLock {
  readonly fd: number;
  readonly exclusive: boolean;
}

export type NodeFiles = Pick<
  NativeAddon,
  | 'openFile'
  | 'closeFile'
  | 'readAt'
  | 'removeFile'
  | 'setFileSize'
  | 'lockRange'
  | 'lockHolder'
  | 'fileId'
  | 'imageSize'
> & {
  /** Who has locked what, by path: one to write, or any number to read. */
  readonly locked: Map<string, FileLock[]>;
  /** Descriptors that are open. */
  readonly open: Set<number>;
};

export function nodeFiles(): NodeFiles {
  const locked = new Map<string, FileLock[]>();
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
      for (const [path, locks] of locked) {
        locked.set(
          path,
          locks.filter((lock) => lock.fd !== fd),
        );
      }
      open.delete(fd);
      closeSync(fd);
    },
    readAt: (fd, offset, length) => {
      const bytes = new Uint8Array(length);
      return bytes.subarray(0, readSync(fd, bytes, 0, length, offset));
    },
    removeFile: unlinkSync,
    setFileSize: ftruncateSync,
    lockRange: (fd, exclusive) => {
      const path = readlinkSync(`/proc/self/fd/${fd}`);
      const locks = locked.get(path) ?? [];
      if (locks.some((lock) => lock.exclusive || exclusive)) return false;
      locked.set(path, [...locks, { fd, exclusive }]);
      return true;
    },
    lockHolder: () => null,
    fileId: (fd) => {
      const { dev, ino } = fstatSync(fd);
      return `${dev}:${ino}`;
    },
    imageSize: (fd) => {
      const stat = fstatSync(fd);
      if (!stat.isFile())
        throw Object.assign(new Error('not a regular file or block device'), { code: 'EINVAL' });
      return stat.size;
    },
  };
}
