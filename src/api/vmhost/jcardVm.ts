/**
 * A VM that masterblaster's daemon made, as a configuration of ours: its card, its state, and the files that are there.
 */
import { accessSync, readFileSync } from 'node:fs';
import { ConfigError } from '../../config/configError.ts';
import type { VmConfigInput } from '../../config/vmConfig.ts';
import { VmFile } from './folderFiles.ts';
import { GUEST_AGENT_PORT } from './guestAgent.ts';
import type { DaemonState, Jcard } from './jcard.ts';

/** What of a mixtape a direct boot needs, in its folder `kernel-artifacts`. */
const KERNEL = 'bzImage';
const INITRAMFS = 'initrd';
const CMDLINE = 'cmdline';

const SSH_PORT = 22;

/**
 * @param configDir of the daemon: mixtapes are in it
 * @param vmDir of the VM
 * @throws ConfigError naming the file that is missing
 */
export function jcardVmConfig(
  card: Jcard,
  state: DaemonState,
  configDir: string,
  vmDir: string,
): VmConfigInput {
  const artifacts = findArtifacts(card.mixtape, configDir);
  return {
    payload: {
      kernel: `${artifacts}/${KERNEL}`,
      initramfs: `${artifacts}/${INITRAMFS}`,
      cmdline: readFileSync(`${artifacts}/${CMDLINE}`, 'utf8').trim(),
    },
    cpus: { boot_vcpus: card.cpus, max_vcpus: card.cpus },
    memory: { size: card.memory },
    disks: [findDisk(vmDir)],
    ...(card.network === 'nat' && {
      net: [{ user: true, forward: [...daemonForwards(state), ...card.forwards] }],
    }),
    vsock: { cid: state.cid, socket: `${vmDir}/vsock.sock` },
    serial: { mode: 'File', file: `${vmDir}/${VmFile.serialLog}` },
    console: { mode: 'Off' },
  };
}

/** The daemon reaches the guest's SSH server, and its agent unless it speaks vsock, by ports of the host. */
function daemonForwards({ sshPort, vsockPort }: DaemonState): string[] {
  const ports: readonly (readonly [host: number, guest: number])[] = [
    [sshPort, SSH_PORT],
    [vsockPort, GUEST_AGENT_PORT],
  ];
  return ports.filter(([host]) => host > 0).map(([host, guest]) => `tcp:127.0.0.1:${host}:${guest}`);
}

/** A mixtape is a folder `NAME/TAG`; earlier ones were `NAME` alone. */
function findArtifacts(mixtape: string, configDir: string): string {
  const [name = '', tag = 'latest'] = mixtape.split(':');
  if (!isFileName(name) || !isFileName(tag)) {
    throw new ConfigError('malformed', `jcard.toml: mixtape "${mixtape}" is no name`);
  }
  const candidates = [`${name}/${tag}`, name].map((path) => `${configDir}/mixtapes/${path}/kernel-artifacts`);
  const complete = candidates.find((folder) =>
    [KERNEL, INITRAMFS, CMDLINE].every((file) => exists(`${folder}/${file}`)),
  );
  if (complete !== undefined) return complete;
  throw new ConfigError(
    'unsupported',
    `The mixtape ${mixtape} has no ${candidates[0]} with ${KERNEL}, ${INITRAMFS} and ${CMDLINE}, ` +
      'and booting its disk by EFI firmware is not supported yet',
  );
}

function findDisk(vmDir: string): { path: string; image_type: 'Qcow2' | 'Raw'; backing_files?: boolean } {
  const qcow2 = `${vmDir}/disk.qcow2`;
  // An overlay of the mixtape's image.
  if (exists(qcow2)) return { path: qcow2, image_type: 'Qcow2', backing_files: true };
  const raw = `${vmDir}/disk.raw`;
  if (exists(raw)) return { path: raw, image_type: 'Raw' };
  throw new ConfigError('invalid', `There is neither ${qcow2} nor ${raw}`);
}

/** No path of its own. */
function isFileName(name: string): boolean {
  return /^[\w.+-]+$/.test(name) && name !== '.' && name !== '..';
}

function exists(path: string): boolean {
  try {
    accessSync(path);
    return true;
  } catch {
    return false;
  }
}
