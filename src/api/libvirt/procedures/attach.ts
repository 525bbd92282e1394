/** Attaching devices to domains, and detaching them. */
import { PLAIN_ZONE_ID } from '../../../config/memory.ts';
import { attach, called, detach, meant } from '../attachments.ts';
import { attachableOf, parseDevice } from '../deviceXml.ts';
import { checkFlags, impactOf } from '../impact.ts';
import { attachMemory, detachMemory, detachVirtioMem } from '../memoryDevices.ts';
import type { Session } from '../session.ts';
import { Affect, DEVICE_MODIFY_FORCE } from '../signatures/constants.ts';
import { Remote } from '../signatures/index.ts';
import type { Dom } from '../types.ts';
import { updateDevice } from '../updates.ts';
import { vmOf } from './lifecycle.ts';
import { type Procedure, procedure } from './procedure.ts';

const writes = { writes: true } as const;
const MEMORY = 'memory';

/** What a call is about. @param api its name, for messages */
function target(session: Session, given: Dom, api: string, flags: number, others = 0) {
  checkFlags(api, flags, Affect.live | Affect.config | others);
  const vm = vmOf(session, given);
  return { vm, impact: impactOf(vm, flags) };
}

async function attachDevice(session: Session, given: Dom, xml: string, api: string, flags: number) {
  const { vm, impact } = target(session, given, api, flags);
  const root = parseDevice(xml);
  if (root.name === MEMORY) return attachMemory(session.domains, vm, root, impact);
  await attach(session.domains, vm, attachableOf(root), impact);
}

async function detachDevice(session: Session, given: Dom, xml: string, api: string, flags: number) {
  const { vm, impact } = target(session, given, api, flags);
  const root = parseDevice(xml);
  if (root.name === MEMORY) return detachMemory(session.domains, vm, root, impact);
  await detach(session.domains, vm, meant(attachableOf(root)), impact);
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
      if (alias === PLAIN_ZONE_ID) return detachVirtioMem(session.domains, vm, impact);
      await detach(session.domains, vm, called(alias), impact);
    },
    writes,
  ),
  procedure(
    Remote.domainUpdateDeviceFlags,
    async ({ session, args: { dom, xml, flags } }) => {
      const { vm, impact } = target(
        session,
        dom,
        Remote.domainUpdateDeviceFlags.api,
        flags,
        DEVICE_MODIFY_FORCE,
      );
      await updateDevice(session.domains, vm, parseDevice(xml), impact);
    },
    writes,
  ),
];
