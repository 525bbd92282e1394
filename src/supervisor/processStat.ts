/** The resources that processes and threads have used (proc(5)). */
import { readdirSync, readFileSync } from 'node:fs';
import { statFields, TICKS_PER_SECOND } from './processIdentity.ts';

export interface ProcessStat {
  /** Nanoseconds of processor time so far. */
  readonly userTime: number;
  readonly systemTime: number;
  /** Where it ran last. */
  readonly processor: number;
}

const NANOSECONDS_PER_TICK = 1e9 / TICKS_PER_SECOND;
/** Places in what `statFields` returns. */
const USER_TIME = 11;
const SYSTEM_TIME = 12;
const PROCESSOR = 36;

/** Of one of its threads if that is given. @returns undefined if it has gone */
export function readStat(pid: number, thread?: number): ProcessStat | undefined {
  const fields = statFields(pid, thread);
  return (
    fields && {
      userTime: Number(fields[USER_TIME]) * NANOSECONDS_PER_TICK,
      systemTime: Number(fields[SYSTEM_TIME]) * NANOSECONDS_PER_TICK,
      processor: Number(fields[PROCESSOR]),
    }
  );
}

/** A process's threads by name, with their ids. What ends meanwhile is left out, and nothing else. */
export function threadsOf(pid: number): ReadonlyMap<string, number> {
  const threads = new Map<string, number>();
  for (const id of unlessGone(() => readdirSync(`/proc/${pid}/task`)) ?? []) {
    const name = unlessGone(() => readFileSync(`/proc/${pid}/task/${id}/comm`, 'utf8').trimEnd());
    if (name !== undefined) threads.set(name, Number(id));
  }
  return threads;
}

function unlessGone<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
