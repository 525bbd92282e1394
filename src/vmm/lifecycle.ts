/** The transition table of a VM's lifecycle. */
import { VmmError } from './errors.ts';

/**
 * `none`: nothing; `created`: a configuration only; `running` and `paused`: a machine; `breakpoint`: one that would run
 * if a debugger had not stopped it.
 */
export type Lifecycle = 'none' | 'created' | 'running' | 'breakpoint' | 'paused';

export type Command =
  | 'create'
  | 'delete'
  | 'boot'
  | 'bootPaused'
  | 'shutdown'
  | 'reboot'
  | 'pause'
  | 'resume'
  | 'powerButton'
  | 'nmi'
  | 'renewGeneration'
  | 'resize'
  | 'resizeDisk'
  | 'resizeZone'
  | 'addDevice'
  | 'removeDevice'
  | 'snapshot'
  | 'coredump'
  | 'sendMigration'
  | 'restore'
  | 'receiveMigration'
  | 'info'
  | 'counters';

/**
 * Where a command leads from each state in which it is permitted; a machine that is to run and is held by a debugger is
 * at a breakpoint.
 */
export const transitions: Readonly<Record<Command, Readonly<Partial<Record<Lifecycle, Lifecycle>>>>> = {
  create: { none: 'created' },
  delete: { none: 'none', created: 'none', running: 'none', breakpoint: 'none', paused: 'none' },
  boot: { created: 'running' },
  bootPaused: { created: 'paused' },
  shutdown: { running: 'created', breakpoint: 'created', paused: 'created' },
  reboot: { running: 'running', breakpoint: 'running', paused: 'running' },
  pause: { running: 'paused', breakpoint: 'paused' },
  resume: { paused: 'running', breakpoint: 'running' },
  powerButton: { running: 'running', breakpoint: 'running', paused: 'paused' },
  nmi: { running: 'running', breakpoint: 'running', paused: 'paused' },
  renewGeneration: { running: 'running', breakpoint: 'running', paused: 'paused' },
  resize: { created: 'created', running: 'running', breakpoint: 'running', paused: 'paused' },
  resizeDisk: { running: 'running', breakpoint: 'running', paused: 'paused' },
  resizeZone: { created: 'created', running: 'running', breakpoint: 'running', paused: 'paused' },
  addDevice: { created: 'created', running: 'running', breakpoint: 'running', paused: 'paused' },
  removeDevice: { created: 'created', running: 'running', breakpoint: 'running', paused: 'paused' },
  snapshot: { paused: 'paused' },
  coredump: { running: 'running', breakpoint: 'running', paused: 'paused' },
  sendMigration: { running: 'running', breakpoint: 'running', paused: 'paused' },
  restore: { none: 'paused' },
  receiveMigration: { none: 'paused' },
  info: { created: 'created', running: 'running', breakpoint: 'running', paused: 'paused' },
  counters: { running: 'running', breakpoint: 'running', paused: 'paused' },
};

/** Whether the machine that there is comes to its end by it. */
export function endsMachine(command: Command): boolean {
  return command === 'shutdown' || command === 'delete' || command === 'reboot';
}

/** @throws VmmError why the command is not permitted in that state */
export function nextState(command: Command, from: Lifecycle): Lifecycle {
  const to = transitions[command][from];
  if (to === undefined) throw refusal(command, from);
  return to;
}

/** With which every failure of that begins: clients look for it. */
export const DISK_NOT_RESIZED = 'Failed resizing a disk image';

const STATE_CODE = 'ERR_TSVMM_STATE';

/** Commands that need no machine, but a configuration. */
const needConfiguration: readonly Command[] = [
  'boot',
  'bootPaused',
  'info',
  'reboot',
  'resize',
  'resizeZone',
  'addDevice',
  'removeDevice',
];
/** Commands that make a VM. */
const needNothing: readonly Command[] = ['create', 'restore', 'receiveMigration'];

function isBoot(command: Command): boolean {
  return command === 'boot' || command === 'bootPaused';
}

function refusal(command: Command, from: Lifecycle): VmmError {
  if (needNothing.includes(command) || (isBoot(command) && from !== 'none')) {
    return new VmmError('VM is already created', { kind: 'failed', code: STATE_CODE });
  }
  if (needConfiguration.includes(command) || (command === 'resizeDisk' && from === 'none')) {
    return new VmmError(isBoot(command) ? 'VM config is missing' : 'VM is not created', { kind: 'missing' });
  }
  if (command === 'snapshot' && (from === 'running' || from === 'breakpoint')) {
    return new VmmError('Trying to snapshot while VM is running', { kind: 'failed', code: STATE_CODE });
  }
  if (from === 'paused') return invalidTransition('pause', 'Paused');
  if (from === 'running') return invalidTransition('resume', 'Running');
  const cause = new VmmError('VM is not running', { kind: 'failed', code: STATE_CODE });
  return command === 'resizeDisk' ? new VmmError(DISK_NOT_RESIZED, { cause }) : cause;
}

function invalidTransition(verb: string, state: string): VmmError {
  const leaf = new VmmError(`Invalid transition: InvalidStateTransition(${state}, ${state})`, {
    kind: 'failed',
    code: STATE_CODE,
  });
  const link = new VmmError(`Failed to ${verb} migratable component`, { cause: leaf });
  return new VmmError(`Cannot ${verb} VM`, { cause: link });
}
