/** The log of a VM's process. */
import type { NativeAddon } from '../../native.ts';
import { openOutput } from '../../vmm/namedFiles.ts';
import { printable } from '../../vmm/printable.ts';

export type Log = (line: string) => void;

const MODE = 0o644;

type LogFiles = Pick<NativeAddon, 'openFile' | 'writeNow'>;

/** Appends to the file, each line with the VM's name and the time (UTC). @throws Error if it cannot be opened */
export function openVmhostLog(native: LogFiles, path: string, name: string): Log {
  const fd = openOutput(native, path, MODE);
  const encoder = new TextEncoder();
  return (line) => {
    const time = new Date().toISOString().slice(0, 19).replaceAll('-', '/').replace('T', ' ');
    // What a full disk or a stuck reader does not take is lost: neither must end or stop the VM.
    native.writeNow(fd, encoder.encode(`[vmhost:${name}] ${time} ${printable(line)}\n`));
  };
}
