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
import './recognizedErrors.ts';
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import type { InspectOptions } from 'node:util';
import {
  configFromOptions,
  decodeRequest,
  deviceFromOptions,
  type VirtualMachineOptions,
} from './config/libraryOptions.ts';
import { MAX_TIMER_MS } from './config/limits.ts';
import { vmRemoveDevice, vmResize, vmResizeDisk, vmResizeZone } from './config/requests.ts';
import { bytesOf, type ResizeOptions, resizeRequest } from './config/resizeOptions.ts';
import type { VmConfig, VmConfigInput } from './config/vmConfig.ts';
import type { DeviceName } from './devices/registry.ts';
import { type Abortable, unlessAborted } from './host/abort.ts';
import type { GuestStream } from './host/guestStream.ts';
import { streamAdopter } from './host/listen.ts';
import { loadNative, type NativeAddon } from './native.ts';
import type { ConsoleSize, Terminal } from './vmm/consoles.ts';
import { VmmError } from './vmm/errors.ts';
import { type EventsOptions, iterateEvents, type NumberedEvent } from './vmm/eventIterator.ts';
import { EventLog } from './vmm/eventLog.ts';
import type { VmmEvent, VmmExit } from './vmm/events.ts';
import type { DevicePlace, RemovalOptions } from './vmm/hotplug.ts';
import type { DeviceNode, PendingDevices, PendingVcpus } from './vmm/info.ts';
import type { Lifecycle } from './vmm/lifecycle.ts';
import { tell } from './vmm/listener.ts';
import { flatVcpuCounters, vcpuCounters } from './vmm/vcpuCounters.ts';
import { Vmm } from './vmm/vmm.ts';

export {
  type ControllableVm,
  type ServeVmhostOptions,
  serveVmhost,
  type VmControllerOptions,
  VmhostClient,
  VmhostError,
  type VmhostPaths,
  type VmhostResponse,
  type VmhostService,
  type VmhostState,
} from './api/vmhost/library.ts';
export { ConfigError, type ConfigErrorCode, type ConfigErrorKind } from './config/configError.ts';
export type { ConsoleOption, VirtualMachineOptions } from './config/libraryOptions.ts';
export type { VmResize } from './config/requests.ts';
export type { ResizeOptions } from './config/resizeOptions.ts';
export type { VmConfig, VmConfigInput } from './config/vmConfig.ts';
export type { Abortable } from './host/abort.ts';
export type { GuestStream, WaitForOptions } from './host/guestStream.ts';
export { PlatformError, type PlatformErrorCode } from './platform/platformError.ts';
export type { ConsoleSize, Terminal } from './vmm/consoles.ts';
export { errorChain, VmmError, type VmmErrorKind } from './vmm/errors.ts';
export type { EventsOptions, NumberedEvent } from './vmm/eventIterator.ts';
export type { EventRecord } from './vmm/eventRecord.ts';
export type { EndCause, VmmEvent, VmmExit } from './vmm/events.ts';
export type { DevicePlace, RemovalOptions } from './vmm/hotplug.ts';
export type { DeviceNode, PciBarResource, PendingDevices, PendingVcpus } from './vmm/info.ts';
export type { Lifecycle } from './vmm/lifecycle.ts';

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
  /** A warning; without a listener it is passed to `process.emitWarning`. */
  warning: [string];
  /** Every event, in the form of the event monitor. */
  event: [VmmEvent];
}

/** What the REST API's `vm.info` tells, but that the state is spelled as in the library. */
export interface VmInfo {
  readonly config: VmConfig;
  readonly state: Lifecycle;
  /** Bytes. */
  readonly memory_actual_size: number;
  /** Only of a machine whose devices give the guest memory, or take some: bytes that it is asked to have. */
  readonly memory_requested_size?: number;
  /** Only while the guest has not done all that it was asked for. */
  readonly pending_vcpus?: PendingVcpus;
  /** Devices that the guest was asked to give up and has still, as they were configured; only while there are some. */
  readonly pending_devices?: PendingDevices;
  /** Only while there is a machine. */
  readonly device_tree?: Readonly<Record<string, DeviceNode>>;
}

/** By device and name. Plain numbers: they can be printed, compared and written as JSON. */
export type Counters = Record<string, Record<string, number>>;

export interface ResizeWaitOptions extends Abortable {
  /** How long the guest may take, in milliseconds; 60,000 unless given. */
  readonly waitMs?: number;
}

export interface StopOptions extends Abortable {
  /** How long the guest may take before it is ended by force, `Infinity` for ever; 30,000 unless given. */
  readonly timeoutMs?: number;
}

