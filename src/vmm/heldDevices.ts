/**
 * What a VM's devices keep open over its reboots: locks and paths that no other process may take between two machines.
 */
import type { AnyMachineDeviceRecord, Device, OpenContext } from '../devices/record.ts';
import type { NativeAddon } from '../native.ts';
import type { SocketOwner } from './listeningSocket.ts';

/** What one device has open. */
interface Held {
  resource: unknown;
  readonly opened: number[];
  readonly sockets: SocketOwner[];
}

export class HeldDevices {
  private readonly held = new Map<Device, Held>();

  /**
   * Opens devices of a kind, those that are not open yet.
   * @throws VmmError with nothing open that was not before
   */
  async open(
    context: Omit<OpenContext, 'opened' | 'sockets'>,
    record: AnyMachineDeviceRecord,
    devices: readonly Device[],
  ): Promise<readonly unknown[]> {
    const fresh: Device[] = [];
    try {
      const resources: unknown[] = [];
      for (const device of devices) {
        let held = this.held.get(device);
        if (held === undefined) {
          held = { resource: undefined, opened: [], sockets: [] };
          this.held.set(device, held);
          fresh.push(device);
          held.resource = await record.opening?.open(device, { ...context, ...held });
        }
        resources.push(held.resource);
      }
      return resources;
    } catch (error) {
      for (const device of fresh) this.closeDevice(context.native, device);
      throw error;
    }
  }

  get descriptors(): readonly number[] {
    const all: number[] = [];
    for (const { opened } of this.held.values()) all.push(...opened);
    return all;
  }

  /** Of a device that the VM has no more. */
  closeDevice(native: NativeAddon, device: Device): void {
    const held = this.held.get(device);
    this.held.delete(device);
    for (const socket of held?.sockets ?? []) socket.close();
    for (const fd of held?.opened ?? []) native.closeFile(fd);
  }

  close(native: NativeAddon): void {
    for (const device of [...this.held.keys()]) this.closeDevice(native, device);
  }

  /** For a process that must end at once: a file on a store that hangs could keep it from closing. */
  removeSockets(): void {
    for (const { sockets } of this.held.values()) for (const socket of sockets.splice(0)) socket.close();
  }
}
