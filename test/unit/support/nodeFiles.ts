/** The addon's file functions by way of node:fs. Locks are kept by path, as other processes would see them. */
import {
  closeSync,
  existsSync,
  fstatSync,
  ftruncateSync,
  linkSync,
  openSync,
  readlinkSync,
  readSync,
  type Stats,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { FileKind, O_TMPFILE } from '../../../src/host/openFlags.ts';
import type { NativeAddon } from '../../../src/native.ts';

interface FileLock {
  readonly fd: number;
  readonly exclusive: boolean;
}

export type NodeFiles = Pick<
  NativeAddon,
  | 'fileAnswers'
  | 'openFile'
  | 'closeFile'
  | 'readAt'
  | 'lockHolder'
  | 'sendDatagram'
  | 'writeNow'
  | 'openRecordFifo'
  | 'writeRecord'
  | 'setFileSize'
  | 'lockRange'
  | 'unlockRange'
  | 'fileId'
  | 'fileIdAt'
  | 'imageSize'
  | 'claimSocket'
  | 'listenUnix'
  | 'placeSocket'
  | 'removeListeningSocket'
  | 'disownFile'
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
    fileAnswers: () => true,
    openFile: (path, flags, mode, kinds) => {
      const status = statSync(path, { throwIfNoEntry: false });
      const temporary = (flags & O_TMPFILE) === O_TMPFILE;
      if (status && !temporary && (kindOf(status) & kinds) === 0) {
        throw Object.assign(new Error(`${path} is no regular file`), { code: 'ERR_TSVMM_FILE_KIND' });
      }
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
    sendDatagram: () => {},
    writeNow: (fd, bytes) => writeSync(fd, bytes),
    openRecordFifo: () => null,
    writeRecord: (_fifo, bytes) => bytes.length,
    setFileSize: ftruncateSync,
    lockRange: (fd, exclusive) => {
      const path = readlinkSync(`/proc/self/fd/${fd}`);
      const locks = locked.get(path) ?? [];
      if (locks.some((lock) => lock.exclusive || exclusive)) return false;
      locked.set(path, [...locks, { fd, exclusive }]);
      return true;
    },
    lockHolder: () => null,
    unlockRange: (fd) => {
      for (const [path, locks] of locked) {
        locked.set(
          path,
          locks.filter((lock) => lock.fd !== fd),
        );
      }
    },
    // A plain file stands for the socket, and /dev/null for its lock.
    claimSocket: (path) => {
      if (existsSync(path)) throw Object.assign(new Error(`EEXIST ${path}`), { code: 'EADDRINUSE' });
      const lock = openSync('/dev/null', 'r');
      open.add(lock);
      return { lock, lockId: '', name: `${path}.bound` };
    },
    listenUnix: (path) => {
      const listener = openSync(path, 'wx', 0o600);
      open.add(listener);
      return { listener, id: path };
    },
    placeSocket: (name, path) => {
      linkSync(name, path);
      unlinkSync(name);
      return path;
    },
    removeListeningSocket: (path, id) => {
      if (id !== '') unlinkSync(path);
    },
    disownFile: (fd) => {
      open.delete(fd);
    },
    fileId: (fd) => {
      const { dev, ino } = fstatSync(fd);
      return `${dev}:${ino}`;
    },
    fileIdAt: (path) => {
      const status = statSync(path, { throwIfNoEntry: false });
      return status ? `${status.dev}:${status.ino}` : null;
    },
    imageSize: (fd) => {
      const stat = fstatSync(fd);
      if (!stat.isFile())
        throw Object.assign(new Error('not a regular file or block device'), { code: 'EINVAL' });
      return stat.size;
    },
  };
}

function kindOf(status: Stats): number {
  if (status.isFile()) return FileKind.regular;
  if (status.isCharacterDevice()) return FileKind.character;
  return status.isFIFO() ? FileKind.fifo : 0;
}
