/** `tsvmm vmhost`: one VM below a supervisor's folder, as a process that outlives the supervisor. */
import { loadNative, type NativeAddon } from '../../native.ts';
import { describeError, VmmError } from '../../vmm/errors.ts';
import { END_CAUSES } from '../../vmm/events.ts';
import { absolute, parseVmhostArguments, type VmhostOptions } from './arguments.ts';
import { VmFile } from './folderFiles.ts';
import { openVmhostLog } from './log.ts';
import { BACKEND } from './protocol.ts';
import type { SupervisorLink } from './supervisorLink.ts';
import { vmFolderPath } from './vmFolder.ts';
import { loadServices, VmhostProcess } from './vmhostProcess.ts';

const HELP = `Usage: tsvmm vmhost --name NAME --backend ${BACKEND} --config-dir DIR [--paused] [--end-on CAUSE,...]
                    [--api-socket PATH [--api-strict]] [--supervisor PATH]

Runs the VM in DIR/vms/NAME: vm.json or vm.toml (as vm.create of the REST API takes it; relative paths begin in that
folder), or what masterblaster's daemon put there (jcard.toml, state.json, disk.qcow2 or disk.raw).
While the VM runs, vmhost.sock answers status, info, stop, force_stop, restart and watch, and vmhost.pid names the process.
vmhost.log has what was done and what went wrong. SIGTERM ends the VM at once, in order.

  --paused            the guest's first instruction waits for vm.resume of the REST API
  --end-on CAUSE,...  ${END_CAUSES.join(', ')}: ends the VM, which else starts anew, or goes on
  --api-socket PATH   serve the REST API as well; relative to the VM's folder
  --api-strict        answer errors there with the status codes of HTTP and codes for programs
  --supervisor PATH   report to tsvmmd on this socket; without --name, wait there for a VM to run
`;

/** @param args behind the word `vmhost` @returns the exit code @throws UsageError, VmmError or ConfigError */
export async function vmhostCommand(args: readonly string[]): Promise<number> {
  const options = parseVmhostArguments(args);
  if (options === undefined) {
    process.stdout.write(HELP);
    return 0;
  }
  process.umask(0o077);
  const native = loadNative();
  if (options.name === undefined) await prepare(native, options.configDir);
  const link = await connectSupervisor(native, options);
  const assigned = options.name === undefined ? await link?.assignment() : undefined;
  const name = options.name ?? assigned?.name;
  if (name === undefined) return 0;
  try {
    const vmDir = vmFolderPath(options.configDir, name);
    if (native.fileIdAt(`${vmDir}/.`) === null) {
      throw new VmmError(`There is no VM ${name}: ${vmDir} is no folder`);
    }
    const log = openVmhostLog(native, `${vmDir}/${VmFile.log}`, name);
    log(`starting ${name} (backend ${BACKEND}, folder ${vmDir}, process ${process.pid})`);
    const apiSocket = options.apiSocket === undefined ? undefined : absolute(vmDir, options.apiSocket);
    return await runLogged(
      new VmhostProcess(native, {
        configDir: options.configDir,
        vmDir,
        log,
        paused: assigned?.paused ?? options.paused,
        endOn: assigned?.end_on ?? options.endOn,
        apiStrict: options.apiStrict,
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
async function prepare(native: NativeAddon, configDir: string): Promise<void> {
  await import('../rest/server.ts');
  await loadServices();
  const [{ rehearsal }, { rehearseOrders }] = await Promise.all([
    import('../../vmm/rehearsal.ts'),
    import('./rehearsal.ts'),
  ]);
  try {
    await rehearseOrders(native, configDir);
    for (const step of rehearsal(native)) step();
  } catch {
    // Without KVM: reported when the VM is started, to its supervisor and in its log.
  }
}

async function runLogged(child: VmhostProcess, log: (line: string) => void): Promise<number> {
  try {
    return await child.run();
  } catch (error) {
    log(`failed: ${describeError(error)}`);
    throw error;
  }
}

async function connectSupervisor(
  native: NativeAddon,
  { supervisor, name }: VmhostOptions,
): Promise<SupervisorLink | undefined> {
  if (supervisor === undefined) return undefined;
  const { SupervisorLink: Link } = await import('./supervisorLink.ts');
  const link = await Link.connect(native, supervisor, name);
  // Which VM it is to be is heard at once; else the guest does not wait for it.
  if (name === undefined) await link.listen();
  return link;
}
