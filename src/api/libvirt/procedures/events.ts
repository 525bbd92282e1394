/** Events that clients register for. */
import type { SupervisorEvent } from '../../../supervisor/eventHistory.ts';
import type { SupervisedVm } from '../../../supervisor/supervisedVm.ts';
import type { Domains } from '../domains.ts';
import { Code, Domain, LibvirtError } from '../errors.ts';
import type { Session } from '../session.ts';
import { DomainEventMessages, type EventMessage } from '../signatures/eventMessages.ts';
import { Remote } from '../signatures/index.ts';
import type { Fields } from '../signatures/signature.ts';
import { LIFECYCLE, numbersOf } from '../signatures/states.ts';
import type { Dom, StructOf } from '../types.ts';
import { XdrWriter } from '../xdr.ts';
import { type Procedure, procedure } from './procedure.ts';

/** All up to it may be registered for; what is never sent is not missed. */
const LAST_EVENT_ID = Math.max(...Object.values(DomainEventMessages).map(({ id }) => id));
const messages = DomainEventMessages;
/** virDomainEventWatchdogAction. */
const WATCHDOG_RESET = 2;
/** Of a connection: virsh has one for each event. */
const MAX_CALLBACKS = 1_024;

const Lifecycle = {
  added: numbersOf(LIFECYCLE, 'defined', 'added'),
  updated: numbersOf(LIFECYCLE, 'defined', 'updated'),
  undefined: numbersOf(LIFECYCLE, 'undefined', 'removed'),
  booted: numbersOf(LIFECYCLE, 'started', 'booted'),
  paused: numbersOf(LIFECYCLE, 'suspended', 'paused'),
  unpaused: numbersOf(LIFECYCLE, 'resumed', 'unpaused'),
  shutdown: numbersOf(LIFECYCLE, 'stopped', 'shutdown'),
  destroyed: numbersOf(LIFECYCLE, 'stopped', 'destroyed'),
  crashed: numbersOf(LIFECYCLE, 'stopped', 'crashed'),
  failed: numbersOf(LIFECYCLE, 'stopped', 'failed'),
  panicked: numbersOf(LIFECYCLE, 'crashed', 'panicked'),
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
  const { domains, callbacks } = session;
  if (callbacks.size >= MAX_CALLBACKS) {
    throw new LibvirtError(Code.internal, Domain.rpc, 'internal error: too many event callbacks');
  }
  const callbackID = session.nextCallback++;
  const send = <F extends Fields>({ message, body }: EventMessage<F>, fields: StructOf<F>) => {
    const writer = new XdrWriter();
    body.write(writer, { callbackID, ...fields });
    session.send(message, writer.finish());
  };
  const unwatchEvents = watchEvents(domains, only, (event, vm, of) => {
    if (eventId === messages.lifecycle.id) {
      for (const [kind, detail] of lifecycleOf(event, vm)) {
        send(messages.lifecycle, { dom: of, event: kind, detail });
      }
    } else if (eventId === messages.reboot.id && event.source === 'vm' && event.event === 'rebooted') {
      send(messages.reboot, { dom: of });
    } else if (eventId === messages.watchdog.id && isWatchdog(event)) {
      send(messages.watchdog, { dom: of, action: WATCHDOG_RESET });
    } else if (event.source === 'vm' && isDeviceEvent(event.event) && eventId === messages[event.event].id) {
      // A device's alias is the name that its machine has for it.
      send(messages[event.event], { dom: of, devAlias: event.properties?.id ?? '' });
    }
  });
  const unwatchNotices = domains.notices.watch((vm, notice) => {
    const of = domains.domOf(vm);
    if (only && only.uuid !== of.uuid) return;
    if (notice.kind === 'balloon' && eventId === messages['balloon-change'].id) {
      send(messages['balloon-change'], { dom: of, actual: notice.actual });
    } else if (notice.kind === 'metadata' && eventId === messages['metadata-change'].id) {
      send(messages['metadata-change'], { dom: of, type: notice.type, nsuri: notice.uri });
    }
  });
  callbacks.set(callbackID, () => {
    unwatchEvents();
    unwatchNotices();
  });
  return callbackID;
}

/** @returns ends it */
function watchEvents(
  domains: Domains,
  only: Dom | undefined,
  listener: (event: SupervisorEvent, vm: SupervisedVm | undefined, of: Dom) => void,
): () => void {
  // What is told of a domain that has gone needs its last uuid.
  const known = new Map(domains.all().map((vm) => [vm.definition.name, domains.domOf(vm)]));
  return domains.events.watch((event) => {
    const vm = domains.find(event.vm);
    const of = vm ? domains.domOf(vm) : known.get(event.vm);
    if (of === undefined) return;
    if (vm) known.set(event.vm, of);
    else known.delete(event.vm);
    if (only === undefined || only.uuid === of.uuid) listener(event, vm, of);
  });
}

function isWatchdog({ source, event, properties }: SupervisorEvent): boolean {
  return source === 'guest' && event === 'reset' && properties?.cause === 'watchdog';
}

function isDeviceEvent(event: string): event is 'device-added' | 'device-removed' {
  return event === 'device-added' || event === 'device-removed';
}

type LifecycleEvent = readonly [kind: number, detail: number];

function lifecycleOf(
  { source, event, properties }: SupervisorEvent,
  vm: SupervisedVm | undefined,
): readonly LifecycleEvent[] {
  if (source === 'guest') return event === 'panic' ? [Lifecycle.panicked] : [];
  if (source === 'vm') {
    // One that starts paused is told of when it has started.
    if (event === 'paused') return vm?.state === 'starting' ? [] : [Lifecycle.paused];
    return event === 'resumed' ? [Lifecycle.unpaused] : [];
  }
  if (source !== 'supervisor') return [];
  switch (event) {
    case 'defined':
    case 'redefined':
    case 'removed':
      return definition(event, properties?.transient);
    case 'started':
      return vm?.paused ? [Lifecycle.booted, Lifecycle.paused] : [Lifecycle.booted];
    case 'stopped':
      return [stopped(properties?.reason)];
    default:
      return [];
  }
}

/**
 * As libvirt's own drivers tell it: a transient domain has no definition, one that becomes transient has it no more.
 */
function definition(
  event: 'defined' | 'redefined' | 'removed',
  transient?: string,
): readonly LifecycleEvent[] {
  if (event === 'redefined' && transient === undefined) return [Lifecycle.updated];
  if (event === 'redefined') return transient === 'true' ? [Lifecycle.undefined] : [Lifecycle.added];
  if (transient === 'true') return [];
  return event === 'defined' ? [Lifecycle.added] : [Lifecycle.undefined];
}

function stopped(reason: string | undefined): LifecycleEvent {
  if (reason === 'power-off' || reason === 'reset') return Lifecycle.shutdown;
  if (reason === 'request') return Lifecycle.destroyed;
  return ['vcpu-error', 'killed', 'panic'].includes(reason ?? '') ? Lifecycle.crashed : Lifecycle.failed;
}
