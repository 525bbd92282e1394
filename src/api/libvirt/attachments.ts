/** Devices that are attached to a domain and detached from it: to and from its machine, its definition, or both. */
import type { VmConfigInput } from '../../config/vmConfig.ts';
import { randomMac } from '../../devices/net.ts';
import { deviceIds } from '../../platform/deviceIds.ts';
import type { SupervisedVm } from '../../supervisor/supervisedVm.ts';
import { targetOf } from './deviceDocument.ts';
import type { Attachable } from './deviceXml.ts';
import { type Domains, GUEST_MS } from './domains.ts';
import { Code, Domain, deviceMissing, LibvirtError } from './errors.ts';
import type { Impact } from './impact.ts';

/** One of a configuration. */
export type Present = Attachable & {
  /** By which it is known in documents: a disk's target, an interface's address. */
  readonly key: string;
  /** By which its machine knows it, and which is its alias. */
  readonly id: string;
};

/** @throws LibvirtError with nothing attached to the definition */
export async function attach(
  domains: Domains,
  vm: SupervisedVm,
  given: Attachable,
  { live, config }: Impact,
): Promise<void> {
  // The same in both.
  const wanted: Attachable =
    given.kind === 'net' ? { kind: 'net', device: { mac: randomMac(), ...given.device } } : given;
  if (config) checkFree(vm.definition.config, wanted);
  if (live) {
    checkFree(await domains.refresh(vm), wanted);
    await domains.call(vm, 'PUT', `vm.add-${wanted.kind}`, wanted.device);
    await domains.refresh(vm);
  }
  if (!config) return;
  // It may have been changed meanwhile.
  checkFree(vm.definition.config, wanted);
  domains.reconfigure(vm, withDevice(vm.definition.config, wanted));
}

/**
 * Returns when the guest has given the device up, or after a while.
 * @param which the device among those of a configuration
 * @throws LibvirtError if there is none, or it cannot be detached
 */
export async function detach(
  domains: Domains,
  vm: SupervisedVm,
  which: (present: readonly Present[]) => Present,
  { live, config }: Impact,
): Promise<void> {
  if (config) which(presentIn(vm.definition.config));
  if (live) await detachLive(domains, vm, which(presentIn(await domains.refresh(vm))).id);
  if (!config) return;
  const definition = vm.definition.config;
  domains.reconfigure(vm, withoutDevice(definition, which(presentIn(definition))));
}

async function detachLive(domains: Domains, vm: SupervisedVm, id: string): Promise<void> {
  const { name } = vm.definition;
  let unwatch = () => {};
  let timer: NodeJS.Timeout | undefined;
  const gone = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, GUEST_MS);
    unwatch = domains.events.watch(({ vm: of, source, event, properties }) => {
      if (of !== name) return;
      const removed = source === 'vm' && event === 'device-removed' && properties?.id === id;
      // With the machine its devices are gone.
      const ended = source === 'supervisor' && event === 'stopped';
      if (removed || ended) resolve();
    });
  });
  try {
    await domains.call(vm, 'PUT', 'vm.remove-device', { id });
    await gone;
  } finally {
    clearTimeout(timer);
    unwatch();
  }
  // It may have ended meanwhile.
  await domains.refresh(vm).catch(() => {});
}

/** The device that a document means. */
export function meant({ kind, device }: Attachable): (present: readonly Present[]) => Present {
  const key = keyOf(kind, device);
  return (present) => {
    const found = present.filter((one) => one.kind === kind && (key === undefined || one.key === key));
    if (found.length > 1) throw failed('more than one interface matches: give its <mac>');
    return found[0] ?? missing(`no ${kind === 'net' ? 'interface' : kind} ${key ?? ''} in domain`);
  };
}

/** The device of an alias. */
export function called(alias: string): (present: readonly Present[]) => Present {
  return (present) =>
    present.find(({ id }) => id === alias) ?? missing(`no device found with alias ${alias}`);
}

function keyOf(kind: Attachable['kind'], device: object): string | undefined {
  const { id, mac } = device as { readonly id?: string; readonly mac?: string };
  if (kind === 'vsock') return '';
  return kind === 'disk' ? id : mac?.toLowerCase();
}

export function presentIn(config: VmConfigInput): Present[] {
  const { disk: disks = [], net: nets = [], vsock: vsocks = [] } = deviceIds(config);
  const { vsock } = config;
  return [
    ...(config.disks ?? []).map((device, index) => ({
      kind: 'disk' as const,
      device,
      key: targetOf(device, index),
      id: disks[index] as string,
    })),
    ...(config.net ?? []).map((device, index) => ({
      kind: 'net' as const,
      device,
      key: device.mac?.toLowerCase() ?? '',
      id: nets[index] as string,
    })),
    ...(vsock ? [{ kind: 'vsock' as const, device: vsock, key: '', id: vsocks[0] as string }] : []),
  ];
}

/** @throws LibvirtError if there is one of the same name */
function checkFree(config: VmConfigInput, { kind, device }: Attachable): void {
  const key = keyOf(kind, device);
  if (!presentIn(config).some((one) => one.kind === kind && one.key === key)) return;
  if (kind === 'disk') throw failed(`target ${key} already exists`);
  throw failed(kind === 'net' ? `an interface ${key} already exists` : 'the domain has a vsock already');
}

function withDevice(config: VmConfigInput, { kind, device }: Attachable): VmConfigInput {
  switch (kind) {
    case 'disk':
      return { ...config, disks: [...(config.disks ?? []), device] };
    case 'net':
      return { ...config, net: [...(config.net ?? []), device] };
    case 'vsock':
      return { ...config, vsock: device };
  }
}

function withoutDevice(config: VmConfigInput, { kind, device }: Present): VmConfigInput {
  switch (kind) {
    case 'disk':
      return { ...config, disks: (config.disks ?? []).filter((one) => one !== device) };
    case 'net':
      return { ...config, net: (config.net ?? []).filter((one) => one !== device) };
    case 'vsock': {
      const { vsock: _, ...rest } = config;
      return rest;
    }
  }
}

/** With another one in the place of a device. */
export function withReplaced(
  config: VmConfigInput,
  present: Present,
  { kind, device }: Attachable,
): VmConfigInput {
  switch (kind) {
    case 'disk':
      return { ...config, disks: (config.disks ?? []).map((one) => (one === present.device ? device : one)) };
    case 'net':
      return { ...config, net: (config.net ?? []).map((one) => (one === present.device ? device : one)) };
    case 'vsock':
      return { ...config, vsock: device };
  }
}

function failed(what: string): LibvirtError {
  return new LibvirtError(Code.operationFailed, Domain.domain, `operation failed: ${what}`);
}

function missing(what: string): never {
  throw deviceMissing(what);
}
