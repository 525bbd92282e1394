/**
 * What a kind of device is described by: one record of this form in a file of its own, and a line in `list.ts`.
 * Everything else (command line, help, API, validation, planning, opening, `vm.info`) goes through the list.
 *
 * Records are loaded with the configuration's schema, on the start path of every VM: what only some VMs do with a
 * device is imported when it is called, and the fields of what most VMs do not have are made when they are first asked
 * for (`once`).
 */
import type { VirtualMachineOptions } from '../config/libraryOptions.ts';
import type { Field, Infer } from '../config/schema.ts';
import type { Uint64 } from '../config/uint64.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import type { CharBackendSpec, DeviceSpec, ImageFormat, NativeAddon } from '../native.ts';
import type { SocketOwner } from '../vmm/listeningSocket.ts';

/** What every PCI device may be told; of one that is only switched on, all that is known. */
export interface Device {
  readonly id?: string;
  readonly iommu?: boolean;
  readonly pci_segment?: number;
  readonly pci_device_id?: number;
}

/** The configuration of one device, by the schema of its field. */
type DeviceOf<S> = S extends { readonly type: 'array'; readonly items: infer I }
  ? Infer<I>
  : S extends { readonly type: 'boolean' }
    ? Device
    : Infer<S>;

/**
 * What a machine has to know of a kind of device, wherever in a configuration such devices come from.
 * @typeParam R what is opened for a device; undefined for one that needs nothing of the host
 */
interface MachineDeviceRecord<Name extends string, R, D> {
  readonly name: Name;
  /** What a device is called that was given no identifier: always the same, or one with a number. */
  readonly ids: DeviceIdRule;
  /** In `tsvmm ctl info`; by its name and its paths unless told. */
  readonly listing?: DeviceListing;

  /** What has to be opened before the machine is planned. */
  readonly opening?: DeviceOpening<D, R>;
  /** What it needs on the bus; a virtio device without memory of its own unless told. */
  readonly needs?: DeviceNeeds<R>;
  /** Absent if the core has no such device yet: the schema then says `unsupported`. */
  specification?(device: D, opened: R, config: VmConfig): DeviceSpec;
  /** What can be asked of a device while its machine runs. */
  readonly operations?: Readonly<Record<string, DeviceOperation<D>>>;
}

/** Devices that come from another part of a configuration, as a whole. */
export interface DerivedDeviceRecord<Name extends string, R = undefined, D = Device>
  extends MachineDeviceRecord<Name, R, D> {
  /** In order. What has an identifier of its own in the configuration is the same object as there. */
  devices(config: VmConfig): readonly D[];
}

/**
 * Devices with a field of their own in a configuration. The name is that on the command line (`--name`) and in the API
 * (`vm.add-name`).
 * @typeParam S schema of the configuration's field: an array for devices of which there may be many, an object for one
 * with settings, a boolean for one that has none
 */
export interface DeviceRecord<
  Name extends string,
  FieldName extends string,
  S extends Field,
  R = undefined,
  D = DeviceOf<S>,
> extends MachineDeviceRecord<Name, R, D> {
  /** Where such devices are in the configuration, and what they are there. */
  readonly field: FieldName;
  readonly schema: S;
  readonly option: DeviceOption;
  /** The library's short form, if there is one. */
  readonly library?: LibraryOption;
  /** Fields that are paths of the host, by what is done there. */
  readonly paths?: DevicePaths;
  /** Of a device that can be added and removed by the API. */
  readonly addition?: DeviceAddition;

  /** False for a device that is configured not to be there. */
  isPresent?(device: D): boolean;
  /** Of a device that is only switched on: whether the rest of a configuration, and its devices, switch it on. */
  isNeeded?(config: VmConfig, devices: readonly Device[]): boolean;
  /** Fills in what is to stay the same over reboots, such as an address, when a configuration becomes a VM's. */
  complete?(device: D): void;
  /** Rules between fields, those of other devices and of the machine too. @throws ConfigError */
  check?(device: D, config: VmConfig): void;
  /** Rules between all devices of this kind. @throws ConfigError */
  checkAll?(devices: readonly D[], config: VmConfig): void;
  /** What speaks against one more of them beside those of a configuration. @throws VmmError */
  checkAddition?(device: D, config: VmConfig): void;
  /** What is valid, and no machine has yet. @throws ConfigError */
  checkBootable?(device: D): void;
}

/** A record of any kind that has a field: an element of `deviceRecords`. */
export type AnyDeviceRecord = DeviceRecord<string, string, Field, unknown, Device>;
/** A record of any kind. */
export type AnyMachineDeviceRecord = AnyDeviceRecord | DerivedDeviceRecord<string, unknown, Device>;

