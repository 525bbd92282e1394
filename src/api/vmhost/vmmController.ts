/** The VM of this process as the vmhost protocol sees it. */
import { connectVsock } from '../../host/vsockClient.ts';
import type { Vmm } from '../../vmm/vmm.ts';
import type { VmController } from './controller.ts';
import { GUEST_AGENT_PORT } from './guestAgent.ts';
import { StopLadder, type StoppableVm } from './stopLadder.ts';

/** What runs VMs here. */
export const BACKEND = 'tsvmm';

export interface VmmControllerOptions {
  /** A port of the host's loopback address that leads to the guest's port 22; 0 unless given. */
  readonly sshPort?: number;
  /** Hears the steps of a stop. */
  readonly log?: (line: string) => void;
}

export class VmmController implements VmController {
  readonly backend = BACKEND;
  readonly sshPort: number;
  readonly #vmm: Vmm;
  readonly #log: (line: string) => void;

  constructor(vmm: Vmm, { sshPort = 0, log = () => {} }: VmmControllerOptions = {}) {
    this.#vmm = vmm;
    this.sshPort = sshPort;
    this.#log = log;
  }

  get state(): VmController['state'] {
    const { state } = this.#vmm;
    return state === 'running' || state === 'paused' ? 'running' : 'stopped';
  }

  get exited(): Promise<unknown> {
    return this.#vmm.exited;
  }

  stop(timeoutMs: number): Promise<void> {
    return new StopLadder(stoppable(this.#vmm), timeoutMs, this.#log).run();
  }

  async forceStop(): Promise<void> {
    await this.#vmm.quit();
    await this.#vmm.exited;
  }
}

function stoppable(vmm: Vmm): StoppableVm {
  const vsock = vmm.state === 'none' ? undefined : vmm.info().config.vsock;
  return {
    exited: vmm.exited,
    ...(vsock && { connectAgent: () => connectVsock(vsock.socket, GUEST_AGENT_PORT) }),
    resumeIfPaused: async () => {
      if (vmm.state === 'paused') await vmm.resume();
    },
    powerButton: () => vmm.powerButton(),
    end: () => vmm.quit(),
  };
}
