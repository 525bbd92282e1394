/**
 * The library: virtual machines as objects of a Node.js or Bun program.
 *
 * ```ts
 * import { VirtualMachine } from 'tsvmm';
 *
 * await using vm = await VirtualMachine.create({ kernel: 'vmlinuz', cmdline: 'console=ttyS0', serial: 'stream' });
 * await vm.boot();
 * for await (const chunk of vm.serial) process.stdout.write(chunk);
 * const { reason } = await vm.exited;
 * ```
 *
 * Each object holds one VM and nothing is shared between them; no signal handlers are installed, and the terminal is
 * left alone unless a console is told to `inherit` it.
 */
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { configFromOptions, type VirtualMachineOptions } from './config/friendlyOptions.ts';
import type { VmResize } from './config/requests.ts';
import type { VmConfigInput } from './config/vmConfig.ts';
import type { GuestStream } from './host/guestStream.ts';
import { loadNative, type NativeAddon } from './native.ts';
import type { ConsoleSize, Terminal } from './vmm/consoles.ts';
import { VmmError } from './vmm/errors.ts';
import type { VmmEvent, VmmExit } from './vmm/events.ts';
import type { VmInfo } from './vmm/info.ts';
import type { Lifecycle } from './vmm/lifecycle.ts';
import { tell } from './vmm/listener.ts';
import { type Counters, Vmm } from './vmm/vmm.ts';

export {
  type ServeVmhostOptions,
  serveVmhost,
  VmhostClient,
  VmhostError,
  type VmhostResponse,
  type VmhostService,
  type VmhostState,
} from './api/vmhost/library.ts';
export { ConfigError, type ConfigErrorCode, type ConfigErrorKind } from './config/configError.ts';
export type { ConsoleOption, VirtualMachineOptions } from './config/friendlyOptions.ts';
export type { VmResize } from './config/requests.ts';
export type { VmConfig, VmConfigInput } from './config/vmConfig.ts';
export type { GuestStream } from './host/guestStream.ts';
export { PlatformError, type PlatformErrorCode } from './platform/platformError.ts';
export type { ConsoleSize } from './vmm/consoles.ts';
export { errorChain, VmmError, type VmmErrorKind } from './vmm/errors.ts';
export type { VmmEvent, VmmExit } from './vmm/events.ts';
export type { VmInfo } from './vmm/info.ts';
export type { Counters } from './vmm/vmm.ts';

/** What a VM tells its listeners, with the arguments they get. */
export interface VirtualMachineEvents {
  booted: [];
  paused: [];
  resumed: [];
  /** Also after a reset by the guest. */
  rebooted: [];
  /** The machine is gone; the configuration is still there. */
  shutdown: [];
  /** The VM is gone for good, for the reason given. */
  exit: [VmmExit];
  /** The guest's kernel failed (with `pvpanic`); `crash_loaded`: and goes on with its crash kernel. */
  panic: ['panic' | 'crash_loaded'];
  /** Something that a person should know; without a listener it is passed to `process.emitWarning`. */
  warning: [string];
  /** Every event, in the form of the event monitor. */
  event: [VmmEvent];
}

/** What the process around a VM decides rather than its configuration. */
export interface VirtualMachineContext {
  /** Descriptors that `inherit` means; the standard streams unless given. An input of -1 is none. */
  readonly terminal?: Terminal;
  /** Instead of the package's own addon. */
  readonly native?: NativeAddon;
}

const simpleEvents = new Set(['booted', 'paused', 'resumed', 'rebooted', 'shutdown']);

export class VirtualMachine extends EventEmitter<VirtualMachineEvents> {
  /** Resolves when the VM is gone: the guest powered off, a vCPU failed, or `close` was called. Never rejects. */
  readonly exited: Promise<VmmExit>;

  readonly #vmm: Vmm;
  readonly #streams: Streams;

