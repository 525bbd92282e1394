/** The state of a connection, and what has to be undone when it ends. */
import type { SupervisedVm } from '../../supervisor/supervisedVm.ts';
import type { Domains } from './domains.ts';
import { Code, Domain, LibvirtError } from './errors.ts';
import type { Streams } from './streams.ts';

export interface Session {
  readonly domains: Domains;
  readonly streams: Streams;
  /** It came by the read-only socket. */
  readonly readOnlySocket: boolean;
  /** Sends an event. */
  send(procedure: number, payload: Uint8Array): void;
  /** Closes once what was sent has left. */
  end(): void;
  /** Begins to ask whether the peer is there. */
  startKeepalive(): void;
  opened: boolean;
  readOnly: boolean;
  uri: string;
  readonly callbacks: Map<number, () => void>;
  nextCallback: number;
  /** Domains that end with the connection, each with the run that does. */
  readonly autoDestroy: Map<SupervisedVm, number>;
  /** The connection has gone. */
  ended: boolean;
}

export function notOpen(): LibvirtError {
  return new LibvirtError(Code.internal, Domain.rpc, 'internal error: hypervisor connection not open');
}

export function readOnlyRefused(api: string): LibvirtError {
  return new LibvirtError(
    Code.operationDenied,
    Domain.domain,
    `operation forbidden: read only access prevents ${api}`,
  );
}
