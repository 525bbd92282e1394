/** The answer of `vm.info`. */
import { memorySize, memoryVaries, requestedMemory } from '../config/memory.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import { DEBUG_CONSOLE_ID, IOAPIC_ID, SERIAL_ID } from '../platform/deviceIds.ts';
import { bdfOf, type Placement } from '../platform/placement.ts';
import type { Lifecycle } from './lifecycle.ts';

export interface VmInfo {
  readonly config: VmConfig;
  /** `BreakPoint`: a debugger has stopped the guest, or is waited for. */
  readonly state: 'Created' | 'Running' | 'BreakPoint' | 'Paused';
  /** Bytes: of a machine what its guest has, which may be more than its configuration says. */
  readonly memory_actual_size: number | bigint;
  /** Only of a machine whose devices give the guest memory, or take some: bytes that it is asked to have. */
  readonly memory_requested_size?: number;
  /** Only while the guest has not done all that it was asked for. */
  readonly pending_vcpus?: PendingVcpus;
  /** Devices that the guest was asked to give up and has still, as they were configured; only while there are some. */
  readonly pending_devices?: PendingDevices;
  /** Only while there is a machine. */
  readonly device_tree?: Readonly<Record<string, DeviceNode>>;
}

/** Numbers of vCPUs. */
export interface PendingVcpus {
  /** Added, and not started by the guest. */
  readonly starting: readonly number[];
  /** The guest was asked to give them up. */
  readonly leaving: readonly number[];
}

/** By their field in the configuration. */
export type PendingDevices = Readonly<Record<string, readonly object[]>>;

export interface PendingRemoval {
  readonly id: string;
  /** What the guest has still; nothing of a device that was taken from it. */
  readonly was?: { readonly field: string; readonly device: object };
}

/** What is so of a machine, whatever its configuration says by now. */
export interface MachineView {
  readonly placements: readonly Placement[];
  /** Bytes without what devices have given the guest since its boot and taken, which is `memoryChange`. */
  readonly memory: number;
  readonly memoryChange: number;
  /** Devices that the guest was asked to give up. */
  readonly pendingRemovals: readonly PendingRemoval[];
  readonly pendingVcpus: PendingVcpus | undefined;
}

export interface DeviceNode {
  readonly id: string;
  readonly resources: readonly PciBarResource[];
  readonly parent?: string;
  readonly children: readonly string[];
  readonly pci_bdf?: string;
  /** The guest was asked to give it up and has not. */
  readonly pending_removal?: true;
}

export interface PciBarResource {
  readonly PciBar: {
    readonly index: number;
    readonly base: number;
    readonly size: number;
    readonly type_: 'Mmio32' | 'Mmio64';
    readonly prefetchable: boolean;
  };
}

const stateNames: Readonly<Record<Lifecycle, VmInfo['state']>> = {
  none: 'Created',
  created: 'Created',
  running: 'Running',
  breakpoint: 'BreakPoint',
  paused: 'Paused',
};

/** @param machine undefined if there is none */
export function vmInfo(config: VmConfig, state: Lifecycle, machine: MachineView | undefined): VmInfo {
  const common = { config, state: stateNames[state] };
  if (machine === undefined) return { ...common, memory_actual_size: memorySize(config.memory) };
  const { placements, memory, memoryChange, pendingRemovals, pendingVcpus } = machine;
  return {
    ...common,
    // The guest can report any size of its balloon.
    memory_actual_size: Math.max(0, memory + memoryChange),
    ...(memoryVaries(config) && { memory_requested_size: requestedMemory(config, memory) }),
    ...(pendingVcpus && { pending_vcpus: pendingVcpus }),
    ...pendingDevices(pendingRemovals),
    device_tree: deviceTree(config, placements, pendingRemovals),
  };
}

function pendingDevices(removals: readonly PendingRemoval[]): Pick<VmInfo, 'pending_devices'> {
  const devices: Record<string, object[]> = {};
  for (const { was } of removals) {
    if (was === undefined) continue;
    devices[was.field] ??= [];
    devices[was.field]?.push(was.device);
  }
  return Object.keys(devices).length > 0 ? { pending_devices: devices } : {};
}

function deviceTree(
  config: VmConfig,
  placements: readonly Placement[],
  pendingRemovals: readonly PendingRemoval[],
): Record<string, DeviceNode> {
  const tree: Record<string, DeviceNode> = {};
  for (const id of platformDevices(config)) tree[id] = { id, resources: [], children: [] };
  for (const placement of placements) {
    const { id } = placement;
    if (!placement.virtio) {
      tree[id] = { id, resources: [barOf(placement)], children: [], pci_bdf: bdfOf(placement) };
      continue;
    }
    const wrapper = `_virtio-pci-${id}`;
    const pending = pendingRemovals.some((one) => one.id === id) && ({ pending_removal: true } as const);
    tree[id] = { id, resources: [], parent: wrapper, children: [], ...pending };
    tree[wrapper] = {
      id: wrapper,
      resources: barsOf(placement),
      children: [id],
      pci_bdf: bdfOf(placement),
    };
  }
  return tree;
}

function platformDevices(config: VmConfig): string[] {
  const ids = [IOAPIC_ID];
  if (config.serial.mode !== 'Off') ids.push(SERIAL_ID);
  if (config.debug_console.mode !== 'Off') ids.push(DEBUG_CONSOLE_ID);
  return ids;
}

/** Where the BAR was at boot; a guest may have moved it since. */
function barOf(placement: Placement): PciBarResource {
  return {
    PciBar: {
      index: 0,
      base: placement.bar0,
      size: placement.bar0Size,
      type_: placement.bar0Is64Bit ? 'Mmio64' : 'Mmio32',
      prefetchable: false,
    },
  };
}

function barsOf(placement: Placement): PciBarResource[] {
  const { bar2 } = placement;
  if (bar2 === undefined) return [barOf(placement)];
  return [barOf(placement), { PciBar: { index: 2, ...bar2, type_: 'Mmio64', prefetchable: false } }];
}
