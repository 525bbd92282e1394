/** Defining domains, starting and ending them. */

import type { SupervisedVm } from '../../../supervisor/supervisedVm.ts';
import { VmhostClient } from '../../vmhost/client.ts';
import { VmFile } from '../../vmhost/folderFiles.ts';
import { shutDownByAgent } from '../askAgent.ts';
import { invalidOperation } from '../errors.ts';
import { checkFlags } from '../impact.ts';
import type { Session } from '../session.ts';
import { Create, Define, Destroy, Shutdown, Undefine } from '../signatures/constants.ts';
import { Remote } from '../signatures/index.ts';
import type { Dom } from '../types.ts';
import { type Procedure, procedure } from './procedure.ts';

const writes = { writes: true } as const;

/** Most of them are about what no domain here has. */
const ANY_CREATE = all(Create);
const ANY_UNDEFINE = all(Undefine);

function all(flags: Readonly<Record<string, number>>): number {
  return Object.values(flags).reduce((bits, bit) => bits | bit, 0);
}

export function vmOf({ domains }: Session, { uuid }: Dom): SupervisedVm {
  return domains.byUuid(uuid);
}

function running(session: Session, given: Dom): SupervisedVm {
  const vm = vmOf(session, given);
  if (!vm.alive) throw invalidOperation('domain is not running');
  return vm;
}

async function start(session: Session, given: Dom, flags: number): Promise<SupervisedVm> {
  checkFlags('virDomainCreateWithFlags', flags, ANY_CREATE);
  const vm = vmOf(session, given);
  if (vm.alive) throw invalidOperation('domain is already running');
  await vm.start({ paused: (flags & Create.paused) !== 0 });
  endWithConnection(session, vm, flags);
  return vm;
}

async function create(session: Session, xml: string, flags: number): Promise<{ dom: Dom }> {
  checkFlags('virDomainCreateXML', flags, ANY_CREATE);
  const paused = (flags & Create.paused) !== 0;
  const validate = (flags & Create.validate) !== 0;
  const vm = await session.domains.create(xml, { paused, validate });
  endWithConnection(session, vm, flags);
  return { dom: session.domains.domOf(vm) };
}

/** This run of it, and no later one. */
function endWithConnection(session: Session, vm: SupervisedVm, flags: number): void {
  const { runId } = vm;
  if ((flags & Create.autoDestroy) === 0 || runId === undefined) return;
  // The connection may have gone while the domain started.
  if (session.ended) return void vm.stop(0, true).catch(() => {});
  // Those that have ended meanwhile are not kept as long as the connection.
  for (const [each, run] of session.autoDestroy) if (each.runId !== run) session.autoDestroy.delete(each);
  session.autoDestroy.set(vm, runId);
}

function define({ domains }: Session, xml: string, flags: number): { dom: Dom } {
  checkFlags('virDomainDefineXMLFlags', flags, Define.validate);
  return { dom: domains.domOf(domains.define(xml, (flags & Define.validate) !== 0)) };
}

function undefine(session: Session, given: Dom, flags: number): Promise<void> {
  checkFlags('virDomainUndefineFlags', flags, ANY_UNDEFINE);
  return session.domains.undefine(vmOf(session, given));
}

/** By whichever of both was asked for, the agent first; by the power button where nothing was. */
async function shutdown(session: Session, given: Dom, flags: number): Promise<void> {
  checkFlags('virDomainShutdownFlags', flags, Shutdown.acpi | Shutdown.agent);
  const vm = running(session, given);
  if (vm.paused) throw invalidOperation('domain is not running');
  if (await askAgent(session, vm, flags)) return;
  await session.domains.call(vm, 'PUT', 'vm.power-button');
}

/** True if it was asked for and has accepted. @throws LibvirtError if it has not, and nothing else was asked for */
async function askAgent({ domains }: Session, vm: SupervisedVm, flags: number): Promise<boolean> {
  if ((flags & Shutdown.agent) === 0) return false;
  try {
    await shutDownByAgent(vm, domains.configOf(vm));
    return true;
  } catch (error) {
    if ((flags & Shutdown.acpi) === 0) throw error;
    return false;
  }
}

