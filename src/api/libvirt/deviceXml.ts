/** Reads the elements of devices into a machine's configuration. */
import type { VmConfigInput } from '../../config/vmConfig.ts';
import { unsupportedConfiguration } from './errors.ts';
import { child, type Element, parseXml, textAt } from './xml.ts';
import { wholeNumber, xmlError } from './xmlValues.ts';

/** Devices that a machine of ours has anyway, or that say how others are attached. */
const TOLERATED_DEVICES = [
  'emulator',
  'controller',
  'input',
  'channel',
  'audio',
  'graphics',
  'video',
  'sound',
  'iommu',
];

/** Elements that must not be ignored: the guest, its data or its network would lack something. */
const REFUSED_PARTS: Readonly<Record<string, readonly string[]>> = {
  disk: ['transient', 'shareable', 'encryption', 'iotune', 'throttlefilters', 'mirror'],
  interface: ['filterref', 'vlan', 'bandwidth', 'virtualport', 'port', 'ip', 'route', 'portForward'],
};

export type Disk = NonNullable<VmConfigInput['disks']>[number];
export type Net = NonNullable<VmConfigInput['net']>[number];
export type Vsock = NonNullable<VmConfigInput['vsock']>;

/** A device that can come to a machine that runs, by the name of its kind. */
export type Attachable =
  | { readonly kind: 'disk'; readonly device: Disk }
  | { readonly kind: 'net'; readonly device: Net }
  | { readonly kind: 'vsock'; readonly device: Vsock };

/** What of a device a document says, but for the name by which it is known. */
export const UPDATED_FIELDS = {
  disk: ['path', 'image_type', 'backing_files', 'readonly', 'direct', 'num_queues', 'sparse', 'serial'],
  net: ['user', 'bridge', 'tap', 'mtu', 'num_queues'],
  vsock: ['cid'],
} as const satisfies { readonly [K in Attachable['kind']]: readonly (keyof DeviceOf<K>)[] };

type DeviceOf<K extends Attachable['kind']> = Extract<Attachable, { readonly kind: K }>['device'];

/** A document of a device by itself. @throws LibvirtError */
export function parseDevice(xml: string): Element {
  return parseXml(xml, 'device_definition');
}

/** @throws LibvirtError if there is no such device, or none that can be attached */
export function attachableOf(root: Element): Attachable {
  switch (root.name) {
    case 'disk': {
      const device = readDisk(root);
      if (device.id === undefined) throw xmlError('missing target information for a disk');
      return { kind: 'disk', device };
    }
    case 'interface':
      return { kind: 'net', device: readInterface(root) };
    case 'vsock':
      return { kind: 'vsock', device: readVsock(root) };
    default:
      throw unsupportedConfiguration(
        `unknown device type '${root.name}': disk, interface, vsock and memory can be attached`,
      );
  }
}

/** What stands below `<devices>`. @throws LibvirtError */
export function readDevices(devices: Element | undefined): Partial<VmConfigInput> {
  const all = devices?.children ?? [];
  const named = (name: string) => all.filter((each) => each.name === name);
  const known = [
    ...['disk', 'interface', 'serial', 'console', 'vsock', 'rng'],
    // Those with sizes are read with the domain's memory.
    ...['memballoon', 'memory', 'watchdog', 'panic'],
  ];
  const unknown = all.find((each) => !known.includes(each.name) && !TOLERATED_DEVICES.includes(each.name));
  if (unknown) throw unsupportedConfiguration(`a <${unknown.name}> device`);
  const disks = named('disk').map(readDisk);
  const net = named('interface').map(readInterface);
  const [vsock] = named('vsock').map(readVsock);
  const [rng] = named('rng').map(readRng);
  return {
    ...(disks.length > 0 && { disks }),
    ...(net.length > 0 && { net }),
    ...(vsock && { vsock }),
    ...(rng && { rng }),
    ...(named('watchdog').length > 0 && { watchdog: true }),
    ...(named('panic').length > 0 && { pvpanic: true }),
    ...readConsoles(named('serial'), named('console')),
  };
}

/** Which bus a target's first letters mean where none is given; any other is virtio's. */
const BUSES: Readonly<Record<string, string>> = { sd: 'scsi', hd: 'ide', xv: 'xen', fd: 'fdc', ub: 'uml' };

/** By libvirt's names. */
export const IMAGE_TYPES: Readonly<Record<string, Disk['image_type']>> = {
  raw: 'Raw',
  qcow2: 'Qcow2',
  vhdx: 'Vhdx',
  vpc: 'FixedVhd',
};

/** @throws LibvirtError */
function refuseParts({ name, children }: Element): void {
  const inside = children.flatMap((part) => (part.name === 'source' ? [part, ...part.children] : [part]));
  const refused = inside.find((part) => REFUSED_PARTS[name]?.includes(part.name));
  if (refused) throw unsupportedConfiguration(`<${refused.name}> in <${name}>`);
}

/** Such as `vda`: the name by which a disk is known in documents. */
export function isTarget(name: string): boolean {
  return /^[a-z]{3,8}$/.test(name);
}

