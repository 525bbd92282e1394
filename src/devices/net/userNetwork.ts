/** User networking: forwarding of the host's ports to the guest's. */

import { MAX_PORT } from '../../config/limits.ts';
import { invalid } from '../../config/rules.ts';
import { parseDigits } from '../../config/size.ts';

/** What the host's port listens on unless told otherwise: not reachable from outside of this host. */
const LOOPBACK = '127.0.0.1';

export interface PortForward {
  readonly protocol: 'tcp' | 'udp';
  /** IPv4 or IPv6 address of the host. */
  readonly address: string;
  readonly hostPort: number;
  readonly guestPort: number;
}

/**
 * Reads `tcp:2222:22`, `udp:192.0.2.1:5353:53` or `tcp:::1:8080:80`: protocol, the host's address and port, the guest's
 * port.
 * @throws ConfigError
 */
export function parseForward(text: string): PortForward {
  const words = text.split(':');
  const [protocol] = words;
  const hostPort = port(words.at(-2));
  const guestPort = port(words.at(-1));
  const address = words.slice(1, -2).join(':');
  const known = protocol === 'tcp' || protocol === 'udp';
  // Whether it is an address of this host passt will see; it must not become another option of it.
  const clean = /^[0-9a-fA-F.:]*$/.test(address);
  if (!known || words.length < 3 || !clean || hostPort === undefined || guestPort === undefined) {
    throw invalid(`The port forward "${text}" is not like tcp:2222:22 or udp:192.0.2.1:5353:53`);
  }
  return { protocol, address: address === '' ? LOOPBACK : address, hostPort, guestPort };
}

function port(text: string | undefined): number | undefined {
  const value = parseDigits(text ?? '');
  return value !== undefined && value >= 1 && value <= MAX_PORT ? value : undefined;
}
