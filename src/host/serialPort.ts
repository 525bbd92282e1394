/** A guest's serial port as a stream of this process, over the UNIX socket of a serial device in mode `Socket`. */
import { connect, type Socket } from 'node:net';
import { Duplex } from 'node:stream';

/**
 * Reads what the guest writes and writes what the guest reads. It survives a reboot, at which the device's socket is
 * made anew (`detach`, `attach`), and ends when the VM is gone (`finish`). What the guest wrote before anybody attached is kept
 * by the device, up to 1 MiB.
 */
export class SerialPort extends Duplex {
  readonly #path: string;
  /** To the machine that runs now. */
  #socket: Socket | undefined;
  /** Connections that may still bring data, the present one and earlier ones. */
  #open = 0;
  #finishing = false;

  /** @param path the device's listening socket */
  constructor(path: string) {
    super();
    this.#path = path;
  }

  /** Connects to the device, whose socket must be there; does nothing if it is connected. */
  attach(): void {
    if (this.#socket !== undefined) return;
    const socket = connect(this.#path);
    this.#socket = socket;
    this.#open++;
    socket.on('data', (bytes) => {
      if (!this.push(bytes)) socket.pause();
    });
    // The device goes away with its machine; that is no error of the stream.
    socket.on('error', () => {});
    socket.on('close', () => {
      if (this.#socket === socket) this.detach();
      this.#open--;
      if (this.#finishing && this.#open === 0) this.push(null);
    });
  }

  /** Forgets the device; what it has sent is still read. */
  detach(): void {
    this.#socket = undefined;
  }

  /** Ends the stream after what has been sent. */
  finish(): void {
    this.#finishing = true;
    if (this.#open === 0) this.push(null);
  }

  override _read(): void {
    this.#socket?.resume();
  }

  override _write(bytes: Uint8Array, _encoding: string, done: (error?: Error | null) => void): void {
    // Without a machine behind it, what is written is lost, as on a cable that leads nowhere.
    if (this.#socket === undefined) done();
    else this.#socket.write(bytes, () => done());
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket?.destroy();
    done(error);
  }
}
