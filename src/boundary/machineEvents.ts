/** What the core tells of a machine (native/machine/machine_event.cc). */

export type ResetCause = 'acpi' | 'i8042' | 'cmos' | 'triple-fault' | 'watchdog';

/** What a machine tells. The first three end its run: exactly one of them is sent, at most once. */
export type MachineEvent =
  | { readonly type: 'power-off' }
  | { readonly type: 'reset'; readonly cause: ResetCause }
  | {
      readonly type: 'vcpu-error';
      readonly vcpu: number;
      readonly reason: 'internal-error' | 'fail-entry' | 'unexpected-exit' | 'run-failed';
      /** KVM suberror, hardware entry failure reason, exit reason or errno. */
      readonly code: number;
      /** Human-readable: registers and instruction bytes at the failure. */
      readonly detail: string;
    }
  | { readonly type: 'device-activated'; readonly id: string }
  | { readonly type: 'device-reset'; readonly id: string }
  | ({ readonly type: 'debug-stop' } & DebugStop)
  /** A line that firmware wrote to its debug port (0x402). */
  | { readonly type: 'firmware-log'; readonly line: string }
  /** The guest's kernel failed; `crash_loaded`: it goes on with its crash kernel. Each comes once. */
  | { readonly type: 'guest-panic'; readonly event: 'panic' | 'crash_loaded' }
  /** A person at a terminal typed Ctrl-A x. */
  | { readonly type: 'terminal-escape' }
  /** The device went to DEVICE_NEEDS_RESET. */
  | { readonly type: 'device-failed'; readonly id: string; readonly reason: string }
  /** The guest has given up a device that it was asked for: machineFinishUnplug is next. */
  | { readonly type: 'device-ejected'; readonly id: string }
  /** The guest begins to start a vCPU that was added. Comes once for each that machinePlugVcpus adds. */
  | { readonly type: 'vcpu-started'; readonly vcpu: number }
  /** The guest has given up a vCPU that it was asked for. */
  | { readonly type: 'vcpu-ejected'; readonly vcpu: number }
  /** Information for the log, such as the engine that a disk's I/O goes through. */
  | { readonly type: 'device-note'; readonly id: string; readonly text: string }
  /** A warning for the log, such as an I/O error of the host. Each text comes once for a device. */
  | { readonly type: 'device-warning'; readonly id: string; readonly text: string }
  /**
   * A file of the host did not take what the guest printed on the serial port or a console: its host end's output, or
   * its log. Each error comes once for a file.
   */
  | {
      readonly type: 'output-failed';
      readonly id: string;
      readonly file: 'output' | 'log';
      readonly reason: string;
    };

/** A vCPU met what the debugger asked for; the others are about to stop. */
export interface DebugStop {
  readonly vcpu: number;
  readonly cause: 'step' | 'breakpoint' | 'hardware-breakpoint' | 'write-watchpoint' | 'access-watchpoint';
  /** Of a watchpoint: what is watched. Else where the vCPU is. Linear. */
  readonly address: bigint;
}
