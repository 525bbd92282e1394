/** One VM below a supervisor's folder, from its start to its end. */
import { settleAfterBoot } from '../../host/settle.ts';
import { keepIgnoredSignals, onSignal } from '../../host/signals.ts';
import type { NativeAddon } from '../../native.ts';
import { describeError, wasCalledOff } from '../../vmm/errors.ts';
import { EventLog } from '../../vmm/eventLog.ts';
import type { EndCause, VmmEvent, VmmExit } from '../../vmm/events.ts';
import { Vmm } from '../../vmm/vmm.ts';
import type { RestServer } from '../rest/server.ts';
import { claimSocket, type SocketClaim } from '../rest/socketClaim.ts';
import type { ExitRecord } from './exitRecord.ts';
import { VmFile } from './folderFiles.ts';
import type { Log } from './log.ts';
import type { VmhostService } from './serve.ts';
import type { SupervisorLink } from './supervisorLink.ts';
import type { ControllableVm } from './vmController.ts';
import { readVmFolder, type VmFolder } from './vmFolder.ts';

/**
 * The supervisor's end is heard of once the VM is up, so that the guest does not wait for what that needs; of a start
 * that takes longer, meanwhile.
 */
const SLOW_START_MS = 50;

export interface VmhostProcessOptions {
  /** The supervisor's folder, and the VM's below it. */
  readonly configDir: string;
  readonly vmDir: string;
  readonly apiSocket?: string;
  /** Errors there have the status codes of HTTP. */
  readonly apiStrict: boolean;
  /** The guest's first instruction waits for a resume. */
  readonly paused: boolean;
  readonly endOn: readonly EndCause[];
  readonly log: Log;
  readonly link?: SupervisorLink;
}

/** What is needed once the guest runs, and not before. */
export async function loadServices() {
  const [{ ExitRecord }, { serveClaimed }, { vmController }] = await Promise.all([
    import('./exitRecord.ts'),
    import('./serve.ts'),
    import('./vmController.ts'),
  ]);
  return { ExitRecord, serveClaimed, vmController };
}

type Services = Awaited<ReturnType<typeof loadServices>>;

export class VmhostProcess {
  readonly #native: NativeAddon;
  readonly #options: VmhostProcessOptions;
  readonly #log: Log;
  readonly #vmm: Vmm;
  /** Any number of supervisors may watch. */
  readonly #watchers = new Set<(event: VmmEvent) => void>();
  /** What the REST API tells of. */
  readonly #events: EventLog | undefined;
  #rest: RestServer | undefined;
  #service: VmhostService | undefined;
  #record: ExitRecord | undefined;

