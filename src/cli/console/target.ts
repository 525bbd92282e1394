/** Which port of which VM is meant, and whether it is still there after it was closed. */
import { readJson } from '../../api/rest/jsonReader.ts';
import type { VmConfig } from '../../config/vmConfig.ts';
import { VmmError } from '../../vmm/errors.ts';
import { mainConsole } from '../../vmm/shownConsole.ts';
import { ApiConnection } from '../ctl/apiConnection.ts';
import { Refusal } from '../ctl/refusal.ts';
import { findVm } from '../vms/vmSocket.ts';
import type { GuestPort } from './guestPort.ts';

export type PortName = 'serial' | 'console';

export type ConsoleTarget =
  | { readonly kind: 'socket' | 'pty'; readonly path: string }
  | {
      readonly kind: 'api';
      readonly socket: string;
      readonly port: PortName | undefined;
      /** Where the paths of the VM begin, if that is known. */
      readonly folder?: string;
      /** Human-readable. */
      readonly vm: string;
    };

const ANSWER_MS = 10_000;
const NAMES: Readonly<Record<PortName, string>> = { serial: 'serial port', console: 'console' };

/** @throws VmmError if there is no such VM, or it does not run */
export async function namedTarget(
  name: string,
  dir: string | undefined,
  port?: PortName,
): Promise<ConsoleTarget> {
  const { apiSocket, folder } = await findVm(name, dir);
  return { kind: 'api', socket: apiSocket, port, folder, vm: name };
}

/** @throws VmmError if there is no such port, or it cannot be attached to */
export async function locatePort(target: ConsoleTarget): Promise<GuestPort> {
  if (target.kind !== 'api') return { ...target, name: target.path };
  const api = await ApiConnection.open(target.socket, ANSWER_MS);
  try {
    const { config } = (await ask(api, 'vm.info')) as { config: VmConfig };
    const port = choosePort(config, target.port, target.vm);
    const { mode, file, socket } = config[port];
    const name = `the ${NAMES[port]} of ${target.vm}`;
    if (mode === 'Pty') return { kind: 'pty', path: file as string, name };
    const path = socket as string;
    const folder = path.startsWith('/') ? '' : `${target.folder ?? (await folderOf(api))}/`;
    return { kind: 'socket', path: folder + path, name };
  } finally {
    api.close();
  }
}

async function ask(api: ApiConnection, endpoint: string): Promise<unknown> {
  const answer = await api.call({ method: 'GET', endpoint }, ANSWER_MS);
  if (answer.status !== 200) throw new Refusal(answer);
  return readJson(answer.body);
}

/** In which the VM's process works. */
async function folderOf(api: ApiConnection): Promise<string> {
  const { pid } = (await ask(api, 'vmm.ping')) as { pid: number };
  return `/proc/${Number(pid)}/cwd`;
}

/** @throws VmmError */
export function choosePort(
  config: Pick<VmConfig, 'serial' | 'console' | 'payload'>,
  wanted: PortName | undefined,
  vm: string,
): PortName {
  const attachable = (port: PortName) => {
    const { mode, file, socket } = config[port];
    return (mode === 'Pty' && file !== undefined) || (mode === 'Socket' && socket !== undefined);
  };
  const main = mainConsole(config as VmConfig);
  const ports: PortName[] = wanted
    ? [wanted]
    : main === 'serial'
      ? ['serial', 'console']
      : ['console', 'serial'];
  const found = ports.find(attachable);
  if (found) return found;
  const why = ports.map((port) => `its ${NAMES[port]} ${whereItGoes(config[port])}`).join(', ');
  throw new VmmError(`Nobody can be attached to ${vm}: ${why}; 'pty' can be, and --serial socket=PATH`);
}

function whereItGoes({ mode, file, log }: { mode: string; file?: string; log?: string }): string {
  switch (mode) {
    case 'Off':
      return 'is off';
    case 'Null':
      return log ? `only goes into ${log}` : 'goes nowhere';
    case 'File':
      return `goes into the file ${file}`;
    case 'Tty':
      return "is the terminal of the VM's process";
    default:
      return 'is not open yet';
  }
}
