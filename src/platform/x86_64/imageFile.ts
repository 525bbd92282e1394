/** Bounded reads of a payload's headers: never the whole of it. */
import { viewOf } from '../bytes.ts';
import { PlatformError } from '../platformError.ts';

/** A payload that can be looked into. */
export interface ImageFile {
  /** Bytes. */
  readonly size: number;
  /**
   * `length` bytes from `offset` on.
   * @throws PlatformError `ERR_TSVMM_KERNEL_INVALID` if they are not all inside the file.
   */
  read(offset: number, length: number): DataView;
}

/** pread(2): up to `length` bytes, fewer only at the end of the file. */
export type ReadAt = (fd: number, offset: number, length: number) => Uint8Array;

/** Enough for the headers of nearly every kernel, so that one read serves. */
const HEAD_SIZE = 4096;

/** A file of `size` bytes behind a descriptor, which stays the caller's. */
export function openImage(fd: number, size: number, readAt: ReadAt): ImageFile {
  const head = readFully(readAt, fd, 0, Math.min(size, HEAD_SIZE));
  return {
    size,
    read(offset, length) {
      checkInside(size, offset, length);
      if (offset + length <= head.byteLength) {
        return new DataView(head.buffer, head.byteOffset + offset, length);
      }
      return readFully(readAt, fd, offset, length);
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

function readFully(readAt: ReadAt, fd: number, offset: number, length: number): DataView {
  const bytes = readAt(fd, offset, length);
  if (bytes.length < length) {
    throw truncated(offset + bytes.length);
  }
  return viewOf(bytes);
}
