/**
 * Files by names that people can put anything behind. To open a FIFO waits for a writer, and to read one
 * for what is written: a process with many VMs must do neither.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { MAX_SMALL_FILE } from '../config/limits.ts';

const { O_NOCTTY, O_NONBLOCK, O_RDONLY } = constants;

/** @returns a descriptor for reading @throws Error also if it is no regular file */
export function openRegular(path: string): number {
  const fd = openSync(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  throw new Error(`${path} is not a regular file`);
}

/** The content of a small file. @throws Error as openRegular, and if it has more than 1 MiB */
export function readSmallFile(path: string): Buffer {
  const fd = openRegular(path);
  try {
    if (fstatSync(fd).size > MAX_SMALL_FILE) throw new Error(`${path} has more than ${MAX_SMALL_FILE} bytes`);
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}
