/** The host ends of the character devices: opened when a VM is created, and anew for each boot after that. */
import type { ConsoleMode } from '../config/devices/console.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import { O_CREAT, O_TRUNC, O_WRONLY, PRIVATE_FILE } from '../host/openFlags.ts';
import type { CharBackendSpec, NativeAddon } from '../native.ts';
import { VmmError } from './errors.ts';

/** Of a virtio console, in characters; 0 if unknown. */
export interface ConsoleSize {
  readonly columns: number;
  readonly rows: number;
}

/** The terminal that mode `Tty` means. */
export interface Terminal {
  /** -1 for none. */
  readonly input: number;
  readonly output: number;
}

/** A stream of this process that is the host end of a device, in the place of what its mode says. */
export interface HostStream {
  /** Takes a connected stream socket over, at whose other end the next machine will be. */
  adopt(fd: number): void;
  /** The machine is about to end, and waits a moment for what it has written to be taken. */
  drain(): void;
}

export interface HostStreams {
  readonly serial?: HostStream;
  readonly console?: HostStream;
}

export interface Consoles {
  readonly serial?: CharBackendSpec;
  readonly console?: CharBackendSpec;
  readonly debugConsole?: CharBackendSpec;
  /** Closes everything, removes the socket and restores the terminal. Idempotent. */
  close(): void;
}

/** What undoes an opening; run in reverse order. */
type Undo = () => void;

interface Device {
  mode: ConsoleMode;
  file?: string;
  socket?: string;
}

/**
 * Opens what the configuration asks for, and writes the paths of pseudo terminals into it.
 * @throws VmmError if something cannot be opened; nothing stays open then
 */
export function openConsoles(
  native: NativeAddon,
  config: VmConfig,
  terminal: Terminal,
  streams: HostStreams = {},
): Consoles {
  const undo: Undo[] = [];
  const close = () => {
    for (let step = undo.pop(); step !== undefined; step = undo.pop()) quietly(step);
  };
  try {
    const serial = streams.serial
      ? openStream(native, streams.serial, undo)
      : openBackend(native, 'serial', config.serial, terminal, undo);
    const console = streams.console
      ? openStream(native, streams.console, undo)
      : openBackend(native, 'console', config.console, terminal, undo);
    const outputOnly = { input: -1, output: terminal.output };
    const debugConsole = openBackend(native, 'debug console', config.debug_console, outputOnly, undo);
    return {
      ...(serial && { serial }),
      ...(console && { console }),
      ...(debugConsole && { debugConsole }),
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

function openBackend(
  native: NativeAddon,
  name: string,
  device: Device,
  terminal: Terminal,
  undo: Undo[],
): CharBackendSpec | undefined {
  if (device.mode === 'Off') return undefined;
  if (device.mode === 'Null') return { kind: 'null' };
  try {
    switch (device.mode) {
      case 'Tty':
        return openTerminal(native, terminal, undo);
      case 'Pty':
        return openPty(native, device, undo);
      case 'File':
        return openFile(native, device.file as string, undo);
      case 'Socket':
        return openSocket(native, device.socket as string, undo);
    }
  } catch (error) {
    throw new VmmError(`Cannot open the ${name}'s ${device.mode.toLowerCase()}`, { cause: error });
  }
}

function openStream(native: NativeAddon, stream: HostStream, undo: Undo[]): CharBackendSpec {
  const [ours, theirs] = native.streamPair();
  undo.push(() => native.closeFile(theirs));
  native.disownFile(ours);
  stream.adopt(ours);
  return { kind: 'tty', input: theirs, output: theirs };
}

function openTerminal(native: NativeAddon, terminal: Terminal, undo: Undo[]): CharBackendSpec {
  const saved = terminal.input < 0 ? null : native.terminalRaw(terminal.input);
  if (saved !== null) undo.push(() => native.terminalRestore(terminal.input, saved));
  return { kind: 'tty', input: terminal.input, output: terminal.output };
}

function openPty(native: NativeAddon, device: Device, undo: Undo[]): CharBackendSpec {
  const { fd, path } = native.openPty();
  undo.push(() => native.closeFile(fd));
  device.file = path;
  return { kind: 'pty', fd };
}

function openFile(native: NativeAddon, path: string, undo: Undo[]): CharBackendSpec {
  const fd = native.openFile(path, O_WRONLY | O_CREAT | O_TRUNC, PRIVATE_FILE);
  undo.push(() => native.closeFile(fd));
  return { kind: 'file', fd };
}

function openSocket(native: NativeAddon, path: string, undo: Undo[]): CharBackendSpec {
  const listener = native.listenUnix(path);
  undo.push(
    () => native.removeFile(path),
    () => native.closeFile(listener),
  );
  return { kind: 'socket', listener };
}

/** Nothing can be done about a failure to close or remove, and what comes after must not suffer from it. */
function quietly(step: Undo): void {
  try {
    step();
  } catch {
    // See above.
  }
}
