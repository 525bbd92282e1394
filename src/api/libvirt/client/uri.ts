/** libvirt's URIs: which transport leads to the daemon, and what it is asked for there. */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname } from 'node:path';
import { MAX_PORT } from '../../../config/limits.ts';
import { supervisorPlaces } from '../../../supervisor/places.ts';
import { Code, Domain, LibvirtError } from '../libvirtError.ts';

const TRANSPORTS = ['unix', 'tls', 'ssh', 'tcp', 'ext'] as const;
type TransportName = (typeof TRANSPORTS)[number];

/** Parameters that the client keeps for itself; all others are the daemon's. */
const CLIENT_PARAMETERS = [
  'name',
  'command',
  'socket',
  'auth',
  'netcat',
  'keyfile',
  'known_hosts',
  'known_hosts_verify',
  'pkipath',
  'mode',
  'proxy',
  'no_sanity',
  'no_verify',
  'no_tty',
] as const;
type ClientParameter = (typeof CLIENT_PARAMETERS)[number];

/**
 * Parameters of libvirt that mean something which is not there: to go on without them would not be what was asked for.
 */
const UNSUPPORTED: Readonly<Record<string, string>> = {
  authfile: 'SASL authentication is not supported',
  sshauth: 'it is for libssh; the transport ssh runs the program ssh',
  tls_priority: 'it is for GnuTLS',
};

const MODES = ['auto', 'direct', 'legacy'] as const;
const PROXIES = ['auto', 'native', 'netcat'] as const;
type Proxy = (typeof PROXIES)[number];
const HOST_KEYS = ['normal', 'auto', 'ignore'] as const;

export interface LibvirtUri {
  readonly driver: string;
  readonly transport: TransportName;
  /** Without the brackets of an IPv6 address; empty where the URI has none. */
  readonly host: string;
  readonly port: number | undefined;
  readonly user: string | undefined;
  readonly path: string;
  /** What the daemon is asked for. */
  readonly name: string;
  readonly parameters: Readonly<Partial<Record<ClientParameter, string>>>;
  readonly mode: (typeof MODES)[number];
  readonly proxy: Proxy;
  /** What becomes of a host whose key is not known: ssh decides, it is taken, or keys do not matter. */
  readonly hostKeys: (typeof HOST_KEYS)[number];
}

