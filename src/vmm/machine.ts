/** Builds and starts a machine by a configuration. */
import { idleFields, memorySize } from '../config/memory.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import { halfLimits } from '../devices/rateLimiter.ts';
import type { AnyMachineDeviceRecord, Device, OpenContext } from '../devices/record.ts';
import { type DevicesOfKind, devicesOfAll, presentDevices } from '../devices/registry.ts';
import { giveWay } from '../host/giveWay.ts';
import type { HostInfo, MachineEvent, MachineHandle, NativeAddon } from '../native.ts';
import type { Bus } from '../platform/bus.ts';
import { type BootResources, loadPciSegments, planBoot, planMachine } from '../platform/plan.ts';
import type { ConsoleSize, Consoles, Terminal } from './consoles.ts';
import { VmmError } from './errors.ts';
import type { HeldDevices } from './heldDevices.ts';
import { retryInUse } from './lockRetry.ts';
import { openPayload } from './namedFiles.ts';
import { checkOutputs, type OutputFile } from './outputFiles.ts';
import { consoleAdvice } from './shownConsole.ts';
import { NO_HARDWARE_VIRTUALIZATION } from './vcpuError.ts';

export interface Machine {
  readonly handle: MachineHandle;
  readonly bus: Bus;
  readonly memory: MachineMemory;
  /** False where the host's KVM runs the guest's kernel code in an emulator. */
  readonly hardwareVirtualization: boolean;
}

/** What a machine has, whatever its configuration says by now. In bytes. */
interface MachineMemory {
  size: number;
  /** How much of that was not there at boot, and how often some was added. */
  added: number;
  additions: number;
}

export interface MachineContext {
  readonly native: NativeAddon;
  readonly config: VmConfig;
  readonly consoles: Consoles;
  /** What the process around the VM writes to. */
  readonly outputs: readonly OutputFile[];
  readonly terminal: Terminal;
  /** The guest waits for the debugger. */
  readonly stopped: boolean;
  /** Outlives the machine: its next one finds the same formats. */
  readonly guessedFormats: OpenContext['guessedFormats'];
  /** On the bus of the machine before, of devices that the configuration has no place for it. */
  readonly keptSlots?: ReadonlyMap<string, number>;
  /** Opened by the first machine that needs them; they outlive it, too. */
  readonly heldDevices: HeldDevices;

  /** The terminal's unless given. */
  readonly consoleSize?: ConsoleSize;
  /** Of the VM, which keeps it over reboots. */
  readonly vmGeneration: Uint8Array;
  /** The guest's first instruction waits for a resume. */
  readonly paused: boolean;
  /** It takes the place of another one, whose clients are there and ask: they are not to wait for it. */
  readonly replaces: boolean;
  readonly onEvent: (event: MachineEvent) => void;
  /** Gets the machine while it is being built: destroying it then makes the start fail soon. */
  readonly onMaking: (handle: MachineHandle) => void;
  /** @throws VmmError with the name of one whose store does not answer */
  readonly filesAnswer: (paths: readonly string[]) => Promise<void>;
  /** Receives human-readable warnings. */
  readonly warn: (message: string) => void;
  /** Gets notes for verbose logs. */
  readonly note: (message: string) => void;
}

/**
 * Builds and starts a machine. The core begins with the part that takes longest (VM, memory, vCPUs) on a thread of its
 * own, while files are opened and tables computed here.
 * @throws VmmError with nothing left behind
 */
