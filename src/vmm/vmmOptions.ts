/** The options of a VMM. */
import type { NativeAddon } from '../native.ts';
import type { HostStreams, Terminal } from './consoles.ts';
import type { EndCause, VmmEvent } from './events.ts';
import type { OutputFile } from './outputFiles.ts';

export interface VmmOptions {
  readonly native: NativeAddon;
  /** What mode `Tty` means; the standard streams unless given. */
  readonly terminal?: Terminal;
  /** Streams of this process that are devices' host ends. */
  readonly streams?: HostStreams;
  /** Keep the VM's configuration, and go on, when the guest powers off. */
  readonly stayOnPowerOff?: boolean;
  /** What of the guest's ends the VM, beside its power-off. */
  readonly endOn?: readonly EndCause[];
  /** What this process writes to: no file of the VM may be one of them. */
  readonly outputs?: readonly OutputFile[];
  /** Paths of console files that keep what earlier VMs have left in them. */
  readonly appendTo?: readonly string[];
  readonly onEvent?: (event: VmmEvent) => void;
  /** Receives human-readable warnings, one sentence each. */
  readonly onWarning?: (message: string) => void;
  /** Gets notes on which of several ways was taken, and why, one sentence at a time. */
  readonly onNote?: (message: string) => void;
}
