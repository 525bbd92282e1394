/** `tsvmm vmhost`: one VM below a supervisor's folder, as a process that outlives the supervisor. */
import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { UsageError } from '../../cli/usageError.ts';
import { loadNative, type NativeAddon } from '../../native.ts';
import { describeError, VmmError } from '../../vmm/errors.ts';
import { openVmhostLog } from './log.ts';
import type { SupervisorLink } from './supervisorLink.ts';
import { BACKEND } from './vmController.ts';
import { vmFolderPath } from './vmFolder.ts';
import { VmhostProcess } from './vmhostProcess.ts';

const HELP = `Usage: tsvmm vmhost --name NAME --backend ${BACKEND} --config-dir DIR [--paused] [--api-socket PATH]
                    [--supervisor PATH]

Runs the VM in DIR/vms/NAME: vm.json or vm.toml (as vm.create of the REST API takes it; relative paths begin in that
folder), or what masterblaster's daemon put there (jcard.toml, state.json, disk.qcow2 or disk.raw).
While the VM runs, vmhost.sock answers status, info, stop, force_stop, restart and watch, and vmhost.pid names the process.
vmhost.log has what was done and what went wrong. SIGTERM ends the VM at once, in order.

  --paused            the guest's first instruction waits for vm.resume of the REST API
  --api-socket PATH   serve the REST API as well; relative to the VM's folder
  --supervisor PATH   report to tsvmmd on this socket; without --name, wait there for a VM to run
`;

interface VmhostOptions {
  readonly name?: string;
  readonly paused: boolean;
  readonly configDir: string;
  readonly apiSocket?: string;
  readonly supervisor?: string;
}

/** @param args behind the word `vmhost` @returns the exit code @throws UsageError, VmmError or ConfigError */
export async function vmhostCommand(args: readonly string[]): Promise<number> {
  const options = parse(args);
  if (options === undefined) {
    process.stdout.write(HELP);
    return 0;
  }
  process.umask(0o077);
  const native = loadNative();
  native.expectMachine();
  if (options.name === undefined) await prepare(native);
  const link = await connectSupervisor(options);
  const assigned = options.name === undefined ? await link?.assignment() : undefined;
  const name = options.name ?? assigned?.name;
  if (name === undefined) return 0;
  try {
    const vmDir = vmFolderPath(options.configDir, name);
    if (!statSync(vmDir, { throwIfNoEntry: false })?.isDirectory()) {
      throw new VmmError(`There is no VM ${name}: ${vmDir} is no folder`);
    }
    const log = openVmhostLog(native, `${vmDir}/vmhost.log`, name);
    log(`starting ${name} (backend ${BACKEND}, folder ${vmDir}, process ${process.pid})`);
    const apiSocket = options.apiSocket === undefined ? undefined : resolve(vmDir, options.apiSocket);
    return await runLogged(
      new VmhostProcess(native, {
        configDir: options.configDir,
        vmDir,
        log,
        paused: assigned?.paused ?? options.paused,
        ...(apiSocket !== undefined && { apiSocket }),
        ...(link && { link }),
      }),
      log,
    );
  } catch (error) {
    link?.send({ ok: false, error: describeError(error) });
    await link?.close();
    throw error;
  }
}

/** What a start would have to load and do first, done while there is time. */
async function prepare(native: NativeAddon): Promise<void> {
  await import('../rest/server.ts');
  const { rehearseStart } = await import('../../vmm/rehearsal.ts');
  rehearseStart(native);
}

async function runLogged(child: VmhostProcess, log: (line: string) => void): Promise<number> {
  try {
    return await child.run();
  } catch (error) {
    log(`failed: ${describeError(error)}`);
    throw error;
  }
}

async function connectSupervisor({ supervisor, name }: VmhostOptions): Promise<SupervisorLink | undefined> {
  if (supervisor === undefined) return undefined;
  const { SupervisorLink: Link } = await import('./supervisorLink.ts');
  return Link.connect(supervisor, name);
}

/** Undefined if help is asked for. */
function parse(args: readonly string[]): VmhostOptions | undefined {
  let values: Partial<Record<string, string | boolean>>;
  try {
    const text = { type: 'string' } as const;
    const options = { name: text, backend: text, 'config-dir': text, 'api-socket': text, supervisor: text };
    ({ values } = parseArgs({
      args: [...args],
      options: { ...options, paused: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
    }));
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  if (values.help) return undefined;
  const { name, backend, 'config-dir': configDir, 'api-socket': apiSocket, supervisor } = values;
  if ((typeof name !== 'string' && supervisor === undefined) || typeof configDir !== 'string') {
    throw new UsageError('vmhost needs --name and --config-dir');
  }
  if (backend !== BACKEND) throw new UsageError(`vmhost has no backend "${backend ?? ''}", only ${BACKEND}`);
  return {
    configDir: resolve(configDir),
    paused: values.paused === true,
    ...(typeof name === 'string' && { name }),
    ...(typeof apiSocket === 'string' && { apiSocket }),
    ...(typeof supervisor === 'string' && { supervisor: resolve(supervisor) }),
  };
}
