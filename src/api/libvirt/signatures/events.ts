import { dom, i32, optional } from '../types.ts';
import { signature } from './signature.ts';

export const eventsSignatures = {
  connectDomainEventCallbackRegisterAny: signature(
    316,
    'virConnectDomainEventRegisterAny',
    { eventID: i32, dom: optional(dom) },
    { callbackID: i32 },
  ),
  connectDomainEventCallbackDeregisterAny: signature(
    317,
    'virConnectDomainEventDeregisterAny',
    { callbackID: i32 },
    {},
  ),
} as const;
