/** How `ssh` is run, and what it runs on the daemon's host. */
import { Code, Domain, LibvirtError } from '../libvirtError.ts';
import { isSet, type LibvirtUri } from './uri.ts';

const REMOTE_SOCKET = '/var/run/libvirt/libvirt-sock';

/**
 * What ssh itself refuses since version 9.6: it may put both into commands for a shell (ProxyCommand, Match exec),
 * which only its configuration knows.
 */
const NO_HOST = /^-|[\s\p{Cc}'"`$\\;&<>|(){}]/u;
const NO_USER = /^-|\s-|[\p{Cc}'"`;&<>|(){}]|\\$/u;

/** @throws LibvirtError for what cannot be had by ssh */
export function sshArguments(uri: LibvirtUri, readOnly: boolean): string[] {
  const { port, user, host, parameters } = uri;
  if (NO_HOST.test(host)) throw invalid(`'${host}' is no host`);
  if (user !== undefined && NO_USER.test(user)) throw invalid(`'${user}' is no user`);
  return [
    ...(port === undefined ? [] : ['-p', String(port)]),
    ...(user === undefined ? [] : ['-l', user]),
    ...(parameters.keyfile === undefined ? [] : ['-i', parameters.keyfile]),
    ...['-T', '-e', 'none'],
    ...(isSet(parameters.no_tty) ? ['-o', 'BatchMode=yes'] : []),
    ...hostKeyChecking(uri),
    ...(parameters.known_hosts === undefined ? [] : ['-o', `UserKnownHostsFile=${parameters.known_hosts}`]),
    // What follows is no option, whatever it looks like.
    ...['--', host || 'localhost', remoteCommand(uri, readOnly)],
  ];
}

function hostKeyChecking({ hostKeys, parameters }: LibvirtUri): string[] {
  if (isSet(parameters.no_verify) || hostKeys === 'ignore') return ['-o', 'StrictHostKeyChecking=no'];
  return hostKeys === 'auto' ? ['-o', 'StrictHostKeyChecking=accept-new'] : [];
}

/** For whichever shell the user has there: only `sh` is relied upon. */
function remoteCommand(uri: LibvirtUri, readOnly: boolean): string {
  const { parameters, proxy } = uri;
  const { socket, netcat } = parameters;
  if (proxy === 'native' && netcat !== undefined) throw invalid('netcat= is not for proxy=native');
  if (proxy === 'native') return shell(helper(uri, readOnly));
  const relay = netcatRelay(netcat ?? 'nc', socket ?? `${REMOTE_SOCKET}${readOnly ? '-ro' : ''}`);
  if (proxy === 'netcat' || socket !== undefined || netcat !== undefined) {
    if (uri.mode === 'direct') throw invalid('mode=direct cannot be had by ssh with netcat');
    return shell(relay);
  }
  return shell(
    `if command -v virt-ssh-helper >/dev/null 2>&1; then ${helper(uri, readOnly)}; else ${relay}; fi`,
  );
}

function helper({ name }: LibvirtUri, readOnly: boolean): string {
  return `exec virt-ssh-helper${readOnly ? ' -r' : ''} ${quote(name)}`;
}

/** Some netcats end with their input only if told so by `-q`, which others do not know. */
function netcatRelay(netcat: string, socket: string): string {
  const nc = quote(netcat);
  const run = (options: string) => `exec ${nc} ${options}-U ${quote(socket)}`;
  return `if ${nc} -q 2>&1 | grep -q 'requires an argument'; then ${run('-q0 ')}; else ${run('')}; fi`;
}

const shell = (script: string) => `sh -c ${quote(script)}`;

/** One word of a shell, whatever is in it. */
function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

function invalid(what: string): LibvirtError {
  return new LibvirtError(Code.invalidArgument, Domain.remote, `invalid argument: ${what}`);
}
