/** Bounded reads of a payload's headers: never the whole of it. */
import { fstatSync, readSync } from 'node:fs';
import { PlatformError } from '../platformError.ts';

/** A payload that can be looked into. */
export interface ImageFile {
  /** Bytes. */
  readonly size: number;
  /**
   * `length` bytes from `offset` on.
   * @throws PlatformError `ERR_TSVMM_KERNEL_INVALID` if they are not all inside the file.
   */
  read(offset: number, length: number): Uint8Array;
}

/** Enough for the headers of nearly every kernel, so that one read serves. */
const HEAD_SIZE = 4096;

/** Opens no more than the descriptor it is given, and leaves its file position alone. */
export function openImage(fd: number): ImageFile {
  const size = fstatSync(fd).size;
  const head = new Uint8Array(Math.min(size, HEAD_SIZE));
  readFully(fd, head, 0);
  return {
    size,
    read(offset, length) {
      checkInside(size, offset, length);
      if (offset + length <= head.length) {
        return head.subarray(offset, offset + length);
      }
      const bytes = new Uint8Array(length);
      readFully(fd, bytes, offset);
      return bytes;
    },
  };
}

/** @throws PlatformError if `[offset, offset + length)` is not inside a file of `size` bytes. */
export function checkInside(size: number, offset: number, length: number): void {
  if (length > size || offset > size - length) {
    throw truncated(size);
  }
}

function truncated(size: number): PlatformError {
  return new PlatformError(
    'ERR_TSVMM_KERNEL_INVALID',
    `The kernel image is truncated or corrupt: its headers point past its end at ${size} bytes`,
  );
}

function readFully(fd: number, bytes: Uint8Array, offset: number): void {
  let done = 0;
  while (done < bytes.length) {
    const count = readSync(fd, bytes, done, bytes.length - done, offset + done);
    if (count === 0) {
      throw truncated(offset + done);
    }
    done += count;
  }
}