function readDisk(disk: Element): Disk {
  refuseParts(disk);
  const { type = 'file', device = 'disk' } = disk.attributes;
  if (type !== 'file' && type !== 'block') throw unsupportedConfiguration(`a disk of type '${type}'`);
  if (device !== 'disk' && device !== 'cdrom') throw unsupportedConfiguration(`a disk that is a '${device}'`);
  const source = child(disk, 'source')?.attributes;
  const path = type === 'file' ? source?.file : source?.dev;
  if (path === undefined) throw unsupportedConfiguration('a disk without a source');
  const { dev, bus = BUSES[dev?.slice(0, 2) ?? ''] ?? 'virtio' } = child(disk, 'target')?.attributes ?? {};
  if (bus !== 'virtio') {
    throw unsupportedConfiguration(`the bus '${bus}' of disk '${dev ?? path}', only 'virtio' is there`);
  }
  if (dev !== undefined && !isTarget(dev)) throw unsupportedConfiguration(`the target '${dev}' of a disk`);
  const driver = child(disk, 'driver')?.attributes ?? {};
  const serial = textAt(disk, 'serial');
  const format = driver.type ?? 'raw';
  const imageType = Object.hasOwn(IMAGE_TYPES, format) ? IMAGE_TYPES[format] : undefined;
  if (imageType === undefined) throw unsupportedConfiguration(`the disk format '${format}'`);
  return {
    path,
    image_type: imageType,
    ...(format === 'qcow2' && { backing_files: true }),
    ...((child(disk, 'readonly') || device === 'cdrom') && { readonly: true }),
    ...((driver.cache === 'none' || driver.cache === 'directsync') && { direct: true }),
    ...(driver.queues !== undefined && { num_queues: wholeNumber(driver.queues, 'driver queues') }),
    ...(driver.discard === 'ignore' && { sparse: false }),
    ...(serial && { serial }),
    ...(dev !== undefined && { id: dev }),
  };
}

function readInterface(of: Element): Net {
  refuseParts(of);
  const { type } = of.attributes;
  const mac = child(of, 'mac')?.attributes.address;
  const model = child(of, 'model')?.attributes.type;
  if (model !== undefined && !model.startsWith('virtio'))
    throw unsupportedConfiguration(`the interface model '${model}'`);
  const link = child(of, 'link')?.attributes.state ?? 'up';
  if (link !== 'up')
    throw unsupportedConfiguration(`the <link> of an interface is always up, never '${link}'`);
  const mtu = child(of, 'mtu')?.attributes.size;
  const driver = child(of, 'driver')?.attributes ?? {};
  const common = {
    ...(mac !== undefined && { mac }),
    ...(mtu !== undefined && { mtu: wholeNumber(mtu, 'mtu size') }),
    ...(driver.queues !== undefined && { num_queues: 2 * wholeNumber(driver.queues, 'driver queues') }),
  };
  if (type === 'user') return { ...common, user: true };
  const tap = child(of, 'target')?.attributes.dev;
  const tapped = { ...common, ...(tap !== undefined && { tap }) };
  if (type === 'ethernet') return tapped;
  if (type === 'bridge') {
    const bridge = child(of, 'source')?.attributes.bridge;
    if (!bridge) throw xmlError('missing <source> with the bridge of an interface');
    return { ...tapped, bridge };
  }
  throw unsupportedConfiguration(
    `an interface of type '${type ?? ''}': 'bridge', 'ethernet' and 'user' are there`,
  );
}

function readVsock(vsock: Element): Vsock {
  const cid = child(vsock, 'cid')?.attributes;
  return { cid: wholeNumber(cid?.address ?? '3', 'vsock cid'), socket: 'vsock.sock' };
}

function readRng(rng: Element): NonNullable<VmConfigInput['rng']> {
  const backend = child(rng, 'backend');
  const model = backend?.attributes.model ?? 'random';
  if (model !== 'random' && model !== 'builtin') throw unsupportedConfiguration(`the rng backend '${model}'`);
  return { src: backend?.text || '/dev/urandom' };
}

/** The first console may be another name of the first serial port. */
function readConsoles(serials: readonly Element[], consoles: readonly Element[]): Partial<VmConfigInput> {
  if (serials.length > 1) throw unsupportedConfiguration('more than one serial port');
  const own = consoles.filter((each) => child(each, 'target')?.attributes.type === 'virtio');
  const aliases = consoles.filter((each) => !own.includes(each));
  if (own.length > 1 || aliases.length > 1) throw unsupportedConfiguration('more than one console');
  const serial = serials[0] ?? aliases[0];
  if (own[0] && own[0].attributes.type !== 'file')
    throw unsupportedConfiguration('a virtio console that is no file');
  return {
    serial: serial ? readSerial(serial) : { mode: 'Null' },
    console: own[0] ? { mode: 'File', file: sourcePath(own[0]) } : { mode: 'Off' },
  };
}

/** The port that `virsh console` opens, in a VM's folder. */
export const SERIAL_SOCKET = 'serial.sock';

/** A pty is a port that clients open through us: the guest's end is a socket. */
function readSerial(device: Element): NonNullable<VmConfigInput['serial']> {
  const { type = 'pty' } = device.attributes;
  if (type === 'pty') return { mode: 'Socket', socket: SERIAL_SOCKET };
  if (type === 'unix') return { mode: 'Socket', socket: sourcePath(device) };
  if (type === 'null') return { mode: 'Null' };
  if (type === 'file') return { mode: 'File', file: sourcePath(device) };
  throw unsupportedConfiguration(`a ${device.name} of type '${type}'`);
}

function sourcePath(device: Element): string {
  const path = child(device, 'source')?.attributes.path;
  if (path === undefined) throw unsupportedConfiguration(`a ${device.name} without the path of its source`);
  return path;
}
