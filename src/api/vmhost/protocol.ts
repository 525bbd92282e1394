/**
 * The vmhost protocol: a supervisor asks a VM's own process for its state, or to stop it. Over a UNIX stream socket,
 * one JSON object each way and a newline behind it; then the connection is closed.
 */

import type { EndCause, VmmEvent, VmmExit } from '../../vmm/events.ts';

/** What runs VMs here. */
export const BACKEND = 'tsvmm';

/** What a supervisor may ask. */
export type VmhostMethod = 'status' | 'info' | 'stop' | 'force_stop' | 'watch' | 'restart';

export interface VmhostRequest {
  readonly method: VmhostMethod;
  /** Of `stop`: seconds until the VM is ended by force. 30 where absent or not positive. */
  readonly timeout_seconds?: number;
}

/** The VM's, and what is answered to a stop that goes on in the background. */
export type VmhostState = 'running' | 'stopped' | 'error' | 'stopping';

export interface VmhostResponse {
  readonly ok: boolean;
  readonly error?: string;
  readonly state?: VmhostState;
  /** The VM is `running` as far as the protocol goes, and its guest stands still. Absent otherwise. */
  readonly paused?: true;
  /** Since the VM came up; in the answer to `watch` only. */
  readonly uptime_seconds?: number;
  /** A port of the host's loopback address that leads to the guest's port 22; absent where there is none. */
  readonly ssh_port?: number;
  /** What runs the VM. */
  readonly backend?: string;
}

/**
 * What follows the answer to `watch`, a line each, until the VM is gone: its events, and at last how it ended. A
 * watcher that does not read is disconnected.
 */
export type VmhostReport = { readonly event: VmmEvent } | { readonly exit: VmmExit };

/** Bytes of a request or an answer, white space around it included. */
export const MAX_VMHOST_MESSAGE = 65_536;
/** How long connecting may take, and the whole exchange. */
export const CONNECT_TIMEOUT_MS = 5_000;
export const EXCHANGE_TIMEOUT_MS = 30_000;
/** Reports that a supervisor may leave unread before the connection is given up. */
export const MAX_UNREAD_REPORTS = 1_000;
/** How long the last report to a supervisor may take to leave. */
export const LAST_REPORT_MS = 1_000;
/** Of a stop that names none. */
export const DEFAULT_STOP_SECONDS = 30;

/** A message as it goes over the socket. */
export function encodeVmhost(message: VmhostRequest | VmhostResponse | VmhostReport): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(message)}\n`);
}

/**
 * Between a supervisor of ours and a process that it started: the process connects, says who it is, and, if it has no
 * VM yet, is told which to run. After that it sends what a watcher gets.
 */
export interface ChildHello {
  readonly hello: { readonly pid: number; readonly name?: string };
}
export interface ChildAssignment {
  readonly start: ChildOrders & { readonly name: string };
}

/** How a VM is run. */
export interface ChildOrders {
  /** The guest's first instruction waits for `vm.resume`. */
  readonly paused?: boolean;
  /** What of the guest's ends the VM, beside its power-off. */
  readonly end_on?: readonly EndCause[];
}

/** Either as a line. */
export function encodeLine(message: ChildHello | ChildAssignment): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(message)}\n`);
}
