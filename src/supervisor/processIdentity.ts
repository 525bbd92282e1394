/** Identifies processes by id and start time: the kernel uses ids again. */
import { readFileSync } from 'node:fs';

/** What /proc counts time in, on every Linux (USER_HZ). */
export const TICKS_PER_SECOND = 100;

/** Places in what `statFields` returns: proc(5) counts from 1, and has two fields up to the command's name. */
const STATE = 0;
const START_TIME = 19;

export interface ProcessIdentity {
  readonly pid: number;
  /** When it started, in ticks since the host did. No process has that of one that has gone. */
  readonly startTime: number;
}

const GONE = -1;

/** Of the process that has this id now. */
export function identify(pid: number): ProcessIdentity {
  const startTime = Number(statFields(pid)?.[START_TIME] ?? GONE);
  return { pid, startTime };
}

/** A process that has ended and whose parent has not asked for its exit code (a zombie) counts as gone. */
export function isAlive({ pid, startTime }: ProcessIdentity): boolean {
  const fields = statFields(pid);
  if (fields === undefined || Number(fields[START_TIME]) !== startTime) return false;
  return fields[STATE] !== 'Z' && fields[STATE] !== 'X';
}

/** Unless it has gone meanwhile. */
export function killProcess(identity: ProcessIdentity): void {
  if (!isAlive(identity)) return;
  try {
    process.kill(identity.pid, 'SIGKILL');
  } catch {
    // It has gone in this moment.
  }
}

/** Seconds since the process started. */
export function ageOf({ startTime }: ProcessIdentity): number {
  const hostUptime = Number.parseFloat(readFileSync('/proc/uptime', 'utf8'));
  return Math.max(0, hostUptime - startTime / TICKS_PER_SECOND);
}

/** /proc/PID/stat from the state on, or that of one of its threads; undefined if there is no such process or thread. */
export function statFields(pid: number, thread?: number): readonly string[] | undefined {
  const folder = thread === undefined ? `/proc/${pid}` : `/proc/${pid}/task/${thread}`;
  try {
    // They are counted behind the command's name, which may have anything in it (proc(5)).
    return readFileSync(`${folder}/stat`, 'utf8').split(') ').at(-1)?.split(' ');
  } catch {
    return undefined;
  }
}
