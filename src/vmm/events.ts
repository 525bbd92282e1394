/** Events of a VMM. Names are those of the event monitor. */
export interface VmmEvent {
  readonly source: 'vmm' | 'vm' | 'virtio-device' | 'firmware' | 'guest';
  readonly event: string;
  readonly properties?: Readonly<Record<string, string>>;
}

/** What a guest may do that ends its VM, if that is asked for: else it is started anew, or goes on. */
export type EndCause = 'reset' | 'panic';
export const END_CAUSES: readonly EndCause[] = ['reset', 'panic'];

/** Why a VMM came to its end, and the exit code of a process that runs it. */
export interface VmmExit {
  readonly reason: 'power-off' | 'request' | 'vcpu-error' | 'reboot-failed' | EndCause;
  readonly code: 0 | 1;
  /** One human-readable sentence, where something went wrong. */
  readonly message?: string;
  /** Something that the message names did not come to its end: threads of this process may wait for it for ever. */
  readonly incomplete?: true;
}
