/** What character devices have in common, and the two that are on no PCI bus: serial port and debug port. */
import { U16 } from '../config/limits.ts';
import { invalid, unsupported } from '../config/rules.ts';
import type { Infer } from '../config/schema.ts';
import type { ListingTexts } from './record.ts';

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

/** Fields of a character device with a log. */
export const characterFields = { file, mode: consoleMode, socket, log } as const;

export const serialConfig = {
  type: 'object',
  name: 'SerialConfig',
  default: { mode: 'Null' },
  help: 'Serial port (16550)',
  fields: characterFields,
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

/** Mode and place, of what another program has told. */
export function characterText(
  { mode, file: path, socket: socketPath }: Readonly<Record<string, unknown>>,
  { text }: ListingTexts,
): string {
  return [text(mode).toLowerCase(), text(path ?? socketPath)].filter((word) => word !== '').join(' ');
}

interface CharacterDevice {
  readonly mode: ConsoleMode;
  readonly file?: string;
  readonly socket?: string;
  readonly log?: string;
}

/**
 * @param name of the configuration's field
 * @param hasSocket whether there is such a device with mode `Socket`
 * @throws ConfigError
 */
export function validateCharacterDevice(name: string, device: CharacterDevice, hasSocket = false): void {
  const { mode, file: path, socket: socketPath, log: logPath } = device;
  if (mode === 'File' && !path) throw invalid(`${name} in mode File needs a file`);
  if (logPath !== undefined) validateLog(name, mode, logPath);
  if (mode !== 'Socket') return;
  if (!hasSocket) throw unsupported(`${name} in mode Socket`);
  if (!socketPath) throw invalid(`${name} in mode Socket needs a socket`);
}

function validateLog(name: string, mode: ConsoleMode, path: string): void {
  if (path === '') throw invalid(`${name}.log needs a path`);
  if (mode !== 'Off' && mode !== 'Null') return;
  throw invalid(`${name} in mode ${mode} has no log: it goes beside a terminal, a pty, a socket or a file`);
}
