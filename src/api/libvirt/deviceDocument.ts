/** Writes the elements of devices that can be attached and detached. */
import { type Attachable, type Disk, IMAGE_TYPES, isTarget, type Net, type Vsock } from './deviceXml.ts';
import { type Element, element } from './xml.ts';

/** @param key by which it is known in documents */
export function deviceElement({ kind, device }: Attachable, key: string): Element {
  switch (kind) {
    case 'disk':
      return diskElement(device, key, undefined);
    case 'net':
      return interfaceElement(device, undefined);
    case 'vsock':
      return vsockElement(device, undefined);
  }
}

/** The guest's names in their usual order: vda to vdz, vdaa and so on. */
export function targetName(index: number): string {
  const letter = String.fromCharCode(97 + (index % 26));
  return index < 26 ? `vd${letter}` : `${targetName(Math.floor(index / 26) - 1)}${letter}`;
}

/** @param disk with the `target` that it has in a running machine, or as it is defined */
export function targetOf({ id, target }: Disk & { readonly target?: string }, index: number): string {
  return target ?? (id && isTarget(id) ? id : targetName(index));
}

/** @param target its name in documents */
export function diskElement(disk: Disk, target: string, alias: Element | undefined): Element {
  const queues = disk.num_queues ?? 1;
  const block = disk.path?.startsWith('/dev/') ?? false;
  return element('disk', { type: block ? 'block' : 'file', device: 'disk' }, [
    element('driver', {
      name: 'qemu',
      type: formatOf(disk),
      cache: disk.direct ? 'none' : undefined,
      discard: disk.sparse === false ? 'ignore' : undefined,
      queues: queues > 1 ? queues : undefined,
    }),
    element('source', { [block ? 'dev' : 'file']: disk.path ?? '' }),
    element('target', { dev: target, bus: 'virtio' }),
    disk.readonly ? element('readonly') : undefined,
    disk.serial ? element('serial', {}, disk.serial) : undefined,
    alias,
  ]);
}

export function interfaceElement(net: Net, alias: Element | undefined): Element {
  const queues = (net.num_queues ?? 2) / 2;
  return element('interface', { type: interfaceType(net) }, [
    net.mac ? element('mac', { address: net.mac }) : undefined,
    net.bridge ? element('source', { bridge: net.bridge }) : undefined,
    net.tap ? element('target', { dev: net.tap }) : undefined,
    element('model', { type: 'virtio' }),
    queues > 1 ? element('driver', { queues }) : undefined,
    net.mtu ? element('mtu', { size: net.mtu }) : undefined,
    alias,
  ]);
}

function interfaceType({ user, bridge }: Net): 'user' | 'bridge' | 'ethernet' {
  if (user) return 'user';
  return bridge ? 'bridge' : 'ethernet';
}

export function vsockElement({ cid }: Vsock, alias: Element | undefined): Element {
  return element('vsock', { model: 'virtio' }, [element('cid', { auto: 'no', address: cid }), alias]);
}

function formatOf({ image_type: given }: Disk): string {
  return Object.keys(IMAGE_TYPES).find((format) => IMAGE_TYPES[format] === given) ?? 'raw';
}
