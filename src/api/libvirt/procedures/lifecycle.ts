/** Defining domains, starting and ending them. */

import type { SupervisedVm } from '../../../supervisor/supervisedVm.ts';
import type { Domains } from '../domains.ts';
import { uuidOf } from '../domains.ts';
import { invalidArgument, invalidOperation, unsupported } from '../errors.ts';
import type { Session } from '../session.ts';
import { Remote } from '../signatures/index.ts';
import type { Dom } from '../types.ts';
import { type Procedure, procedure } from './procedure.ts';

const writes = { writes: true } as const;

/** virDomainCreateFlags. */
const Create = { paused: 1, autoDestroy: 2, validate: 16 } as const;
/** virDomainDestroyFlags. */
const DESTROY_GRACEFUL = 1;
/** virDomainShutdownFlagValues, virDomainRebootFlagValues. */
const ACPI_POWER_BUTTON = 1;

export function vmOf({ domains }: Session, { uuid }: Dom): SupervisedVm {
  return domains.byUuid(uuid);
}

function running(session: Session, given: Dom): SupervisedVm {
  const vm = vmOf(session, given);
  if (!vm.alive) throw invalidOperation('domain is not running');
  return vm;
}

async function start(session: Session, given: Dom, flags: number): Promise<SupervisedVm> {
  const vm = vmOf(session, given);
  if (vm.alive) throw invalidOperation('domain is already running');
  if (flags & Create.paused) throw unsupported('virDomainCreateWithFlags with a start that is paused');
  await vm.start();
  if (flags & Create.autoDestroy) session.autoDestroy.add(uuidOf(vm));
  return vm;
}

async function create(session: Session, xml: string, flags: number): Promise<{ dom: Dom }> {
  if (flags & Create.paused) throw unsupported('virDomainCreateXML with a start that is paused');
  const vm = await session.domains.create(xml);
  if (flags & Create.autoDestroy) session.autoDestroy.add(uuidOf(vm));
  return { dom: session.domains.domOf(vm) };
}

const defined = (domains: Domains, xml: string) => ({ dom: domains.domOf(domains.define(xml)) });

async function shutdown(session: Session, given: Dom, flags: number): Promise<void> {
  const vm = running(session, given);
  if (flags & ~ACPI_POWER_BUTTON) throw invalidArgument('only the ACPI power button can shut a domain down');
  if (vm.paused) throw invalidOperation('domain is not running');
  await session.domains.call(vm, 'PUT', 'vm.power-button');
}

/** Nothing asks a guest to restart: it is reset. */
async function reset(session: Session, given: Dom): Promise<void> {
  await session.domains.call(running(session, given), 'PUT', 'vm.reboot');
}

/** Graceful: the guest is asked, and ended when its time is over. */
async function destroy(session: Session, given: Dom, flags: number): Promise<void> {
  const vm = running(session, given);
  const graceful = (flags & DESTROY_GRACEFUL) !== 0;
  await vm.stop(graceful ? vm.definition.policy.stop_timeout : 0, !graceful);
}

export const lifecycleProcedures: readonly Procedure[] = [
  procedure(
    Remote.domainDefineXml,
    ({ session: { domains }, args: { xml } }) => defined(domains, xml),
    writes,
  ),
  procedure(
    Remote.domainDefineXmlFlags,
    ({ session: { domains }, args: { xml } }) => defined(domains, xml),
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
  procedure(
    Remote.domainUndefine,
    ({ session, args }) => session.domains.undefine(vmOf(session, args.dom)),
    writes,
  ),
  procedure(
    Remote.domainUndefineFlags,
    ({ session, args }) => session.domains.undefine(vmOf(session, args.dom)),
    writes,
  ),
  procedure(Remote.domainShutdown, ({ session, args }) => shutdown(session, args.dom, 0), writes),
  procedure(
    Remote.domainShutdownFlags,
    ({ session, args }) => shutdown(session, args.dom, args.flags),
    writes,
  ),
  procedure(Remote.domainReboot, ({ session, args }) => reset(session, args.dom), writes),
  procedure(Remote.domainReset, ({ session, args }) => reset(session, args.dom), writes),
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
    autostart: vmOf(session, args.dom).definition.policy.autostart ? 1 : 0,
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
