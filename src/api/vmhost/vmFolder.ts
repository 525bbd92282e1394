/**
 * The folder of a VM below a supervisor's: `vms/NAME`, with the VM's configuration and what its process leaves there
 * while it runs. `vm.json` or `vm.toml` have the schema of the REST API's `vm.create`; without them, masterblaster's
 * files say what the VM is.
 */

import { ConfigError } from '../../config/configError.ts';
import { decode } from '../../config/decode.ts';
import { MAX_SMALL_FILE } from '../../config/limits.ts';
import { type VmConfig, vmConfig } from '../../config/vmConfig.ts';
import type { NativeAddon } from '../../native.ts';
import { openConfiguration } from '../../vmm/namedFiles.ts';
import { readJson } from '../rest/jsonReader.ts';
import { VmFile, vmsFolder } from './folderFiles.ts';
import type { DaemonState, Jcard } from './jcard.ts';

/** Of state.json, as its daemon makes it. */
const STATE_MODE = 0o644;

/** Files are read by the addon: a start does not wait for node:fs. */
type FileReader = Pick<NativeAddon, 'openFile' | 'imageSize' | 'readAt' | 'closeFile'>;

export interface VmFolder {
  readonly path: string;
  readonly config: VmConfig;
  /** What the VM's daemon made of it; absent for VMs of our own. */
  readonly daemon?: { readonly card: Jcard; readonly cardText: string; readonly state: DaemonState };
}

/** @returns `DIR/vms/NAME` @throws ConfigError if that is no name of a folder */
export function vmFolderPath(configDir: string, name: string): string {
  if (!/^[A-Za-z0-9_][\w.+-]*$/.test(name) || name.length > 200) {
    throw new ConfigError('invalid', `"${name}" is no name of a VM: letters, digits and _ . + - only`);
  }
  return `${vmsFolder(configDir)}/${name}`;
}

/** @throws ConfigError saying which file is missing, or what is wrong in which */
export async function readVmFolder(files: FileReader, configDir: string, path: string): Promise<VmFolder> {
  const { config: jsonFile, tomlConfig: tomlFile } = VmFile;
  const json = read(files, `${path}/${jsonFile}`);
  if (json !== undefined) return { path, config: ownConfig(jsonFile, parseJson(jsonFile, json), path) };
  const toml = read(files, `${path}/${tomlFile}`);
  if (toml !== undefined) return { path, config: ownConfig(tomlFile, await parseToml(tomlFile, toml), path) };
  return readDaemonFolder(files, configDir, path);
}

/** Without a word about the consoles, what the guest prints goes into its log. */
function ownConfig(file: string, value: unknown, path: string): VmConfig {
  const defaults = {
    serial: { mode: 'File', file: `${path}/${VmFile.serialLog}` },
    console: { mode: 'Off' },
  };
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  try {
    return decode(vmConfig, isObject ? { ...defaults, ...value } : value);
  } catch (error) {
    if (error instanceof ConfigError) throw new ConfigError(error.kind, `${file}: ${error.message}`);
    throw error;
  }
}

async function readDaemonFolder(files: FileReader, configDir: string, path: string): Promise<VmFolder> {
  const cardText = read(files, `${path}/jcard.toml`);
  const stateText = read(files, `${path}/state.json`);
  if (cardText === undefined || stateText === undefined) {
    throw new ConfigError(
      'invalid',
      `${path} has no ${VmFile.config}, no ${VmFile.tomlConfig}, and not both of jcard.toml and state.json`,
    );
  }
  const { readDaemonState, readJcard } = await import('./jcard.ts');
  const { jcardVmConfig } = await import('./jcardVm.ts');
  const card = readJcard(await parseToml('jcard.toml', cardText), process.env);
  const state = await withSshPort(card, readDaemonState(parseJson('state.json', stateText)), path, stateText);
  return {
    path,
    config: decode(vmConfig, jcardVmConfig(card, state, configDir, path)),
    daemon: { card, cardText, state },
  };
}

/** Where the daemon chose no port for SSH, one that is free is chosen and written down. */
async function withSshPort(
  card: Jcard,
  state: DaemonState,
  path: string,
  text: string,
): Promise<DaemonState> {
  if (card.network === 'none') return { ...state, sshPort: 0, vsockPort: 0 };
  if (state.sshPort !== 0) return state;
  const { freeLoopbackPort } = await import('./freeLoopbackPort.ts');
  const { replaceFile } = await import('./replaceFile.ts');
  const sshPort = await freeLoopbackPort();
  const whole = { ...(JSON.parse(text) as object), ssh_port: sshPort };
  replaceFile(`${path}/state.json`, `${JSON.stringify(whole, undefined, 2)}\n`, STATE_MODE);
  return { ...state, sshPort };
}

/** Undefined if there is no such file. */
function read(files: FileReader, path: string): string | undefined {
  let fd: number | undefined;
  try {
    fd = openConfiguration(files, path);
    const size = files.imageSize(fd);
    if (size > MAX_SMALL_FILE) throw new Error(`it has more than ${MAX_SMALL_FILE} bytes`);
    return new TextDecoder().decode(files.readAt(fd, 0, size));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (fd === undefined && (code === 'ENOENT' || code === 'ENOTDIR')) return undefined;
    throw new ConfigError('invalid', `Cannot read ${path}: ${message}`);
  } finally {
    if (fd !== undefined) files.closeFile(fd);
  }
}

function parseJson(file: string, text: string): unknown {
  try {
    return readJson(text);
  } catch (error) {
    throw new ConfigError('malformed', `${file}: ${(error as Error).message}`);
  }
}

async function parseToml(file: string, text: string): Promise<unknown> {
  const { parse } = await import('smol-toml');
  try {
    return parse(text, { integersAsBigInt: 'asNeeded' });
  } catch (error) {
    throw new ConfigError('malformed', `${file}: ${(error as Error).message}`);
  }
}
