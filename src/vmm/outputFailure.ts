/** The message about a file that did not take the guest's output. Loaded when that happens. */

import type { VmConfig } from '../config/vmConfig.ts';
import type { ConsoleMode } from '../devices/characterDevices.ts';
import type { MachineEvent } from '../native.ts';
import { DEBUG_CONSOLE_ID, SERIAL_ID } from '../platform/deviceIds.ts';

export type OutputFailure = Extract<MachineEvent, { type: 'output-failed' }>;

interface Printer {
  readonly name: string;
  readonly device: { readonly mode: ConsoleMode; readonly file?: string; readonly log?: string };
}

export function describeOutputFailure(config: VmConfig, { id, file, reason }: OutputFailure): string {
  const { name, device } = printerOf(config, id);
  const what = file === 'log' ? 'log' : 'output';
  const path = file === 'log' ? device.log : device.mode === 'File' ? device.file : undefined;
  const where = path === undefined ? '' : ` to ${path}`;
  return `Cannot write the ${name}'s ${what}${where}: ${reason}. What the guest prints meanwhile is lost there`;
}

function printerOf({ serial, console, debug_console }: VmConfig, id: string): Printer {
  switch (id) {
    case SERIAL_ID:
      return { name: 'serial port', device: serial };
    case DEBUG_CONSOLE_ID:
      return { name: 'debug console', device: debug_console };
    default:
      return { name: 'console', device: console };
  }
}
