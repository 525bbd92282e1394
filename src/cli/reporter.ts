/** Log and event monitor. Loaded only when one of them is asked for. */
import { constants, fstatSync, openSync, writeSync } from 'node:fs';
import { VmmError } from '../vmm/errors.ts';
import { eventRecord } from '../vmm/eventRecord.ts';
import type { VmmEvent } from '../vmm/events.ts';
import type { PathOrFd, RunOptions } from './arguments.ts';

export interface Reporter {
  event(event: VmmEvent): void;
  warn(message: string): void;
  /** Shown to those who asked for more than warnings. */
  note(message: string): void;
}

const STDERR = 2;
const NANOSECONDS = 1_000_000_000n;

/** @throws VmmError if a file cannot be opened */
export function openReporter({ logFile, eventMonitor, verbosity }: RunOptions): Reporter {
  const start = process.hrtime.bigint();
  const log = logFile === undefined ? STDERR : openFile({ path: logFile }, 'log file');
  const monitor = eventMonitor && openFile(eventMonitor, 'event monitor');
  const line = (level: string, message: string) => {
    const seconds = (Number(process.hrtime.bigint() - start) / Number(NANOSECONDS)).toFixed(6);
    // The terminal may be raw.
    writeQuietly(log, `tsvmm: ${seconds}s: ${level}: ${message}\r\n`);
  };
  return {
    event: (event) => {
      if (verbosity > 0) line('info', describeEvent(event));
      if (monitor !== undefined) writeQuietly(monitor, monitorRecord(event, process.hrtime.bigint() - start));
    },
    warn: (message) => line('warning', message),
    note: (message) => {
      if (verbosity > 0) line('info', message);
    },
  };
}

function openFile(target: PathOrFd, name: string): number {
  try {
    if ('fd' in target) {
      fstatSync(target.fd);
      return target.fd;
    }
    const { O_WRONLY, O_CREAT, O_TRUNC, O_NONBLOCK } = constants;
    return openSync(target.path, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK, 0o600);
  } catch (error) {
    throw new VmmError(`Cannot open the ${name}`, { cause: error });
  }
}

/** What would block, or has no reader, is lost: a VM does not wait for its observers. */
function writeQuietly(fd: number, text: string): void {
  try {
    writeSync(fd, text);
  } catch {
    // See above.
  }
}

function describeEvent({ source, event, properties }: VmmEvent): string {
  return `${source} ${event}${properties ? ` ${JSON.stringify(properties)}` : ''}`;
}

/** Pretty-printed, and followed by an empty line: readers split there. */
function monitorRecord(event: VmmEvent, elapsed: bigint): string {
  return `${JSON.stringify(eventRecord(event, elapsed), undefined, 2)}\n\n`;
}
