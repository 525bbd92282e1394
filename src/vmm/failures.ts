/** The messages of commands that fail. */
import { VmmError, wrapped } from './errors.ts';
import type { Command } from './lifecycle.ts';

/** What a failing command is called. The texts are part of the REST API: clients look for them. */
export const failureTexts: Readonly<Record<Command, string>> = {
  create: 'The VM could not be created',
  delete: 'The VM could not be deleted',
  boot: 'The VM could not boot',
  bootPaused: 'The VM could not boot',
  shutdown: 'The VM could not shutdown',
  reboot: 'The VM could not reboot',
  pause: 'The VM could not be paused',
  resume: 'The VM could not resume',
  powerButton: 'Error triggering power button',
  nmi: 'Error triggering NMI',
  renewGeneration: 'The VM could not be given another generation id',
  resize: 'The VM could not be resized',
  resizeDisk: 'The disk could not be resized',
  resizeZone: 'The memory zone could not be resized',
  addDevice: 'The device could not be added to the VM',
  removeDevice: 'The device could not be removed from the VM',
  snapshot: 'The VM could not be snapshotted',
  coredump: 'The VM could not be coredumped',
  sendMigration: 'Error dispatching the migration worker',
  restore: 'The VM could not be restored',
  receiveMigration: 'Error receiving migration',
  info: 'The VM info is not available',
  counters: 'The VM info is not available',
};

/** What `work` ends with, and what goes wrong in the command's own words. */
export function toldAs<T>(command: Command, work: Promise<T>): Promise<T> {
  return wrapped(failureTexts[command], work);
}

/** Of an end that does not get its turn. @param inProgress what does not come to its own */
export function notEnded(inProgress: Command | undefined): VmmError {
  const what =
    inProgress === undefined
      ? 'a file or a disk does not answer'
      : `${inProgress} is in progress, and waits for a file or a disk that does not answer`;
  return new VmmError(`The VM could not be ended: ${what}`);
}
