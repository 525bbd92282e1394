/** The log of a VM's process: lines that a supervisor's user reads after something went wrong. */
import { openSync, writeSync } from 'node:fs';

export type Log = (line: string) => void;

const MODE = 0o644;

/** Appends to the file, each line with the VM's name and the time (UTC). @throws Error if it cannot be opened */
export function openVmhostLog(path: string, name: string): Log {
  const fd = openSync(path, 'a', MODE);
  return (line) => {
    const time = new Date().toISOString().slice(0, 19).replaceAll('-', '/').replace('T', ' ');
    try {
      writeSync(fd, `[vmhost:${name}] ${time} ${line}\n`);
    } catch {
      // A full disk must not end the VM.
    }
  };
}
