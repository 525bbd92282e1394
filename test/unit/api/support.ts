/** A VMM that does what a test says, and a client that sees every byte. */
import { connect, type Socket } from 'node:net';
import { vi } from 'vitest';
import type { ApiVmm } from '../../../src/api/rest/endpoints.ts';
import { decode } from '../../../src/config/decode.ts';
import { vmConfig } from '../../../src/config/vmConfig.ts';

export function fakeVmm() {
  const done = async (): Promise<void> => {};
  return {
    create: vi.fn<ApiVmm['create']>(done),
    delete: vi.fn(done),
    boot: vi.fn(done),
    shutdown: vi.fn(done),
    reboot: vi.fn(done),
    pause: vi.fn(done),
    resume: vi.fn(done),
    powerButton: vi.fn(done),
    nmi: vi.fn(done),
    resize: vi.fn<ApiVmm['resize']>(done),
    resizeDisk: vi.fn<ApiVmm['resizeDisk']>(done),
    quit: vi.fn(done),
    info: vi.fn<ApiVmm['info']>(() => ({
      config: decode(vmConfig, {}),
      state: 'Created',
      memory_actual_size: 4096,
    })),
    counters: vi.fn<ApiVmm['counters']>(() => ({
      _disk0: { read_latency_min: 18_446_744_073_709_551_615n },
    })),
  } satisfies ApiVmm;
}

export class Client {
  /** Everything received. */
  text = '';
  closed = false;
  readonly socket: Socket;
  #changed: () => void = () => {};

  constructor(path: string) {
    this.socket = connect({ path, allowHalfOpen: true });
    this.socket.on('data', (bytes) => {
      this.text += bytes.toString('latin1');
      this.#changed();
    });
    const close = () => {
      this.closed = true;
      this.#changed();
    };
    this.socket.on('end', close);
    this.socket.on('close', close);
    this.socket.on('error', close);
  }

  send(text: string): void {
    this.socket.write(Buffer.from(text, 'latin1'));
  }

  async until(condition: (client: this) => boolean): Promise<this> {
    while (!condition(this)) {
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
    return this;
  }

  responses(count: number): Promise<this> {
    return this.until(() => this.text.split('HTTP/1.1 ').length > count);
  }
}
