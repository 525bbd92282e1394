/** Rotates the logs of running VMs. */
import { copyFileSync, renameSync, rmSync, statSync, truncateSync } from 'node:fs';
import { VmFile } from '../api/vmhost/folderFiles.ts';

const ROTATED = [VmFile.serialLog, VmFile.log];
/** Bytes of a file before it is begun anew. */
const MAX_BYTES = 16 << 20;
/** Earlier pieces that are kept. */
const KEPT = 2;

/**
 * The writer keeps its descriptor, which appends: so the file is copied and cut. What it writes in between is lost.
 * @param folder of a VM
 */
export function rotateLogs(folder: string): void {
  for (const name of ROTATED) {
    const path = `${folder}/${name}`;
    try {
      if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) < MAX_BYTES) continue;
      rmSync(`${path}.${KEPT}`, { force: true });
      for (let i = KEPT - 1; i >= 1; i--) moveIfThere(`${path}.${i}`, `${path}.${i + 1}`);
      copyFileSync(path, `${path}.1`);
      truncateSync(path);
    } catch {
      // A full disk: the next time.
    }
  }
}

function moveIfThere(from: string, to: string): void {
  if (statSync(from, { throwIfNoEntry: false })) renameSync(from, to);
}
