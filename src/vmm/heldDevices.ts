/**
 * What devices of a VM that runs have open over its reboots: locks and paths that nobody else is to get between two
 * machines.
 */
import type { AnyDeviceRecord, Device, OpenContext } from '../devices/record.ts';
import type { NativeAddon } from '../native.ts';
import type { SocketOwner } from './listeningSocket.ts';

export class HeldDevices {
  private readonly resources = new Map<AnyDeviceRecord, readonly unknown[]>();
  private readonly opened: number[] = [];
  private readonly sockets: SocketOwner[] = [];

  /**
   * Opens all devices of a kind, unless that was done before.
   * @throws VmmError with nothing of the kind left open
   */
  async open(
    context: Omit<OpenContext, 'opened' | 'sockets'>,
    record: AnyDeviceRecord,
    devices: readonly Device[],
  ): Promise<readonly unknown[]> {
    const known = this.resources.get(record);
    if (known) return known;
    const { opened, sockets } = this;
    const before = { opened: opened.length, sockets: sockets.length };
    try {
      const resources: unknown[] = [];
      for (const device of devices) {
        resources.push(await record.opening?.open(device, { ...context, opened, sockets }));
      }
      this.resources.set(record, resources);
      return resources;
    } catch (error) {
      closeAll(context.native, opened.splice(before.opened), sockets.splice(before.sockets));
      throw error;
    }
  }

  get descriptors(): readonly number[] {
    return this.opened;
  }

  close(native: NativeAddon): void {
    this.resources.clear();
    closeAll(native, this.opened.splice(0), this.sockets.splice(0));
  }

  /** For a process that must end at once: a file on a store that hangs could keep it from closing. */
  removeSockets(): void {
    for (const socket of this.sockets.splice(0)) socket.close();
  }
}

function closeAll(native: NativeAddon, opened: readonly number[], sockets: readonly SocketOwner[]): void {
  for (const socket of sockets) socket.close();
  for (const fd of opened) native.closeFile(fd);
}
