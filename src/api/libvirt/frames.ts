/** Messages on a connection: a length and a header, followed by XDR or by bytes of a stream. */

export const Program = {
  remote: 0x2000_8086,
  /** What only QEMU and containers can do. */
  qemu: 0x2000_8087,
  lxc: 0x0006_8000,
  keepalive: 0x6b65_6570,
} as const;
export const VERSION = 1;
export const Keepalive = { ping: 1, pong: 2 } as const;

export const MessageType = {
  call: 0,
  reply: 1,
  message: 2,
  stream: 3,
  callWithFds: 4,
  streamHole: 6,
} as const;
export const Status = { ok: 0, error: 1, continue: 2 } as const;

const LENGTH_BYTES = 4;
const HEADER_BYTES = 28;
/** Of a message without its length (VIR_NET_MESSAGE_MAX). */
export const MAX_MESSAGE = 33_554_432;
export const MAX_PAYLOAD = MAX_MESSAGE + LENGTH_BYTES - HEADER_BYTES;
/** Bytes of a stream's packet: what peers of any age take. */
export const MAX_PACKET = 262_120;

export interface Frame {
  readonly program: number;
  readonly version: number;
  readonly procedure: number;
  readonly type: number;
  readonly serial: number;
  readonly status: number;
  readonly payload: Uint8Array;
}

/** The peer sends what is no message: nothing it sends after that can be understood. */
export class FrameError extends Error {}

/**
 * Cuts what arrives into messages. Holds one unfinished message at most, in at most twice the bytes of it that have
 * come, in however small pieces they came.
 */
export class FrameReader {
  /** Bytes of a message, at most, without its length. */
  limit: number;
  /** The beginning of a message, and room behind it. */
  #held: Uint8Array = new Uint8Array();
  #size = 0;

  constructor(limit = MAX_MESSAGE) {
    this.limit = limit;
  }

  /** What it returns shares bytes with what was added. @throws FrameError */
  add(bytes: Uint8Array): Frame[] {
    return [...this.read(bytes)];
  }

  /** The same one by one: the limit may be another one for the next. To be read to its end. @throws FrameError */
  *read(bytes: Uint8Array): Generator<Frame> {
    const all = this.#size === 0 ? bytes : this.#append(bytes);
    let at = 0;
    for (;;) {
      const length = nextLength(all, at, this.limit);
      if (length === undefined) break;
      yield decodeFrame(all.subarray(at, at + length));
      at += length;
    }
    // Messages keep the bytes in which they came.
    if (at > 0 || this.#size === 0) this.#held = new Uint8Array(all.subarray(at));
    this.#size = all.length - at;
  }

  #append(bytes: Uint8Array): Uint8Array {
    const size = this.#size + bytes.length;
    if (size > this.#held.length) {
      const larger = new Uint8Array(Math.max(size, 2 * this.#size));
      larger.set(this.#held.subarray(0, this.#size));
      this.#held = larger;
    }
    this.#held.set(bytes, this.#size);
    return this.#held.subarray(0, size);
  }
}

/** Of the message that begins there, if all of it is there. */
function nextLength(bytes: Uint8Array, at: number, limit: number): number | undefined {
  const there = bytes.length - at;
  if (there < LENGTH_BYTES) return undefined;
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(at);
  if (length < HEADER_BYTES || length - LENGTH_BYTES > limit) {
    throw new FrameError(`a message of ${length} bytes`);
  }
  return there >= length ? length : undefined;
}

function decodeFrame(bytes: Uint8Array): Frame {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return {
    program: view.getUint32(4),
    version: view.getUint32(8),
    procedure: view.getInt32(12),
    type: view.getInt32(16),
    serial: view.getUint32(20),
    status: view.getInt32(24),
    payload: bytes.subarray(HEADER_BYTES),
  };
}

export function encodeFrame(frame: Frame): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + frame.payload.length);
  bytes.set(frame.payload, HEADER_BYTES);
  writeHeader(bytes, frame);
  return bytes;
}

/** In front of the payload: what a writer has to leave free. */
export const HEADER_ROOM = HEADER_BYTES;

/** Makes bytes with a payload behind the room for a header into a message. */
export function writeHeader(bytes: Uint8Array, header: Omit<Frame, 'payload'>): void {
  const { program, version, procedure, type, serial, status } = header;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  view.setUint32(0, bytes.length);
  view.setUint32(4, program);
  view.setUint32(8, version);
  view.setInt32(12, procedure);
  view.setInt32(16, type);
  view.setUint32(20, serial);
  view.setInt32(24, status);
}
