/** Log and event monitor. Loaded only when one of them is asked for. */
import type { VmConfig } from '../config/vmConfig.ts';
import type { NativeAddon } from '../native.ts';
import { VmmError } from '../vmm/errors.ts';
import { eventRecord, lossEvent } from '../vmm/eventRecord.ts';
import type { VmmEvent } from '../vmm/events.ts';
import { openAwaitedOutput, openOutput } from '../vmm/namedFiles.ts';
import { type OutputFile, openOutputFile } from '../vmm/outputFiles.ts';
import { printable } from '../vmm/printable.ts';
import type { PathOrFd, RunOptions } from './arguments.ts';
import { BoundedOutput, type WriteNow } from './boundedOutput.ts';
import { compileLogFormat, type LogRecord } from './logFormat.ts';

export interface Reporter {
  event(event: VmmEvent): void;
  warn(message: string): void;
  /** Why the VM ended, or could not start. */
  error(message: string): void;
  /** Shown where more than warnings was asked for. */
  note(message: string): void;
  /** What is written to by name. */
  readonly files: readonly OutputFile[];
  /** Waits, for a second at most, until readers have taken what was said. */
  close(): Promise<void>;
}

type Owner = 'log' | 'event monitor';

const NANOSECONDS = 1_000_000_000n;

/**
 * @param stderr takes the log unless it has a file
 * @throws ConfigError for a bad --log-format; VmmError if a file cannot be opened, or is in use as something else
 */
export function openReporter(native: NativeAddon, options: RunOptions, stderr: BoundedOutput): Reporter {
  const { logFile, logFormat, eventMonitor, verbosity, vm } = options;
  const format = logFormat === undefined ? plainLine : compileLogFormat(logFormat);
  const start = process.hrtime.bigint();
  const elapsed = () => process.hrtime.bigint() - start;
  const files: OutputFile[] = [];
  const open = (owner: Owner, target: PathOrFd) => openTarget(native, owner, target, vm, files);
  const lineOf = (level: LogRecord['level'], message: string) => {
    const record = { uptimeNs: elapsed(), time: new Date(), level, message: printable(message) };
    // The terminal may be raw.
    return `${format(record)}\r\n`;
  };
  const outputTo = (owner: Owner, target: PathOrFd, lossRecord: (lost: number) => string) => {
    const fd = open(owner, target);
    const where = 'path' in target ? ` to ${target.path}` : '';
    const onFault = (error: Error) =>
      stderr.write(lineOf('WARN', `Cannot write the ${owner}${where}: ${error.message}`));
    return new BoundedOutput(writer(native, owner, target, fd), lossRecord, onFault);
  };
  const log =
    logFile === undefined
      ? stderr
      : outputTo('log', { path: logFile }, (lost) =>
          lineOf('WARN', `${lost} messages were lost, because the log could not take them`),
        );
  const monitor =
    eventMonitor &&
    outputTo('event monitor', eventMonitor, (lost) => monitorRecord(lossEvent(lost), elapsed()));
  const line = (level: LogRecord['level'], message: string) => log.write(lineOf(level, message));
  return {
    event: (event) => {
      if (verbosity > 0) line('INFO', describeEvent(event));
      monitor?.write(monitorRecord(event, elapsed()));
    },
    warn: (message) => line('WARN', message),
    error: (message) => line('ERROR', message),
    note: (message) => {
      if (verbosity > 0) line('INFO', message);
    },
    files,
    close: async () => {
      await Promise.all([log.close(), monitor?.close()]);
    },
  };
}

const LEVEL_WORDS = { ERROR: 'error', WARN: 'warning', INFO: 'info' } as const;

function plainLine({ uptimeNs, level, message }: LogRecord): string {
  const seconds = (Number(uptimeNs) / Number(NANOSECONDS)).toFixed(6);
  return `tsvmm: ${seconds}s: ${LEVEL_WORDS[level]}: ${message}`;
}

function openTarget(
  native: NativeAddon,
  owner: Owner,
  target: PathOrFd,
  vm: VmConfig | undefined,
  files: OutputFile[],
): number {
  try {
    if ('fd' in target) {
      native.fileId(target.fd);
      return target.fd;
    }
    const file = openOutputFile(
      native,
      vm,
      { owner, path: target.path },
      { others: files, begun: new Set() },
      owner === 'log' ? openOutput : openAwaitedOutput,
    );
    files.push(file);
    return file.fd;
  } catch (error) {
    throw new VmmError(`Cannot open the ${owner === 'log' ? 'log file' : owner}`, { cause: error });
  }
}

/** Who reads the event monitor's FIFO may leave, and be followed by another. */
function writer(native: NativeAddon, owner: Owner, target: PathOrFd, fd: number): WriteNow {
  const fifo = owner === 'event monitor' && 'path' in target ? native.openRecordFifo(fd) : null;
  return fifo ? (bytes) => native.writeRecord(fifo, bytes) : (bytes) => native.writeNow(fd, bytes);
}

function describeEvent({ source, event, properties }: VmmEvent): string {
  return `${source} ${event}${properties ? ` ${JSON.stringify(properties)}` : ''}`;
}

/** Pretty-printed, and followed by an empty line: readers split there. */
function monitorRecord(event: VmmEvent, elapsed: bigint): string {
  return `${JSON.stringify(eventRecord(event, elapsed), undefined, 2)}\n\n`;
}
