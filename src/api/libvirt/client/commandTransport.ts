/** A program whose standard streams lead to the daemon: `ssh`, or any other. */
import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { Code, Domain, LibvirtError } from '../libvirtError.ts';
import { sshArguments } from './sshCommand.ts';
import type { Transport, TransportContext } from './transport.ts';
import type { LibvirtUri } from './uri.ts';

/** Characters of what the program prints that go into errors. */
const MAX_STDERR = 2_048;
/** How long is waited for a program to end that has closed its output. */
const REASON_MS = 1_000;
/** How long a program may take to end that was told to, before it is killed. */
const END_MS = 1_000;

export function openCommand(uri: LibvirtUri, context: TransportContext): Promise<Transport> {
  context.signal.throwIfAborted();
  const { command } = uri.parameters;
  if (uri.transport === 'ext') {
    if (command === undefined) {
      throw new LibvirtError(
        Code.invalidArgument,
        Domain.remote,
        "invalid argument: for 'ext' transport, parameter 'command' is required",
      );
    }
    return started(command, []);
  }
  return started(command ?? 'ssh', sshArguments(uri, context.readOnly));
}

function started(command: string, args: readonly string[]): Promise<Transport> {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  let stderr = '';
  let ending: string | undefined;
  const closed = new Promise<void>((resolve) => {
    child.once('close', () => resolve());
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-MAX_STDERR);
  });
  child.once('exit', (code, signal) => {
    ending = signal === null ? `'${command}' ended with code ${code}` : `'${command}' was ended by ${signal}`;
  });
  child.stdin.on('error', () => {});
  const transport: Transport = {
    input: child.stdout,
    output: child.stdin,
    secure: true,
    reason: async () => {
      const late = new AbortController();
      await Promise.race([closed, sleep(REASON_MS, undefined, { signal: late.signal }).catch(() => {})]);
      late.abort();
      return stderr.trim() || ending;
    },
    close: () => {
      child.stdin.destroy();
      child.stdout.destroy();
      child.stderr.destroy();
      end(child);
    },
  };
  return new Promise((resolve, reject) => {
    child.once('spawn', () => resolve(transport));
    child.once('error', ({ message }) => {
      reject(new LibvirtError(Code.systemError, Domain.rpc, `Cannot run '${command}': ${message}`));
    });
  });
}

/** Whatever it does with signals that it can do something with. */
function end(child: ChildProcess): void {
  if (!child.kill()) return;
  const timer = setTimeout(() => child.kill('SIGKILL'), END_MS);
  child.once('exit', () => clearTimeout(timer));
}