export async function startMachine(context: MachineContext): Promise<Machine> {
  const { native, config } = context;
  const host = hostInfo(native);
  if (config.memory.zones?.length) adviseMemory(context);
  const present = presentDevices(config);
  adviseLimits(context, devicesOfAll(present));
  const handle = await createMachine(context, host);
  context.onMaking(handle);
  const opened: number[] = [];
  try {
    const files = await openWithRetry(context, present, opened);
    const devices = { ...files.devices, ...(await openDevices(context, present, opened, { last: true })) };
    const resources = { ...files, devices };
    if (context.replaces) await giveWay();
    const { boot, bus, isLinux } = await plan(context, host, resources);
    const spec = context.stopped ? { ...boot, held: true as const } : boot;
    await native.machineBoot(handle, spec, context.paused);
    if (isLinux) adviseLinux(context, host);
    const memory = { size: Number(memorySize(config.memory)), added: 0, additions: 0 };
    return { handle, bus, memory, hardwareVirtualization: host.hardwareVirtualization };
  } catch (error) {
    // Why it did not start matters more than what may be left of it.
    await native.machineDestroy(handle).catch(() => {});
    throw error;
  } finally {
    // The core has its own duplicates of what it needs.
    for (const fd of opened) native.closeFile(fd);
  }
}

/** At once, unless files have to be opened for its memory. */
async function createMachine(context: MachineContext, host: HostInfo): Promise<MachineHandle> {
  const { native, config, onEvent } = context;
  if (!config.memory.zones?.some(({ file }) => file !== undefined)) {
    return native.machineCreate(planMachine(config, host), onEvent);
  }
  const { openZoneFiles } = await import('./zoneFiles.ts');
  const files = await retryInUse(
    () => openZoneFiles(context, config),
    () => {},
  );
  try {
    return native.machineCreate(planMachine(config, host, files), onEvent);
  } finally {
    for (const fd of files.values()) native.closeFile(fd);
  }
}

/** Says what of the configuration means nothing beside zones. */
function adviseMemory({ config, warn }: MachineContext): void {
  const idle = idleFields(config.memory).map((name) => `memory.${name}`);
  if (idle.length === 0) return;
  const [verb, those] = idle.length === 1 ? ['means', 'that'] : ['mean', 'those'];
  warn(`${idle.join(', ')} ${verb} nothing, as there are memory zones: ${those} of each zone count`);
}

/** Says which rate limits are none. */
function adviseLimits({ warn }: MachineContext, devices: readonly Device[]): void {
  for (const device of devices) {
    // Most have none, and first calls take time.
    if (!('rate_limiter_config' in device)) continue;
    for (const half of halfLimits(devices)) warn(`A rate limit is off: it has ${half}`);
    return;
  }
}

/** Says what a Linux guest is going to suffer from. */
function adviseLinux({ config, warn }: MachineContext, host: HostInfo): void {
  const advice = consoleAdvice(config);
  if (!host.hardwareVirtualization) warn(`The guest will probably fail: ${NO_HARDWARE_VIRTUALIZATION}`);
  if (advice !== undefined && config.payload?.firmware === undefined) warn(advice);
}

async function plan(
  { native, config }: MachineContext,
  host: HostInfo,
  resources: BootResources,
): Promise<ReturnType<typeof planBoot>> {
  try {
    const several = (config.platform?.num_pci_segments ?? 1) > 1;
    const more = several ? await loadPciSegments() : {};
    return planBoot(config, host, { ...resources, ...more });
  } catch (error) {
    const { explainPayload } = await import('./payloadKind.ts');
    const path = config.payload?.firmware ?? config.payload?.kernel ?? '';
    throw explainPayload(native, path, resources.kernel.fd, error);
  }
}

export function hostInfo(native: NativeAddon): HostInfo {
  try {
    return native.hostInfo();
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === 'ENOENT') {
      throw new VmmError(
        'This host has no /dev/kvm: load the kvm module, or enable virtualization in its firmware',
        { code: 'ERR_TSVMM_NO_KVM' },
      );
    }
    if (code === 'EACCES' || code === 'EPERM') {
      throw new VmmError('No permission to open /dev/kvm: this user is not allowed to use KVM', {
        code: 'ERR_TSVMM_NO_KVM',
      });
    }
    throw new VmmError("Cannot use the host's KVM", { cause: error });
  }
}

/** Waits a little for what is in use. */
function openWithRetry(
  context: MachineContext,
  present: readonly DevicesOfKind[],
  opened: number[],
): Promise<BootResources> {
  const open = async () => {
    const resources = await openResources(context, present, opened);
    const outputs = [...context.consoles.files, ...context.outputs];
    if (outputs.length > 0) {
      checkOutputs(context.native, outputs, [...opened, ...context.heldDevices.descriptors]);
    }
    return resources;
  };
  return retryInUse(open, () => {
    for (const fd of opened.splice(0)) context.native.closeFile(fd);
  });
}