/**
 * A guest that powers off when it is asked to is started anew, as the same run of the domain. An agent is asked to shut
 * down; the power button, which says what comes after that, changes nothing for a guest that does so already.
 */
async function reboot(session: Session, given: Dom, flags: number): Promise<void> {
  checkFlags('virDomainReboot', flags, Shutdown.acpi | Shutdown.agent);
  const vm = running(session, given);
  if (vm.paused) throw invalidOperation('domain is not running');
  await askAgent(session, vm, flags);
  await new VmhostClient(`${vm.folder}/${VmFile.controlSocket}`).restart();
}

async function reset(session: Session, given: Dom, flags: number): Promise<void> {
  checkFlags('virDomainReset', flags, 0);
  await session.domains.call(running(session, given), 'PUT', 'vm.reboot');
}

/**
 * In order, as far as the host is concerned: what is in flight on disks comes to its end. Only a process that hangs is
 * killed.
 */
async function destroy(session: Session, given: Dom, flags: number): Promise<void> {
  checkFlags('virDomainDestroyFlags', flags, Destroy.graceful);
  await running(session, given).stop(0, true);
}

export const lifecycleProcedures: readonly Procedure[] = [
  procedure(Remote.domainDefineXml, ({ session, args: { xml } }) => define(session, xml, 0), writes),
  procedure(
    Remote.domainDefineXmlFlags,
    ({ session, args: { xml, flags } }) => define(session, xml, flags),
    writes,
  ),
  procedure(
    Remote.domainCreateXml,
    ({ session, args: { xml, flags } }) => create(session, xml, flags),
    writes,
  ),
  procedure(
    Remote.domainCreate,
    async ({ session, args }) => {
      await start(session, args.dom, 0);
    },
    writes,
  ),
  procedure(
    Remote.domainCreateWithFlags,
    async ({ session, args }) => ({ dom: session.domains.domOf(await start(session, args.dom, args.flags)) }),
    writes,
  ),
  procedure(Remote.domainUndefine, ({ session, args }) => undefine(session, args.dom, 0), writes),
  procedure(
    Remote.domainUndefineFlags,
    ({ session, args }) => undefine(session, args.dom, args.flags),
    writes,
  ),
  procedure(Remote.domainShutdown, ({ session, args }) => shutdown(session, args.dom, 0), writes),
  procedure(
    Remote.domainShutdownFlags,
    ({ session, args }) => shutdown(session, args.dom, args.flags),
    writes,
  ),
  procedure(Remote.domainReboot, ({ session, args }) => reboot(session, args.dom, args.flags), writes),
  procedure(Remote.domainReset, ({ session, args }) => reset(session, args.dom, args.flags), writes),
  procedure(Remote.domainDestroy, ({ session, args }) => destroy(session, args.dom, 0), writes),
  procedure(Remote.domainDestroyFlags, ({ session, args }) => destroy(session, args.dom, args.flags), writes),
  procedure(
    Remote.domainSuspend,
    async ({ session, args }) => {
      const vm = running(session, args.dom);
      if (!vm.paused) await session.domains.call(vm, 'PUT', 'vm.pause');
    },
    writes,
  ),
  procedure(
    Remote.domainResume,
    async ({ session, args }) => {
      const vm = running(session, args.dom);
      if (!vm.paused) throw invalidOperation('domain is already running');
      await session.domains.call(vm, 'PUT', 'vm.resume');
    },
    writes,
  ),
  procedure(Remote.domainGetAutostart, ({ session, args }) => ({
    autostart: session.domains.autostarts(vmOf(session, args.dom)) ? 1 : 0,
  })),
  procedure(
    Remote.domainSetAutostart,
    ({ session, args }) => session.domains.setAutostart(vmOf(session, args.dom), args.autostart !== 0),
    writes,
  ),
  procedure(
    Remote.domainInjectNmi,
    async ({ session, args }) => {
      await session.domains.call(running(session, args.dom), 'PUT', 'vm.nmi');
    },
    writes,
  ),
];
