/** The file that names a VM's process. */
import { rmSync } from 'node:fs';
import { readSmallFile } from '../../host/regularFile.ts';
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
      if (readSmallFile(path).toString() === content) rmSync(path);
    } catch {
      // It is somebody else's by now, or gone.
    }
  };
}
