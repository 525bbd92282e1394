/** Operations on devices, as their records name them, by the core's calls. */
import type { DeviceCalls } from '../devices/record.ts';
import type { MachineHandle, NativeAddon } from '../native.ts';

type Call = (
  native: NativeAddon,
  machine: MachineHandle,
  id: string,
  operands: readonly number[],
) => Promise<void> | void;

/** By the names of kind and operation. */
const calls: Readonly<Record<string, Call>> = {
  'disk.resize': (native, machine, id, [bytes = 0]) => native.machineResizeDisk(machine, id, bytes),
  'balloon.resize': (native, machine, _, [bytes = 0]) => native.machineResizeBalloon(machine, bytes),
  'console.resize': (native, machine, _, [columns = 0, rows = 0]) =>
    native.machineResizeConsole(machine, columns, rows),
};

/** The devices of one kind in a machine. */
export function deviceCalls(native: NativeAddon, machine: MachineHandle, kind: string): DeviceCalls {
  return {
    call(id, operation, ...operands) {
      const call = calls[`${kind}.${operation}`];
      if (call === undefined) throw new RangeError(`The core has no operation ${operation} of a ${kind}`);
      return call(native, machine, id, operands);
    },
  };
}
