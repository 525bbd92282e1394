/** What the vmhost protocol needs of a VM. */
import type { VmmEvent, VmmExit } from '../../vmm/events.ts';
import type { VmhostState } from './protocol.ts';

export interface VmController {
  readonly state: Exclude<VmhostState, 'stopping'>;
  /** Its guest stands still until it is resumed. */
  readonly paused: boolean;
  /** Since it came up. */
  readonly uptimeSeconds: number;
  /** A port of the host's loopback address that leads to the guest's port 22; 0 where there is none. */
  readonly sshPort: number;
  /** What runs the VM. */
  readonly backend: string;
  /** Resolves when the VM is gone, however that came about. */
  readonly exited: Promise<VmmExit>;
  /** Tells of what happens to the VM from now on. @returns ends that */
  watch(listener: (event: VmmEvent) => void): () => void;
  /** Ends the VM in order within that time, by force when it is over. Resolves when the VM is gone. */
  stop(timeoutMs: number): Promise<void>;
  /** Ends the VM at once, also while `stop` waits. */
  forceStop(): Promise<void>;
  /** Asks the guest to power off, and starts it anew when it has. @throws Error if it cannot be asked */
  restart(): Promise<void>;
}
