/** A VM of this process as the vmhost protocol sees it. */
import type { VmmEvent, VmmExit } from '../../vmm/events.ts';
import type { Lifecycle } from '../../vmm/lifecycle.ts';
import type { VmController } from './controller.ts';
import { GUEST_AGENT_PORT } from './guestAgent.ts';
import { BACKEND } from './protocol.ts';
import { StopLadder, type StoppableVm } from './stopLadder.ts';

/** What the library's VirtualMachine has, and what a Vmm is made into. */
export interface ControllableVm {
  readonly state: Lifecycle;
  readonly exited: Promise<VmmExit>;
  on(name: 'event', listener: (event: VmmEvent) => void): unknown;
  off(name: 'event', listener: (event: VmmEvent) => void): unknown;
  info(): { readonly config: { readonly vsock?: { readonly socket: string } } };
  resume(): Promise<void>;
  powerButton(): Promise<void>;
  /** Presses the power button, and starts a guest anew that powers off then. */
  restart(): Promise<void>;
  /** Ends the machine without asking the guest, and forgets it. */
  close(): Promise<void>;
}

export interface VmControllerOptions {
  /** A port of the host's loopback address that leads to the guest's port 22; 0 unless given. */
  readonly sshPort?: number;
  /** Gets the steps of a stop, a line at a time. */
  readonly log?: (line: string) => void;
}

/** @param bootedAt when the VM came up, by `performance.now()` */
export function vmController(
  vm: ControllableVm,
  { sshPort = 0, log = () => {} }: VmControllerOptions = {},
  bootedAt = performance.now(),
): VmController {
  return {
    get state() {
      return vm.state === 'none' || vm.state === 'created' ? 'stopped' : 'running';
    },
    get paused() {
      return vm.state === 'paused';
    },
    get uptimeSeconds() {
      return (performance.now() - bootedAt) / 1000;
    },
    sshPort,
    backend: BACKEND,
    exited: vm.exited,
    watch: (listener) => {
      vm.on('event', listener);
      return () => vm.off('event', listener);
    },
    stop: (timeoutMs) => new StopLadder(stoppable(vm), timeoutMs, log).run(),
    forceStop: async () => {
      await vm.close();
      await vm.exited;
    },
    restart: () => vm.restart(),
  };
}

function stoppable(vm: ControllableVm): StoppableVm {
  const vsock = vm.state === 'none' ? undefined : vm.info().config.vsock;
  const connectAgent = async (socket: string, signal: AbortSignal) => {
    const { connectVsock } = await import('../../host/vsockClient.ts');
    return connectVsock(socket, GUEST_AGENT_PORT, signal);
  };
  return {
    exited: vm.exited,
    ...(vsock && { connectAgent: (signal) => connectAgent(vsock.socket, signal) }),
    resumeIfPaused: async () => {
      if (vm.state === 'paused') await vm.resume();
    },
    powerButton: () => vm.powerButton(),
    end: () => vm.close(),
  };
}
