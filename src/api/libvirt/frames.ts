/** Messages on a connection: a length, a header, and XDR or bytes of a stream behind it. */

export const Program = { remote: 0x2000_8086, keepalive: 0x6b65_6570 } as const;
export const VERSION = 1;

export const MessageType = { call: 0, reply: 1, message: 2, stream: 3, callWithFds: 4 } as const;
export const Status = { ok: 0, error: 1, continue: 2 } as const;

const LENGTH_BYTES = 4;
const HEADER_BYTES = 28;
/** Of a message without its length (VIR_NET_MESSAGE_MAX). */
const MAX_MESSAGE = 33_554_432;

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

/** Cuts what arrives into messages. Holds one unfinished message at most. */
export class FrameReader {
  #chunks: Uint8Array[] = [];
  #size = 0;

  /** @throws FrameError */
  add(bytes: Uint8Array): Frame[] {
    this.#chunks.push(bytes);
    this.#size += bytes.length;
    const frames: Frame[] = [];
    for (let length = this.#nextLength(); length !== undefined; length = this.#nextLength()) {
      frames.push(decodeFrame(this.#cut(length)));
    }
    return frames;
  }

  /** Of the first message, if all of it is there. */
  #nextLength(): number | undefined {
    if (this.#size < LENGTH_BYTES) return undefined;
    if ((this.#chunks[0] as Uint8Array).length < LENGTH_BYTES) this.#join();
    const first = this.#chunks[0] as Uint8Array;
    const length = new DataView(first.buffer, first.byteOffset).getUint32(0);
    if (length < HEADER_BYTES || length - LENGTH_BYTES > MAX_MESSAGE) {
      throw new FrameError(`a message of ${length} bytes`);
    }
    return this.#size >= length ? length : undefined;
  }

  #cut(length: number): Uint8Array {
    if ((this.#chunks[0] as Uint8Array).length < length) this.#join();
    const all = this.#chunks[0] as Uint8Array;
    const rest = all.subarray(length);
    this.#size -= length;
    if (rest.length > 0) this.#chunks[0] = rest;
    else this.#chunks.shift();
    return all.subarray(0, length);
  }

  #join(): void {
    this.#chunks = [Buffer.concat(this.#chunks)];
  }
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

export function encodeFrame({
  program,
  version,
  procedure,
  type,
  serial,
  status,
  payload,
}: Frame): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length);
  view.setUint32(4, program);
  view.setUint32(8, version);
  view.setInt32(12, procedure);
  view.setInt32(16, type);
  view.setUint32(20, serial);
  view.setInt32(24, status);
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}