// RFC 3986, appendix B, with the parts of the authority.
const URI =
  /^([a-z][a-z0-9.-]*)(?:\+([a-z0-9]+))?:(?:\/\/(?:([^@/?#]*)@)?(\[[0-9a-fA-F:.%]+\]|[^:/?#@[\]]*)(?::(\d+))?)?(\/[^?#]*|)(?:\?([^#]*))?(?:#.*)?$/;
const MAX_URI = 65_536;

/** @throws LibvirtError that says what cannot be understood, or is not supported */
export function parseUri(text: string): LibvirtUri {
  const found = text.length <= MAX_URI ? URI.exec(text) : null;
  if (found === null) throw wrong(`'${text.slice(0, 200)}' is no URI like tsvmm+unix:///system?socket=PATH`);
  const [, driver = '', transportName, user, host = '', port, path = '', query = ''] = found;
  const { parameters, rest } = splitQuery(query);
  const transport = transportOf(transportName, host);
  if (transport === 'unix' && host !== '') {
    throw wrong(`using unix socket and remote server '${host}' is not supported`);
  }
  if (port !== undefined && (Number(port) < 1 || Number(port) > MAX_PORT)) throw wrong(`port ${port}`);
  checkAuthentication(parameters.auth);
  return {
    driver,
    transport,
    host: host.replace(/^\[(.*)\]$/, '$1'),
    port: port === undefined ? undefined : Number(port),
    user: user === undefined ? undefined : decode(user),
    path: decode(path),
    name: parameters.name ?? daemonName(driver, path, rest),
    parameters,
    mode: oneOf(MODES, parameters.mode, 'mode'),
    proxy: oneOf(PROXIES, parameters.proxy, 'proxy'),
    hostKeys: oneOf(HOST_KEYS, parameters.known_hosts_verify, 'known_hosts_verify'),
  };
}

function transportOf(name: string | undefined, host: string): TransportName {
  if (name === undefined) return host === '' ? 'unix' : 'tls';
  if (/^libssh2?$/.test(name)) throw wrong(`the transport ${name} is not supported: use ssh`);
  return oneOf(TRANSPORTS, name, 'transport');
}

function checkAuthentication(asked: string | undefined): void {
  if (asked === undefined || asked === 'none' || asked === 'polkit') return;
  if (/^sasl(\.|$)/i.test(asked)) throw wrong('SASL authentication is not supported (auth=sasl)');
  throw wrong(`unknown authentication type ${asked}`);
}

/** The URI without what is the client's; nothing where the daemon is to choose. */
function daemonName(driver: string, path: string, rest: readonly (readonly [string, string])[]): string {
  if (driver === 'remote') return '';
  const query = rest
    .map(([key, value]) => `${encodeURIComponent(key)}=${encodeURIComponent(value)}`)
    .join('&');
  return `${driver}://${path}${query === '' ? '' : `?${query}`}`;
}

function splitQuery(query: string): {
  readonly parameters: LibvirtUri['parameters'];
  readonly rest: readonly (readonly [string, string])[];
} {
  const parameters: Partial<Record<ClientParameter, string>> = {};
  const rest: (readonly [string, string])[] = [];
  for (const part of query.split(/[&;]/).filter((each) => each !== '')) {
    const at = part.indexOf('=');
    const key = decode(at < 0 ? part : part.slice(0, at));
    const value = at < 0 ? '' : decode(part.slice(at + 1));
    const reason = Object.hasOwn(UNSUPPORTED, key) ? UNSUPPORTED[key] : undefined;
    if (reason !== undefined) throw wrong(`the parameter ${key} is not supported: ${reason}`);
    if (CLIENT_PARAMETERS.includes(key as ClientParameter)) parameters[key as ClientParameter] = value;
    else rest.push([key, value]);
  }
  return { parameters, rest };
}

function decode(text: string): string {
  let decoded: string;
  try {
    decoded = decodeURIComponent(text);
  } catch {
    throw wrong(`'${text.slice(0, 200)}' has a percent sign that encodes nothing`);
  }
  if (decoded.includes('\0')) throw wrong('a NUL');
  return decoded;
}

function oneOf<T extends string>(known: readonly [T, ...T[]], given: string | undefined, what: string): T {
  if (given === undefined) return known[0];
  const found = known.find((each) => each === given);
  if (found === undefined) throw wrong(`${what} '${given}' is not known: ${known.join(', ')}`);
  return found;
}

/** Of `no_verify` and its kin: a number that is not zero. */
export function isSet(parameter: string | undefined): boolean {
  return parameter !== undefined && Number(parameter) !== 0;
}

/** The daemon's socket on this host. A privileged process has one session, the system's. */
export function localSocket(uri: LibvirtUri, readOnly: boolean, environment: NodeJS.ProcessEnv): string {
  if (uri.parameters.socket !== undefined) return uri.parameters.socket;
  const suffix = readOnly ? '-ro' : '';
  const session = uri.path === '/session' && process.getuid?.() !== 0;
  const folder = session ? sessionFolder(environment) : '/run/libvirt';
  const own = `virt${uri.driver}d-sock${suffix}`;
  const direct = `${folder}/${own}`;
  const legacy = `${folder}/libvirt-sock${suffix}`;
  if (uri.mode !== 'auto') return uri.mode === 'direct' ? direct : legacy;
  // tsvmmd has its sockets in a folder of its own.
  const ours = `${dirname(supervisorPlaces(undefined, environment).apiSocket)}/${own}`;
  const candidates = uri.driver === 'tsvmm' ? [direct, ours] : [direct];
  return candidates.find((path) => existsSync(path)) ?? (uri.driver === 'tsvmm' ? ours : legacy);
}

function sessionFolder(environment: NodeJS.ProcessEnv): string {
  const home = environment.HOME ?? homedir();
  return `${environment.XDG_RUNTIME_DIR ?? environment.XDG_CACHE_HOME ?? `${home}/.cache`}/libvirt`;
}

function wrong(what: string): LibvirtError {
  return new LibvirtError(Code.invalidArgument, Domain.remote, `invalid argument: ${what}`);
}