  constructor(native: NativeAddon, options: VmhostProcessOptions) {
    this.#native = native;
    this.#options = options;
    this.#log = options.log;
    const { link } = options;
    if (link) this.#watchers.add((event) => link.send({ event }));
    if (options.apiSocket !== undefined) {
      const events = new EventLog();
      this.#events = events;
      this.#watchers.add((event) => events.add(event));
    }
    this.#vmm = new Vmm({
      native,
      endOn: options.endOn,
      // A supervisor keeps the log within bounds, and what a guest said before it failed is asked for after the next
      // start.
      ...(link && { appendTo: [VmFile.serialLog, `${options.vmDir}/${VmFile.serialLog}`] }),
      onWarning: (message) => this.#log(`warning: ${message}`),
      onNote: (message) => this.#log(message),
      onEvent: (event) => {
        if (event.event === 'booted') settleAfterBoot();
        for (const watcher of this.#watchers) watcher(event);
      },
    });
  }

  /** @returns the exit code. @throws VmmError or ConfigError if the VM cannot be started */
  async run(): Promise<number> {
    // Only one process at a time may start this VM.
    const claim = claimSocket(this.#native, { path: `${this.#options.vmDir}/${VmFile.controlSocket}` });
    const quit = () => {
      this.#vmm.quit().catch((error) => this.#log(describeError(error)));
    };
    keepIgnoredSignals();
    onSignal('SIGTERM', quit);
    onSignal('SIGINT', quit);
    this.#options.link?.onGone(() => {
      if (this.#service !== undefined || this.#vmm.ended) return;
      // No supervisor would find it: what one finds is made when the VM is up.
      this.#log('the supervisor has gone before the VM was up: it is not started');
      quit();
    });
    process.on('exit', () => {
      this.#vmm.abandon();
      claim.release();
    });
    try {
      await this.#start(claim);
    } catch (error) {
      await this.#vmm.quit().catch(() => {});
      if (!wasCalledOff(error)) {
        await this.#rest?.close();
        throw error;
      }
    }
    const exit = await this.#vmm.exited;
    this.#log(`the VM ended: ${exit.reason}${exit.message === undefined ? '' : `: ${exit.message}`}`);
    this.#keepExit(exit);
    this.#options.link?.send({ exit });
    await Promise.all([this.#rest?.close(), this.#service?.close(), this.#options.link?.close()]);
    if (exit.incomplete) {
      // Threads may be stuck: an orderly exit could wait for them, or free what they use.
      this.#vmm.abandon();
      claim.release();
      this.#native.exitAtOnce(exit.code);
    }
    return exit.code;
  }

  async #start(claim: SocketClaim): Promise<void> {
    const { configDir, vmDir, paused, link } = this.#options;
    const folder = await readVmFolder(this.#native, configDir, vmDir);
    // Relative paths of the configuration begin there.
    process.chdir(vmDir);
    await this.#vmm.create(folder.config);
    const bootedAt = await this.#boot(paused);
    await link?.listen();
    const services = await loadServices();
    this.#record = new services.ExitRecord(vmDir);
    await this.#serveRest();
    await this.#provision(folder);
    // A stop may be requested as soon as the VM is reported to run.
    if (this.#vmm.state !== 'none') await this.#serve(services, claim, folder, bootedAt);
    link?.send({ ok: true, state: 'running', ...(this.#vmm.state === 'paused' && { paused: true }) });
  }

  /** @returns when the VM came up */
  async #boot(paused: boolean): Promise<number> {
    const timer = setTimeout(() => void this.#options.link?.listen(), SLOW_START_MS);
    try {
      await this.#vmm.boot(paused);
    } finally {
      clearTimeout(timer);
    }
    const bootedAt = performance.now();
    this.#log(paused ? 'the VM is there, paused' : 'the VM runs');
    return bootedAt;
  }

  #keepExit(exit: VmmExit): void {
    try {
      this.#record?.write(exit);
    } catch (error) {
      this.#log(`how it ended cannot be written down: ${describeError(error)}`);
    }
  }

  async #serve(
    { vmController, serveClaimed }: Services,
    claim: SocketClaim,
    folder: VmFolder,
    bootedAt: number,
  ): Promise<void> {
    const { vmDir, log } = this.#options;
    const sshPort = folder.daemon?.state.sshPort ?? 0;
    const controller = vmController(this.#controllable(), { sshPort, log }, bootedAt);
    this.#service = await serveClaimed(claim, controller, `${vmDir}/${VmFile.pid}`, { log });
    log(`serving ${vmDir}/${VmFile.controlSocket}`);
  }

  #controllable(): ControllableVm {
    const vmm = this.#vmm;
    const watchers = this.#watchers;
    return {
      get state() {
        return vmm.state;
      },
      exited: vmm.exited,
      on: (_, listener) => watchers.add(listener),
      off: (_, listener) => watchers.delete(listener),
      info: () => vmm.info(),
      resume: () => vmm.resume(),
      powerButton: () => vmm.powerButton(),
      restart: () => vmm.restart(),
      close: () => vmm.quit(),
    };
  }

  async #serveRest(): Promise<void> {
    const { apiSocket, apiStrict } = this.#options;
    if (apiSocket === undefined) return;
    const { serveRest } = await import('../rest/server.ts');
    const claim = claimSocket(this.#native, { path: apiSocket });
    process.on('exit', () => claim.release());
    this.#rest = serveRest(this.#vmm, claim, this.#native, {
      ...(this.#events && { events: this.#events }),
      ...(apiStrict && { errors: (await import('../rest/strictErrors.ts')).strictErrors }),
    });
  }

  /** A guest that cannot be set up goes on running, so that the reason can be looked for in it. */
  async #provision(folder: VmFolder): Promise<void> {
    if (folder.daemon === undefined) return;
    const { provisionGuest } = await import('./provision.ts');
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
