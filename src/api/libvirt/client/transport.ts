/** Ways to a daemon: each ends as a pair of byte streams. */
import type { Readable, Writable } from 'node:stream';
import type { LibvirtUri } from './uri.ts';

export interface Transport {
  readonly input: Readable;
  readonly output: Writable;
  /** It cannot be read on its way. */
  readonly secure: boolean;
  /** What can be known, within a second, of why the peer went away, such as what `ssh` printed. */
  reason(): Promise<string | undefined>;
  /** Ends both streams at once. */
  close(): void;
}

export interface TransportContext {
  readonly readOnly: boolean;
  /** Aborts while the transport is being opened. */
  readonly signal: AbortSignal;
  readonly environment: NodeJS.ProcessEnv;
}

/** @throws LibvirtError if there is no way, or the signal's reason */
export async function openTransport(uri: LibvirtUri, context: TransportContext): Promise<Transport> {
  switch (uri.transport) {
    case 'unix':
    case 'tcp':
      return (await import('./socketTransport.ts')).openSocket(uri, context);
    case 'tls':
      return (await import('./tlsTransport.ts')).openTls(uri, context);
    case 'ssh':
    case 'ext':
      return (await import('./commandTransport.ts')).openCommand(uri, context);
  }
}