interface DeviceOption {
  /**
   * `list`: several option strings. `options`: one. `console`: one, with a mode without a key. `switch`: on by being
   * there.
   */
  readonly kind: 'list' | 'options' | 'console' | 'switch';
  /** The flag means something without any options, too. */
  readonly bare?: true;
  /** What the option's fields are unless its words say something else; the schema's default unless told. */
  readonly defaults?: Readonly<Record<string, unknown>>;
  /** Where the manual has it. What no machine has yet is in a group of its own. */
  readonly group?: OptionGroup;
  /** Words after the flag, for the manual. */
  readonly example?: string;
}

export type OptionGroup = 'io' | 'memory' | 'consoles' | 'further';

interface LibraryOption {
  readonly name: keyof VirtualMachineOptions;
  /** Short forms to JSON forms; what is given is the JSON form unless told. */
  expand?(value: unknown): unknown;
}

type DeviceIdRule = { readonly fixed: string } | { readonly prefix: string };

/** Names of fields. */
export interface DevicePaths {
  /** Holds what the guest or the VMM reads, or what the guest keeps: no output may go there. */
  readonly files?: readonly string[];
  readonly sockets?: readonly string[];
  /** What the guest prints is appended there. */
  readonly outputs?: readonly string[];
}

interface DeviceListing {
  readonly called: string;
  /** What is behind it. The device is what another program has told: its fields may be anything. */
  backedBy?(device: Readonly<Record<string, unknown>>, texts: ListingTexts): string;
}

/** Human-readable texts of values. */
export interface ListingTexts {
  readonly text: (value: unknown) => string;
  readonly bytes: (value: unknown) => string;
}

export interface DeviceAddition {
  /** In messages that are part of the REST API: `The network device could not be added to the VM`. */
  readonly called: string;
  /** In sentences: `Add a network device`. */
  readonly help: string;
  /**
   * The field that holds descriptors, which come beside a request (SCM_RIGHTS): one, or one for each pair of queues.
   */
  readonly descriptors?: { readonly field: string; readonly many: boolean };
}

interface DeviceOpening<D, R> {
  /**
   * When what is opened is closed. `machine`: by the start of the machine, as soon as the core has its duplicates.
   * `vm`: the VM, when it is shut down or deleted; its next machine finds the same open, so that no other process can
   * take a lock or a path between two machines.
   */
  readonly lifetime: 'machine' | 'vm';
  /** Has effects outside of this process (an interface, another process): opened last, when nothing else can fail. */
  readonly last?: true;
  /** @throws VmmError; `FileInUse` where it is worth a second attempt in a moment */
  open(device: D, context: OpenContext): R | Promise<R>;
}

export interface OpenContext {
  readonly native: NativeAddon;
  /** Gets every descriptor that is to be closed at the end of the lifetime, also after a failure. */
  readonly opened: number[];
  /**
   * The same for sockets that this process listens on, of devices with lifetime `vm`. A process that must end at once
   * removes them, and closes nothing.
   */
  readonly sockets: SocketOwner[];
  /** Formats of images that were guessed, for as long as the configuration lives. */
  readonly guessedFormats: () => WeakMap<object, ImageFormat>;
  /** The host end of the console, which is opened when a VM is created: its path is in the configuration then. */
  readonly consoleBackend: CharBackendSpec | undefined;
  /** In characters; 0 by 0 if unknown. */
  readonly consoleSize: () => { readonly columns: number; readonly rows: number };
  /**
   * To be called before files are opened by name: on this thread, all else would wait for a store that hangs.
   * @throws VmmError with the name of one whose store does not answer
   */
  readonly filesAnswer: (paths: readonly string[]) => Promise<void>;
  /** Receives human-readable warnings. */
  readonly warn: (message: string) => void;
  /** Gets notes for verbose logs. */
  readonly note: (message: string) => void;
}

interface DeviceNeeds<R> {
  /** Registers below 4 GiB, where the oldest firmware reaches them. */
  readonly below4G?: true;
  /**
   * No virtio device, but a function with one BAR of this many bytes below 4 GiB, which the core has a place of its own
   * for.
   */
  readonly barSize?: number;
  /** Bytes of the device's own memory, behind a BAR of its own. */
  memory?(opened: R): number;
}

/** Calls of the core, addressed by device and operation. */
export interface DeviceCalls {
  /** The device's own file in native/virtio/ says what it takes. */
  call(id: string, operation: string, operands: object): Promise<void>;
}

export interface DeviceOperation<D> {
  /** The machine does not answer meanwhile: its counters stand still. */
  readonly busy?: true;
  /**
   * Checks the operands, asks the core, and writes into the configuration what has changed.
   * @throws VmmError
   */
  run(
    core: DeviceCalls,
    id: string,
    device: D,
    config: VmConfig,
    operands: readonly Uint64[],
  ): Promise<void> | void;
}
