/** `tsvmm vmhost`: one VM below a supervisor's folder, as a process that outlives the supervisor. */
import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { UsageError } from '../../cli/usageError.ts';
import { keepIgnoredSignals, onSignal } from '../../host/signals.ts';
import { loadNative, type NativeAddon } from '../../native.ts';
import { describeError, VmmError } from '../../vmm/errors.ts';
import { Vmm } from '../../vmm/vmm.ts';
import type { RestServer } from '../rest/server.ts';
import { claimSocket, type SocketClaim } from '../rest/socketClaim.ts';
import { type Log, openVmhostLog } from './log.ts';
import { provisionGuest } from './provision.ts';
import { serveClaimed } from './serve.ts';
import { BACKEND, vmController } from './vmController.ts';
import { readVmFolder, type VmFolder, vmFolderPath } from './vmFolder.ts';

const HELP = `Usage: tsvmm vmhost --name NAME --backend ${BACKEND} --config-dir DIR [--api-socket PATH]

Runs the VM in DIR/vms/NAME: vm.json or vm.toml (as vm.create of the REST API takes it; relative paths begin in that
folder), or what masterblaster's daemon put there (jcard.toml, state.json, disk.qcow2 or disk.raw).
While the VM runs, vmhost.sock answers status, info, stop and force_stop, and vmhost.pid names the process.
vmhost.log has what was done and what went wrong. SIGTERM ends the VM at once, in order.
`;

interface VmhostOptions {
  readonly name: string;
  readonly configDir: string;
  readonly apiSocket?: string;
}

/** @param args behind the word `vmhost` @returns the exit code @throws UsageError */
export async function vmhostCommand(args: readonly string[]): Promise<number> {
  const options = parse(args);
  if (options === undefined) {
    process.stdout.write(HELP);
    return 0;
  }
  process.umask(0o077);
  const path = vmFolderPath(options.configDir, options.name);
  if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) {
    throw new VmmError(`There is no VM ${options.name}: ${path} is no folder`);
  }
  const log = openVmhostLog(`${path}/vmhost.log`, options.name);
  log(`starting ${options.name} (backend ${BACKEND}, folder ${path}, process ${process.pid})`);
  try {
    return await new VmhostProcess(options, path, log).run();
  } catch (error) {
    log(`failed: ${describeError(error)}`);
    throw error;
  }
}

/** Undefined if help is asked for. */
function parse(args: readonly string[]): VmhostOptions | undefined {
  let values: Partial<Record<string, string | boolean>>;
  try {
    const text = { type: 'string' } as const;
    const options = { name: text, backend: text, 'config-dir': text, 'api-socket': text };
    ({ values } = parseArgs({
      args: [...args],
      options: { ...options, help: { type: 'boolean', short: 'h' } },
    }));
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  if (values.help) return undefined;
  const { name, backend, 'config-dir': configDir, 'api-socket': apiSocket } = values;
  if (typeof name !== 'string' || typeof configDir !== 'string') {
    throw new UsageError('vmhost needs --name and --config-dir');
  }
  if (backend !== BACKEND) throw new UsageError(`vmhost has no backend "${backend ?? ''}", only ${BACKEND}`);
  // The process will work in the VM's folder.
  return {
    name,
    configDir: resolve(configDir),
    ...(typeof apiSocket === 'string' && { apiSocket: resolve(apiSocket) }),
  };
}

class VmhostProcess {
  readonly #options: VmhostOptions;
  readonly #path: string;
  readonly #log: Log;
  readonly #native: NativeAddon = loadNative();
  readonly #vmm: Vmm;
  #server: RestServer | undefined;

  constructor(options: VmhostOptions, path: string, log: Log) {
    this.#options = options;
    this.#path = path;
    this.#log = log;
    this.#vmm = new Vmm({
      native: this.#native,
      onWarning: (message) => log(`warning: ${message}`),
      onNote: (message) => log(message),
    });
  }

  async run(): Promise<number> {
    // Only one process at a time may start this VM.
    const claim = claimSocket(this.#native, { path: `${this.#path}/vmhost.sock` });
    const quit = () => void this.#vmm.quit();
    keepIgnoredSignals();
    onSignal('SIGTERM', quit);
    onSignal('SIGINT', quit);
    process.on('exit', () => {
      this.#vmm.abandon();
      claim.release();
    });
    try {
      await this.#start(claim);
    } catch (error) {
      await this.#vmm.quit();
      await this.#server?.close();
      throw error;
    }
    const { code, reason, message } = await this.#vmm.exited;
    this.#log(`the VM ended: ${reason}${message === undefined ? '' : `: ${message}`}`);
    await this.#server?.close();
    return code;
  }

  async #start(claim: SocketClaim): Promise<void> {
    const folder = await readVmFolder(this.#options.configDir, this.#path);
    process.chdir(this.#path);
    await this.#vmm.create(folder.config);
    await this.#vmm.boot();
    this.#log('the VM runs');
    await this.#serveRest();
    await this.#provision(folder);
    if (this.#vmm.state === 'none') return;
    const sshPort = folder.daemon?.state.sshPort ?? 0;
    const vmm = this.#vmm;
    const vm = {
      get state() {
        return vmm.state;
      },
      exited: vmm.exited,
      info: () => vmm.info(),
      resume: () => vmm.resume(),
      powerButton: () => vmm.powerButton(),
      close: () => vmm.quit(),
    };
    const controller = vmController(vm, { sshPort, log: this.#log });
    await serveClaimed(claim, controller, `${this.#path}/vmhost.pid`, { log: this.#log });
    this.#log(`serving ${this.#path}/vmhost.sock`);
  }

  async #serveRest(): Promise<void> {
    const { apiSocket } = this.#options;
    if (apiSocket === undefined) return;
    const { serveRest } = await import('../rest/server.ts');
    const claim = claimSocket(this.#native, { path: apiSocket });
    process.on('exit', () => claim.release());
    this.#server = serveRest(this.#vmm, claim, this.#native);
  }

  /** A guest that cannot be set up runs on: whoever looks for the reason can reach it. */
  async #provision(folder: VmFolder): Promise<void> {
    if (folder.daemon === undefined) return;
    const gone = new AbortController();
    void this.#vmm.exited.then(() => gone.abort());
    try {
      await provisionGuest(folder, folder.config.vsock?.socket as string, gone.signal);
      this.#log("the guest's agent has its configuration");
    } catch (error) {
      this.#log(`the guest could not be set up: ${describeError(error)}`);
    }
  }
}
