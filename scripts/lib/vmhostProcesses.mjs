/** Processes of VMs. */
import fs from 'node:fs';

/**
 * Those below a supervisor's folder, and of its pool.
 *
 * @param {string} dir
 * @returns {number[]} their ids
 */
export function vmhostProcessesOf(dir) {
  return fs
    .readdirSync('/proc')
    .map(Number)
    .filter((pid) => {
      try {
        const words = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
        return words.includes('vmhost') && words.includes(dir);
      } catch {
        return false; // It ended meanwhile, or is no process.
      }
    });
}
