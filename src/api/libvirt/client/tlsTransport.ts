/** TLS with certificates of both sides, from the files where libvirt's clients look for them. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { homedir } from 'node:os';
import { connect, type TLSSocket } from 'node:tls';
import { Code, Domain, LibvirtError } from '../libvirtError.ts';
import { TLS_ADMITTED, TLS_PORT } from '../signatures/constants.ts';
import { opened, socketTransport } from './socketTransport.ts';
import type { Transport, TransportContext } from './transport.ts';
import { isSet, type LibvirtUri } from './uri.ts';

interface PkiFiles {
  readonly ca: string;
  readonly crl: string;
  readonly cert: string;
  readonly key: string;
}

interface Credentials {
  readonly ca?: Buffer;
  readonly crl?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
}

export async function openTls(uri: LibvirtUri, context: TransportContext): Promise<Transport> {
  const host = uri.host || 'localhost';
  const port = uri.port ?? TLS_PORT;
  const verify = !isSet(uri.parameters.no_verify);
  const credentials = await readCredentials(pkiFiles(uri, context.environment), verify);
  const socket = connect({
    host,
    port,
    ...credentials,
    // An address is no name to be asked for (RFC 6066 §3), but is compared with the certificate all the same.
    ...(isIP(host) === 0 && { servername: host }),
    minVersion: 'TLSv1.2',
    rejectUnauthorized: verify,
  });
  socket.setNoDelay(true);
  await opened(socket, 'secureConnect', `TLS connection to '${host}:${port}'`, context.signal);
  await accepted(socket, context.signal);
  return socketTransport(socket, true);
}

/** Each file from where it is: the folder of `pkipath`, the user's own, or the system's. */
function pkiFiles({ parameters }: LibvirtUri, environment: NodeJS.ProcessEnv): PkiFiles {
  const inFolder = (folder: string): PkiFiles => ({
    ca: `${folder}/cacert.pem`,
    crl: `${folder}/cacrl.pem`,
    cert: `${folder}/clientcert.pem`,
    key: `${folder}/clientkey.pem`,
  });
  if (parameters.pkipath !== undefined) return inFolder(parameters.pkipath);
  const system: PkiFiles = {
    ca: '/etc/pki/CA/cacert.pem',
    crl: '/etc/pki/CA/cacrl.pem',
    cert: '/etc/pki/libvirt/clientcert.pem',
    key: '/etc/pki/libvirt/private/clientkey.pem',
  };
  if (process.getuid?.() === 0) return system;
  const own = inFolder(`${environment.HOME ?? homedir()}/.pki/libvirt`);
  const pair = existsSync(own.cert) && existsSync(own.key) ? own : system;
  return {
    ca: existsSync(own.ca) ? own.ca : system.ca,
    crl: existsSync(own.crl) ? own.crl : system.crl,
    cert: pair.cert,
    key: pair.key,
  };
}

/** A CA is needed to verify the server; a client certificate only if the server asks for one. */
async function readCredentials(files: PkiFiles, verify: boolean): Promise<Credentials> {
  const [ca, crl, cert, key] = await Promise.all([
    readPem(files.ca, 'CA certificate', verify),
    readPem(files.crl, 'revocation list', false),
    readPem(files.cert, 'client certificate', existsSync(files.key)),
    readPem(files.key, 'client key', existsSync(files.cert)),
  ]);
  return { ...(ca && { ca }), ...(crl && { crl }), ...(cert && { cert }), ...(key && { key }) };
}

async function readPem(path: string, what: string, needed: boolean): Promise<Buffer | undefined> {
  if (!needed && !existsSync(path)) return undefined;
  try {
    return await readFile(path);
  } catch (error) {
    const { message } = error as Error;
    throw new LibvirtError(Code.systemError, Domain.rpc, `Cannot read ${what} '${path}': ${message}`);
  }
}

/** Reads the server's verdict on the certificate. */
function accepted(socket: TLSSocket, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: unknown) => {
      socket.off('readable', read).off('end', closed).off('close', closed).off('error', failed);
      signal.removeEventListener('abort', abort);
      if (error === undefined) return resolve();
      socket.on('error', () => {});
      socket.destroy();
      reject(error);
    };
    const refused = (detail: string) =>
      settle(
        new LibvirtError(
          Code.authFailed,
          Domain.auth,
          `authentication failed: server verification (of our certificate or IP address) failed${detail}`,
        ),
      );
    const closed = () => refused('');
    const failed = ({ message }: Error) => refused(`: ${message}`);
    const abort = () => settle(signal.reason);
    const read = () => {
      const byte = socket.read(1) as Buffer | null;
      if (byte === null) return;
      if (byte[0] === TLS_ADMITTED) settle();
      else refused('');
    };
    if (signal.aborted) return abort();
    signal.addEventListener('abort', abort);
    socket.on('readable', read).once('end', closed).once('close', closed).once('error', failed);
    read();
  });
}
