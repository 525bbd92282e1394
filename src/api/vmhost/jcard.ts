/**
 * What masterblaster's daemon wrote of a VM: its card (`jcard.toml`), the part that concerns a machine, and
 * `state.json`.
 */
import { MAX_VCPUS } from '../../config/bootable.ts';
import { MAX_PORT } from '../../config/limits.ts';
import { parseDigits } from '../../config/size.ts';
import { BINARY_UNITS } from '../../config/units.ts';
import { Fields } from './fields.ts';

/** What a VM needs of its card. */
export interface Jcard {
  /** `name` or `name:tag` of the image that the VM's disk was made from. */
  readonly mixtape: string;
  readonly cpus: number;
  /** Bytes. */
  readonly memory: number;
  readonly network: 'nat' | 'none';
  /** As `--net user,forward=[...]` has them. */
  readonly forwards: readonly string[];
  /** For the guest's agent. */
  readonly secrets: ReadonlyMap<string, string>;
}

export interface DaemonState {
  /** Ports of the host's loopback address; 0 for none. */
  readonly sshPort: number;
  readonly vsockPort: number;
  /** The guest's context id. */
  readonly cid: number;
  /** Of the private key; the public one is beside it. */
  readonly sshKeyPath: string | undefined;
}

const DEFAULTS = { mixtape: 'base', cpus: 2, memory: '4GiB', network: 'nat', protocol: 'tcp' } as const;
/** Context ids of guests (virtio 1.2 §5.10.4). */
const FIRST_CID = 3;
const LAST_CID = 0xffff_fffe;

/**
 * @param toml the parsed file
 * @param environment what `${NAME}` in secrets stands for; nothing where it is not there
 * @throws ConfigError naming what is wrong, or what a VM of ours cannot have
 */
export function readJcard(toml: unknown, environment: NodeJS.ProcessEnv): Jcard {
  const card = new Fields('jcard.toml', toml);
  const resources = card.table('resources');
  const network = card.table('network');
  if (card.list('shared').length > 0) card.unsupported('shared', 'a shared folder');
  if (network.list('egress_allow').length > 0)
    network.unsupported('egress_allow', 'a limit to some destinations');
  return {
    mixtape: card.text('mixtape') ?? DEFAULTS.mixtape,
    cpus: resources.whole('cpus', 1, MAX_VCPUS) ?? DEFAULTS.cpus,
    memory:
      parseSize(resources.text('memory') ?? DEFAULTS.memory) ??
      resources.wrong('memory', 'a size such as 4GiB'),
    network: readMode(network),
    forwards: network.tables('forwards').map(readForward),
    secrets: readSecrets(card.table('secrets'), environment),
  };
}

/** @param json the parsed `state.json` @throws ConfigError */
export function readDaemonState(json: unknown): DaemonState {
  const state = new Fields('state.json', json ?? null);
  return {
    sshPort: state.whole('ssh_port', 0, MAX_PORT) ?? 0,
    vsockPort: state.whole('vsock_port', 0, MAX_PORT) ?? 0,
    cid: state.whole('vsock_cid', FIRST_CID, LAST_CID) ?? FIRST_CID,
    sshKeyPath: state.text('ssh_key_path'),
  };
}

function readMode(network: Fields): Jcard['network'] {
  const mode = network.text('mode') ?? DEFAULTS.network;
  if (mode === 'bridged') network.unsupported('mode', 'a bridged network');
  return mode === 'nat' || mode === 'none' ? mode : network.wrong('mode', 'nat, bridged or none');
}

function readForward(forward: Fields): string {
  const protocol = forward.text('proto') ?? DEFAULTS.protocol;
  if (protocol !== 'tcp' && protocol !== 'udp') forward.wrong('proto', 'tcp or udp');
  const port = (key: string) => forward.whole(key, 1, MAX_PORT) ?? forward.wrong(key, 'a port');
  return `${protocol}:${port('host')}:${port('guest')}`;
}

function readSecrets(secrets: Fields, environment: NodeJS.ProcessEnv): Map<string, string> {
  const expand = (text: string) =>
    text.replace(/\$\{(\w+)\}/g, (_, variable: string) => environment[variable] ?? '');
  return new Map(secrets.keys.map((name) => [name, expand(secrets.text(name) ?? '')]));
}

/** `4GiB`, `4G`, `512 MiB`, or bytes; undefined if it is none of these. */
function parseSize(text: string): number | undefined {
  const found = /^(\d+)\s*(?:([KMGT])(?:i?B)?)?$/i.exec(text.trim());
  const number = parseDigits(found?.[1] ?? '');
  const unit = found?.[2] === undefined ? 1 : (BINARY_UNITS[found[2].toUpperCase()] as number);
  return number !== undefined && Number.isSafeInteger(number * unit) ? number * unit : undefined;
}
