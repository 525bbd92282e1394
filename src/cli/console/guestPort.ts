/** The address of a guest's console or serial port, and the connection to it. */
import tty from 'node:tty';
import { FileKind, O_RDWR } from '../../host/openFlags.ts';
import { loadNative } from '../../native.ts';
import { VmmError } from '../../vmm/errors.ts';
import { printable } from '../../vmm/printable.ts';
import { FlowOutput } from '../terminal/flowOutput.ts';
import type { TerminalSize } from '../terminal/rawTerminal.ts';
import { connectStream } from '../unixStream.ts';

export interface GuestPort {
  readonly kind: 'socket' | 'pty';
  readonly path: string;
  /** Human-readable, such as `the serial port of web`. */
  readonly name: string;
}

/** What is heard of it. Nothing comes after `closed`. */
export interface PortHandlers {
  data(bytes: Uint8Array): void;
  /** Everything written has left, after some of it had to wait. */
  drained(): void;
  closed(): void;
}

export interface PortConnection {
  write(bytes: Uint8Array): void;
  readonly waiting: boolean;
  pause(): void;
  resume(): void;
  /** Tells the guest, where there is a way. */
  resize(size: TerminalSize): void;
  close(): void;
}

const CONNECT_MS = 10_000;
const SOCKET_USE = {
  what: "a guest's console",
  advice: 'is the VM there, and its port a socket (--serial socket=PATH)?',
};

/** @param reader nothing will be written @throws VmmError */
export async function connectPort(
  port: GuestPort,
  reader: boolean,
  handlers: PortHandlers,
): Promise<PortConnection> {
  return port.kind === 'pty' ? openPty(port, handlers) : connectSocket(port, reader, handlers);
}

async function connectSocket(
  { path }: GuestPort,
  reader: boolean,
  handlers: PortHandlers,
): Promise<PortConnection> {
  let result: PortConnection | undefined;
  const options = { use: SOCKET_USE, deadline: performance.now() + CONNECT_MS, reader };
  await connectStream(path, options, (connection) => {
    result = {
      write: (bytes) => connection.write(bytes),
      get waiting() {
        return connection.waiting;
      },
      pause: () => connection.pause(),
      resume: () => connection.resume(),
      resize: () => {},
      close: () => connection.terminate(),
    };
    return {
      data: handlers.data,
      ended: () => connection.terminate(),
      drained: handlers.drained,
      closed: handlers.closed,
    };
  });
  return result as PortConnection;
}

/** @throws VmmError */
function openPty({ path, name }: GuestPort, handlers: PortHandlers): PortConnection {
  const native = loadNative();
  // A description of its own: Node.js opens the terminal anew, and closes what it was given.
  const lock = openTerminal(path);
  // What a pseudo terminal says is split among all who read it.
  if (!native.lockRange(lock, true, 0, 0)) {
    native.closeFile(lock);
    throw new VmmError(
      `Somebody else is attached to ${name}: only a port that is a socket (--serial socket=PATH) can be shared`,
    );
  }
  const fd = openTerminal(path);
  native.disownFile(fd);
  const input = new tty.ReadStream(fd);
  const output = new FlowOutput(fd, handlers.drained);
  let open = true;
  const close = () => {
    if (!open) return false;
    open = false;
    output.close();
    native.closeFile(lock);
    return true;
  };
  const closed = () => {
    if (close()) handlers.closed();
  };
  input.on('data', (bytes) => handlers.data(bytes));
  // EIO, when the guest is gone.
  input.on('error', closed).on('end', closed).on('close', closed);
  return {
    write: (bytes) => output.write(bytes),
    get waiting() {
      return output.waiting;
    },
    pause: () => void input.pause(),
    resume: () => void input.resume(),
    resize: ({ columns, rows }) => {
      native.setTerminalSize(fd, columns, rows);
      // Nothing tells the other side of a new size, but it looks when the terminal is opened.
      native.closeFile(openTerminal(path));
    },
    close: () => {
      if (close()) input.destroy();
    },
  };
}

/** @throws VmmError */
function openTerminal(path: string): number {
  try {
    const fd = loadNative().openFile(path, O_RDWR, 0, FileKind.character);
    if (tty.isatty(fd)) return fd;
    loadNative().closeFile(fd);
  } catch (error) {
    throw new VmmError(`Cannot open the terminal ${printable(path)}`, { cause: error });
  }
  throw new VmmError(`${printable(path)} is no terminal`);
}
