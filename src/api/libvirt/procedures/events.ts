/** Events that clients register for. */
import type { SupervisorEvent } from '../../../supervisor/eventHistory.ts';
import { Code, Domain, LibvirtError } from '../errors.ts';
import type { Session } from '../session.ts';
import { DomainEventMessages } from '../signatures/eventMessages.ts';
import { Remote } from '../signatures/index.ts';
import type { Dom } from '../types.ts';
import { XdrWriter } from '../xdr.ts';
import { type Procedure, procedure } from './procedure.ts';

/** All up to it may be registered for; what is never sent is not missed. */
const LAST_EVENT_ID = Math.max(...Object.values(DomainEventMessages).map(({ id }) => id));
const { lifecycle, reboot } = DomainEventMessages;

/** virDomainEventType with a detail. */
const Lifecycle = {
  added: [0, 0],
  updated: [0, 1],
  undefined: [1, 0],
  booted: [2, 0],
  paused: [3, 0],
  unpaused: [4, 0],
  shutdown: [5, 0],
  destroyed: [5, 1],
  crashed: [5, 2],
  failed: [5, 5],
} as const;

export const eventProcedures: readonly Procedure[] = [
  procedure(Remote.connectDomainEventCallbackRegisterAny, ({ session, args }) => ({
    callbackID: register(session, args.eventID, args.dom),
  })),
  procedure(
    Remote.connectDomainEventCallbackDeregisterAny,
    ({ session: { callbacks }, args: { callbackID } }) => {
      const unwatch = callbacks.get(callbackID);
      if (unwatch === undefined) {
        throw new LibvirtError(
          Code.internal,
          Domain.rpc,
          `internal error: domain event callback ${callbackID} not registered`,
        );
      }
      callbacks.delete(callbackID);
      unwatch();
    },
  ),
];

function register(session: Session, eventId: number, only: Dom | undefined): number {
  if (eventId < 0 || eventId > LAST_EVENT_ID) {
    throw new LibvirtError(Code.internal, Domain.rpc, `internal error: unsupported event ID ${eventId}`);
  }
  const callback = session.nextCallback++;
  // What is told of a domain that has gone needs its last uuid.
  const known = new Map(session.domains.all().map((vm) => [vm.definition.name, session.domains.domOf(vm)]));
  const unwatch = session.domains.events.watch((event) => {
    const vm = session.domains.find(event.vm);
    const of = vm ? session.domains.domOf(vm) : known.get(event.vm);
    if (of === undefined) return;
    if (vm) known.set(event.vm, of);
    else known.delete(event.vm);
    if (only && only.uuid !== of.uuid) return;
    if (eventId === lifecycle.id) sendLifecycle(session, callback, of, event);
    if (eventId === reboot.id) sendReboot(session, callback, of, event);
  });
  session.callbacks.set(callback, unwatch);
  return callback;
}

function sendLifecycle(session: Session, callbackID: number, of: Dom, happened: SupervisorEvent): void {
  const found = lifecycleOf(happened);
  if (found === undefined) return;
  const writer = new XdrWriter();
  lifecycle.body.write(writer, { callbackID, dom: of, event: found[0], detail: found[1] });
  session.send(lifecycle.message, writer.finish());
}

function sendReboot(session: Session, callbackID: number, of: Dom, { source, event }: SupervisorEvent): void {
  if (source !== 'vm' || event !== 'rebooted') return;
  const writer = new XdrWriter();
  reboot.body.write(writer, { callbackID, dom: of });
  session.send(reboot.message, writer.finish());
}

function lifecycleOf({ source, event, properties }: SupervisorEvent): readonly [number, number] | undefined {
  if (source === 'vm' && event === 'paused') return Lifecycle.paused;
  if (source === 'vm' && event === 'resumed') return Lifecycle.unpaused;
  if (source !== 'supervisor') return undefined;
  switch (event) {
    case 'defined':
      return Lifecycle.added;
    case 'redefined':
      return Lifecycle.updated;
    case 'removed':
      return Lifecycle.undefined;
    case 'started':
      return Lifecycle.booted;
    case 'stopped':
      return stopped(properties?.reason);
    default:
      return undefined;
  }
}

function stopped(reason: string | undefined): readonly [number, number] {
  if (reason === 'power-off') return Lifecycle.shutdown;
  if (reason === 'request') return Lifecycle.destroyed;
  return reason === 'vcpu-error' || reason === 'killed' ? Lifecycle.crashed : Lifecycle.failed;
}
