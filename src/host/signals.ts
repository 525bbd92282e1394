/** Signals of a process that is a VMM. */
import { bun } from './bun.ts';

/** Those that were ignored when the process started, as `bin/tsvmm` found them. */
function ignoredSignals(): readonly string[] {
  return process.env.TSVMM_IGNORED_SIGNALS?.split(' ') ?? [];
}

/** Calls `listener` for a signal, unless it was ignored when the process started: then it stays so. */
export function onSignal(signal: NodeJS.Signals, listener: () => void): void {
  if (!ignoredSignals().includes(signal)) process.on(signal, listener);
}

/** For Node.js, which at its start lets every signal do what it does by default. */
export function keepIgnoredSignals(): void {
  if (bun) return;
  for (const signal of ignoredSignals()) process.on(signal, () => {});
}

/** Node.js opens its inspector at SIGUSR1, a port at which others give orders. The signal gets its default meaning. */
export function refuseInspector(): void {
  const listener = () => {};
  process.on('SIGUSR1', listener);
  process.off('SIGUSR1', listener);
}
