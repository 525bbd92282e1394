/**
 * The host ends of the character devices: opened when a VM is created, and anew for each boot after that, but for
 * pseudo terminals.
 */
import { Descriptor } from '../boundary/cbor.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import type { ConsoleMode } from '../devices/characterDevices.ts';
import type { CharBackendSpec, NativeAddon } from '../native.ts';
import { VmmError } from './errors.ts';
import type { KeptTerminals } from './keptTerminals.ts';
import { listenAt } from './listeningSocket.ts';
import { type KnownOutputs, type OutputFile, openOutputFile } from './outputFiles.ts';
import { mainConsole } from './shownConsole.ts';

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

/** The standard streams' descriptors. */
export const STANDARD_STREAMS: Terminal = { input: 0, output: 1 };

/** A stream of this process that is the host end of a device, in the place of what its mode says. */
interface HostStream {
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
  /** What is in mode `File`. */
  readonly files: readonly OutputFile[];
  /** Closes everything, removes the socket and restores the terminal. Idempotent. */
  close(): void;
}

/** Paths that the character devices of a configuration append to. */
export function consoleOutputs({ serial, console, debug_console }: VmConfig): string[] {
  const paths: string[] = [];
  for (const { mode, file, log } of [serial, console, debug_console] as readonly Device[]) {
    if (mode === 'File' && file !== undefined) paths.push(file);
    if (log !== undefined) paths.push(log);
  }
  return paths;
}

/** What undoes an opening; run in reverse order. */
type Undo = () => void;

/** One opening of all consoles. */
interface Opening {
  readonly native: NativeAddon;
  readonly config: VmConfig;
  readonly terminal: Terminal;
  readonly kept: KeptTerminals;
  readonly outputs: KnownOutputs;
  readonly files: OutputFile[];
  readonly undo: Undo[];
}

interface Device {
  mode: ConsoleMode;
  file?: string;
  socket?: string;
  log?: string;
}

/**
 * Opens what the configuration asks for, and writes the paths of pseudo terminals into it.
 * @param kept has these terminals, or gets them; `close` leaves them open
 * @param outputs what the process writes to already, and what the VM has emptied
 * @throws VmmError if something cannot be opened; nothing stays open then
 */
export function openConsoles(
  native: NativeAddon,
  config: VmConfig,
  terminal: Terminal,
  kept: KeptTerminals,
  outputs: KnownOutputs,
  streams: HostStreams = {},
): Consoles {
  const undo: Undo[] = [];
  const files: OutputFile[] = [];
  const opening: Opening = { native, config, terminal, kept, outputs, files, undo };
  const close = () => {
    for (let step = undo.pop(); step !== undefined; step = undo.pop()) quietly(step);
  };
  const shared = config.serial.mode === 'Tty' && config.console.mode === 'Tty';
  const serialTypes = !shared || mainConsole(config) === 'serial';
  try {
    const outputOnly = { ...opening, terminal: { input: -1, output: terminal.output } };
    const serial = streams.serial
      ? openStream(opening, streams.serial)
      : openBackend(serialTypes ? opening : outputOnly, 'serial', config.serial);
    const console = streams.console
      ? openStream(opening, streams.console)
      : openBackend(shared && serialTypes ? outputOnly : opening, 'console', config.console);
    const debugConsole = openBackend(outputOnly, 'debug console', config.debug_console);
    return {
      ...(serial && { serial }),
      ...(console && { console }),
      ...(debugConsole && { debugConsole }),
      files,
      close,
    };
  } catch (error) {
    close();
    kept.close(native);
    throw error;
  }
}

function openBackend(opening: Opening, name: string, device: Device): CharBackendSpec | undefined {
  const backend = openHostEnd(opening, name, device);
  if (backend === undefined || device.log === undefined) return backend;
  return { ...backend, log: openLog(opening, name, device.log) };
}

function openLog(opening: Opening, name: string, path: string): Descriptor {
  try {
    return openFile(opening, `${name}'s log`, path).fd;
  } catch (error) {
    throw new VmmError(`Cannot open the ${name}'s log`, { cause: error });
  }
}

function openHostEnd(opening: Opening, name: string, device: Device): CharBackendSpec | undefined {
  if (device.mode === 'Off') return undefined;
  if (device.mode === 'Null') return { kind: 'null' };
  try {
    switch (device.mode) {
      case 'Tty':
        return openTerminal(opening);
      case 'Pty':
        return openPty(opening, name, device);
      case 'File':
        return openFile(opening, name, device.file as string);
      case 'Socket':
        return openSocket(opening, device.socket as string);
    }
  } catch (error) {
    throw new VmmError(`Cannot open the ${name}'s ${device.mode.toLowerCase()}`, { cause: error });
  }
}

function openStream({ native, undo }: Opening, stream: HostStream): CharBackendSpec {
  const [ours, theirs] = native.streamPair();
  undo.push(() => native.closeFile(theirs));
  native.disownFile(ours);
  stream.adopt(ours);
  return { kind: 'tty', input: new Descriptor(theirs), output: new Descriptor(theirs) };
}

function openTerminal({ native, terminal, undo }: Opening): CharBackendSpec {
  const raw = terminal.input < 0 ? null : native.terminalRaw(terminal.input);
  if (raw !== null) undo.push(() => native.terminalRestore(raw));
  return {
    kind: 'tty',
    ...(terminal.input >= 0 && { input: new Descriptor(terminal.input) }),
    output: new Descriptor(terminal.output),
  };
}

function openPty({ native, kept }: Opening, name: string, device: Device): CharBackendSpec {
  const { fd, path } = kept.open(native, name);
  device.file = path;
  return { kind: 'pty', fd: new Descriptor(fd) };
}

function openFile(opening: Opening, owner: string, path: string): { kind: 'file'; fd: Descriptor } {
  const { native, config, outputs, files, undo } = opening;
  const file = openOutputFile(native, config, { owner, path }, outputs);
  undo.push(() => native.closeFile(file.fd));
  files.push(file);
  return { kind: 'file', fd: new Descriptor(file.fd) };
}

function openSocket({ native, undo }: Opening, path: string): CharBackendSpec {
  const { listener, close } = listenAt(native, path);
  undo.push(close);
  return { kind: 'socket', listener: new Descriptor(listener) };
}

/** Nothing can be done about a failure to close or remove, and what comes after must not suffer from it. */
function quietly(step: Undo): void {
  try {
    step();
  } catch {
    // See above.
  }
}