/** What the process around a VM decides rather than its configuration. */
export interface VirtualMachineContext {
  /** Descriptors that `inherit` means; the standard streams unless given. An input of -1 is none. */
  readonly terminal?: Terminal;
  /**
   * Instead of the package's own addon.
   * @internal
   */
  readonly native?: NativeAddon;
}

const STOP_MS = 30_000;
/** Guests take seconds for many vCPUs or much memory, and more where processors are few. */
const RESIZE_MS = 60_000;
/** VMADDR_PORT_ANY is the highest number, and no port. */
const MAX_VSOCK_PORT = 2 ** 32 - 2;

const simpleEvents = new Set(['booted', 'paused', 'resumed', 'rebooted', 'shutdown']);

export class VirtualMachine extends EventEmitter<VirtualMachineEvents> {
  /** Resolves when the VM is gone: the guest powered off, a vCPU failed, or `close` was called. Never rejects. */
  readonly exited: Promise<VmmExit>;

  readonly #vmm: Vmm;
  readonly #streams: Streams;
  readonly #log = new EventLog();

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
      this.#log.end();
      tell(() => this.emit('exit', exit));
      return exit;
    });
  }

  /**
   * Prepares a VM: consoles are opened, nothing runs yet. Also one that is never booted has to be closed: until then it
   * keeps them open.
   * @param options the short form, or the object that the REST API's vm.create takes (it has a `payload`)
   * @throws ConfigError if the options cannot be understood; VmmError if a console cannot be opened
   */
  static async create(
    options: VirtualMachineOptions | VmConfigInput,
    context: VirtualMachineContext = {},
  ): Promise<VirtualMachine> {
    const config = configFromOptions(options);
    const native = context.native ?? loadNative();
    // The core begins with what is the same for every VM, while the rest is got ready here.
    native.precreateVm(false);
    const vm = new VirtualMachine(native, context.terminal, await makeStreams(options));
    try {
      await vm.#vmm.create(config);
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

  /**
   * Builds the machine and starts the guest. A boot that is aborted is undone.
   * @throws VmmError with the cause below it; it may be tried again
   */
  boot(options: Abortable = {}): Promise<void> {
    return unlessAborted(options, async () => {
      await this.#vmm.boot();
      if (options.signal?.aborted) await this.#vmm.shutdown();
    });
  }

  /** An abort ends the waiting; the pause itself goes on. The same goes for the calls below. */
  pause(options: Abortable = {}): Promise<void> {
    return unlessAborted(options, () => this.#vmm.pause());
  }

  resume(options: Abortable = {}): Promise<void> {
    return unlessAborted(options, () => this.#vmm.resume());
  }

  /** Starts the guest anew, on a new machine. */
  reboot(options: Abortable = {}): Promise<void> {
    return unlessAborted(options, () => this.#vmm.reboot());
  }

  /** Asks the guest to shut down. */
  powerButton(): Promise<void> {
    return this.#vmm.powerButton();
  }

  /** Asks the guest to shut down, and starts it anew when it has. */
  restart(): Promise<void> {
    return this.#vmm.restart();
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
   * Changes sizes: `{ memory: '2G' }`, `{ balloon: '256M' }`, `{ vcpus: 4 }`. With `vcpus` and `memory` the promise
   * means done: the guest has started vCPUs that were added, or has given up those that were too many; it has plugged
   * its memory in or out (`hotplug_method` VirtioMem), or the machine has it (Acpi; when the guest uses it is up to the
   * guest). Of
   * `balloon`, and of the REST API's fields, it means that the guest was asked, unless there is `waitMs`:
   * `info().memory_actual_size` shows how far it is.
   * @throws ConfigError if these are no sizes; VmmError if the VM has no such thing, or cannot change it while it runs;
   * with code ERR_TSVMM_BUSY while the guest has not given up what it was asked for before, with ERR_TSVMM_TIMEOUT if
   * it takes longer: it may still do so later
   */
  async resize(sizes: ResizeOptions, options: ResizeWaitOptions = {}): Promise<void> {
    const isDone = sizes?.vcpus !== undefined || sizes?.memory !== undefined;
    const { waitMs = isDone ? RESIZE_MS : undefined } = options;
    const request = decodeRequest(vmResize, resizeRequest(sizes));
    const waiting = waitMs === undefined ? request : { ...request, wait_ms: waitMs };
    await unlessAborted(options, () => this.#vmm.resize(waiting, options));
  }

  /**
   * Gives a memory zone another size. Resolves when the guest has plugged in, or out, what makes it that.
   * @param size bytes, or a string such as `'2G'`, with what the zone has at boot
   * @throws ConfigError if that is no size; VmmError if there is no such zone, or it cannot have that size, with code
   * ERR_TSVMM_TIMEOUT if the guest takes longer: it may still do so later
   */
  async resizeZone(id: string, size: number | string, options: ResizeWaitOptions = {}): Promise<void> {
    const { waitMs = RESIZE_MS } = options;
    const request = decodeRequest(vmResizeZone, { id, desired_ram: bytesOf(size) });
    const resize = () => this.#vmm.resizeZone(request.id, request.desired_ram, waitMs, options);
    await unlessAborted(options, resize);
  }

  /**
   * Gives a disk another size, which the guest is told.
   * @param id as in the configuration; `_disk0` for the first disk without a name of its own
   * @param bytes a multiple of 512; what is beyond a smaller size is lost
   * @throws ConfigError if that is no size; VmmError if there is no such disk, it is read-only, or its image cannot
   * have that size
   */
  async resizeDisk(id: string, bytes: number, options: Abortable = {}): Promise<void> {
    const request = decodeRequest(vmResizeDisk, { id, desired_size: bytes });
    await unlessAborted(options, () => this.#vmm.resizeDisk(request.id, request.desired_size));
  }

  /**
   * Adds a disk: a path of a raw image, or the REST API's object. A guest that runs finds it within moments; a VM that
   * was not booted has it from its boot on. The same goes for the calls below.
   * @returns where a machine has it, undefined if there is none
   * @throws ConfigError if that is no disk, VmmError if it cannot be added; nothing is added then
   */
  addDisk(
    disk: NonNullable<VirtualMachineOptions['disks']>[number],
    options: Abortable = {},
  ): Promise<DevicePlace | undefined> {
    return this.#add('disk', disk, options);
  }

  /** Adds a network device: `'user'` for the host's network, or the REST API's object. */
  addNetwork(
    net: NonNullable<VirtualMachineOptions['networks']>[number],
    options: Abortable = {},
  ): Promise<DevicePlace | undefined> {
    return this.#add('net', net, options);
  }

  /** Adds persistent memory: a file's path, or the REST API's object. */
  addPmem(
    pmem: NonNullable<VirtualMachineOptions['pmem']>[number],
    options: Abortable = {},
  ): Promise<DevicePlace | undefined> {
    return this.#add('pmem', pmem, options);
  }

  /** Adds the socket device, of which there is one at most. */
  addVsock(
    vsock: NonNullable<VirtualMachineOptions['vsock']>,
    options: Abortable = {},
  ): Promise<DevicePlace | undefined> {
    return this.#add('vsock', vsock, options);
  }

  async #add(kind: DeviceName, given: unknown, options: Abortable): Promise<DevicePlace | undefined> {
    const device = deviceFromOptions(kind, given);
    return unlessAborted(options, () => this.#vmm.addDevice(kind, device));
  }

  /**
   * Removes a device. A guest that runs is asked to give it up: what the device has of the host is kept until it has,
   * which may be never. The event `device-removed` tells; with `waitMs` the promise means done. After an abort no force
   * is used.
   * @param id as in the configuration, or as the device was added
   * @throws ConfigError if that is no identifier; VmmError if there is no such device, it cannot be removed, or the
   * guest keeps it for longer than `waitMs`
   */
  async removeDevice(id: string, options: RemovalOptions & Abortable = {}): Promise<void> {
    const request = decodeRequest(vmRemoveDevice, { id });
    await unlessAborted(options, () => this.#vmm.removeDevice(request.id, options));
  }

  /**
   * Connects to a program of the guest that listens on a vsock port. (A guest's connection to port P of the host, cid
   * 2, goes to the UNIX socket `<vsock.socket>_P`.)
   * @param port from 0 to 4,294,967,294
   * @throws Error with code ECONNREFUSED if the guest does not accept; RangeError if that is no port; VmmError if the
   * VM has no vsock
   */
  async connectVsock(port: number, { signal }: Abortable = {}): Promise<Socket> {
    if (!Number.isInteger(port) || port < 0 || port > MAX_VSOCK_PORT) {
      throw new RangeError(`A vsock port is a whole number from 0 to ${MAX_VSOCK_PORT}, and not ${port}`);
    }
    const { vsock } = this.info().config;
    if (vsock === undefined) throw new VmmError('The VM has no vsock');
    const { connectVsock } = await import('./host/vsockClient.ts');
    return connectVsock(vsock.socket, port, signal);
  }

  /**
   * Tells the guest the size of its virtio console, in characters up to 65,535, now and when it starts anew. Without an
   * argument that of the terminal which the console inherits; to be called when that changes.
   */
  resizeConsole(size?: ConsoleSize): Promise<void> {
    return this.#vmm.resizeConsole(size);
  }

  /** Ends the machine without asking the guest. The VM can be booted again. */
  shutdown(options: Abortable = {}): Promise<void> {
    return unlessAborted(options, () => this.#vmm.shutdown());
  }

  /**
   * Asks the guest to shut down by its power button, and ends it by force if it has not within the time given. A guest
   * that is paused goes on first. An abort ends the waiting; neither is the button taken back nor force used then.
   * @returns what `exited` resolves with: the VM is gone
   * @throws RangeError if `timeoutMs` is no time
   */
  async stop({ timeoutMs = STOP_MS, signal }: StopOptions = {}): Promise<VmmExit> {
    signal?.throwIfAborted();
    if (!(timeoutMs >= 0)) throw new RangeError(`Nobody can wait for ${timeoutMs} ms`);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, Math.min(timeoutMs, MAX_TIMER_MS));
    });
    try {
      if (this.state === 'paused') await this.#vmm.resume();
      if (this.state === 'running') {
        await this.#vmm.powerButton();
        await unlessAborted({ signal }, () => Promise.race([this.exited, late]));
      }
    } catch (error) {
      if (signal?.aborted) throw error;
      // It ended, or was changed by others, meanwhile.
    } finally {
      clearTimeout(timer);
    }
    await this.close();
    return this.exited;
  }

  /** Ends the machine and frees everything. Idempotent. */
  async close(): Promise<void> {
    await this.#vmm.quit();
    await this.exited;
  }

  /** Lets the process end although the VM runs, which ends the VM. Of `ref` and `unref` the last one counts. */
  unref(): this {
    this.#vmm.keepAlive(false);
    return this;
  }

  /** While the VM runs the process does not end by itself; so it is at first. */
  ref(): this {
    this.#vmm.keepAlive(true);
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  info(): VmInfo {
    const info = this.#vmm.info();
    // A VM of the library has been started: no machine has more bytes than are exact.
    return { ...info, state: this.state, memory_actual_size: Number(info.memory_actual_size) };
  }

  /**
   * By device and name, and by vCPU (`vcpu0`): `exits_*` to this process, `kvm_*` as KVM counts, `run_ns` and
   * `steal_ns`. While the VM is paused, resumed or rebooted, what it was just before.
   * @throws VmmError if the VM is not running
   */
  counters(): Counters {
    const vcpus = this.#vmm
      .vcpuStatistics()
      .map((one): [string, Record<string, bigint>] => [
        `vcpu${one.index}`,
        flatVcpuCounters(vcpuCounters(one)),
      ]);
    const devices = [...Object.entries(this.#vmm.counters()), ...vcpus].map(([id, counters]) => [
      id,
      Object.fromEntries(Object.entries(counters).map(([name, value]) => [name, Number(value)])),
    ]);
    return Object.fromEntries(devices);
  }

  /**
   * Events as they happen, in the form of the event monitor, each with a number:
   * `for await (const event of vm.events({ since: 0 }))`. Ends when the VM is gone. The latest 1,024 are kept, also for
   * those who begin later; an `events-lost` of the source `vmm` says how many a slow reader has missed.
   * @throws RangeError if `since` is no whole number; while iterating, the signal's reason
   */
  events(options: EventsOptions = {}): AsyncGenerator<NumberedEvent, void, undefined> {
    return iterateEvents(this.#log, options);
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](
    _depth: number,
    options: InspectOptions,
    inspect: (value: unknown, options: InspectOptions) => string,
  ): string {
    return `VirtualMachine ${inspect({ state: this.state, ...this.#summary() }, options)}`;
  }

  #summary(): object {
    if (this.state === 'none') return {};
    const { payload, cpus, disks = [], net = [] } = this.info().config;
    return {
      ...(payload?.kernel !== undefined && { kernel: payload.kernel }),
      ...(payload?.firmware !== undefined && { firmware: payload.firmware }),
      cpus: cpus.boot_vcpus,
      memoryBytes: this.info().memory_actual_size,
      disks: disks.map(({ path }) => path),
      networks: net.length,
    };
  }

  /** Without a listener, a warning goes where those of the runtime go. */
  #warn(message: string): void {
    if (!this.emit('warning', message)) process.emitWarning(message, 'TsvmmWarning');
  }

  #forward(event: VmmEvent): void {
    this.#log.add(event);
    if (event.source === 'vm' && simpleEvents.has(event.event)) {
      tell(() => this.emit(event.event as 'booted'));
    }
    if (event.source === 'guest' && event.event === 'panic') {
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
  const adopt = streamAdopter();
  return {
    ...(options.serial === 'stream' && { serial: new Stream(adopt) }),
    ...(options.console === 'stream' && { console: new Stream(adopt) }),
  };
}