/**
 * Opens what devices need of the host.
 * @param last those whose opening has effects outside of this process, or all others
 * @returns by the names of their kinds
 */
async function openDevices(
  context: MachineContext,
  present: readonly DevicesOfKind[],
  opened: number[],
  { last }: { readonly last: boolean },
): Promise<BootResources['devices']> {
  const resources: Record<string, readonly unknown[]> = {};
  for (const { record, devices } of present) {
    const { opening } = record;
    if (!opening || (opening.last ?? false) !== last) continue;
    resources[record.name] = await openDevicesOf(context, record, devices, opened);
  }
  return resources;
}

/** Opens what devices of one kind need of the host. @param opened gets what is to be closed once the core has it */
export async function openDevicesOf(
  context: MachineContext,
  record: AnyMachineDeviceRecord,
  devices: readonly Device[],
  opened: number[],
): Promise<readonly unknown[]> {
  const { opening } = record;
  const common = openingContext(context);
  if (opening?.lifetime === 'vm') return context.heldDevices.open(common, record, devices);
  const resources: unknown[] = [];
  for (const device of devices) {
    resources.push(await opening?.open(device, { ...common, opened, sockets: [] }));
  }
  return resources;
}

/** What opening a device needs to know of the VM. */
function openingContext(context: MachineContext): Omit<OpenContext, 'opened' | 'sockets'> {
  const { native, config, guessedFormats, filesAnswer, warn, note } = context;
  return {
    ...{ native, guessedFormats, filesAnswer, warn, note },
    consoleBackend: context.consoles.console,
    consoleSize: () => context.consoleSize ?? consoleSize(native, config, context.terminal),
  };
}

async function openResources(
  context: MachineContext,
  present: readonly DevicesOfKind[],
  opened: number[],
): Promise<BootResources> {
  const { native, config, consoles } = context;
  const payload = config.payload ?? {};
  const firmware = payload.firmware !== undefined;
  const path = (payload.firmware ?? payload.kernel) as string;
  // Without a promise where it answers at once, as nearly always.
  if (!native.fileAnswers(path)) await context.filesAnswer([path]);
  const kernel = openPayloadFile(native, firmware ? 'firmware' : 'kernel', path, opened);
  if (firmware && (payload.cmdline !== undefined || payload.initramfs !== undefined)) {
    context.warn('The firmware is given no command line and no initramfs');
  }
  let initramfs: { fd: number; size: number } | undefined;
  if (payload.initramfs !== undefined && !firmware) {
    await context.filesAnswer([payload.initramfs]);
    initramfs = openPayloadFile(native, 'initramfs', payload.initramfs, opened);
  }
  return {
    kernel,
    readAt: (fd, offset, length) => native.readAt(fd, offset, length),
    firmware,
    ...(initramfs && { initramfs }),
    devices: await openDevices(context, present, opened, { last: false }),
    ...(consoles.serial && { serial: consoles.serial }),
    ...(consoles.debugConsole && { debugConsole: consoles.debugConsole }),
    vmGeneration: context.vmGeneration,
    ...(context.keptSlots && { keptSlots: context.keptSlots }),
  };
}

function openPayloadFile(
  native: NativeAddon,
  name: 'kernel' | 'firmware' | 'initramfs',
  path: string,
  opened: number[],
): { fd: number; size: number } {
  try {
    const fd = openPayload(native, path);
    opened.push(fd);
    return { fd, size: native.imageSize(fd) };
  } catch (error) {
    throw new VmmError(`Cannot open ${name} file ${path}`, { cause: error });
  }
}

function consoleSize(native: NativeAddon, config: VmConfig, terminal: Terminal): ConsoleSize {
  const size = config.console.mode === 'Tty' ? native.terminalSize(terminal.output) : null;
  return size ?? { columns: 0, rows: 0 };
}