  private constructor(native: NativeAddon, terminal: Terminal | undefined, streams: Streams) {
    super();
    this.#streams = streams;
    this.#vmm = new Vmm({
      native,
      streams,
      ...(terminal && { terminal }),
      onEvent: (event) => this.#forward(event),
      onWarning: (message) => this.#warn(message),
    });
    this.exited = this.#vmm.exited.then((exit) => {
      streams.serial?.finish();
      streams.console?.finish();
      tell(() => this.emit('exit', exit));
      return exit;
    });
  }

  /**
   * Prepares a VM: consoles are opened, nothing runs yet.
   * @param options the short form, or the object that the REST API's vm.create takes (it has a `payload`)
   * @throws ConfigError if the options cannot be understood; VmmError if a console cannot be opened
   */
  static async create(
    options: VirtualMachineOptions | VmConfigInput,
    context: VirtualMachineContext = {},
  ): Promise<VirtualMachine> {
    const native = context.native ?? loadNative();
    const vm = new VirtualMachine(native, context.terminal, await makeStreams(options));
    try {
      await vm.#vmm.create(configFromOptions(options));
      return vm;
    } catch (error) {
      await vm.close();
      throw error;
    }
  }

  /** `none` once the VM is gone. */
  get state(): Lifecycle {
    return this.#vmm.state;
  }

  /**
   * The serial port as a stream: read what the guest writes, write what it is to read.
   * @throws Error unless the VM was created with `serial: 'stream'`
   */
  get serial(): GuestStream {
    const { serial } = this.#streams;
    if (serial === undefined) throw new Error("The VM was not created with serial: 'stream'");
    return serial;
  }

  /**
   * The virtio console as a stream.
   * @throws Error unless the VM was created with `console: 'stream'`
   */
  get console(): GuestStream {
    const stream = this.#streams.console;
    if (stream === undefined) throw new Error("The VM was not created with console: 'stream'");
    return stream;
  }

  /** Builds the machine and starts the guest. @throws VmmError with the cause below it; it may be tried again */
  boot(): Promise<void> {
    return this.#vmm.boot();
  }

  pause(): Promise<void> {
    return this.#vmm.pause();
  }

  resume(): Promise<void> {
    return this.#vmm.resume();
  }

  /** Starts the guest anew, on a new machine. */
  reboot(): Promise<void> {
    return this.#vmm.reboot();
  }

  /** Asks the guest to shut down. */
  powerButton(): Promise<void> {
    return this.#vmm.powerButton();
  }

  /** Sends a non-maskable interrupt to every vCPU. */
  nmi(): Promise<void> {
    return this.#vmm.nmi();
  }

  /**
   * Tells the guest, by a new VM generation id, that it is a copy or went back in time: to be called when that happened
   * behind its back, as when its disks were cloned or reverted. Linux then draws new random seeds.
   */
  renewGeneration(): Promise<void> {
    return this.#vmm.renewGeneration();
  }

  /**
   * Changes sizes: `{ desired_balloon: bytes }`. The guest takes its time; `info().memory_actual_size` shows how far it is.
   * @throws VmmError if the VM has no such thing, or cannot change it while it runs
   */
  resize(sizes: VmResize): Promise<void> {
    return this.#vmm.resize(sizes);
  }

  /**
   * Gives a disk another size, which the guest is told.
   * @param id as in the configuration; `_disk0` for the first disk without a name of its own
   * @param bytes a multiple of 512; what is beyond a smaller size is lost
   * @throws VmmError if there is no such disk, it is read-only, or its image cannot have that size
   */
  resizeDisk(id: string, bytes: number): Promise<void> {
    return this.#vmm.resizeDisk(id, bytes);
  }

  /**
   * Connects to a program of the guest that listens on a vsock port. (A guest's connection to port P of the host, cid 2,
   * goes to the UNIX socket `<vsock.socket>_P`.)
   * @throws Error with code ECONNREFUSED if the guest does not accept; VmmError if the VM has no vsock
   */
  async connectVsock(port: number): Promise<Socket> {
    const { vsock } = this.info().config;
    if (vsock === undefined) throw new VmmError('The VM has no vsock');
    const { connectVsock } = await import('./host/vsockClient.ts');
    return connectVsock(vsock.socket, port);
  }

  /**
   * Tells the guest the size of its virtio console, in characters up to 65,535, now and when it starts anew. Without an
   * argument that of the terminal which the console inherits; to be called when that changes.
   */
  resizeConsole(size?: ConsoleSize): Promise<void> {
    return this.#vmm.resizeConsole(size);
  }

  /** Ends the machine without asking the guest. The VM can be booted again. */
  shutdown(): Promise<void> {
    return this.#vmm.shutdown();
  }

  /** Ends the machine and frees everything. Idempotent. */
  async close(): Promise<void> {
    await this.#vmm.quit();
    await this.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  info(): VmInfo {
    return this.#vmm.info();
  }

  /** By device and name; while the VM is paused, resumed or rebooted, what it was just before. @throws VmmError if the VM is not running */
  counters(): Counters {
    return this.#vmm.counters();
  }

  /** Heard by nobody, a warning goes where those of the runtime go. */
  #warn(message: string): void {
    if (!this.emit('warning', message)) process.emitWarning(message, 'TsvmmWarning');
  }

  #forward(event: VmmEvent): void {
    if (event.source === 'vm' && simpleEvents.has(event.event)) {
      tell(() => this.emit(event.event as 'booted'));
    }
    if (event.source === 'guest') {
      tell(() => this.emit('panic', event.properties?.event as 'panic'));
    }
    this.emit('event', event);
  }
}

interface Streams {
  readonly serial?: GuestStream;
  readonly console?: GuestStream;
}

/** Those that the options ask for. */
async function makeStreams(options: VirtualMachineOptions | VmConfigInput): Promise<Streams> {
  if (options.serial !== 'stream' && options.console !== 'stream') return {};
  const { GuestStream: Stream } = await import('./host/guestStream.ts');
  const { streamAdopter } = await import('./host/listen.ts');
  const adopt = await streamAdopter();
  return {
    ...(options.serial === 'stream' && { serial: new Stream(adopt) }),
    ...(options.console === 'stream' && { console: new Stream(adopt) }),
  };
}
