/** Character devices: serial port, virtio console, debug port. */
import { U16 } from '../limits.ts';
import { invalid, unsupported } from '../rules.ts';
import type { Infer } from '../schema.ts';
import { pciCommon } from './pci.ts';

/** How a character device meets the host. */
const consoleMode = {
  type: 'enum',
  values: { Off: 'off', Pty: 'pty', Tty: 'tty', File: 'file', Socket: 'socket', Null: 'null' },
  required: true,
  help: 'Where the device leads to',
} as const;

const file = {
  type: 'string',
  help: 'Path of mode `File`; where mode `Pty` leads to once it is open',
} as const;
const socket = { type: 'string', help: 'Path of the UNIX socket of mode `Socket`' } as const;
const log = { type: 'string', help: 'File that gets the output as well, beside what the mode says' } as const;

export const serialConfig = {
  type: 'object',
  name: 'SerialConfig',
  default: { mode: 'Null' },
  help: 'Serial port (16550)',
  fields: { file, mode: consoleMode, socket, log },
} as const;

export const consoleConfig = {
  type: 'object',
  name: 'ConsoleConfig',
  default: { mode: 'Tty' },
  help: 'Console (virtio-console)',
  fields: { ...pciCommon, file, mode: consoleMode, socket, log },
} as const;

export const debugConsoleConfig = {
  type: 'object',
  name: 'DebugConsoleConfig',
  default: { mode: 'Off', iobase: 0xe9 },
  help: 'Debug port',
  fields: {
    file,
    mode: consoleMode,
    iobase: { type: 'integer', max: U16, hex: true, help: 'I/O port, 0xe9 unless given' },
  },
} as const;

export type ConsoleMode = Infer<typeof consoleMode>;
export type SerialConfig = Infer<typeof serialConfig>;
export type ConsoleConfig = Infer<typeof consoleConfig>;
export type DebugConsoleConfig = Infer<typeof debugConsoleConfig>;

interface Consoles {
  readonly serial: SerialConfig;
  readonly console: ConsoleConfig;
  readonly debug_console: DebugConsoleConfig;
}

/** Rules of the character devices. They are also checked by themselves at vm.create, which opens their host ends. */
export function validateConsoles(config: Consoles): void {
  const { serial, console: virtioConsole, debug_console: debug } = config;
  const named = { serial, console: virtioConsole, debug_console: debug };
  for (const name in named) {
    const { mode, file } = named[name as keyof typeof named];
    if (mode === 'File' && !file) throw invalid(`${name} in mode File needs a file`);
  }
  if (serial.log !== undefined) validateLog('serial', serial.mode, serial.log);
  if (virtioConsole.log !== undefined) validateLog('console', virtioConsole.mode, virtioConsole.log);
  if (serial.mode === 'Socket' && !serial.socket) throw invalid('serial in mode Socket needs a socket');
  if (virtioConsole.mode === 'Socket') throw unsupported('console in mode Socket');
  if (debug.mode === 'Socket') throw unsupported('debug_console in mode Socket');
}

function validateLog(name: string, mode: ConsoleMode, path: string): void {
  if (path === '') throw invalid(`${name}.log needs a path`);
  if (mode !== 'Off' && mode !== 'Null') return;
  throw invalid(`${name} in mode ${mode} has no log: it goes beside a terminal, a pty, a socket or a file`);
}
