/** `--api-tls`. Loaded only when asked for. */
import type { RestTlsOptions } from '../api/rest/tlsServer.ts';
import { parseListenAddress } from '../api/tls/mutualTls.ts';
import { ConfigError } from '../config/configError.ts';
import { decode } from '../config/decode.ts';
import { objectFromOptions } from './schemaOptions.ts';

const FLAG = '--api-tls';

const apiTls = {
  type: 'object',
  name: 'ApiTls',
  mainKey: 'address',
  fields: {
    address: { type: 'string', required: true },
    dir: { type: 'string', required: true },
    allowed_dn: { type: 'array', items: { type: 'string' } },
  },
} as const;

/** @throws ConfigError */
export function readApiTls(text: string): RestTlsOptions {
  const { address, dir, allowed_dn } = decode(apiTls, objectFromOptions(apiTls, FLAG, text), FLAG);
  const place = parseListenAddress(address);
  if (place === undefined) {
    throw new ConfigError('malformed', `${FLAG}: address: "${address}" is no ADDRESS:PORT`);
  }
  // An empty list would admit every client, which cannot be meant.
  if (allowed_dn?.length === 0)
    throw new ConfigError('malformed', `${FLAG}: allowed_dn: nobody is on the list`);
  return { ...place, folder: dir, allowedSubjects: allowed_dn ?? [] };
}
