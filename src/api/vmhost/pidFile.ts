/** The file that names a VM's process. */
import { readFileSync, rmSync } from 'node:fs';
import { replaceFile } from './replaceFile.ts';

const MODE = 0o644;

/**
 * Replaces what an earlier process left.
 * @returns removes the file, unless another process has written its own meanwhile
 */
export function writePidFile(path: string): () => void {
  const content = String(process.pid);
  replaceFile(path, content, MODE);
  return () => {
    try {
      if (readFileSync(path, 'utf8') === content) rmSync(path);
    } catch {
      // Another process has removed it.
    }
  };
}
