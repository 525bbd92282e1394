/**
 * The boundary to the C++ core, and the one place that loads the addon. It has two interfaces: of machines, whose calls
 * cross as messages of bytes and descriptors that could cross a socket as well, and of the host.
 */
import { encode } from './boundary/cbor.ts';
import type { HostCalls, StreamServerHandle } from './boundary/host.ts';
import type { MachineCalls, MachineHandle } from './boundary/machine.ts';
import { type MachineAddon, machineCalls } from './boundary/machineCalls.ts';
import type { HostInfoCalls } from './boundary/x86_64/hostInfo.ts';
import { loadAddon } from './host/addon.ts';

export type * from './boundary/deviceSpec.ts';
export type * from './boundary/host.ts';
export type * from './boundary/machine.ts';
export type * from './boundary/machineEvents.ts';
export type * from './boundary/machineSpec.ts';
export type * from './boundary/x86_64/boardSpec.ts';
export type * from './boundary/x86_64/hostInfo.ts';

type RememberText = (
  server: StreamServerHandle,
  request: Uint8Array,
  machine: MachineHandle,
  text: Uint8Array,
) => void;

/** HostCalls as the addon has them. */
type HostAddon = Omit<HostCalls, 'streamRememberMemory' | 'streamRememberCounters'> & {
  readonly streamRememberMemory: RememberText;
  readonly streamRememberCounters: RememberText;
};

/** Both interfaces, and what the host's processor adds. */
export interface NativeAddon extends MachineCalls, HostCalls, HostInfoCalls {}

let loaded: NativeAddon | undefined;

/** Loads the addon when it is first asked for. @throws Error `ERR_TSVMM_ADDON` if there is none or it does not load */
export function loadNative(): NativeAddon {
  loaded ??= nativeOf(loadAddon());
  return loaded;
}

/** The interfaces of an addon that is loaded. */
export function nativeOf(addon: unknown): NativeAddon {
  const loading = addon as MachineAddon & HostAddon;
  const own: MachineCalls & Partial<Pick<HostCalls, 'streamRememberMemory' | 'streamRememberCounters'>> =
    machineCalls(loading);
  own.streamRememberMemory = (server, request, machine, answer) =>
    loading.streamRememberMemory(server, request, machine, encode(answer).bytes);
  own.streamRememberCounters = (server, request, machine, answer) =>
    loading.streamRememberCounters(server, request, machine, encode(answer).bytes);
  // The rest is inherited, as copying some sixty functions takes longer.
  return Object.setPrototypeOf(own, loading) as NativeAddon;
}
