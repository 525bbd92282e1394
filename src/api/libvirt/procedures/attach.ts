/** Attaching devices to domains, and detaching them. */
import { attach, called, detach, meant } from '../attachments.ts';
import { readDeviceXml } from '../deviceXml.ts';
import { Affect, checkFlags, impactOf } from '../impact.ts';
import type { Session } from '../session.ts';
import { Remote } from '../signatures/index.ts';
import type { Dom } from '../types.ts';
import { vmOf } from './lifecycle.ts';
import { type Procedure, procedure } from './procedure.ts';

const writes = { writes: true } as const;

/** What a call is about. @param api its name, for messages */
function target(session: Session, given: Dom, api: string, flags: number) {
  checkFlags(api, flags, Affect.live | Affect.config);
  const vm = vmOf(session, given);
  return { vm, impact: impactOf(vm, flags) };
}

async function attachDevice(session: Session, given: Dom, xml: string, api: string, flags: number) {
  const { vm, impact } = target(session, given, api, flags);
  await attach(session.domains, vm, readDeviceXml(xml), impact);
}

async function detachDevice(session: Session, given: Dom, xml: string, api: string, flags: number) {
  const { vm, impact } = target(session, given, api, flags);
  await detach(session.domains, vm, meant(readDeviceXml(xml)), impact);
}

export const attachProcedures: readonly Procedure[] = [
  procedure(
    Remote.domainAttachDevice,
    ({ session, args: { dom, xml } }) =>
      attachDevice(session, dom, xml, Remote.domainAttachDevice.api, Affect.live),
    writes,
  ),
  procedure(
    Remote.domainAttachDeviceFlags,
    ({ session, args: { dom, xml, flags } }) =>
      attachDevice(session, dom, xml, Remote.domainAttachDeviceFlags.api, flags),
    writes,
  ),
  procedure(
    Remote.domainDetachDevice,
    ({ session, args: { dom, xml } }) =>
      detachDevice(session, dom, xml, Remote.domainDetachDevice.api, Affect.live),
    writes,
  ),
  procedure(
    Remote.domainDetachDeviceFlags,
    ({ session, args: { dom, xml, flags } }) =>
      detachDevice(session, dom, xml, Remote.domainDetachDeviceFlags.api, flags),
    writes,
  ),
  procedure(
    Remote.domainDetachDeviceAlias,
    async ({ session, args: { dom, alias, flags } }) => {
      const { vm, impact } = target(session, dom, Remote.domainDetachDeviceAlias.api, flags);
      await detach(session.domains, vm, called(alias), impact);
    },
    writes,
  ),
];
