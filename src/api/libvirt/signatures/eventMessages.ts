/** The message of each event (virDomainEventID), and its contents. */
import {
  array,
  dom,
  i32,
  i64,
  optional,
  parameter,
  type StructOf,
  str,
  struct,
  type Type,
  u32,
  u64,
} from '../types.ts';
import type { Fields } from './signature.ts';

export interface EventMessage<F extends Fields> {
  /** What a client registers for. */
  readonly id: number;
  /** The procedure number of the message. */
  readonly message: number;
  readonly body: Type<{ readonly callbackID: number } & StructOf<F>>;
}

function eventMessage<F extends Fields>(id: number, message: number, fields: F): EventMessage<F> {
  return { id, message, body: struct({ callbackID: i32, ...fields }) as unknown as EventMessage<F>['body'] };
}

const graphicsAddress = struct({ family: i32, node: str, service: str });
const graphicsIdentity = struct({ type: str, name: str });
const MAX_IDENTITIES = 20;
const MAX_PARAMETERS = 2048;
const parameters = array(parameter, MAX_PARAMETERS);

/** By the names that `virsh event` has for them. */
export const DomainEventMessages = {
  lifecycle: eventMessage(0, 318, { dom, event: i32, detail: i32 }),
  reboot: eventMessage(1, 319, { dom }),
  'rtc-change': eventMessage(2, 320, { dom, offset: i64 }),
  watchdog: eventMessage(3, 321, { dom, action: i32 }),
  'io-error': eventMessage(4, 322, { dom, srcPath: str, devAlias: str, action: i32 }),
  graphics: eventMessage(5, 323, {
    dom,
    phase: i32,
    local: graphicsAddress,
    remote: graphicsAddress,
    authScheme: str,
    subject: array(graphicsIdentity, MAX_IDENTITIES),
  }),
  'io-error-reason': eventMessage(6, 324, { dom, srcPath: str, devAlias: str, action: i32, reason: str }),
  'control-error': eventMessage(7, 325, { dom }),
  'block-job': eventMessage(8, 326, { dom, path: str, type: i32, status: i32 }),
  'disk-change': eventMessage(9, 327, {
    dom,
    oldSrcPath: optional(str),
    newSrcPath: optional(str),
    devAlias: str,
    reason: i32,
  }),
  'tray-change': eventMessage(10, 328, { dom, devAlias: str, reason: i32 }),
  pmwakeup: eventMessage(11, 329, { reason: i32, dom }),
  pmsuspend: eventMessage(12, 330, { reason: i32, dom }),
  'balloon-change': eventMessage(13, 331, { dom, actual: u64 }),
  'pmsuspend-disk': eventMessage(14, 332, { reason: i32, dom }),
  'device-removed': eventMessage(15, 333, { dom, devAlias: str }),
  'block-job-2': eventMessage(16, 339, { dom, dst: str, type: i32, status: i32 }),
  tunable: eventMessage(17, 346, { dom, params: parameters }),
  'agent-lifecycle': eventMessage(18, 348, { dom, state: i32, reason: i32 }),
  'device-added': eventMessage(19, 354, { dom, devAlias: str }),
  'migration-iteration': eventMessage(20, 359, { dom, iteration: i32 }),
  'job-completed': eventMessage(21, 363, { dom, params: parameters }),
  'device-removal-failed': eventMessage(22, 367, { dom, devAlias: str }),
  'metadata-change': eventMessage(23, 379, { dom, type: i32, nsuri: optional(str) }),
  'block-threshold': eventMessage(24, 385, {
    dom,
    dev: str,
    path: optional(str),
    threshold: u64,
    excess: u64,
  }),
  'memory-failure': eventMessage(25, 423, { dom, recipient: i32, action: i32, flags: u32 }),
  'memory-device-size-change': eventMessage(26, 438, { dom, alias: str, size: u64 }),
} as const;
