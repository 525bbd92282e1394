/** Commands to the machine that there is. */
import type { CommandedVm } from './commandedVm.ts';
import { VmmError } from './errors.ts';

export function pauseMachine({ native, command, busy, emit }: CommandedVm): Promise<void> {
  const work = async () => {
    emit('pausing');
    await busy(({ handle }) => native.machinePause(handle));
  };
  return command('pause', work, 'paused');
}

export function resumeMachine({ native, state, debug, command, busy, emit }: CommandedVm): Promise<void> {
  const work = async () => {
    const atBreakpoint = state() === 'breakpoint';
    if (atBreakpoint && debug.attached) {
      throw new VmmError('A debugger has stopped the guest, and is connected: it can continue or detach');
    }
    emit('resuming');
    if (atBreakpoint) await debug.leave();
    else await busy(({ handle }) => native.machineResume(handle));
  };
  return command('resume', work, 'resumed');
}

/** @param done called in the command's turn when the guest was told */
export function pressPowerButton({ native, command, running }: CommandedVm, done: () => void): Promise<void> {
  const work = async () => {
    await native.machinePowerButton(running().handle);
    done();
  };
  return command('powerButton', work, 'power-button');
}

export function sendNmi({ native, command, running }: CommandedVm): Promise<void> {
  return command('nmi', async () => native.machineNmi(running().handle));
}
