/** What follows when the guest, or a failure, ends a machine's run: a new machine, a stopped VM, or the VMM's end. */
import type { MachineEvent } from '../native.ts';
import { describeError, wasCalledOff } from './errors.ts';
import type { EndCause, VmmEvent, VmmExit } from './events.ts';
import { failureTexts } from './failures.ts';
import type { Machine } from './machine.ts';
import { PANIC_TEXTS } from './machineReports.ts';
import { describeVcpuError, vcpuErrorTexts } from './vcpuError.ts';

export type MachineEnd = Extract<
  MachineEvent,
  { type: 'power-off' | 'reset' | 'vcpu-error' | 'guest-panic' }
>;

/** The VM whose machine it was. */
export interface EndingVm {
  readonly machine: Machine | undefined;
  /** The guest was asked to power off so that it is started again. */
  readonly startsAnew: boolean;
  readonly staysOnPowerOff: boolean;
  readonly endsOn: (cause: EndCause) => boolean;
  /** @returns a warning if the guest resets itself again and again */
  readonly countReset: (cause: Extract<MachineEnd, { type: 'reset' }>['cause']) => string | undefined;
  readonly emit: (source: VmmEvent['source'], event: string, texts?: Record<string, string>) => void;
  readonly warn: (message: string) => void;
  /** Makes a machine of the same configuration, which runs. */
  readonly rebuild: () => Promise<void>;
  readonly stop: () => Promise<void>;
  /** Ends the VMM. */
  readonly end: (exit: VmmExit) => Promise<unknown>;
}

export async function afterMachineEnd(vm: EndingVm, event: MachineEnd): Promise<void> {
  switch (event.type) {
    case 'power-off':
      return afterPowerOff(vm);
    case 'reset': {
      const { cause } = event;
      vm.emit('guest', 'reset', { cause });
      if (vm.endsOn('reset')) return void (await vm.end({ reason: 'reset', code: 0 }));
      const warning = vm.countReset(cause);
      if (warning !== undefined) vm.warn(warning);
      return restart(vm);
    }
    case 'guest-panic':
      return void (await vm.end({ reason: 'panic', code: 1, message: PANIC_TEXTS.panic }));
    case 'vcpu-error':
      vm.emit('vm', 'vcpu-error', vcpuErrorTexts(event));
      await vm.end({ reason: 'vcpu-error', code: 1, message: describeVcpuError(event, vm.machine) });
  }
}

async function afterPowerOff(vm: EndingVm): Promise<void> {
  vm.emit('guest', 'power-off');
  if (vm.startsAnew && !vm.endsOn('reset')) return restart(vm);
  if (!vm.staysOnPowerOff) return void (await vm.end({ reason: 'power-off', code: 0 }));
  return vm.stop().finally(() => vm.emit('vm', 'shutdown'));
}

async function restart(vm: EndingVm): Promise<void> {
  vm.emit('vm', 'rebooting');
  try {
    await vm.rebuild();
    vm.emit('vm', 'rebooted');
  } catch (error) {
    // The end that was asked for follows, and is the reason.
    if (wasCalledOff(error)) return;
    const message = `${failureTexts.reboot}: ${describeError(error)}`;
    await vm.end({ reason: 'reboot-failed', code: 1, message });
  }
}
