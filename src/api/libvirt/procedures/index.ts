/** The list of procedures. */
import { attachProcedures } from './attach.ts';
import { connectProcedures } from './connect.ts';
import { consoleProcedures } from './console.ts';
import { deviceProcedures } from './devices.ts';
import { eventProcedures } from './events.ts';
import { lifecycleProcedures } from './lifecycle.ts';
import { lookupProcedures } from './lookup.ts';
import { memoryProcedures } from './memory.ts';
import type { Procedure } from './procedure.ts';
import { stateProcedures } from './state.ts';
import { statsProcedures } from './stats.ts';
import { vcpuProcedures } from './vcpus.ts';

export const procedures: ReadonlyMap<number, Procedure> = new Map(
  [
    connectProcedures,
    lookupProcedures,
    lifecycleProcedures,
    stateProcedures,
    vcpuProcedures,
    memoryProcedures,
    deviceProcedures,
    attachProcedures,
    statsProcedures,
    eventProcedures,
    consoleProcedures,
  ]
    .flat()
    .map((each) => [each.number, each]),
);

/** The highest number that clients know of: what is not there up to here is not supported, beyond it is unknown. */
export const LAST_PROCEDURE = 453;

/** Refused so that clients fall back as they do with drivers that lack it: virt-install then looks for a pool. */
export const STORAGE_VOL_LOOKUP_BY_PATH = 97;
